"""Layout of an event and its condition in the input and the output of one network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.data import ConditionSpec, TensorSpec
from scorefold.diffusion import GeometricVE, LinearSubVP, Schedule
from scorefold.diffusion.schedules import EDM, Value
from scorefold.errors import ConfigError
from scorefold_toolkit.nn import named_specs
from scorefold_toolkit.nn.reshape import is_signal

LEVEL = "condition level"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Parts of a condition by name, each as the network takes it.

    ``beside`` stand beside the event: as channels of an image (C, H, W) or a signal (C, L), brought to its size by the
    nearest pixel, or, where events are vectors, as further coordinates. ``embedded`` are handed over as the network's
    own condition: classes, and what is no image beside an image, or no signal beside a signal. ``numbers`` names the
    parts, of either sort, that can be noised, and ``diffusing`` those that are: all of them or none. ``extra`` channels
    or coordinates follow, for a mask.
    """

    event_shape: Shape
    beside: Mapping[str, TensorSpec]
    embedded: Mapping[str, TensorSpec]
    numbers: tuple[str, ...]
    diffusing: tuple[str, ...]
    extra: int

    @classmethod
    def of(
        cls, event_shape: Shape, spec: ConditionSpec, *, diffuses: bool, clean: Sequence[str], extra: int = 0
    ) -> Layout:
        """The layout of a condition; raises ``ConfigError`` for one that can't stand beside the event."""
        specs = named_specs(spec)
        unknown = [name for name in clean if name not in specs]
        if unknown:
            raise ConfigError(
                f"clean names {', '.join(unknown)}; the condition has {', '.join(specs) or 'no parts'}"
                if "" not in specs
                else f"clean names {', '.join(unknown)}; the condition is one tensor without a name",
                hint="leave clean out, or name parts of the condition",
            )
        beside: dict[str, TensorSpec] = {}
        embedded: dict[str, TensorSpec] = {}
        for name, part in specs.items():
            axes = spatial_axes(event_shape)
            stands = part.classes is None and len(part.shape) in {0: range(9), 1: (2,), 2: (2, 3)}[axes]
            (beside if stands else embedded)[name] = part
            if stands and axes and _larger(part.shape[-axes:], event_shape[-axes:]):
                own, others = (" x ".join(map(str, shape[-axes:])) for shape in (part.shape, event_shape))
                raise ConfigError(
                    f"the condition {name or 'image'} is {own} and the event {others}: it would lose "
                    f"{'pixels' if axes == 2 else 'values'}",
                    hint="give a condition of at most the event's size",
                )
        numbers = tuple(name for name, part in specs.items() if part.classes is None and name not in clean)
        return cls(event_shape, beside, embedded, numbers, numbers if diffuses else (), extra)

    @property
    def in_shape(self) -> Shape:
        """Shape of the network's input."""
        return self._stacked(sum(map(self._width, self.beside.values())) + self.extra)

    def out_shape(self, names: Sequence[str] = ()) -> Shape:
        """Shape of the network's output: the event, and these parts of the condition."""
        return self._stacked(sum(self._width(self.beside[name]) for name in names))

    def stack(self, x: Tensor, parts: Mapping[str, Tensor], extra: Tensor | None) -> Tensor:
        """x (B, *E) and the parts beside it, with what else there is (1, ...): (B, *in_shape)."""
        tensors = [x, *(self._shown(parts[name]) for name in self.beside)]
        if extra is not None:
            tensors.append(extra.to(x).expand(len(x), *extra.shape[1:]))
        if len(tensors) == 1:
            return x
        return torch.cat(tensors if self.axes else [tensor.flatten(1) for tensor in tensors], dim=1)

    def split(self, out: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, *out_shape(names)) as the event's part (B, *E) and the condition's parts, each in its own shape."""
        if not names:
            return out, {}
        widths = [self.event_shape[0] if self.axes else math.prod(self.event_shape)]
        widths += [self._width(self.beside[name]) for name in names]
        x, *parts = out.split(widths, dim=1)
        shapes = {name: self.beside[name].shape for name in names}
        found = {name: self._own(part, shapes[name]) for name, part in zip(names, parts, strict=True)}
        return x.reshape(-1, *self.event_shape), found

    @property
    def axes(self) -> int:
        """See ``spatial_axes``."""
        return spatial_axes(self.event_shape)

    def _stacked(self, more: int) -> Shape:
        if not more:
            return self.event_shape
        if self.axes:
            return (self.event_shape[0] + more, *self.event_shape[1:])
        return (math.prod(self.event_shape) + more,)

    def _width(self, part: TensorSpec) -> int:
        """Channels or coordinates that a part takes."""
        if self.axes:
            return part.shape[0] if len(part.shape) > self.axes else 1
        return math.prod(part.shape)

    def _shown(self, part: Tensor) -> Tensor:
        """A part (B, *shape) as it stands beside the event."""
        if not self.axes:
            return part[..., None].flatten(1)  # a single number too
        image = part if part.dim() == 2 + self.axes else part[:, None]
        size = self.event_shape[-self.axes :]
        return image if image.shape[-self.axes :] == size else functional.interpolate(image, size, mode="nearest")

    def _own(self, part: Tensor, shape: Shape) -> Tensor:
        """A part of the answer in the part's own shape: pixels of an image that was enlarged are averaged."""
        if self.axes == 2 and part.shape[-2:] != shape[-2:]:
            part = functional.adaptive_avg_pool2d(part, (shape[-2], shape[-1]))
        if self.axes == 1 and part.shape[-1] != shape[-1]:
            part = functional.adaptive_avg_pool1d(part, shape[-1])
        return part.reshape(-1, *shape)


