"""Multi-scale diffusion (Batzolis et al. 2022): a network for each scale, on what is not yet noise there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset, measured_rows
from scorefold.diffusion import LinearLogSNR
from scorefold.diffusion.process import tabulated
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, Loss, Phase, Prepares, Progress, ScoreModel, Trainable, as_network
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
    spec_at,
    spec_with_levels,
    training_levels,
    weighted_losses,
)
from scorefold_nonuniform.bands.speeds import banded_process, noisiest, spend_budget
from scorefold_nonuniform.config import LearnedBandsConfig, MultiScaleConfig
from scorefold_toolkit.config.common import WeightingConfig
from scorefold_toolkit.nn import loss_uncertainty
from scorefold_toolkit.training.validation import LossReference, silent_network


class ScaleNetwork(nn.Module):
    """The network of a scale, what it learns of its own loss, and whether it was trained."""

    trained: Tensor

    def __init__(self, network: nn.Module, weighting: WeightingConfig) -> None:
        super().__init__()
        self.network = network
        self.uncertainty = loss_uncertainty(weighting)
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))

    def forward(self, image: Tensor, level: Tensor, condition: Condition | None) -> Tensor:
        answer: Tensor = self.network(image, level, condition)
        return answer


class MultiScaleScore(BandedScore, Trainable):
    """The score of events whose bands are noised one after the other, by a network a scale.

    Scale i = 0, 1, ... (0 the finest) serves the times in (T_i, T_{i+1}] with T_0 = t_min. The bands 0, ..., i - 1 have
    ended and are dropped, and network i sees the others as a smaller event. An ended band has the score of its boundary
    distribution. Networks share nothing and are trained one by one, each in a phase that depends on no other phase.

    ``parts`` are models of this class that were trained on some scales elsewhere. Their networks are taken over, with
    the moments of the data that they saw. So the remaining scales must be trained on the same data.

    >>> from scorefold_registry import Host
    >>> field = {"use": "data:gaussian-field", "config": {"size": 8, "points": 100}}
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> score = Host.discover().create("score:multiscale", {"network": network}, data=field)
    >>> [phase.name for phase in score.phases()]
    ['scale-1', 'scale-2', 'scale-3']
    """

    ends: Tensor

    def __init__(self, config: MultiScaleConfig, *, data: DataSource, parts: Sequence[ScoreModel] = ()) -> None:
        if isinstance(config.bands, LearnedBandsConfig):
            raise ConfigError(
                "learned axes change with training, and the networks of scales are trained apart",
                hint="use score:nonuniform, whose one network is trained with them, or bands: pca",
            )
        bands = build_bands(config.bands, data.event_shape)
        count = len(bands)
        ours = config.construction == "ours"
        process = banded_process(config, bands, deviation=data.event_scale.std, unit=None if ours else 1.0)
        super().__init__(process, data.event_shape, data.condition_spec, data.event_scale)
        if len(process.breakpoints) != count - 1:
            raise ConfigError(
                f"bands end at {list(config.ends or ())}: a scale between two equal ends has no time",
                hint="give increasing ends, or use score:nonuniform, whose network serves any",
            )
        self.config, self.bands = config, bands
        self.training_config = config.training
        networks = [self._build(network, scale) for scale, network in enumerate(_networks(config, count))]
        self.networks = nn.ModuleList(networks)
        self.moments = BandMoments(bands, data.event_scale, centred=ours)
        self.interval_ends = (process.t_min, *process.breakpoints, process.t_max)
        """t_min and the times T_1, ..., T_n at which bands end."""
        self.register_buffer("ends", torch.tensor(self.interval_ends[1:]))
        self._match()
        self.train_here = tuple(scale - 1 for scale in config.train or range(1, count + 1))
        _check_scales(config, count)
        for part in parts:
            self._take_over(part)
        self.trained_elsewhere = self.trained
        again = set(config.train or ()) & {scale + 1 for scale in self.trained}
        if again:
            raise ConfigError(
                f"train names scale {min(again)}, which a part has trained", hint="leave it out of train, or the part"
            )

    @property
    def trained(self) -> tuple[int, ...]:
        """The scales whose networks were trained."""
        return tuple(scale for scale in range(len(self.bands)) if bool(self._network(scale).trained))

    def scale_at(self, t: Tensor) -> Tensor:
        """The scale whose network serves times t (B,), integers (B,); the end of an interval belongs to it.

        The margin lets an end that was rounded to another dtype count as the end.
        """
        return (t[:, None] > self.ends[:-1] * (1 + 1e-6)).sum(1)

    def coefficient_score(self, z: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """The score W grad log p_t of coefficients z (B, *E) at times t (B,): (B, *E)."""
        mean, deviation = self.coefficients.prior(z)
        score = (mean - z) / deviation**2
        if len(z) == 0:
            return score
        # A sampler's times are looked up once a run: each look at a number would wait for an accelerator.
        one = tabulated(t, self, lambda times: self.scale_at(times).tolist())
        if one is None and (t.stride(0) == 0 or len(t) == 1):
            one = int(self.scale_at(t[:1])[0].item())
        if one is not None:
            return self._put_score(score, z, t, condition, one)
        scales = self.scale_at(t)
        for scale in range(len(self.bands)):
            rows = (scales == scale).nonzero().flatten()
            if rows.numel():
                given = Dataset(x=z, condition=condition).take(rows)
                part = self._put_score(score[rows], given.x, t[rows], given.condition, scale)
                score = score.index_copy(0, rows, part)
        return score

    def _put_score(self, score: Tensor, z: Tensor, t: Tensor, condition: Condition | None, scale: int) -> Tensor:
        v = self.bands.take(z, scale)
        noised = self._noised(t, scale)
        return self.bands.put(-self.active_noise(v, t, noised, condition, scale) / noised.scale, scale, score)

    def active_noise(self, v: Tensor, t: Tensor, noised: Noised, condition: Condition | None, scale: int) -> Tensor:
        """The expected noise of the active coefficients v (B, *V) of a scale, at one of its times."""
        network = self._network(scale)
        if self.config.train is not None and not bool(network.trained):
            self._refuse_untrained(scale)
        condition = given_or_null(condition, self.condition_spec, self.config.condition_dropout, v)
        condition = condition_at(condition, self.condition_spec, self.event_shape, v)
        if self.config.construction == "published":
            image = self.bands.synthesise(v, scale)
            answer: Tensor = self.bands.analyse(network(image, 20 * t - 10, condition), scale)
            return answer
        mean = self.bands.take(self.moments.mean[None], scale)
        deviation = self.moments.deviations[self.bands.active_index(scale)]
        image = self.bands.synthesise(network_view(v, noised, mean, deviation), scale)
        answer = self.bands.analyse(network(image, noised.time, condition_with_levels(condition, noised)), scale)
        return noise_from_answer(answer, v, noised, mean, deviation)

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Measures the bands' moments on the first training points (``measured_rows``).

        The moments give the ends, where a budget sets these, and the distributions of boundaries. With ``parts`` all
        these are copied from the parts.

        Raises ``DataError`` for a band without variance, and for other data than the parts were trained on.
        """
        x = dataset.tensor(measured_rows(len(dataset), self.event_shape))
        if not self.trained_elsewhere:
            self.bands.prepare(x)
        found = BandMoments.of(self.bands, x)
        if still := found.still():
            raise DataError(
                f"the band {self.bands.names[still[0]]} is the same in all {len(dataset)} training points: there is "
                "nothing to diffuse",
                hint="use fewer levels or bands",
            )
        if self.trained_elsewhere:
            if not self.moments.agree(found):
                raise DataError(
                    "the parts were trained on other data: these have other moments in their bands",
                    hint="plug in the data stage that the parts were trained on",
                )
            return
        self.moments.take(found)
        if self.config.boundary_kl is not None:
            self._spend(self.config.boundary_kl)
        self._match()

    def _match(self) -> None:
        if self.config.boundary == "matched":
            self.moments.match_boundaries(self.coefficients)

    def _spend(self, nats: float) -> None:
        matched = self.config.boundary == "matched"
        energy = self.moments.variance if matched else self.moments.variance + self.moments.mean**2
        schedule = self.coefficients.schedules[0]
        assert isinstance(schedule, LinearLogSNR)
        shares = [energy[self.bands.index == band].double() for band in range(len(self.bands))]
        levels = [noisiest(share, nats / len(shares), matched=matched) for share in shares]
        spend_budget(schedule, levels, sets=self.config.budget_sets)
        self.ends.copy_(torch.as_tensor(schedule.t_end))

    def phases(self) -> Sequence[Phase]:
        """One for each scale that is trained here, in any order and anywhere: none needs another."""
        left = [scale for scale in self.train_here if scale not in self.trained_elsewhere]
        steps: Sequence[int | None] = [None] * len(self.bands)
        if self.config.scale_steps is not None:
            steps = self.config.scale_steps
        elif len(left) < len(self.bands):  # shares of all steps: other models train the other scales
            steps = _shares(self.config.training.steps, len(self.bands))
        return [
            Phase(f"scale-{scale + 1}", (self._network(scale),), steps=steps[scale], independent=True) for scale in left
        ]

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        scale = _scale(progress.phase)
        if self._network(scale).training:
            self._network(scale).trained.fill_(True)
        z0 = self.bands.transform(batch.x)
        start, end = list(pairwise(self.interval_ends))[scale]
        deviations, index = self.moments.deviations, self.bands.active_index(scale)
        levels = training_levels(self.coefficients, self.config, deviations, index, first=scale, interval=(start, end))
        t = levels.times(len(z0), like=z0, generator=generator)
        noised = self._noised(t, scale)
        v0 = self.bands.take(z0, scale)
        noise = draw_normal(tuple(v0.shape), generator=generator, like=v0)
        condition = kept_condition(batch, self.condition_spec, self.config.condition_dropout, generator)
        v = noised.signal * v0 + noised.scale * noise
        residual = self.active_noise(v, t, noised, condition, scale) - noise
        dispersion = self.coefficients.block_rates(t)[1][:, index]
        values = weighted_losses(residual, noised, deviations[index], dispersion, self.config.weighting)
        uncertainty = self._network(scale).uncertainty
        return Loss(levels.reweigh(values, t, self.config.weighting, uncertainty).mean())

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The loss of a scale whose network answers 0; None where errors are weighed by what is learned."""
        network = self._network(_scale(phase))
        if network.uncertainty is not None:
            return None
        trained = network.trained.clone()
        network.trained.fill_(True)  # it is asked before its first step
        try:
            return silent_network(network, loss)
        finally:
            network.trained.copy_(trained)

    def refuses(self, strategy: str) -> str | None:
        if strategy == "compile":
            return "its loss takes another network at each phase; compile the networks themselves"
        return None

    def _noised(self, t: Tensor, scale: int) -> Noised:
        return Noised.at(self.coefficients, t, self.bands.active_index(scale), scale)

    def _network(self, scale: int) -> ScaleNetwork:
        network = self.networks[scale]
        assert isinstance(network, ScaleNetwork)
        return network

    def _build(self, network: Any, scale: int) -> ScaleNetwork:
        shape = self.bands.shape(scale)
        spec = spec_at(network_spec(self.condition_spec, self.config.condition_dropout), self.event_shape, shape)
        if self.config.construction == "ours":
            spec = spec_with_levels(spec, len(self.bands) - scale)
        built = as_network(network, f"the network of scale {scale + 1}").build(shape, shape, time=True, condition=spec)
        if isinstance(built, Prepares):
            raise ConfigError(
                f"the network of scale {scale + 1} ({type(built).__name__}) takes statistics of events without noise, "
                "and bands have others at each scale",
                hint="use network:unet or network:mlp",
            )
        return ScaleNetwork(built, self.config.weighting)

    def _take_over(self, part: ScoreModel) -> None:
        """The networks that another model has trained, and the moments that it saw. Raises ``ConfigError`` where it is
        not the same model, its networks are others, or a scale comes twice."""
        if not isinstance(part, MultiScaleScore) or _kin(part.config) != _kin(self.config):
            raise ConfigError(
                "a part was plugged in that is no score:multiscale of this configuration",
                hint="parts may differ in 'train', 'scale_steps' and 'training' alone",
            )
        if not part.trained:
            raise ConfigError("a part was plugged in that is not trained", hint="fit it first")
        twice = set(self.trained) & set(part.trained)
        if twice:
            raise ConfigError(f"scale {min(twice) + 1} was trained by two parts", hint="plug in one of them")
        for scale in part.trained:
            self._refuse_another_network(part, scale)
        if self.trained and not self.moments.agree(part.moments):
            raise ConfigError(
                "the parts were trained on different data: their bands have different moments",
                hint="train all parts on one data stage, with one seed",
            )
        own = tuple(f"networks.{scale}." for scale in part.trained)
        state = part.state_dict()
        taken = {name: v for name, v in state.items() if name.startswith(own) or not name.startswith("networks.")}
        self.load_state_dict(taken, strict=False)

    def _refuse_another_network(self, part: MultiScaleScore, scale: int) -> None:
        """Raises ``ConfigError`` unless a part's network is built as the one here, for the same events."""
        settings, shapes = [], []
        for model in (self, part):
            network = _networks(model.config, len(model.bands))[scale]
            settings.append((type(network), getattr(network, "config", None)))
            state = model._network(scale).state_dict()
            shapes.append({name: tuple(value.shape) for name, value in state.items()})
        if self.event_shape != part.event_shape or settings[0] != settings[1] or shapes[0] != shapes[1]:
            raise ConfigError(
                f"the part that trained scale {scale + 1} has another network there, or other events, of shape "
                f"{part.event_shape}; here they have {self.event_shape}",
                hint="give all parts, and the model that they make, the same data and networks",
            )

    def _refuse_untrained(self, scale: int) -> None:
        done = [str(one + 1) for one in self.trained]
        raise ConfigError(
            f"scale {scale + 1} of this model was not trained; trained are {', '.join(done) or 'none'}",
            hint="train the others too and plug all into one score:multiscale: inputs: {parts: [...]}",
        )


def _scale(phase: str) -> int:
    """The scale that a phase trains."""
    return int(phase.removeprefix("scale-")) - 1


def _networks(config: MultiScaleConfig, count: int) -> list[Any]:
    networks = list(config.networks) or [config.network] * count
    if len(networks) != count:
        raise ConfigError(
            f"there are {len(networks)} networks and {count} scales", hint="give one a scale, the finest first"
        )
    return networks


def _shares(steps: int, count: int) -> list[int]:
    """The steps of each scale, equally many but for the remainder: the same whichever of them are trained here."""
    return [steps // count + (scale < steps % count) for scale in range(count)]


def _check_scales(config: MultiScaleConfig, count: int) -> None:
    wrong = [scale for scale in config.train or () if scale > count]
    if wrong:
        raise ConfigError(f"train names scale {wrong[0]}; there are {count}, 1 the finest")
    if config.scale_steps is not None and len(config.scale_steps) != count:
        raise ConfigError(f"scale_steps has {len(config.scale_steps)} numbers; there are {count} scales")


def _kin(config: MultiScaleConfig) -> Any:
    """The shared settings of the parts of one model."""
    return config.model_dump(exclude={"train", "scale_steps", "training", "network", "networks"})
