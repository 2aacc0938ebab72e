"""Allocation from a pilot: the plan around existing labels, its loss, plans about as good, and warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from scorefold.results import Allocation, PlanRow
from scorefold_allocation.config import MetaConfig, OwnedConfig
from scorefold_allocation.search.grid import Limits, Threshold
from scorefold_allocation.search.trials import Trials
from scorefold_allocation.search.valley import Band, Valley
from scorefold_allocation.theory.report import remarks

_LISTED = 8  # trials in a sentence


@dataclass(frozen=True)
class BestSize:
    """The best labels a task at a budget: ``size`` with its ``band`` over resamples, ``loss_at`` a size, (D,), and the
    sizes between which plans are ``near`` it; ``gamma`` is the exponent of its growth where that was measured, and
    ``grows`` says that the size was extrapolated by it."""

    size: float
    band: Band
    loss_at: Callable[[float], Tensor]
    near: tuple[float, float]
    gamma: Band | None = None
    grows: bool = False


def pilot_report(
    config: MetaConfig,
    limits: Limits,
    trials: Trials,
    threshold: Threshold,
    valleys: list[Valley],
    best: BestSize,
    budget: int,
    worth: float,
) -> Allocation:
    """The allocation of ``budget`` labels, which with those that are owned are worth ``worth``."""
    kind, top = config.task_types[0], valleys[0]
    size = limits.nearest(best.size, worth)
    present = present_size(kind.owned)
    chosen = limits.nearest(size_to_keep(size, best.band, present), worth)

    def plan(labels: int) -> Purchase:
        return incremental_plan(kind.name, limits, labels, budget, kind.owned, config.leftovers)

    bought = plan(chosen)
    while bought.tasks < limits.min_tasks and chosen > limits.smallest:
        chosen -= limits.step
        bought = plan(chosen)
    if bought.tasks < limits.min_tasks:
        reason = f"a budget of {budget} does not pay for {limits.min_tasks} tasks with those that are owned"
        return Allocation("infeasible", (), budget, reason=reason)
    ends = sorted({limits.nearest(end, worth) for end in best.near} - {chosen})
    others = [other.rows for other in map(plan, ends) if other.tasks >= limits.min_tasks]
    loss = Band.of(best.loss_at(chosen))
    warnings = plan_warnings(config, limits, trials, threshold, valleys, best, worth)
    if chosen != size:
        warnings.append(_why_other(chosen, size, present))
    larger = sum(row.tasks for row in kind.owned if row.support + row.query > chosen)
    if larger:
        warnings.append(
            f"the loss is predicted as if all that is owned stood in tasks of {chosen} labels; {larger} owned tasks "
            "have more, so that it may be higher"
        )
    regret = None if config.present is None else top.regret(trials, limits, config.present, config.pilot)
    gamma = None if best.gamma is None else best.gamma.summary()
    diagnostics: dict[str, Any] = {
        "engine": "pilot",
        "regime": _regime(threshold, worth),
        "threshold": threshold.labels,
        "scan": threshold.summary(),
        "n": size,
        "band": [min(best.band.low, size), max(best.band.high, size)],
        "edge_share": min(1.0, sum(top.edge_shares)),
        "near_optimal": list(best.near),
        "gamma": gamma,
        "regret": None if regret is None else {"labels_per_task": config.present, **regret.summary()},
        "spent": float(budget - bought.left),
        "buy": [bought.buy],
        "measure": trials.measure,
        "pilot_labels": top.budget,
        "label_runs": trials.label_runs,
        "seeds": len(top.losses),
    }
    return Allocation(
        status="feasible",
        plan=bought.rows,
        leftover=bought.left,
        predicted_loss=loss.median,
        interval=(loss.low, loss.high),
        near_optimal=tuple(others),
        curve=curve_of(valleys),
        remarks=_equal(top) if top.is_flat else remarks(best.near, config.near, diagnostics["regret"]),
        warnings=tuple(warnings),
        diagnostics=diagnostics,
    )


def curve_of(valleys: list[Valley]) -> dict[str, list[float]]:
    """Trials by columns: budget, labels_per_task, tasks, loss, and its interval low to high."""
    rows = [row for valley in reversed(valleys) for row in valley.table]
    return {name: [row[name] for row in rows] for name in rows[0]}


def plan_warnings(
    config: MetaConfig,
    limits: Limits,
    trials: Trials,
    threshold: Threshold,
    valleys: list[Valley],
    best: BestSize,
    worth: float,
) -> list[str]:
    """Warnings about the plan, a sentence each."""
    top = valleys[0]
    warnings = [f"a trial failed: {failure}" for failure in trials.failures]
    if top.is_flat:
        warnings.append("every size tried gave the same loss: nothing separates them")
    elif top.ends[0] < top.ends[1]:
        beyond = (top.ends[0] > limits.smallest, top.ends[1] < limits.most(worth))
        for share, end, further, name in zip(top.edge_shares, top.ends, beyond, ("smallest", "largest"), strict=True):
            if share > 0.25:
                there = "the optimum may lie beyond" if further else "a limit on the labels of a task may hold it there"
                warnings.append(
                    f"{share:.0%} of the resamples are best at the {name} size tried, {end} labels: {there}"
                )
    if config.pilot.seeds == 1:
        warnings.append(
            "every size was tried with one seed, so that bands and intervals have no width: set pilot.seeds"
        )
    if worth > top.budget and threshold == Threshold():
        warnings.append("no training loss is reported, so it is not known whether the pilot is above the threshold")
    if threshold.labels is None and threshold.below is not None:
        warnings.append(
            "the learner interpolates its training tasks at this budget: the plan is good for no larger one"
        )
    if best.gamma is not None and best.grows:
        warnings.append(
            f"the best labels per task grow like the budget to the power {best.gamma.median:.2g} "
            f"({best.gamma.low:.2g} to {best.gamma.high:.2g}): the plan is extrapolated from {top.budget:g} labels "
            f"to {worth:g}"
        )
    elif worth > top.budget:
        warnings += _unseen_growth(best, worth / top.budget)
    return warnings


def _equal(top: Valley) -> tuple[str, ...]:
    low, high = top.ends
    return (f"Every size tried, from {low} to {high} labels per task, gave the same loss: each is as good.",)


def _why_other(chosen: int, best: int, present: int | None) -> str:
    """Reason why a plan's tasks have another size than the best plan."""
    if chosen == present:
        return "the size of the tasks that are owned is kept, being inside the band of the best one"
    return f"the budget does not pay for enough further tasks of {best} labels, the best size: they have {chosen}"


