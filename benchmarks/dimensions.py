"""Every estimator that needs data alone, and the calibrated one, on scikit-dimension's 24 benchmark manifolds.

    python benchmarks/dimensions.py [--points 2000] [--noise 0.01] [--seed 0] [--only M7_Roll,M1_Sphere] [--json]

The points of a manifold get Gaussian noise on every coordinate, a share of the data's spread, and are then scaled by
37 and shifted by 1000. Single estimators have their defaults and all points; their intervals are not computed. An
answer that is absent counts as an error of the whole dimension. Exit status 1 where the mean error of the calibrated
estimator, absolute or relative to the true dimension, is not below the error of each of them. About 20 minutes of CPU.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from _turns import finish
from torch import Tensor

from scorefold.interfaces import Estimator
from scorefold_registry import Host

CALIBRATED = "calibrated"
FACTOR, SHIFT = 37.0, 1000.0


def estimators(host: Host) -> dict[str, Estimator]:
    """The estimators by name, the calibrated one first."""
    calibrated = host.create(f"estimator:{CALIBRATED}")
    return {CALIBRATED: calibrated, **calibrated.panel.estimators}


def names(host: Host) -> tuple[str, ...]:
    """The benchmark manifolds."""
    from scorefold_registry.components.parts import config_model

    field = config_model(host.catalogue.resolve("data:benchmark-manifold")).model_fields["name"]
    return get_args(field.annotation)


def points_of(host: Host, name: str, given: argparse.Namespace) -> tuple[Tensor, int]:
    """The points (n, D) in float64 and the true dimension."""
    config = {"name": name, "points": given.points, "fractions": [0, 0, 1], "seed": given.seed}
    dataset = host.create("data:benchmark-manifold", config).load("test")
    x = dataset.x.double()
    spread = x.var(0).mean().sqrt()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(given.seed + 1), dtype=torch.float64)
    return FACTOR * (x + given.noise * spread * noise) + SHIFT, int(dataset.truth["dimension"])


def measured(estimator: Estimator, x: Tensor, seed: int) -> dict[str, Any]:
    """What an estimator answers: value and interval, None where it gives none, and its CPU seconds."""
    started = time.process_time()
    try:
        answer = estimator.point_estimate(x, generator=torch.Generator().manual_seed(seed))
        value, interval = answer.value, answer.interval
    except Exception as error:  # a method of scikit-dimension that can't take these points
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        value = interval = None
    return {"value": value, "interval": interval, "cpu": time.process_time() - started}


def errors(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    """The mean absolute error of an estimator over the manifolds, and the mean relative one."""
    gaps = []
    for row in rows:
        value = row["answers"][name]["value"]
        known = value is not None and math.isfinite(value)
        gaps.append((abs(value - row["truth"]) if known else float(row["truth"]), row["truth"]))
    return sum(gap for gap, _ in gaps) / len(gaps), sum(gap / truth for gap, truth in gaps) / len(gaps)


def print_tables(rows: Sequence[Mapping[str, Any]], every: Sequence[str]) -> None:
    """A line a manifold with the calibrated answer and the best single one, then a line an estimator."""
    for row in rows:
        found = row["answers"][CALIBRATED]
        value = "none" if found["value"] is None else f"{found['value']:.2f}"
        low, high = found["interval"] or (math.nan, math.nan)
        others = " ".join(
            f"{name} {row['answers'][name]['value']:.1f}"
            for name in every[1:]
            if row["answers"][name]["value"] is not None
        )
        print(
            f"{row['name']:17} {row['truth']:3} of {row['ambient']:3}: {value:>6} ({low:.1f} to {high:.1f})  {others}"
        )
    print(f"\n{'estimator':12} {'mean error':>10} {'relative':>9} {'CPU s':>7}")
    for name in every:
        absolute, relative = errors(rows, name)
        cpu = sum(row["answers"][name]["cpu"] for row in rows) / len(rows)
        print(f"{name:12} {absolute:10.2f} {relative:9.1%} {cpu:7.1f}")


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--noise", type=float, default=0.01, help="a share of the data's spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="manifolds, separated by commas")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    host = Host.discover()
    every = estimators(host)
    rows = []
    for name in given.only.split(",") if given.only else names(host):
        x, truth = points_of(host, name, given)
        answers = {kind: measured(estimator, x, given.seed) for kind, estimator in every.items()}
        rows.append({"name": name, "truth": truth, "ambient": x.shape[1], "answers": answers})
        print(f"{name}: {answers[CALIBRATED]['value']}, truth {truth}", file=sys.stderr, flush=True)
    if not given.json:
        print_tables(rows, list(every))
    mine = errors(rows, CALIBRATED)
    failures = [
        f"the {what} error of {name} is {theirs:.3g}, the error of {CALIBRATED} is {ours:.3g}"
        for name in every
        if name != CALIBRATED
        for what, ours, theirs in zip(("mean", "mean relative"), mine, errors(rows, name), strict=True)
        if ours >= theirs
    ]
    return finish(rows, failures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
