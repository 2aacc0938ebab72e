"""Random tensors drawn where the generator lives, so that a CPU generator serves a model on any device.

Without a generator they come from torch's default one for the device, as everywhere in torch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _device(generator: torch.Generator | None, like: Tensor) -> torch.device:
    return like.device if generator is None else generator.device


def opposite_noise(of: torch.Generator) -> torch.Generator:
    """A generator of the next draws of another, which keeps its place; ``draw_normal`` gives them the other sign."""

    class Opposite(torch.Generator):  # of the class that torch has now, which a simulated device replaces
        sign = -1

    made = Opposite(of.device)
    made.set_state(of.get_state())
    return made


def draw_normal(shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Standard normal draws of a shape, on the device and in the dtype of ``like``."""
    drawn = torch.randn(shape, generator=generator, device=_device(generator, like), dtype=like.dtype)
    return (drawn if getattr(generator, "sign", 1) > 0 else -drawn).to(like.device)


def draw_uniform(shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draws uniform on [0, 1) of a shape, on the device and in the dtype of ``like``."""
    return torch.rand(shape, generator=generator, device=_device(generator, like), dtype=like.dtype).to(like.device)


def draw_signs(shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Rademacher draws, -1 or 1 with equal chance, of a shape, on the device and in the dtype of ``like``."""
    return (2 * torch.randint(0, 2, shape, generator=generator, device=_device(generator, like)) - 1).to(like)
