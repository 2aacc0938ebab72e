"""The best sizes of tasks: a search over whole numbers, in which every plan is one that can be bought."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scorefold_allocation.config import MetaConfig
from scorefold_allocation.theory.linear_model import Plans
from scorefold_allocation.theory.purchase import Bought, SizeBounds, buy, smallest_of, step_of, support_of

Objective = Callable[[Plans], Tensor]
"""Objective: plans to (C,), infinite for plans without a known loss."""

TIE = 1e-12
"""Losses that differ by this share are equal: the smaller sizes, so the more tasks, are then taken."""

_POINTS = 4096  # of a first grid
_STARTS = 8  # of its points that are searched around


class FoundPlan(NamedTuple):
    """C points of the lattice, (C, D), what they buy, and the objective there, (C,), infinite where not allowed."""

    points: Tensor
    bought: Bought
    loss: Tensor

    def take(self, index: Tensor) -> FoundPlan:
        """The plans at these places."""
        return FoundPlan(self.points[index], self.bought.take(index), self.loss[index])


@dataclass(frozen=True)
class Lattice:
    """The sizes that tasks may have: labels type by type, or support and query type by type where the split is free.

    ``low``, ``high`` and ``step`` are of each coordinate, (D,); ``least`` and ``most`` the labels of a task, (K,).
    """

    config: MetaConfig
    bounds: SizeBounds
    budget: float
    low: Tensor
    high: Tensor
    step: Tensor
    least: Tensor
    most: Tensor

    @property
    def free(self) -> bool:
        return self.config.split.name == "free"

    def sizes(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Support and query labels (C, K) at points (C, D)."""
        if self.free:
            pairs = points.reshape(len(points), -1, 2)
            return pairs[..., 0], pairs[..., 1]
        ways, share = [kind.ways for kind in self.config.task_types], self.config.split.share
        support = torch.stack([support_of(points[:, i], share, each) for i, each in enumerate(ways)], 1)
        return support, points - support

    def grid(self, count: int) -> Tensor:
        """About ``count`` points (C, D), evenly spread on a log scale."""
        each = max(3, int(count ** (1 / len(self.low)) + 1e-9))
        ends = torch.stack((self.low, self.high, self.step), 1).tolist()
        axes = [log_axis(low, high, step, each) for low, high, step in ends]
        return torch.cartesian_prod(*axes).reshape(-1, len(axes))

    def allows(self) -> bool:
        """True if there is any plan: the smallest tasks are the first on the grid."""
        found = self.evaluate(self.grid(_POINTS), lambda plans: torch.zeros_like(plans.rows))
        return bool(found.loss.isfinite().any())

    def line(self, labels: Tensor) -> Tensor:
        """The points (C, S, D) at which tasks of every type have about so many ``labels`` (C,), as the bounds allow:
        one for each of S ways to split them where the split is free."""
        columns = []
        for place, kind in enumerate(self.config.task_types):
            own = step_of(kind, self.config)
            sizes = ((labels / own).round() * own).clamp(self.least[place], self.most[place])
            if not self.free:
                columns.append(sizes[:, None, None])
                continue
            shares = torch.linspace(0.1, 0.9, 17, dtype=torch.float64)
            support = ((sizes[:, None] * shares) / own).round().clamp_min(1) * own
            support = torch.minimum(support, (sizes - own)[:, None])
            columns.append(torch.stack((support, sizes[:, None] - support), -1))
        return torch.cat(columns, -1)

    def evaluate_line(self, labels: Tensor, objective: Objective) -> FoundPlan:
        """The best of what can be bought with about so many ``labels`` (C,) for every task."""
        points = self.line(labels)
        found = self.evaluate(points.flatten(0, 1), objective)
        place = found.loss.reshape(points.shape[:2]).argmin(-1) + torch.arange(len(points)) * points.shape[1]
        return found.take(place)

    def evaluate(self, points: Tensor, objective: Objective) -> FoundPlan:
        """The best of what can be bought at each point."""
        support, query = self.sizes(points)
        inside = ((support + query >= self.least) & (support + query <= self.most)).all(-1)
        best: FoundPlan | None = None
        for bought in buy(self.config, self.bounds, self.budget, support, query):
            loss = objective(bought.plans).nan_to_num(torch.inf)
            found = FoundPlan(points, bought, torch.where(bought.allowed & inside, loss, torch.inf))
            best = found if best is None else _lesser(best, found)
        assert best is not None
        return best


