"""Denoising score matching with named weightings, inputs and outputs of networks that predict the noise, and the path
of rectified flow."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from scorefold.data import Condition, EventScale
from scorefold.diffusion import DiffusionProcess, Isotropic, Schedule
from scorefold.diffusion.process import add, tabulated
from scorefold.diffusion.schedules import Value
from scorefold.errors import ConfigError, ShapeError
from scorefold.random import draw_normal, draw_uniform
from scorefold_toolkit.config.common import WeightingConfig, WeightingName

WEIGHTINGS: tuple[WeightingName, ...] = get_args(WeightingName)

Model = Callable[[Tensor, Tensor, Any], Tensor]
"""(x (B, *E), t (B,), condition) -> the expected noise or the score (B, *E), as a ``ScoreModel``'s methods give it."""


def draw_times(
    process: DiffusionProcess,
    count: int,
    *,
    like: Tensor,
    generator: torch.Generator | None = None,
    stratified: bool = False,
    interval: tuple[float, float] | None = None,
) -> Tensor:
    """Times (count,) uniform on an interval, [t_min, t_max] by default, on the device and in the dtype of ``like``.

    ``stratified`` spreads them evenly from one random offset, t_i = u + i / count modulo 1 (Kingma et al. 2021,
    app. I.1): each is still uniform, and the mean of a loss over the batch has less variance. Raises ``ConfigError``
    for an interval that leaves [t_min, t_max].
    """
    low, high = (process.t_min, process.t_max) if interval is None else interval
    if not process.t_min <= low < high <= process.t_max:
        whole = f"[{process.t_min:g}, {process.t_max:g}]"
        raise ConfigError(f"times in [{low:g}, {high:g}] were asked for; expected a part of {whole}")
    u = draw_uniform((1 if stratified else count,), generator=generator, like=like)
    if stratified:
        u = (u + torch.arange(count, device=like.device, dtype=like.dtype) / max(count, 1)) % 1
    return low + (high - low) * u


