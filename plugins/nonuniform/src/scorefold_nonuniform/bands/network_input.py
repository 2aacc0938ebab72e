"""Input of networks for noised bands, and the meaning of their output.

A band of mean m and deviation s, with signal a and scale b at a time, is shown as (x - a m) / r with
r = sqrt(a^2 s^2 + b^2), of unit size at every speed; the answer F corrects the best linear guess of the noise,
eps-hat = (b / r^2) (x - a m) + (a s / r) F (Karras et al. 2022, table 1, band by band).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, Dataset, TensorSpec, repeat_condition
from scorefold.diffusion import Orthonormal, PerComponent
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_nonuniform.bands.coefficients import Bands
from scorefold_nonuniform.config import BandedConfig
from scorefold_toolkit.config.common import WeightingConfig
from scorefold_toolkit.nn import named_parts, named_specs
from scorefold_toolkit.nn.conditions import drop_condition, null_condition, with_null_class
from scorefold_toolkit.rotated import CoefficientScore
from scorefold_toolkit.score_matching.losses import noise_weight, total
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels

LEVELS = "levels"
"""The name under which networks get the log-SNR of each active band, as a part of their condition."""

_UNIT = 4.0  # log-SNRs of -10 to 10 as numbers of order one


@dataclass(frozen=True)
class Noised:
    """Active coefficients at times t (B,): signal, scale and levels of their bands, spread over the view (B, *V)."""

    signal: Tensor
    scale: Tensor
    levels: Tensor

    @classmethod
    def at(cls, process: PerComponent, t: Tensor, index: Tensor, first: int) -> Noised:
        """``index`` (*V) holds the band of each coefficient of a view, whose finest band is ``first``."""
        signal, scale = process.block_coefficients(t)
        return cls(signal[:, index], scale[:, index], process.levels(t)[:, first:])

    @property
    def time(self) -> Tensor:
        """The mean over active bands of log(scale / signal), (B,): the one noise level that networks take."""
        return -self.levels.mean(1) / 2


def network_view(v: Tensor, noised: Noised, mean: Tensor, deviation: Tensor) -> Tensor:
    """Noised coefficients v (B, *V) as a network is shown them. ``mean`` and ``deviation`` are moments of the data."""
    return (v - noised.signal * mean) / _size(noised, deviation)


def noise_from_answer(answer: Tensor, v: Tensor, noised: Noised, mean: Tensor, deviation: Tensor) -> Tensor:
    """eps-hat (B, *V) from the network's answer in coefficients (B, *V)."""
    size = _size(noised, deviation)
    guess = noised.scale / size**2 * (v - noised.signal * mean)
    return guess + noised.signal * deviation / size * answer


def training_levels(
    process: PerComponent,
    config: BandedConfig,
    deviations: Tensor,
    index: Tensor,
    *,
    first: int = 0,
    interval: tuple[float, float] | None = None,
) -> NoiseLevels:
    """The noise levels to train at, by the mean over active coefficients of ln(scale / signal) less ln of its band's
    deviation; ``deviations`` (bands,), ``index`` (*V) the band of each active coefficient, ``first`` the finest."""
    bands = torch.arange(first, len(deviations), device=index.device)
    share = (index.flatten() == bands[:, None]).sum(1) / index.numel()
    offset = share @ deviations[first:].log().to(share)

    def level(t: Tensor) -> Tensor:
        return -(process.levels(t)[:, first:] @ share.to(t)) / 2 - offset.to(t)

    return NoiseLevels(process, config.levels, interval=interval, level=level)


def weighted_losses(
    residual: Tensor, noised: Noised, deviation: Tensor, dispersion: Tensor, weighting: WeightingConfig
) -> Tensor:
    """The loss of each event, (B,), from eps-hat - eps (B, *V), the deviation of the data (*V) and g (B, *V); see
    ``scorefold_toolkit.score_matching.losses``."""
    if weighting.name == "likelihood":
        return total((dispersion / noised.scale * residual) ** 2 / 2, weighting)
    return total(noise_weight(weighting, noised.scale / (noised.signal * deviation)) * residual**2, weighting)


def _size(noised: Noised, deviation: Tensor) -> Tensor:
    return ((noised.signal * deviation) ** 2 + noised.scale**2).sqrt()


def bound_in_coefficients(
    score: Callable[[Tensor, Tensor, Condition | None], Tensor],
    transform: Orthonormal,
    condition: Condition | None,
    guidance: float = 1.0,
) -> CoefficientScore:
    """A score (z (B, *E), t (B,), condition) of coefficients with its condition and guidance fixed, for samplers:
    repeated for k events a row as ``ScoreModel.bind`` says."""
    rows = lru_cache(maxsize=1)(lambda count: repeat_condition(condition, count))

    def bound(z: Tensor, t: Tensor) -> Tensor:
        given = score(z, t, rows(len(z)))
        if condition is None or guidance == 1.0:
            return given
        return guidance * given + (1 - guidance) * score(z, t, None)

    return CoefficientScore(bound, transform)


