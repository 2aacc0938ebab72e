"""Claims measured: the linear model's as they are, and by few steps where they train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import mean

import pytest
from claim_values import measured

from scorefold_allocation.claims import linear as claims_linear
from scorefold_allocation.claims import pilot as claims_online
from scorefold_allocation.claims import pilot as claims_pilot
from scorefold_allocation.claims import training as claims_training
from scorefold_allocation.plugin import scorefold_claims
from scorefold_registry import Host
from scorefold_registry.experiments.claims import within

CLAIMS = {claim.name: claim for claim in scorefold_claims() if "real" not in claim.profiles}
LONG = ("optimum-", "freezing-", "risk-25", "risk-leading", "easy-over")
"""Claims whose simulations take seconds: they are for the command."""
FORMULAS = [name for name, claim in CLAIMS.items() if claim.profiles[0] == "smoke" and not name.startswith(LONG)]
FORMULAS = [name for name in FORMULAS if not CLAIMS[name].target.endswith("moment_error")]


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_hold(host: Host, name: str) -> None:
    assert within(CLAIMS[name], measured(host, CLAIMS[name], "smoke"))


def test_numbers_that_belong_to_other_problems_are_separated_from_these(host: Host) -> None:
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
        profile: [measured(host, CLAIMS[name], profile, seed) for seed in range(6)] for profile in ("smoke", "long")
    }
    spread = {profile: max(found) - min(found) for profile, found in values.items()}
    assert 0 < spread["long"] < spread["smoke"]


def test_what_is_trained_or_tried_is_no_gate_unless_an_order_or_a_promise() -> None:
    measured_ones = [claim for claim in CLAIMS.values() if "smoke" not in claim.profiles]
    gates = {claim.name for claim in measured_ones if claim.role == "gate"}
    assert gates == {"calibration-coverage", "sinusoid-1000-edge", "digits-2000-edge"}


SKIPPED = {(table, budget) for table in ("sinusoid-tied", "digits") for budget in (1000, 2000)}
"""What other budgets and tables try as well."""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two updates, two budgets and two sizes, and a problem or two."""
    brief = {"updates": 2, "new_tasks": {"tasks": 3, "query": 10}, "validation": {"tasks": 0}}
    for name, table in claims_training.TABLES.items():
        new = {**table.learner["new_tasks"], **brief["new_tasks"]}  # type: ignore[dict-item]
        learner = {**table.learner, **brief, "new_tasks": new}
        sizes = {budget: (values[0], values[-1]) for budget, values in table.sizes.items()}
        small = claims_training.AllocationTable(table.source, learner, sizes, table.config, table.ways)
        monkeypatch.setitem(claims_training.TABLES, name, small)
    monkeypatch.setattr(claims_training, "_DIGITS", claims_training.TABLES["digits"].learner)
    monkeypatch.setattr(claims_training, "SEEDS", {"quick": 2, "long": 1})
    monkeypatch.setattr(claims_training, "MORE", {"quick": 1, "long": 1})
    monkeypatch.setattr(claims_training, "_DRAWS", 5)
    monkeypatch.setattr(claims_pilot, "PROBLEMS", {"quick": 1})
    caches = (claims_training._values, claims_pilot._summary)
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


def test_what_is_trained_or_tried_can_be_measured(host: Host, hasty: None) -> None:
    seen = set()
    for name, claim in CLAIMS.items():
        options = claim.options
        if "smoke" in claim.profiles or (options.get("table"), options.get("budget")) in SKIPPED:
            continue
        if "size" in options:
            size = claims_training.TABLES[str(options["table"])].sizes[int(options["budget"])][0]
            claim = replace(claim, options={**options, "size": size})
        if claim.target.endswith("ax_calibration") or ":online_" in claim.target:  # these have tests of their own
            continue
        value = measured(host, claim, claim.profiles[0])
        assert value == value, name
        seen.add(claim.target)
    assert len(seen) == 7


def test_rows_are_means_over_trainings_and_the_best_is_the_best_of_them(host: Host, hasty: None) -> None:
    options = {"table": "digits", "budget": 400}
    values = {size: claims_training._values(host, "quick", 0, "digits", 400, size) for size in (2, 64)}
    assert values[2][0] != values[2][1]
    assert claims_training.table_row(host, "quick", 0, size=2, **options) == pytest.approx(mean(values[2]))  # type: ignore[arg-type]
    best = claims_training.best_of_table(host, "quick", 0, **options)  # type: ignore[arg-type]
    assert best == max(values, key=lambda size: mean(values[size]))
    edge = claims_training.edge_of_table(host, "quick", 0, **options)  # type: ignore[arg-type]
    assert edge == pytest.approx(max(map(mean, values.values())) - mean(values[64]))


def test_an_exponent_is_the_slope_in_logarithms() -> None:
    assert claims_training._slope({100: 10.0, 10_000: 100.0, 1_000_000: 1000.0}) == pytest.approx(0.5)
    assert claims_training._slope({100: 8.0, 1000: 8.0}) == 0


def test_allocations_spend_the_budget(host: Host) -> None:
    """The tasks of every cell of the tables that were published come to their budget, to the nearest task."""
    for table in claims_training.TABLES.values():
        for budget, sizes in table.sizes.items():
            for size in sizes:
                labels = size * table.ways
                assert labels % 2 == 0
                assert abs(max(1, round(budget / labels)) * labels - budget) <= labels / 2


def test_ax_is_left_out_where_it_is_not_installed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = CLAIMS["ax-study-regret-ax-median"]
    monkeypatch.setattr(claims_pilot, "find_spec", lambda name: None)
    assert claims_pilot.ax_calibration(host, "quick", 0, **claim.options) is None  # type: ignore[arg-type]
    monkeypatch.setattr(claims_pilot, "find_spec", lambda name: object())
    monkeypatch.setattr(claims_pilot, "_with_ax", lambda profile, seed: {"ax: median regret": 0.25})
    assert measured(host, claim, "quick") == 0.25


def test_the_online_allocator_spends_what_it_has() -> None:
    tasks, labels = claims_online._walk(100, 0)
    assert tasks * labels <= 100
    assert min((tasks + 2) * labels, tasks * (labels + 2)) > 100
