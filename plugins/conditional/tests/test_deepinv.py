"""deepinv's physics where operators of ours stand; skipped where deepinv is not installed."""

from __future__ import annotations

import pytest
import torch

from scorefold_registry import Host

pytestmark = pytest.mark.needs("deepinv")

HOLES = {"name": "deepinv", "physics": "Inpainting", "options": {"mask": 0.5}}


def test_a_prior_is_guided_by_what_a_physics_observed(host: Host) -> None:
    """Every other pixel of a digit is known; the draws have it there, as those by our own mask have."""
    digits = {"use": "data:digits", "config": {"limit": 200, "range": [-1, 1]}}
    pairs = host.create("data:paired", {"operator": HOLES}, data=host.create(digits["use"], digits["config"]))
    held = pairs.load("test").take(torch.arange(2))
    prior = host.create(
        "score:analytic",
        {"gaussian": True, "process": "vp"},
        data=host.create(digits["use"], digits["config"]),
    )
    dps = host.create("score:dps", {"operator": HOLES, "variant": "pigdm", "noise_std": 0.05}, prior=prior)
    draws = dps.sample(4, condition=held.condition, steps=30, generator=torch.Generator().manual_seed(0))
    seen = dps.observations.operator(draws.flatten(0, 1)).unflatten(0, draws.shape[:2])
    assert float((seen - held.condition).abs().mean()) < 0.1
    free = prior.sample(8, steps=30, generator=torch.Generator().manual_seed(0)).unflatten(0, (4, 2))
    known = dps.observations.operator(free.flatten(0, 1)).unflatten(0, (4, 2))
    assert float((known - held.condition).abs().mean()) > 0.2
