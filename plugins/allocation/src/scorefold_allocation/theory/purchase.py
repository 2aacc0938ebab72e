"""Purchases of a budget: whole tasks of given sizes, under bounds, in addition to owned labels; and the loss on tasks
that are met after training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_allocation.config import MetaConfig, TaskTypeConfig
from scorefold_allocation.theory.linear_model import LinearProblem, Plans, adapted_loss, best_rate
from scorefold_toolkit.checks import require_constraints

CONSTRAINTS = {"min_tasks": 1, "max_tasks": 1, "min_labels": 2, "max_labels": 2}
"""Bounds that ``allocate`` takes, on tasks over all types and on the labels of a task of any type, with the least that
each may be."""

_EPS = 1e-9  # costs are sums of floats; a task that is short of that much can be paid


@dataclass(frozen=True)
class SizeBounds:
    """The bounds on tasks over all types, owned ones too, and on the labels of a task of each type."""

    min_tasks: int
    max_tasks: int | None
    labels: tuple[tuple[int, int | None], ...]


class Bought(NamedTuple):
    """C plans with what they cost (C,) in units of the budget, and whether they keep to the bounds (C,).

    The first K groups of ``plans`` are the new tasks of each type, with the owned ones that got more labels; the rest
    are owned tasks as they are. ``new`` (C, K) are the tasks that are new, ``grown`` (C, owned rows) those that grew.
    """

    plans: Plans
    cost: Tensor
    allowed: Tensor
    new: Tensor
    grown: Tensor

    def take(self, index: Tensor) -> Bought:
        """The plans at these positions."""
        return Bought(self.plans.take(index), *(column[index] for column in self[1:]))


def bounds_of(config: MetaConfig, constraints: Mapping[str, Any]) -> SizeBounds:
    """The bounds of a config and of constraints, which replace or tighten them.

    Raises ``ConfigError`` for an unknown constraint, one that is not a whole number in range, and bounds that no plan
    can keep to.
    """
    require_constraints(constraints, CONSTRAINTS)
    fewest, most = constraints.get("min_tasks", config.min_tasks), constraints.get("max_tasks")
    if most is not None and most < fewest:
        raise ConfigError(f"min_tasks is {fewest} and max_tasks {most}; expected min_tasks <= max_tasks")
    labels = []
    for kind in config.task_types:
        low = max(kind.min_labels, constraints.get("min_labels", 2))
        ends = [end for end in (kind.max_labels, constraints.get("max_labels")) if end is not None]
        high = min(ends) if ends else None
        if high is not None and high < low:
            raise ConfigError(
                f"tasks of type {kind.name} have {low} labels or more and {high} or fewer; expected min <= max",
                hint="lower min_labels or raise max_labels",
            )
        if high is not None and high < (smallest := smallest_of(kind, config, low)):
            raise ConfigError(
                f"tasks of type {kind.name} have {low} to {high} labels; split {config.split.name} over {kind.ways} "
                f"classes, such a task has {smallest} or more",
                hint=f"max_labels: {smallest}",
            )
        labels.append((low, high))
    return SizeBounds(fewest, most, tuple(labels))


def step_of(kind: TaskTypeConfig, config: MetaConfig) -> int:
    """The step between the sizes of a type's tasks, in labels: one per class, and twice that for an even split."""
    return kind.ways * (2 if config.split.name == "even" else 1)


def smallest_of(kind: TaskTypeConfig, config: MetaConfig, least: int) -> int:
    """The fewest labels, ``least`` or more, that a type's tasks can have by their classes and their split."""
    step = step_of(kind, config)
    return step * math.ceil(max(least, 2 * kind.ways) / step)


def support_of(labels: Tensor, share: float, ways: int) -> Tensor:
    """Support labels of tasks of so many ``labels``: the share rounded to whole labels a class. Support and query have
    one a class at least."""
    shots = labels / ways
    return torch.minimum((share * shots + 0.5).floor().clamp_min(1), shots - 1) * ways


def buy(config: MetaConfig, bounds: SizeBounds, budget: float, support: Tensor, query: Tensor) -> Iterator[Bought]:
    """Everything worth considering that ``budget`` buys at sizes ``support`` and ``query`` (C, K), type by type.

    Where types mix freely, types are bought out one after the other, in every order: at leading order the loss is
    quasi-concave in the numbers of tasks, so that no other mix is better. Owned tasks stay as they are, or grow to the
    size of new ones before any of these is bought.
    """
    kinds = config.task_types
    orders = itertools.permutations(range(len(kinds))) if config.mix == "free" else iter([tuple(range(len(kinds)))])
    grows = (False, True) if any(kind.owned for kind in kinds) else (False,)
    for order, grow in itertools.product(orders, grows):
        yield _bought(config, bounds, budget, support, query, order, grow)


