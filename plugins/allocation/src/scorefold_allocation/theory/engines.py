"""The engines formula and monte-carlo: the best plan of the linear model, with what is known of its loss."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scorefold_allocation.config import MetaConfig
from scorefold_allocation.theory.formula import expected_excess, risk
from scorefold_allocation.theory.linear_model import LinearProblem, Plans
from scorefold_allocation.theory.monte_carlo import simulated_risk
from scorefold_allocation.theory.optimum import TIE, FoundPlan, Lattice, lattice_of, log_axis, search_lattice
from scorefold_allocation.theory.purchase import expected_loss, step_of

_ROUGH = 4  # how much larger an error may be where plans are first compared
_FINALISTS = 4
_UNCERTAIN = 0.2  # a simulated R with a larger relative error is taken as one without an expectation
_Z = 1.96
_PARTS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_RATIOS = (0.5, 0.7, 1.0, 1.4, 2.0)


class JudgedPlan(NamedTuple):
    """C plans with their loss and an interval of it, each (C,), and R, (C,); the loss is infinite where not known."""

    found: FoundPlan
    loss: Tensor
    low: Tensor
    high: Tensor
    excess: Tensor

    def take(self, index: Tensor) -> JudgedPlan:
        """The plans at these places."""
        return JudgedPlan(self.found.take(index), *(column[index] for column in self[1:]))


@dataclass(frozen=True)
class Engine:
    """Evaluation of plans: by closed form, or by simulation if there is a generator."""

    config: MetaConfig
    problem: LinearProblem
    generator: torch.Generator | None = None

    @property
    def name(self) -> str:
        return "formula" if self.generator is None else "monte-carlo"

    def closed_form(self, plans: Plans) -> Tensor:
        """The loss (C,) by closed form, also where this is of no known error."""
        return expected_loss(self.config, self.problem, plans, expected_excess(self.problem, plans))

    def judge(self, found: FoundPlan, tolerance: float | None = None) -> JudgedPlan:
        """Losses of plans; the interval is the stated error of a closed form, or 95 % of a simulation's."""
        plans = found.bought.plans
        if self.generator is None:
            known = risk(self.problem, plans)
            excess, spread = known.value, known.value * known.error
        else:
            settings, allowed = self.config.monte_carlo, found.loss.isfinite().nonzero()[:, 0]
            excess = torch.full_like(found.loss, torch.inf)
            error = excess.clone()
            excess[allowed], error[allowed] = simulated_risk(
                self.problem, plans.take(allowed), settings, self.generator, tolerance or settings.tolerance
            )
            excess, spread = torch.where(error <= _UNCERTAIN * excess, excess, torch.inf), _Z * error
        ends = (excess, (excess - spread).clamp_min(0), excess + spread)
        loss, low, high = (expected_loss(self.config, self.problem, plans, end) for end in ends)
        return JudgedPlan(found, torch.where(found.loss.isfinite(), loss, torch.inf), low, high, excess)

    def is_valid(self, judged: JudgedPlan) -> bool:
        """True if the closed form is valid for a plan (C = 1)."""
        return bool(risk(self.problem, judged.found.bought.plans).valid)

    def best(self, lattice: Lattice) -> JudgedPlan:
        """The best plan (C = 1), of part of the budget where the config lets it hold back labels that do harm."""
        best = self._spent(lattice)
        if self.config.hold_back:
            for smaller in parts(lattice):
                other = self._spent(smaller)
                best = other if float(other.loss) < float(best.loss) else best
        return best

    def _spent(self, lattice: Lattice) -> JudgedPlan:
        """The best plan (C = 1) for all of the budget."""
        if self.generator is None:
            return self.judge(_spread(self, lattice, search_lattice(lattice, self.closed_form)))
        found = self._race(lattice).found
        # Simulated afresh: the best of several simulations is one that luck had a part in.
        return self.judge(_spread(self, lattice, found)) if bool(found.loss.isfinite()) else self.judge(found)

    def line(self, lattice: Lattice, labels: Tensor) -> JudgedPlan:
        """The best plans with about so many ``labels`` (C,) for every task, of any type."""
        found = lattice.evaluate_line(labels, self.closed_form)
        tolerance = _ROUGH * self.config.monte_carlo.tolerance
        return self.judge(found.take(found.loss.isfinite().nonzero()[:, 0]), tolerance)

    def _race(self, lattice: Lattice) -> JudgedPlan:
        """Sizes on a grid by rough simulation; then the best of them and those around by a finer one."""
        settings = self.config.monte_carlo
        points = self._first_points(lattice)
        first = self._judge_points(lattice, points, _ROUGH * settings.tolerance)
        if not bool(first.loss.isfinite().any()):
            return first.take(first.loss.argmin()[None])
        ahead = first.take(torch.argsort(first.loss, stable=True)[:_FINALISTS])
        around = torch.cat((ahead.found.points, _between(lattice, points, ahead.found.points[0])))
        last = self._judge_points(lattice, around, settings.tolerance)
        return last.take(last.loss.argmin()[None])

    def _first_points(self, lattice: Lattice) -> Tensor:
        if len(lattice.low) == 1:
            return lattice.grid(self.config.monte_carlo.sizes)
        best = search_lattice(lattice, self.closed_form).points[0]
        ratios = _RATIOS if len(best) <= 2 else _RATIOS[::2]
        steps = torch.tensor(list(itertools.product(ratios, repeat=len(best))), dtype=torch.float64)
        near = ((best * steps - lattice.low) / lattice.step).round() * lattice.step + lattice.low
        inside: Tensor = torch.maximum(torch.minimum(near, lattice.high), lattice.low).unique(dim=0)
        return inside

    def _judge_points(self, lattice: Lattice, points: Tensor, tolerance: float) -> JudgedPlan:
        found = lattice.evaluate(points.unique(dim=0), self.closed_form)
        kept = found.loss.isfinite().nonzero()[:, 0]
        return self.judge(found.take(kept if len(kept) else torch.tensor([0])), tolerance)


