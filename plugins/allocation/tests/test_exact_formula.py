"""The closed forms of R, where they are exact and where they are not, against simulation."""

from __future__ import annotations

import pytest
import torch
from linear_cases import even, plan, problem, simulated

from scorefold.errors import ConfigError
from scorefold_allocation.theory.formula import best_training_rate, noise_factor, regime, risk, task_variance, validity
from scorefold_allocation.theory.linear_model import shrinkage


def value(*args: object, **options: object) -> float:
    return float(risk(*args, **options).value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("m", "n_v", "p"), [(10, 6, 20), (30, 1, 20), (4, 10, 20), (25, 2, 40), (2, 8, 20), (5, 2, 20), (1, 9, 30)]
)
def test_at_rate_0_it_is_exact_on_either_side_of_the_threshold(m: int, n_v: int, p: int) -> None:
    case, plans = problem(p, 0.0, 0.7, 1.3, 2.0), plan((m, 5, n_v))
    mean, error = simulated(case, plans, 1500)
    known = risk(case, plans)
    assert abs(mean - float(known.value)) <= max(5 * error, 0.01 * mean)
    assert float(known.error) == 0
    assert validity(case, known).startswith("exact")


def test_at_rate_0_it_has_the_values_of_worked_examples() -> None:
    cases = {(10, 6, 20): 1.0970, (30, 1, 20): 4.336, (25, 2, 40): 8.623}
    for (m, n_v, p), expected in cases.items():
        assert value(problem(p, 0.0, 0.7, 1.3, 2.0), plan((m, 4, n_v))) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("p", [10, 60])
def test_at_rate_0_it_is_exact_for_a_mixture(p: int) -> None:
    """Tasks of different size, spread and noise, pooled."""
    case, plans = problem(p, 0.0, [0.2, 2.0], [1.5, 0.4], 2.0), plan((3, 4, 5), (4, 4, 3), kinds=(0, 1))
    mean, error = simulated(case, plans, 3000)
    assert abs(mean - value(case, plans)) <= 5 * error


