"""The exact score of data whose distribution is known, or of a finite data set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.diffusion import process_of
from scorefold.diffusion.process import Isotropic
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_standard.config import AnalyticConfig
from scorefold_standard.scores.noised_distributions import noised_distribution
from scorefold_toolkit.distributions import Points, SubspaceGaussian

MEMORISED = (
    "score:analytic knows no distribution for these data, so it is the score of the training points themselves: it "
    "memorises them, and below the distance of neighbours it sees points of dimension 0. Take score:denoising, or "
    "write points: true where this is meant"
)


def gaussian_of(x: Tensor) -> SubspaceGaussian:
    """The Gaussian with the mean and covariance of points (N, D) in float64, on the subspace that they span.

    Directions whose variance is that of rounding, 1e-12 of the largest, count as none.
    """
    mean = x.mean(0)
    variances, basis = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
    spanned = variances > 1e-12 * variances[-1]
    return SubspaceGaussian(mean, basis[:, spanned], variances[spanned])


class AnalyticScore(ScoreModel):
    """grad log p_t in closed form, under any process whose signal a and scale b are one number a time.

    With y = x / a and sigma = b / a the distribution of x_t is that of a (x_0 + sigma z), so log p_t(x) = log
    p_sigma(y) - D log a and the score is that of y over a. The distribution is the source's own where it knows one
    (``KnowsDistribution``), else the uniform distribution on its training points, whose score memorises them
    (``remarks`` says so, unless the config has ``points``); or the Gaussian with their mean and covariance, whose
    denoiser is Wiener's filter. Buffers hold the distribution, in ``dtype`` or torch's default. Raises ``DataError``
    where the port holds no data.

    >>> from scorefold_registry import Host
    >>> plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 100}}
    >>> score = Host.discover().create("score:analytic", data=plane)
    >>> score.score(torch.ones(1, 2), torch.zeros(1)).round(decimals=2)  # that of a standard normal at x = (1, 1)
    tensor([[-1., -1.]])
    """

    def __init__(self, config: AnalyticConfig, *, data: DataSource, dtype: torch.dtype | None = None) -> None:
        process = process_of(config.process, data.event_scale, data.event_shape)
        super().__init__(process, data.event_shape, event_scale=data.event_scale)
        if not isinstance(data, DataSource):
            raise DataError(
                f"an analytic score was given a {type(data).__name__}; it reads the data themselves",
                hint="plug in a data source",
            )
        distribution = (
            data.distribution()
            if isinstance(data, KnowsDistribution) and not (config.points or config.gaussian)
            else None
        )
        if distribution is None:
            if not (config.points or config.gaussian):
                self.remarks = (MEMORISED,)
            points = data.load("train").tensor(config.limit).flatten(1).double()
            distribution = gaussian_of(points) if config.gaussian else Points(points)
        self.distribution = noised_distribution(distribution, dtype or torch.get_default_dtype())

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        signal, sigma = self._levels(x, t)
        gradient = self.distribution.score(x.flatten(1) / signal[:, None], sigma) / signal[:, None]
        return gradient.reshape(x.shape)

    def noised_log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x) in nats at x (B, *E) and t (B,): (B,)."""
        x, t, _ = self.match_inputs(x, t)
        signal, sigma = self._levels(x, t)
        density = self.distribution.log_prob(x.flatten(1) / signal[:, None], sigma)
        return density - math.prod(self.event_shape) * signal.log()

    def log_prob(self, x: Tensor, condition: Condition | None = None, **options: Any) -> Tensor:
        """log p(x) at t_min in closed form, (B,); the options of the probability flow are accepted and not needed."""
        time = x.new_full((1,), self.process.t_min)
        x, time, _ = self.match_inputs(x, time, condition)
        return self.noised_log_prob(x, time)

    def _levels(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """a(t) and b(t) / a(t), each (B,)."""
        assert isinstance(self.process, Isotropic)
        return self.process.coefficients(x, t)[0].reshape(-1), self.process.noise_to_signal(t)
