"""A score of events given a condition that may diffuse too, at a speed of its own.

Batzolis, Stanczuk, Schoenlieb and Etmann (2021), sections 3 and 4; Batzolis et al. (2022), section 5.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, TensorSpec, measured_rows, repeat_condition
from scorefold.diffusion import Schedule, expand, probability_flow_log_prob, process_of
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, Loss, Prepares, Progress, ScoreModel, Trainable, as_network
from scorefold.interfaces.score import BoundScore
from scorefold.random import draw_normal, draw_uniform
from scorefold_conditional.conditional.layout import LEVEL, Layout, annealed_speed, condition_schedule
from scorefold_conditional.conditional.objective import ConditionBlock, ConditionNoise, joint_loss
from scorefold_conditional.config import ConditionalConfig
from scorefold_conditional.inverse import mask_of, measured_by
from scorefold_toolkit.nn import loss_uncertainty, named_parts, named_specs
from scorefold_toolkit.nn.conditions import ConditionRange, check_condition_finite, with_null_class
from scorefold_toolkit.score_matching.losses import Standardised
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels, short_noise
from scorefold_toolkit.training.validation import LossReference, silent_network

Parts = Mapping[str, Tensor]


class Conditional(ScoreModel, Trainable):
    """grad_x log p_t(x given y_t), where y_t is the condition diffused at speed r (0: y_t = y, at all times).

    The network is shown, side by side, x_t and y_t, each centred and brought to unit size by its own mean, standard
    deviation, signal and scale, and the noise level log(scale / signal) of x; it gives the noise of x and, where the
    loss is joint, of y. ``score`` takes the condition as it stands at t; ``bind`` takes the condition itself and noises
    it. Integer conditions (classes) and the parts that ``clean`` names never diffuse.

    ``reached_speed`` is the speed of the last training step of vs-cmde: sampling uses it, and it is the target at the
    end of the annealing. Validation is at the target, so that its losses can be compared.

    >>> from scorefold_registry import Host
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> ring = {"use": "data:posterior", "config": {"points": 200}}
    >>> score = Host.discover().create("score:conditional", {"network": network, "estimator": "cde"}, data=ring)
    >>> score.sample(3, condition=torch.zeros(1, 1), steps=4).shape
    torch.Size([3, 1, 2])
    """

    condition_mean: Tensor
    condition_std: Tensor
    reached_speed: Tensor
    mask: Tensor | None

    def __init__(self, config: ConditionalConfig, *, data: DataSource) -> None:
        process = process_of(config.process, data.event_scale, data.event_shape)
        super().__init__(process, data.event_shape, data.condition_spec, data.event_scale)
        self.remarks = short_noise(process, data.event_scale, data.event_shape)
        self.config = config
        self.training_config = config.training
        self.event_schedule = process.schedule
        self.specs = named_specs(data.condition_spec)
        if data.condition_spec is None:
            raise ConfigError(
                "score:conditional was given data without a condition",
                hint="use score:denoising, or data with one, such as data:paired",
            )
        self.register_buffer("mask", mask_of(config, self.event_shape))
        self.layout = Layout.of(
            self.event_shape,
            data.condition_spec,
            diffuses=config.speed > 0,
            clean=config.clean,
            extra=0 if self.mask is None else self.mask.shape[1],
        )
        if config.speed > 0 and not self.layout.diffusing:
            raise ConfigError(
                f"the estimator {config.estimator} diffuses the condition, but this condition has only classes "
                "and clean parts",
                hint="estimator: cde",
            )
        self.operator = measured_by(config, self.event_shape, self.specs)
        self.predicted = self._predicted()
        self.network = self._built(config.network)
        self.uncertainty = loss_uncertainty(config.weighting)
        numbers = [name for name, spec in self.specs.items() if spec.classes is None]
        # Each number of a vector has units of its own, and all numbers of an image have one.
        sizes = [math.prod(self.specs[name].shape) if len(self.specs[name].shape) < 2 else 1 for name in numbers]
        starts = [0, *itertools.accumulate(sizes)]
        self.places = {name: slice(*ends) for name, ends in zip(numbers, itertools.pairwise(starts), strict=True)}
        self.register_buffer("condition_mean", torch.zeros(starts[-1]))
        self.register_buffer("condition_std", torch.ones(starts[-1]))
        self.register_buffer("reached_speed", torch.tensor(config.speed))
        self.condition_range = ConditionRange(data.condition_spec)

    def _predicted(self) -> tuple[str, ...]:
        """The parts of the condition whose noise the network predicts as well."""
        if not self.config.joint:
            return ()
        apart = [name or "the condition" for name in self.layout.diffusing if name not in self.layout.beside]
        if apart:
            raise ConfigError(
                f"{', '.join(apart)} diffuses and is no image beside an image, so the network can't predict its noise",
                hint="joint: false",
            )
        return self.layout.diffusing

    def _built(self, builder: Any) -> torch.nn.Module:
        builder = as_network(builder, "the network of score:conditional")
        embedded: dict[str, TensorSpec] = dict(self.layout.embedded)
        if self.config.condition_dropout > 0:
            shown = with_null_class(embedded)
            assert isinstance(shown, Mapping)
            embedded = dict(shown)
        if self.config.amortise:
            embedded[LEVEL] = TensorSpec((1,))
        network: torch.nn.Module = builder.build(
            self.layout.in_shape, self.layout.out_shape(self.predicted), time=True, condition=embedded or None
        )
        if isinstance(network, Prepares):
            raise ConfigError(
                f"{type(network).__name__} takes statistics of events alone, and is shown a condition beside them",
                hint="network: {use: network:mlp} or {use: network:unet}",
            )
        return network

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the range of the condition, and the mean and standard deviation of each number of a vector and of all
        numbers of an image, of the first points (``measured_rows``)."""
        if not self.places:
            return
        widest = max((self.specs[name].shape for name in self.places), key=math.prod)
        rows = measured_rows(len(dataset), widest)
        condition = dataset.take(torch.arange(rows)).condition
        self.condition_range.prepare(condition)
        parts = named_parts(self.condition_spec, condition)
        for name, place in self.places.items():
            std, mean = torch.std_mean(parts[name].double().reshape(-1, place.stop - place.start), 0, correction=0)
            self.condition_mean[place] = mean.to(self.condition_mean)
            self.condition_std[place] = torch.where(std > 0, std, 1.0).to(self.condition_std)
            if name in self.layout.diffusing:
                self._warn_of_drowned(name)

    def _warn_of_drowned(self, name: str) -> None:
        """Warns of numbers whose deviation is below the least noise of the diffusing condition."""
        signal, scale = self.schedule_of().signal_scale(self.condition_std.new_full((1,), self.process.t_min))
        noise, std = float(scale / signal), self._units(name)[1].reshape(-1)
        if drowned := (std < noise).nonzero()[:, 0].tolist():
            which = f"number {drowned[0] + 1} of the condition{f' {name!r}' if name else ''}"
            warnings.warn(
                f"{which} has deviation {float(std[drowned[0]]):.3g} and noise of {noise:.3g} at least, in which it is "
                "lost; set estimator: cde, which reads it without noise, or scale it to a deviation near 1",
                stacklevel=2,
            )

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        sizes = torch.tensor([place.stop - place.start for place in self.places.values()], dtype=torch.long)
        for name in ("condition_mean", "condition_std"):
            given = state_dict.get(prefix + name)
            if given is not None and len(given) == len(sizes):  # saved when a part had one unit
                state_dict[prefix + name] = given.repeat_interleave(sizes.to(given.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def schedule_of(self, speed: float | Tensor | None = None) -> Schedule:
        """The schedule of a diffusing condition: at ``speed``, or at the one that the model was trained for."""
        if speed is None:
            speed = float(self.reached_speed) if self.config.estimator == "vs-cmde" else self.config.speed
        return condition_schedule(self.event_schedule, speed)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        schedule = self.schedule_of() if self.layout.diffusing else None
        if condition is None:
            return self._noises(x, t, self._absent(x), schedule)[0]
        return self._noises(x, t, self._standard(self._parts(condition, x), t, schedule), schedule)[0]

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: float = 1.0,
        condition_noise: str | None = None,
        condition_speed: float | None = None,
        consistency: float | None = None,
        **options: Any,
    ) -> BoundScore:
        """The score of (x, t) given the condition itself, which is noised here as it was in training.

        ``condition_noise`` is ``fresh``, ``path`` or ``frozen`` (see ``ConditionNoise``), ``consistency`` the strength
        of the projection onto what the operator and the condition say; both are the configuration's unless given.
        ``condition_speed`` chooses the speed of a model trained with ``amortise``. Every event has noise of its own,
        drawn from ``generator``. A clean condition is encoded once. Raises ``ConfigError`` for values that do not fit.
        """
        if options:
            known = "guidance, condition_noise, condition_speed and consistency"
            raise ConfigError(
                f"{type(self).__name__} knows no sampling option {', '.join(options)}", hint=f"it knows {known}"
            )
        name = self.config.condition_noise if condition_noise is None else condition_noise
        if name not in ("fresh", "path", "frozen"):
            raise ConfigError(f"condition_noise is {name!r}; expected fresh, path or frozen")
        for option, value in (("condition_speed", condition_speed), ("consistency", consistency)):
            if value is not None and not isinstance(value, int | float):
                raise ConfigError(f"{option} is {value!r}; expected a number")
        speed = self._speed_for(condition_speed)
        schedule = self.schedule_of(speed) if self.layout.diffusing else None

        def scored(x: Tensor, t: Tensor, shown: Any) -> Tensor:
            return self.process.score_from_noise(self._noises(x, t, shown, schedule)[0], x, t)

        def absent(x: Tensor, t: Tensor) -> Tensor:
            x, t, _ = self.match_inputs(x, t)
            return self.in_calls(scored, x, t, self._absent(x))

        if condition is None:
            return absent
        check_condition_finite(condition)
        whole = self._parts(condition, self.condition_mean)
        noise = {part: ConditionNoise(name, generator) for part in self.layout.diffusing}  # type: ignore[arg-type]

        @lru_cache(maxsize=1)
        def encoded(count: int) -> tuple[Parts, Parts]:
            """The condition for a number of events, as given and, if it does not diffuse, as input of the network."""
            repeated = repeat_condition(whole, count)
            assert isinstance(repeated, Mapping)
            still = {part: y for part, y in repeated.items() if part not in noise}
            return repeated, self._standard(still, None, None)

        def bound(x: Tensor, t: Tensor) -> Tensor:
            x, t, _ = self.match_inputs(x, t)
            clean, shown = encoded(len(x))
            if schedule is not None:
                noised = {part: noise[part].at(clean[part], t, schedule) for part in noise}
                shown = {**shown, **self._standard(noised, t, schedule)}
            given = self.in_calls(scored, x, t, shown)
            if guidance == 1.0:
                return given
            return guidance * given + (1 - guidance) * absent(x, t)

        strength = self.config.consistency if consistency is None else consistency
        return bound if strength == 0 else self._consistent(bound, whole, strength)

    def log_prob(
        self,
        x: Tensor,
        condition: Condition | None = None,
        *,
        trace: str = "exact",
        probes: int = 1,
        generator: torch.Generator | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-5,
    ) -> Tensor:
        """log p(x | condition) in nats, (B,), by the probability-flow ODE with the condition's noise frozen.

        ``consistency`` is left out: draws that are moved onto a plane have no density. With a clean condition (cde)
        that is the model's conditional likelihood. With a diffusing one, it is the log-density of what the flow of that
        one draw of the condition's noise generates, which another draw changes: a deterministic flow needs its noise
        held, and a mean over draws of its logarithm bounds the log-density of their mixture from below. Raises as
        ``scorefold.diffusion.probability_flow_log_prob``.
        """
        self.check_events(x)
        bound = self.bind(condition, generator=generator, condition_noise="frozen", consistency=0.0)
        if self.layout.diffusing and len(x):
            with torch.no_grad():  # the noise is drawn here, since nothing may be drawn inside the trace
                bound(x, x.new_full((len(x),), self.process.t_min))
        return probability_flow_log_prob(
            bound, self.process, x, trace=trace, probes=probes, generator=generator, rtol=rtol, atol=atol
        )

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The loss where the network answers 0; None where errors are weighed by what is learned."""
        return None if self.uncertainty is not None else silent_network(self.network, loss)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        x0, parts = batch.x, self._parts(batch.condition, batch.x)
        levels = NoiseLevels(self.process, self.config.levels, self.event_scale.std)
        t = levels.times(len(x0), like=x0, generator=generator)
        z = draw_normal(tuple(x0.shape), generator=generator, like=x0)
        x = self.process.perturb(x0, t, z)
        speed = self._training_speed(progress, x0, generator)
        schedule = condition_schedule(self.event_schedule, speed) if self.layout.diffusing else None
        # Drawn for a clean condition too, so that trainings which differ in the speed alone see the same events.
        noises = {
            name: draw_normal(tuple(parts[name].shape), generator=generator, like=x0) for name in self.layout.numbers
        }
        noised = dict(parts)
        if schedule is not None:
            signal, scale = schedule.signal_scale(t)
            for name in self.layout.diffusing:
                noised[name] = expand(signal, parts[name]) * parts[name] + expand(scale, noises[name]) * noises[name]
        shown = self._standard(noised, t, schedule)
        kept = self._kept(x0, generator)
        if kept is not None:
            shown = {name: torch.where(expand(kept, y), y, self._absent(x0)[name]) for name, y in shown.items()}
        found, others = self._noises(x, t, shown, schedule)
        blocks = {"event": ConditionBlock(found - z, self.event_schedule, self.event_scale.std)}
        if schedule is not None:
            weight = None if kept is None else kept.to(x0)
            for name, answer in others.items():
                block = ConditionBlock(answer - noises[name], schedule, self._units(name)[1], weight)
                blocks[name or "condition"] = block
        weighting = self.config.weighting
        losses = joint_loss(blocks, t, weighting)
        whole = levels.reweigh(torch.stack(list(losses.values())).sum(0), t, weighting, self.uncertainty)
        if len(losses) == 1:
            return Loss(whole.mean())
        parted = {
            f"loss of the {name}": levels.reweigh(value, t, weighting).mean().detach() for name, value in losses.items()
        }
        return Loss(whole.mean(), parted)

    def refuses(self, strategy: str) -> str | None:
        if strategy == "compile" and self.config.estimator == "vs-cmde":
            return "the speed of its condition changes at every step, and each would be compiled anew"
        return None

    def _training_speed(self, progress: Progress, like: Tensor, generator: torch.Generator) -> float | Tensor:
        """The condition's speed at a step: annealed, drawn for each point (B,), or fixed."""
        target = self.config.speed
        if self.config.amortise:
            return target ** draw_uniform((len(like),), generator=generator, like=like)
        if self.config.estimator != "vs-cmde" or not self.training:
            return target
        speed = annealed_speed(target, progress.step, max(1, round(self.config.anneal * progress.total) - 1))
        self.reached_speed.fill_(speed)
        return speed

    def _speed_for(self, asked: float | None) -> float | None:
        """The speed that sampling was asked for, None for the model's own."""
        if asked is None:
            return None
        if not self.config.amortise:
            raise ConfigError(
                f"condition_speed = {asked:g} was asked for, and this model was trained at {self.config.speed:g} alone",
                hint="train with amortise: true, or leave condition_speed out",
            )
        if not self.config.speed <= asked <= 1:
            raise ConfigError(
                f"condition_speed = {asked:g} was asked for; this model was trained at {self.config.speed:g} to 1"
            )
        return asked

    def _standard(self, parts: Parts, t: Tensor | None, schedule: Schedule | None) -> dict[str, Tensor]:
        """Parts of the condition as they stand at t (B,), centred and of unit size; classes as they are."""
        shown = {}
        for name, y in parts.items():
            if name not in self.places:
                shown[name] = y
                continue
            mean, std = self._units(name)
            if schedule is not None and t is not None and name in self.layout.diffusing:
                signal, scale = (expand(value, y) for value in schedule.signal_scale(t))
                shown[name] = (y - signal * mean) / ((signal * std) ** 2 + scale**2).sqrt()
            else:
                shown[name] = (y - mean) / std
        return shown

    def _parts(self, condition: Condition | None, like: Tensor) -> dict[str, Tensor]:
        """The parts of a condition by name, numbers in the dtype of ``like``."""
        parts = named_parts(self.condition_spec, condition)
        return {name: y.to(like.dtype) if name in self.places else y for name, y in parts.items()}

    def _absent(self, x: Tensor) -> dict[str, Tensor]:
        """Value for no condition, for each row of x: the class after the last, or the mean."""
        if self.config.condition_dropout == 0:
            raise ConfigError(
                "this score was trained with a condition and got none",
                hint="pass the condition, or train with condition_dropout above 0 for a score without one",
            )
        return {
            name: x.new_zeros(len(x), *spec.shape)
            if spec.classes is None
            else torch.full((len(x), *spec.shape), spec.classes, dtype=torch.long, device=x.device)
            for name, spec in self.specs.items()
        }

    def _kept(self, x: Tensor, generator: torch.Generator) -> Tensor | None:
        """Random mask of the points that keep their condition, (B,); None if all do."""
        share = self.config.condition_dropout
        return None if share == 0 else draw_uniform((len(x),), generator=generator, like=x) >= share

    def _noises(
        self, x: Tensor, t: Tensor, shown: Parts, schedule: Schedule | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The expected noise of x (B, *E) and of the predicted parts of the condition, from what the network is
        shown."""
        events, level = Standardised.at(self.process, self.event_scale, x, t)
        embedded = {name: shown[name] for name in self.layout.embedded}
        if self.config.amortise and schedule is not None:
            embedded[LEVEL] = -schedule.log_snr(t)[:, None] / 8  # of order 1
        answer = self.network(self.layout.stack(events.input, shown, self.mask), level, embedded or None)
        own, others = self.layout.split(answer, self.predicted)
        found = {}
        for name, part in others.items():
            assert schedule is not None
            _, std = self._units(name)
            a, b = (expand(value, part) for value in schedule.signal_scale(t))
            # What was shown is centred and of unit size: its size brings the deviation from the mean back.
            deviation = shown[name] * ((a * std) ** 2 + b**2).sqrt()
            found[name] = Standardised.of(deviation, a, b, std).expected_noise(part, self.config.prediction)
        return events.expected_noise(own, self.config.prediction), found

    def _units(self, name: str) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of a part of the condition, which broadcast with it."""
        place, shape = self.places[name], self.specs[name].shape
        shape = shape if len(shape) < 2 else ()
        return self.condition_mean[place].reshape(shape), self.condition_std[place].reshape(shape)

    def _consistent(self, bound: BoundScore, parts: Parts, strength: float) -> BoundScore:
        """The bound score, its guess of the clean event drawn to what the operator and the condition say."""
        if self.operator is None:
            raise ConfigError(
                f"consistency = {strength:g} was set, but this model has no operator",
                hint="set operator in its config to the one that made the condition",
            )
        if not 0 <= strength <= 1:
            raise ConfigError(f"consistency = {strength:g} was asked for; expected a strength from 0 to 1")
        from scorefold_conditional.inverse import project

        operator, y = self.operator(parts)
        return project(bound, self.process, operator, y, strength=strength, noise_std=self.config.noise_std)
