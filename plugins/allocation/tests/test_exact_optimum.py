"""Where the optimum lies: against brute force, closed forms of special cases, limits, and simulation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_cases import even, plan, problem, simulated

from scorefold_allocation.claims.linear import budget_times_risk, frozen_size, large_dimension
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.theory.engines import Engine
from scorefold_allocation.theory.formula import risk
from scorefold_allocation.theory.linear_model import Plans
from scorefold_allocation.theory.optimum import FoundPlan, lattice_of, search_lattice
from scorefold_allocation.theory.purchase import bounds_of, problem_of


def best(budget: int, **settings: Any) -> FoundPlan:
    """The best plan by closed form, before leftovers are spread."""
    config = MetaConfig.model_validate(settings)
    lattice = lattice_of(config, bounds_of(config, {}), budget)
    return search_lattice(lattice, Engine(config, problem_of(config)).closed_form)


def size(budget: int, **settings: Any) -> int:
    """Its labels per task, of the first type."""
    plans = best(budget, **settings).bought.plans
    return int(plans.support[0, 0] + plans.query[0, 0])


def linear(p: int, rate: float, start: float = 1.0) -> dict[str, float]:
    return {"dimension": p, "rate": rate, "start_distance": start}


def hard_and_easy(**both: Any) -> list[dict[str, Any]]:
    return [{"name": "easy", "noise": 0.2**0.5, **both}, {"name": "hard", "noise": 1.0, **both}]


def written_out(p: int, a: float, n: int, m: int) -> float:
    """R of m tasks of n labels with sigma = nu = 1, at leading order, written out for an even split."""
    half, s2 = n / 2, (n / 2 + p + 1) / (n / 2)
    k = half
    h = (1 - a) ** 2 + a * a * (p + 1) / k
    s3 = (k * k + p * p + 3 * k * p + 3 * k + 3 * p + 4) / k**2
    s4 = (
        k**3 + p**3 + 6 * k * k * p + 6 * k * p * p + 6 * k * k + 6 * p * p + 17 * k * p + 21 * k + 21 * p + 20
    ) / k**3
    tr2, tr12 = p * p + 2 * p / k, p * s2 * (k * p + 4) / k
    tr22 = k**4 * p**2 + 2 * k**3 * p**3 + k**2 * p**4 + 2 * k**3 * p**2 + 2 * k**2 * p**3 + 8 * k**3 * p
    tr22 += 21 * k**2 * p**2 + 8 * k * p**3 + 20 * k**2 * p + 20 * k * p**2 + 20 * k * p
    tr22 /= k**4
    g1 = 1 - 2 * a * s2 + a * a * s3
    g2 = 1 - 2 * a * tr2 / p**2 + a * a * tr12 / p**2
    g3 = 1 - 4 * a + 6 * a * a * s2 - 4 * a**3 * s3 + a**4 * s4
    g4 = (p**2 - 4 * a * p**2 + 2 * a * a * p**2 * s2 + 4 * a * a * tr2 - 4 * a**3 * tr12 + a**4 * tr22) / p**2
    phi = p / k * (h + a * a / k * ((k + 1) * g1 + p * g2) + ((k + 1) * g3 + p * g4) / p)
    return phi / (m * h * h)


@pytest.mark.parametrize("rate", [-0.2, 0.2, 0.4, 0.8])
def test_leading_order_is_that_of_the_sums_written_out(rate: float) -> None:
    for n in (2, 8, 60):
        expected = written_out(20, rate, n, 40)
        assert float(risk(problem(20, rate), even(40, n), leading=True).value) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("budget", [240, 480, 960, 997])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_it_is_that_of_brute_force_over_all_even_sizes(budget: int, rate: float) -> None:
    """Sizes that divide the budget are among them, and so are those that leave labels over."""
    sizes = torch.arange(2, budget // 2 + 1, 2)
    values = risk(problem(20, rate), even(budget // sizes, sizes)).value
    found = best(budget, linear=linear(20, rate))
    assert size(budget, linear=linear(20, rate)) == int(sizes[values.argmin()])
    excess = float(risk(problem(20, rate), found.bought.plans).value)
    assert excess == pytest.approx(float(values.min()), rel=1e-12)
    divisors = [i for i, n in enumerate(sizes.tolist()) if budget % n == 0]
    assert not divisors or excess <= float(values[divisors].min())


def test_brute_force_over_free_splits_finds_nothing_better() -> None:
    half = torch.arange(1.0, 61.0, dtype=torch.float64)
    support, query = torch.cartesian_prod(half, half).T
    tasks = (600 / (support + query)).floor()
    plans = plan((1, 1, 1))._replace(tasks=tasks[:, None], support=support[:, None], query=query[:, None])
    values = risk(problem(20, 0.2), plans).value
    found = best(600, linear=linear(20, 0.2), split={"name": "free"})
    assert float(risk(problem(20, 0.2), found.bought.plans).value) <= float(values.min()) * (1 + 1e-9)


def test_brute_force_over_two_types_finds_nothing_better() -> None:
    settings: dict[str, Any] = {"linear": linear(12, 0.3), "task_types": hard_and_easy(), "mix": "fixed"}
    half = torch.arange(1.0, 31.0, dtype=torch.float64)
    for weighting in ("pooled", "task-mean", "best"):
        case = problem(12, 0.3, [0.2, 1.0], weighting=weighting)
        easy, hard = torch.cartesian_prod(half, half).T
        tasks = (900 / (2 * easy + 2 * hard)).floor()
        pairs = torch.stack((easy, hard), 1)
        plans = plan((1, 1, 1), (1, 1, 1), kinds=(0, 1))
        plans = plans._replace(tasks=tasks[:, None].expand(-1, 2), support=pairs, query=pairs)
        found = best(900, weighting=weighting, **settings).bought.plans
        assert float(risk(case, found).value) <= float(risk(case, plans).value.min()) * (1 + 1e-9)


def test_what_it_chooses_is_within_3_percent_of_the_best_that_simulation_finds() -> None:
    case = problem(20, 0.4)
    for budget in (240, 480):
        values = {n: simulated(case, even(budget // n, n), 160)[0] for n in (4, 6, 8, 10, 12, 16, 24, 40)}
        chosen = size(budget, linear=linear(20, 0.4))
        assert values.get(chosen, simulated(case, even(budget // chosen, chosen), 160)[0]) <= 1.03 * min(
            values.values()
        )


@pytest.mark.parametrize(("rate", "sizes"), [(0.4, {5: 6, 10: 8, 20: 10, 50: 22}), (0.2, {5: 2, 10: 4, 20: 6})])
def test_far_above_the_threshold_it_is_the_constant_of_the_limit(rate: float, sizes: dict[int, int]) -> None:
    for p, expected in sizes.items():
        assert frozen_size(problem(p, rate)) == expected
        for thresholds in (12, 50, 1000):
            assert abs(size(2 * p * thresholds, linear=linear(p, rate)) - expected) <= 2
    case = problem(20, rate)
    n = sizes[20]
    limit = float(budget_times_risk(case, n / 2, n / 2))
    assert 1e7 * float(risk(case, even(10**7 // n, n)).value) == pytest.approx(limit, rel=1e-4)


def test_it_grows_like_the_weights_with_a_known_ratio() -> None:
    c = torch.logspace(-2.5, 0.5, 60_001, dtype=torch.float64)
    table = {0.1: (0.038, 0.042, 0.049), 0.2: (0.090, 0.094, 0.101), 0.3: (0.149, 0.148, 0.145)}
    table |= {0.4: (0.211, 0.192, 0.153), 0.5: (0.259, 0.194, 0.054), -0.2: (0.114, 0.169, 0.427)}
    for rate, row in table.items():
        for noise2, expected in zip((0.1, 1.0, 10.0), row, strict=True):
            assert float(c[large_dimension(c, rate, 1.0, noise2).argmin()]) == pytest.approx(expected, abs=6e-4)
    for rate in (0.2, 0.4):
        ratio = float(c[large_dimension(c, rate, 1.0, 1.0).argmin()])
        assert frozen_size(problem(400, rate)) / 800 == pytest.approx(ratio, rel=0.03)


def test_large_rates_make_it_grow_like_the_root_of_the_weights() -> None:
    assert [frozen_size(problem(p, 0.8)) for p in (50, 100, 200, 400, 800)] == [14, 18, 24, 34, 48]


def test_it_has_at_most_one_valley() -> None:
    half = torch.arange(1.0, 400.0, dtype=torch.float64)
    for p in (10, 20, 50):
        for rate in (-0.3, 0.0, 0.2, 0.4, 0.8, 1.3):
            for noise2 in (0.1, 1.0, 10.0):
                falls = budget_times_risk(problem(p, rate, noise2), half, half).diff() < 0
                assert int((falls[1:] & ~falls[:-1]).sum()) == 0


def test_at_rate_0_it_is_the_smallest_size_allowed() -> None:
    assert size(4096, linear=linear(16, 0.0)) == 2
    assert size(4096, linear=linear(16, 0.0), task_types=[{"min_labels": 8}]) == 8
    # Near the threshold it is not: 16 query labels a task are better than 4 there.
    case, plans = problem(16, 0.0), [plan((32 // n_v, 4, n_v)) for n_v in (4, 16)]
    near = [float(risk(case, one).value) for one in plans]
    assert near == pytest.approx([2.1198, 2.0970], abs=1e-4)
    for expected, one in zip(near, plans, strict=True):
        mean, error = simulated(case, one, 3000)
        assert abs(mean - expected) <= 5 * error


def test_ties_go_to_the_smallest_size() -> None:
    settings: dict[str, Any] = {"linear": linear(10, 0.0), "task_types": [{"spread": 0.0}]}
    sizes = {n: float(risk(problem(10, 0.0, 1.0, 0.0), even(240 // n, n)).value) for n in (2, 4, 12, 40)}
    assert max(sizes.values()) == pytest.approx(min(sizes.values()), rel=1e-12)
    assert size(240, **settings) == 2


@pytest.mark.parametrize(("labels", "slope"), [("tied", 0.5), (20, 0.0)])
def test_it_grows_like_the_root_of_the_budget_where_deployment_is_tied_to_training(
    labels: str | int, slope: float
) -> None:
    settings = {"linear": linear(20, 0.3), "deployment": {"labels": labels, "rate": "training"}}
    budgets = (10**4, 10**5, 10**6, 10**7)
    sizes = [size(budget, **settings) for budget in budgets]
    tasks = [budget // n for budget, n in zip(budgets, sizes, strict=True)]
    for values, expected in ((sizes, slope), (tasks, 1 - slope)):
        assert abs(math.log10(values[-1] / values[0]) / 3 - expected) <= 0.02
    if slope == 0:
        assert sizes == [8] * 4


@pytest.mark.parametrize(("task_cost", "expected"), [(5.0, 24.7), (50.0, 78.1)])
def test_costs_per_task_give_the_optimum_of_cluster_sampling(task_cost: float, expected: float) -> None:
    settings: dict[str, Any] = {"linear": linear(30, 0.0), "task_types": [{"task_cost": task_cost}]}
    assert math.sqrt(2 * 61 * task_cost) == pytest.approx(expected, abs=0.05)
    assert abs(size(4_000_000, **settings) - expected) <= 2
    assert abs(frozen_size(problem(30, 0.0), task_cost=task_cost) - expected) <= 2
    # The unit of cost is nobody's business.
    dear: dict[str, Any] = {"linear": linear(30, 0.0), "task_types": [{"task_cost": 3 * task_cost, "label_cost": 3.0}]}
    assert size(12_000_000, **dear) == size(4_000_000, **settings)


@pytest.mark.parametrize(("weighting", "expected"), [("pooled", 36), ("task-mean", 26)])
def test_equal_numbers_of_easy_and_hard_tasks_share_labels_as_the_weighting_has_it(
    weighting: str, expected: int
) -> None:
    """p = 30, nu = 1, sigma^2 = 0.2 and 1, 60 query labels for an easy and a hard task together: pooled rows differ by
    p (sigma_h^2 - sigma_e^2) / (2 nu^2), and task means by Neyman's rule, as sqrt(p sigma^2 + (p + 1) nu^2)."""
    case = problem(30, 0.0, [0.2, 1.0], weighting=weighting)
    easy = torch.arange(1.0, 60.0, dtype=torch.float64)
    pairs = torch.stack((easy, 60 - easy), 1)
    plans = plan((1, 1, 1), (1, 1, 1), kinds=(0, 1))
    plans = plans._replace(tasks=torch.full_like(pairs, 3000.0), support=pairs, query=pairs)
    assert abs(float(easy[risk(case, plans, leading=True).value.argmin()]) - expected) <= 1


