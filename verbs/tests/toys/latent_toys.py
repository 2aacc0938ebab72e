"""A linear code of normal events, where all that the verbs of latent codes answer with is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from verb_toys import Source

from scorefold.data import Dataset, EventScale
from scorefold.interfaces import Encodes, EncodesNoise
from scorefold.random import draw_normal


class Linear(nn.Module, Encodes):
    """z ~ N(g x, s^2), unit by unit of the first k coordinates, with gains g and deviations s; the rest is left out.

    For events N(0, I) the decoder is exact: x given z is N(z g / (g^2 + s^2), s^2 / (g^2 + s^2)) in the coordinates
    that have a unit, and N(0, 1) in the others. Event shapes are flattened.
    """

    def __init__(self, shape: tuple[int, ...], gains: Sequence[float], deviations: Sequence[float]) -> None:
        super().__init__()
        self.event_shape, self.latent_shape = shape, (len(gains),)
        g, s = (torch.tensor(values, dtype=torch.float64) for values in (gains, deviations))
        spread = torch.ones(math.prod(shape), dtype=torch.float64)
        spread[: len(g)] = s / (g**2 + s**2).sqrt()
        for name, value in {"gains": g, "deviations": s, "weights": g / (g**2 + s**2), "spread": spread}.items():
            self.register_buffer(name, value)

    def encode(self, x: Tensor) -> Tensor:
        gains = self.get_buffer("gains")
        return x.flatten(1)[:, : len(gains)] * gains

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.encode(x)
        return mean, self.get_buffer("deviations").expand_as(mean)

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        shape = (len(z), *self.event_shape)
        return self.with_noise(z, options.get("strength", 1.0) * draw_normal(shape, generator=generator, like=z))

    def with_noise(self, z: Tensor, noise: Tensor) -> Tensor:
        flat = noise.flatten(1) * self.get_buffer("spread")
        known = z * self.get_buffer("weights")
        return torch.cat([known + flat[:, : known.shape[1]], flat[:, known.shape[1] :]], 1).reshape(noise.shape)

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return draw_normal((n, *self.latent_shape), generator=generator, like=self.get_buffer("gains"))


class Noisy(Linear, EncodesNoise):
    """The same, with a noise that gives the event back."""

    def decode(
        self, z: Tensor, *, generator: torch.Generator | None = None, noise: Tensor | None = None, **options: Any
    ) -> Tensor:
        return super().decode(z, generator=generator, **options) if noise is None else self.with_noise(z, noise)

    def encode_noise(self, x: Tensor, z: Tensor, **options: Any) -> Tensor:
        apart = x - self.with_noise(z, torch.zeros_like(x))
        return (apart.flatten(1) / self.get_buffer("spread")).reshape(x.shape)


class Warned(Linear):
    """A code that has something to say of itself."""

    def diagnose_codes(
        self, x: Tensor, generator: torch.Generator
    ) -> tuple[Mapping[str, float], Sequence[str], Mapping[str, Tensor]]:
        drawn = torch.randn(3, generator=generator, dtype=x.dtype)
        return {"asked of": float(len(x))}, ["it was drawn up for a test"], {"drawn": drawn}


def normal(count: int, *shape: int, seed: int) -> Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def events(shape: tuple[int, ...], test: int = 60, train: int = 200, scale: EventScale | None = None) -> Source:
    """Standard normal events; the class is 1 where the first coordinate is above 0."""

    def split(count: int, seed: int) -> Dataset:
        x = normal(count, *shape, seed=seed)
        return Dataset(x, label=(x.flatten(1)[:, 0] > 0).long(), index=torch.arange(count))

    return Source(scale, train=split(train, 1), test=split(test, 2))