class BandedScore(ScoreModel):
    """A score of events that is computed in their coefficients by ``bands``. Must: ``coefficient_score``."""

    bands: Bands

    @property
    def coefficients(self) -> PerComponent:
        """The process of the coefficients."""
        inner = self.process.inner
        assert isinstance(inner, PerComponent)
        return inner

    @abstractmethod
    def coefficient_score(self, z: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """The score W grad log p_t of coefficients z (B, *E) at times t (B,): (B, *E)."""

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        z = self.bands.transform(x)
        return self.bands.transform.inverse(self.coefficient_score(z, t, condition))

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: float = 1.0,
        **options: Any,
    ) -> BoundScore:
        """As ``ScoreModel.bind``; samplers take the score in the coefficients, where it costs no transform."""
        if options:
            return super().bind(condition, generator=generator, guidance=guidance, **options)
        return bound_in_coefficients(
            partial(self.in_calls, self.coefficient_score), self.bands.transform, condition, guidance
        )


def network_spec(spec: ConditionSpec | None, dropout: float) -> ConditionSpec | None:
    """The data's condition as networks get it: with a class more for none, where some are left out in training."""
    return with_null_class(spec) if spec is not None and dropout > 0 else spec


def kept_condition(
    batch: Dataset, spec: ConditionSpec | None, dropout: float, generator: torch.Generator
) -> Condition | None:
    """The condition of a batch to train with, some of its rows left out; None for a model without one."""
    if spec is None or batch.condition is None or dropout == 0:
        return batch.condition if spec is not None else None
    return drop_condition(batch.condition, spec, dropout, generator)


def given_or_null(
    condition: Condition | None, spec: ConditionSpec | None, dropout: float, like: Tensor
) -> Condition | None:
    """The condition, or the null condition where none is given for events ``like`` (B, ...).

    Raises ``ConfigError`` where no condition was left out in training.
    """
    if condition is not None or spec is None:
        return condition
    if dropout == 0:
        raise ConfigError(
            "this score was trained with a condition and got none",
            hint="pass the condition, or train with condition_dropout above 0: guidance needs that too",
        )
    return null_condition(spec, like)


def spec_with_levels(spec: ConditionSpec | None, count: int) -> Mapping[str, TensorSpec]:
    """The condition of a network: the data's own, by name, and the log-SNRs of ``count`` bands.

    Raises ``ConfigError`` where the data have a condition of that name.
    """
    named = {name or "condition": part for name, part in named_specs(spec).items()}
    if LEVELS in named:
        raise ConfigError(
            f"the data have a condition called {LEVELS!r}, which names the log-SNRs of bands here",
            hint="give the data's condition another name",
        )
    return {**named, LEVELS: TensorSpec((count,))}


def condition_with_levels(condition: Condition | None, noised: Noised) -> dict[str, Tensor]:
    """The condition of a network, as ``spec_with_levels`` describes it."""
    named = {} if condition is None else dict(condition) if isinstance(condition, Mapping) else {"condition": condition}
    return {**named, LEVELS: noised.levels / _UNIT}


def spec_at(spec: ConditionSpec | None, full: tuple[int, ...], shape: tuple[int, ...]) -> ConditionSpec | None:
    """The condition as a network on events of ``shape`` gets it: images of the size of whole events shrink with
    them."""
    named = {name: _shrunk_spec(part, full, shape) for name, part in named_specs(spec).items()}
    return None if spec is None else named[""] if isinstance(spec, TensorSpec) else named


def condition_at(
    condition: Condition | None, spec: ConditionSpec | None, full: tuple[int, ...], like: Tensor
) -> Condition | None:
    """The condition as ``spec_at`` describes it for a network that is shown ``like`` (B, *shape): numbers in its dtype,
    images as box means of the given ones. Raises ``ShapeError`` for a condition that is not as ``spec`` says."""
    specs, shape = named_specs(spec), tuple(like.shape[1:])
    parts = {
        name: value if specs[name].classes is not None else _shrunk(value.to(like.dtype), specs[name], full, shape)
        for name, value in named_parts(spec, condition).items()
    }
    return None if spec is None else parts[""] if isinstance(spec, TensorSpec) else parts


def _shrinks(spec: TensorSpec, full: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    images = spec.classes is None and len(spec.shape) in (2, 3) and len(shape) in (2, 3)
    return images and spec.shape[-2:] == full[-2:] != shape[-2:]


def _shrunk_spec(spec: TensorSpec, full: tuple[int, ...], shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec((*spec.shape[:-2], *shape[-2:])) if _shrinks(spec, full, shape) else spec


def _shrunk(value: Tensor, spec: TensorSpec, full: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    if not _shrinks(spec, full, shape):
        return value
    images = value[:, None] if len(spec.shape) == 2 else value
    small: Tensor = functional.adaptive_avg_pool2d(images, (shape[-2], shape[-1]))
    return small[:, 0] if len(spec.shape) == 2 else small
