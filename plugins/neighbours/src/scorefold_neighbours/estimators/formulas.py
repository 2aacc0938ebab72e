"""Intrinsic dimension in closed form, from the distances to the nearest neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scorefold_neighbours.config import MLEConfig, TwoNNConfig

Array = npt.NDArray[np.float64]


def mle(config: MLEConfig, distances: Array) -> Array:
    """The dimension at each point (N,) of the distances (N, k) to its neighbours, in ascending order.

    (k - 1) / sum log(r_k / r_j) (Levina and Bickel 2004, equation 8); ``unbiased`` has k - 2.

    >>> import numpy as np
    >>> mle(MLEConfig(), np.array([[1.0, np.e, np.e**2]]))
    array([0.66666667])
    """
    count = distances.shape[1]
    logs: Array = np.log(distances[:, -1:] / distances).sum(1)
    found: Array = (count - (2 if config.unbiased else 1)) / logs
    return found


def two_nn(config: TwoNNConfig, distances: Array) -> float:
    """The dimension of the distances (N, 2) to the first and second neighbour (Facco et al. 2017).

    log(r_2 / r_1) is exponential at the rate of the dimension; its largest ``discard`` are left out. ``linear`` is the
    slope through the origin of -log(1 - F) against it, ``mle`` the unbiased estimate of the rate under censoring.
    Points at distance 0 of another, as rounding makes them, have no ratio and are left out; where all ratios are 1, as
    on a grid, the slope is 0.
    """
    ratios = np.log(distances[:, 1] / distances[:, 0])
    ratios = np.sort(ratios[np.isfinite(ratios)])
    kept = int(len(ratios) * (1 - config.discard))
    few = ratios[:kept]
    if kept < 2:
        return float("nan")
    if config.method == "mle":
        return float((kept - 1) / (few.sum() + (len(ratios) - kept) * few[-1]))
    share = np.arange(1, kept + 1) / len(ratios)
    # Where nothing is left out the last has the share 1, whose logarithm is not finite.
    few, share = few[share < 1], share[share < 1]
    size = few @ few
    return float(few @ -np.log(1 - share) / size) if size > 0 else 0.0
