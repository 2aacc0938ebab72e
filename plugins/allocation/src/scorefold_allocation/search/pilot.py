"""Spread and noise of regression tasks from a pilot of as few as two labels a task, and the plan that they ask for.

With whitened inputs x and y = x . w_i + sigma z, w_i = w0 + (nu / sqrt p) xi_i, products of two different points have
the expectations

    E y_a y_b x_a . x_b = |w0|^2 + nu^2 within a task,   |w0|^2 between two tasks,

so that both follow without bias, whatever the number of labels beside the number of weights; sigma^2 is E y^2 less the
former. The optimum is known far better than the moments are: errors of all of them at once hardly move it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.valley import Band
from scorefold_allocation.theory.engines import Engine
from scorefold_allocation.theory.linear_model import Plans
from scorefold_allocation.theory.purchase import problem_of

PilotTask = tuple[Tensor, Tensor]
"""Inputs (n, p) and labels (n,) of one task of a pilot."""

_LEAST = 1e-6
_CANDIDATES = 200


@dataclass(frozen=True)
class TaskMoments:
    """nu^2, sigma^2 and |w0|^2 (w0's squared distance from a start at 0), each (D,), as estimated: maybe below 0."""

    spread2: Tensor
    noise2: Tensor
    centre2: Tensor


def as_tasks(given: Sequence[Any]) -> list[PilotTask]:
    """Tasks of a pilot as tensors of float64, from tensors, arrays or lists. Raises ``DataError`` for anything else."""
    tasks = list[PilotTask]()
    for number, task in enumerate(given):
        try:
            x, y = (torch.as_tensor(half, dtype=torch.float64) for half in task)
        except (TypeError, ValueError, RuntimeError):
            raise _no_task(number, f"is {task!r:.60}") from None
        if x.dim() != 2 or y.dim() != 1 or len(x) != len(y):
            raise _no_task(number, f"has inputs of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)}")
        if tasks and x.shape[1] != (width := tasks[0][0].shape[1]):
            raise DataError(
                f"the pilot's tasks differ in shape: inputs have {width} columns in task 0 and {x.shape[1]} in task "
                f"{number}; expected one number of columns"
            )
        tasks.append((x, y))
    return tasks


def _no_task(number: int, given: str) -> DataError:
    return DataError(
        f"task {number} of the pilot {given}; expected inputs (n, p) and labels (n,)",
        hint="losses come from a function: pilot=loss, with def loss(tasks, support, query), called for each size",
    )


def estimate_moments(tasks: Sequence[PilotTask], counts: Tensor | None = None) -> TaskMoments:
    """The moments of a pilot, in which task i counts ``counts`` (D, i) times (once by default).

    Pairs of a task with its own copy are left out, as they are no pair of two tasks. Raises ``DataError`` for fewer
    than two tasks, where no task has two labels, and as ``as_tasks`` does.
    """
    tasks = as_tasks(tasks)
    sizes = torch.tensor([len(y) for _, y in tasks], dtype=torch.float64)
    if len(tasks) < 2 or not bool((sizes >= 2).any()):
        raise DataError(
            f"the pilot has {len(tasks)} tasks of up to {int(sizes.max()) if len(sizes) else 0} labels; "
            "expected 2 tasks or more, and 2 labels or more in some of them"
        )
    sums = torch.stack([y @ x for x, y in tasks])
    squares = torch.stack([(y**2 * x.square().sum(1)).sum() for x, y in tasks])
    power = torch.stack([y.square().sum() for _, y in tasks])
    c = torch.ones(1, len(tasks), dtype=torch.float64) if counts is None else counts.double()
    within = c @ (sums.square().sum(1) - squares) / (c @ (sizes * (sizes - 1)))
    total, own = (c @ sums).square().sum(1), c.square() @ sums.square().sum(1)
    between = (total - own) / ((c @ sizes) ** 2 - c.square() @ sizes.square())
    return TaskMoments(within - between, (c @ power) / (c @ sizes) - within, between)


def with_moments(config: MetaConfig, tasks: Sequence[PilotTask]) -> MetaConfig:
    """The config with what the pilot shows of its one type of task: number of weights, spread, noise, start distance.

    What is estimated below 0 is taken as 0. An engine pilot, which has nothing to try here, becomes formula. Raises
    ``DataError`` as ``estimate_moments`` does, and ``ConfigError`` for several types of task.
    """
    if len(config.task_types) > 1:
        raise ConfigError(
            f"a pilot of tasks describes one type, and there are {len(config.task_types)}",
            hint="name one in task_types",
        )
    spread2, noise2, centre2 = (float(value.clamp_min(0)) for value in _columns(estimate_moments(tasks)))
    kind = config.task_types[0].model_copy(update={"spread": spread2**0.5, "noise": noise2**0.5})
    size = {"dimension": tasks[0][0].shape[1], "start_distance": centre2**0.5}
    engine = "formula" if config.engine == "pilot" else config.engine
    changed = {"task_types": (kind,), "linear": config.linear.model_copy(update=size), "engine": engine}
    return config.model_copy(update=changed)


def best_size_band(
    config: MetaConfig,
    tasks: Sequence[PilotTask],
    budget: int,
    generator: torch.Generator,
    *,
    constraints: Mapping[str, int] | None = None,
    draws: int = 200,
) -> Band:
    """The best labels a task at a budget by closed form, over ``draws`` resamples of the pilot's tasks.

    The config's limits hold, ``constraints`` beside them; its spread, noise and start distance do not. Raises
    ``DataError`` as ``estimate_moments`` does, and for a budget that pays for no plan; ``ConfigError`` for several
    types of task and a free split.
    """
    limits = Limits.of(config, constraints)
    cells = [limits.cell(size, budget) for size in limits.sizes(budget, _CANDIDATES)]
    if not cells:
        raise DataError(f"the budget is {budget}; expected enough for {limits.min_tasks} tasks")
    columns = (torch.tensor(column, dtype=torch.float64)[:, None] for column in zip(*cells, strict=True))
    plans = Plans(torch.tensor([0]), *columns)
    index = torch.randint(len(tasks), (draws, len(tasks)), generator=generator)
    counts = torch.zeros(index.shape, dtype=torch.float64).scatter_add_(1, index, torch.ones(index.shape).double())
    # A resample of one task alone has no pair of two.
    counts = counts[(counts > 0).sum(1) > 1]
    sizes = (plans.support + plans.query)[:, 0]
    problem = replace(problem_of(config), dimension=tasks[0][0].shape[1])
    best = []
    for spread2, noise2, centre2 in zip(*_columns(estimate_moments(tasks, counts)), strict=True):
        drawn = replace(
            problem,
            spread2=spread2.clamp_min(_LEAST)[None],
            noise2=noise2.clamp_min(_LEAST)[None],
            start2=float(centre2.clamp_min(0)),
        )
        best.append(sizes[Engine(config, drawn).closed_form(plans).argmin()])
    return Band.of(torch.stack(best))


def _columns(moments: TaskMoments) -> tuple[Tensor, Tensor, Tensor]:
    return moments.spread2, moments.noise2, moments.centre2
