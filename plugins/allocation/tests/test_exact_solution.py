"""The least squares that one-step MAML is: against autograd, and the simulation of R against all of its randomness."""

from __future__ import annotations

import pytest
import torch
from linear_cases import plan, problem, simulated
from torch import Tensor

from scorefold_allocation.theory.linear_model import LinearTask, draw_task, meta_solution, outer_rows

RATE = 0.3


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def outer_loss(w: Tensor, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """The outer loss of one-step MAML, by autograd, of tasks X (m, n_t, p), y (m, n_t), V (m, n_v, p), v (m, n_v)."""
    X, y, V, v = data
    each = w.expand(len(X), -1)
    inner = (y - torch.einsum("mnp,mp->mn", X, each)).square().sum() / (2 * y.shape[1])
    (slope,) = torch.autograd.grad(inner, each, create_graph=True)
    return (v - torch.einsum("mnp,mp->mn", V, each - RATE * slope)).square().sum() / (2 * v.numel())


@pytest.mark.parametrize(("tasks", "p"), [(6, 4), (2, 11)])
def test_gradient_flow_of_maml_ends_at_the_closed_form(tasks: int, p: int, generator: torch.Generator) -> None:
    """With more rows than weights, and with fewer, where it ends depends on where it starts."""
    sizes = ((5, p), (5,), (4, p), (4,))
    X, y, V, v = data = tuple(normal(generator, tasks, *size) for size in sizes)
    start = normal(generator, p)
    found = meta_solution([outer_rows(*one, RATE) for one in zip(X, y, V, v, strict=True)], start)
    w = found.clone().requires_grad_()
    (slope,) = torch.autograd.grad(outer_loss(w, data), w)
    assert float(slope.abs().max()) < 1e-9
    hessian = torch.autograd.functional.hessian(lambda w: outer_loss(w, data), found.requires_grad_())
    pace = 1 / float(torch.linalg.eigvalsh(hessian)[-1])
    w, moved = start, torch.zeros_like(start)
    for _ in range(800):
        w = w.detach().requires_grad_()
        (slope,) = torch.autograd.grad(outer_loss(w, data), w)
        moved = 0.9 * moved - pace * slope
        w = w + moved
    assert float((w - found).detach().abs().max()) < 1e-5


def draws(case: tuple[int, int, int, int], sigma2: float, nu2: float, start2: float, count: int, rate: float) -> Tensor:
    """|w_hat - w0|^2 of whole simulations, (count,)."""
    p, m, n_t, n_v = case
    generator = torch.Generator().manual_seed(1)
    values = []
    for _ in range(count):
        away = normal(generator, p)
        w0 = away * start2**0.5 / away.norm()
        tasks = [draw_task(problem(p, rate, sigma2, nu2), w0, 0, n_t, n_v, generator) for _ in range(m)]
        values.append((meta_solution(tasks, torch.zeros_like(w0)) - w0).square().sum())
    return torch.stack(values)


@pytest.mark.parametrize("case", [(12, 3, 5, 2), (6, 8, 4, 3)])
def test_averaging_in_closed_form_changes_no_expectation(case: tuple[int, int, int, int]) -> None:
    p, m, n_t, n_v = case
    whole = draws(case, 0.7, 1.3, 2.0, 600, 0.2)
    mean, error = simulated(problem(p, 0.2, 0.7, 1.3, 2.0), plan((m, n_t, n_v)), 1500)
    spread = float(whole.std()) / len(whole) ** 0.5
    assert abs(float(whole.mean()) - mean) <= 5 * (spread**2 + error**2) ** 0.5


@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.7])
def test_without_noise_and_spread_enough_rows_find_the_centre(rate: float) -> None:
    assert float(draws((4, 3, 5, 2), 0.0, 0.0, 2.0, 5, rate).max()) < 1e-18


@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.7])
def test_what_no_row_sees_keeps_its_share_of_the_start(rate: float, generator: torch.Generator) -> None:
    """The projection on the rows' complement has trace p - N in every draw, whatever the rate."""
    p, m, n_t, n_v = 15, 3, 4, 2
    for _ in range(5):
        tasks: list[LinearTask] = [
            draw_task(problem(p, rate), torch.zeros(p).double(), 0, n_t, n_v, generator) for _ in range(m)
        ]
        B = torch.cat([task.rows for task in tasks])
        kept = torch.eye(p, dtype=torch.float64) - torch.linalg.pinv(B) @ B
        assert float(kept.trace()) / p == pytest.approx(1 - m * n_v / p, abs=1e-10)
    mean, error = simulated(problem(p, rate, 0.0, 0.0, 2.0), plan((m, n_t, n_v)), 20)
    assert mean == pytest.approx(2.0 * (1 - m * n_v / p), abs=1e-10)
    assert error < 1e-12


def test_the_bias_is_what_rows_leave_of_the_start_on_average() -> None:
    p, m, n_t, n_v = 10, 2, 6, 3
    values = draws((p, m, n_t, n_v), 0.0, 0.0, 2.0, 500, 0.4)
    assert abs(float(values.mean()) - 2.0 * (1 - 0.6)) < 5 * float(values.std()) / 500**0.5
