"""The engines formula and monte-carlo: the best plan of the linear model, with what is known of its loss.

The simulation is of designs alone: tasks and label noise are averaged in closed form. With B the stacked rows,
P = pinv(B), P_i its columns for task i, r the rank of B and V_i the query inputs of task i, R = E |w_hat - w0|^2 is
the mean over designs X of

    R | X = (1 - r/p) u2 + sum_i { (nu_i^2 / p) |P_i B_i|^2 + sigma_i^2 (|P_i|^2 + |(a / n_t) P_i V_i X_i'|^2) },

in Frobenius norms (Rao and Blackwell).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scorefold_allocation.config import MetaConfig, MonteCarloConfig
from scorefold_allocation.theory.formula import expected_excess, fluctuation, outer_weights, risk
from scorefold_allocation.theory.linear_model import LinearProblem, Plans
from scorefold_allocation.theory.optimum import TIE, FoundPlan, Lattice, lattice_of, log_axis, search_lattice
from scorefold_allocation.theory.purchase import expected_loss, step_of

_AT_ONCE = 1_000_000  # numbers in a batch of matrices
_CALM = 0.01  # the fluctuation of a part of a plan, from which R goes on like one over the number of tasks
_FIRST = 4000  # tasks drawn in a first round


def simulated_risk(
    problem: LinearProblem, plans: Plans, config: MonteCarloConfig, generator: torch.Generator, tolerance: float
) -> tuple[Tensor, Tensor]:
    """R of C plans and its standard error, each (C,): designs are added until the error is ``tolerance`` of R, or up
    to the most that ``config`` allows.

    Infinite for |N - p| <= 1, where the expectation is. All plans see the same stream of random numbers.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    found = [
        _one(problem, plans.take(torch.tensor([i])), config, torch.Generator().manual_seed(seed), tolerance)
        for i in range(len(plans.tasks))
    ]
    mean, error = torch.tensor(found, dtype=torch.float64).reshape(-1, 2).unbind(1)
    return mean, error