def test_easy_tasks_get_more_labels_below_the_threshold_whatever_the_weighting() -> None:
    values = {}
    for n in (2, 6, 10, 14, 18):
        plans = plan((3, n / 2, n / 2), (3, 10 - n / 2, 10 - n / 2), kinds=(0, 1))  # type: ignore[arg-type]
        each = [float(risk(problem(80, 0.2, [0.1, 4.0], weighting=w), plans).value) for w in ("pooled", "task-mean")]
        assert each[0] == each[1]
        values[n] = each[0]
    assert sorted(values, key=values.__getitem__) == [18, 14, 10, 6, 2]


def test_above_it_the_weighting_decides_who_gets_more() -> None:
    types = [{"name": "easy", "noise": 0.1**0.5}, {"name": "hard", "noise": 2.0}]
    found = {}
    for weighting in ("pooled", "task-mean", "best"):
        plans = best(60_000, linear=linear(10, 0.2), task_types=types, mix="fixed", weighting=weighting).bought.plans
        found[weighting] = tuple((plans.support + plans.query)[0].tolist())
    assert found["task-mean"][1] > found["task-mean"][0]
    assert found["best"][0] >= found["best"][1]


def test_types_that_are_alike_get_the_same_and_names_do_not_matter() -> None:
    for weighting in ("pooled", "task-mean", "best"):
        settings = {"linear": linear(20, 0.4), "mix": "fixed", "weighting": weighting}
        plans = best(9600, task_types=[{"name": "one"}, {"name": "two"}], **settings).bought.plans
        assert plans.support[0, 0] == plans.support[0, 1]
        ways = [best(9600, task_types=types, **settings) for types in (hard_and_easy(), hard_and_easy()[::-1])]
        assert ways[0].bought.plans.support[0].tolist() == ways[1].bought.plans.support[0].flip(0).tolist()


