"""Non-uniform diffusion (Batzolis et al. 2022): one network for bands that diffuse at their own speeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, measured_rows
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, Loss, Prepares, Progress, Trainable, as_network
from scorefold.random import draw_normal
from scorefold_nonuniform.bands.coefficients import BandMoments, build_bands
from scorefold_nonuniform.bands.network_input import (
    BandedScore,
    Noised,
    condition_at,
    condition_with_levels,
    given_or_null,
    kept_condition,
    network_spec,
    network_view,
    noise_from_answer,
    spec_with_levels,
    training_levels,
    weighted_losses,
)
from scorefold_nonuniform.bands.speeds import banded_process
from scorefold_nonuniform.config import NonUniformConfig
from scorefold_toolkit.nn import loss_uncertainty
from scorefold_toolkit.training.validation import LossReference, silent_network


class NonUniformScore(BandedScore, Trainable):
    """The score of events whose bands diffuse at several speeds, by one network that is given the noise of each.

    The network sees the whole event at all times, its bands centred and of unit size, and the log-SNR of each band: so
    bands may end at one time, or one after the other. With equal ends it is the usual, uniform diffusion.

    >>> from scorefold_registry import Host
    >>> field = {"use": "data:gaussian-field", "config": {"size": 8, "points": 100}}
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> score = Host.discover().create("score:nonuniform", {"network": network}, data=field)
    >>> type(score.process).__name__, score.sample(2, steps=4).shape
    ('Rotated', torch.Size([2, 1, 8, 8]))
    """

    def __init__(self, config: NonUniformConfig, *, data: DataSource) -> None:
        bands = build_bands(config.bands, data.event_shape)
        process = banded_process(config, bands, deviation=data.event_scale.std)
        super().__init__(process, data.event_shape, data.condition_spec, data.event_scale)
        self.config, self.bands = config, bands
        self.training_config = config.training
        spec = spec_with_levels(network_spec(data.condition_spec, config.condition_dropout), len(bands))
        self.network = as_network(config.network, "the network of score:nonuniform").build(
            self.event_shape, self.event_shape, time=True, condition=spec
        )
        self.uncertainty = loss_uncertainty(config.weighting)
        if isinstance(self.network, Prepares):
            raise ConfigError(
                f"this network ({type(self.network).__name__}) takes statistics of events, and is shown bands",
                hint="use network:unet or network:mlp",
            )
        self.moments = BandMoments(bands, data.event_scale)
        self._match()

    def coefficient_score(self, z: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """The score of coefficients z (B, *E) at times t (B,): (B, *E)."""
        noised = self._noised(t)
        return -self._noise(z, noised, condition) / noised.scale

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the bands' moments from the first training points (``measured_rows``)."""
        x = dataset.tensor(measured_rows(len(dataset), self.event_shape))
        self.bands.prepare(x)
        found = BandMoments.of(self.bands, x)
        # A band that never changes is shown as noise alone.
        found.deviations.clamp_min_(1e-6 * float(found.deviations.max()))
        self.moments.take(found)
        self._match()

    def _match(self) -> None:
        if self.config.boundary == "matched":
            self.moments.match_boundaries(self.coefficients)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        z0 = self.bands.transform(batch.x)
        levels = training_levels(self.coefficients, self.config, self.moments.deviations, self.bands.index)
        t = levels.times(len(z0), like=z0, generator=generator)
        noised = self._noised(t)
        noise = draw_normal(tuple(z0.shape), generator=generator, like=z0)
        condition = kept_condition(batch, self.condition_spec, self.config.condition_dropout, generator)
        residual = self._noise(noised.signal * z0 + noised.scale * noise, noised, condition) - noise
        dispersion = self.coefficients.block_rates(t)[1][:, self.bands.index]
        deviation = self.moments.deviations[self.bands.index]
        values = weighted_losses(residual, noised, deviation, dispersion, self.config.weighting)
        return Loss(levels.reweigh(values, t, self.config.weighting, self.uncertainty).mean())

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The loss where the network answers 0; None where errors are weighed by what is learned."""
        return None if self.uncertainty is not None else silent_network(self.network, loss)

    def _noise(self, z: Tensor, noised: Noised, condition: Condition | None) -> Tensor:
        condition = given_or_null(condition, self.condition_spec, self.config.condition_dropout, z)
        condition = condition_at(condition, self.condition_spec, self.event_shape, z)
        deviation, transform = self.moments.deviations[self.bands.index], self.bands.transform
        image = transform.inverse(network_view(z, noised, self.moments.mean, deviation))
        answer = transform(self.network(image, noised.time, condition_with_levels(condition, noised)))
        return noise_from_answer(answer, z, noised, self.moments.mean, deviation)

    def _noised(self, t: Tensor) -> Noised:
        return Noised.at(self.coefficients, t, self.bands.index, 0)
