"""Results of estimators and allocators."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.artefacts import csv_text
from scorefold.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Estimate:
    """An estimated quantity with its uncertainty.

    ``value`` is the estimate over all points and ``interval`` its confidence interval (low, high) at ``level`` in (0,
    1). ``covers`` names what the interval is about where it is not all uncertainty: with "points" it is printed as a
    spread over points, which says nothing of another training or scale.

    ``value`` is None where the data or the model support no single number. Then there is no ``interval`` either, and
    ``headline`` is printed in its place: "3 to 46, depending on the scale; no single dimension".

    ``pointwise`` (N,) holds the estimate at each point, ``spectrum`` (M, D) the spectra at M chosen points. Diagnostics
    are numbers, strings, lists, mappings of these, and tensors. Verdicts print some of them: ``note``, a line on what
    the value means; ``scale``, the scale of the data that was read; ``warnings``, reasons not to rely on the value;
    ``advice``, what to do next. ``index`` (n,) holds the positions of the points of ``pointwise`` where these are not
    all. With ``row`` (n,) in its place ``pointwise`` has an entry for each row of the source, NaN for others. Raises
    ``ValueError`` for a value or an end of the interval that is not finite, an interval from high to low, a level that
    is not in (0, 1), and a value of None with an interval or without a headline.

    >>> print(Estimate("intrinsic dimension", 2.04, interval=(1.9, 2.2)).text())
    intrinsic dimension 2.04 (95% interval 1.9 to 2.2)
    """

    quantity: str
    value: float | None
    interval: tuple[float, float] | None = None
    level: float = 0.95
    pointwise: Tensor | None = None
    spectrum: Tensor | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    headline: str = ""
    covers: str = ""

    def __post_init__(self) -> None:
        if self.value is None and (self.interval is not None or not self.headline):
            raise ValueError(f"{self.quantity}: given no value; expected a headline, and no interval")
        for number in () if self.value is None else (self.value, *(self.interval or ())):
            if not hasattr(number, "__float__") or getattr(number, "ndim", False):
                raise ValueError(f"{self.quantity}: given {number!r:.60}; expected a number, or a tensor that is one")
            if not isfinite(number):
                raise ValueError(f"{self.quantity}: given {number}; expected a finite number, or None and a headline")
        if self.interval is not None and (len(self.interval) != 2 or self.interval[0] > self.interval[1]):
            raise ValueError(f"{self.quantity}: given the interval {self.interval}; expected (low, high)")
        if not (isinstance(self.level, float) and 0 < self.level < 1):
            raise ValueError(
                f"{self.quantity}: given the level {self.level}; expected a number in (0, 1), such as 0.95"
            )
        for name in ("pointwise", "spectrum"):
            if not isinstance(found := getattr(self, name), Tensor | None):
                raise ValueError(f"{self.quantity}: {name} is a {type(found).__name__}; expected a tensor, or None")

    def number(self) -> float:
        """The value, for callers who cannot go on without one. Raises ``DataError`` where there is none."""
        if self.value is None:
            raise DataError(f"{self.quantity}: {self.headline}")
        return self.value

    def interval_name(self) -> str:
        """Printed name of the interval: "95% interval", or "95% spread over points"."""
        return f"{self.level:.0%} " + (f"spread over {self.covers}" if self.covers else "interval")

    def text(self) -> str:
        """The estimate in a line: the headline where there is no value, else the value and its interval."""
        if self.value is None:
            return f"{self.quantity}: {self.headline}"
        ends = "" if self.interval is None else " to ".join(f"{end:.4g}" for end in self.interval)
        return f"{self.quantity} {self.value:.4g}" + (f" ({self.interval_name()} {ends})" if ends else "")

    def with_warnings(self, warnings: Sequence[str]) -> Estimate:
        """The same estimate with these warnings before its own."""
        if not warnings:
            return self
        own = self.diagnostics
        return replace(self, diagnostics={**own, "warnings": [*warnings, *own.get("warnings", ())]})

    def summary(self) -> dict[str, Any]:
        """The estimate as JSON: quantity, value, interval, level, headline, covers, and the diagnostics that aren't
        tensors. ``value`` is null where there is none."""
        plain = {name: value for name, value in self.diagnostics.items() if not isinstance(value, Tensor)}
        found = {name: getattr(self, name) for name in ("quantity", "value", "interval", "level", "headline", "covers")}
        return {**found, "interval": self.interval and list(self.interval), "diagnostics": plain}

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of the estimate by name: pointwise, spectrum, and the diagnostics that are tensors."""
        found = {**self.diagnostics, "pointwise": self.pointwise, "spectrum": self.spectrum}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def plot(self, ax: Axes | None = None) -> Figure:
        """The histogram over points, with the value and its interval, in ``ax`` or in a new figure; the value alone
        without points. Raises ``ScorefoldError`` where matplotlib is missing.
        """
        from scorefold.plotting import ACCENT, SOFT, new_figure

        figure, axes = new_figure(ax=ax)
        values = torch.empty(0) if self.pointwise is None else self.pointwise.detach().cpu().double()
        values = values[torch.isfinite(values)]
        if len(values):
            whole = bool((values == values.round()).all()) and float(values.max() - values.min()) < 200
            low, high = float(values.min()), float(values.max())
            bins: int | list[float] = max(8, min(40, len(values) // 4))
            if whole:
                bins = [low - 0.5 + step for step in range(int(high - low) + 2)]
            if high - low <= 1e-6 * max(-low, high):  # the same at all points up to rounding, too narrow for bins
                bins = [low - 0.5, high + 0.5]
            axes.hist(values.numpy(), bins=bins, color=SOFT, label=f"{len(values)} points")
            axes.set_ylabel("points")
            axes.locator_params(axis="y", integer=True)
            if high - low < 3 and max(-low, high) > 0.1:  # few bars are no wider than the others
                axes.set_xlim(low - 2.5, high + 2.5)
            axes.locator_params(axis="x", integer=whole or high - low >= 3)
        else:
            axes.set_yticks([])
            axes.margins(x=0.5)
        if self.value is not None:
            label = f"{self.quantity} {self.value:.4g}"
            if self.interval is not None:
                low, high = self.interval
                axes.axvspan(low, high, color=ACCENT, alpha=0.15, linewidth=0)
                over = f" over {self.covers}" if self.covers else ""
                label += f"  ({100 * self.level:g}%{over}: {low:.4g} to {high:.4g})"
            axes.axvline(self.value, color=ACCENT, linewidth=2, label=label)
        else:
            axes.plot([], [], " ", label=textwrap.fill(self.headline, 44))
        if (self.value is None or self.value >= 0) and not (len(values) and float(values.min()) < 0):
            axes.set_xlim(left=-0.75 if len(values) and float(values.min()) < 0.5 else 0)
        axes.set_xlabel(self.quantity)
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        return figure


@dataclass(frozen=True)
class PlanRow:
    """So many tasks of a type, each with so many support and query examples."""

    task_type: str
    tasks: int
    support: int
    query: int


@dataclass(frozen=True)
class Allocation:
    """A plan for spending a budget of labels across tasks.

    ``status`` is ``optimal``, ``feasible``, ``infeasible`` (no plan fits the budget and the constraints) or ``refused``
    (what is known does not bear a recommendation); the latter two have no plan, and ``reason`` says why.
    ``leftover`` is what the plan leaves of the budget; ``predicted_loss`` (with its ``interval``) is None for an
    allocator that predicts none; ``near_optimal`` lists other plans about as good; ``curve`` holds the predicted loss
    against axes of the plan: columns by name, lists or tensors of one length. ``remarks`` end the recommendation,
    ``warnings`` are about the plan, ``diagnostics`` the rest, as JSON: ``spent`` is its cost, unless a label costs 1.

    >>> print(Allocation("optimal", (PlanRow("digits", 2, support=5, query=15),), leftover=3).text())
    2 digits tasks of 5 support and 15 query examples. It leaves 3 labels over.
    """

    status: str
    plan: tuple[PlanRow, ...]
    leftover: int
    predicted_loss: float | None = None
    interval: tuple[float, float] | None = None
    near_optimal: tuple[tuple[PlanRow, ...], ...] = ()
    curve: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The allocation as JSON; tensors of the curve become lists."""
        return asdict(replace(self, curve=self._columns()))

    def csv(self) -> str:
        """The curve as comma-separated values, a line for each of its points, under the names of its columns."""
        columns = self._columns()
        return csv_text([tuple(columns), *zip(*columns.values(), strict=True)])

    def text(self) -> str:
        """The recommendation as text."""
        if self.status == "infeasible":
            return f"No plan fits the budget and the constraints{f': {self.reason}' if self.reason else ''}."
        if self.status == "refused":
            return " ".join([f"No recommendation: {self.reason}.", *self.remarks])
        lines = [
            f"{_count(row.tasks, 'task' if row.task_type == 'task' else f'{row.task_type} task')} "
            f"of {row.support} support and {row.query} query examples"
            for row in self.plan
        ]
        left = f" It leaves {_count(self.leftover, 'label')} over."
        said = [f"{', and '.join(lines) or 'No tasks'}.{left if self.leftover else ''}"]
        if self.predicted_loss is not None:
            between = "" if self.interval is None else f" ({self.interval[0]:.4g} to {self.interval[1]:.4g})"
            said.append(f"The predicted loss is {self.predicted_loss:.4g}{between}.")
        return " ".join([*said, *self.remarks])

    def _columns(self) -> dict[str, Any]:
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in self.curve.items()}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
