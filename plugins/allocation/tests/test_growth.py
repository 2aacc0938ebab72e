"""Growth exponents and the surface that is extrapolated by."""

import math

import torch

from scorefold_allocation.search.fits import exponents, fit_surface, likely_formulas


def test_exponents_of_power_laws() -> None:
    budgets = torch.tensor([400.0, 200.0, 100.0]).double().log()
    logs = torch.stack((0.5 * budgets + 1, 0 * budgets + 3, -0.25 * budgets))
    torch.testing.assert_close(exponents(logs, budgets), torch.tensor([0.5, 0.0, -0.25]).double())


def surface_of(loss, budgets: tuple[float, ...]):
    sizes = torch.tensor([2.0, 4, 8, 16, 32, 64]).double().repeat(len(budgets))
    tasks = torch.tensor(budgets).double().repeat_interleave(6) / sizes
    return fit_surface(sizes, tasks, loss(sizes, tasks), torch.ones(len(sizes)).double())


def test_a_surface_of_its_own_form_is_extrapolated_exactly() -> None:
    def loss(n, m):
        return 0.3 + 4 / n + (30 + n) / (n * m)

    surface = surface_of(loss, (800.0, 400.0))
    sizes = torch.arange(2, 4000, 2).double()
    for budget in (800.0, 80_000.0):
        torch.testing.assert_close(surface(sizes, budget / sizes), loss(sizes, budget / sizes), rtol=1e-6, atol=0)
        best = float(sizes[surface(sizes, budget / sizes).argmin()])
        assert abs(best - math.sqrt(4 * budget)) <= 2  # where 4 / n + n / b is least


def test_an_optimum_that_stays_is_extrapolated_as_one() -> None:
    surface = surface_of(lambda n, m: (400 / n**2 + 1) / m, (800.0, 400.0))
    sizes = torch.arange(2, 400, 2).double()
    assert float(sizes[surface(sizes, 1e6 / sizes).argmin()]) == 20


def grid_of(loss, budgets: tuple[float, ...] = (800.0, 400.0), noise: float = 0.0):
    sizes = torch.tensor([2.0, 4, 8, 16, 32, 64]).double().repeat(len(budgets))
    tasks = torch.tensor(budgets).double().repeat_interleave(6) / sizes
    scatter = torch.randn(len(sizes), generator=torch.Generator().manual_seed(0)).double()
    weight = torch.full_like(sizes, 1 / noise**2 if noise else 1.0)
    return sizes, tasks, loss(sizes, tasks) * (noise * scatter).exp(), weight


def test_a_loss_that_falls_faster_at_first_is_extrapolated_as_such() -> None:
    def loss(n, m):
        return (400 / n**2 + 1) / m * (1 + 100 / (n * m))

    surface = fit_surface(*grid_of(lambda n, m: (30 + n) / (n * m) * (1 + 100 / (n * m))), formula="vanishing")
    n, m = torch.tensor([8.0, 20.0]).double(), torch.tensor([1e4, 1e5]).double()
    torch.testing.assert_close(surface(n, m), (30 + n) / (n * m) * (1 + 100 / (n * m)), rtol=1e-6, atol=0)
    assert fit_surface(*grid_of(loss))(n, m)[0] > 1.05 * loss(n, m)[0]


def test_formulas_are_separated_where_the_losses_do() -> None:
    with_floor, without = (lambda n, m: 1 + 9 / m), (lambda n, m: (30 + n) / (n * m) * (1 + 100 / (n * m)))
    assert likely_formulas(*grid_of(with_floor)) == ["floor"]
    assert likely_formulas(*grid_of(without)) == ["vanishing"]
    assert likely_formulas(*grid_of(with_floor, noise=0.02)) == ["floor"]
    assert likely_formulas(*grid_of(lambda n, m: 1 / m, noise=0.1)) == ["floor", "vanishing"]
