"""What audits say of the controls, of which it is known what they are: a line for each.

    python benchmarks/audit.py [--seeds 20] [--data ring,sphere] [--models copier,right]

Data and models come from ``scorefold_audit.claims.controls``: 500 training points, held-out points and samples each.
"Alarms" are verdicts that are false of the model. "FLD gap" is its distance from the FLD of held-out points.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from scorefold_audit.claims.controls import DATA, MODELS, audit_result, found, sets

TRUE = {
    # A copier's samples repeat, so that parts of the data have none near them.
    "copier": {"copies", "memorisation", "misses-data", "different"},
    "right": set(),
    "tenth": {"copies", "memorisation"},
    "wide": {"off-the-data", "misses-data", "different"},
    "incomplete": {"misses-data", "different"},
}
NAMES = ("copies", "memorisation", "off-the-data", "misses-data", "different")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--models", default=",".join(MODELS))
    given = parser.parse_args()
    columns = ["data", "model", "copied share (sd)", *NAMES, "alarms", "FLD (sd)", "FLD gap (sd)", "Vendi (sd)"]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for data in given.data.split(","):
        for model in given.models.split(","):
            print("| " + " | ".join(row(data, model, given.seeds)) + " |", flush=True)


def row(data: str, model: str, seeds: int) -> list[str]:
    """The cells of a control, over seeds."""
    counts, alarms, numbers = Counter[str](), 0, list[list[float]]()
    for seed in range(seeds):
        result = audit_result(*sets(model, data, seed), seed=seed, permutations=199)
        verdicts, metrics = found(result), result["metrics"]
        counts.update(verdicts)
        alarms += bool(verdicts - TRUE[model])
        gap = metrics["FLD gap"] - metrics["FLD gap of held-out points"]
        vendi = metrics["Vendi score relative to held-out points"]
        numbers.append([100 * result["answer"]["value"], metrics["likelihood divergence (FLD)"], gap, vendi])
    mean, deviation = np.mean(numbers, 0), np.std(numbers, 0)
    share, fld, gap_cell = (f"{mean[i]:.1f} ({deviation[i]:.1f})" for i in range(3))
    found_in = [str(counts[name]) for name in NAMES]
    return [
        *(data, model, f"{share} %", *found_in, f"{alarms} of {seeds}"),
        *(fld, gap_cell, f"{mean[3]:.3f} ({deviation[3]:.3f})"),
    ]


if __name__ == "__main__":
    main()
