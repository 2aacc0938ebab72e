"""Possible sizes of a task for a budget, the sizes to try, and the budget from which a learner no longer interpolates.

End of interpolation: the budget from which the training loss of a learner is clearly above 0.

Below it the best labels a task depend on the budget in another way than above it, so a pilot there says nothing of a
larger budget (Cioba et al., "How to distribute data across tasks for meta-learning?", AAAI 2022, arXiv 2103.08463).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy import stats

from scorefold.errors import ConfigError
from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.config import MetaConfig, PilotConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.search.fits import as_losses
from scorefold_allocation.search.trials import Trial, Trials
from scorefold_allocation.theory.purchase import bounds_of, smallest_of, step_of, support_of
from scorefold_toolkit.libraries import library


@dataclass(frozen=True)
class Limits:
    """Plans of tasks of one size: n labels each, a multiple of ``step`` between ``smallest`` and ``largest``.

    A task costs ``task_cost`` + n ``label_cost``; there are ``min_tasks`` to ``max_tasks`` tasks (None: no end).
    ``support_of`` gives the number of support labels of a task.
    """

    smallest: int
    largest: int | None
    step: int
    ways: int = 1
    support_share: float = 0.5
    task_cost: float = 0.0
    label_cost: float = 1.0
    min_tasks: int = 2
    max_tasks: int | None = None

    @classmethod
    def of(cls, config: MetaConfig, constraints: Mapping[str, int] | None = None) -> Limits:
        """Limits of the configuration within ``constraints``: min_labels, max_labels, min_tasks, max_tasks.

        Raises ``ConfigError`` for several types of task and a free split, which a black box is not tried on, and for
        constraints as ``bounds_of`` does.
        """
        if len(config.task_types) > 1:
            names = ", ".join(kind.name for kind in config.task_types)
            raise ConfigError(
                f"the engine pilot tries tasks of one type, and there are {len(config.task_types)}: {names}",
                hint="name one type in task_types, or use engine: formula",
            )
        if config.split.name == "free":
            raise ConfigError(
                "the engine pilot tries one split of a task's labels, and the split is free",
                hint="split: {name: even}, or a fixed support_share",
            )
        kind, bounds = config.task_types[0], bounds_of(config, constraints or {})
        (least, largest), step = bounds.labels[0], step_of(kind, config)
        ends = [end for end in (bounds.max_tasks, kind.max_tasks) if end is not None]
        return cls(
            smallest=smallest_of(kind, config, least),
            largest=largest,
            step=step,
            ways=kind.ways,
            support_share=config.split.share,
            task_cost=kind.task_cost,
            label_cost=kind.label_cost,
            min_tasks=bounds.min_tasks,
            max_tasks=min(ends) if ends else None,
        )

    def cost(self, size: int) -> float:
        """Cost of a task of ``size`` labels."""
        return self.task_cost + size * self.label_cost

    def tasks(self, size: int, budget: float) -> int:
        """Number of tasks of ``size`` labels within the budget and ``max_tasks``."""
        cost = self.cost(size)
        paid = math.floor(budget / cost + 1e-9) if cost > 0 else math.inf
        return int(min(paid, math.inf if self.max_tasks is None else self.max_tasks))

    def cell(self, size: int, budget: float) -> AllocationCell:
        """The plan with as many tasks of ``size`` labels as the budget pays for."""
        support = int(support_of(torch.tensor(float(size), dtype=torch.float64), self.support_share, self.ways))
        return AllocationCell(self.tasks(size, budget), support, size - support)

    def most(self, budget: float) -> int:
        """The largest size for which the budget pays ``min_tasks``; below ``smallest`` where it pays for none."""
        if self.max_tasks is not None and self.max_tasks < self.min_tasks:
            return 0
        ends = [] if self.largest is None else [self.largest]
        if self.label_cost > 0:
            ends.append(math.floor((budget / self.min_tasks - self.task_cost) / self.label_cost + 1e-9))
        elif self.task_cost * self.min_tasks > budget:
            ends.append(0)
        return self.step * (min(ends) // self.step)

    def nearest(self, size: float, budget: float) -> int:
        """The feasible size that is nearest to ``size`` by ratio."""
        below = self.step * max(1, math.floor(size / self.step))
        rounded = below if size * size <= below * (below + self.step) else below + self.step
        return max(self.smallest, min(rounded, self.most(budget)))

    def sizes(self, budget: float, count: int, low: float = 0.0, high: float = math.inf) -> list[int]:
        """Up to ``count`` feasible sizes between ``low`` and ``high``, evenly spread in log n; increasing."""
        first, last = self.smallest, self.most(budget)
        if last < first:
            return []
        ends = [math.log(min(max(end, first), last)) for end in (low, high)]
        width = (ends[1] - ends[0]) / max(1, count - 1)
        return sorted({self.nearest(math.exp(ends[0] + i * width), budget) for i in range(count)})


@dataclass(frozen=True)
class Threshold:
    """The scan's outcome: ``labels`` is the first scanned budget above the threshold, ``below`` the last one below it.

    Either is None where no budget was so; both are where training losses are not reported.
    """

    labels: int | None = None
    below: int | None = None

    @property
    def seen(self) -> bool:
        """True if the scan crossed it."""
        return self.labels is not None and self.below is not None

    def summary(self) -> dict[str, Any]:
        """The threshold as JSON."""
        return asdict(self)


def scan(trials: Trials, limits: Limits, largest: float, *, seeds: range, share: float) -> Threshold:
    """Budgets doubled up to ``largest`` until training losses are clearly above 0 at two middle sizes.

    Clearly: above ``share`` of the test loss (of 1 for an accuracy, whose training loss is not one), one-sided at 5 %
    over the seeds. Sizes that can't be trained show nothing, nor do budgets that pay for no plan.
    """
    below, budget = None, max(1, 4 * math.ceil(limits.cost(limits.smallest)))
    while budget <= largest:
        sizes = limits.sizes(budget, 4)
        cells = [limits.cell(size, budget) for size in sizes[1:3] or sizes]
        trained = [trial for trial in trials.run(cells, seeds) if any(map(math.isfinite, trial.test))]
        if any(trial.train is None for trial in trained):
            return Threshold()
        if trained and all(_is_above(trial, trials, share) for trial in trained):
            return Threshold(budget, below)
        below, budget = budget if trained else below, 2 * budget
    return Threshold(None, below)


def _is_above(trial: Trial, trials: Trials, share: float) -> bool:
    train = torch.tensor(trial.train, dtype=torch.float64)
    if trials.measure == "loss":
        train = train / as_losses(torch.tensor(trial.test, dtype=torch.float64), trials.measure)
    train = train[train.isfinite()]
    if not len(train):
        return False
    if len(train) == 1:
        return float(train) > share
    error = float(train.std()) / math.sqrt(len(train))
    return float(train.mean()) - float(stats.t.ppf(0.95, len(train) - 1)) * error > share


def require_search(config: PilotConfig) -> None:
    """Raise ``ConfigError`` for a search by Ax that is not installed: before anything is tried."""
    if config.search != "ax":
        return
    with library("pilot: {search: ax}", "scorefold-allocation[ax]"):
        import ax.api.client  # noqa: F401


def sizes_to_try(trials: Trials, limits: Limits, budget: float, config: PilotConfig, seeds: int) -> list[int]:
    """Sizes for a budget by ``config.search``, increasing; Ax tries them with the first seeds to choose the next."""
    if config.search == "grid":
        return limits.sizes(budget, config.sizes)
    if config.search == "random":
        return random_sizes(limits, budget, config.sizes, derive_generator(trials.root, "sizes"))
    first = range(min(config.first_seeds, seeds))

    def tried(size: int) -> tuple[float, float]:
        losses = trials.losses([limits.cell(size, budget)], first)[:, 0]
        return float(losses.mean()), _error(losses)

    return sorted(ax_sizes(tried, limits, budget, config.sizes, derive_seed(trials.root, "sizes")))


def random_sizes(limits: Limits, budget: float, count: int, generator: torch.Generator) -> list[int]:
    """Up to ``count`` different sizes, increasing, with logarithms drawn evenly between the logarithms of the ends."""
    ends = limits.sizes(budget, 2)
    low, high = math.log(ends[0]), math.log(ends[-1])
    draws = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    return sorted({limits.nearest(math.exp(low + u * (high - low)), budget) for u in draws})


def ax_sizes(
    loss: Callable[[int], tuple[float, float]], limits: Limits, budget: float, count: int, seed: int
) -> list[int]:
    """The sizes that Ax asks for in ``count`` trials, over log n, in the order of the trials, each once.

    ``loss`` gives the mean loss of a size and its standard error (nan where it is not known). A loss that is not
    finite counts as a failed trial.
    """
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig
    from ax.utils.common.logger import set_ax_logger_levels

    ends = limits.sizes(budget, 2)
    if len(ends) < 2:
        return ends
    set_ax_logger_levels(logging.ERROR)
    bounds = (math.log(ends[0]), math.log(ends[-1]))
    tried: dict[int, tuple[float, float]] = {}
    # Ax warns of its own old calls, and of fits that it tries again; what the trials warn of is let through.
    with warnings.catch_warnings(action="ignore"):
        client = Client(random_seed=seed % 2**31)
        client.configure_experiment(
            parameters=[RangeParameterConfig(name="log_size", parameter_type="float", bounds=bounds)]
        )
        client.configure_optimization(objective="-loss")
    for _ in range(count):
        with warnings.catch_warnings(action="ignore"):
            ((number, parameters),) = client.get_next_trials(max_trials=1).items()
        size = limits.nearest(math.exp(float(parameters["log_size"])), budget)
        if size not in tried:
            tried[size] = loss(size)
        mean, error_of_mean = tried[size]
        observed = mean if math.isnan(error_of_mean) else (mean, error_of_mean)
        with warnings.catch_warnings(action="ignore"):
            if math.isfinite(mean):
                client.complete_trial(trial_index=number, raw_data={"loss": observed})
            else:
                client.mark_trial_failed(trial_index=number)
    return list(tried)


def _error(losses: torch.Tensor) -> float:
    return float(losses.std()) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
