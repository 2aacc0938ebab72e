"""Claims measured: the short ones as they are, those that train with few steps, where every answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from scorefold.plugin import Claim
from scorefold_pullback import plugin
from scorefold_pullback.autoencoder.latent_axes import pca_curve
from scorefold_pullback.claims import images as claims_digits
from scorefold_pullback.claims import manifolds as claims_manifolds
from scorefold_pullback.claims import planes as claims_planes
from scorefold_pullback.claims.training import source, trained_pullback_flow, variances_of
from scorefold_pullback.flows.config import AnisotropicConfig
from scorefold_registry import Host
from scorefold_registry.experiments.claims import within

CLAIMS = list(plugin.scorefold_claims())
PARTS = (claims_digits, claims_planes, claims_manifolds)
MODULES = {module.__name__: module for module in PARTS}


def measured(host: Host, claim: Claim, profile: str) -> float:
    module, function = claim.target.split(":")
    found: float = getattr(MODULES[module], function)(host, profile, 0, **claim.options)
    return found


@pytest.mark.parametrize("claim", [c for c in CLAIMS if "smoke" in c.profiles], ids=lambda claim: claim.name)
def test_short_claims_hold(host: Host, claim: Claim) -> None:
    assert within(claim, measured(host, claim, "smoke"))


def test_names_are_claimed_once() -> None:
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps on the sets of one seed."""
    monkeypatch.setattr(claims_planes, "STEPS", dict.fromkeys(claims_planes.STEPS, 3))
    monkeypatch.setattr(claims_planes, "PAIRS", 20)
    monkeypatch.setattr(claims_planes, "SEEDS", {"quick": 2})
    monkeypatch.setattr(claims_manifolds, "SEEDS", 2)
    few = {
        name: replace(
            setting,
            config={**setting.config, "points": 300},
            flow={**setting.flow, "training": {**setting.flow["training"], "steps": 3}},
        )
        for name, setting in claims_manifolds.QUICK.items()
    }
    monkeypatch.setattr(claims_manifolds, "QUICK", few)
    monkeypatch.setattr(claims_digits, "SEEDS", 1)
    monkeypatch.setattr(claims_digits, "DIGIT_PAIRS", 50)
    monkeypatch.setattr(claims_digits, "DIGIT_FLOW", {"training": {"steps": 2}})
    monkeypatch.setattr(claims_planes, "FLOW", {"training": {"steps": 2}})
    caches: list[Any] = [claims_planes._row, claims_manifolds._loss_over_pca, claims_digits._digit_middles]
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_what_is_trained_can_be_measured(host: Host, hasty: None) -> None:
    for claim in CLAIMS:
        if "quick" in claim.profiles and "smoke" not in claim.profiles and claim.options.get("sampler") != "paper":
            assert 0 <= measured(host, claim, "quick") < 100, claim.name


def test_a_row_is_the_mean_the_largest_or_the_smallest_of_its_trainings(host: Host, hasty: None) -> None:
    row = {"data": "river", "sampler": "exact", "method": "normal", "measure": "geodesic"}
    mean, most, least = (
        claims_planes.plane_measure(host, "quick", 0, **row, take=t) for t in ("mean", "largest", "smallest")
    )
    assert least < mean < most
    assert mean == pytest.approx((least + most) / 2)
    other = {**row, "method": "isometric"}
    expected = mean / claims_planes.plane_measure(host, "quick", 0, **other)
    found = claims_planes.error_ratio(
        host, "quick", 0, data="river", sampler="exact", above="normal", below="isometric"
    )
    assert found == pytest.approx(expected)


def test_first_places_are_counted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"ours": 1.0, "normal": 2.0, "anisotropic": 3.0, "isometric": 4.0}
    monkeypatch.setattr(
        claims_planes,
        "plane_measure",
        lambda *_, data, method, **__: -1.0 if (data, method) == ("river", "normal") else errors[method],
    )
    assert claims_planes.first_places(host, "quick", 0, sampler="exact", measure="geodesic") == 2


def test_test_points_of_the_published_sampler_are_its_own(host: Host) -> None:
    data = source(host, "banana", {"sampler": "paper", "points": 200, "chain_steps": 5}, 0)
    x, y = claims_planes._pairs(host.create("flow:banana"), data, "paper", 0)
    points = {tuple(point) for point in data.load("test").x.tolist()}
    assert {tuple(point) for point in torch.cat([x, y]).tolist()} <= points


def test_a_flow_is_trained_once(host: Host) -> None:
    settings = {"training": {"steps": 2}}
    one = trained_pullback_flow(host, "banana", {"points": 100}, "anisotropic", settings, 5)
    assert trained_pullback_flow(host, "banana", {"points": 100}, "anisotropic", settings, 5) is one
    other = trained_pullback_flow(host, "banana", {"points": 100}, "anisotropic", settings, 6)
    assert not torch.equal(variances_of(one), variances_of(other))


def test_a_flow_with_patience_is_held_to_the_validation_points(host: Host) -> None:
    """As every flow of the profile full is."""
    training = {"steps": 40, "validate_every": 1, "patience": 1, "learning_rate": 0.01}
    flow = trained_pullback_flow(host, "banana", {"points": 100}, "anisotropic", {"training": training}, 5)
    assert bool(variances_of(flow).isfinite().all())


STILL = {"training": {"steps": 0}}


def test_a_code_loses_what_a_pca_does_on_a_subspace(host: Host) -> None:
    """Started on principal axes and not trained, the flow is a PCA of its training points."""
    config = {"dimension": 1, "ambient": 3, "points": 500}
    flow = trained_pullback_flow(host, "hemisphere", config, "anisotropic", STILL, 0)
    points = source(host, "hemisphere", config, 0).load("train").x
    by_pca = pca_curve(points, [1])[0]
    assert claims_manifolds._lost(flow, points, 1) == pytest.approx(by_pca, rel=1e-3)
    assert by_pca > 1e-4


def test_middles_of_digits_that_are_not_moved_are_straight(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_digits, "DIGIT_FLOW", STILL)
    monkeypatch.setattr(claims_digits, "SEEDS", 1)
    monkeypatch.setattr(claims_digits, "DIGIT_PAIRS", 50)
    claims_digits._digit_middles.cache_clear()
    assert claims_digits.digit_middles(host, "quick", 9, way="ratio") == pytest.approx(1, abs=1e-4)
    assert 1 < claims_digits.digit_middles(host, "quick", 9, way="straight") < 2
    claims_digits._digit_middles.cache_clear()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_the_published_settings_can_be_built(host: Host, claim: Claim) -> None:
    """Trained for no step, since the profile full takes hours."""
    if "setting" in claim.options:
        chosen = claims_manifolds.FULL[str(claim.options["setting"])]
        AnisotropicConfig.model_validate(chosen.flow)
    elif claim.options.get("method") in claims_planes.METHODS:
        method = str(claim.options["method"])
        flow, config = claims_planes.METHODS[method]
        settings = {**claims_planes.settings(str(claim.options["data"]), method, "full"), **config}
        host.create(f"flow:{flow}", settings, data=host.create("data:banana"))
