"""Interpolations of handwritten digits: how near the middles of geodesics are to the data, beside straight lines'.

Each function of a claim takes a host, a profile and a seed, as in ``scorefold_pullback.claims.exact``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource, Flow
from scorefold.seeds import derive_generator, derive_seed
from scorefold_pullback.claims.training import source, trained_pullback_flow
from scorefold_pullback.geometry.config import PullbackConfig
from scorefold_pullback.geometry.pullback import Pullback

SEEDS, PAIRS = 3, 2000

FLOW: dict[str, Any] = {
    "map": {"name": "coupling", "layers": 8},
    "isometry_weight": 0.3,
    "volume_weight": 0,
    "training": {"steps": 1500, "learning_rate": 2e-3},
}


def digit_middles(host: Any, profile: str, seed: int, *, way: str) -> float:
    """The distance of middles between held-out digits from the nearest training digit; held-out digits have 1.

    ``way`` is ``geodesic``, ``straight``, or ``ratio``, the first over the second: each the largest over trainings.
    """
    return max(_middles(host, derive_seed(seed, "run", n), way) for n in range(SEEDS))


@cache
def _middles(host: Any, seed: int, way: str) -> float:
    data = source(host, "digits", {}, seed)
    if way == "ratio":
        return _middles(host, seed, "geodesic") / _middles(host, seed, "straight")
    test = data.load("test").x
    generator = derive_generator(seed, "pairs")
    first = torch.randint(len(test), (PAIRS,), generator=generator)
    second = (first + torch.randint(1, len(test), (PAIRS,), generator=generator)) % len(test)
    x, y = test[first], test[second]
    middle = (
        (x + y) / 2
        if way == "straight"
        else _middle(trained_pullback_flow(host, "digits", {}, "anisotropic", FLOW, seed), x, y)
    )
    return _nearest(middle, data) / _nearest(test, data)


@torch.no_grad()
def _middle(flow: Flow, x: Tensor, y: Tensor) -> Tensor:
    return Pullback(PullbackConfig(), flow=flow).geodesic(x, y, x.new_tensor([0.5]))[:, 0]


def _nearest(x: Tensor, data: DataSource) -> float:
    """The mean distance of events from the nearest training event."""
    return float(torch.cdist(x.flatten(1), data.load("train").x.flatten(1)).amin(1).mean())
