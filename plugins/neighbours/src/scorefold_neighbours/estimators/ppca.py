"""Dimension as the rank of a probabilistic PCA, by Minka's approximation to its evidence (NIPS 2000)."""

from __future__ import annotations

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_neighbours.config import PPCAConfig
from scorefold_neighbours.estimators.pca import component_variances
from scorefold_neighbours.estimators.points import QUANTITY, interval_by_halves, noted, points_of, seeded


class PPCAEstimator(Estimator):
    """The number of principal components with the largest evidence: scikit-learn's ``PCA(n_components="mle")``.

    It is at most D - 1, and counts the directions that the points span, not those of a curved manifold. ``spectrum``
    (1, D) holds the variances of all components, largest first. The interval is over random halves of the points, and
    None where a half has fewer points than coordinates.

    >>> from scorefold_registry import Host
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 1.0])
    >>> Host.discover().create("estimator:ppca", {"resamples": 0}).estimate(x).value
    1.0
    """

    def __init__(self, config: PPCAConfig) -> None:
        self.config = config

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for fewer points than coordinates, or than 3, and for points that are all the same."""
        return self._estimate(data, generator, self.config.resamples)

    def point_estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return self._estimate(data, generator, 0)

    def _estimate(self, data: Tensor | Dataset, generator: torch.Generator | None, resamples: int) -> Estimate:
        config = self.config
        draws = seeded(generator)
        x, _ = points_of(data, config.limit, draws, least=3, who="PPCA")
        ambient = x.shape[1]
        if len(x) < ambient:
            raise DataError(
                f"PPCA needs at least as many points as coordinates, {ambient}; {len(x)} were given",
                hint="give more points, or use estimator:pca, which takes any number",
            )
        if float((x - x.mean(0)).abs().max()) == 0:
            raise DataError("all points are equal: a probabilistic PCA of them has no evidence")
        value = _rank(x)
        halves = resamples if len(x) // 2 >= max(3, ambient) else 0
        interval = interval_by_halves(lambda half: _rank(x[half]), len(x), halves, config.level, value, draws)
        return Estimate(
            quantity=QUANTITY,
            value=value,
            interval=interval,
            level=config.level,
            spectrum=component_variances(x)[None],
            diagnostics={"points": len(x), **noted(len(x), len(data))},
        )


def _rank(x: Tensor) -> float:
    return float(PCA(n_components="mle", svd_solver="full").fit(x.numpy()).n_components_)
