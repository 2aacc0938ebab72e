"""From readings on surrogates of known dimension to a corrected dimension, with its error. Logarithms throughout.

With z the logarithms of all readings of a data set and y the logarithm of its dimension, surrogates (z_i, y_i) are
weighted by how near their z_i is to the data's, as in approximate Bayesian computation (Beaumont et al. 2002): those
that look like the data to the estimators count. One estimator is corrected by weighted monotone regression of y on its
reading; all together by weighted ridge regression of y on z. The errors come from predicting a surrogate from the
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_neighbours.estimators.points import QUANTITY
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.nearest import shared_neighbours

Array = npt.NDArray[np.float64]

LEAST_SCATTER = 0.05
"""The least scatter of the logarithm of a reading that counts; anything smaller is none."""

NEAREST = 6
"""The surrogate of this rank has a weight of exp(-1/2)."""

RIDGE = 0.01
"""The ridge of the regression on all readings, in squared logarithms."""

SURE = 0.03
"""The least error that is believed, in logarithms."""


@dataclass(frozen=True)
class Curve:
    """One estimator on the surrogates: what it corrects the data's reading to, and its error there (a logarithm)."""

    corrected: float
    error: float


@dataclass(frozen=True)
class SurrogateCalibration:
    """Calibration of the data's readings by surrogates.

    ``curves`` has one curve per estimator, in order; ``together`` is the curve of all of them. ``weights`` (N,) are
    the weights of the surrogates, at most 1; ``distance`` is how far the readings of the nearest surrogate are from the
    data's, in root mean squares of their scatter.
    """

    curves: tuple[Curve, ...]
    together: Curve
    weights: Array
    distance: float


def calibrate(readings: Array, dimensions: Array, given: Array) -> SurrogateCalibration:
    """Readings (N, m) of surrogates of ``dimensions`` (N,), and readings of the data (m,), all above 0.

    NaN in ``readings`` stands for an estimator that failed on a surrogate: it then counts as the median of the others.
    """
    z, y, at = _logs(readings), np.log(dimensions), np.log(given)
    z = np.where(np.isfinite(z), z, np.nanmedian(z, axis=0))
    squares = reading_distances(z, y, at)
    weights = weights_of(squares)
    counted = np.flatnonzero(weights > 1e-3)
    curves = [_curve(z[:, [place]], y, at[[place]], weights, counted, _monotone) for place in range(z.shape[1])]
    together = _curve(z, y, at, weights, counted, _ridge)
    return SurrogateCalibration(tuple(curves), together, weights, float(np.sqrt(squares.min())))


