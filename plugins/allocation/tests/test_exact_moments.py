"""Traces of Wishart matrices, and the loss on a new task, against closed forms and simulation."""

from __future__ import annotations

import pytest
import torch

from scorefold.errors import ConfigError
from scorefold_allocation.theory.engines import gaussian_factor
from scorefold_allocation.theory.linear_model import adapted_loss, best_rate, shrunk_traces, wishart_traces


def within(values: torch.Tensor, expected: float | torch.Tensor, errors: float = 5.0) -> bool:
    """Whether the mean of draws is within so many standard errors of what is expected."""
    return abs(float(values.mean()) - float(expected)) <= errors * float(values.std()) / len(values) ** 0.5


@pytest.mark.parametrize(("n", "p"), [(7, 5), (3, 6), (40, 4)])
def test_traces_are_those_of_simulated_matrices(n: int, p: int, generator: torch.Generator) -> None:
    X = torch.randn((40_000, n, p), generator=generator, dtype=torch.float64)
    S = X.mT @ X / n
    powers = [S, S @ S, S @ S @ S, S @ S @ S @ S]
    trace = [power.diagonal(dim1=-2, dim2=-1).sum(-1) / p for power in powers]
    expected = wishart_traces(n, p)
    drawn = [*trace, trace[0] ** 2, trace[0] * trace[1], trace[1] ** 2]
    for name, values, value in zip(expected._fields, drawn, expected, strict=True):
        assert within(values, value), name


@pytest.mark.parametrize("n", [1, 4, 11])
def test_with_one_column_they_are_moments_of_chi_squared(n: int) -> None:
    traces = wishart_traces(n, 1)
    fourth = n * (n + 2) * (n + 4) * (n + 6) / n**4
    assert float(traces.s4) == pytest.approx(fourth, rel=1e-12)
    assert float(traces.s3) == pytest.approx(n * (n + 2) * (n + 4) / n**3, rel=1e-12)
    assert float(traces.s22) == pytest.approx(fourth, rel=1e-12)


def test_shrunk_traces_have_the_values_of_a_worked_example() -> None:
    g = shrunk_traces(7, 5, 0.4)
    assert torch.stack(g[1:]).tolist() == pytest.approx([0.229388, 0.485388, 0.359552, 0.252555], abs=1e-6)


def test_traces_of_very_long_matrices_do_not_overflow() -> None:
    assert torch.stack(wishart_traces(50_000_000, 128)).tolist() == pytest.approx([1] * 7, rel=1e-4)


@pytest.mark.parametrize(("n", "p"), [(2, 5), (5, 5), (9, 5)])
def test_a_factor_has_the_moments_of_the_rows_it_stands_for(n: int, p: int, generator: torch.Generator) -> None:
    F = gaussian_factor((40_000,), n, p, generator)
    assert F.shape[-2] == min(n, p)
    W = F.mT @ F
    expected = wishart_traces(n, p)
    assert within((W @ W).diagonal(dim1=-2, dim2=-1).sum(-1), expected.s2 * p * n**2)
    assert within(W[:, 0, 1], 0.0)
    assert within(W[:, -1, -1], n)


@pytest.mark.parametrize("steps", [1, 2])
def test_loss_on_a_new_task_is_that_of_simulated_adaptation(steps: int, generator: torch.Generator) -> None:
    p, n, rate, nu2, sigma2, draws = 6, 9, 0.3, 1.3, 0.7, 40_000

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    w, w0 = normal(p), normal(p)
    w_task = w0 + (nu2 / p) ** 0.5 * normal(draws, p)
    X = normal(draws, n, p)
    y = (X @ w_task[..., None])[..., 0] + sigma2**0.5 * normal(draws, n)
    theta = w.expand(draws, p)
    for _ in range(steps):
        theta = theta - rate / n * (X.mT @ ((X @ theta[..., None])[..., 0] - y)[..., None])[..., 0]
    losses = ((theta - w_task).square().sum(-1) + sigma2) / 2
    excess = float((w - w0).square().sum())
    assert within(losses, adapted_loss(excess, nu2, sigma2, p, n, rate, steps))


def test_best_adaptation_rate_is_the_least_of_a_grid_and_above_0() -> None:
    rates = torch.linspace(-0.5, 1.5, 200_001, dtype=torch.float64)
    for excess, nu2, sigma2, p, n in ((0.4, 1.0, 1.0, 20, 10), (3.0, 0.0, 5.0, 7, 2), (0.0, 0.2, 0.0, 30, 100)):
        losses = adapted_loss(excess, nu2, sigma2, p, n, rates)
        best = float(best_rate(excess, nu2, sigma2, p, n))
        assert best == pytest.approx(float(rates[losses.argmin()]), abs=1e-5)
        assert best > 0
    assert float(best_rate(0.0, 0.0, 1.0, 5, 5)) == 0


def test_more_steps_than_two_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 adaptation steps"):
        adapted_loss(1.0, 1.0, 1.0, 5, 5, 0.1, 3)
