"""What audits say of the controls, of which it is known what they are: a line for each, over 20 seeds.

    python benchmarks/audit.py [--seeds 20]

Data and models are those of ``scorefold_audit.claims.controls``: 500 training points, held-out points and samples each.
"Alarms" are verdicts that are false of the model.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from scorefold_audit.claims.controls import DATA, MODELS, audited, found, sets

TRUE = {
    # A copier's samples repeat, so that parts of the data have none near them.
    "copier": {"copies", "memorisation", "misses-data", "different"},
    "right": set(),
    "tenth": {"copies", "memorisation"},
    "wide": {"off-the-data", "misses-data", "different"},
    "incomplete": {"misses-data", "different"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    names = ("copies", "memorisation", "off-the-data", "misses-data", "different")
    print("| data | model | copied share (sd) | " + " | ".join(names) + " | alarms |")
    print("|---" * (len(names) + 4) + "|")
    for data in DATA:
        for model in MODELS:
            counts, shares, alarms = Counter[str](), [], 0
            for seed in range(seeds):
                result = audited(*sets(model, data, seed), seed=seed, permutations=199)
                verdicts = found(result)
                counts.update(verdicts)
                alarms += bool(verdicts - TRUE[model])
                shares.append(100 * result["answer"]["value"])
            row = [data, model, f"{np.mean(shares):.1f} ({np.std(shares):.1f}) %", *(counts[name] for name in names)]
            print("| " + " | ".join(map(str, [*row, f"{alarms} of {seeds}"])) + " |", flush=True)


if __name__ == "__main__":
    main()
