"""Samples of small images: Scorefold's defaults against an EDM script of a hundred lines, at equal CPU time.

Fashion-MNIST (Debian's package dataset-fashion-mnist, or --root) at 16 and 28 pixels, and scikit-learn's digits where
it is absent. Every side has U-Nets of as many parameters and takes as many steps of 64 images as --seconds of CPU time
allow (the multi-scale model's two networks share both); a step's time is measured in turns first, so that other work
on the machine slows all sides alike. Then 2,000 samples are compared with 2,000 held-out images by
Frechet distances, on fixed random convolutions and on 50 principal components, next to as many training images. Exits
with 1 where Scorefold's mean distance or time of a step is above the script's.

Run: python benchmarks/images.py [--seconds 220] [--seeds 3] [--sizes 16 28] [--only TEXT] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _edm_script import Script
from _turns import Row, finish
from torch import Tensor

from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold_registry import Host
from scorefold_toolkit.metrics.distances import frechet_distance
from scorefold_toolkit.metrics.features import RandomConv
from scorefold_toolkit.training import fit

BATCH, SAMPLES, COMPONENTS = 64, 2000, 50
ROUNDS, SHORT, LONG = 7, 2, 8
FASHION = "/usr/share/datasets/fashion-mnist"
Trained = tuple[Callable[[], Tensor], int]
Side = Callable[[DataSource, int, int], Trained]
"""(data, steps, seed) -> (how to sample, the parameters)."""


def load(host: Host, root: str, size: int) -> tuple[str, DataSource]:
    """A name, and images (1, size, size) in [0, 1]; digits keep their 8 x 8 pixels."""
    try:
        return "Fashion-MNIST", host.create("data:fashion-mnist", {"root": root, "validation": 0.0, "size": size})
    except DataError:
        return "digits", host.create("data:digits")


def script(data: DataSource, steps: int, seed: int) -> Trained:
    side = Script(data.load("train").tensor(), batch=BATCH, rate=1e-3, seed=seed)
    side.train(steps)
    return lambda: side.sample(SAMPLES), sum(p.numel() for p in side.model.parameters())


def scorefold(name: str, config: dict[str, Any]) -> Side:
    """A score by its name, with no other setting than ``config``."""

    def side(data: DataSource, steps: int, seed: int) -> Trained:
        torch.manual_seed(seed)
        training = {"steps": steps, "batch_size": BATCH}
        model: Any = Host.discover().create(name, {**config, "training": training}, data=data)
        fit(model, data.load("train"), model.training_config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        sizes = [len(rows) for rows in torch.arange(SAMPLES).split(BATCH)]
        count = sum(p.numel() for p in model.parameters())
        return lambda: torch.cat([model.sample(n, generator=generator) for n in sizes]), count

    return side


SIDES: dict[str, Side] = {
    "script": script,
    "denoising": scorefold("score:denoising", {}),
    "flow-matching": scorefold("score:flow-matching", {}),
    "multiscale": scorefold(
        "score:multiscale",
        {
            "bands": {"name": "haar", "levels": 1},
            "network": {"use": "network:unet", "config": {"channels": [24, 40, 48]}},
        },
    ),
}


def distances(images: Tensor, test: Tensor, train: Tensor) -> dict[str, float]:
    flat = train[:10_000].flatten(1).double()
    mean, axes = flat.mean(0), torch.linalg.eigh(torch.cov(flat.T)).eigenvectors[:, -COMPONENTS:]
    features = RandomConv(images.shape[1])
    shown, held = images.clamp(0, 1), test[: len(images)]
    with torch.no_grad():
        return {
            "convolutions": frechet_distance(features(shown), features(held)),
            "components": frechet_distance(*((part.flatten(1).double() - mean) @ axes for part in (shown, held))),
        }


def step_times(data: DataSource, names: Sequence[str]) -> dict[str, float]:
    """CPU seconds of a step, medians; sides take turns, and what a training does once drops out of a difference."""

    def seconds(name: str, steps: int) -> float:
        start = time.process_time()
        SIDES[name](data, steps, 0)
        return time.process_time() - start

    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS + 1):  # the first imports and allocates
        for name in names:
            taken[name].append((seconds(name, LONG) - seconds(name, SHORT)) / (LONG - SHORT))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def measure(name: str, data: DataSource, steps: int, seed: int) -> Row:
    train, test = (data.load(split).tensor() for split in ("train", "test"))
    start = time.process_time()
    sample, parameters = SIDES[name](data, steps, seed)
    spent, start = time.process_time() - start, time.process_time()
    images = sample()
    row: Row = {"side": name, "seed": seed, "steps": steps, "parameters": parameters, "training_s": spent}
    return row | {"ms_a_sample": 1000 * (time.process_time() - start) / len(images)} | distances(images, test, train)


def failures_of(size: int, rows: list[Row]) -> list[str]:
    """Where Scorefold's mean distance, or the time of its steps, is above the script's."""
    found = []
    means = {side: [row for row in rows if row["side"] == side] for side in SIDES}
    for side in ("denoising", "multiscale") if size >= 28 else ("denoising",):
        for key in ("convolutions", "components", *(["ms_a_step"] if side == "denoising" else [])):
            if not means[side] or not means["script"]:
                continue
            ours, theirs = (statistics.fmean(row[key] for row in means[name]) for name in (side, "script"))
            if ours > theirs:
                found.append(f"{size} pixels: {side} has {ours:.3g} {key}, the script {theirs:.3g}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=220.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 28])
    parser.add_argument("--only", default="", help="run the sides whose name holds this text")
    parser.add_argument("--root", default=FASHION, help="folder of Fashion-MNIST's files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    host = Host.discover()
    rows: list[Row] = []
    failures: list[str] = []
    for size in options.sizes:
        name, data = load(host, str(Path(options.root)), size)
        train, test = (data.load(split).tensor() for split in ("train", "test"))
        count = min(SAMPLES, len(test))
        floor = distances(train[-count:], test, train)
        if not options.json:
            print(f"{name} at {size} pixels; training images: {floor['convolutions']:.4f} {floor['components']:.3f}")
        pace = step_times(data, [side for side in SIDES if options.only in side])
        part: list[Row] = []
        for seed in range(options.seeds):
            for side, taken in pace.items():
                row = measure(side, data, round(options.seconds / taken), seed)
                part.append({"size": size, "ms_a_step": 1000 * taken, **row})
                if not options.json:
                    print(
                        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in part[-1].items())
                    )
        rows, failures = rows + part, failures + failures_of(size, part)
    return finish(rows, failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
