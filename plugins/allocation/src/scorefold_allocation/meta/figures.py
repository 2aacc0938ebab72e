"""Figures of an allocation: the loss against labels per task at each budget, and the best labels per task by budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold.results import Allocation
from scorefold_toolkit.figures import allocation as rows_of_a_plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_HIGHEST = 10
"""Losses of more than so many times the least are cut off: what matters is the valley."""
_NEAR = 0.02
_STYLES = ("-", "--", ":", "-.")  # from the largest budget on
_MANY = 20  # points of a line beyond which they have no marks


class Line(NamedTuple):
    """A curve at one budget: labels per task, increasing, with the loss and its interval."""

    budget: float
    sizes: Sequence[float]
    loss: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    @property
    def best(self) -> float:
        """The size with the least loss."""
        return self.sizes[self.loss.index(min(self.loss))]

    @property
    def near(self) -> tuple[float, float]:
        """The smallest and the largest size whose loss is within 2 % of the least."""
        good = [n for n, loss in zip(self.sizes, self.loss, strict=True) if loss <= (1 + _NEAR) * min(self.loss)]
        return good[0], good[-1]


def allocation_figures(plan: Allocation) -> Mapping[str, Figure]:
    """Figures of the plan; the loss against labels per task at each budget, with bands, the near-optimal sizes and the
    plan's; and the best labels per task against the budget, where there are several, with the threshold.

    Nothing for an allocation without a plan, and the plan alone for one without a curve.
    """
    found = dict(rows_of_a_plan(plan))
    lines = lines_of(plan)
    if plan.plan and lines:
        found["labels per task"] = _valleys(plan, lines)
        if len(lines) > 1:
            found["budget"] = _optima(plan, lines)
    return found


def lines_of(plan: Allocation) -> list[Line]:
    """The curve of an allocation by budgets, the smallest first."""
    columns = ("budget", "labels_per_task", "loss", "low", "high")
    if not all(len(plan.curve.get(name, ())) for name in columns):
        return []
    points = sorted(zip(*(map(float, plan.curve[name]) for name in columns), strict=True))
    return [
        Line(budget, *zip(*(point[1:] for point in rows), strict=True))
        for budget, rows in groupby(points, key=lambda point: point[0])
    ]


def _valleys(plan: Allocation, lines: Sequence[Line]) -> Figure:
    figure, axes = new_figure(6.8, 4.6)
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        colour, style = ACCENT if last else INK, _STYLES[(len(lines) - 1 - number) % len(_STYLES)]
        axes.fill_between(line.sizes, line.low, line.high, color=ACCENT if last else SOFT, alpha=0.25, linewidth=0)
        mark = "o" if len(line.sizes) < _MANY else None
        name = f"{line.budget:,.0f} labels in all"
        axes.plot(line.sizes, line.loss, style, color=colour, marker=mark, markersize=3, linewidth=1.6, label=name)
    near, size = plan.diagnostics.get("near_optimal"), _size(plan)
    if near is not None:
        words = f"near-optimal: {near[0]:,.0f} to {near[1]:,.0f}"
        axes.axvspan(*near, color=WARM, alpha=0.1, linewidth=0, label=words)
    losses = [loss for line in lines for loss in line.loss]
    if plan.predicted_loss is not None and size is not None:
        named = f"the plan: {size:,g} labels per task"
        budget = _budget(plan, lines)
        if budget > 1.01 * lines[-1].budget:
            named += f", extrapolated to {budget:,.0f} labels in all"
        axes.plot([size], [plan.predicted_loss], "D", color=WARM, zorder=5, label=named)
        losses.append(plan.predicted_loss)
    least = min(losses)
    most = max(loss for loss in losses if loss <= _HIGHEST * least)
    if most > 3 * least:
        axes.set_ylim(0.85 * least, 1.15 * most)
        _log_axis(axes, "y")
    else:
        room = 0.08 * (most - least) or 0.1 * least
        axes.set_ylim(least - room, most + room)
    _log_axis(axes, "x")
    axes.set(xlabel="labels per task", ylabel="loss on new tasks")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def _optima(plan: Allocation, lines: Sequence[Line]) -> Figure:
    figure, axes = new_figure(6.4, 4.0)
    budgets, ends = [line.budget for line in lines], list(zip(*(line.near for line in lines), strict=True))
    axes.vlines(budgets, *ends, color=SOFT, linewidth=6, label="within 2 % of the least loss")
    axes.plot(budgets, [line.best for line in lines], "o-", color=ACCENT, label="least loss", markersize=5)
    if (size := _size(plan)) is not None:
        axes.plot(
            [_budget(plan, lines)], [size], "D", color=WARM, label=f"the plan: {size:,g} labels per task", zorder=5
        )
    threshold = plan.diagnostics.get("threshold")
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle=":", linewidth=1, label=f"threshold, {threshold:,.0f} labels")
    for name in ("x", "y"):
        _log_axis(axes, name)
    axes.set(xlabel="labels in all", ylabel="best labels per task")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def _size(plan: Allocation) -> float | None:
    """The labels of a task of the plan; None for an allocator that reports none."""
    found = plan.diagnostics.get("n")
    return None if found is None else float(found)


def _budget(plan: Allocation, lines: Sequence[Line]) -> float:
    """The budget of the plan, which a pilot's curve may not reach."""
    if plan.diagnostics.get("engine") != "pilot":
        return lines[-1].budget
    return plan.leftover + float(sum(row.tasks * (row.support + row.query) for row in plan.plan))


def _log_axis(axes: Axes, name: str) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    low, high = axis.get_view_interval()
    subs = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0) if high > 8 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
