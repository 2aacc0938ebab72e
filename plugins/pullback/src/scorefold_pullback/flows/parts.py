"""Start of the parts of a mixture: a Gaussian mixture whose parts share one covariance, fitted to points by EM."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import DataError

_STARTS, _DIRECTIONS = 5, 32


@dataclass(frozen=True, eq=False)
class Parts:
    """The share (N, K) that each part has in each point, in float64; the largest parts first."""

    shares: Tensor

    @property
    def weights(self) -> Tensor:
        """The share of each part in all points, (K,)."""
        return self.shares.mean(0)

    def means(self, values: Tensor) -> Tensor:
        """The mean of values (N, *E) over each part, (K, *E)."""
        means = self.shares.mT @ values.flatten(1).double() / self.shares.sum(0)[:, None]
        return means.reshape(-1, *values.shape[1:])

    def squares(self, values: Tensor) -> Tensor:
        """The mean square of values (N, *E) around the means of their parts, (*E)."""
        centred = values.double() - values.double().mean(0)
        between: Tensor = torch.tensordot(self.weights, self.means(centred).square(), dims=1)
        return centred.square().mean(0) - between

    def covariance(self, x: Tensor) -> Tensor:
        """The covariance of points (N, D) around the means of their parts, (D, D)."""
        centred = x.double() - x.double().mean(0)
        means = self.means(centred)
        return centred.mT @ centred / len(x) - (self.weights[:, None] * means).mT @ means


def find_parts(x: Tensor, count: int, generator: torch.Generator) -> Parts:
    """The parts of points x (N, D), for the best of five starts by k-means, along at most 32 principal directions.

    Raises ``DataError`` for fewer different points than parts, and for points without such parts.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    different = len(x.unique(dim=0))
    if different < count:
        raise DataError(
            f"the start has {different} different points for a base of {count} modes",
            hint=f"give more points, or set modes to {different} or less",
        )
    centred = x.double() - x.double().mean(0)
    points = (centred / centred.square().mean().sqrt()).cpu().numpy()
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    axes = PCA(min(_DIRECTIONS, *points.shape), random_state=seed)
    fitted = GaussianMixture(count, covariance_type="tied", n_init=_STARTS, random_state=seed)
    with warnings.catch_warnings():
        # A start need not be the best fit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            along = axes.fit_transform(points)
            shares = fitted.fit(along).predict_proba(along)
        except ValueError as error:
            raise DataError(
                f"no mixture of {count} normal distributions fits the start's {len(x)} points: {error}",
                hint="set modes: 1, or leave out columns that do not vary",
            ) from error
    largest_first = shares.mean(0).argsort()[::-1].copy()
    return Parts(x.new_tensor(shares[:, largest_first], dtype=torch.float64))
