"""Claims measured: those with a closed form as they are, those that train by few steps; measures of known answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from claim_values import measured

from scorefold_registry import Host
from scorefold_registry.experiments.claims import within
from scorefold_scorevae.claims import blobs as claims_blobs
from scorefold_scorevae.claims import exact as claims_exact
from scorefold_scorevae.claims import images as claims_images
from scorefold_scorevae.claims import training as claims_training
from scorefold_scorevae.plugin import scorefold_claims

CLAIMS = list(scorefold_claims())
CLOSED = [claim for claim in CLAIMS if claim.target.endswith(":two_points")]
CACHED = [
    value
    for module in (claims_blobs, claims_images)
    for value in vars(module).values()
    if hasattr(value, "cache_clear")
]


def test_the_log_determinant_is_separated_from_none_and_a_wrong_one(host: Host) -> None:
    for claim in CLOSED:
        value = measured(host, claim, "smoke")
        assert [within(other, value) for other in CLOSED] == [other is claim for other in CLOSED]


def test_two_points_with_no_code_and_with_the_true_posterior(host: Host) -> None:
    assert claims_exact.two_points(host, "smoke", 0, term="none") == pytest.approx(0.0609, abs=1e-4)
    assert claims_exact.two_points(host, "smoke", 0, term="exact") == pytest.approx(0.0052, abs=1e-4)


def test_the_least_loss_is_that_of_reverse_water_filling() -> None:
    process = (
        Host.discover()
        .create(
            "score:analytic",
            {"process": {"name": "vp", "t_min": 1e-3}, "gaussian": True},
            data=claims_exact._gaussian(0),
        )
        .process
    )
    for (beta, latent), least in {
        (0.02, 2): 0.21288,
        (0.02, 4): 0.19622,
        (0.01, 4): 0.12291,
        (0.1, 2): 0.35774,
    }.items():
        assert claims_exact.least_loss(process, beta, latent) == pytest.approx(least, abs=2e-5)


def test_a_worse_encoder_is_no_best_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = claims_exact.cosine_training
    monkeypatch.setattr(claims_exact, "cosine_training", lambda steps, **more: settings(20, **more))
    assert claims_exact.water_filling(host, "smoke", 0, beta=0.02, latent=2) > 1.1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A few steps of one training each, and few images."""
    monkeypatch.setattr(claims_blobs, "STEPS", {"quick": 3})
    monkeypatch.setattr(claims_blobs, "POINTS", 500)
    monkeypatch.setattr(claims_blobs, "REFERENCE", 200)
    monkeypatch.setattr(claims_blobs, "IMAGES", 100)
    monkeypatch.setattr(claims_images, "MORE", {"quick": 0.001})
    less = {"digits": {"limit": 200}, "photographs": {"points": 400}}
    small = {
        name: replace(setting, images=20, prior_draws=10, config={**setting.config, **less.get(name, {})})
        for name, setting in claims_images.SETTINGS.items()
    }
    monkeypatch.setattr(claims_images, "SETTINGS", small)
    for module in (claims_blobs, claims_images):
        monkeypatch.setattr(module, "SEEDS", {"quick": 1})
        monkeypatch.setattr(module, "DRAWS", 2)
    for module in (claims_blobs, claims_images):
        monkeypatch.setattr(module, "DECODING", {"sampler": "heun", "steps": 3, "spacing": "karras"})
    for function in CACHED:
        function.cache_clear()
    yield
    for function in CACHED:
        function.cache_clear()


def test_what_is_trained_can_be_measured(host: Host, hasty: None) -> None:
    trained = [claim for claim in CLAIMS if ".exact:" not in claim.target and "real" not in claim.profiles]
    assert len(trained) > 50
    for claim in trained:
        value = measured(host, claim, "quick")
        assert value == value, claim.name
        assert within(claim, value) or claim.tolerance != ("min", 0.0), claim.name


def test_a_row_is_its_worst_or_mean_training(host: Host, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_blobs, "SEEDS", {"quick": 2})
    found = {
        over: claims_blobs.blob_measure(host, "quick", 0, model="vae", measure="l2", over=over)
        for over in ("smallest", "mean", "largest")
    }
    assert found["smallest"] < found["mean"] < found["largest"]
    ratio = claims_blobs.blob_measure(host, "quick", 0, model="vae", measure="l2", ratio="vae")
    assert ratio == 1


def test_the_measures_of_reconstructions() -> None:
    real = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = claims_training.similarity(real, real, real)
    assert found["l2"] == 0
    assert found["sharp"] == pytest.approx(1)
    assert claims_training.likeness(2 * real, real)["sharp"] == pytest.approx(4)
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    shifted = claims_training.similarity(real + 0.5, real, real)
    assert shifted["l2"] == pytest.approx(2)
    assert shifted["sharp"] == pytest.approx(1, abs=1e-5)
    assert shifted["frechet"] == pytest.approx(16 * 0.25, abs=1e-4)
    flat = claims_training.similarity(real.mean((2, 3), keepdim=True).expand_as(real), real, real)
    assert flat["sharp"] == pytest.approx(0, abs=1e-9)


def test_the_worst_of_several() -> None:
    values = (0.9, 1.3, 1.0)
    found = {name: reduce(values) for name, reduce in claims_training.REDUCTIONS.items()}
    assert found == {"mean": pytest.approx(3.2 / 3), "largest": 1.3, "smallest": 0.9, "furthest": 1.3}
