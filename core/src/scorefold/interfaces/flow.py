"""Flows: invertible maps between data and a simple base law."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, EventScale, map_condition
from scorefold.errors import ConfigError, ShapeError


class Base(Protocol):
    """The base law of a flow, over latents (B, *latent event)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z: (B,)."""

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""


class Flow(nn.Module, ABC):
    """An invertible map x -> z on events of one shape with a base law on z.

    Must: set ``event_shape``, ``base``, ``condition_spec`` and ``event_scale`` by this constructor; implement ``forward``
    and ``inverse`` on continuous events, each with the log-determinant of the direction computed; both must work under
    ``torch.func.jvp`` and twice-differentiated. May: ``latent_shapes`` and ``unpack`` for multi-scale flows, which return
    one z. Given: ``log_prob``, ``sample``, ``bits_per_dim``.
    """

    event_shape: tuple[int, ...]
    condition_spec: ConditionSpec | None
    event_scale: EventScale
    base: Base

    def __init__(
        self,
        event_shape: tuple[int, ...],
        base: Base,
        *,
        condition_spec: ConditionSpec | None = None,
        event_scale: EventScale | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.base = base
        self.condition_spec = condition_spec
        self.event_scale = event_scale or EventScale()

    @abstractmethod
    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """x (B, *E) to z (B, *E) and log |det dz/dx| (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """z (B, *E) to x (B, *E) and log |det dx/dz| (B,)."""

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the latents that z packs; one, the event shape, by default."""
        return (self.event_shape,)

    def unpack(self, z: Tensor) -> tuple[Tensor, ...]:
        """z as its latents, each (B, *shape); the slices of z flattened in order."""
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        parts = z.reshape(z.shape[0], -1).split(sizes, dim=1)
        return tuple(
            part.reshape(z.shape[0], *shape) for part, shape in zip(parts, self.latent_shapes, strict=True)
        )

    def log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(x | condition) in nats, (B,).

        For discrete data (``event_scale.levels``) this is the dequantised log-likelihood of the level that holds x, that
        is the density at x + (u - 1/2) bin integrated over the bin by one draw: u is uniform from ``generator``, or 1/2
        without one.
        """
        self.check_events(x)
        bin_width = self.bin_width
        if bin_width is not None and generator is not None:
            u = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
            x = x + (u - 0.5) * bin_width
        z, log_det = self(x, condition)
        density = self.base.log_prob(z) + log_det
        return density if bin_width is None else density + self.dimension * math.log(bin_width)

    def bits_per_dim(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """-log2 p(x) / D on the discrete scale of the data, (B,). Raises ``ConfigError`` for continuous data."""
        if self.bin_width is None:
            raise ConfigError("bits per dimension need discrete data: event_scale.levels is not set")
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

        ``temperature`` scales the deviation of the base's draws from the base's centre (0 for a centred base): one number,
        or one per latent of ``latent_shapes``.
        """
        rows = 1
        lead: tuple[int, ...] = (n,)
        if condition is not None:
            rows = len(condition) if isinstance(condition, Tensor) else len(next(iter(condition.values())))
            condition = map_condition(condition, lambda c: c.repeat(n, *[1] * (c.dim() - 1)))
            lead = (n, rows)
        like = next((p for p in (*self.parameters(), *self.buffers()) if p.is_floating_point()), torch.empty(()))
        z = self.base.sample((n * rows, *self.event_shape), generator=generator, like=like)
        z = z * self._temperatures(temperature, z)
        x, _ = self.inverse(z, condition)
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

    def check_events(self, x: Tensor) -> None:
        """Raises ``ShapeError`` unless x is (B, *event_shape)."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(f"x has shape {tuple(x.shape)}; this flow takes (B, {', '.join(map(str, self.event_shape))})")

    def _temperatures(self, temperature: float | Sequence[float], z: Tensor) -> Tensor | float:
        if isinstance(temperature, (int, float)):
            return float(temperature)
        if len(temperature) != len(self.latent_shapes):
            raise ShapeError(f"{len(temperature)} temperatures were given for {len(self.latent_shapes)} latents")
        flat = torch.cat(
            [
                z.new_full((math.prod(shape),), value)
                for shape, value in zip(self.latent_shapes, temperature, strict=True)
            ]
        )
        return flat.reshape(self.event_shape)