def _between(lattice: Lattice, points: Tensor, best: Tensor) -> Tensor:
    """Points between the best one and its neighbours on the grid, for a single coordinate; around it for several."""
    if len(best) > 1:
        moves = torch.eye(len(best), dtype=torch.float64)
        near = best + torch.cat((moves, -moves)) * torch.maximum(lattice.step, (best / 5).floor())
        near = ((near - lattice.low) / lattice.step).round() * lattice.step + lattice.low
        return torch.maximum(torch.minimum(near, lattice.high), lattice.low)
    sizes = points[:, 0].sort().values
    place = int((sizes == best[0]).nonzero()[0])
    low, high = float(sizes[max(0, place - 1)]), float(sizes[min(len(sizes) - 1, place + 1)])
    return log_axis(low, high, float(lattice.step[0]), 6)[:, None]


def parts(lattice: Lattice) -> list[Lattice]:
    """The sizes for parts of the budget, the largest first."""
    budgets = dict.fromkeys(math.floor(part * lattice.budget) for part in _PARTS)
    return [lattice_of(lattice.config, lattice.bounds, budget) for budget in budgets if budget > 0]


def _spread(engine: Engine, lattice: Lattice, found: FoundPlan) -> FoundPlan:
    """The plan (C = 1) with one more step of labels for as many tasks of a type as what is left pays, if that helps.

    The step goes to support and query alike at an even split, to the query labels at any other.
    """
    config, bought = engine.config, found.bought
    if config.leftovers == "keep" or not bool(found.loss.isfinite()):
        return found
    left = lattice.budget - float(bought.cost)
    best = found
    for place, kind in enumerate(config.task_types):
        step = step_of(kind, config)
        tasks = float(bought.plans.tasks[0, place])
        support, query = (float(column[0, place]) for column in bought.plans[2:])
        price = step * kind.label_cost
        more = (left / price + TIE) // 1 if price > 0 else 0.0
        if not 0 < more < tasks or support + query + step > float(lattice.most[place]):
            continue
        part = step / 2 if config.split.name == "even" else 0.0
        plans = _with_group(bought.plans, place, more, support + part, query + step - part)
        loss = engine.closed_form(plans)
        if float(loss) < float(best.loss) * (1 - TIE):
            best = FoundPlan(found.points, bought._replace(plans=plans, cost=bought.cost + more * price), loss)
    return best


def _with_group(plans: Plans, place: int, more: float, support: float, query: float) -> Plans:
    """The plan with ``more`` tasks of group ``place`` moved to a new group of another size."""
    tasks = plans.tasks.clone()
    tasks[0, place] -= more
    sizes = ((tasks, more), (plans.support, support), (plans.query, query))
    columns = (torch.cat((column, torch.tensor([[value]], dtype=torch.float64)), 1) for column, value in sizes)
    return Plans(torch.cat((plans.kinds, plans.kinds[place : place + 1])), *columns)
