"""Diagonal processes: one speed for the whole event, or one for each component or block of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import CosineConfig, EDMConfig, LogSNRConfig, SubVPConfig, VEConfig, VPConfig
from scorefold.data import EventScale
from scorefold.diffusion.process import DiffusionProcess, Isotropic, expand
from scorefold.diffusion.schedules import EDM, Cosine, GeometricVE, LinearLogSNR, LinearSubVP, LinearVP, Schedule
from scorefold.errors import ConfigError, ShapeError
from scorefold.random import draw_normal

Block = Any
"""A bool mask (*E), or anything that indexes an event: a slice, a tuple of slices, positions."""


class IsotropicProcess(DiffusionProcess, Isotropic):
    """All components diffuse by one schedule, whose parameters are numbers. Raises ``ConfigError`` for tensors.

    ``mean`` is the mean of the data, a number or a tensor that broadcasts to the event shape: the prior is
    N(signal mean, prior_scale^2). A mean of m in each of D coordinates is m sqrt(D) / prior_scale of the prior's
    deviations along one direction, which counts for large events however large the noise of a coordinate is.

    >>> process = IsotropicProcess(GeometricVE(0.1, 10.0))
    >>> noisy = process.perturb(torch.ones(1, 1), torch.ones(1), noise=torch.ones(1, 1))
    >>> round(float(noisy), 3), round(float(process.time_at(torch.ones(1))), 3)
    (11.0, 0.5)
    """

    def __init__(self, schedule: Schedule, mean: Tensor | float = 0.0) -> None:
        super().__init__()
        if _shape_of(schedule) != ():
            raise ConfigError(
                "an isotropic process got a schedule with a value for each component",
                hint="use PerComponent(event_shape, schedule)",
            )
        self.schedule = schedule
        self.t_min, self.t_max = schedule.t_min, float(schedule.t_end)
        self.prior_scale = float(schedule.prior_scale)
        signal, _ = schedule.signal_scale(torch.tensor([self.t_max], dtype=torch.float64))
        self.prior_mean = float(signal) * mean

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, scale = self.schedule.signal_scale(t)
        return expand(signal, x), expand(scale, x)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return expand(self.schedule.rates(t)[0], x) * x

    def dispersion(self, x: Tensor, t: Tensor) -> Tensor:
        return expand(self.schedule.rates(t)[1], x)

    def log_snr(self, t: Tensor) -> Tensor:
        return self.schedule.log_snr(t)

    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return self._prior_mean(like) + self.prior_scale * draw_normal(shape, generator=generator, like=like)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        scale = torch.as_tensor(self.prior_scale, dtype=x.dtype, device=x.device)
        return _normal_log_prob(x - self._prior_mean(x), scale)

    def _prior_mean(self, like: Tensor) -> Tensor | float:
        return self.prior_mean.to(like) if isinstance(self.prior_mean, Tensor) else self.prior_mean

    def noise_to_signal(self, t: Tensor) -> Tensor:
        signal, scale = self.schedule.signal_scale(t)
        return scale / signal

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        """The time (B,) at which scale / signal takes these values (B,). Raises ``ConfigError`` for values that the
        process does not reach on [t_min, t_max].
        """
        t = self.schedule.time_at(noise_to_signal)
        ends = self.noise_to_signal(torch.tensor([self.t_min, self.t_max], dtype=torch.float64)).tolist()
        # A value equal to an end may miss it by rounding, of the value and of its time.
        if bool(((noise_to_signal < ends[0] * (1 - 1e-5)) | (noise_to_signal > ends[1] * (1 + 1e-5))).any()):
            low, high = noise_to_signal.aminmax()
            raise ConfigError(
                f"noise-to-signal ratios from {float(low):.4g} to {float(high):.4g} were asked for; "
                f"this process has {ends[0]:.4g} to {ends[1]:.4g}",
                hint="choose values in that range, or a process with another noise range",
            )
        return t.clamp(self.t_min, self.t_max)


def VE(sigma_min: float = 0.01, sigma_max: float = 50.0, *, t_min: float = 0.0) -> IsotropicProcess:  # noqa: N802
    """The variance-exploding process; see ``GeometricVE``."""
    return IsotropicProcess(GeometricVE(sigma_min, sigma_max, t_min=t_min))


def VP(beta_min: float = 0.1, beta_max: float = 20.0, *, t_min: float = 1e-5) -> IsotropicProcess:  # noqa: N802
    """The variance-preserving process with linear beta; see ``LinearVP``."""
    return IsotropicProcess(LinearVP(beta_min, beta_max, t_min=t_min))


def SubVP(beta_min: float = 0.1, beta_max: float = 20.0, *, t_min: float = 1e-3) -> IsotropicProcess:  # noqa: N802
    """The sub-VP process with linear beta; see ``LinearSubVP``."""
    return IsotropicProcess(LinearSubVP(beta_min, beta_max, t_min=t_min))


AnyProcessConfig = VEConfig | VPConfig | SubVPConfig | LogSNRConfig | CosineConfig | EDMConfig


def process_of(config: AnyProcessConfig, scale: EventScale, event_shape: tuple[int, ...]) -> IsotropicProcess:
    """The process that ``process:`` describes for data of a scale: its noise and its prior are in units of these."""
    schedule = build_schedule(config, spread=scale.spread(event_shape), deviation=scale.std)
    return IsotropicProcess(schedule, scale.middle(torch.zeros((), dtype=torch.float64)))


def build_schedule(
    config: AnyProcessConfig, *, spread: float | None = None, deviation: float | None = None
) -> Schedule:
    """The schedule that a run file's ``process:`` describes.

    ``spread`` belongs to the data (``EventScale.spread``) and ``deviation`` to one coordinate (``EventScale.std``).
    Raises ``ConfigError`` for values that do not fit, and for noise relative to one that is not known or is 0.
    """
    match config:
        case VEConfig(relative=True):
            unit = _known("spread", spread, "set process.relative to false")
            return GeometricVE(config.sigma_min * unit, config.sigma_max * unit)
        case VEConfig():
            return GeometricVE(config.sigma_min, config.sigma_max)
        case VPConfig():
            return LinearVP(config.beta_min, config.beta_max, t_min=config.t_min)
        case SubVPConfig():
            return LinearSubVP(config.beta_min, config.beta_max, t_min=config.t_min)
        case LogSNRConfig():
            return LinearLogSNR(config.lam_max, config.lam_min, t_min=config.t_min)
        case CosineConfig():
            return Cosine(config.lam_max, config.lam_min)
        case EDMConfig(sigma_data=float(usual)):
            unit = _known("standard deviation", deviation, "set process.sigma_data to null") / usual
            return EDM(config.sigma_min * unit, config.sigma_max * unit, config.rho)
        case EDMConfig():
            return EDM(config.sigma_min, config.sigma_max, config.rho)


def _known(name: str, value: float | None, fix: str) -> float:
    if value:
        return value
    what = "is not known" if value is None else "is 0"
    raise ConfigError(
        f"the noise of this process is relative to the {name} of the data, which {what}",
        hint=f"{fix} and give sigma_min and sigma_max in units of the data",
    )


class PerComponent(DiffusionProcess):
    """Each component of an event, or each block of them, diffuses by its own schedule (Batzolis et al. 2022, sec. 2).

    ``schedules`` is one schedule whose parameters broadcast to the event shape; or one whose parameters are (n,) with
    ``blocks`` (*E), integers below n, the block of each component; or a list of (block, schedule) whose blocks cover
    each component once and whose schedules have numbers as parameters. t_min is the largest of the schedules' unless
    given; t_max is their last end. Drift and dispersion of a component are 0 after its end. Raises ``ShapeError`` for
    blocks that overlap or leave a component out, and for parameters that do not broadcast.

    >>> process = PerComponent((2,), [([0], GeometricVE(0.01, 1.0)), ([1], GeometricVE(0.01, 100.0))])
    >>> signal, scale = process.coefficients(torch.zeros(1, 2), torch.tensor([0.5]))
    >>> [round(float(value), 2) for value in scale[0]]  # each the root of its least times its greatest noise
    [0.1, 1.0]
    """

    index: Tensor | None
    prior_mean: Tensor | None
    prior_deviation: Tensor | None

    def __init__(
        self,
        event_shape: Sequence[int],
        schedules: Schedule | Sequence[tuple[Block, Schedule]],
        *,
        blocks: Tensor | None = None,
        t_min: float | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.register_buffer("prior_mean", None)
        self.register_buffer("prior_deviation", None)
        if isinstance(schedules, Schedule) and blocks is not None:
            _check_blocks(schedules, blocks, self.event_shape)
            self.schedules = nn.ModuleList([schedules])
            self.register_buffer("index", blocks)
        elif isinstance(schedules, Schedule):
            _check_parameters(schedules, self.event_shape)
            self.schedules = nn.ModuleList([schedules])
            self.index = None
        else:
            self.schedules = nn.ModuleList([schedule for _, schedule in schedules])
            self.register_buffer("index", _block_index([block for block, _ in schedules], self.event_shape))
            if any(_shape_of(schedule) != () for schedule in self._schedules()):
                raise ShapeError("the schedule of a block takes numbers; one with tensors serves the whole event")
        self.t_min = max(schedule.t_min for schedule in self._schedules()) if t_min is None else t_min
        self.t_max = max(float(torch.as_tensor(schedule.t_end).max()) for schedule in self._schedules())

    @property
    def breakpoints(self) -> tuple[float, ...]:
        ends: set[float] = set()
        for schedule in self._schedules():
            ends.update(torch.as_tensor(schedule.t_end, dtype=torch.float64).reshape(-1).tolist())
        return tuple(end for end in sorted(ends) if self.t_min < end < self.t_max)

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, scale = self._spread(lambda schedule, u: schedule.signal_scale(u), t)
        return signal, scale

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self._spread(_running_rates, t)[0] * x

    def dispersion(self, x: Tensor, t: Tensor) -> Tensor:
        return self._spread(_running_rates, t)[1]

    def log_snr(self, t: Tensor) -> Tensor:
        return self._spread(lambda schedule, u: (schedule.log_snr(u),), t)[0]

    def levels(self, t: Tensor) -> Tensor:
        """log(signal^2 / scale^2) of each block at times t (B,): (B, blocks). Raises ``ShapeError`` for a process
        without blocks.
        """
        return self._of_blocks(lambda schedule, u: (schedule.log_snr(u),), t)[0]

    def block_coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(signal, scale) of each block at times t (B,): (B, blocks) each. Raises as ``levels``."""
        signal, scale = self._of_blocks(lambda schedule, u: schedule.signal_scale(u), t)
        return signal, scale

    def block_rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a, g) of each block's dx = a x dt + g dw at times t (B,), 0 after its end: (B, blocks) each. Raises as
        ``levels``.
        """
        rate, dispersion = self._of_blocks(_running_rates, t)
        return rate, dispersion

    def set_prior(self, mean: Tensor, deviation: Tensor) -> None:
        """Makes the prior normal with this mean and standard deviation, each (*E), in place of the schedules' prior.

        That is the distribution of a component at the end of its time where data of that mean and deviation diffuse
        (Jing et al. 2022): a component may then end before its signal is gone.
        """
        for value in (mean, deviation):
            if tuple(value.shape) != self.event_shape:
                raise ShapeError(f"a prior of shape {tuple(value.shape)} was given; events have {self.event_shape}")
        self.prior_mean, self.prior_deviation = mean, deviation

    def prior(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of the prior, each (*E), on the device and in the dtype of ``like``."""
        if self.prior_mean is None or self.prior_deviation is None:
            scale = self._prior_scale(like)
            return torch.zeros_like(scale), scale
        return self.prior_mean.to(like), self.prior_deviation.to(like)

    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        mean, deviation = self.prior(like)
        return mean + deviation * draw_normal(shape, generator=generator, like=like)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        mean, deviation = self.prior(x)
        return _normal_log_prob(x - mean, deviation)

    def _schedules(self) -> list[Schedule]:
        return [schedule for schedule in self.schedules if isinstance(schedule, Schedule)]

    def _spread(self, evaluate: Callable[[Schedule, Tensor], tuple[Tensor, ...]], t: Tensor) -> tuple[Tensor, ...]:
        """Values of ``evaluate`` for each schedule at t (B,), each (B, *E)."""
        schedules = self._schedules()
        if self.index is None:
            values = evaluate(schedules[0], t.reshape(-1, *[1] * len(self.event_shape)))
            return tuple(value.expand(len(t), *self.event_shape) for value in values)
        return tuple(value[:, self.index] for value in self._of_blocks(evaluate, t))

    def _of_blocks(self, evaluate: Callable[[Schedule, Tensor], tuple[Tensor, ...]], t: Tensor) -> tuple[Tensor, ...]:
        """Values of ``evaluate`` for each block at t (B,), each (B, blocks)."""
        if self.index is None:
            raise ShapeError("this process has a speed for each component; a process with blocks has levels")
        schedules = self._schedules()
        if len(schedules) == 1:
            return evaluate(schedules[0], t[:, None])
        columns = zip(*(evaluate(schedule, t) for schedule in schedules), strict=True)
        return tuple(torch.stack(column, dim=-1) for column in columns)

    def _prior_scale(self, like: Tensor) -> Tensor:
        schedules = self._schedules()
        if self.index is None:
            return torch.as_tensor(schedules[0].prior_scale).to(like).expand(self.event_shape)
        scales = torch.cat([torch.as_tensor(schedule.prior_scale).to(like).reshape(-1) for schedule in schedules])
        return scales[self.index] if len(scales) > 1 else scales.expand(self.event_shape)


