"""Exact scores of spheres, and the effect of noise, few points, uneven points and unseen sets on the dimension.

Each function of a claim takes a host, a profile and a seed. ``host`` creates components; ``profile`` is ``quick`` or
``long``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.seeds import derive_generator
from scorefold_iddiff.claims.euclidean import (
    CLASSICAL,
    OURS,
    estimate_on_test,
    plain_dimensions,
    trained_score,
    with_steps,
)

SPHERE = {"dimension": 25, "ambient": 100}
"""The paper's repository has a 25-sphere for noise and for the number of points."""
READ = {"smoke": 24, "quick": 200, "long": 1000}
STEPS = {"quick": 2000, "long": 20_000}
SET_STEPS = {"quick": 4000, "long": 20_000}
SET_POINTS = 25_000
LEAST = 0.0055
"""Thinner directions than at the usual least noise of 0.01 are looked for."""
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "iddiff": ("iddiff", {"points": 64, "resamples": 0}),
    "loss": ("denoising-loss", {"points": 256}),
    "flipd": ("flipd", {"points": 64}),
    "knee": ("flipd", {"points": 64, "mode": "knee"}),
}
"""By a score; ``knee`` takes a level for each point. Others are classical."""


class NoisyScore(ScoreModel):
    """A score to which independent normal noise of a relative norm is added at every call."""

    def __init__(self, score: ScoreModel, size: float, generator: torch.Generator) -> None:
        super().__init__(score.process, score.event_shape, None, score.event_scale)
        self.inner, self.size, self.generator = score, size, generator

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        exact: Tensor = self.inner.score(x, t, condition)
        noise = torch.randn(exact.shape, generator=self.generator, dtype=exact.dtype).to(exact.device)
        length = exact.flatten(1).norm(dim=1).reshape(-1, *[1] * (exact.dim() - 1))
        noisy: Tensor = exact + self.size * length * noise / math.sqrt(exact[0].numel())
        return noisy


def noisy_points(host: Any, profile: str, seed: int, *, noise: float) -> float:
    """Dimension of the 25-sphere with noise, by its exact score at the automatic level; 0 for no value."""
    data = _sphere(host, 2000, noise, seed)
    score = host.create("score:analytic", {"process": {"name": "ve", "sigma_min": 1e-3, "sigma_max": 3}}, data=data)
    estimator = host.create("estimator:iddiff", {"points": READ[profile], "resamples": 0}, score=score)
    found = estimator.estimate(data.load("test"), generator=derive_generator(seed, "noise"))
    return found.value or 0.0


def noisy_score(host: Any, profile: str, seed: int, *, noise: float, rule: str) -> float:
    """The share of points of the 25-sphere that get 25 at sigma 0.01 by its exact score with noise added."""
    data = _sphere(host, 2000, 0.0, seed)
    score = NoisyScore(host.create("score:analytic", data=data), noise, derive_generator(seed, "score noise"))
    settings = {"rule": rule, "sigma": 0.01, "sweep": [], "points": READ[profile], "shown": 1, "resamples": 0}
    found, truth = estimate_on_test(host, score, data, settings, seed)
    assert found.pointwise is not None
    return float(found.pointwise.eq(truth).double().mean())


def few_points(host: Any, profile: str, seed: int, *, points: int) -> float:
    """The share of new points of the 25-sphere that get 25, of a network that was trained on so many."""
    data = _sphere(host, points + 400, 0.0, seed, fractions=(points / (points + 400), 0.0, 400 / (points + 400)))
    score = trained_score(host, data, with_steps(OURS, STEPS[profile]), seed)
    found, truth = estimate_on_test(host, score, data, {"points": READ[profile], "resamples": 0}, seed)
    assert found.pointwise is not None
    print(f"25-sphere from {points} points: mode {float(found.pointwise.mode().values)}, {found.text()}", flush=True)
    return float(found.pointwise.eq(truth).double().mean())


def uneven_sphere(host: Any, profile: str, seed: int, *, spread: float) -> float:
    """The mode over points at sigma 0.01 for a 10-sphere whose angles are normal with this deviation."""
    settings = {"dimension": 10, "angle_std": spread, "points": 50_000}
    data = host.create("data:non-uniform-sphere", settings, generator=derive_generator(seed, "uneven"))
    score = trained_score(
        host, data, with_steps({**OURS, "process": {"name": "ve", "sigma_min": LEAST}}, STEPS[profile]), seed
    )
    found, _ = estimate_on_test(
        host, score, data, {"sigma": 0.01, "sweep": [], "points": READ[profile], "resamples": 0}, seed
    )
    assert found.pointwise is not None
    counts = [int((found.pointwise == k).sum()) for k in range(12)]
    print(f"uneven 10-sphere, {spread}: points by dimension 0 to 11 {counts}", flush=True)
    return float(found.pointwise.mode().values)