def lattice_of(config: MetaConfig, bounds: SizeBounds, budget: float) -> Lattice:
    """The sizes that bounds allow and that one task could have for all of the budget."""
    low, high, step, least, most = [], [], [], [], []
    for kind, (fewest, end) in zip(config.task_types, bounds.labels, strict=True):
        own = float(step_of(kind, config))
        smallest = float(smallest_of(kind, config, fewest))
        largest = max((row.support + row.query for row in kind.owned), default=0.0)
        if kind.label_cost > 0:
            largest += max(0.0, budget) / kind.label_cost
        else:
            largest = float(end or 0)
        largest = max(smallest, own * (min(largest, float(end) if end is not None else largest) // own))
        least.append(smallest)
        most.append(largest if end is None else min(largest, float(end)))
        if config.split.name == "free":
            low += [float(kind.ways)] * 2
            high += [max(float(kind.ways), largest - kind.ways)] * 2
            step += [float(kind.ways)] * 2
        else:
            low.append(smallest)
            high.append(largest)
            step.append(own)
    columns = (torch.tensor(column, dtype=torch.float64) for column in (low, high, step, least, most))
    return Lattice(config, bounds, budget, *columns)


def log_axis(low: float, high: float, step: float, count: int) -> Tensor:
    """``low``, ``high``, and about ``count`` values between, a whole number of steps from ``low``; small ones all."""
    steps = round((high - low) / step)
    if steps < count:
        places = torch.arange(steps + 1, dtype=torch.float64)
    else:
        ratio = torch.logspace(0, 1, count, base=high / low, dtype=torch.float64)
        places = torch.cat((((low * ratio - low) / step).round(), torch.tensor([float(steps)]).double()))
        places = torch.cat((places, torch.arange(count // 4, dtype=torch.float64))).unique()
    return low + step * places


def search_lattice(lattice: Lattice, objective: Objective) -> FoundPlan:
    """The best point (C = 1), and ties go to the smallest sizes; its loss is infinite where nothing is allowed.

    A grid on a log scale, or every size where that is not more, then steps of shrinking length around its best points.
    """
    coarse = lattice.evaluate(lattice.grid(_POINTS), objective)
    order = torch.argsort(coarse.loss, stable=True)[:_STARTS]
    best = coarse.take(torch.cat((order, _first_best(coarse))))
    all_tried = len(coarse.points) == int(((lattice.high - lattice.low) / lattice.step + 1).round().prod())
    if all_tried or not bool(best.loss.isfinite().any()):
        return best.take(_first_best(best))
    reach = (-2, -1, 0, 1, 2) if len(lattice.low) <= 2 else (-1, 0, 1)
    # Two coordinates at a time beyond three: all of eight at once would be thousands of neighbours.
    moves = torch.tensor(
        [
            move
            for move in itertools.product(reach, repeat=len(lattice.low))
            if len(move) <= 3 or sum(map(bool, move)) <= 2
        ],
        dtype=torch.float64,
    )
    share = 0.5
    while True:
        stride = torch.maximum(lattice.step, lattice.step * (share * best.points / lattice.step).floor())
        best, moved = _step(lattice, objective, best, stride, moves)
        if not moved:
            if bool((stride == lattice.step).all()):
                return best.take(_first_best(best))
            share /= 2


def _step(
    lattice: Lattice, objective: Objective, best: FoundPlan, stride: Tensor, moves: Tensor
) -> tuple[FoundPlan, bool]:
    """The best neighbour of each point, and whether any is better."""
    near = best.points[:, None] + stride[:, None] * moves
    near = torch.maximum(torch.minimum(near, lattice.high), lattice.low)
    tried = lattice.evaluate(near.flatten(0, 1), objective)
    place = tried.loss.reshape(len(near), -1).argmin(-1) + torch.arange(len(near)) * near.shape[1]
    lesser = _lesser(best, tried.take(place))
    return lesser, bool((lesser.loss < best.loss).any())


def _first_best(found: FoundPlan) -> Tensor:
    """The position (1,) of the least loss; of those that tie, of the smallest sizes."""
    ties = found.loss <= found.loss.min() * (1 + TIE)
    labels = found.points.sum(-1)
    return torch.where(ties, labels, torch.inf).argmin()[None]


def _lesser(first: FoundPlan, second: FoundPlan) -> FoundPlan:
    """Place by place the second where it is better than the first by more than a tie."""
    better = second.loss < first.loss * (1 - TIE)
    index = torch.arange(len(better)) + len(better) * better
    ours, theirs = first.bought, second.bought
    plans = Plans(
        ours.plans.kinds,
        *(torch.cat((a, b))[index] for a, b in zip(ours.plans[1:], theirs.plans[1:], strict=True)),
    )
    rest = (torch.cat((a, b))[index] for a, b in zip(ours[1:], theirs[1:], strict=True))
    return FoundPlan(
        torch.cat((first.points, second.points))[index],
        Bought(plans, *rest),
        torch.cat((first.loss, second.loss))[index],
    )
