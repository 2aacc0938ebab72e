"""The points of each step, in a fixed order for each seed, shared out over processes; and changes to images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset, map_condition
from scorefold.errors import TrainingError
from scorefold.random import draw_uniform
from scorefold.seeds import derive_generator


def batch_size(points: int, size: int, processes: int) -> int:
    """The points a step over all processes: ``size``, or all where there are fewer, in equal parts.

    Raises ``TrainingError`` where ``size`` can't be shared out equally: averaged gradients would not be the batch's.
    """
    if size % processes:
        raise TrainingError(
            f"a batch of {size} points can't be shared out equally over {processes} processes",
            hint=f"set training.batch_size to a multiple of {processes}",
        )
    shared = min(size, points - points % processes)
    if shared == 0:
        raise TrainingError(f"there are {points} training points for {processes} processes")
    return shared


def parts_of(batch: Dataset, count: int) -> list[Dataset]:
    """A batch in so many parts whose sizes differ by one at most; itself for one part."""
    if count == 1:
        return [batch]
    rows = torch.arange(len(batch), device=batch.x.device)
    return [batch.take(part) for part in rows.tensor_split(min(count, len(batch)))]


def batch_positions(
    data: Dataset, size: int, *, seed: int, phase: str, start: int, rank: int, processes: int
) -> Iterator[Tensor]:
    """The positions (size / processes,) of this process's part of every batch from step ``start`` on, without end.

    Each pass over the points is in an order of its own (``Dataset.order``), derived from (seed, "batches", phase, pass)
    and drawn on the CPU; the points that fill no batch at its end wait for another pass, so that all batches have one
    size.
    """
    device = torch.device("cpu") if isinstance(data, StreamedDataset) else data.x.device
    per_pass = len(data) // size
    part = size // processes
    skipped = start % per_pass
    for epoch in itertools.count(start // per_pass):
        order = data.order(derive_generator(seed, "batches", phase, epoch)).to(device)
        for batch in range(skipped, per_pass):
            first = batch * size + rank * part
            yield order[first : first + part]
        skipped = 0


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
