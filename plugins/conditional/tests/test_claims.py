"""Claims measured: of exact scores as they are, of trained ones with few steps, where every answer is known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import Dataset
from scorefold.plugin import Claim
from scorefold_conditional.claims import digits as claims_digits
from scorefold_conditional.claims import exact as claims_posterior
from scorefold_conditional.claims import fashion as claims_fashion
from scorefold_conditional.plugin import scorefold_claims
from scorefold_registry import Host
from scorefold_registry.experiments.claims import within
from scorefold_toolkit.config.operators import BoxDownsampleConfig
from scorefold_toolkit.operators import Mask, build_operator

CLAIMS = [claim for claim in scorefold_claims() if ".baselines:" not in claim.target and "real" not in claim.profiles]
QUICK = [claim for claim in CLAIMS if "smoke" in claim.profiles and "exact" in claim.target]


def measured(host: Host, claim: Claim, profile: str) -> float:
    module, function = claim.target.split(":")
    found: float = getattr(import_module(module), function)(host, profile, 0, **claim.options)
    return found


@pytest.mark.parametrize("claim", QUICK, ids=lambda claim: claim.name)
def test_claims_about_exact_scores_hold(host: Host, claim: Claim) -> None:
    assert within(claim, measured(host, claim, "smoke"))


def test_names_are_claimed_once() -> None:
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of one training each."""
    for module in (claims_posterior, claims_digits):
        for name, value in {"STEPS": 2, "SAMPLER_STEPS": 3, "DRAWS": 3}.items():
            monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(module, "SEEDS", {"quick": 1})
    monkeypatch.setattr(claims_posterior, "POSTERIOR_CONDITIONS", 4)
    monkeypatch.setattr(claims_digits, "IMAGES", 4)
    for cache in (claims_posterior._measured, claims_digits._measured):
        cache.cache_clear()
    yield
    for cache in (claims_posterior._measured, claims_digits._measured):
        cache.cache_clear()


def test_what_is_trained_can_be_measured(host: Host, hasty: None) -> None:
    trained = [claim for claim in CLAIMS if "exact" not in claim.target]
    assert len(trained) > 30
    for claim in trained:
        value = measured(host, claim, "quick")
        assert value == value, claim.name
        assert within(claim, value) or claim.tolerance != ("min", 0.0), claim.name


def test_a_row_is_the_mean_of_its_trainings(host: Host, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"estimator": "cde", "sigma_max": 0.0, "measure": "rms"}
    values = []
    for seeds in (1, 2):
        monkeypatch.setattr(claims_posterior, "SEEDS", {"quick": seeds})
        values.append(claims_posterior.posterior_row(host, "quick", 0, **settings))
    second = 2 * values[1] - values[0]
    assert second != values[0]
    ratio = claims_posterior.ratio_to_clean(host, "quick", 0, estimator="cdiffe", sigma_max=20.0, measure="rms")
    above = claims_posterior.posterior_row(host, "quick", 0, estimator="cdiffe", sigma_max=20.0, measure="rms")
    assert ratio == pytest.approx(above / values[1])


def test_the_measures_of_draws() -> None:
    """Draws that are off by 0.1 in the hole alone, in one of two ways."""
    truth = torch.rand(2, 1, 4, 4)
    kept = torch.ones(2, 1, 4, 4)
    kept[..., :2] = 0
    draws = torch.stack([truth + 0.1 * (1 - kept), truth - 0.1 * (1 - kept)]) + 0.01 * kept
    found = claims_digits.measures(draws, Dataset(truth), Mask(kept, (1, 4, 4)))
    assert found["hidden"] == pytest.approx(20, abs=1e-3)
    assert found["consistency"] == pytest.approx(40, abs=1e-2)
    assert found["psnr"] == pytest.approx(-10 * torch.tensor((0.01 + 0.0001) / 2).log10().item(), abs=1e-3)
    assert found["diversity"] == pytest.approx(255 * 0.1 * 2**0.5 / 2, abs=1e-3)
    smaller = build_operator(BoxDownsampleConfig(), (1, 4, 4))
    checkered = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)
    found = claims_digits.measures(torch.stack([truth + 0.1 * checkered + 0.01] * 2), Dataset(truth), smaller)
    assert found["consistency"] == pytest.approx(40, abs=1e-2)


def test_a_lead_is_over_the_better_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"cde": (15.0, 0.6), "dps": (13.0, 0.7), "pigdm": (14.0, 0.2)}
    monkeypatch.setattr(claims_fashion, "_source", lambda host: SimpleNamespace())
    monkeypatch.setattr(
        claims_fashion,
        "_measured",
        lambda host, source, seed, task, method: dict(zip(("psnr", "ssim"), found[method], strict=True)),
    )
    for measure, expected in (("psnr", 1.0), ("ssim", -0.1)):
        lead = claims_fashion.lead_over_solvers(None, "real", 0, task="inpainting", method="cde", measure=measure)
        assert lead == pytest.approx(expected), measure


def test_estimators_and_solvers_of_garments_have_all_measures(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps on images of noise: each claim of the table has a number, and draws have their sizes."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 1, 28, 28), dtype=np.float32))
    source: Any = host.create("data:array", {"path": str(tmp_path / "x.npy"), "scale": "none"})
    monkeypatch.setattr(claims_fashion, "_source", lambda host: source)
    for name, value in {"IMAGES": 3, "DRAWS": 2, "DPS_STEPS": 2, "REFERENCE": 20}.items():
        monkeypatch.setattr(claims_fashion, name, value)
    hasty = {"steps": 2, "batch_size": 4}
    small = {"use": "network:conv-unet", "config": {"channels": [8, 8]}}
    monkeypatch.setattr(claims_fashion, "SETTINGS", {**claims_fashion.SETTINGS, "training": hasty, "network": small})
    claims = [claim for claim in scorefold_claims() if "fashion_measure" in claim.target]
    measures = {claim.options["measure"] for claim in claims} - {"lpips"}
    assert measures == {"psnr", "ssim", "hidden", "consistency", "diversity", "frechet"}
    for task in claims_fashion.TASKS:
        for method in ("cde", "cmde", "pigdm"):
            drawn = claims_fashion.draws(host, source, 0, task, method)
            assert drawn.shape == (2, 3, 1, 28, 28)
            assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
            found = claims_fashion._measured(host, source, 0, task, method)
            assert found.keys() >= measures - ({"hidden"} if task == "super-resolution" else set())
