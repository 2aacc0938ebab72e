"""Score models: exact ones of known distributions and of finite data sets, and networks trained by denoising."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, measured_rows
from scorefold.diffusion import process_of
from scorefold.diffusion.process import Isotropic
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, Loss, Prepares, Progress, ScoreModel, Trainable, as_network
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_standard.config import AnalyticConfig, DenoisingConfig
from scorefold_standard.noised_distributions import noised_distribution
from scorefold_toolkit.distributions import Points, SubspaceGaussian
from scorefold_toolkit.nn import loss_uncertainty
from scorefold_toolkit.nn.conditions import ConditionScale, drop_condition, null_condition, with_null_class
from scorefold_toolkit.score_matching.losses import Standardised, denoising_score_matching
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels, short_noise
from scorefold_toolkit.training.validation import LossReference, silent_network

MEMORISED = (
    "score:analytic knows no distribution for these data, so it is the score of the training points themselves: it "
    "memorises them, and below the distance of neighbours it sees points of dimension 0. Take score:denoising, or "
    "write points: true where this is meant"
)


def gaussian_of(x: Tensor) -> SubspaceGaussian:
    """The Gaussian with the mean and covariance of points (N, D) in float64, on the subspace that they span.

    Directions of a variance up to 1e-12 of the largest are rounding errors, and are left out.
    """
    mean = x.mean(0)
    variances, basis = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
    spanned = variances > 1e-12 * variances[-1]
    return SubspaceGaussian(mean, basis[:, spanned], variances[spanned])


class AnalyticScore(ScoreModel):
    """grad log p_t in closed form, under any process whose signal a and scale b are one number a time.

    With y = x / a and sigma = b / a, x_t has the distribution of a (x_0 + sigma z). So log p_t(x) = log p_sigma(y) -
    D log a, and the score is the score of y, divided by a. The distribution is the source's own where it knows one
    (``KnowsDistribution``), else the uniform distribution on its training points. The score then memorises the points,
    which ``remarks`` says unless the config has ``points``. The config may also choose the Gaussian with the points'
    mean and covariance, whose denoiser is Wiener's filter. Buffers hold the distribution, in ``dtype`` or torch's
    default. Raises ``DataError`` where the port holds no data.

    >>> from scorefold_registry import Host
    >>> plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 100}}
    >>> score = Host.discover().create("score:analytic", data=plane)
    >>> score.score(torch.ones(1, 2), torch.zeros(1)).round(decimals=2)  # -x, as of a standard normal
    tensor([[-1., -1.]])
    """

    def __init__(self, config: AnalyticConfig, *, data: DataSource, dtype: torch.dtype | None = None) -> None:
        process = process_of(config.process, data.event_scale, data.event_shape)
        super().__init__(process, data.event_shape, event_scale=data.event_scale)
        self.remarks = short_noise(process, data.event_scale, data.event_shape)
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
                self.remarks += (MEMORISED,)
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


class Denoising(ScoreModel, Trainable):
    """grad log p_t from a network F that is shown the noised event and its noise level log(scale / signal).

    With x = a x_0 + b z, data of mean m and standard deviation s a coordinate, r = sqrt(a^2 s^2 + b^2) and the
    standardised input u = (x - a m) / r, the expected noise is, by ``prediction``,

    - ``eps``: F itself, which suits networks that take statistics of the data (``Prepares``);
    - ``edm``: (b / r) u + (a s / r) F, which is the best linear guess plus a correction of unit size;
    - ``x0``: (x - a (m + s F)) / b;
    - ``v``: (b u' + a F) / c with u' = (x - a m) / c and c = sqrt(a^2 + b^2), so that F is the velocity
      (a z - b (x_0 - m)) / c of Salimans and Ho (2022), of unit size for data of unit deviation.

    The condition is the data's own, each number of a vector by a ``ConditionScale``. With
    ``condition_dropout`` the model also learns the score without one, which is then what ``condition=None`` gives, as
    guidance needs: classes get one more, tensors become 0.

    >>> from scorefold_registry import Host
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> circle = {"use": "data:sphere", "config": {"dimension": 1, "ambient": 2, "points": 100}}
    >>> score = Host.discover().create("score:denoising", {"network": network}, data=circle)
    >>> score.score(torch.ones(4, 2), torch.full((4,), 0.5)).shape, score.training_config.steps
    (torch.Size([4, 2]), 4000)
    """

    def __init__(self, config: DenoisingConfig, *, data: DataSource) -> None:
        process = process_of(config.process, data.event_scale, data.event_shape)
        spec = None if config.unconditional else data.condition_spec
        super().__init__(process, data.event_shape, spec, data.event_scale)
        self.remarks = short_noise(process, data.event_scale, data.event_shape)
        self.config = config
        self.training_config = config.training
        self.drops = spec is not None and config.condition_dropout > 0
        shown = with_null_class(spec) if self.drops and spec is not None else spec
        network = as_network(config.network, "the network of score:denoising")
        self.network = network.build(self.event_shape, self.event_shape, time=True, condition=shown)
        self.condition_range = ConditionScale(spec)
        self.uncertainty = loss_uncertainty(config.weighting)
        if isinstance(self.network, Prepares) and self.network.prediction != config.prediction:
            raise ConfigError(
                f"prediction is {config.prediction}, and this network ({type(self.network).__name__}) gives "
                f"{self.network.prediction}",
                hint=f"set prediction: {self.network.prediction}",
            )

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the range and the units of the condition, and gives the network the data as it sees them, where it asks
        for them: the first points (``measured_rows``)."""
        rows = measured_rows(len(dataset), self.event_shape)
        if self.condition_range.ranges:
            self.condition_range.prepare(dataset.take(torch.arange(rows)).condition)
        if isinstance(self.network, Prepares):
            x = dataset.tensor(rows)
            self.network.prepare(
                (x - self.event_scale.middle(x)) / self.event_scale.std, self.event_scale.std, generator
            )

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        shown, answer = self._shown_and_answer(x, t, condition)
        return shown.score(answer, self.config.prediction)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        shown, answer = self._shown_and_answer(x, t, condition)
        return shown.expected_noise(answer, self.config.prediction)

    def _shown_and_answer(self, x: Tensor, t: Tensor, condition: Condition | None) -> tuple[Standardised, Tensor]:
        x, t, condition = self.match_inputs(x, t, condition)
        shown, level = Standardised.at(self.process, self.event_scale, x, t)
        return shown, self.network(shown.input, level, self._condition(condition, x))

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        condition = batch.condition if self.condition_spec is not None else None
        if self.drops and condition is not None and self.condition_spec is not None:
            condition = drop_condition(condition, self.condition_spec, self.config.condition_dropout, generator)
        spread = self.event_scale.std
        levels = NoiseLevels(self.process, self.config.levels, spread)
        times = levels.times(len(batch.x), like=batch.x, generator=generator)
        values = denoising_score_matching(
            self.noise,
            self.process,
            batch.x,
            weighting=self.config.weighting,
            spread=spread,
            condition=condition,
            times=times,
            generator=generator,
        )
        return Loss(levels.reweigh(values, times, self.config.weighting, self.uncertainty).mean())

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The loss where the network answers 0; None where errors are weighed by what is learned."""
        return None if self.uncertainty is not None else silent_network(self.network, loss)

    def _condition(self, condition: Condition | None, x: Tensor) -> Condition | None:
        """The condition as the network takes it, in z-scores: the null condition in place of none."""
        if condition is not None or self.condition_spec is None:
            shown: Condition | None = self.condition_range(condition)
            return shown
        if not self.drops:
            raise ConfigError(
                "this score was trained with a condition and got none",
                hint="pass the condition, or train with condition_dropout above 0 for a score without one",
            )
        absent: Condition = self.condition_range(null_condition(self.condition_spec, x))
        return absent
