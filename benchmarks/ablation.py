"""What each part of ``network:manifold-mlp`` does for which manifolds: every part left out in turn, and left alone.

    python benchmarks/ablation.py [--steps 400] [--seed 0] [--sets sphere-10,M8] [--variants nothing,quadrics]

One training for each set and variant, all else equal, with the setting of ``scorefold reproduce iddiff`` but for the
steps: 400 to stay under three minutes. Printed are the share of 100 fresh points with the true dimension and the median
over them, at the automatic noise level, and the CPU seconds of the training.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_iddiff.claims.euclidean import OURS, estimate_on_test, paper_set, trained_score, with_steps
from scorefold_registry import Host

VARIANTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "skip": {"skip": False},
    "gates": {"gates": False},
    "quadrics": {"quadrics": 0},
    "all": {"skip": False, "gates": False, "quadrics": 0},
}
"""What is left out, and the config of the network that leaves it out."""

ALONE: dict[str, dict[str, Any]] = {
    "all-but-skip": {"gates": False, "quadrics": 0},
    "all-but-gates": {"skip": False, "quadrics": 0},
    "all-but-quadrics": {"skip": False, "gates": False},
}
"""The same where one part is left."""

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "flat-torus-5": ("data:torus", {"dimension": 5, "ambient": 100, "points": 50_000}),
    "M8": ("data:benchmark-manifold", {"name": "M8_Nonlinear", "points": 50_000}),
    "squiggly-10": ("data:squiggly", {"dimension": 10, "ambient": 100, "points": 50_000}),
}
"""A manifold that quadrics favour too, and two that no part of the network favours."""

SETS = ("sphere-10", "union", "spaghetti", "M8")


def data_of(host: Host, name: str, seed: int) -> DataSource:
    if name not in OTHERS:
        return paper_set(host, name, seed)
    component, config = OTHERS[name]
    made: DataSource = host.create(component, config, generator=derive_generator(seed, name))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", default=",".join(SETS), help=f"these and {', '.join(OTHERS)}")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"these and {', '.join(ALONE)}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    host = Host.discover()
    print(f"{'set':14} {'without':16} {'right':>6} {'median':>7} {'sigma':>8} {'CPU s':>6}")
    for name in given.sets.split(","):
        seed = derive_seed(given.seed, name)
        data = data_of(host, name, seed)
        for variant in given.variants.split(","):
            network = {"use": "network:manifold-mlp", "config": {**VARIANTS, **ALONE}[variant]}
            started = time.process_time()
            score = trained_score(host, data, with_steps({**OURS, "network": network}, given.steps), seed)
            spent = time.process_time() - started
            found, truth = estimate_on_test(host, score, data, {"points": 100, "resamples": 0}, seed)
            assert found.pointwise is not None
            right = float(found.pointwise.eq(truth).double().mean())
            sigma = found.diagnostics["sigma"]
            print(f"{name:14} {variant:16} {right:6.2f} {found.value:7.1f} {sigma:8.3g} {spent:6.0f}", flush=True)


if __name__ == "__main__":
    main()
