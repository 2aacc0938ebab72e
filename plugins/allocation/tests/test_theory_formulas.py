"""Formulas of the theory written out: drawn tasks, fluctuations, tied labels, intervals, how many designs are drawn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from linear_cases import plan, problem
from torch import Tensor

from scorefold_allocation.config import MetaConfig, MonteCarloConfig
from scorefold_allocation.search.valley import resampled_means
from scorefold_allocation.theory import engines
from scorefold_allocation.theory.engines import Engine, gaussian_factor, simulated_risk
from scorefold_allocation.theory.formula import OVER, UNDER, fluctuation, risk
from scorefold_allocation.theory.linear_model import Plans, draw_task, outer_rows
from scorefold_allocation.theory.optimum import lattice_of, search_lattice
from scorefold_allocation.theory.purchase import bounds_of, expected_loss, problem_of


def test_a_drawn_task_is_w0_with_spread_and_noise_of_both_its_parts() -> None:
    case = problem(3, 0.4, noise2=4.0, spread2=0.75)
    w0 = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = draw_task(case, w0, 0, 5, 2, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    w = w0 + 0.5 * normal(3)
    X, V = normal(5, 3), normal(2, 3)
    y = X @ w + 2 * normal(5)
    expected = outer_rows(X, y, V, V @ w + 2 * normal(2), 0.4)
    torch.testing.assert_close(found.rows, expected.rows)
    torch.testing.assert_close(found.targets, expected.targets)


@pytest.mark.parametrize("rate", [0.0, 0.5, -0.4])
def test_fluctuation_is_the_relative_variance_of_the_sum_of_squared_rows(rate: float) -> None:
    """tr E (B'B)^2 / p over (tr E B'B / p)^2, less 1, for one task, and a fifth of it for five; 40,000 draws."""
    p, support, query = 3, 4, 2
    generator = torch.Generator().manual_seed(0)
    X = gaussian_factor((40_000,), support, p, generator)
    V = gaussian_factor((40_000,), query, p, generator)
    B = V - rate / support * V @ X.mT @ X
    square = B.mT @ B
    first = square.diagonal(dim1=1, dim2=2).sum(1).mean() / p
    second = (square @ square).diagonal(dim1=1, dim2=2).sum(1).mean() / p
    found = fluctuation(problem(p, rate), plan((5, support, query)))
    assert float(found) == pytest.approx(float(second / first**2 - 1) / 5, rel=0.05)
    if rate == 0:
        assert float(found) == pytest.approx((p + 1) / (5 * query))


def test_the_closed_form_is_exact_where_all_rows_weigh_alike() -> None:
    """At a rate of 0 rows of tasks of 4 and 8 query labels weigh alike pooled, and not by means of tasks; a type
    without tasks is not counted."""
    both, one = plan((9, 4, 4), (9, 4, 8)), plan((9, 4, 4), (0, 4, 8))
    pooled, means = (problem(5, 0.0, weighting=name) for name in ("pooled", "task-mean"))
    assert (int(risk(pooled, both).expression), float(risk(pooled, both).error)) == (0, 0.0)
    assert (int(risk(means, both).expression), float(risk(means, both).error) > 0) == (2, True)
    assert (int(risk(means, one).expression), float(risk(means, one).error)) == (0, 0.0)


def test_stated_errors_hold_from_the_ends_of_the_threshold_on() -> None:
    """N / p of 1.5 is above it, 0.75 below it, and what is between has no stated error."""
    case = problem(8, 0.2)
    errors = {rows: float(risk(case, plan((rows, 2, 1))).error) for rows in (6, 7, 11, 12)}
    assert (OVER, UNDER) == (6 / 8, 12 / 8)
    assert [rows for rows, error in errors.items() if error < 1e9] == [6, 12]
    assert errors[6] == 0.15
    apart = float(fluctuation(case, plan((12, 2, 1)))) - 9 / 12
    assert errors[12] == pytest.approx(0.02 + 5 * abs(apart))


def two_types(**settings: object) -> MetaConfig:
    types = ({"name": "a", "test_share": 1.0}, {"name": "b", "test_share": 0.0})
    return MetaConfig(task_types=types, linear={"dimension": 6}, **settings)


def test_tied_labels_are_the_mean_support_of_tasks_of_that_type() -> None:
    """Tasks of 2 and 5 support labels of the type that is met, 1 and 2 of them: 4. Without any all tasks count."""
    excess = torch.tensor([0.7], dtype=torch.float64)
    groups = ((1, 2, 2), (2, 5, 2), (7, 11, 2))

    def loss(labels: int | str, kinds: tuple[int, ...]) -> float:
        config = two_types(deployment={"labels": labels, "rate": "training"})
        return float(expected_loss(config, problem_of(config), plan(*groups, kinds=kinds), excess))

    assert loss("tied", (0, 0, 1)) == pytest.approx(loss(4, (0, 0, 1)))
    everything = plan(*groups, kinds=(1, 1, 1))
    mean = float((everything.tasks * everything.support).sum() / everything.tasks.sum())
    assert mean == pytest.approx(8.9)
    assert loss(8, (1, 1, 1)) > loss("tied", (1, 1, 1)) > loss(9, (1, 1, 1))


def test_the_interval_of_a_simulation_is_of_95_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """R = 2 with a standard error of 0.1 lies from 1.804 to 2.196."""
    config = two_types()
    plans = plan((9, 4, 4))
    monkeypatch.setattr(engines, "simulated_risk", lambda *given: torch.tensor([[2.0], [0.1]]).double())
    found = SimpleNamespace(bought=SimpleNamespace(plans=plans), loss=torch.zeros(1, dtype=torch.float64))
    judged = Engine(config, problem_of(config), torch.Generator()).judge(found)  # type: ignore[arg-type]
    ends = [
        float(expected_loss(config, problem_of(config), plans, torch.tensor([value], dtype=torch.float64)))
        for value in (1.804, 2.0, 2.196)
    ]
    assert [float(judged.low), float(judged.loss), float(judged.high)] == pytest.approx(ends)


@pytest.mark.parametrize(("error", "excess"), [(0.39, 2.0), (0.41, float("inf"))])
def test_a_simulation_that_is_off_by_more_than_a_fifth_knows_no_expectation(
    error: float, excess: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = two_types()
    monkeypatch.setattr(engines, "simulated_risk", lambda *given: torch.tensor([[2.0], [error]]).double())
    found = SimpleNamespace(bought=SimpleNamespace(plans=plan((9, 4, 4))), loss=torch.zeros(1, dtype=torch.float64))
    judged = Engine(config, problem_of(config), torch.Generator()).judge(found)  # type: ignore[arg-type]
    assert float(judged.excess) == excess


@pytest.mark.parametrize("tasks", [6, 7])
def test_tasks_that_are_drawn_a_few_at_a_time_are_all_drawn_once(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """R at a rate of 0 is known: 4 designs of 2 x 2 matrices and 48 numbers at once are 3 tasks at a time."""
    monkeypatch.setattr(engines, "_AT_ONCE", 48)
    case, bought, generator = problem(2, 0.0), plan((tasks, 4, 4)), torch.Generator().manual_seed(0)
    found = torch.cat([engines._many_rows(case, bought, 4, generator) for _ in range(500)])
    error = float(found.std()) / len(found) ** 0.5
    assert float(found.mean()) == pytest.approx(float(risk(case, bought).value), abs=5 * error)


@pytest.mark.parametrize(("tolerance", "rounds"), [(0.5, [8]), (0.05, [8, 28]), (0.001, [8, 63, 229])])
def test_designs_are_added_by_the_square_of_what_the_error_is_too_large_by(
    tolerance: float, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 values of mean 1 have the error 0.1: twice 0.05 asks for 8 * 4 and a tenth more, and eight times at most."""
    drawn: list[int] = []

    def design_risks(case, part, designs, generator):
        drawn.append(designs)
        return 1 + 0.1 * 7**0.5 * (-1.0) ** torch.arange(designs, dtype=torch.float64)

    monkeypatch.setattr(engines, "design_risks", design_risks)
    config = MonteCarloConfig(max_designs=300)
    mean, error = simulated_risk(
        problem(5000, 0.0), plan((500, 2, 1)), config, torch.Generator().manual_seed(0), tolerance
    )
    assert drawn == rounds
    assert (mean.shape, error.shape) == ((1,), (1,))
    assert float(mean) == pytest.approx(1, abs=0.01)
    assert float(error) == pytest.approx(0.1 * (7 / (sum(rounds) - 1)) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("count", [3, 5])
def test_resamples_stretch_ratios_by_what_a_mean_of_few_varies_too_little(count: int) -> None:
    """Resampled means of R vary by (R - 1) / R too little, and 95 % of Student's t are 2.92 for 3 and 2.132 for 5 (of a
    normal distribution 1.645): of the first alone they are m (v / m)^sqrt(R / (R - 1)) to this ratio."""
    power = (count / (count - 1)) ** 0.5 * {3: 2.919986, 5: 2.131847}[count] / 1.644854
    values = torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    mean = float(values.mean())
    found = resampled_means(values, 4000, torch.Generator().manual_seed(0))[:, 0]
    assert float(found.min()) == pytest.approx(mean * (1 / mean) ** power, rel=1e-5)
    assert float(found.max()) == pytest.approx(mean * (count / mean) ** power, rel=1e-5)


def free(types: int) -> MetaConfig:
    names = ({"name": str(place), "min_labels": 2, "max_labels": 40} for place in range(types))
    return MetaConfig(task_types=tuple(names), split={"name": "free"})


def test_points_of_a_free_split_share_out_their_labels() -> None:
    lattice = lattice_of(free(1), bounds_of(free(1), {}), 1000.0)
    points = lattice.line(torch.tensor([20.0], dtype=torch.float64))
    assert points.sum(-1).unique().tolist() == [20]
    assert points[0, 0].tolist() == [2, 18]
    assert points[0, -1].tolist() == [18, 2]


@pytest.mark.parametrize("target", [(7, 9, 12, 5), (17, 5, 10, 5), (4, 20, 9, 18)])
def test_a_search_of_four_sizes_ends_where_no_neighbour_is_better(target: tuple[int, ...]) -> None:
    """A bowl around four sizes that all can be had: one label too few is as good as one too many."""
    config = free(2)
    goal = torch.tensor(target, dtype=torch.float64)

    def bowl(plans: Plans) -> Tensor:
        sizes = torch.stack((plans.support, plans.query), -1)[:, :2].flatten(1)
        return 1 + (sizes - goal).square().sum(1)

    found = search_lattice(lattice_of(config, bounds_of(config, {}), 1e6), bowl)
    assert found.points[0].tolist() == list(target)
