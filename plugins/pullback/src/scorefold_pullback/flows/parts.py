"""Where the parts of a mixture start: a Gaussian mixture whose parts share one covariance, fitted to points by EM."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import DataError

_STARTS = 5


@dataclass(frozen=True, eq=False)
class Parts:
    """The share (N, K) that each part has in each point, and the covariance (D, D) inside the parts, in float64."""

    shares: Tensor
    covariance: Tensor

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
        between: Tensor = torch.tensordot(self.weights, self.means(values).square(), dims=1)
        return values.double().square().mean(0) - between


def find_parts(x: Tensor, count: int, generator: torch.Generator) -> Parts:
    """The parts of points x (N, D), for the best of five starts by k-means.

    Raises ``DataError`` for fewer different points than parts.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    different = len(x.unique(dim=0))
    if different < count:
        raise DataError(
            f"the start has {different} different points for a base of {count} modes",
            hint=f"give more points, or set modes to {different} or less",
        )
    x = x.double()
    unit = x.std(0).square().mean().sqrt()
    points = (x / unit).cpu().numpy()
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    fitted = GaussianMixture(count, covariance_type="tied", n_init=_STARTS, random_state=seed)
    with warnings.catch_warnings():
        # A start need not be the best fit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(points)
    return Parts(x.new_tensor(fitted.predict_proba(points)), unit**2 * x.new_tensor(fitted.covariances_))