def _running_rates(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """The rates of a schedule, 0 after its end; the margin lets an end rounded to another dtype count as the end."""
    running = t <= schedule.t_end * (1 + 1e-6)
    rate, dispersion = schedule.rates(t)
    return rate * running, dispersion * running


def _shape_of(schedule: Schedule) -> tuple[int, ...]:
    """The broadcast shape of a schedule's parameters."""
    device = next((buffer.device for buffer in schedule.buffers()), None)
    return tuple(schedule.log_snr(torch.full((), schedule.t_min, device=device)).shape)


def _check_parameters(schedule: Schedule, event_shape: tuple[int, ...]) -> None:
    shape = _shape_of(schedule)
    if shape and (
        len(shape) != len(event_shape) or any(a not in (1, b) for a, b in zip(shape, event_shape, strict=True))
    ):
        raise ShapeError(
            f"the schedule's parameters have shape {shape}; events have shape {event_shape}",
            hint="give numbers, or tensors with as many dimensions as an event, each its size or 1",
        )


def _check_blocks(schedule: Schedule, blocks: Tensor, event_shape: tuple[int, ...]) -> None:
    shape = _shape_of(schedule)
    if tuple(blocks.shape) != event_shape or blocks.dtype != torch.long:
        raise ShapeError(
            f"blocks are {blocks.dtype} of shape {tuple(blocks.shape)}; expected torch.int64 of shape {event_shape}"
        )
    if len(shape) != 1 or int(blocks.min()) < 0 or int(blocks.max()) >= shape[0]:
        raise ShapeError(
            f"blocks are numbered {int(blocks.min())} to {int(blocks.max())} and the schedule's parameters have shape "
            f"{shape}; expected (n,) and blocks from 0 to n - 1"
        )


def _block_index(blocks: Sequence[Block], event_shape: tuple[int, ...]) -> Tensor:
    """The block of each component, (*E) integers."""
    count = torch.zeros(event_shape, dtype=torch.long)
    index = torch.zeros(event_shape, dtype=torch.long)
    for number, block in enumerate(blocks):
        try:
            count[block] += 1
            index[block] = number
        except (IndexError, TypeError, RuntimeError) as error:
            raise ShapeError(
                f"block {number} does not index an event of shape {event_shape}: {error}",
                hint="give a bool mask of that shape, or a slice or a tuple of slices",
            ) from error
    if bool((count != 1).any()):
        raise ShapeError(
            f"the blocks cover {int((count > 1).sum())} components twice and leave {int((count == 0).sum())} out; "
            "each component belongs to one block"
        )
    return index


def _normal_log_prob(x: Tensor, scale: Tensor) -> Tensor:
    """log N(x; 0, scale^2), (B,), for a scale that broadcasts to an event."""
    dimension = math.prod(x.shape[1:])
    log_det = scale.log().expand(x.shape[1:]).sum()
    return -((x / scale) ** 2).flatten(1).sum(1) / 2 - log_det - dimension * math.log(2 * math.pi) / 2
