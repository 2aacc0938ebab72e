"""Training by episodes, for several seeds at once: what happens to a seed does not depend on which others there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from scorefold.seeds import derive_generator
from scorefold_allocation.data.batch import TaskBatch
from scorefold_allocation.learners.config import EpisodesConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.learners.networks import Measure, QueryAnswer, Stack, Weights, task_losses
from scorefold_toolkit.training.optimiser import Adam, Plateau
from scorefold_toolkit.training.validation import untrained


class Course:
    """Effect of ``plateau`` and ``patience`` of a config on one seed.

    ``rate`` is the learning rate of the next update, ``ended`` whether there is none any more.

    >>> course = Course(EpisodesConfig(learning_rate=0.1, patience=2, validation={"every": 1}))
    >>> for update, loss in enumerate((3.0, 4.0, 5.0), start=1):
    ...     course.train(update, 9.0)
    ...     course.look(loss, watched=loss)
    >>> course.rate, course.ended
    (0.1, True)
    """

    def __init__(self, config: EpisodesConfig) -> None:
        self._config = config
        self._plateau = None if config.plateau is None else Plateau(config.plateau, [config.learning_rate])
        self._least = float("inf")
        self._gained = self._update = 0

    @property
    def rate(self) -> float:
        """The learning rate as it stands."""
        return self._config.learning_rate if self._plateau is None else self._plateau.rates[0]

    @property
    def ended(self) -> bool:
        """True if the rate has fallen once more than ``most_falls``, or ``patience`` updates were without a gain."""
        plateau, patience = self._config.plateau, self._config.patience
        most = None if plateau is None else plateau.most_falls
        return (self._plateau is not None and most is not None and self._plateau.drops > most) or (
            patience is not None and self._update - self._gained >= patience
        )

    @property
    def _by_training(self) -> bool:
        return self._config.plateau is not None and self._config.plateau.watch == "training"

    def train(self, update: int, loss: float) -> None:
        """Takes in the training loss of an update, counted from 1."""
        self._update = update
        if self._plateau is not None and self._by_training:
            self._plateau.take(loss)

    def look(self, held_out: float, watched: float) -> None:
        """Takes in the loss on validation tasks after the last update, and what the plateau watches of them, of which
        less is better."""
        if held_out < self._least:
            self._least, self._gained = held_out, self._update
        if self._plateau is not None and not self._by_training:
            self._plateau.take(watched)


_NUMBERS_AT_ONCE = 2_000_000
"""Maximum of numbers in the widest layer for new tasks that are computed together."""


class Episode(NamedTuple):
    """Support x (S, t, k, *E), y (S, t, k) and query x (S, t, q, *E), y (S, t, q) of t tasks of each of S seeds."""

    x: Tensor
    y: Tensor
    query: Tensor
    target: Tensor


class Rule(NamedTuple):
    """Rule of a learner: the form of the network, the predictions in training and on new tasks, and the loss of both in
    training and of held-out tasks.
    """

    network: Stack
    training: QueryAnswer
    new: QueryAnswer
    loss: Measure = task_losses


class SeedGroup(NamedTuple):
    """Training tasks of one size: a batch for each seed, and the cell that the tasks were drawn for."""

    batches: Sequence[TaskBatch]
    cell: AllocationCell


def tasks_as(dtype: torch.dtype, batch: TaskBatch) -> TaskBatch:
    """Tasks with inputs and numbers in a dtype."""
    target = batch.target if batch.classifies else batch.target.to(dtype)
    return replace(batch, points=batch.points.to(dtype=dtype), target=target)


def train_episodes(
    config: EpisodesConfig,
    rule: Rule,
    start: Sequence[Tensor],
    groups: Sequence[SeedGroup],
    seeds: Sequence[int],
    held_out: Callable[[Weights], Tensor] | None,
) -> tuple[list[Tensor], list[Tensor], int]:
    """Train from the weights ``start``. Returns the weights (S, ...) to keep, the last weights, and the updates made.

    The outer loss is the mean, over the tasks of all groups, of the loss on their query sets; Adam follows its
    gradient. An update takes tasks of each group in proportion, and one at least. ``held_out`` returns the loss (S,) on
    held-out tasks: the weights with the least loss are kept, or the last weights without it. It may return (2, S), the
    loss and what a plateau watches. A config that has a course is for one seed.
    """
    weights = [w.clone().requires_grad_() for w in start]
    optimiser = Adam(weights, lr=config.learning_rate)
    kept = [w.detach().clone() for w in weights]
    least = torch.full((len(seeds),), torch.inf, dtype=torch.float64)
    total = sum(group.cell.tasks for group in groups)
    shares = [group.cell.tasks / total for group in groups]
    drawn = [
        episodes(config, group, share, [derive_generator(seed, "updates", number) for seed in seeds], weights[0].device)
        for number, (group, share) in enumerate(zip(groups, shares, strict=True))
    ]
    updates = 0 if untrained("episodes") else config.updates
    course = Course(config) if config.has_course else None
    assert course is None or len(seeds) == 1, "a course has one seed"
    update = 0
    for update in range(1, updates + 1):
        losses = [
            query_losses(rule.network, rule.training, weights, next(each), rule.loss).mean(1).sum() for each in drawn
        ]
        loss = torch.stack([share * part for share, part in zip(shares, losses, strict=True)]).sum()
        for w, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            w.grad = slope
        optimiser.step()
        looked = None
        ends = update == updates
        if course is not None:
            course.train(update, float(loss.detach()))
            ends = ends or course.ended
        if held_out is not None and (update % config.validation.every == 0 or ends):
            looked = held_out(weights).reshape(-1, len(seeds))
            found = looked[0]
            better = found < least
            least = torch.where(better, found, least)
            for k, w in zip(kept, weights, strict=True):
                k[better] = w.detach()[better]
        if course is not None:
            if looked is not None:
                course.look(*looked[[0, -1], 0].tolist())
            optimiser.param_groups[0]["lr"] = course.rate
            if course.ended:
                break
    last = [w.detach() for w in weights]
    # Where no look at held-out tasks gave a number, the last weights show why.
    never = least == torch.inf
    for k, w in zip(kept, last, strict=True):
        k[never] = w[never]
    return kept, last, update


def query_losses(
    network: Stack, answer: QueryAnswer, weights: Weights, episode: Episode, loss: Measure = task_losses
) -> Tensor:
    """The loss of each task on its query set, (S, t)."""
    seeds, tasks = episode.y.shape[:2]
    x, y, query, target = (part.flatten(0, 1) for part in episode)
    return loss(answer(network, _for_each(tasks, weights), x, y, query), target).reshape(seeds, tasks)


def mean_measure(
    network: Stack,
    answer: QueryAnswer,
    weights: Weights,
    batches: Sequence[TaskBatch],
    support: int,
    measure: Measure = task_losses,
) -> Tensor:
    """The mean over all tasks of a measure of their query sets, (S,) in float64 on the CPU, without a graph; (K, S) of
    one that gives K numbers a task, (K, G)."""
    batches = [batch.reading() for batch in batches]  # one, whatever the pieces are
    tasks, size = len(batches[0]), batches[0].size
    width = max(network.width, math.prod(batches[0].points.event_shape))
    at_once = max(1, _NUMBERS_AT_ONCE // (size * len(batches) * width))
    total: Tensor | float = 0.0
    for start in range(0, tasks, at_once):
        chosen = torch.arange(start, min(start + at_once, tasks))
        episode = _dealt(_stacked([batch.tensors(chosen) for batch in batches]), support, weights[0].device)
        x, y, query, target = (part.flatten(0, 1) for part in episode)
        with torch.no_grad():
            values = measure(answer(network, _for_each(len(chosen), weights), x, y, query), target)
        total = total + values.reshape(*values.shape[:-1], len(batches), -1).double().sum(-1)
    assert isinstance(total, Tensor)
    return (total / tasks).cpu()


def episodes(
    config: EpisodesConfig, group: SeedGroup, share: float, generators: Sequence[torch.Generator], device: torch.device
) -> Iterator[Episode]:
    """The episode of a group in each update, without end: the tasks of each seed are drawn by the seed's own generator.

    ``share`` is the group's part in the tasks of an update. Tasks are drawn on the CPU and copied to ``device``.
    """
    batches, cell = group
    tasks = cell.tasks
    if config.tasks_per_update is not None:
        tasks = min(tasks, max(1, round(share * config.tasks_per_update)))
    size = min(cell.size, config.labels_per_update or cell.size)
    # As many support labels as fall to a share of the labels, but one at least of either part.
    support = min(max(1, round(size * cell.support / cell.size)), size - 1)
    still = all(batch.noise is None for batch in batches)
    if config.split == "fixed" and (tasks, size) == (cell.tasks, cell.size) and still:
        yield from itertools.repeat(_dealt(_stacked([batch.tensors() for batch in batches]), support, device))
    while True:
        parts = []
        for batch, generator in zip(batches, generators, strict=True):
            chosen = torch.randperm(cell.tasks, generator=generator)[:tasks]
            parts.append(batch.tensors(chosen, _labels(config, cell, tasks, support, size, generator)))
        yield _dealt(_stacked(parts), support, device)


def _labels(
    config: EpisodesConfig, cell: AllocationCell, tasks: int, support: int, size: int, generator: torch.Generator
) -> Tensor:
    """Labels of each task, (tasks, size), with the support set first."""
    order = torch.rand(tasks, cell.size, generator=generator)
    if config.split == "reshuffled":
        return order.argsort(1)[:, :size]
    first, second = order.split((cell.support, cell.query), 1)
    chosen = first.argsort(1)[:, :support], cell.support + second.argsort(1)[:, : size - support]
    return torch.cat(chosen, 1)


def _for_each(tasks: int, weights: Weights) -> list[Tensor]:
    """The weights (S, ...) of each seed for each of so many tasks, (S tasks, ...)."""
    return [w[:, None].expand(len(w), tasks, *w.shape[1:]).flatten(0, 1) for w in weights]


def _stacked(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = zip(*parts, strict=True)
    return torch.stack(x), torch.stack(y)


def _dealt(tensors: tuple[Tensor, Tensor], support: int, device: torch.device) -> Episode:
    x, y = (each.to(device) for each in tensors)
    return Episode(x[:, :, :support], y[:, :, :support], x[:, :, support:], y[:, :, support:])