def denoising_score_matching(
    model: Model,
    process: DiffusionProcess,
    x0: Tensor,
    *,
    weighting: WeightingConfig | str = "likelihood",
    spread: float | Tensor = 1.0,
    predicts: Literal["noise", "score"] = "noise",
    condition: Condition | None = None,
    times: Tensor | None = None,
    stratified: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The denoising loss of each point x0 (B, *E) at one time, (B,), from one call of the model.

    ``model(x, t, condition)`` gives the expected noise, or the score with ``predicts="score"``. With the target
    s* = grad log p(x_t | x_0) = -scale^-T z the weightings are (Vincent 2011; Song et al. 2021, sec. 3; Batzolis et al.
    2022)

    - ``likelihood``: 1/2 ||G^T (s - s*)||^2, whose integral over time bounds the negative log-likelihood up to a
      constant; the mean over uniform times is that integral divided by t_max - t_min. For the geometric VE process it
      equals ln(sigma_max / sigma_min) ||eps-hat - z||^2.
    - ``sigma2``: ||scale^T (s - s*)||^2 = ||eps-hat - z||^2, summed over components.
    - all others: the mean over components of the same squares, each times ``noise_weight`` of its noise-to-signal
      ratio over ``spread``, the standard deviation of the data. ``simple`` is the eps-MSE of Ho et al. (2020).

    ``times`` (B,) are drawn by ``draw_times`` unless given. Raises ``ConfigError`` for an unknown weighting or
    prediction and for one that a matrix process can't have, ``ShapeError`` where times or the model's answer do not fit
    x0.
    """
    _check_known("predicts", predicts, ("noise", "score"))
    weighting = as_weighting(weighting)
    if times is None:
        times = draw_times(process, len(x0), like=x0, generator=generator, stratified=stratified)
    elif times.shape != x0.shape[:1]:
        raise ShapeError(f"times have shape {tuple(times.shape)}; expected ({len(x0)},), one for each point")
    noise = draw_normal(tuple(x0.shape), generator=generator, like=x0)
    x = process.perturb(x0, times, noise)
    answer = model(x, times, condition)
    if answer.shape != x0.shape:
        raise ShapeError(f"the model answered with shape {tuple(answer.shape)}; expected {tuple(x0.shape)}")
    residual = (answer if predicts == "noise" else process.noise_from_score(answer, x, times)) - noise
    return weighted_square(process, residual, x, times, weighting, spread=spread)


def weighted_square(
    process: DiffusionProcess,
    residual: Tensor,
    x: Tensor,
    t: Tensor,
    weighting: WeightingConfig | str,
    *,
    spread: float | Tensor = 1.0,
) -> Tensor:
    """The weighted square (B,) of errors eps-hat - z (B, *E) of the noise at x (B, *E) and times t (B,).

    The weightings and the errors raised are the same as in ``denoising_score_matching``.
    """
    weighting = as_weighting(weighting)
    if weighting.name == "likelihood":
        # s - s* = -scale^-T (eps-hat - z): dividing noise levels keeps small scales out of the squares.
        score_error = process.score_from_noise(residual, x, t)
        dispersion = process.dispersion(x, t)
        seen = dispersion * score_error if isinstance(dispersion, Tensor) else dispersion.apply_transpose(score_error)
        return (seen**2).flatten(1).sum(1) / 2
    if weighting.name in ("simple", "sigma2"):
        return total(residual**2, weighting)
    signal, scale = process.coefficients(x, t)
    if not isinstance(scale, Tensor):
        raise ConfigError(
            f"weighting {weighting.name} needs a noise level a component; {type(process).__name__} couples them",
            hint="weighting: simple",
        )
    return total(noise_weight(weighting, scale / (signal * spread)) * residual**2, weighting)


def noise_weight(weighting: WeightingConfig, ratio: Tensor) -> Tensor:
    """The factor on squared errors of the expected noise at ratios r = sigma / s, in the shape of ``ratio``.

    The formulas stand at ``WeightingConfig``; ``likelihood``, which needs the process, is not among them, and
    ``uncertainty`` is ``edm`` here: ``NoiseLevels.reweigh`` divides by what was learned.
    """
    square, gamma = ratio**2, weighting.strength
    match weighting.name:
        case "edm" | "uncertainty":
            return 1 + square
        case "flow":
            return (1 + ratio) ** 2
        case "min-snr":
            return (gamma * square).clamp(max=1)
        case "soft-min-snr":
            return gamma * square / (1 + gamma * square)
        case "p2":
            return (square / (1 + square)) ** gamma
        case _:
            return torch.ones_like(ratio)


def total(squares: Tensor, weighting: WeightingConfig) -> Tensor:
    """Weighted squares (B, *E) as the loss of each event, (B,): their sum or their mean, as the weighting says."""
    flat = squares.flatten(1)
    return flat.sum(1) if weighting.sums else flat.mean(1)


def as_weighting(weighting: WeightingConfig | str) -> WeightingConfig:
    """A weighting by its name, with its default settings, or as it is. Raises ``ConfigError`` for an unknown name."""
    if isinstance(weighting, WeightingConfig):
        return weighting
    _check_known("weighting", weighting, WEIGHTINGS)
    return WeightingConfig.model_validate({"name": weighting})


def _check_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        close = difflib.get_close_matches(str(value), known, n=1)
        raise ConfigError(
            f"{name} = {value!r}; expected {', '.join(known)}",
            hint=f"did you mean {close[0]}?" if close else None,
        )


@dataclass(frozen=True)
class Standardised:
    """Noised events x = a x_0 + b z (B, *E) as a network is shown them; a coordinate of x_0 has mean m and deviation s.

    ``centred`` x - a m, ``signal`` a, ``scale`` b, ``spread`` a s, ``square`` (a s)^2 + b^2 and ``size``, its root,
    broadcast to one another. Each is computed once, for what the network is shown and for its answer. All but
    ``centred`` are numbers where a sampler gave the time.

    >>> import torch
    >>> one = Standardised.of(torch.tensor([[5.0]]), torch.tensor(1.0), torch.tensor(4.0), 3.0)
    >>> one.input, one.expected_noise(torch.tensor([[0.0]]), "edm"), one.score(torch.tensor([[0.0]]), "edm")
    (tensor([[1.]]), tensor([[0.8000]]), tensor([[-0.2000]]))
    """

    centred: Tensor
    signal: Value
    scale: Value
    spread: Value
    square: Value
    size: Value

    @classmethod
    def of(cls, centred: Tensor, signal: Value, scale: Value, std: Value) -> Standardised:
        """The standardised events of ``centred`` ones, by the standard deviation ``std`` of x_0 a coordinate."""
        spread = signal * std
        square = spread**2 + scale**2
        return cls(centred, signal, scale, spread, square, _root(square))

    @classmethod
    def at(cls, process: DiffusionProcess, events: EventScale, x: Tensor, t: Tensor) -> tuple[Standardised, Tensor]:
        """The standardised events of x (B, *E) at times t (B,), and the level log(scale / signal) (B,) for the network.

        ``events`` has the mean and the deviation of x_0. Of components that diffuse at several speeds the level is the
        mean.
        """
        numbers = partial(_numbers, process, events)
        known = tabulated(t, (cls, process, events), numbers) if isinstance(process, Isotropic) else None
        if known is not None:
            shift, signal, scale, level = known
            return cls.of(x - shift, signal, scale, events.std), level.expand(len(t))
        signal, scale = process.coefficients(x, t)
        centred = x - signal * events.middle(x)
        return cls.of(centred, signal, scale, events.std), _level(process, t)

    @property
    def input(self) -> Tensor:
        """Input of the network, of unit size: (B, *E)."""
        return self.centred / self.size

    def expected_noise(self, answer: Tensor, prediction: str) -> Tensor:
        """eps-hat (B, *E) from the network's answer F.

        The answer is, by ``prediction``, ``eps``: eps-hat itself; ``x0``: (x_0 - m) / s; ``edm``: a correction of unit
        size to the best linear guess (Karras et al. 2022, app. B.6); ``v``: the velocity (a z - b (x_0 - m)) / sqrt(a^2
        + b^2) (Salimans and Ho 2022).
        """
        if prediction == "eps":
            return answer
        if prediction == "x0":
            return (self.centred - self.spread * answer) / self.scale
        of_centred, of_answer = self._weights(prediction)
        return add(of_centred * self.centred, of_answer, answer)

    def score(self, answer: Tensor, prediction: str) -> Tensor:
        """The score -eps-hat / b (B, *E) from the network's answer."""
        if isinstance(self.scale, Tensor) or prediction in ("eps", "x0"):
            return self.expected_noise(answer, prediction) / -self.scale
        of_centred, of_answer = self._weights(prediction)
        return add(of_centred / -self.scale * self.centred, of_answer / -self.scale, answer)

    def _weights(self, prediction: str) -> tuple[Value, Value]:
        """The factors of ``centred`` and of the answer in the expected noise."""
        if prediction == "edm":
            return self.scale / self.square, self.spread / self.size
        square = self.signal**2 + self.scale**2
        return self.scale / square, self.signal / _root(square)


def _root(value: Value) -> Value:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def _level(process: DiffusionProcess, t: Tensor) -> Tensor:
    log_snr = process.log_snr(t)
    return -0.5 * (log_snr if log_snr.dim() == 1 else log_snr.flatten(1).mean(1))


def _numbers(process: DiffusionProcess, events: EventScale, times: Tensor) -> list[tuple[Value, float, float, Tensor]]:
    """a m, a, b and the level at each of some times: a number, or a tensor where each coordinate has its own mean."""
    signal, scale = process.coefficients(times, times)
    pairs, middle = torch.stack([signal, scale], 1).tolist(), events.middle(times)
    shifts = (signal[:, None] * middle).unbind() if isinstance(middle, Tensor) else [a * middle for a, _ in pairs]
    return [(shift, a, b, level) for shift, (a, b), level in zip(shifts, pairs, _level(process, times), strict=True)]


class Rectified(Schedule):
    """x_t = (1 - t) x_0 + s t z: signal 1 - t, scale s t, on [t_min, t_end] inside (0, 1) (Liu et al. 2023).

    s is the deviation of the data, in whose units the noise is. The diffusion with these marginals has the drift
    -x / (1 - t) and the dispersion s sqrt(2 t / (1 - t)), so its probability flow is the flow that matching learns.

    >>> path = Rectified(2.0)
    >>> path.signal_scale(torch.tensor([0.25]))
    (tensor([0.7500]), tensor([0.5000]))
    """

    deviation: float

    def __init__(self, deviation: float = 1.0, *, t_min: float = 1e-3, t_end: float = 0.999) -> None:
        super().__init__()
        self.keep(deviation=deviation)
        self.t_min, self.t_end, self.prior_scale = t_min, t_end, deviation * math.hypot(t_end, 1 - t_end)

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = self.held(t)
        return 1 - t, self.deviation * t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = self.held(t)
        return -1 / (1 - t), self.deviation * (2 * t / (1 - t)).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (torch.logit(self.held(t)) + math.log(self.deviation))

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        ratio = noise_to_signal / self.deviation
        return ratio / (1 + ratio)