def _bought(
    config: MetaConfig,
    bounds: SizeBounds,
    budget: float,
    support: Tensor,
    query: Tensor,
    order: tuple[int, ...],
    grow: bool,
) -> Bought:
    kinds = config.task_types
    owned = [(place, row) for place, kind in enumerate(kinds) for row in kind.owned]
    left = torch.full_like(support[:, 0], float(budget))
    grown = torch.zeros(len(support), len(owned), dtype=torch.float64)
    if grow:
        for position, (place, row) in enumerate(owned):
            more = support[:, place] + query[:, place] - row.support - row.query
            larger = (support[:, place] >= row.support) & (query[:, place] >= row.query) & (more > 0)
            price = more.clamp_min(1) * kinds[place].label_cost
            grown[:, position] = _affordable(left, price).clamp_max(row.tasks) * larger
            left = left - grown[:, position] * price
    price = torch.stack([kind.task_cost + kind.label_cost * (support + query)[:, i] for i, kind in enumerate(kinds)], 1)
    had = sum(row.tasks for _, row in owned)
    room = torch.full_like(left, torch.inf if bounds.max_tasks is None else bounds.max_tasks - had)
    most = [
        torch.inf if kind.max_tasks is None else kind.max_tasks - sum(row.tasks for row in kind.owned) for kind in kinds
    ]
    if config.mix == "free":
        new = torch.zeros_like(support)
        for place in order:
            new[:, place] = torch.minimum(_affordable(left, price[:, place]), room).clamp(0, most[place])
            left, room = left - new[:, place] * price[:, place], room - new[:, place]
    else:
        # 2 and 4 tasks are the proportion of 1 and 2, and a single type is in no proportion.
        common = math.gcd(*(kind.share for kind in kinds))
        shares = torch.tensor([float(kind.share // common) for kind in kinds], dtype=torch.float64)
        sets = torch.minimum(_affordable(left, (price * shares).sum(-1)), (room / shares.sum()).floor())
        ends = zip(most, shares.tolist(), strict=True)
        sets = sets.clamp(0, min(end if end == math.inf else end // share for end, share in ends))
        new = sets[:, None] * shares
        left = left - (new * price).sum(-1)
    tasks = new.clone()
    for position, (place, _) in enumerate(owned):
        tasks[:, place] += grown[:, position]
    kept = torch.tensor([float(row.tasks) for _, row in owned], dtype=torch.float64) - grown
    plans = Plans(
        torch.tensor([*range(len(kinds)), *(place for place, _ in owned)]),
        torch.cat((tasks, kept), 1),
        torch.cat(
            (support, torch.tensor([float(row.support) for _, row in owned]).expand(len(support), -1)), 1
        ).double(),
        torch.cat((query, torch.tensor([float(row.query) for _, row in owned]).expand(len(support), -1)), 1).double(),
    )
    total = plans.tasks.sum(-1)
    allowed = (total >= bounds.min_tasks) & (room >= 0) & (total > 0)
    return Bought(plans, budget - left, allowed, new, grown)


def _affordable(money: Tensor, price: Tensor) -> Tensor:
    """Whole pieces that money pays for; without end where they are free."""
    return torch.where(price > 0, (money / price.clamp_min(1e-300) + _EPS).floor(), torch.inf)


def problem_of(config: MetaConfig) -> LinearProblem:
    """The linear model that a config describes."""
    spread = torch.tensor([kind.spread for kind in config.task_types], dtype=torch.float64)
    noise = torch.tensor([kind.noise for kind in config.task_types], dtype=torch.float64)
    linear = config.linear
    return LinearProblem(linear.dimension, linear.rate, linear.start_distance**2, spread**2, noise**2, config.weighting)


def expected_loss(config: MetaConfig, problem: LinearProblem, plans: Plans, excess: Tensor) -> Tensor:
    """The test loss (C,) of plans whose R is ``excess`` (C,): the mean over types by ``test_share``.

    Tied labels are as many as the support of that type's training tasks on average, of all tasks for a type without
    any. Raises ``ConfigError`` for a deployment that the linear model's loss is not known for.
    """
    deployment = config.deployment
    if deployment.steps > 1 and deployment.rate is None:
        raise ConfigError(
            f"the best rate is known for one adaptation step; steps is {deployment.steps} and deployment.rate is null",
            hint="deployment: {rate: training}",
        )
    shares = [kind.test_share for kind in config.task_types]
    loss = torch.zeros_like(excess)
    for place, share in enumerate(shares):
        if share == 0:
            continue
        spread2, noise2 = problem.spread2[place], problem.noise2[place]
        labels = _tied(plans, place) if deployment.labels == "tied" else torch.tensor(float(deployment.labels))
        if deployment.rate is None:
            rate: Tensor | float = best_rate(excess, spread2, noise2, problem.dimension, labels)
        else:
            rate = problem.rate if deployment.rate == "training" else deployment.rate
        own = adapted_loss(excess, spread2, noise2, problem.dimension, labels, rate, deployment.steps)
        loss += share / sum(shares) * own
    # An infinite R has no best rate, and comes out as no number.
    return torch.where(excess.isfinite(), loss, torch.inf)


def _tied(plans: Plans, place: int) -> Tensor:
    """Support labels of a task of a type, on average over each plan, (C,)."""
    tasks = plans.tasks * (plans.kinds == place)
    tasks = torch.where(tasks.sum(-1, keepdim=True) > 0, tasks, plans.tasks)
    return (tasks * plans.support).sum(-1) / tasks.sum(-1).clamp_min(1)
