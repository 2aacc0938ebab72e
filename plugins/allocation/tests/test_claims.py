"""Claims measured: those of the linear model as they are, those that train by few steps."""

from __future__ import annotations

from importlib import import_module

import pytest

from scorefold.plugin import Claim
from scorefold_allocation import claims_linear
from scorefold_allocation.claim_list import allocation_claims
from scorefold_registry import Host
from scorefold_registry.reproduction import within

CLAIMS = {claim.name: claim for claim in allocation_claims()}
LONG = ("optimum-", "freezing-", "risk-25", "risk-leading", "easy-over")
"""Claims whose simulations take seconds: they are for the command."""
LAWS = [name for name, claim in CLAIMS.items() if claim.profiles[0] == "smoke" and not name.startswith(LONG)]


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.discover()


def measured(host: Host, claim: Claim, profile: str, seed: int = 0) -> float:
    module, function = claim.target.split(":")
    found: float = getattr(import_module(module), function)(host, profile, seed, **claim.options)
    return found


def test_names_are_claimed_once() -> None:
    assert len(CLAIMS) == len(list(allocation_claims()))


@pytest.mark.parametrize("name", LAWS)
def test_laws_hold(host: Host, name: str) -> None:
    assert CLAIMS[name].role == "gate"
    assert within(CLAIMS[name], measured(host, CLAIMS[name], "smoke"))


def test_numbers_that_belong_to_other_problems_are_told_from_these(host: Host) -> None:
    """A table of which every row held whatever it was given would say nothing."""
    for one, other in (
        ("growth-tied-labels", "growth-fixed-labels"),
        ("share-rate-0-4-noise-1", "share-rate-0-4-noise-10"),
        ("limit-rate-0-4-weights-20", "limit-rate-0-2-weights-20"),
        ("uniform-4-12-pooled", "uniform-8-8-pooled"),
        ("easy-under-pooled", "easy-under-task-mean"),
        ("single-task-1", "single-task-18"),
        ("threshold-36", "threshold-48"),
    ):
        value = measured(host, CLAIMS[one], "smoke")
        assert within(CLAIMS[one], value)
        assert not within(CLAIMS[other], value)


def test_a_wrong_solution_is_found_by_its_gradient(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    solve = claims_linear.meta_solution
    monkeypatch.setattr(claims_linear, "meta_solution", lambda tasks, start: solve(tasks, start) + 1e-6)
    assert not within(CLAIMS["solution-gradient"], measured(host, CLAIMS["solution-gradient"], "smoke"))


def test_a_profile_that_is_worth_more_is_more_exact(host: Host) -> None:
    name = "uniform-8-8-pooled"
    values = {
        profile: [measured(host, CLAIMS[name], profile, seed) for seed in range(6)] for profile in ("smoke", "full")
    }
    spread = {profile: max(found) - min(found) for profile, found in values.items()}
    assert 0 < spread["full"] < spread["smoke"]
