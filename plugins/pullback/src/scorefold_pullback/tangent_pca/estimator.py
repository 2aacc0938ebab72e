"""Intrinsic dimension by principal geodesics, with the Fréchet mean and variance."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.errors import DataError
from scorefold.interfaces import Estimator, Geometry
from scorefold.results import Estimate
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.tangent_pca.config import TangentPCAConfig
from scorefold_pullback.tangent_pca.statistics import significant_components, tangent_pca
from scorefold_toolkit.numerics import bootstrap_interval, gram_spectrum

_BY_SCORE = (
    "variances in the metric score, where steps off the data are the longest. The directions that count most are "
    "those of the least variance; metric latent weighs them as a PCA does"
)


class TangentPCAEstimator(Estimator):
    """The principal geodesics through the mean that are needed for all but a share of the Fréchet variance.

    ``spectrum`` (1, D) holds the variances, largest first; the diagnostics the ``mean``, the ``directions`` that are
    kept, as tangent vectors at it, the ``squared_distances`` to it and their mean, the ``frechet_variance``. The
    interval is the bootstrap's over points, widened to hold the value.

    >>> from scorefold_registry import Host
    >>> flat = {"use": "geometry:euclidean", "config": {"event_shape": [3]}}
    >>> pca = Host.discover().create("estimator:tangent-pca", {"resamples": 20}, geometry=flat)
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.01])
    >>> pca.estimate(x).value
    2.0
    """

    def __init__(self, config: TangentPCAConfig, *, geometry: Geometry) -> None:
        self.config, self.geometry = config, geometry

    @torch.no_grad()
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for fewer than 3 points."""
        x = as_dataset(data).tensor()
        if len(x) < 3:
            raise DataError(f"principal geodesics need at least 3 points; {len(x)} were given", hint="give more points")
        pca = tangent_pca(self.geometry, x)
        rank = significant_components(pca.variances, self.config.unexplained)
        z = pca.encode(x)
        squared = z.square().sum(1)
        diagnostics = {
            "points": len(x),
            "frechet_variance": float(squared.mean()),
            "mean": pca.mean,
            "directions": pca.directions()[:rank],
            "squared_distances": squared,
        }
        if isinstance(self.geometry, Pullback) and self.geometry.config.metric == "score":
            diagnostics["note"] = _BY_SCORE
        return Estimate(
            quantity="intrinsic dimension",
            value=float(rank),
            interval=self._interval(z, rank, generator),
            level=self.config.level,
            spectrum=pca.variances[None],
            diagnostics=diagnostics,
        )

    def _interval(self, rows: Tensor, rank: int, generator: torch.Generator | None) -> tuple[float, float] | None:
        """The bootstrap interval of the rank, of coordinates (N, D) in the tangent space of the mean of all."""
        if self.config.resamples == 0:
            return None

        def ranks(draws: Tensor) -> Tensor:
            return torch.tensor([rank_of(rows[chosen]) for chosen in draws.long()])

        def rank_of(chosen: Tensor) -> int:
            return significant_components(gram_spectrum(chosen - chosen.mean(0)).square(), self.config.unexplained)

        low, high = bootstrap_interval(
            torch.arange(len(rows), device=rows.device),
            ranks,
            self.config.level,
            torch.Generator().manual_seed(0) if generator is None else generator,
            resamples=self.config.resamples,
        )
        return min(low, rank), max(high, rank)