def spatial_axes(event_shape: Shape) -> int:
    """2 for images (C, H, W) and 1 for signals (C, L), whose conditions are channels; 0 for vectors."""
    return 2 if len(event_shape) == 3 else int(is_signal(event_shape))


def _larger(size: Shape, other: Shape) -> bool:
    return any(a > b for a, b in zip(size, other, strict=True))


def condition_schedule(event: Schedule, speed: Value) -> Schedule:
    """The diffusion of a condition at speed r in (0, 1], beside events that diffuse by a schedule.

    Where the signal stays 1 (ve, edm) the condition's noise rises from the same sigma_min to r sigma_max, in the same
    units as the event's; where it falls (vp, sub-vp, cosine, log-snr) the condition's beta is r times the event's. At
    r = 1 it is the event's schedule. ``speed`` may be (B,), one a point. Raises ``ConfigError`` where r sigma_max is
    not above sigma_min.
    """
    try:
        match event:
            case GeometricVE():
                return GeometricVE(event.sigma_min, speed * event.sigma_max, t_min=event.t_min)
            case EDM():
                low, high = event.first**event.rho, (event.first + event.rise) ** event.rho
                return EDM(low, speed * high, float(event.rho))
    except ConfigError as error:
        raise ConfigError(
            f"a condition of speed {speed} would diffuse no further than it starts: {error.message}",
            hint="choose a larger condition_speed, or 0 for a clean condition (estimator: cde)",
        ) from error
    return Slowed(event, speed)


class Slowed(Schedule):
    """A schedule whose signal is e^{-B/2} with B = int beta, at a beta r times as large.

    The scale is sqrt(1 - e^{-B}), or 1 - e^{-B} where the schedule is sub-VP. B is read off the log-SNR, where no
    digits are lost.
    """

    speed: Value

    def __init__(self, schedule: Schedule, speed: Value) -> None:
        super().__init__()
        self.schedule = schedule
        self.sub = isinstance(schedule, LinearSubVP)
        self.keep(speed=speed)
        self.t_min, self.t_end, self.prior_scale = schedule.t_min, schedule.t_end, 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        total = self._total(t)
        variance = -torch.expm1(-total)
        return torch.exp(-total / 2), variance if self.sub else variance.sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        drift = self.speed * self.schedule.rates(t)[0]
        beta = -2 * drift
        return drift, (beta * -torch.expm1(-2 * self._total(t)) if self.sub else beta).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        total = self._total(t)
        return -2 * (2 * torch.sinh(total / 2)).log() if self.sub else -torch.expm1(total).log()

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        if self.sub:
            return self.schedule.time_at(2 * torch.sinh(torch.asinh(noise_to_signal / 2) / self.speed))
        return self.schedule.time_at(torch.expm1(torch.log1p(noise_to_signal**2) / self.speed).sqrt())

    def _total(self, t: Tensor) -> Tensor:
        """B(t), the integral of the slowed beta from 0."""
        log_snr = self.schedule.log_snr(t)
        whole = 2 * torch.asinh(torch.exp(-log_snr / 2) / 2) if self.sub else functional.softplus(-log_snr)
        return self.speed * whole


def annealed_speed(target: float, step: int, steps: int) -> float:
    """The speed at a step of training that falls from 1 to ``target`` over ``steps`` steps, and stays there.

    1 / r is linear in the step: r = M r_t / (n (1 - r_t) + M r_t) at step n of M, which is the published
    s(n) = M s_t s_0 / (n (s_0 - s_t) + M s_t) for s = r s_0, but for staying at the target after M steps.
    """
    if step >= steps:
        return target
    return steps * target / (step * (1 - target) + steps * target)
