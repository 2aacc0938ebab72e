"""Allocation from the formula or a simulation: plan, loss, plans that are about as good, and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorefold.results import Allocation, PlanRow
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.search.valley import Band
from scorefold_allocation.theory.engines import Engine, JudgedPlan, parts
from scorefold_allocation.theory.formula import regime, risk, validity
from scorefold_allocation.theory.linear_model import Plans
from scorefold_allocation.theory.optimum import Lattice, lattice_of, log_axis
from scorefold_allocation.theory.purchase import Bought

_LINE = 40  # sizes of a curve
_SMALLER = (0.25, 0.5)  # parts of the budget that have a curve too
_NEAR_PLANS = 12
_GROWTH = 4  # times the budget, to see whether the optimum moves
_SIMULATED = "simulated designs, with tasks and label noise averaged in closed form; the interval is of 95 %"


def formula_report(engine: Engine, lattice: Lattice, best: JudgedPlan, warnings: list[str]) -> Allocation:
    """The allocation of the best plan (C = 1), whose loss is finite; ``warnings`` are there already."""
    config, budget = engine.config, lattice.budget
    plans = best.found.bought.plans
    line = engine.line(lattice, _sizes(engine, lattice))
    worth = worth_of(engine, lattice, config.near_budget)
    allowed = float(best.loss) + min(config.near * float(best.loss), math.inf if worth is None else worth)
    near = line.take((line.loss <= allowed).nonzero()[:, 0])
    n = float(sizes_of(config, plans))
    sizes = [n, *sizes_of(config, near.found.bought.plans).tolist()]
    band = [min(sizes), max(sizes)]
    behind = plan_regret(engine, lattice, best)
    if config.present is not None and behind is None:
        reason = "the limits or the budget do not allow them, or a loss is 0 or not known"
        warnings = [*warnings, f"nothing is said of the regret of {config.present} labels per task: {reason}"]
    diagnostics: dict[str, Any] = {
        "engine": engine.name,
        "regime": regime(engine.problem, plans),
        "threshold": float((plans.tasks * (plans.support + plans.query)).sum() / plans.rows) * engine.problem.dimension,
        "n": n,
        "band": band,
        "near_optimal": band,
        "gamma": None if engine.generator else growth(engine, lattice, n),
        "regret": behind,
        "excess": float(best.excess),
        "spent": float(best.found.bought.cost),
        "buy": purchases(config, best.found.bought),
        "weighting": config.weighting,
        "notes": [_SIMULATED if engine.generator else validity(engine.problem, risk(engine.problem, plans))],
    }
    return Allocation(
        status="feasible" if engine.generator else "optimal",
        plan=plan_rows(config, plans),
        leftover=math.floor(budget - float(best.found.bought.cost) + 1e-6),
        predicted_loss=float(best.loss),
        interval=(float(best.low), float(best.high)),
        near_optimal=others(config, near, plan_rows(config, plans)),
        curve=loss_curve(engine, lattice, line),
        remarks=(
            *without_tasks(config, plans),
            *remarks(band, config.near, diagnostics["regret"], fewer=None if worth is None else config.near_budget),
        ),
        warnings=(*warnings, *edges(lattice, best), *less(engine, lattice, best)),
        diagnostics=diagnostics,
    )


def worth_of(engine: Engine, lattice: Lattice, share: float) -> float | None:
    """The increase of the least loss if this share of the budget were missing, by closed form; None where that
    is not known, and where it would not be higher."""
    closed = Engine(engine.config, engine.problem)
    whole, part = (
        closed.best(lattice_of(engine.config, lattice.bounds, left * lattice.budget)) for left in (1.0, 1 - share)
    )
    worth = float(part.loss - whole.loss)
    return worth if math.isfinite(worth) and worth > 0 and bool(whole.high.isfinite() & part.high.isfinite()) else None


def plan_rows(config: MetaConfig, plans: Plans) -> tuple[PlanRow, ...]:
    """The rows of a plan (C = 1), with tasks of one type and size in one row, largest types of the config first."""
    had: dict[tuple[int, int, int], int] = {}
    columns = (plans.kinds, *(column[0] for column in plans[1:]))
    for kind, tasks, support, query in zip(*(column.tolist() for column in columns), strict=True):
        if tasks > 0:
            key = (int(kind), int(support), int(query))
            had[key] = had.get(key, 0) + round(tasks)
    return tuple(
        PlanRow(config.task_types[kind].name, tasks, support, query)
        for (kind, support, query), tasks in sorted(had.items())
    )


def without_tasks(config: MetaConfig, plans: Plans) -> tuple[str, ...]:
    """A sentence that names the types of task of which a plan (C = 1) has none; nothing where it has some of each."""
    had = {row.task_type for row in plan_rows(config, plans)}
    none = [kind.name for kind in config.task_types if kind.name not in had]
    if not none:
        return ()
    return (f"No tasks of type {', '.join(none)}: labels are predicted to do more in the others.",)


def purchases(config: MetaConfig, bought: Bought) -> list[dict[str, Any]]:
    """Purchases per type: new tasks, and owned tasks that get more labels, by the labels that they have."""
    purchased: list[dict[str, Any]] = []
    place = 0
    for i, kind in enumerate(config.task_types):
        grown = []
        for row in kind.owned:
            if (count := int(bought.grown[0, place])) > 0:
                grown.append({"tasks": count, "support": row.support, "query": row.query})
            place += 1
        if (new := int(bought.new[0, i])) > 0 or grown:
            purchased.append({"task_type": kind.name, "new_tasks": new, "grown": grown})
    return purchased


def sizes_of(config: MetaConfig, plans: Plans) -> Tensor:
    """n, (C,): the labels of a new task before leftovers are spread, on average over types; of any task where none is
    new."""
    labels, kinds = plans.support + plans.query, len(config.task_types)
    new = plans.tasks.clone()
    new[:, kinds:] = 0
    counted = torch.where(new.sum(-1, keepdim=True) > 0, new, plans.tasks)
    return (counted * labels).sum(-1) / counted.sum(-1)


def others(config: MetaConfig, near: JudgedPlan, chosen: tuple[PlanRow, ...]) -> tuple[tuple[PlanRow, ...], ...]:
    """Up to a dozen near-optimal plans besides the chosen one, evenly spread over their sizes."""
    count = len(near.loss)
    places = sorted({round(i * (count - 1) / (_NEAR_PLANS - 1)) for i in range(_NEAR_PLANS)}) if count else []
    plans = [plan_rows(config, near.found.bought.plans.take(torch.tensor([place]))) for place in places]
    return tuple(plan for plan in plans if plan != chosen)


def loss_curve(engine: Engine, lattice: Lattice, line: JudgedPlan) -> dict[str, list[float]]:
    """Loss and its interval against the labels of a new task, of about one size for every type; with parts of
    the budget where the closed form judges, and is valid."""
    budgets = [(lattice.budget, line)]
    if engine.generator is None:
        for part in _SMALLER:
            smaller = lattice_of(engine.config, lattice.bounds, math.floor(part * lattice.budget))
            budgets.insert(0, (smaller.budget, engine.line(smaller, _sizes(engine, smaller))))
    columns: dict[str, list[float]] = {
        name: [] for name in ("budget", "labels_per_task", "tasks", "loss", "low", "high")
    }
    for budget, judged in sorted(budgets, key=lambda pair: pair[0]):
        # Sizes too large for a single new task are no points of the curve, unless none is to be bought at all.
        bought = judged.found.bought.new.sum(-1) > 0
        shown = bought if bool(bought.any()) else ~bought
        known = (shown & judged.loss.isfinite() & judged.low.isfinite() & judged.high.isfinite()).nonzero()[:, 0]
        kept = judged.take(known)
        plans = kept.found.bought.plans
        points = (sizes_of(engine.config, plans), plans.tasks.sum(-1), kept.loss, kept.low, kept.high)
        columns["budget"] += [budget] * len(known)
        for name, values in zip(list(columns)[1:], points, strict=True):
            columns[name] += values.tolist()
    return columns


def growth(engine: Engine, lattice: Lattice, n: float) -> dict[str, float] | None:
    """The exponent of the best labels per task between this budget and a larger one, by closed form; the interval is
    what whole numbers leave open. None where the closed form is not valid."""
    larger = engine.best(lattice_of(engine.config, lattice.bounds, _GROWTH * lattice.budget))
    if not bool(larger.loss.isfinite() & larger.high.isfinite()):
        return None
    later = float(sizes_of(engine.config, larger.found.bought.plans))
    half = float(lattice.step.max()) / 2
    ratios = (later / n, (later - half) / (n + half), (later + half) / max(n - half, 0.5))
    return Band(*(math.log(ratio) / math.log(_GROWTH) for ratio in ratios)).summary()


def plan_regret(engine: Engine, lattice: Lattice, best: JudgedPlan) -> dict[str, float] | None:
    """The relative increase of the loss with the present labels per task; None without any, where
    bounds or budget do not allow them, and where either loss is not known or the least is 0."""
    present = engine.config.present
    if present is None or not bool(((lattice.least <= present) & (present <= lattice.most)).any()):
        return None
    found = engine.line(lattice, torch.tensor([float(present)], dtype=torch.float64))
    if len(found.loss) == 0 or not bool(found.high.isfinite() & (best.low > 0)):
        return None
    loss, low, high = (float(column) for column in (found.loss, found.low, found.high))
    # A closed form errs to the same side for both plans; simulations err by chance.
    ends = (best.low, best.high) if engine.generator is None else (best.high, best.low)
    excess = (loss / float(best.loss) - 1, *sorted((low / float(ends[0]) - 1, high / float(ends[1]) - 1)))
    band = Band(excess[0], min(excess), max(excess))
    return {"labels_per_task": float(sizes_of(engine.config, found.found.bought.plans)), **band.summary()}


def remarks(
    near: Sequence[float], share: float, regret: Mapping[str, float] | None, *, fewer: float | None = None
) -> tuple[str, ...]:
    """Sentences for the near-optimal labels per task (low, high), which lose ``share`` or less, and no more than the
    share ``fewer`` of the budget is worth, where that is known; and for the regret of the present labels per task,
    relative to the least loss."""
    low, high = (f"{size:,.0f}" for size in near)
    if low == high:
        also = "" if fewer is None else f", or by more than a budget {fewer:.0%} smaller does"
        said = [f"Other sizes raise the loss by more than {share:.0%}{also}."]
    else:
        also = "" if fewer is None else f", and no higher than with {fewer:.0%} less budget"
        said = [f"From {low} to {high} labels per task the loss is at most {share:.0%} higher{also}."]
    if regret is not None:
        size, median, ends = regret["labels_per_task"], regret["median"], (regret["low"], regret["high"])
        least, most = (f"{end:.1%}" for end in ends)
        between = "" if least == most else f" ({least} to {most})"
        said.append(f"The present {size:,.0f} labels per task raise it by {median:.1%}{between}.")
    return tuple(said)


def edges(lattice: Lattice, best: JudgedPlan) -> list[str]:
    """Bounds that the best plan leans on."""
    plans, leaning = best.found.bought.plans, []
    if float(plans.tasks.sum()) == lattice.bounds.min_tasks:
        leaning.append(
            f"the best plan has as few tasks as may be, {lattice.bounds.min_tasks}: fewer might be better still"
        )
    for place, kind in enumerate(lattice.config.task_types):
        if float(plans.tasks[0, place]) == 0:
            continue
        size = float(plans.support[0, place] + plans.query[0, place])
        if size == float(lattice.least[place]):
            leaning.append(f"tasks of type {kind.name} have the smallest number of labels, {size:g}")
        elif lattice.bounds.labels[place][1] is not None and size + float(lattice.step.min()) > lattice.most[place]:
            leaning.append(f"tasks of type {kind.name} have the largest number of labels, {size:g}")
    return leaning


def less(engine: Engine, lattice: Lattice, best: JudgedPlan) -> list[str]:
    """A warning where part of the budget is predicted to do better than all of it, as it is around N = p."""
    closed = Engine(engine.config, engine.problem)
    if engine.config.hold_back or float(best.found.bought.plans.rows) > 4 * engine.problem.dimension:
        return []
    for smaller in parts(lattice):
        other = closed.best(smaller)
        if bool(other.high.isfinite()) and float(other.loss) < float(best.loss):
            does = "would" if float(other.high) < float(best.low) else "might"
            gain = f"{smaller.budget:g} of {lattice.budget:g} {does} do better, with a loss of {float(other.loss):.4g}"
            rows = f"around {engine.problem.dimension} query labels, one a weight"
            return [f"{gain}: {rows}, more of them do harm (hold_back: true leaves the rest unspent)"]
    return []


def _sizes(engine: Engine, lattice: Lattice) -> Tensor:
    """Labels per task of a curve, from the smallest that a type may have to the largest."""
    count = _LINE if engine.generator is None else engine.config.monte_carlo.sizes
    low, high = float(lattice.least.min()), float(lattice.most.max())
    return log_axis(low, max(low, high), float(lattice.step.min()), count)
