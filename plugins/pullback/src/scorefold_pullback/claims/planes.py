"""Banana, squeezed banana and river: the four flows of the paper's table, trained by its settings on two cores.

Each function of a claim takes a host, a profile and a seed, as in ``scorefold_pullback.claims.exact``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource, Flow
from scorefold.random import draw_normal
from scorefold.seeds import derive_generator, derive_seed
from scorefold_pullback.claims.training import source, trained_pullback_flow, variances_of
from scorefold_pullback.config import PullbackConfig
from scorefold_pullback.geometry.chart import curves_apart
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.tangent_pca import significant_components

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("anisotropic", {"isometry_weight": 0.2, "volume_weight": 0}),
    "normal": ("standard-normal", {}),
    "anisotropic": ("anisotropic", {"isometry_weight": 0, "volume_weight": 0}),
    "isometric": ("isometric", {"isometry_weight": 0.2, "volume_weight": 0}),
}
"""The paper's four, with its weights: no volume penalty in the plane."""

LAYERS = {"banana": 2, "squeezed-banana": 2, "river": 4}
STEPS = {"banana": 8000, "squeezed-banana": 8000, "river": 6000}
FEW_STEPS = 600
EPOCHS = {"banana": (200, 50), "squeezed-banana": (1000, 100), "river": (1000, 50)}
"""The published numbers of epochs, and of epochs without a better loss after which training ends.

They are for the methods without isometry. Methods with isometry have (2000, 200).
"""
POINTS = {"banana": 2500, "squeezed-banana": 5000, "river": 5000}
SEEDS = {"smoke": 1, "quick": 3, "full": 3}
PAIRS, TIMES, MOVED = 2000, 100, 0.1
"""Pairs of test points, times along a geodesic, and how far an end is moved for the variation."""


def settings(data: str, method: str, profile: str) -> dict[str, Any]:
    """The published flow and optimiser; outside ``full`` with a higher rate and fewer steps: minutes and not hours."""
    training: dict[str, Any]
    if profile == "full":
        epoch = -(-8 * POINTS[data] // (10 * 64))
        rate = 3e-4 if data == "river" else 5e-4
        epochs, patience = (2000, 200) if method in ("ours", "isometric") else EPOCHS[data]
        steps = {"steps": epochs * epoch, "validate_every": epoch, "patience": patience}
        training = {**steps, "learning_rate": rate, "warmup": 1000, "betas": (0.9, 0.99)}
    else:
        steps = {"steps": FEW_STEPS if profile == "smoke" else STEPS[data]}
        training = {**steps, "learning_rate": 2e-3, "warmup": 250}
    return {
        "map": {
            "name": "coupling",
            "layers": LAYERS[data],
            "scale": "published",
            "activation": "relu",
            "masks": "alternate",
        },
        "start": "none",
        "standardise": False,
        "variance_speed": 1.0,
        "training": {"batch_size": 64, "weight_decay": 1e-5, **training},
    }


@dataclass(frozen=True)
class Row:
    """One trained flow beside the map that made the data: errors over pairs, variances, largest first."""

    geodesic: float
    deviation: float
    variation: float
    across: float
    dimension: int


def plane_measure(
    host: Any, profile: str, seed: int, *, data: str, sampler: str, method: str, measure: str, take: str = "mean"
) -> float:
    """One measure of a method on a set: its mean over seeds, or its ``largest`` or ``smallest``.

    ``geodesic`` is the mean distance, over times and pairs, from the true map's geodesics, and ``deviation`` its
    standard deviation over pairs; ``variation`` the mean distance that geodesics move when an end does; ``across`` the
    smallest variance of the base; ``dimension`` the coordinates that hold all but a tenth of the variance. ``method``
    is a key of ``METHODS``, ``straight`` for lines, or ``true`` for the true map.
    """
    values = [
        getattr(_row(host, profile, derive_seed(seed, "run", n), data, sampler, method), measure)
        for n in range(SEEDS[profile])
    ]
    return float({"mean": sum(values) / len(values), "largest": max(values), "smallest": min(values)}[take])


def error_ratio(host: Any, profile: str, seed: int, *, data: str, sampler: str, above: str, below: str) -> float:
    """The mean geodesic error of a method divided by the error of another."""
    both = [
        plane_measure(host, profile, seed, data=data, sampler=sampler, method=method, measure="geodesic")
        for method in (above, below)
    ]
    return both[0] / both[1]


def first_places(host: Any, profile: str, seed: int, *, sampler: str, measure: str) -> float:
    """On how many of the three sets the method with both, isometry and learned variances, has the least error."""
    first = 0
    for data in LAYERS:
        errors = {
            method: plane_measure(host, profile, seed, data=data, sampler=sampler, method=method, measure=measure)
            for method in METHODS
        }
        first += min(errors, key=errors.__getitem__) == "ours"
    return float(first)


@cache
def _row(host: Any, profile: str, seed: int, data: str, sampler: str, method: str) -> Row:
    truth: Flow = host.create(f"flow:{data}")
    flow = truth
    if method == "straight":
        flow = host.create("flow:identity", {"event_shape": [2]})
    elif method != "true":
        name, config = METHODS[method]
        flow = trained_pullback_flow(
            host, data, {"sampler": sampler}, name, {**settings(data, method, profile), **config}, seed
        )
    x, y = _pairs(truth, source(host, data, {"sampler": sampler}, seed), sampler, seed)
    error, moved = _errors(flow, truth, x, y, seed)
    variances = torch.ones(2) if method in ("straight", "true") else variances_of(flow)
    return Row(
        float(error.mean()),
        float(error.std()),
        float(moved.mean()),
        float(variances.min()),
        significant_components(variances, 0.1),
    )


def _pairs(truth: Flow, data: DataSource, sampler: str, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of points that were not trained on, each (PAIRS, 2): of the distribution itself, or of the published test
    points."""
    generator = derive_generator(seed, "pairs")
    if sampler == "exact":
        return truth.sample(PAIRS, generator=generator), truth.sample(PAIRS, generator=generator)
    points = data.load("test").x
    first, second = (torch.randint(len(points), (PAIRS,), generator=generator) for _ in range(2))
    return points[first], points[second]


@torch.no_grad()
def _errors(flow: Flow, truth: Flow, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Errors of geodesics from x to y, and their change when y moves: (PAIRS,)."""
    noise = draw_normal(tuple(y.shape), generator=derive_generator(seed, "moved"), like=y)
    learned, true = _geodesics(flow, x, y), _geodesics(truth, x, y)
    return curves_apart(learned, true), curves_apart(learned, _geodesics(flow, x, y + MOVED * noise))


def _geodesics(flow: Flow, x: Tensor, y: Tensor) -> Tensor:
    space = Pullback(PullbackConfig(metric="latent"), flow=flow)
    return space.geodesic(x, y, torch.linspace(0, 1, TIMES, dtype=x.dtype, device=x.device))
