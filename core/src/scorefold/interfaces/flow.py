"""Flows: invertible maps between data and a simple base distribution."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from scorefold.batching import FEW, in_calls
from scorefold.data import Condition, ConditionSpec, EventScale, condition_rows, repeat_condition
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces.model import EventModel
from scorefold.random import draw_uniform


class Base(Protocol):
    """The base distribution of a flow, over latents (B, *latent event).

    >>> from scorefold_toolkit.nn import StandardNormal
    >>> base: Base = StandardNormal()
    >>> base.sample((5, 2), generator=None, like=torch.zeros(1)).shape, base.centre
    (torch.Size([5, 2]), 0.0)
    """

    @property
    def centre(self) -> Tensor | float:
        """Limit of the samples as the temperature falls to 0, broadcastable to the latent event."""

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z: (B,)."""

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""


class Flow(EventModel):
    """An invertible map x -> z on events of one shape with a base distribution on z.

    Must: set ``event_shape``, ``base``, ``condition_spec`` and ``event_scale`` by this constructor; implement
    ``forward`` and ``inverse`` on continuous events, each with the log-determinant of the direction computed; both
    must work under ``torch.func.jvp`` and twice-differentiated. A batch of 1 broadcasts against several conditions
    and the other way. May: ``latent_shapes`` for multi-scale flows, which return one z; ``invert_draws`` to encode
    each condition once, ``condition_log_prob`` for flows that know how usual a condition is. Given: ``log_prob``,
    ``sample``, ``bits_per_dim``, ``unpack``, ``check_events``.

    >>> from scorefold_toolkit.nn import StandardNormal
    >>> class Half(Flow):
    ...     def forward(self, x, condition=None):
    ...         return x / 2, -math.log(2) * x.new_ones(len(x))
    ...     def inverse(self, z, condition=None):
    ...         return 2 * z, math.log(2) * z.new_ones(len(z))
    >>> round(float(Half((1,), StandardNormal()).log_prob(torch.zeros(1, 1))), 3)  # -log(2 sqrt(2 pi))
    -1.612
    """

    base: Base
    evaluating = ("forward", "inverse")

    def __init__(
        self,
        event_shape: tuple[int, ...],
        base: Base,
        *,
        condition_spec: ConditionSpec | None = None,
        event_scale: EventScale | None = None,
    ) -> None:
        super().__init__(event_shape, condition_spec, event_scale)
        self.base = base

    @abstractmethod
    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """x (B, *E) to z (B, *E) and log |det dz/dx| (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """z (B, *E) to x (B, *E) and log |det dx/dz| (B,)."""

    def condition_log_prob(self, condition: Condition) -> Tensor | None:
        """log p(condition) of each, (B,), in nats, or None for a flow that has no density of conditions."""
        return None

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the latents that z packs; one, the event shape, by default."""
        return (self.event_shape,)

    def unpack(self, z: Tensor) -> tuple[Tensor, ...]:
        """z (B, *E) as its latents, each (B, *shape): the slices of z flattened, in order."""
        self.check_events(z)
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        parts = z.flatten(1).split(sizes, dim=1)
        return tuple(part.unflatten(1, shape) for part, shape in zip(parts, self.latent_shapes, strict=True))

    def log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(x | condition) in nats, (B,): a log-density, or for discrete data a log-probability.

        For discrete data (``event_scale.levels``) this is one draw of the dequantised bound (Theis et al. 2016):
        the log-density at x + (u - 1/2) bin plus D log bin, where bin is the distance of two levels and u is
        uniform from ``generator``, or 1/2 without one. Its mean over u is at most the log-probability of the level.
        Raises ``ShapeError`` where x or the condition does not fit.
        """
        x = self.dequantise(x, generator)
        # Calls of a bounded size cost less; a loss takes its gradient through one.
        rows = len(x) if len(x) <= FEW or torch.is_grad_enabled() else self.call_rows()
        density: Tensor = in_calls(rows, self._continuous_log_prob, x, condition=condition)
        return density if self.bin_width is None else density + self.dimension * math.log(self.bin_width)

    def _continuous_log_prob(self, x: Tensor, condition: Condition | None) -> Tensor:
        z, log_det = self(x, condition)
        density: Tensor = self.base.log_prob(z) + log_det
        return density

    def dequantise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x + (u - 1/2) bin for discrete data, u uniform from the generator or 1/2; x itself for continuous data.
        Raises ``ShapeError`` where x does not fit.
        """
        self.check_events(x)
        if self.bin_width is None or generator is None:
            return x
        u = draw_uniform(tuple(x.shape), generator=generator, like=x)
        return x + (u - 0.5) * self.bin_width

    def bits_per_dim(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """-log2 p(x | condition) / D on the discrete scale of the data, (B,). Raises ``ConfigError`` for continuous
        data, whose density has no such scale.
        """
        if self.bin_width is None:
            raise ConfigError(
                "bits per dimension require discrete data, but this flow's event_scale has no levels",
                hint="use log_prob, which for continuous data is a log-density in nats",
            )
        return -self.log_prob(x, condition, generator) / (self.dimension * math.log(2))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Condition | None = None,
        temperature: float | Sequence[float] = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n draws (n, *E), or n for each of C conditions (n, C, *E).

        ``temperature`` scales the deviation of the base's draws from the base's centre: one number, or one per
        latent of ``latent_shapes``. Raises ``ConfigError`` for a negative n or temperature, ``ShapeError`` for
        another number of temperatures than of latents.
        """
        if n < 0:
            raise ConfigError(f"{n} samples were asked for")
        lead = (n,) if condition is None else (n, condition_rows(condition))
        z = self.base.sample((math.prod(lead), *self.event_shape), generator=generator, like=self._reference())
        if not isinstance(temperature, int | float) or temperature != 1:
            scale = self._temperatures(temperature, z)
            z = self.base.centre + scale * (z - self.base.centre)
        return self.invert_draws(z.unflatten(0, lead), condition)

    def invert_draws(self, z: Tensor, condition: Condition | None) -> Tensor:
        """The events of latents (n, *E), or of latents (n, C, *E) given C conditions; same shape as z."""
        lead = z.shape[: 1 if condition is None else 2]
        z = z.reshape(-1, *self.event_shape)
        rows = FEW if len(z) <= FEW else self.call_rows()
        x: Tensor = in_calls(rows, self.inverse, z, condition=repeat_condition(condition, len(z)))[0]
        return x.reshape(*lead, *self.event_shape)

    @property
    def dimension(self) -> int:
        """D, the number of coordinates of an event."""
        return math.prod(self.event_shape)

    @property
    def bin_width(self) -> float | None:
        """The distance between two levels of discrete data, or None for continuous data."""
        scale = self.event_scale
        if scale.levels is None or scale.low is None or scale.high is None:
            return None
        return (scale.high - scale.low) / (scale.levels - 1)

    def _temperatures(self, temperature: float | Sequence[float], z: Tensor) -> Tensor | float:
        each = [temperature] if isinstance(temperature, int | float) else list(temperature)
        if any(not value >= 0 for value in each):
            raise ConfigError(f"temperatures must be 0 or more; {each} were given")
        if isinstance(temperature, int | float):
            return float(temperature)
        if len(each) != len(self.latent_shapes):
            raise ShapeError(f"{len(each)} temperatures were given for {len(self.latent_shapes)} latents")
        parts = [z.new_full((math.prod(shape),), value) for shape, value in zip(self.latent_shapes, each, strict=True)]
        return torch.cat(parts).reshape(self.event_shape)
