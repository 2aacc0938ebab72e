"""Plans around labels that are there already, and growth of the best labels per task with the budget.

Two formulas of growth have been claimed: a constant above the threshold, and the root of the budget. The exponent is
measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from scorefold.results import PlanRow
from scorefold_allocation.meta.config import OwnedConfig
from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.valley import Band


class Purchase(NamedTuple):
    """The ``rows`` of a plan, owned tasks too; what is ``left`` of the budget; what there is to ``buy``, as JSON."""

    rows: tuple[PlanRow, ...]
    left: int
    buy: dict[str, Any]

    @property
    def tasks(self) -> int:
        """The tasks of all rows together."""
        return sum(row.tasks for row in self.rows)


def worth(budget: int, owned: Sequence[OwnedConfig], limits: Limits) -> float:
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


_COEFFICIENTS = 5
_EXACT = 1e-12
_EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def exponents(log_sizes: Tensor, log_budgets: Tensor) -> Tensor:
    """gamma = d log n* / d log b for each of D draws, (D,), by least squares through log n* (D, B) at B budgets."""
    x = log_budgets - log_budgets.mean()
    return (log_sizes @ x) / (x @ x)


Formula = Literal["floor", "vanishing"]
"""The loss of m tasks of n labels beyond what was tried: floor, L0 + B n^-q + C / (n m) with
C = c_0 + c_1 n + c_2 / n, where B n^-q is what training tasks lack of the deployment's labels; or vanishing,
(C + d_0 / m + d_1 / (n m)) / (n m), which falls faster than 1 / (n m) at first, as it does above the threshold. Few
budgets hardly separate them."""


@dataclass(frozen=True)
class Surface:
    """A formula with its ``coefficients``, none below 0, and q; ``misfit`` is the weighted sum of squared residuals."""

    formula: Formula
    coefficients: NDArray[np.float64]
    exponent: float
    misfit: float

    def __call__(self, size: Tensor, tasks: Tensor) -> Tensor:
        """The losses (k,) at sizes n and numbers of tasks m (k,)."""
        return torch.from_numpy(_columns(self.formula, size.numpy(), tasks.numpy(), self.exponent) @ self.coefficients)


def fit_surface(size: Tensor, tasks: Tensor, loss: Tensor, weight: Tensor, formula: Formula = "floor") -> Surface:
    """The surface through losses (k,) of m tasks of n labels (k,), relative residuals weighted by ``weight`` (k,).

    The exponent q is the best of 0.25 to 2, and the coefficients come by non-negative least squares.
    """
    root = weight.sqrt().numpy() / loss.numpy()
    found = []
    for exponent in _EXPONENTS if formula == "floor" else _EXPONENTS[:1]:
        columns = root[:, None] * _columns(formula, size.numpy(), tasks.numpy(), exponent)
        norms = np.linalg.norm(columns, axis=0)
        coefficients, residual = nnls(columns / norms, root * loss.numpy())
        found.append(Surface(formula, coefficients / norms, exponent, float(residual) ** 2))
    return min(found, key=lambda surface: surface.misfit)


def likely_formulas(size: Tensor, tasks: Tensor, loss: Tensor, weight: Tensor) -> list[Formula]:
    """The formulas that fit losses about as well as the best one; arguments as of
    ``fit_surface``. About as well: its misfit is within two standard errors by the scatter around the best."""
    misfits = {formula: fit_surface(size, tasks, loss, weight, formula).misfit for formula in get_args(Formula)}
    rest = max(1, len(loss) - _COEFFICIENTS)
    most = min(misfits.values()) * (1 + 4 / rest) + _EXACT * float(weight.sum())
    return [formula for formula, misfit in misfits.items() if misfit <= most]


def _columns(
    formula: Formula, size: NDArray[np.float64], tasks: NDArray[np.float64], exponent: float
) -> NDArray[np.float64]:
    averaged = (1 / (size * tasks), 1 / tasks, 1 / (size**2 * tasks))
    if formula == "floor":
        return np.stack((np.ones_like(size), size**-exponent, *averaged), axis=-1)
    return np.stack((*averaged, 1 / (size * tasks**2), 1 / (size * tasks) ** 2), axis=-1)
