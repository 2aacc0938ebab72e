"""Warnings about a plan: each where it holds, and none for a plan without fault."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from known_pilots import Balanced, Failing, Known, Nothing, constant, swaying
from linear_cases import plan

from scorefold.results import Allocation
from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.search.grid import Limits, Threshold
from scorefold_allocation.search.procedure import run_pilot
from scorefold_allocation.search.report import BestSize, plan_warnings
from scorefold_allocation.search.trials import Trainee
from scorefold_allocation.search.valley import Band
from scorefold_allocation.theory.report import plan_rows

HARMFUL: dict[str, Any] = {"linear": {"rate": 0.0}, "task_types": [{"noise": 1.0, "spread": 0.3}]}
SIMULATED: dict[str, Any] = {
    "linear": {"dimension": 6, "rate": 0.2},
    "task_types": [{"spread": 0.5}],
    "monte_carlo": {"max_designs": 300, "sizes": 6},
}


def of_pilot(**changes: Any) -> list[str]:
    """The warnings of a pilot of 1600 labels that found 20 labels a task, for a budget of 1600 unless changed."""
    given: dict[str, Any] = {
        "seeds": 6,
        "failures": (),
        "is_flat": False,
        "edge_shares": (0.25, 0.25),
        "ends": (2, 80),
        "threshold": Threshold(128, 64),
        "gamma": None,
        "grows": False,
        "near": (10.0, 40.0),
        "worth": 1600.0,
        **changes,
    }
    top: Any = SimpleNamespace(budget=1600.0, **{name: given[name] for name in ("is_flat", "edge_shares", "ends")})
    trials: Any = SimpleNamespace(failures=given["failures"])
    best = BestSize(20.0, Band(20, 10, 40), lambda size: NotImplemented, given["near"], given["gamma"], given["grows"])
    config = MetaConfig(pilot={"seeds": given["seeds"], "first_seeds": 1})
    return plan_warnings(config, Limits(2, 80, 2), trials, given["threshold"], [top], best, given["worth"])


UNSURE, GROWING = Band(0.0, -0.2, 0.2), Band(0.5, 0.4, 0.6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"failures": ("3 tasks of 6 labels: no",)}, "a trial failed: 3 tasks of 6 labels: no"),
        ({"is_flat": True, "edge_shares": (1.0, 0.0)}, "every size tried gave the same loss"),
        ({"edge_shares": (0.26, 0.25)}, "26% of the resamples are best at the smallest size tried, 2 labels: a limit"),
        (
            {"edge_shares": (0.26, 0.0), "ends": (4, 80)},
            "smallest size tried, 4 labels: the optimum may lie beyond",
        ),
        ({"edge_shares": (0.25, 0.9)}, "90% of the resamples are best at the largest size tried, 80 labels: a limit"),
        ({"edge_shares": (0.0, 0.9), "ends": (2, 60)}, "the largest size tried, 60 labels: the optimum may lie beyond"),
        ({"edge_shares": (1.0, 1.0), "ends": (2, 2)}, None),
        ({"seeds": 1}, "every size was tried with one seed"),
        ({"threshold": Threshold()}, None),
        ({"threshold": Threshold(), "worth": 1601.0, "gamma": UNSURE}, "no training loss is reported"),
        ({"threshold": Threshold(None, 1024)}, "the learner interpolates its training tasks at this budget"),
        ({"threshold": Threshold(128)}, None),
        ({"gamma": GROWING, "grows": True, "worth": 160_000.0}, "to the power 0.5 (0.4 to 0.6)"),
        ({"gamma": GROWING, "grows": True, "worth": 160_000.0}, "from 1600 labels to 160000"),
        ({"worth": 1601.0}, "one budget was tried"),
        ({"gamma": Band(0.0, -0.2, 0.14), "worth": 160_000.0}, None),  # up to 100^0.14 = 1.9 times 20, below 40
        ({"gamma": UNSURE, "worth": 160_000.0}, "by that they would be 50"),
        ({"gamma": UNSURE, "worth": 160_000.0, "near": (10.0, 51.0)}, None),
        ({"gamma": Band(-0.3, -0.6, -0.1), "worth": 160_000.0}, None),
    ],
)
def test_a_pilot_is_warned_about(changes: dict[str, Any], said: str | None) -> None:
    found = of_pilot(**changes)
    assert found == [] if said is None else len(found) == 1 and said in found[0]


def tried(learner: Known, budget: int, **kind: Any) -> Allocation:
    config = MetaConfig(pilot={"labels": 1600}, **({"task_types": [kind]} if kind else {}))
    return run_pilot(config, Trainee(learner, Nothing()), budget)


@pytest.mark.parametrize(
    ("learner", "budget", "owned", "said"),
    [
        (Known(constant, 0.1), 1600, (), ()),
        (Balanced(swaying), 1440, (10, 16), ("the size of the tasks that are owned is kept",)),
        (
            Known(constant, 0.02),
            6,
            (1, 100),
            ("the budget does not pay for enough further tasks of 16 labels", "1 owned tasks have more"),
        ),
        (Known(constant, 0.02), 400, (10, 200), ("10 owned tasks have more",)),
    ],
)
def test_a_plan_beside_owned_tasks_is_warned_about(
    learner: Known, budget: int, owned: tuple[int, ...], said: tuple[str, ...]
) -> None:
    rows = [{"tasks": owned[0], "support": owned[1] // 2, "query": owned[1] // 2}] if owned else []
    found = tried(learner, budget, owned=rows).warnings
    about = [text for text in found if "owned" in text or "does not pay" in text]
    assert len(about) == len(said), found
    assert all(part in text for part, text in zip(said, about, strict=True))
    assert owned or found == ()


def test_trials_that_failed_are_named_and_no_others() -> None:
    refused = tried(Failing(constant, 1, raises=True), 1600)
    assert (refused.status, refused.plan) == ("refused", ())
    assert "800 tasks of 2 labels: the loss is not finite" in refused.warnings
    found = tried(Failing(constant, 100, raises=True), 1600)
    assert found.status == "feasible"
    failed = [re.search(r"tasks of (\d+) labels: the loss is not finite", text) for text in found.warnings]
    assert min(int(match[1]) for match in failed if match) > 100


@pytest.mark.parametrize(
    ("budget", "constraints", "settings", "said"),
    [
        (4000, {}, {}, []),
        (4000, {}, {"present": 20}, []),
        (5000, {"min_labels": 10, "max_labels": 12, "min_tasks": 400}, {}, ["the smallest number of labels, 10"]),
        (5000, {"min_labels": 30}, {}, ["the smallest number of labels, 30"]),
        (5000, {"min_labels": 4, "max_labels": 8}, {}, ["the largest number of labels, 8"]),
        (5000, {"max_labels": 30}, {}, []),
        (1000, {"min_labels": 6}, {"present": 4}, ["nothing is said of the regret of 4 labels per task"]),
        (36, {}, HARMFUL, ["as few tasks as may be, 2", "34 of 36 would do better, with a loss of 1.188"]),
        (36, {}, {**HARMFUL, "hold_back": True}, ["the smallest number of labels, 2"]),
        (
            24,
            {},
            SIMULATED,
            # Which of the two, simulations of another seed may say.
            [
                "no closed form is valid for 12 query labels .* 6 weights",
                "the smallest number of labels",
                "4 of 24 (might|would) do",
            ],
        ),
    ],
)
def test_a_plan_by_formula_is_warned_about(
    budget: int, constraints: dict[str, int], settings: dict[str, Any], said: list[str]
) -> None:
    known = {"linear": {"dimension": 20}, **settings}
    found = MetaAllocator(MetaConfig.model_validate(known)).allocate(budget, constraints=constraints).warnings
    assert len(found) == len(said), found
    assert all(re.search(part, text) for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({}, False),
        ({"task_types": [{"task_cost": 5}], "present": 10}, False),
        ({"linear": {"rate": 0.4}}, True),
        ({"task_types": [{"noise": 1.0}]}, True),
    ],
)
def test_a_plan_of_the_defaults_says_so(settings: dict[str, Any], known: bool) -> None:
    warnings = MetaAllocator(MetaConfig.model_validate(settings)).allocate(4000).warnings
    said = "the plan is for 20 weights, a spread of 1, noise 1 and an inner rate of 0.4"
    assert any(said in text for text in warnings) == (not known)


def test_a_plan_lists_a_type_with_a_single_task() -> None:
    config = MetaConfig.model_validate(SIMULATED)
    (row,) = plan_rows(config, plan((1, 3, 4), (0, 2, 2)))
    assert (row.tasks, row.support, row.query) == (1, 3, 4)
