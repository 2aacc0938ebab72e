"""The statistics of balls that ``estimator:danco`` compares data with, as a table of the package.

    python benchmarks/_balls.py                 all cells, one after another (three minutes of CPU)
    python benchmarks/_balls.py --out balls.csv    into another file; cells that it has are kept

Each cell is a dimension and a number of points. It holds the mean over balls of the growth of norms, and of the
direction and the concentration of angles, with ten neighbours. The balls of a cell have 20,000 points together, and
there are six or more of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import scorefold_neighbours.estimators as package
from scorefold_neighbours.estimators.danco import TABLE, ball, of_ball

DIMENSIONS = (*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 30, 35, 40, 47, 55, 65, 75, 87, 100)
POINTS = (20, 30, 45, 70, 110, 180, 300, 500, 1000, 2000, 5000)
NEIGHBOURS = 10
TOGETHER, FEWEST = 20_000, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(package.__path__[0]) / TABLE)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    kept = {tuple(map(int, line.split(",")[:2])): line for line in lines[1:]}
    for count in POINTS:
        for dimension in DIMENSIONS:
            if (dimension, count) in kept:
                continue
            draws = torch.Generator().manual_seed(options.seed + 1000 * count + dimension)
            times = max(FEWEST, TOGETHER // count)
            found = np.mean([of_ball(ball(count, dimension, draws), NEIGHBOURS) for _ in range(times)], axis=0)
            kept[dimension, count] = ",".join([f"{dimension},{count}", *(f"{value:.5g}" for value in found)])
            rows = ["dimension,points,growth,direction,concentration", *(kept[cell] for cell in sorted(kept))]
            options.out.write_text("\n".join(rows) + "\n", encoding="utf-8")
        print(f"{count} points: {len(kept)} of {len(DIMENSIONS) * len(POINTS)} cells", flush=True)


if __name__ == "__main__":
    main()
