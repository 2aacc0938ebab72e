"""Coverage of the intervals of ``estimator:calibrated`` over data of known dimension.

    python benchmarks/intervals.py                     100 sets, one after another (about 8 minutes of CPU)
    python benchmarks/intervals.py --first 40 --sets 20 --out intervals.csv    20 of them, added to a file as they end

Manifolds, numbers of points and noise are drawn by the seed; two of five sets have 60 or 100 points. No manifold is
made as the surrogates are. Prints a line for each set, and how many gave no number.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from scorefold.artefacts import csv_text
from scorefold_registry import Host

MANIFOLDS = (
    *("M1_Sphere", "M2_Affine_3to5", "M3_Nonlinear_4to6", "M4_Nonlinear", "M5a_Helix1d", "M5b_Helix2d", "M6_Nonlinear"),
    *("M7_Roll", "M8_Nonlinear", "M9_Affine", "M10a_Cubic", "M11_Moebius", "M12_Norm", "M13a_Scurve", "M13b_Spiral"),
    *("Mbeta", "Mn1_Nonlinear", "Mp1_Paraboloid"),
)
POINTS = (60, 100, 178, 400, 1000)
NOISE = (0.0, 0.0, 0.02)
NAMES = ("manifold", "points", "noise", "truth", "value", "lower", "upper", "covered", "cpu_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="how many sets are passed over")
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file that each set is added to as it ends")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rng, host, rows = np.random.default_rng(options.seed), Host.discover(), []
    print("manifold, points, noise: truth, answer", flush=True)
    for number in range(options.first + options.sets):
        name, points, noise = (rng.choice(each) for each in (MANIFOLDS, POINTS, NOISE))
        if number < options.first:
            continue
        config = {"name": str(name), "points": int(points), "fractions": [1, 0, 0], "seed": options.seed + number}
        clean = host.create("data:benchmark-manifold", config)
        spread = clean.event_scale.std
        source = host.create("data:benchmark-manifold", {**config, "noise_std": float(noise) * spread})
        train = source.load("train")
        truth, start = int(train.truth["dimension"]), time.process_time()
        estimator = host.create("estimator:calibrated")
        found = estimator.estimate(train, generator=torch.Generator().manual_seed(number))
        value, interval = found.value, found.interval
        inside = interval is not None and interval[0] <= truth <= interval[1] + 1e-9
        seconds = time.process_time() - start
        rows.append((name, points, noise, truth, value, *(interval or (None, None)), inside, seconds))
        if options.out is not None:
            begun = options.out.exists()
            with options.out.open("a", encoding="utf-8") as file:
                file.write(csv_text([rows[-1]] if begun else [NAMES, rows[-1]]))
        said = found.headline if interval is None else f"{value:.3g} ({interval[0]:.3g} to {interval[1]:.3g})"
        print(f"{name}, {points}, {noise}: {truth}, {said}{'' if inside or value is None else '  OUTSIDE'}", flush=True)
    answered = [row for row in rows if row[4] is not None]
    covered = sum(row[7] for row in answered)
    without = len(rows) - len(answered)
    print(f"{covered} of {len(answered)} intervals cover the dimension; {without} sets have no number")


if __name__ == "__main__":
    main()
