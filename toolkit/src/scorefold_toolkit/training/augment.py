"""Changes to training images that leave what they show as likely as before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scorefold.data import Dataset, map_condition
from scorefold.errors import TrainingError
from scorefold.random import draw_uniform


def mirrored(batch: Dataset, chance: float, generator: torch.Generator) -> Dataset:
    """A batch with some of its images (C, H, W) or (H, W) mirrored left to right, each with a chance, and with each the
    conditions that are images of its size or a whole number of times smaller. Raises ``TrainingError`` for events that
    are not images."""
    if batch.x.dim() not in (3, 4):
        raise TrainingError(
            f"training.flip mirrors images (C, H, W) or (H, W); events have the shape {tuple(batch.x.shape[1:])}",
            hint="set training.flip to 0",
        )
    size = tuple(batch.x.shape[-2:])
    chosen = draw_uniform((len(batch),), generator=generator, like=batch.x) < chance

    def mirror(value: Tensor) -> Tensor:
        if value.dim() not in (3, 4):
            return value
        factor = size[1] // value.shape[-1]
        if (factor * value.shape[-2], factor * value.shape[-1]) != size:
            return value
        return torch.where(chosen.reshape(-1, *[1] * (value.dim() - 1)), value.flip(-1), value)

    return replace(batch, x=mirror(batch.x), condition=map_condition(batch.condition, mirror))