def _logs(readings: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(readings)
    return np.where(np.isfinite(logs), logs, np.nan)


def _scatter(y: Array, reading: Array) -> float:
    """The deviation of the logarithm of a reading around its curve against the dimension."""
    from sklearn.isotonic import IsotonicRegression

    return float((reading - IsotonicRegression().fit(y, reading).predict(y)).std())


def reading_distances(z: Array, y: Array, at: Array) -> Array:
    """Distance of logarithms of readings (N, m) from the data's (m,), in mean squares of their scatter at a dimension.

    ``y`` (N,) are the log dimensions of the surrogates.
    """
    scatter = np.array([max(LEAST_SCATTER, _scatter(y, column)) for column in z.T])
    found: Array = (((z - at) / scatter) ** 2).mean(axis=1)
    return found


def weights_of(squares: Array, rank: int = NEAREST) -> Array:
    """Weights (N,) by squared distances: 1 for the nearest, exp(-1/2) for one farther by the distance of this rank."""
    place = min(rank, len(squares)) - 1
    found: Array = np.exp(-0.5 * (squares - squares.min()) / max(np.partition(squares, place)[place], 1e-12))
    return found


Predictor = Callable[[Array, Array, Array, Array], float]


def _curve(z: Array, y: Array, at: Array, weights: Array, counted: npt.NDArray[np.intp], predict: Predictor) -> Curve:
    """A regression at the data's readings, and its weighted root-mean-square error at surrogates left out in turn."""
    corrected = predict(z, y, weights, at)
    squares = []
    for place in counted:
        others = weights.copy()
        others[place] = 0
        squares.append((predict(z, y, others, z[place]) - y[place]) ** 2)
    error = float(np.sqrt(np.average(squares, weights=weights[counted])))
    return Curve(float(np.exp(corrected)), max(SURE, error))


def _monotone(z: Array, y: Array, weights: Array, at: Array) -> float:
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(out_of_bounds="clip").fit(z[:, 0], y, sample_weight=weights)
    return float(curve.predict(at)[0])


def _ridge(z: Array, y: Array, weights: Array, at: Array) -> float:
    """Weighted linear regression of y on z, at ``at``; its slopes are held small by the ridge."""
    share = weights / weights.sum()
    centre, mean = share @ z, float(share @ y)
    moved = z - centre
    covariance = (moved * share[:, None]).T @ moved + RIDGE * np.eye(z.shape[1])
    slopes = np.linalg.solve(covariance, (moved * share[:, None]).T @ (y - mean))
    return float(mean + (at - centre) @ slopes)


def rise(readings: Array, dimensions: Array) -> float:
    """The slope of log readings against log dimensions, every dimension counted once; 1 for readings in proportion.

    >>> dimensions = np.array([1.0, 2.0, 4.0, 4.0])
    >>> round(rise(3 * dimensions, dimensions), 6), round(rise(np.sqrt(dimensions), dimensions), 6)
    (1.0, 0.5)
    """
    z, y, share = _counted_once(readings, dimensions)
    centred = y - np.average(y, weights=share)
    spread = np.average(centred**2, weights=share)
    return float(np.average(centred * z, weights=share) / spread) if spread > 0 else 1.0


def _counted_once(readings: Array, dimensions: Array) -> tuple[Array, Array, Array]:
    """Logarithms of the finite readings, logarithms of their dimensions, and weights that count each dimension
    once."""
    z, y = _logs(readings), np.log(dimensions)
    z, y = z[np.isfinite(z)], y[np.isfinite(z)]
    _, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    return z, y, 1 / counts[place]


def flatness(readings: Array, dimensions: Array) -> float:
    """The share of the variance of log dimensions that a rising curve of log readings leaves unexplained.

    Every dimension counts the same, however many surrogates have it.
    """
    from sklearn.isotonic import IsotonicRegression

    z, y, share = _counted_once(readings, dimensions)
    if len(np.unique(y)) < 2:
        return 0.0
    left = y - IsotonicRegression().fit(z, y, sample_weight=share).predict(z)
    return float(
        np.average(left**2, weights=share) / np.average((y - np.average(y, weights=share)) ** 2, weights=share)
    )


@dataclass(frozen=True)
class Panel:
    """The estimators by name, each with the largest number of points that it is given."""

    estimators: Mapping[str, Estimator]
    points: Mapping[str, int]

    def only(self, names: Sequence[str]) -> Panel:
        return Panel({name: self.estimators[name] for name in names}, self.points)

    def read(self, x: Tensor, seed: int) -> tuple[dict[str, float], dict[str, str]]:
        """The readings above 0 by name, and why the others have none. Points (n, D) are in random order."""
        found: dict[str, float] = {}
        failed: dict[str, str] = {}
        with shared_neighbours():
            for name, estimator in self.estimators.items():
                reading = self._reading(name, estimator, x, seed)
                if isinstance(reading, str):
                    failed[name] = reading
                else:
                    found[name] = reading
        return found, failed

    def _reading(self, name: str, estimator: Estimator, x: Tensor, seed: int) -> float | str:
        """The reading of one estimator, or why there is none."""
        some = x[: self.points.get(name, len(x))]
        try:
            generator = torch.Generator().manual_seed(seed)
            answer = answer_of(estimator.point_estimate, Estimate, some, generator=generator)
        except Exception as error:  # any plugin's: one that fails is left out
            return f"it failed: {error}"
        if answer.quantity != QUANTITY:
            return f"it estimates another quantity: {answer.quantity}"
        if answer.value is None or not (math.isfinite(answer.value) and answer.value > 0):
            return "it gives no dimension above 0"
        return float(answer.value)
