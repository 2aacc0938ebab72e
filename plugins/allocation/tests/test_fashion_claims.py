"""The headline on images: what its leads compare, and that untrained networks pass none of its gates."""

from __future__ import annotations

from pathlib import Path

import pytest
from claim_values import measured

from scorefold.config import UNTRAINED
from scorefold_allocation.claims import fashion
from scorefold_allocation.plugin import scorefold_claims
from scorefold_registry import Host
from scorefold_registry.experiments.claims import within

GATES = [claim for claim in scorefold_claims() if claim.name.startswith("fashion-lead-")]
ACCURACIES = {0: 70.0, 2: 60.0, 4: 75.0, 8: 79.0, 16: 80.0, 32: 78.0, 64: 77.0, 800: 74.0}


@pytest.mark.parametrize(
    ("planned", "over", "lead"),
    [(8, "best", -1.0), (16, "best", 0.0), (8, "uniform", 19.0), (8, "all-in-one", 5.0), (0, "best", -10.0)],
)
def test_a_lead_is_between_the_plan_and_the_best_of_what_it_is_over(
    host: Host, monkeypatch: pytest.MonkeyPatch, planned: int, over: str, lead: float
) -> None:
    """A pilot that refuses buys nothing, and is left with the untrained network."""
    monkeypatch.setattr(fashion, "_source", lambda host, kinds: kinds)
    monkeypatch.setattr(fashion, "_planned", lambda host, source, seed: {4000: planned})
    monkeypatch.setattr(
        fashion, "_values", lambda host, source, seed, budget, size, name: (ACCURACIES[size] - 1, ACCURACIES[size] + 1)
    )
    assert fashion.plan_lead(host, "real", 0, budget=4000, over=over) == pytest.approx(lead)


def test_gates_are_three_for_each_budget() -> None:
    assert {(claim.options["budget"], claim.options["over"]) for claim in GATES if claim.role == "gate"} == {
        (budget, over) for budget in fashion.BUDGETS for over in ("best", "uniform", "all-in-one")
    }


def test_untrained_networks_pass_no_gate(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On digits in place of clothes, which every machine has."""
    digits = host.create("data:digits", {"limit": 600, "seed": 0})
    monkeypatch.setattr(fashion, "fashion_mnist", lambda host: digits)
    monkeypatch.setattr(fashion, "SIZES", (2, 4))
    monkeypatch.setattr(fashion, "BUDGETS", (160,))
    monkeypatch.setattr(fashion, "PILOT", {"labels": 80, "sizes": 3, "seeds": 2})
    brief = {
        name: {**config, "new_tasks": {"tasks": 2, "support": 5, "query": 5}}
        for name, config in fashion.LEARNERS.items()
    }
    monkeypatch.setattr(fashion, "LEARNERS", brief)
    monkeypatch.setenv(UNTRAINED, str(tmp_path / "log"))
    for cached in (fashion._source, fashion._planned, fashion._values):
        cached.cache_clear()
    for gate, expected in zip(GATES[:3], (-fashion.LEARNED, 0.0, 0.0), strict=True):
        lead = fashion.plan_lead(host, "real", 0, budget=160, over=str(gate.options["over"]))
        assert lead == pytest.approx(expected)
        assert not within(gate, lead)
    assert (tmp_path / "log").read_text()
    for cached in (fashion._source, fashion._planned, fashion._values):
        cached.cache_clear()


def test_claims_are_skipped_without_the_data_set(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "fashion_mnist", lambda host: None)
    fashion._source.cache_clear()
    found = {measured(host, claim, "real") for claim in scorefold_claims() if claim.name.startswith("fashion-")}
    fashion._source.cache_clear()
    assert found == {None}
