"""Flows whose base has several modes, on two groups of points along a river.

Each function of a claim takes a host, a profile and a seed, as in ``scorefold_pullback.claims.exact``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, TensorSource
from scorefold.seeds import derive_generator
from scorefold_pullback.claims.training import train

POINTS = {"train": 5_000, "test": 4_000}

TRUTH: dict[str, Any] = {"offsets": [[0, -6], [0, 6]], "variances": [0.05, 4.0], "weights": [1, 3]}

FLOW: dict[str, Any] = {
    "map": {"name": "coupling", "layers": 4},
    "training": {"steps": 3000, "learning_rate": 1e-3},
}


def excess(host: Any, profile: str, seed: int, *, modes: int) -> float:
    """Excess of a trained flow's mean -log p of test points over their entropy, in nats per event."""
    points, entropy = _groups(host, seed)
    flow = train(host, points, "anisotropic", {**FLOW, "modes": modes}, seed)
    return float(-flow.log_prob(points.load("test").x).detach().mean()) - entropy


@cache
def _groups(host: Any, seed: int) -> tuple[DataSource, float]:
    """The points, and the mean of -log p over the test points by the distribution that they are drawn from."""
    river = {"use": "flow:river", "config": {"frequency": 1.0}}
    truth = host.create("flow:mixture", TRUTH, flow=river)
    generator = derive_generator(seed, "groups")
    parts = {name: truth.sample(count, generator=generator).detach() for name, count in POINTS.items()}
    entropy = float(-truth.log_prob(parts["test"]).detach().mean())
    return TensorSource({name: Dataset(x) for name, x in parts.items()}), entropy
