"""Claims of this plugin, which anyone can measure again. Each function takes a host, a profile and a seed.

``host`` is the plugin host (``create(name, config, *, generator, dtype, **ports)``); ``profile`` is smoke, quick or
long.
"""

from __future__ import annotations

from typing import Any

import torch

from scorefold.seeds import derive_generator
from scorefold_iddiff.claims.euclidean import plain_dimensions


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
