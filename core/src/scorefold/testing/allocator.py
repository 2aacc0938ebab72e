"""Laws of allocators (``scorefold.interfaces.Allocator``)."""

from __future__ import annotations

import json

from scorefold.errors import ConfigError
from scorefold.testing.contract import Law, Subject, law, require, require_refusal

BUDGETS = (0, 1, 7, 100, 1003, 250_000)
STATUSES = ("optimal", "feasible", "infeasible")


@law("within-budget", "allocator")
def within_budget(subject: Subject) -> str:
    """What a plan costs and what it leaves add up to the budget, and neither is negative."""
    allocator = subject.build()
    for budget in BUDGETS:
        found = allocator.allocate(budget, generator=subject.generator("allocate"))
        cost = sum(row.tasks * (row.support + row.query) for row in found.plan)
        text = f"for {budget} labels the plan costs {cost} and leaves {found.leftover}"
        require(cost + found.leftover == budget and found.leftover >= 0, text)
    return f"budgets {', '.join(map(str, BUDGETS))}"


@law("whole-numbers", "allocator")
def whole_numbers(subject: Subject) -> str:
    """Plans count in whole numbers of at least 0."""
    allocator = subject.build()
    for budget in BUDGETS:
        found = allocator.allocate(budget, generator=subject.generator("allocate"))
        for row in found.plan:
            for name in ("tasks", "support", "query"):
                value = getattr(row, name)
                whole = isinstance(value, int) and not isinstance(value, bool)
                require(whole and value >= 0, f"for {budget} labels a row has {name} = {value!r}")
    return f"budgets {', '.join(map(str, BUDGETS))}"


@law("infeasible-budget", "allocator")
def infeasible_budget(subject: Subject) -> str:
    """No labels allow no plan: that is an infeasible allocation, not an error; more labels have a known status."""
    allocator = subject.build()
    found = allocator.allocate(0, generator=subject.generator("allocate"))
    require(found.status == "infeasible", f"for 0 labels the status is {found.status!r}; expected 'infeasible'")
    require(not found.plan, f"for 0 labels there is a plan of {len(found.plan)} rows")
    status = allocator.allocate(BUDGETS[-1], generator=subject.generator("allocate")).status
    require(status in STATUSES, f"the status is {status!r}; expected one of {', '.join(STATUSES)}")
    return f"0 labels: infeasible; {BUDGETS[-1]} labels: {status}"


@law("refuses-bad-budgets", "allocator")
def refuses_bad_budgets(subject: Subject) -> str:
    """A negative budget and an unknown constraint are refused by a ConfigError."""
    allocator = subject.build()
    require_refusal("a budget of -1", ConfigError, lambda: allocator.allocate(-1))
    return require_refusal(
        "an unknown constraint", ConfigError, lambda: allocator.allocate(100, constraints={"no_such_constraint": 1})
    )


@law("allocation-told", "allocator")
def allocation_told(subject: Subject) -> str:
    """An allocation can be told in words and in JSON."""
    found = subject.build().allocate(1000, generator=subject.generator("allocate"))
    text = str(found.text())
    require(bool(text.strip()), "text() is empty")
    json.dumps(found.summary(), allow_nan=False)
    return text


LAWS: tuple[Law, ...] = (within_budget, whole_numbers, infeasible_budget, refuses_bad_budgets, allocation_told)
