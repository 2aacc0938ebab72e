"""What the claims of noise, few and uneven points measure, with exact scores or by few steps."""

from __future__ import annotations

import pytest
import torch

from scorefold_iddiff.claims import images as claims_fashion
from scorefold_iddiff.claims import spheres as claims_robustness
from scorefold_registry import Host


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEPS", "SET_STEPS"):
        monkeypatch.setattr(claims_robustness, name, {"quick": 2})
    monkeypatch.setattr(claims_robustness, "READ", {"quick": 8})
    monkeypatch.setattr(claims_robustness, "SET_POINTS", 600)


def test_a_sphere_with_noise_has_its_dimension_until_noise_fills_the_space(host: Host) -> None:
    assert claims_robustness.noisy_points(host, "smoke", 1, noise=0.01) == 25
    assert claims_robustness.noisy_points(host, "smoke", 1, noise=0.1) == 0, "no value"


def test_noise_of_the_scores_is_as_long_as_it_says(host: Host) -> None:
    sphere = host.create("data:sphere", {"dimension": 2, "ambient": 400, "points": 50})
    exact = host.create("score:analytic", data=sphere)
    x, t = sphere.load("train").x[:20], torch.full((20,), 0.3)
    noisy = claims_robustness.NoisyScore(exact, 0.5, torch.Generator().manual_seed(0)).score(x, t)
    lengths = (noisy - exact.score(x, t)).norm(dim=1) / exact.score(x, t).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((20,), 0.5), atol=0.1, rtol=0)
    for rule in ("reference", "projector"):
        assert claims_robustness.noisy_score(host, "smoke", 1, noise=0.2, rule=rule) == 1
        assert claims_robustness.noisy_score(host, "smoke", 1, noise=3.0, rule=rule) == 0


def test_trained_claims_can_be_measured(host: Host, hasty: None) -> None:
    assert 0 <= claims_robustness.few_points(host, "quick", 0, points=100) <= 1
    assert 0 <= claims_robustness.uneven_sphere(host, "quick", 0, spread=0.5) <= 11
    for method in ("iddiff", "loss", "flipd", "knee", "mle"):
        assert claims_robustness.benchmark(host, "quick", 0, name="Mbeta", method=method) >= 0


def test_classes_are_compared_by_what_a_method_says_of_each(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"loss": tuple(range(10, 20)), "mle": tuple(range(20, 10, -1))}
    monkeypatch.setattr(claims_fashion, "_classes", lambda host, seed, method: found[method])
    assert claims_fashion.by_class(host, "real", 0, method="loss", label=3) == 13
    assert claims_fashion.below_others(host, "real", 0, method="loss") == pytest.approx(11 / 10)
    assert claims_fashion.agreement(host, "real", 0, method="loss", other="mle") == pytest.approx(-1)
