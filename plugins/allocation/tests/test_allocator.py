"""Plans that can be bought: costs, limits, classes, owned labels, splits, leftovers; refusals, and diagnostics."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scorefold.errors import ConfigError
from scorefold.results import Allocation
from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.theory.report import remarks


def plan(budget: int, constraints: dict[str, Any] | None = None, **settings: Any) -> Allocation:
    return MetaAllocator(MetaConfig.model_validate(settings)).allocate(budget, constraints=constraints)


def spent(found: Allocation, **costs: tuple[float, float]) -> float:
    """What the rows cost, by type: cost of a task and of a label."""
    total = 0.0
    for row in found.plan:
        task, label = costs.get(row.task_type, (0.0, 1.0))
        total += row.tasks * (task + label * (row.support + row.query))
    return total


def loss(found: Allocation) -> float:
    assert found.predicted_loss is not None
    return found.predicted_loss


def test_costs_of_tasks_and_labels_are_kept_to() -> None:
    types = [{"name": "easy", "noise": 0.3, "task_cost": 7.0, "max_tasks": 9}, {"name": "hard", "label_cost": 2.5}]
    found = plan(2003, task_types=types)
    cost = spent(found, easy=(7.0, 1.0), hard=(0.0, 2.5))
    assert sum(row.tasks for row in found.plan if row.task_type == "easy") == 9
    assert found.leftover == math.floor(2003 - cost + 1e-9)
    assert found.diagnostics["spent"] == pytest.approx(cost)


def test_dear_tasks_get_more_labels() -> None:
    sizes = [plan(20_000, task_types=[{"task_cost": cost}]).diagnostics["n"] for cost in (0.0, 20.0, 200.0)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(("split", "step"), [("even", 10), ("fixed", 5), ("free", 5)])
def test_sizes_are_multiples_of_the_classes(split: str, step: int) -> None:
    found = plan(4001, task_types=[{"ways": 5}], split={"name": split, "support_share": 0.3})
    assert found.plan
    for row in found.plan:
        assert {row.support % 5, row.query % 5} == {0}
        assert min(row.support, row.query) > 0
        assert (row.support + row.query) % step == 0
        assert split != "even" or row.support == row.query
    assert spent(found) + found.leftover == 4001


def test_a_fixed_split_is_kept_to_within_a_class() -> None:
    found = plan(4000, split={"name": "fixed", "support_share": 0.25}, leftovers="keep")
    row = found.plan[0]
    assert abs(row.support - 0.25 * (row.support + row.query)) <= 0.5


def test_a_free_split_is_never_worse_than_an_even_one() -> None:
    for rate in (0.1, 0.2, 0.4):
        losses = [
            loss(plan(3000, linear={"rate": rate}, split={"name": name}, leftovers="keep")) for name in ("even", "free")
        ]
        assert losses[1] <= losses[0] + 1e-12


def test_limits_on_labels_and_tasks_hold() -> None:
    found = plan(5000, {"min_labels": 30, "max_labels": 50, "min_tasks": 3, "max_tasks": 20})
    assert sum(row.tasks for row in found.plan) <= 20
    assert all(30 <= row.support + row.query <= 50 for row in found.plan)
    assert any("the largest number of labels" in text for text in found.warnings)
    small = plan(5000, {"min_labels": 30})
    assert any("the smallest number of labels" in text for text in small.warnings)


def test_a_fixed_mix_buys_types_in_their_proportions() -> None:
    types = [{"name": "easy", "share": 2, "noise": 0.2}, {"name": "hard", "share": 3}]
    found = plan(4000, task_types=types, mix="fixed", leftovers="keep")
    tasks = {row.task_type: row.tasks for row in found.plan}
    assert tasks["easy"] * 3 == tasks["hard"] * 2 > 0


def test_leftovers_are_spread_where_that_helps_and_never_more_than_there_are() -> None:
    kept, spread = (plan(1007, leftovers=how) for how in ("keep", "spread"))
    assert len(kept.plan) == 1
    assert {row.support + row.query for row in spread.plan} == {10, 12}
    assert kept.leftover == 7
    assert spread.leftover == 1
    assert loss(spread) < loss(kept)


def test_owned_labels_cost_nothing_and_count() -> None:
    owned = [{"tasks": 30, "support": 5, "query": 5}]
    without, with_owned = plan(700), plan(700, task_types=[{"owned": owned}])
    assert spent(with_owned) + with_owned.leftover == 700 + 300
    assert loss(with_owned) < loss(without)
    assert loss(with_owned) == pytest.approx(loss(plan(1000)), rel=1e-3)
    assert with_owned.diagnostics["buy"] == [{"task_type": "task", "new_tasks": 70, "grown": []}]


def test_owned_tasks_grow_where_that_is_better_than_new_ones() -> None:
    owned = [{"tasks": 40, "support": 2, "query": 2}]
    found = plan(600, task_types=[{"owned": owned, "task_cost": 40.0}])
    (bought,) = found.diagnostics["buy"]
    assert bought["grown"] == [{"tasks": 40, "support": 2, "query": 2}]
    assert bought["new_tasks"] <= 3
    assert found.diagnostics["spent"] <= 600


def test_with_enough_owned_nothing_need_be_bought() -> None:
    found = plan(0, task_types=[{"owned": [{"tasks": 100, "support": 5, "query": 5}]}])
    assert found.status == "optimal"
    assert (found.plan[0].tasks, found.leftover) == (100, 0)
    assert found.diagnostics["buy"] == []


def test_more_of_everything_is_never_predicted_to_do_worse() -> None:
    losses = [loss(plan(budget)) for budget in (1000, 1001, 1500, 4000, 100_000)]
    assert losses == sorted(losses, reverse=True)


def test_labels_that_do_harm_are_held_back_where_that_is_allowed() -> None:
    settings: dict[str, Any] = {"linear": {"rate": 0.0}, "task_types": [{"noise": 1.0, "spread": 0.3}]}
    spending, holding = plan(36, **settings), plan(36, hold_back=True, **settings)
    assert any("hold_back" in text for text in spending.warnings)
    assert loss(holding) < loss(spending)
    assert holding.leftover > spending.leftover
    losses = [loss(plan(budget, hold_back=True, **settings)) for budget in (12, 24, 32, 48)]
    assert all(later <= former * 1.02 for former, later in pairwise(losses))


def test_near_the_threshold_the_formula_hands_over_to_simulation_and_says_so() -> None:
    found = plan(48, linear={"dimension": 10})
    assert found.diagnostics["engine"] == "monte-carlo"
    assert any("no closed form is valid" in text for text in found.warnings)
    assert found.interval is not None
    assert found.interval[0] < loss(found) < found.interval[1]


def test_where_every_plan_has_as_many_rows_as_weights_there_is_no_recommendation() -> None:
    found = plan(12, {"min_labels": 4, "max_labels": 4}, linear={"dimension": 6}, leftovers="keep")
    assert found.status == "refused"
    assert "finite expected loss" in found.reason
    assert "No recommendation" in found.text()


def test_simulation_agrees_with_the_formula_where_both_hold() -> None:
    settings: dict[str, Any] = {"linear": {"dimension": 8, "rate": 0.2}}
    formula, simulation = (plan(640, engine=engine, **settings) for engine in ("formula", "monte-carlo"))
    assert simulation.diagnostics["engine"] == "monte-carlo"
    assert formula.interval is not None
    assert formula.interval[0] <= loss(simulation) <= formula.interval[1]
    low, high = formula.diagnostics["band"]
    assert low <= simulation.diagnostics["n"] <= high


def test_simulation_is_the_same_from_the_same_generator() -> None:
    allocator = MetaAllocator(MetaConfig.model_validate({"engine": "monte-carlo", "linear": {"dimension": 5}}))
    one, other = (allocator.allocate(300, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.summary() == other.summary()


def test_the_diagnostics_hold_what_there_is_to_know() -> None:
    found = plan(2000, present=100)
    assert found.status == "optimal"
    diagnostics = found.diagnostics
    assert diagnostics["engine"] == "formula"
    assert diagnostics["regime"] == "under"
    assert diagnostics["threshold"] == pytest.approx(40.0)
    assert diagnostics["n"] == 10
    assert diagnostics["band"][0] <= 10 <= diagnostics["band"][1]
    assert diagnostics["gamma"]["low"] <= 0 <= diagnostics["gamma"]["high"]
    assert diagnostics["regret"]["labels_per_task"] == 100
    assert 0 < diagnostics["regret"]["low"] <= diagnostics["regret"]["median"] <= diagnostics["regret"]["high"]
    best = loss(found)
    for other in found.near_optimal:
        assert 0 < sum(row.tasks * (row.support + row.query) for row in other) <= 2000
    columns = found.curve
    assert set(columns) == {"budget", "labels_per_task", "tasks", "loss", "low", "high"}
    assert {500, 1000, 2000} == set(columns["budget"])
    assert (
        min(value for value, at in zip(columns["loss"], columns["budget"], strict=True) if at == 2000) >= best - 1e-12
    )
    json.dumps(found.summary(), allow_nan=False)
    assert found.csv().startswith("budget,labels_per_task,tasks,loss,low,high\n")


def test_tied_deployment_grows_the_exponent_to_a_half() -> None:
    tied = plan(100_000, linear={"rate": 0.3}, deployment={"labels": "tied", "rate": "training"})
    assert tied.diagnostics["gamma"]["median"] == pytest.approx(0.5, abs=0.03)
    assert plan(100_000, linear={"rate": 0.3}).diagnostics["gamma"]["median"] == 0


@pytest.mark.parametrize("budget", [-1, 2.5, True, float("nan"), "100"])
def test_budgets_that_are_none_are_refused(budget: Any) -> None:
    with pytest.raises(ConfigError, match="the budget is"):
        plan(budget)


@pytest.mark.parametrize(
    "constraints",
    [{"tasks": 3}, {"min_tasks": 0}, {"max_labels": 1}, {"max_tasks": 1.5}, {"min_tasks": 9, "max_tasks": 4}],
)
def test_constraints_that_are_none_are_refused(constraints: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        plan(100, constraints)


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected min <= max"):
        plan(100, {"min_labels": 30}, task_types=[{"max_labels": 20}])


@pytest.mark.parametrize(
    ("budget", "settings", "reason"),
    [
        (0, {}, "does not pay for 2 tasks of 2 labels"),
        (3, {}, "does not pay for 2 tasks of 2 labels"),
        (9, {"task_types": [{"ways": 5}], "min_tasks": 1}, "does not pay for a task of 10 labels"),
        (100, {"task_types": [{"task_cost": 60.0}]}, "does not pay"),
        (100, {"task_types": [{"max_tasks": 1}]}, "there are 1 tasks, and min_tasks is 2"),
    ],
)
def test_budgets_that_pay_for_no_plan_are_infeasible(budget: int, settings: dict[str, Any], reason: str) -> None:
    found = plan(budget, **settings)
    assert (found.status, found.plan, found.leftover) == ("infeasible", (), budget)
    assert reason in found.reason
    assert reason in found.text()


@pytest.mark.parametrize(
    "kind",
    [
        {"task_cost": -1.0},
        {"label_cost": -1.0},
        {"task_cost": math.inf},
        {"label_cost": math.nan},
        {"noise": math.nan},
        {"spread": -0.1},
        {"label_cost": 0.0},
        {"label_cost": 0.0, "max_labels": 10},
        {"min_labels": 10, "max_labels": 4},
        {"max_tasks": 2, "owned": [{"tasks": 3, "support": 1, "query": 1}]},
        {"ways": 5, "owned": [{"tasks": 3, "support": 5, "query": 1}]},
    ],
)
def test_types_without_a_bound_or_a_meaning_are_refused(kind: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MetaConfig.model_validate({"task_types": [kind]})


def test_free_labels_up_to_a_limit_are_taken() -> None:
    found = plan(50, task_types=[{"label_cost": 0.0, "task_cost": 1.0, "max_labels": 40}])
    assert sum(row.tasks for row in found.plan) == 50
    assert found.diagnostics["spent"] == 50


def test_the_engine_pilot_needs_something_to_try() -> None:
    with pytest.raises(ConfigError, match="nothing to try"):
        plan(100, engine="pilot")
    with pytest.raises(ConfigError, match="expected a function"):
        MetaAllocator(MetaConfig()).allocate(100, pilot=3)


def test_a_learner_comes_with_its_tasks() -> None:
    with pytest.raises(ConfigError, match="tried on tasks"):
        MetaAllocator(MetaConfig(), tasks=object())  # type: ignore[arg-type]


def test_deployments_that_no_loss_is_known_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="the best rate is known for one"):
        plan(100, deployment={"steps": 2})
    with pytest.raises(ConfigError, match="3 adaptation steps"):
        plan(100, deployment={"steps": 3, "rate": 0.1})


def test_the_curve_is_over_the_labels_of_new_tasks_whatever_is_owned() -> None:
    owned = {"task_cost": 5, "owned": [{"tasks": 30, "support": 10, "query": 10}]}
    plan = MetaAllocator(MetaConfig.model_validate({"task_types": [owned], "present": 100})).allocate(2000)
    assert plan.diagnostics["regret"]["labels_per_task"] == 100
    curve = zip(plan.curve["budget"], plan.curve["labels_per_task"], plan.curve["loss"], strict=True)
    sizes, losses = zip(*((size, loss) for budget, size, loss in curve if budget == 2000), strict=True)
    assert list(sizes) == sorted(set(sizes))
    low, high = plan.diagnostics["band"]
    inside = [loss for size, loss in zip(sizes, losses, strict=True) if low <= size <= high]
    assert max(inside) <= 1.021 * min(losses)  # one valley, in which all is near the least


@pytest.mark.parametrize("settings", [{}, {"linear": {"start_distance": 0.0}}])
def test_a_loss_of_0_has_no_regret_beside_it(settings: dict[str, Any]) -> None:
    found = plan(100, task_types=[{"noise": 0.0, "spread": 0.0}], present=20, **settings)
    assert loss(found) == 0
    assert found.diagnostics["regret"] is None
    json.dumps(found.summary(), allow_nan=False)


@pytest.mark.parametrize("present", [4, 1200, 600])
def test_sizes_that_are_not_allowed_get_no_regret_and_a_word_of_it(present: int) -> None:
    found = plan(1000, present=present, task_types=[{"min_labels": 20}])
    assert found.diagnostics["regret"] is None
    assert any(f"the regret of {present} labels per task" in text for text in found.warnings)
    allowed = plan(1000, present=20, task_types=[{"min_labels": 20}])
    assert allowed.diagnostics["regret"]["labels_per_task"] == 20


@pytest.mark.parametrize("kind", [{"ways": 5, "max_labels": 8}, {"min_labels": 3, "max_labels": 3}])
def test_sizes_that_no_split_has_are_refused(kind: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="such a task has"):
        plan(1000, task_types=[kind])


@pytest.mark.parametrize(
    ("constraints", "settings", "reason"),
    [
        ({"max_tasks": 2}, {"task_types": [{"owned": [{"tasks": 5, "support": 2, "query": 2}]}]}, "5 tasks are owned"),
        ({"max_tasks": 4}, {"task_types": [{"share": 5}, {"name": "b"}], "mix": "fixed"}, "no budget would do"),
        ({}, {"task_types": [{"share": 5, "max_tasks": 4}, {"name": "b"}], "mix": "fixed"}, "no budget would do"),
    ],
)
def test_limits_that_allow_no_plan_are_not_blamed_on_the_budget(
    constraints: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    found = plan(1000, constraints, **settings)
    assert (found.status, found.leftover) == ("infeasible", 1000)
    assert reason in found.reason


@pytest.mark.parametrize("engine", ["formula", "monte-carlo"])
def test_parts_of_the_budget_that_pay_for_nothing_are_not_simulated(engine: str) -> None:
    settings = {"linear": {"dimension": 3, "rate": 0.2}, "monte_carlo": {"max_designs": 50}}
    for budget in (4, 7, 10):
        assert plan(budget, engine=engine, hold_back=True, **settings).status in ("optimal", "feasible", "refused")


def test_shares_are_proportions() -> None:
    def types(*shares: int) -> list[dict[str, Any]]:
        return [{"name": name, "share": share} for name, share in zip("ab", shares, strict=False)]

    assert plan(1007, task_types=types(6, 9), mix="fixed").plan == plan(1007, task_types=types(2, 3), mix="fixed").plan
    alone = plan(6, task_types=types(3), mix="fixed", linear={"dimension": 40})
    assert sum(row.tasks for row in alone.plan) == sum(row.tasks for row in plan(6, linear={"dimension": 40}).plan)


def test_no_more_labels_are_predicted_to_do_worse_without_a_word() -> None:
    settings: dict[str, Any] = {"linear": {"dimension": 6, "rate": 0.2}, "task_types": [{"spread": 0.5}]}
    few, more = (plan(budget, monte_carlo={"max_designs": 300, "sizes": 6}, **settings) for budget in (4, 24))
    assert loss(more) > loss(few)
    assert any("do better" in text for text in more.warnings)


def test_a_recommendation_says_what_else_would_do_and_what_the_present_choice_loses() -> None:
    found = plan(2000, present=100)
    low, high = found.diagnostics["near_optimal"]
    said = f"From {low:.0f} to {high:.0f} labels per task the loss is at most 2% higher, and no higher than with 10%"
    assert f"{said} less budget." in found.text()
    assert f"The present 100 labels per task raise it by {found.diagnostics['regret']['median']:.1%} (" in found.text()
    assert remarks((6, 6), 0.02, None) == ("Other sizes raise the loss by more than 2%.",)
    same = {"labels_per_task": 100.0, "median": 0.002, "low": 0.00201, "high": 0.00204}
    assert remarks((6, 6), 0.02, same, fewer=0.1) == (
        "Other sizes raise the loss by more than 2%, or by more than a budget 10% smaller does.",
        "The present 100 labels per task raise it by 0.2%.",
    )
    assert "present" not in plan(2000).text()


def test_near_optimal_sizes_are_of_use_with_any_budget() -> None:
    """Nearly all of the loss is there whatever the plan: a share of it allows any size, a share of the labels few."""
    for budget in (2000, 2_000_000):
        found = plan(budget, linear={"dimension": 20, "rate": 0.4})
        low, high = found.diagnostics["near_optimal"]
        assert low < 10 < high <= 30
        at_ends = [
            loss(plan(budget, {"min_labels": int(end), "max_labels": int(end)}, linear={"dimension": 20, "rate": 0.4}))
            for end in (low, high)
        ]
        less = loss(plan(int(0.9 * budget), linear={"dimension": 20, "rate": 0.4}))
        assert max(at_ends) <= less + 1e-12
        wide = plan(budget, linear={"dimension": 20, "rate": 0.4}, near_budget=0.5)
        assert wide.diagnostics["near_optimal"][1] > high


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_of_the_budget_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValidationError, match="near_budget"):
        MetaConfig(near_budget=share)


def test_a_type_that_gets_no_tasks_is_named() -> None:
    types = [{"name": "easy", "noise": 0.1}, {"name": "hopeless", "noise": 30.0, "test_share": 0.01}]
    found = plan(4000, task_types=types)
    assert {row.task_type for row in found.plan} == {"easy"}
    assert "No tasks of type hopeless: labels are predicted to do more in the others." in found.text()
    assert "No tasks of type" not in plan(4000).text()
