"""How the best labels a task grow with the budget, and what to expect where it does.

Two laws have been claimed: a constant above the threshold, and the root of the budget. The exponent is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

_EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def exponents(log_sizes: Tensor, log_budgets: Tensor) -> Tensor:
    """gamma = d log n* / d log b for each of D draws, (D,), by least squares through log n* (D, B) at B budgets."""
    x = log_budgets - log_budgets.mean()
    return (log_sizes @ x) / (x @ x)


@dataclass(frozen=True)
class Surface:
    """L(n, m) = L0 + B n^-q + (c_0 + c_1 n + c_2 / n) / (n m) for m tasks of n labels, no coefficient below 0.

    B n^-q is what the labels of a training task lack of the deployment's, and no budget mends; the rest is what the
    number of tasks averages out. ``coefficients`` (5,) are L0, B, c_0, c_1, c_2.
    """

    coefficients: NDArray[np.float64]
    exponent: float

    def __call__(self, size: Tensor, tasks: Tensor) -> Tensor:
        """The losses (k,) at sizes n and numbers of tasks m (k,)."""
        return torch.from_numpy(_columns(size.numpy(), tasks.numpy(), self.exponent) @ self.coefficients)


def fit_surface(size: Tensor, tasks: Tensor, loss: Tensor, weight: Tensor) -> Surface:
    """The surface through losses (k,) of m tasks of n labels (k,), relative residuals weighted by ``weight`` (k,).

    The exponent q is the best of 0.25 to 2, and the coefficients come by non-negative least squares.
    """
    root = weight.sqrt().numpy() / loss.numpy()
    found = []
    for exponent in _EXPONENTS:
        columns = root[:, None] * _columns(size.numpy(), tasks.numpy(), exponent)
        norms = np.linalg.norm(columns, axis=0)
        coefficients, residual = nnls(columns / norms, root * loss.numpy())
        found.append((residual, Surface(coefficients / norms, exponent)))
    return min(found, key=lambda pair: pair[0])[1]


def _columns(size: NDArray[np.float64], tasks: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    return np.stack(
        (np.ones_like(size), size**-exponent, 1 / (size * tasks), 1 / tasks, 1 / (size**2 * tasks)), axis=-1
    )
