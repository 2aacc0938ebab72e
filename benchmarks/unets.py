"""The U-Net in plain torch against diffusers', as networks of score:denoising, at equal CPU time.

Fashion-MNIST at 28 pixels (Debian's package dataset-fashion-mnist, or --root). In one process the side that has used
less CPU time takes the next ten steps, so that other work on the machine slows both alike, up to --minutes each. The
learning rate warms up and falls along a cosine of the time that a side has used. Losses are of 1,000 test images with
one noise for all sides and averaged weights. At the end each side draws 300 samples, whose squared Frechet distances
to the 10,000 test images are of 64 features of random convolutions and of 50 principal components; as many training
images stand beside. Exits with 1 where the plain U-Net's last loss or a distance is above diffusers'.

Run: python benchmarks/unets.py [--minutes 6] [--seed 0] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

import torch
from _turns import Row, finish

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Progress
from scorefold_registry import Host
from scorefold_toolkit.metrics import frechet_distance
from scorefold_toolkit.metrics.features import RandomConv

BATCH, HELD, TURN, RATE, WARM = 64, 1000, 10, 1e-3, 0.04
SAMPLES, SAMPLER_STEPS, COMPONENTS = 300, 18, 50
SIDES: dict[str, dict[str, Any]] = {
    "network:unet": {"use": "network:unet"},
    "network:conv-unet": {"use": "network:conv-unet"},
}


class Side:
    """One training: ``turn`` takes some steps, ``loss`` measures the averaged weights."""

    def __init__(self, host: Host, name: str, data: DataSource, seconds: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        config = {"network": SIDES[name]}
        self.model: Any = host.create("score:denoising", config, generator=generator, data=data)
        self.train, self.seconds, self.spent, self.steps = data.load("train"), seconds, 0.0, 0
        self.parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimiser = torch.optim.Adam(self.parameters, lr=RATE, fused=True)
        self.generator = torch.Generator().manual_seed(seed)

    def turn(self) -> None:
        start = time.process_time()
        for _ in range(TURN):
            done = min(1.0, self.spent / self.seconds)
            fallen = (1 + math.cos(math.pi * done)) / 2
            self.optimiser.param_groups[0]["lr"] = RATE * min(1.0, (done + 1e-3) / WARM) * fallen
            rows = torch.randint(len(self.train), (BATCH,), generator=self.generator)
            loss = self.loss_of(self.train.take(rows), self.generator)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            self.steps += 1
            with torch.no_grad():
                decay = min(0.999, 1 - (1 + self.steps) ** (-2 / 3))
                torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        self.spent += time.process_time() - start

    def loss_of(self, batch: Dataset, generator: torch.Generator) -> torch.Tensor:
        found: torch.Tensor = self.model.loss(batch, progress=Progress(0, 1, "fit"), generator=generator).value
        return found

    @torch.no_grad()
    def loss(self, held: Dataset) -> float:
        """The denoising loss (edm weighting) of held-out images, by the averaged weights."""
        kept = [p.detach().clone() for p in self.parameters]
        torch._foreach_copy_(self.parameters, self.average)
        generator = torch.Generator().manual_seed(0)
        parts = [float(self.loss_of(held.take(rows), generator)) for rows in torch.arange(len(held)).split(250)]
        torch._foreach_copy_(self.parameters, kept)
        return sum(parts) / len(parts)

    @torch.no_grad()
    def samples(self) -> tuple[torch.Tensor, float]:
        """Images drawn by the averaged weights, which the model keeps, and the CPU milliseconds of one."""
        torch._foreach_copy_(self.parameters, self.average)
        generator, start = torch.Generator().manual_seed(1), time.process_time()
        parts = [self.model.eval().sample(50, steps=SAMPLER_STEPS, generator=generator) for _ in range(SAMPLES // 50)]
        return torch.cat(parts), 1000 * (time.process_time() - start) / SAMPLES


@torch.no_grad()
def distances(shown: torch.Tensor, data: DataSource) -> Row:
    """Squared Frechet distances of images to the test images, on both sets of features."""
    train, test = data.load("train").tensor(10_000).flatten(1).double(), data.load("test").x
    axes, network = torch.linalg.eigh(torch.cov(train.mT)).eigenvectors[:, -COMPONENTS:], RandomConv(1)
    pair = (shown.clamp(0, 1), test)
    return {
        "convolutions": frechet_distance(*(torch.cat([network(part) for part in x.split(500)]) for x in pair)),
        "components": frechet_distance(*(x.flatten(1).double() @ axes for x in pair)),
    }


def show(row: Row, quiet: bool) -> None:
    if not quiet:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    host = Host.discover()
    data: DataSource = host.create("data:fashion-mnist", {"root": options.root, "validation": 0.0})
    held = data.load("test").take(torch.arange(HELD))
    seconds = 60 * options.minutes
    sides = {name: Side(host, name, data, seconds, options.seed) for name in SIDES}
    rows: list[Row] = []
    reported = 0.0
    while min(side.spent for side in sides.values()) < seconds:
        min(sides.values(), key=lambda side: side.spent).turn()
        if min(side.spent for side in sides.values()) >= min(seconds, reported + 60):
            reported += 60
            for name, side in sides.items():
                count = sum(p.numel() for p in side.parameters)
                rows.append({"side": name, "seconds": side.spent, "steps": side.steps, "loss": side.loss(held)})
                rows[-1] |= {"parameters": count, "ms_a_step": 1000 * side.spent / side.steps}
                show(rows[-1], options.json)
    rows.append({"side": "training images", **distances(data.load("train").tensor(SAMPLES), data)})
    show(rows[-1], options.json)
    for name, side in sides.items():
        drawn, milliseconds = side.samples()
        rows.append({"side": name, "loss": side.loss(held), "ms_a_sample": milliseconds, **distances(drawn, data)})
        show(rows[-1], options.json)
    plain, theirs = rows[-1], rows[-2]
    failures = [
        f"conv-unet has a {name} of {plain[name]:.4g}, unet {theirs[name]:.4g}"
        for name in ("loss", "convolutions", "components")
        if plain[name] > theirs[name]
    ]
    return finish(rows, failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