def design_risks(problem: LinearProblem, plan: Plans, designs: int, generator: torch.Generator) -> Tensor:
    """R | X of one plan (C = 1) for so many designs, (designs,)."""
    rows, p = int(plan.rows), problem.dimension
    biased = max(0.0, 1 - rows / p) * problem.start2
    simulate = _few_rows if rows < p else _many_rows
    at_once = max(1, _AT_ONCE // (min(rows, 4 * p) * p))
    parts = [simulate(problem, plan, min(at_once, designs - start), generator) for start in range(0, designs, at_once)]
    return biased + torch.cat(parts)


def gaussian_factor(shape: tuple[int, ...], n: int, p: int, generator: torch.Generator) -> Tensor:
    """F (*shape, min(n, p), p) with F'F as of n rows of p independent standard normals, in float64.

    The rows themselves for n <= p, and Bartlett's factor of their Wishart matrix for n > p.
    """
    F = torch.randn((*shape, min(n, p), p), generator=generator, dtype=torch.float64)
    if n <= p:
        return F
    halves = (n - torch.arange(p, dtype=torch.float64)) / 2
    chi2 = 2 * torch._standard_gamma(halves.expand(*shape, p), generator=generator)
    F = F.triu(1)
    F.diagonal(dim1=-2, dim2=-1).copy_(chi2.sqrt())
    return F


def _one(
    problem: LinearProblem, plan: Plans, config: MonteCarloConfig, generator: torch.Generator, tolerance: float
) -> tuple[float, float]:
    if abs(float(plan.rows) - problem.dimension) <= 1:
        return torch.inf, torch.inf
    part, scale = _part_of(problem, plan)
    tasks = float(part.tasks.sum())
    designs = min(config.max_designs, max(8, round(_FIRST / tasks)))
    values = design_risks(problem, part, designs, generator)
    while True:
        mean, error = float(values.mean()), float(values.std() / len(values) ** 0.5)
        if error <= tolerance * mean or len(values) >= config.max_designs:
            return scale * mean, scale * error
        wanted = len(values) * min(8.0, (error / (tolerance * mean)) ** 2) * 1.1
        more = min(config.max_designs, int(wanted) + 1) - len(values)
        values = torch.cat((values, design_risks(problem, part, more, generator)))


def _part_of(problem: LinearProblem, plan: Plans) -> tuple[Plans, float]:
    """A plan of fewer tasks in the same proportions, and the factor from its R to the R of the whole plan.

    Where the fluctuation is small, R is inversely proportional to the number of tasks but for a part of about the
    fluctuation, most of which the closed form has.
    """
    share = float(fluctuation(problem, plan)) / _CALM
    if share >= 0.5 or float(plan.rows) < problem.dimension:
        return plan, 1.0
    tasks = (plan.tasks * share).ceil()
    part = plan._replace(tasks=tasks)
    return part, float(risk(problem, plan).value / risk(problem, part).value)


def _many_rows(problem: LinearProblem, plan: Plans, designs: int, generator: torch.Generator) -> Tensor:
    """The part of R that rows bring, for N >= p, where P = M^-1 B' with M = B'B: sums over tasks are enough,
    tr M^-2 sum_i omega_i^2 B_i' D_i B_i, with D_i of ``_draw`` and M = sum omega_i B_i'B_i."""
    p = problem.dimension
    weights = outer_weights(problem, plan)[0]
    total = torch.zeros(designs, p, p, dtype=torch.float64)
    caught = total.clone()
    for group, weight in enumerate(weights.tolist()):
        tasks, most = int(plan.tasks[0, group]), max(1, _AT_ONCE // (designs * p * p))
        for start in range(0, tasks, most):
            B, D = _draw(problem, plan, group, (designs, min(most, tasks - start)), generator)
            tall = B.flatten(1, 2)
            total += weight * tall.mT @ tall
            caught += weight**2 * tall.mT @ (D @ B).flatten(1, 2)
    inverse = torch.linalg.inv(total)
    value: Tensor = ((inverse @ inverse) * caught).sum((-2, -1))
    return value


def _few_rows(problem: LinearProblem, plan: Plans, designs: int, generator: torch.Generator) -> Tensor:
    """The part of R that rows bring, for N < p, where P'P = K^-1 with K = BB': the sum of tr (K^-1)_ii D_i. Weights of
    the outer loss change nothing."""
    groups = [group for group, tasks in enumerate(plan.tasks[0].tolist()) if tasks > 0]
    drawn = [_draw(problem, plan, group, (designs, int(plan.tasks[0, group])), generator) for group in groups]
    stacked = torch.cat([B.flatten(1, 2) for B, _ in drawn], 1)
    inverse = torch.linalg.inv(stacked @ stacked.mT)
    value, start = torch.zeros(designs, dtype=torch.float64), 0
    for _, D in drawn:
        tasks, query = D.shape[1:3]
        end = start + tasks * query
        block = inverse[:, start:end, start:end].reshape(designs, tasks, query, tasks, query)
        value += (block.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2) * D).sum((1, 2, 3))
        start = end
    return value


def _draw(
    problem: LinearProblem, plan: Plans, group: int, shape: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows B (*shape, r, p) of tasks of a group, and D (*shape, r, r), the covariance of what their targets are off by:
    (nu^2 / p) BB' + sigma^2 (I + (a / n_t)^2 VX'XV'). More query points than weights are drawn as p rows with the same
    V'V, on which alone R depends where N > p."""
    p, kind = problem.dimension, int(plan.kinds[group])
    n_t, n_v = int(plan.support[0, group]), int(plan.query[0, group])
    V = gaussian_factor(shape, n_v, p, generator)
    noise = torch.eye(V.shape[-2], dtype=torch.float64)
    B = V
    if problem.rate != 0:
        X = gaussian_factor(shape, n_t, p, generator)
        G = problem.rate / n_t * V @ X.mT
        B = V - G @ X
        noise = noise + G @ G.mT
    return B, problem.spread2[kind] / p * B @ B.mT + problem.noise2[kind] * noise


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
