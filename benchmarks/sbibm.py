"""Posteriors of the simulators of sbibm, compared with its reference draws by C2ST, beside the published columns.

For each task, number of simulations and method one model is trained for all ten observations; the published runs train
one for each. 10,000 draws within the prior are compared with 10,000 reference draws by `metric:c2st`. Rows are written
to --out as they come, and those there are not measured again.

Run: python benchmarks/sbibm.py --wheel sbibm-1.1.0-py2.py3-none-any.whl [--only two-moons] [--simulations 10000]
     [--methods flow] [--steps 6000] [--seed 0] [--out sbibm.csv] [--threads 1]
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import scorefold as sf
from scorefold_conditional.sbibm.tasks import TASKS

DRAWS = 10_000
MORE = 1.3
"""Draws asked for, over those compared: some lie outside the prior."""

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "conditional": (
        "score:conditional",
        {
            "estimator": "cde",
            "process": {"name": "edm", "sigma_min": 0.002},
            "weighting": "edm",
            "network": {"use": "network:mlp", "config": {"width": 128, "blocks": 4}},
        },
    ),
    "flow-matching": (
        "score:flow-matching",
        {"network": {"use": "network:mlp", "config": {"width": 128, "blocks": 4}}},
    ),
    "flow": ("flow:spline-coupling", {"layers": 6, "hidden": [64, 64], "bins": 10}),
}

PUBLISHED: dict[tuple[str, int], dict[str, float]] = {
    ("two-moons", 1000): {"NPE": 0.725, "NLE": 0.773, "NRE": 0.822},
    ("two-moons", 10_000): {"NPE": 0.606, "NLE": 0.713, "NRE": 0.761},
    ("gaussian-mixture", 1000): {"NPE": 0.716, "NLE": 0.740, "NRE": 0.777},
    ("gaussian-mixture", 10_000): {"NPE": 0.615, "NLE": 0.723, "NRE": 0.748},
    ("gaussian-linear-uniform", 1000): {"NPE": 0.696, "NLE": 0.723, "NRE": 0.788},
    ("gaussian-linear-uniform", 10_000): {"NPE": 0.553, "NLE": 0.548, "NRE": 0.706},
    ("slcp", 1000): {"NPE": 0.975, "NLE": 0.946, "NRE": 0.972},
    ("slcp", 10_000): {"NPE": 0.901, "NLE": 0.771, "NRE": 0.947},
    ("bernoulli-glm", 1000): {"NPE": 0.863, "NLE": 0.740, "NRE": 0.899},
    ("bernoulli-glm", 10_000): {"NPE": 0.678, "NLE": 0.605, "NRE": 0.812},
}
"""Means over ten observations, of the files that sbibm's authors published: neural posterior, likelihood and ratio
estimation without rounds. The mixture's are of their second run."""


def measured(options: argparse.Namespace, task: str, simulations: int, method: str) -> list[float]:
    """C2ST of the ten observations."""
    name, config = METHODS[method]
    folder = str(options.folder)
    common = {"seed": options.seed, "folder": folder, "progress": False}
    data = sf.load_data("data:sbibm", task=task, simulations=simulations, wheel=str(options.wheel), **common)
    batch = 256 if simulations > 1000 else 100
    training = {"steps": options.steps, "batch_size": batch, "validate_every": 250, "patience": 8}
    model = sf.fit(name, data, **config, training=training, **common)
    bound = TASKS[task].bound
    within = {} if bound is None else {"within": [-bound, bound]}
    n = DRAWS if bound is None else int(MORE * DRAWS)
    metric = {"use": "metric:c2st", "config": within}
    asked = {"n": n, "conditions": 10, "batch_size": 20_000}
    stage = sf.assess(model, data, metrics=[metric], options=asked, **common)
    values: list[float] = load_file(stage.folder / "arrays.safetensors")["C2ST"].tolist()
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=sorted(TASKS))
    parser.add_argument("--simulations", type=int, action="append")
    parser.add_argument("--methods", action="append", choices=sorted(METHODS))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("sbibm.csv"))
    parser.add_argument("--folder", type=Path, default=Path("runs/sbibm"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    known = list(csv.DictReader(options.out.open())) if options.out.is_file() else []
    done = {(row["task"], row["simulations"], row["method"], row["seed"]) for row in known}
    for task in options.only or TASKS:
        for simulations in options.simulations or (10_000,):
            for method in options.methods or METHODS:
                if (task, str(simulations), method, str(options.seed)) in done:
                    continue
                start = time.process_time()
                values = measured(options, task, simulations, method)
                seconds = time.process_time() - start
                row = {"task": task, "simulations": simulations, "method": method, "seed": options.seed}
                row |= {"steps": options.steps, "cpu_seconds": round(seconds), "mean": f"{statistics.mean(values):.3f}"}
                row |= {f"observation {i}": f"{value:.3f}" for i, value in enumerate(values, 1)}
                new = not options.out.is_file()
                with options.out.open("a", newline="") as file:
                    writer = csv.DictWriter(file, row)
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
                theirs = PUBLISHED.get((task, simulations), {})
                beside = ", ".join(f"{column} {value:.3f}" for column, value in theirs.items()) or "none at hand"
                spread = statistics.stdev(values)
                print(
                    f"{task}, {simulations:,} simulations, {method}: {row['mean']} ({spread:.3f}); {seconds:.0f} CPU s"
                )
                print(f"  published: {beside}", flush=True)


if __name__ == "__main__":
    main()
