"""Fits to the losses of trials: the least point of a noisy curve, the surface over sizes and budgets, and the growth.

Valleys of the loss against labels a task are flat and lopsided: one parabola through all of a curve puts the minimum at
its edge, one through the five points around it does not.

Two formulas of growth have been claimed: a constant above the threshold, and the root of the budget. The exponent is
measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

WINDOW = 5
"""Points that the quadratic is fitted to."""

_NEARNESS = torch.tensor([1.0, 0.8, 0.4, 0.15, 0.05], dtype=torch.float64)
"""Weight of a point of the window by its distance from the smoothed minimum: at an end of the curve they are far."""


@dataclass(frozen=True)
class LocalFit:
    """Quadratics c_0 + c_1 u + c_2 u^2, u = x - ``centre``, of D curves near their minima.

    ``position`` (D,) and ``value`` (D,) are where each is least within its window, from ``low`` to ``high``, and how
    low. ``coefficients`` (D, 3), ``centre``, ``low``, ``high`` (D,).
    """

    position: Tensor
    value: Tensor
    coefficients: Tensor
    centre: Tensor
    low: Tensor
    high: Tensor

    def at(self, x: Tensor) -> Tensor:
        """The fitted values (D, n) at x (n,), infinite outside of each window."""
        values = _evaluate(self.coefficients, x - self.centre[:, None])
        inside = (x >= self.low[:, None] - 1e-9) & (x <= self.high[:, None] + 1e-9)
        return values.where(inside, torch.inf)


def local_fit(x: Tensor, y: Tensor, weight: Tensor) -> LocalFit:
    """The minima of D curves y (D, k) over increasing x (k,), with weights (D, k) or (k,), one over variances.

    The quadratic of a curve goes through the ``WINDOW`` points around the least of its smoothed values (by 1/4, 1/2,
    1/4). Where it has no minimum inside of them, the lower of their ends stands for it. k is 1 or more.
    """
    width = min(WINDOW, len(x))
    middle = smoothed(y, weight).argmin(1, keepdim=True)
    index = (middle - width // 2).clamp(0, len(x) - width) + torch.arange(width)
    xs, ys = x[index], y.gather(1, index)
    ws = weight.expand_as(y).gather(1, index) * _NEARNESS[(index - middle).abs()]
    centre = xs.mean(1)
    coefficients = _quadratics(xs - centre[:, None], ys, ws)
    low, high = xs[:, 0], xs[:, -1]
    ends = torch.stack((low, high), 1)
    lower_end = ends.gather(1, _evaluate(coefficients, ends - centre[:, None]).argmin(1, keepdim=True))[:, 0]
    bends = coefficients[:, 2] > 0
    vertex = centre - coefficients[:, 1] / (2 * coefficients[:, 2]).where(bends, 1.0)
    position = torch.where(bends & (vertex > low) & (vertex < high), vertex, lower_end)
    value = _evaluate(coefficients, (position - centre)[:, None])[:, 0]
    return LocalFit(position, value, coefficients, centre, low, high)


def smoothed(y: Tensor, weight: Tensor) -> Tensor:
    """Curves (D, k) averaged with their neighbours: 1/4, 1/2, 1/4 times each point's weight ((D, k) or (k,))."""
    weight = weight.expand_as(y)
    total, mass = weight * y / 2, weight / 2
    for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        total[:, here] += (weight * y)[:, there] / 4
        mass[:, here] += weight[:, there] / 4
    return total / mass


def _quadratics(u: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted least squares of y (D, w) on 1, u, u^2, as many as there are points for; coefficients (D, 3)."""
    order = min(3, u.shape[1])
    root = (weight / weight.amax(1, keepdim=True)).sqrt()
    powers = torch.stack([u**i for i in range(order)], -1)
    found = torch.linalg.lstsq(root[..., None] * powers, (root * y)[..., None]).solution[..., 0]
    return torch.nn.functional.pad(found, (0, 3 - order))


def _evaluate(coefficients: Tensor, u: Tensor) -> Tensor:
    """The quadratics (D, 3) at u (D, n)."""
    c0, c1, c2 = coefficients[:, None].unbind(-1)
    return c0 + u * (c1 + u * c2)


Measure = Literal["loss", "accuracy"]

_LEAST_RATE = 1e-4


def as_losses(test: Tensor, measure: Measure) -> Tensor:
    """Losses of what a learner reports: a loss as it is, 1 - accuracy for an accuracy, 1e-4 at the least."""
    return test if measure == "loss" else (1 - test).clamp_min(_LEAST_RATE)


def to_scale(loss: Tensor, measure: Measure) -> Tensor:
    """log loss, or the logit of an error rate, taken as within 1e-4 of 0 and 1 at the most."""
    return loss.log() if measure == "loss" else loss.logit(_LEAST_RATE)


def from_scale(y: Tensor, measure: Measure) -> Tensor:
    """The losses that stand at y on the scale."""
    return y.exp() if measure == "loss" else y.sigmoid()


def variance_on_scale(losses: Tensor, measure: Measure) -> Tensor:
    """Variances (k,) of means on the scale, of losses (R, k) from R seeds, to first order in their spread.

    A variance of few seeds is itself noisy, and is drawn towards the mean over cells as by ``_PRIOR`` more seeds. Ones
    where nothing varies.
    """
    seeds = len(losses)
    if seeds < 2:
        return torch.ones_like(losses[0])
    mean = losses.mean(0)
    slope = 1 / mean if measure == "loss" else 1 / (mean * (1 - mean)).clamp_min(_LEAST_RATE)
    own = (slope * losses.std(0)) ** 2
    shared = ((seeds - 1) * own + _PRIOR * own.mean()) / (seeds - 1 + _PRIOR)
    return shared / seeds if bool(shared.max() > 0) else torch.ones_like(own)


_PRIOR = 4


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
