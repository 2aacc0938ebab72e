"""The claims on Fashion-MNIST: what they compare, and that a model without training misses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from claim_values import measured

from scorefold_registry import Host
from scorefold_registry.experiments.claims import within
from scorefold_scorevae.claims import fashion as claims
from scorefold_scorevae.claims.training import cosine_training
from scorefold_scorevae.plugin import scorefold_claims
from scorefold_toolkit.data.images import FASHION_MNIST

CLAIMS = {claim.name: claim for claim in scorefold_claims() if claim.target.endswith("fashion:fashion")}
VALUES: Mapping[str, Mapping[str, float]] = {
    "vae": {"l2": 3.0, "ssim": 0.6, "kl": 20.0, "convolutions": 0.08, "components": 2.0},
    "pca": {"l2": 4.0, "ssim": 0.5},
    "scorevae": {"l2": 4.2, "ssim": 0.5, "kl": 21.0, "convolutions": 0.02, "components": 1.5},
    "scorevae-mean": {"l2": 3.15},
    "scorevae-opposite": {"l2": 2.7},
}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values in place of trainings."""
    monkeypatch.setattr(claims, "fashion_mnist", lambda host: host)
    monkeypatch.setattr(claims, "_shipped", lambda host: host)
    rivals = {**VALUES, "rival": VALUES["vae"]}
    monkeypatch.setattr(claims, "_measured", lambda host, seed, latent, model: rivals[model])


def test_ratios_are_of_the_models_that_they_name(host: Host, known: None) -> None:
    values = {name: claims.fashion(host, "real", 0, **CLAIMS[f"fashion-16-{name}"].options) for name in RATIOS}
    assert values == pytest.approx(RATIOS)
    assert {name: within(CLAIMS[f"fashion-16-{name}"], value) for name, value in values.items()} == {
        "nats": True,
        "l2-ratio": True,
        "opposite-l2-ratio": True,
        "frechet-ratio": False,
        "ssim-ratio": False,
    }


GATES = ("l2-ratio", "opposite-l2-ratio", "corrector-l2")
RATIOS = {"nats": 20 / 21, "l2-ratio": 1.05, "opposite-l2-ratio": 0.9, "frechet-ratio": 0.75, "ssim-ratio": 5 / 6}


def test_without_data_or_model_nothing_is_measured(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "fashion_mnist", lambda host: None)
    for measure in ("l2", "frechet"):
        assert claims.fashion(host, "real", 0, latent=16, model="vae", measure=measure) is None


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No training to speak of, and few images."""
    brief = {"training": cosine_training(1, batch_size=8)}
    monkeypatch.setattr(claims, "SCOREVAE", {**claims.SCOREVAE, **brief})
    monkeypatch.setattr(claims, "VAE", {**claims.VAE, **brief})
    monkeypatch.setattr(claims, "IMAGES", 60)
    monkeypatch.setattr(claims, "HELD_TO", 100)
    monkeypatch.setattr(claims, "DRAWS", 2)
    monkeypatch.setattr(claims, "DECODING", {"sampler": "dpmpp-2m", "steps": 2})
    cached = [value for value in vars(claims).values() if hasattr(value, "cache_clear")]
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="the published files are not here")
def test_an_untrained_encoder_misses_the_gates(host: Host, hasty: None) -> None:
    found = {name: measured(host, CLAIMS[f"fashion-16-{name}"], "real") for name in GATES}
    assert all(not within(CLAIMS[f"fashion-16-{name}"], value) for name, value in found.items()), found
    shown = claims._shown(host, 0, 16, "scorevae")
    assert shown.shape == (2, 60, 1, 28, 28)
    assert torch.equal(claims._shown(host, 0, 16, "scorevae-mean"), shown.mean(0, keepdim=True))
    opposite = claims._shown(host, 0, 16, "scorevae-opposite")
    assert opposite.shape == (1, 60, 1, 28, 28)
    assert float((2 * opposite - shown[0] - shown[1]).abs().max()) > 0.1  # the second is not the next draw
    row = claims._measured(host, 0, 16, "real")
    assert (row["l2"], row["sharp"]) == (0, 1)
    assert row["ssim"] == pytest.approx(1)


def test_what_is_measured_of_whom_is_known() -> None:
    options: list[Mapping[str, Any]] = [claim.options for claim in CLAIMS.values()]
    assert len(options) == len({tuple(sorted(option.items())) for option in options})
    assert {option["latent"] for option in options} == {16, 64}
