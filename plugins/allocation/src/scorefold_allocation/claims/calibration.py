"""A study of the bands: the procedure and plainer searches at equal cost, on problems with a known optimum.

A problem is one-step MAML on mixed linear regression (``simulated``), its truth the simulated risk at the target budget
(``monte_carlo``). A band is a hit where it holds the best labels a task or some within 2 % of its loss; a refusal is
neither a hit nor a miss. The searches that the procedure is held against choose the size of a task with the lowest mean
loss at the pilot's budget, with as many labels in all trials together, of sizes that lie evenly in log n, at random, or
as Ax asks for them.

A learner whose losses are simulated fast: one-step MAML on mixed linear regression, solved in closed form.

Its random numbers are a function of (seed, task, point, coordinate), so that the cells of a seed share all tasks and
points that both have, in whatever order and number they are tried. What it reports is |w_hat - w0|^2 alone, the part of
the loss that an allocation can change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from scorefold.data import Dataset
from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.config import MetaConfig, MonteCarloConfig, PilotConfig
from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.search.grid import Limits, ax_sizes, random_sizes
from scorefold_allocation.search.procedure import run_pilot
from scorefold_allocation.search.trials import Trainee, Trials
from scorefold_allocation.theory.engines import simulated_risk
from scorefold_allocation.theory.linear_model import LinearProblem, Plans


class NoTasks(TaskSource):
    """For a learner that draws its own tasks."""

    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        return iter(())


class SimulatedLearner(Learner):
    """Solves tasks of the first type of ``problem`` and reports |w_hat - w0|^2, and the training loss."""

    def __init__(self, problem: LinearProblem) -> None:
        self.problem = self.config = problem

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        """See ``Learner.evaluate``; ``source`` is not asked for anything."""
        return self.evaluate_seeds(source, cells, [seed])[0]

    def evaluate_seeds(self, source: TaskSource, cells: Sequence[AllocationCell], seeds: Sequence[int]) -> list[Losses]:
        """See ``Learner.evaluate_seeds``."""
        tests, trains = zip(*(self._solve(cell, seeds) for cell in cells), strict=True)
        pairs = zip(torch.stack(tests, 1), torch.stack(trains, 1), strict=True)
        return [Losses(test, train) for test, train in pairs]

    def _solve(self, cell: AllocationCell, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """|w_hat - w0|^2 and the training loss, each (seeds,), with w0 at the origin.

        The least squares of all tasks, with rows V - (a/n) V X'X and targets v - (a/n) V X'y, starts at a point whose
        distance from w0 is the problem's.
        """
        problem, p = self.problem, self.problem.dimension
        spread, noise = float(problem.spread2[0].sqrt()), float(problem.noise2[0].sqrt())
        z = torch.from_numpy(np.stack([_normals(seed, cell.tasks, cell.size + 1, p + 1) for seed in seeds]))
        w = spread / p**0.5 * z[:, :, :1, :p]
        inputs, labels = z[:, :, 1:, :p], z[:, :, 1:, :p] @ w.mT + noise * z[:, :, 1:, p:]
        # Support and query alternate, so that a smaller task's labels keep their part in a larger one of an even split.
        order = _alternating(cell)
        X, y = inputs[:, :, order[: cell.support]], labels[:, :, order[: cell.support]]
        V, v = inputs[:, :, order[cell.support :]], labels[:, :, order[cell.support :]]
        step = problem.rate / cell.support * V @ X.mT
        rows, targets = (V - step @ X).flatten(1, 2), (v - step @ y).flatten(1, 2)
        start = torch.full((p, 1), (problem.start2 / p) ** 0.5, dtype=torch.float64)
        found = start + torch.linalg.lstsq(rows, targets - rows @ start, driver="gelsd").solution
        residual = targets - rows @ found
        return found.square().sum((1, 2)), residual.square().mean((1, 2)) / 2


def _alternating(cell: AllocationCell) -> list[int]:
    """Positions of a task's support labels, then of its query labels: by turns while both last."""
    both = 2 * min(cell.support, cell.query)
    rest = list(range(both, cell.size))
    support = list(range(0, both, 2)) + (rest if cell.support > cell.query else [])
    return support + list(range(1, both, 2)) + (rest if cell.query > cell.support else [])


