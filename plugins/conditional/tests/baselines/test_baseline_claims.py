"""The claims on the baselines, measured with a few steps of one training."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from scorefold_conditional.claims import digits as claims_baselines
from scorefold_conditional.claims import digits as claims_digits
from scorefold_conditional.plugin import scorefold_claims
from scorefold_registry import Host


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(claims_digits, "STEPS", 2)
    monkeypatch.setattr(claims_baselines, "SEEDS", {"quick": 1})
    monkeypatch.setattr(claims_baselines, "IMAGES", 4)
    short = {name: (use, config, 12) for name, (use, config, _) in claims_baselines.METHODS.items()}
    monkeypatch.setattr(claims_baselines, "METHODS", short)
    for cache in (claims_baselines._prior, claims_baselines._measured_baseline):
        cache.cache_clear()
    yield
    for cache in (claims_baselines._prior, claims_baselines._measured_baseline):
        cache.cache_clear()


def test_each_can_be_measured_and_is_named_once(host: Host, hasty: None) -> None:
    host, every = host, list(scorefold_claims())
    names = [claim.name for claim in every]
    assert len(set(names)) == len(names)
    for claim in (each for each in every if ".baselines:" in each.target):
        assert claim.role == "report"
        assert math.isfinite(claims_baselines.baseline_measure(host, "quick", 0, **claim.options)), claim.name  # type: ignore[arg-type]
