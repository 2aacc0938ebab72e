"""Growth of the best labels per task with the budget, and its extrapolation.

Two formulas have been claimed: a constant above the threshold, and the root of the budget. The exponent is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

_COEFFICIENTS = 5
_EXACT = 1e-12
_EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def exponents(log_sizes: Tensor, log_budgets: Tensor) -> Tensor:
    """gamma = d log n* / d log b for each of D draws, (D,), by least squares through log n* (D, B) at B budgets."""
    x = log_budgets - log_budgets.mean()
    return (log_sizes @ x) / (x @ x)


Formula = Literal["floor", "vanishing"]
"""How the loss of m tasks of n labels goes on: floor, L0 + B n^-q + C / (n m) with C = c_0 + c_1 n + c_2 / n, where
B n^-q is what training tasks lack of the deployment's labels; or vanishing, (C + d_0 / m + d_1 / (n m)) / (n m),
which falls faster than 1 / (n m) at first, as it does above the threshold. Few budgets hardly separate them."""


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