@pytest.mark.parametrize("m", [1, 2, 5, 10, 30])
def test_without_spread_and_rate_every_partition_ties(m: int) -> None:
    p, N, sigma2 = 12, 30, 0.8
    found = value(problem(p, 0.0, sigma2, 0.0), plan((m, 3, N // m)))
    assert found == pytest.approx(sigma2 * p / (N - p - 1), rel=1e-12)


def test_a_single_task_at_rate_0_is_ordinary_least_squares() -> None:
    p, n_v, sigma2, nu2 = 8, 20, 0.7, 1.3
    assert value(problem(p, 0.0, sigma2, nu2), plan((1, 3, n_v))) == pytest.approx(nu2 + sigma2 * p / (n_v - p - 1))


@pytest.mark.parametrize("rate", [-0.2, 0.2, 0.4])
@pytest.mark.parametrize(("n_t", "n_v"), [(4, 4), (12, 12), (6, 30)])
@pytest.mark.parametrize("ratio", [6, 24])
def test_above_the_threshold_leading_order_errs_by_the_fluctuation_of_its_rows(
    rate: float, n_t: int, n_v: int, ratio: int
) -> None:
    p = 12
    m = max(2, ratio * p // n_v)
    case, plans = problem(p, rate), plan((m, n_t, n_v))
    mean, error = simulated(case, plans, 400)
    off = abs(value(case, plans, leading=True) / mean - 1)
    assert off <= float(risk(case, plans, leading=True).error) + 5 * error / mean
    if n_t >= 12:
        # Where the inner step is well determined, that is the weights over the rows.
        assert off <= 1.1 * (p + 1) / (m * n_v) + 5 * error / mean
    # The corrected form keeps to what it states of itself.
    assert abs(value(case, plans) / mean - 1) <= float(risk(case, plans).error) + 5 * error / mean


def test_the_error_of_leading_order_halves_when_tasks_double() -> None:
    case, errors = problem(16, 0.2), []
    for m in (32, 64):
        plans = plan((m, 8, 4))
        mean, _ = simulated(case, plans, 1500)
        errors.append(1 - value(case, plans, leading=True) / mean)
    assert 1.6 < errors[0] / errors[1] < 2.5


@pytest.mark.parametrize("rate", [-0.2, 0.2, 0.4])
@pytest.mark.parametrize(("p", "m", "n"), [(20, 3, 4), (20, 7, 2), (60, 3, 10), (60, 9, 5)])
def test_below_the_threshold_the_coupled_form_is_within_its_error(rate: float, p: int, m: int, n: int) -> None:
    case, plans = problem(p, rate, 1.0, 1.0, 0.5), plan((m, n, n))
    mean, error = simulated(case, plans, 800)
    known = risk(case, plans)
    assert bool(known.valid)
    assert abs(float(known.value) / mean - 1) <= float(known.error) + 5 * error / mean


def test_below_the_threshold_leading_order_is_right_for_few_rows() -> None:
    case, plans = problem(400, 0.3, 1.0, 0.25, 0.6), plan((3, 30, 2))
    mean, error = simulated(case, plans, 60)
    assert abs(value(case, plans, leading=True) / mean - 1) <= 0.01 + 5 * error / mean


@pytest.mark.parametrize("weighting", ["pooled", "task-mean", "best"])
def test_mixtures_are_within_the_error_under_every_weighting(weighting: str) -> None:
    case = problem(10, 0.2, [0.1, 4.0], [1.0, 1.0], weighting=weighting)
    for n_e, n_h in ((4, 16), (10, 10), (16, 4)):
        plans = plan((30, n_e / 2, n_e / 2), (30, n_h / 2, n_h / 2), kinds=(0, 1))  # type: ignore[arg-type]
        mean, error = simulated(case, plans, 300)
        assert abs(value(case, plans) / mean - 1) <= float(risk(case, plans).error) + 5 * error / mean


def test_no_weighting_beats_the_best_one() -> None:
    for sizes in ((4, 16), (16, 4), (2, 40)):
        groups = [(30, size / 2, size / 2) for size in sizes]
        values = [
            value(problem(10, 0.2, [0.1, 4.0], weighting=weighting), plan(*groups, kinds=(0, 1)), leading=True)  # type: ignore[arg-type]
            for weighting in ("pooled", "task-mean", "best")
        ]
        assert values[2] <= min(values) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("p", "rate", "n_t", "n_v"), [(20, 0.4, 1, 1), (20, 0.4, 2, 20), (6, 0.8, 2, 6), (20, -0.2, 2, 4)]
)
def test_short_support_makes_it_err_more_and_it_says_so(p: int, rate: float, n_t: int, n_v: int) -> None:
    case = problem(p, rate)
    errors = []
    for rows in (8, 40):
        plans = plan((rows * p // n_v, n_t, n_v))
        mean, error = simulated(case, plans, 100)
        known = risk(case, plans)
        errors.append(float(known.error))
        assert abs(float(known.value) / mean - 1) <= errors[-1] + 5 * error / mean
    assert errors[0] > errors[1]
    assert not bool(risk(case, plan((2 * p // n_v, n_t, n_v))).valid)


def test_near_the_threshold_no_closed_form_is_valid() -> None:
    p = 20
    for rate, N in ((0.4, 16), (0.4, 18), (0.4, 22), (0.4, 28), (0.0, 20), (0.0, 19), (0.0, 21)):
        case, plans = problem(p, rate), plan((N // 2, 2, 2)) if N % 2 == 0 else plan((N, 2, 1))
        known = risk(case, plans)
        assert not bool(known.valid)
        assert regime(case, plans) == "threshold"
        if abs(N - p) <= 1:
            assert float(known.value) == float("inf")
        assert "not valid" in validity(case, known)


def test_a_single_task_has_no_closed_form_at_other_rates() -> None:
    assert not bool(risk(problem(20, 0.4), plan((1, 40, 40))).valid)


def test_risk_falls_with_the_tasks_far_above_the_threshold_and_peaks_at_it() -> None:
    case = problem(20, 0.4)
    far = risk(case, even(torch.tensor([20, 40, 80, 160, 320]), 20)).value
    assert bool((far.diff() < 0).all())
    assert bool((far[:-1] / far[1:] > 1.9).all())
    below, near, above = (simulated(case, plan((m, 2, 2)), 2000)[0] for m in (5, 11, 60))
    assert near > below > above


def test_noise_of_a_row_grows_with_support_exactly_where_it_should() -> None:
    n = torch.arange(1.0, 200.0, dtype=torch.float64)
    for p in (5, 50):
        for rate in (-0.5, -0.01, 0.1, 1.0, 1.9, 2.2):
            slope = noise_factor(n, p, rate).diff()
            assert bool((slope > 0).all() if (1 - rate) ** 2 < 1 + 1 / p else (slope < 0).all())


def test_best_training_rate_is_below_0_and_the_least_of_a_grid() -> None:
    assert best_training_rate(30, 60) == pytest.approx(-1.0111521, abs=1e-7)
    rates = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    for n, p in ((30, 60), (3, 60), (20, 70)):
        assert best_training_rate(n, p) == pytest.approx(float(rates[noise_factor(n, p, rates).argmin()]), abs=2e-5)


def test_uniform_sizes_are_never_beaten_by_a_mix(generator: torch.Generator) -> None:
    """Whatever the weighting and the cost of a size: 1000 random mixes of four sizes for each."""
    p, rate, nu2, sigma2 = 20, 0.4, 1.0, 0.7
    half = torch.arange(1.0, 61.0, dtype=torch.float64)
    phi = torch.stack(task_variance(half, half, p, rate, nu2, sigma2)).sum(0)
    h = shrinkage(half, p, rate)
    for weighting in ("pooled", "task-mean", "best"):
        case = problem(p, rate, sigma2, nu2, weighting=weighting)
        for task_cost, label_cost in ((0.0, 1.0), (30.0, 1.0)):
            cost = task_cost + label_cost * 2 * half
            least = float((cost * phi / h**2).min())
            place = torch.randint(60, (1000, 4), generator=generator)
            tasks = torch.randint(1, 40, (1000, 4), generator=generator).double()
            plans = plan((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))
            plans = plans._replace(tasks=tasks, support=half[place], query=half[place])
            spent = (tasks * cost[place]).sum(-1)
            assert bool((risk(case, plans, leading=True).value * spent >= least * (1 - 1e-12)).all())


@pytest.mark.parametrize("weighting", ["pooled", "task-mean"])
def test_the_certificate_of_uniform_sizes_is_never_negative(weighting: str) -> None:
    for rate in (0.0, 0.2, 0.4, 0.8):
        half = torch.arange(1.0, 400.0, dtype=torch.float64)
        phi, h = torch.stack(task_variance(half, half, 20, rate, 1.0, 0.7)).sum(0), shrinkage(half, 20, rate)
        cost = 5 + 2 * half
        points = half if weighting == "pooled" else torch.ones_like(half)
        k, psi = points * h, points**2 * phi
        best = (cost * phi / h**2).argmin()
        assert bool((cost / cost[best] + psi / psi[best] - 2 * k / k[best] >= -1e-12).all())


def test_all_of_the_scale_of_losses_comes_out_in_the_risk() -> None:
    plans = plan((12, 5, 5), (7, 3, 4))
    for rate in (0.0, 0.4):
        once = value(problem(20, rate, 0.3, 1.7, 0.9), plans)
        assert value(problem(20, rate, 0.9, 5.1, 2.7), plans) == pytest.approx(3 * once, rel=1e-12)


def test_groups_of_one_kind_are_one_group() -> None:
    case = problem(20, 0.3)
    assert value(case, plan((5, 4, 6), (9, 4, 6))) == pytest.approx(value(case, plan((14, 4, 6))), rel=1e-12)
    assert value(case, plan((14, 4, 6), (0, 50, 2))) == pytest.approx(value(case, plan((14, 4, 6))), rel=1e-12)


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(ConfigError, match="task-mean"):
        risk(problem(5, 0.1, weighting="equal"), plan((9, 4, 4)))
