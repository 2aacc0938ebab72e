"""Checks of allocators (``scorefold.interfaces.Allocator``)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from scorefold.errors import ConfigError
from scorefold.results import Allocation
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_refusal,
    require_within,
)

BUDGETS = (0, 1, 7, 100, *range(1003, 1010), 250_000)
STATUSES = ("optimal", "feasible", "infeasible", "refused")
OPTIMUM = 0.02
BUDGET = 6400


def _plan(subject: Subject, budget: int) -> Allocation:
    found: Allocation = subject.build().allocate(budget, generator=subject.generator("allocate"))
    return found


@check("within-budget", "allocator", level="contract")
def within_budget(subject: Subject) -> str:
    """The cost of a plan and its remainder add up to the budget, and neither is negative."""
    for budget in BUDGETS:
        found = _plan(subject, budget)
        cost = sum(row.tasks * (row.support + row.query) for row in found.plan)
        text = f"for {budget} labels the plan costs {cost} and leaves {found.leftover}"
        require(cost + found.leftover == budget and found.leftover >= 0, text, f"{budget} in all")
    return f"budgets {', '.join(map(str, BUDGETS))}"


@check("whole-numbers", "allocator", level="contract")
def whole_numbers(subject: Subject) -> str:
    """Plans count in whole numbers of at least 0."""
    for budget in BUDGETS:
        for row in _plan(subject, budget).plan:
            for name in ("tasks", "support", "query"):
                value = getattr(row, name)
                whole = isinstance(value, int) and not isinstance(value, bool)
                require(whole and value >= 0, f"for {budget} labels a row has {name} = {value!r}", "0, 1, 2 or so on")
    return f"budgets {', '.join(map(str, BUDGETS))}"


@check("infeasible-budget", "allocator", level="contract")
def infeasible_budget(subject: Subject) -> str:
    """No labels allow no plan: that is an infeasible allocation, not an error; more labels have a known status."""
    found = _plan(subject, 0)
    require(found.status == "infeasible", f"for 0 labels the status is {found.status!r}", "'infeasible'")
    require(not found.plan, f"for 0 labels there is a plan of {len(found.plan)} rows", "none")
    status = _plan(subject, BUDGETS[-1]).status
    require(status in STATUSES, f"the status is {status!r}", f"one of {', '.join(STATUSES)}")
    return f"0 labels: infeasible; {BUDGETS[-1]} labels: {status}"


@check("refuses-bad-budgets", "allocator", level="contract")
def refuses_bad_budgets(subject: Subject) -> str:
    """A negative budget and an unknown constraint are refused by a ConfigError."""
    allocator = subject.build()
    require_refusal("a budget of -1", ConfigError, lambda: allocator.allocate(-1))
    return require_refusal(
        "an unknown constraint", ConfigError, lambda: allocator.allocate(100, constraints={"no_such_constraint": 1})
    )


@check("allocation-told", "allocator", level="contract")
def allocation_reported(subject: Subject) -> str:
    """An allocation can be written as text and as JSON."""
    found = _plan(subject, 1000)
    text = str(found.text())
    require(bool(text.strip()), f"text() gives {text!r}", "words")
    json.dumps(found.summary(), allow_nan=False)
    return text


@check("loss-predicted", "allocator", level="numerics")
def loss_predicted(subject: Subject) -> str:
    """A loss that is predicted lies in its interval, and more labels are not predicted to do worse."""
    found = [_plan(subject, budget) for budget in (1003, 250_000)]
    losses = [plan.predicted_loss for plan in found if plan.predicted_loss is not None]
    if len(losses) < len(found):
        raise NotApplicableError("it predicts no loss")
    for plan, loss in zip(found, losses, strict=True):
        low, high = plan.interval or (loss, loss)
        require(low <= loss <= high, f"the interval of the loss is ({low:.4g}, {high:.4g})", f"one around {loss:.4g}")
    require(
        losses[1] <= losses[0],
        f"250 times the labels are predicted a loss of {losses[1]:.4g}",
        f"up to {losses[0]:.4g}",
    )
    return f"{losses[0]:.4g} and {losses[1]:.4g}"


@check("near-optimum", "allocator", level="numerics")
def near_optimum(subject: Subject) -> str:
    """Its plan for a ``Pilot`` with a known optimum is within 2 % of it; a baseline says in its summary that it is one.

    With n labels for each of m tasks and b = m n, the loss 4 / n + 1 / m is least at n = sqrt(4 b), where it is
    4 / sqrt(b): more labels a task the more there are. (400 / n^2 + 1) / m is least at n = 20, where it is 40 / b.
    """
    problems: tuple[tuple[str, Callable[[float, int], float], float], ...] = (
        ("4 / n + 1 / m", lambda n, m: 4 / n + 1 / m, 4 / math.sqrt(BUDGET)),
        ("(400 / n^2 + 1) / m", lambda n, m: (400 / n**2 + 1) / m, 40 / BUDGET),
    )
    return "; ".join(_near(subject, *problem) for problem in problems)


def _near(subject: Subject, name: str, loss: Callable[[float, int], float], least: float) -> str:
    asked = 0

    def pilot(tasks: int, support: int, query: int) -> float:
        nonlocal asked
        asked += 1
        return loss(support + query, tasks)

    plan = subject.build().allocate(BUDGET, pilot=pilot, generator=subject.generator("allocate")).plan
    if asked == 0:
        said = "baseline" in subject.component.summary.lower()
        require(said, "it asks the pilot nothing, and its summary does not say", "that it is a baseline")
        raise NotApplicableError("a baseline, as it says: it is held to its budget alone")
    tasks = sum(row.tasks for row in plan)
    require(tasks > 0, f"for {BUDGET} labels it plans {tasks} tasks", "one or more")
    found = sum(row.tasks * loss(row.support + row.query, tasks) for row in plan) / tasks
    return require_within(f"loss {name} is {found:.4g} for {least:.4g}, excess", found / least - 1, OPTIMUM)


CHECKS: tuple[Check, ...] = (
    within_budget,
    whole_numbers,
    infeasible_budget,
    refuses_bad_budgets,
    allocation_reported,
    loss_predicted,
    near_optimum,
)