def benchmark(host: Any, profile: str, seed: int, *, name: str, method: str) -> float:
    """Value of a method for one of scikit-dimension's manifolds, 0 without a value."""
    data = _manifold(host, name, seed)
    if method in METHODS:
        component, settings = METHODS[method]
        ports, points = {"score": _manifold_score(host, profile, name, seed)}, data.load("test")
    else:
        component, settings, ports, points = method, CLASSICAL[method], {}, data.load("train")
    estimator = host.create(f"estimator:{component}", dict(settings), **ports)
    found = estimator.estimate(points, generator=derive_generator(seed, method))
    print(f"{name} by {method}: {found.text()}", flush=True)
    return found.value or 0.0


@cache
def _manifold(host: Any, name: str, seed: int) -> DataSource:
    settings = {"name": name, "points": SET_POINTS}
    made: DataSource = host.create("data:benchmark-manifold", settings, generator=derive_generator(seed, name))
    return made


@cache
def _manifold_score(host: Any, profile: str, name: str, seed: int) -> ScoreModel:
    return trained_score(host, _manifold(host, name, seed), with_steps(OURS, SET_STEPS[profile]), seed)


def _sphere(host: Any, points: int, noise: float, seed: int, **more: Any) -> DataSource:
    settings = {**SPHERE, "points": points, "noise_std": noise, **more}
    made: DataSource = host.create("data:sphere", settings, generator=derive_generator(seed, "sphere"))
    return made


def exact_spheres(host: Any, profile: str, seed: int) -> float:
    """The largest |k-hat - k| over points, rules and k = 2, 5, 10, 50 with the exact score, at the default
    sigma."""
    points = {"smoke": 24, "quick": 100, "long": 1000}[profile]
    worst = 0.0
    for k in (2, 5, 10, 50):
        sphere = host.create(
            "data:sphere",
            {"dimension": k, "ambient": 100, "points": 10 * points},
            generator=derive_generator(seed, "sphere", k),
        )
        score = host.create("score:analytic", data=sphere)
        for rule in ("projector", "reference"):
            estimator = host.create("estimator:iddiff", {"rule": rule, "points": points, "sweep": []}, score=score)
            found = estimator.estimate(sphere.load("test"), generator=derive_generator(seed, "noise", k, rule))
            worst = max(worst, float((found.pointwise - k).abs().max()))
    return worst


def several_scales(host: Any, profile: str, seed: int) -> float:
    """The largest |k(sigma) - #{lambda > sigma^2}| over six noise levels, for 20 variances log-spaced in [1e-6,
    1]."""
    variances = torch.logspace(0, -6, 20, dtype=torch.float64)
    levels = (0.3, 0.1, 0.03, 0.01, 0.003, 0.0001)
    subspace = host.create(
        "data:subspace",
        {"dimension": 20, "ambient": 100, "points": 400, "variances": variances.tolist()},
        generator=derive_generator(seed, "subspace"),
    )
    score = host.create(
        "score:analytic", {"process": {"name": "ve", "sigma_min": 1e-5}}, dtype=torch.float64, data=subspace
    )
    estimator = host.create(
        "estimator:iddiff", {"sigma": 0.01, "sweep": [level / 0.01 for level in levels], "points": 16}, score=score
    )
    found = estimator.estimate(subspace.load("test"), generator=derive_generator(seed, "noise"))
    rows = found.diagnostics["curve"]
    return max(float(abs(row["value"] - int((variances > row["sigma"] ** 2).sum()))) for row in rows)


def trained_sphere(host: Any, profile: str, seed: int) -> float:
    """The share of points of the 10-sphere in R^100 where a plain MLP gives 11 by the reference rule at sigma = 0.01.

    A published figure that a plain network reproduces because it does not learn the radial direction: the truth is
    10, and the exact score gives 10.
    """
    dimensions, _ = plain_dimensions(host, "sphere-10", profile, seed)
    return float(dimensions.eq(11).double().mean())