def test_the_scale_of_losses_does_not_move_it() -> None:
    scale = 3.0
    settings: dict[str, Any] = {"deployment": {"labels": 20, "rate": 0.3}}
    one = best(600, linear=linear(20, 0.4), task_types=[{}], **settings)
    types = [{"noise": scale**0.5, "spread": scale**0.5}]
    other = best(600, linear=linear(20, 0.4, scale**0.5), task_types=types, **settings)
    assert torch.equal(one.points, other.points)
    assert float(other.loss) == pytest.approx(scale * float(one.loss), rel=1e-12)


def test_types_that_mix_freely_are_bought_one_alone_unless_there_are_too_few() -> None:
    settings: dict[str, Any] = {"linear": linear(20, 0.4)}
    plans = best(9600, task_types=hard_and_easy(), **settings).bought.plans
    assert plans.tasks[0, 1] == 0
    few = hard_and_easy()
    few[0] |= {"max_tasks": 200, "max_labels": 10}
    plans = best(9600, task_types=few, **settings).bought.plans
    assert plans.tasks[0, 0] == 200
    assert plans.tasks[0, 1] > 0


def test_huge_budgets_do_not_make_sizes_tie() -> None:
    """At 10^9 labels the excess is a few billionths of the loss, and still decides."""
    assert size(10**9, linear=linear(20, 0.4)) == frozen_size(problem(20, 0.4)) == 10


def test_four_types_with_a_free_split_are_searched_with_few_plans() -> None:
    types = [{"name": name, "noise": noise} for name, noise in zip("abcd", (0.1, 1.0, 2.0, 3.0), strict=True)]
    config = MetaConfig.model_validate({"task_types": types, "split": {"name": "free"}, "mix": "fixed"})
    engine, judged = Engine(config, problem_of(config)), []

    def counted(plans: Plans) -> torch.Tensor:
        judged.append(len(plans.rows))
        return engine.closed_form(plans)

    found = search_lattice(lattice_of(config, bounds_of(config, {}), 1000), counted)
    even = best(1000, task_types=types, mix="fixed")
    assert sum(judged) < 200_000
    assert float(found.loss) < float(even.loss)