def _normals(seed: int, tasks: int, points: int, width: int) -> NDArray[np.float64]:
    """Standard normals (tasks, points, width), each a function of the seed and of its own place alone."""
    place = np.arange(tasks, dtype=np.uint64)[:, None, None] << np.uint64(32)
    place = place + (np.arange(points, dtype=np.uint64)[:, None] << np.uint64(12)) + np.arange(width, dtype=np.uint64)
    word = _mixed(_mixed(place) + np.uint64(seed))
    return np.asarray(ndtri(((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53))


def _mixed(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of 64-bit words that scatters neighbours (Steele, Lea and Flood 2014, SplitMix)."""
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


NEAR = 0.02


@dataclass(frozen=True)
class CurveProblem:
    """A linear problem, the budget that a plan is asked for, and the loss there, (k,), of k sizes of a task, (k,)."""

    linear: LinearProblem
    budget: int
    sizes: Tensor
    losses: Tensor

    def regret(self, size: float) -> float:
        """The share by which the loss at a size is above the least, by lines between the logarithms of the losses."""
        x, y = self.sizes.log(), self.losses.log()
        right = int(torch.searchsorted(x, torch.tensor(size).double().log()).clamp(1, len(x) - 1))
        share = (math.log(size) - float(x[right - 1])) / float(x[right] - x[right - 1])
        share = min(max(share, 0.0), 1.0)
        return math.exp(float(y[right - 1] + share * (y[right] - y[right - 1]) - y.min())) - 1

    def hit(self, low: float, high: float) -> bool:
        """True if a size from ``low`` to ``high`` is the best one or within ``NEAR`` of its loss."""
        good = self.sizes[self.losses <= (1 + NEAR) * self.losses.min()]
        return bool(((good >= low - 1e-9) & (good <= high + 1e-9)).any()) or min(map(self.regret, (low, high))) <= NEAR


@dataclass(frozen=True)
class SearchOutcome:
    """Result of the procedure for a problem: its regret, whether its band was a hit, the band's width (high over low),
    the labels of all its trials, and the regrets of other searches by name. A refusal has a ``reason`` alone.
    """

    regret: float = math.nan
    hit: bool = False
    width: float = math.nan
    label_runs: int = 0
    others: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def draw_problem(seed: int, thresholds: tuple[float, float] = (30, 300)) -> CurveProblem:
    """A problem: 6 to 24 weights, an inner rate of -0.3 to 0.6, spread and noise variances of 1/4 to 4, a start at a
    squared distance of 1/4 to 4, and a budget in multiples of the threshold 2 p, all spread evenly, the last three in
    logarithms."""
    u = torch.rand(6, generator=derive_generator(seed, "problem"), dtype=torch.float64)
    p = 6 + int(19 * float(u[0]))
    spread2, noise2, start2 = (4 ** (2 * u[i] - 1) for i in (1, 2, 3))
    linear = LinearProblem(p, 0.9 * float(u[4]) - 0.3, float(start2), spread2[None], noise2[None])
    low, high = thresholds
    budget = round(2 * p * low * (high / low) ** float(u[5]))
    sizes = limits().sizes(min(budget, 10 * p), 12)
    support = torch.tensor(sizes, dtype=torch.float64)[:, None] / 2
    tasks = torch.tensor([[float(budget // size)] for size in sizes], dtype=torch.float64)
    plans = Plans(torch.tensor([0]), tasks, support, support)
    generator = derive_generator(seed, "truth")
    losses, _ = simulated_risk(linear, plans, MonteCarloConfig(max_designs=100), generator, 0.005)
    return CurveProblem(linear, budget, 2 * support[:, 0], losses)


def limits() -> Limits:
    """Tasks of 2 labels or more, half support and half query, two tasks at least."""
    return Limits.of(MetaConfig())


def judge_search(
    problem: CurveProblem, settings: PilotConfig, seed: int, others: Sequence[str] = ("uniform", "random")
) -> SearchOutcome:
    """Run the procedure on a problem, and other searches with as many labels."""
    trainee = Trainee(SimulatedLearner(problem.linear), NoTasks())
    found = run_pilot(
        MetaConfig(pilot=settings), trainee, problem.budget, generator=torch.Generator().manual_seed(seed)
    )
    if found.status == "refused":
        return SearchOutcome(reason=found.reason, label_runs=int(found.diagnostics["label_runs"]))
    diagnostics = found.diagnostics
    low, high = diagnostics["band"]
    runs, labels = int(diagnostics["label_runs"]), float(diagnostics["pilot_labels"])
    return SearchOutcome(
        regret=problem.regret(diagnostics["n"]),
        hit=problem.hit(low, high),
        width=high / low,
        label_runs=runs,
        others={
            name: problem.regret(plain_search(name, trainee, labels, runs, settings.sizes, seed)) for name in others
        },
    )


def plain_search(name: str, trainee: Trainee, labels: float, label_runs: int, count: int, seed: int) -> int:
    """The size with the lowest mean loss of about ``count`` sizes, all tried with ``labels`` labels and as many seeds
    each as ``label_runs`` pay for; ``name`` is uniform, random or ax."""
    trials, bounds = Trials(trainee, derive_seed(seed, name)), limits()
    if name == "uniform":
        sizes = bounds.sizes(labels, count)
    elif name == "random":
        sizes = random_sizes(bounds, labels, count, derive_generator(seed, "random sizes"))
    else:
        sizes = []
    seeds = range(max(1, round(label_runs / (labels * (len(sizes) or count)))))

    def tried(size: int) -> tuple[float, float]:
        losses = trials.losses([bounds.cell(size, labels)], seeds)[:, 0]
        return float(losses.mean()), float(losses.std() / len(losses) ** 0.5)

    if name == "ax":
        sizes = ax_sizes(tried, bounds, labels, count, seed)
    return min(sizes, key=lambda size: tried(size)[0])


def search_summary(outcomes: Sequence[SearchOutcome]) -> dict[str, float]:
    """The shares and medians of a study: ``coverage`` and ``width`` over the problems that were not refused."""
    answered = [outcome for outcome in outcomes if not outcome.reason]
    figures: dict[str, float] = {
        "problems": len(outcomes),
        "refused": len(outcomes) - len(answered),
        "coverage": sum(outcome.hit for outcome in answered) / len(answered),
        "median width": median(outcome.width for outcome in answered),
        "median label-runs": median(outcome.label_runs for outcome in answered),
    }
    regrets = {"procedure": [outcome.regret for outcome in answered]}
    regrets |= {name: [outcome.others[name] for outcome in answered] for name in answered[0].others}
    for name, values in regrets.items():
        sorted_values = sorted(values)
        figures[f"{name}: median regret"] = median(values)
        figures[f"{name}: 95 % regret"] = sorted_values[min(len(values) - 1, int(0.95 * len(values)))]
        figures[f"{name}: regret up to 5 %"] = sum(value <= 0.05 for value in values) / len(values)
    return figures