def _unseen_growth(best: BestSize, ratio: float) -> list[str]:
    """Growth that the pilot can't exclude, where it would take the optimum out of the near-optimal plans."""
    if best.gamma is None:
        return ["one budget was tried, so that it is not known whether the best labels per task grow with it"]
    grown = best.size * ratio ** max(0.0, best.gamma.high)
    if grown <= max(2 * best.size, best.near[1]):
        return []
    return [
        f"the best labels per task are taken as constant, and growth up to the budget to the power "
        f"{best.gamma.high:.2g} can't be excluded: by that they would be {grown:.0f}"
    ]


def _regime(threshold: Threshold, worth: float) -> str:
    if threshold == Threshold():
        return "unknown"
    if threshold.labels is None:
        return "over"
    return "under" if worth >= 4 * threshold.labels else "threshold"


def paid_for(trials: Trials) -> tuple[str, ...]:
    """The trials of a refused pilot, the first few one by one; empty without trials."""
    rows = list(zip(*trials.table().values(), strict=True))
    if not rows:
        return ()
    listed = "; ".join(
        f"{tasks} tasks of {support + query} labels: {trials.measure} {'not known' if test is None else f'{test:.4g}'}"
        for tasks, support, query, _, test, *_ in rows[:_LISTED]
    )
    more = f"; and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
    return (f"Tried until then ({trials.label_runs:,} labels over all trainings): {listed}{more}.",)


class Purchase(NamedTuple):
    """The ``rows`` of a plan, owned tasks too; what is ``left`` of the budget; what there is to ``buy``, as JSON."""

    rows: tuple[PlanRow, ...]
    left: int
    buy: dict[str, Any]

    @property
    def tasks(self) -> int:
        """The tasks of all rows together."""
        return sum(row.tasks for row in self.rows)


def budget_with_owned(budget: int, owned: Sequence[OwnedConfig], limits: Limits) -> float:
    """Worth of a budget and the existing labels: the budget that would buy both."""
    return budget + sum(row.tasks * limits.cost(row.support + row.query) for row in owned)


def size_to_keep(best: int, band: Band, present: int | None) -> int:
    """The labels a task to go on with: the present ones unless the band of the best ones excludes them."""
    return present if present is not None and band.holds(present) else best


def present_size(owned: Sequence[OwnedConfig]) -> int | None:
    """The size that most of the owned labels stand in, or None where there are none."""
    if not owned:
        return None
    biggest = max(owned, key=lambda row: row.tasks * (row.support + row.query))
    return biggest.support + biggest.query


def incremental_plan(
    name: str,
    limits: Limits,
    size: int,
    budget: int,
    owned: Sequence[OwnedConfig] = (),
    leftovers: Literal["spread", "keep"] = "keep",
) -> Purchase:
    """Tasks of ``size`` labels for a budget.

    Owned tasks are topped up first, as they need no new task, those that lack least before others; then new tasks are
    bought. What is left is kept, or spent on one more step of labels for as many of the new tasks as it pays.
    """
    cell = limits.cell(size, budget)
    left = float(budget)
    had: dict[tuple[int, int], int] = {}
    topped_up = []

    def add(support: int, query: int, tasks: int) -> None:
        had[support, query] = had.get((support, query), 0) + tasks

    for row in sorted(owned, key=lambda row: row.support + row.query, reverse=True):
        support, query = max(row.support, cell.support), max(row.query, cell.query)
        lacks = (support + query - row.support - row.query) * limits.label_cost
        filled = row.tasks if lacks == 0 else min(row.tasks, math.floor(left / lacks + 1e-9))
        add(support, query, filled)
        add(row.support, row.query, row.tasks - filled)
        left -= filled * lacks
        if filled and lacks:
            topped_up.append({"tasks": filled, "support": row.support, "query": row.query})
    room = math.inf if limits.max_tasks is None else limits.max_tasks - sum(had.values())
    new = int(min(limits.tasks(size, left), room))
    left -= new * limits.cost(size)
    buy = {"task_type": name, "new_tasks": new, "grown": topped_up}
    larger = size + limits.step
    if leftovers == "spread" and (limits.largest is None or larger <= limits.largest):
        step = limits.step * limits.label_cost
        grown = new if step == 0 else min(new, math.floor(left / step + 1e-9))
        more = limits.cell(larger, budget)
        add(more.support, more.query, grown)
        new, left = new - grown, left - grown * step
    add(cell.support, cell.query, new)
    rows = tuple(PlanRow(name, tasks, support, query) for (support, query), tasks in sorted(had.items()) if tasks)
    return Purchase(rows, math.floor(left + 1e-9), buy)
