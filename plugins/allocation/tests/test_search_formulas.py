"""Formulas of the search against ones written out: weights, scales, smoothed curves, valleys, sizes, thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold_allocation.config import MetaConfig, PilotConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.search import fits, valley
from scorefold_allocation.search.fits import (
    LocalFit,
    Surface,
    as_losses,
    fit_surface,
    from_scale,
    likely_formulas,
    local_fit,
    smoothed,
    to_scale,
    variance_on_scale,
)
from scorefold_allocation.search.grid import Limits, Threshold, random_sizes, scan
from scorefold_allocation.search.pilot import estimate_moments
from scorefold_allocation.search.procedure import grows
from scorefold_allocation.search.trials import Trial
from scorefold_allocation.search.valley import Valley, chance_of_order, resampled_means, rounds


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("formula", ["floor", "vanishing"])
def test_a_surface_weighs_relative_residuals(formula: fits.Formula) -> None:
    """Two losses of one cell, 1 and 2 with weights 3 and 8: least sum w (f / L - 1)^2 is at f = sum (w / L) over
    sum (w / L^2) = 7 / 5, where it is 3 * 0.16 + 8 * 0.09 = 1.2."""
    size, tasks = column(4, 4), column(10, 10)
    surface = fit_surface(size, tasks, column(1, 2), column(3, 8), formula)
    assert surface(size, tasks).tolist() == pytest.approx([1.4, 1.4])
    assert surface.misfit == pytest.approx(1.2)


def test_terms_of_both_formulas() -> None:
    """L0 + B n^-q + (c_0 + c_1 n + c_2 / n) / (n m), and (c_0 + c_1 n + c_2 / n) / (n m) + d_0 / (n m^2) + d_1 /
    (n m)^2, at n = 2 and m = 5."""
    n, m = column(2), column(5)
    terms = np.array([1.0, 2, 3, 4, 5])
    floor = Surface("floor", terms, 1.5, 0.0)(n, m)
    assert float(floor) == pytest.approx(1 + 2 * 2**-1.5 + (3 + 4 * 2 + 5 / 2) / 10)
    vanishing = Surface("vanishing", terms, 1.5, 0.0)(n, m)
    assert float(vanishing) == pytest.approx((1 + 2 * 2 + 3 / 2) / 10 + 4 / (2 * 25) + 5 / 100)


@pytest.mark.parametrize(("count", "misfit", "likely"), [(9, 1.99, 2), (9, 2.01, 1), (6, 4.99, 2), (6, 5.01, 1)])
def test_a_formula_is_likely_within_two_standard_errors(monkeypatch, count: int, misfit: float, likely: int) -> None:
    """The best misfit is 1, with k - 5 degrees of freedom: up to 1 + 4 / (k - 5), and at least one degree."""
    misfits = {"floor": 1.0, "vanishing": misfit}
    monkeypatch.setattr(fits, "fit_surface", lambda *given: Surface(given[-1], np.zeros(5), 1.0, misfits[given[-1]]))
    ones = torch.ones(count).double()
    assert len(likely_formulas(ones, ones, ones, ones)) == likely


def test_accuracies_are_errors_of_a_ten_thousandth_or_more() -> None:
    assert as_losses(column(0.25, 1.0), "accuracy").tolist() == pytest.approx([0.75, 1e-4])
    assert as_losses(column(0.25, 1.0), "loss").tolist() == [0.25, 1.0]
    assert to_scale(column(0.2, 1.0), "accuracy").tolist() == pytest.approx([math.log(0.25), math.log(9999)])
    assert from_scale(to_scale(column(2.0), "loss"), "loss").tolist() == pytest.approx([2.0])


@pytest.mark.parametrize(("measure", "slopes"), [("loss", (2.0, 5.0)), ("accuracy", (4.0, 6.25))])
def test_variances_of_few_seeds_are_drawn_towards_their_mean(measure, slopes: tuple[float, float]) -> None:
    """Means 0.5 and 0.2, deviations 0.1 and 0.02; slopes 1 / L, or 1 / (L (1 - L)). With 3 seeds each variance
    counts 2, their mean 4: v = (2 own + 4 mean) / 6, and the variance of the mean of seeds is a third."""
    losses = torch.stack([column(0.4, 0.18), column(0.5, 0.2), column(0.6, 0.22)])
    own = [(slope * deviation) ** 2 for slope, deviation in zip(slopes, (0.1, 0.02), strict=True)]
    expected = [(2 * one + 4 * sum(own) / 2) / 6 / 3 for one in own]
    assert variance_on_scale(losses, measure).tolist() == pytest.approx(expected)
    assert variance_on_scale(losses[:1], measure).tolist() == [1, 1]


def test_smoothed_curves_are_weighted_means_of_neighbours() -> None:
    """Weights 1/4, 1/2, 1/4 times 1, 2, 4; at the ends what is there counts."""
    found = smoothed(column(8, 4, 2)[None], column(1, 2, 4))
    expected = [(1 / 2 * 8 + 2 / 4 * 4) / (1 / 2 + 2 / 4), (1 / 4 * 8 + 4 + 2) / (1 / 4 + 1 + 1), (2 + 4) / (0.5 + 2)]
    assert found[0].tolist() == pytest.approx(expected)


def test_the_quadratic_weighs_points_by_nearness_and_variance() -> None:
    """Around the third of seven points, by numpy's polynomial fit with the square roots of the weights."""
    x = column(0, 1, 2.5, 3, 4, 5, 7)
    y = column(5, 3, 1, 2.5, 3.5, 4, 9)
    weight = column(1, 2, 3, 1, 0.5, 2, 1)
    near = np.array([0.4, 0.8, 1.0, 0.8, 0.4])
    centre = float(x[:5].mean())
    c2, c1, c0 = np.polyfit(x[:5].numpy() - centre, y[:5].numpy(), 2, w=np.sqrt(weight[:5].numpy() * near))
    fit = local_fit(x, y[None], weight)
    assert fit.coefficients[0].tolist() == pytest.approx([c0, c1, c2])
    assert float(fit.centre) == pytest.approx(centre)
    assert float(fit.position) == pytest.approx(centre - c1 / (2 * c2))
    assert float(fit.value) == pytest.approx(c0 - c1**2 / (4 * c2))
    assert (float(fit.low), float(fit.high)) == (0, 4)
    assert fit.at(column(0, 1, 4))[0].tolist() == pytest.approx(
        list(np.polyval([c2, c1, c0], [-centre, 1 - centre, 4 - centre]))
    )
    assert fit.at(column(-0.1, 4.1))[0].tolist() == [math.inf, math.inf]


def test_a_window_at_an_end_reaches_far_from_the_least_point() -> None:
    """The least point is the first of six, so that the five of the window lie 0 to 4 places from it."""
    x, y = column(0, 1, 2, 3, 4, 5), column(0, 2, 3, 5, 4, 6)
    near = np.array([1.0, 0.8, 0.4, 0.15, 0.05])
    c2, c1, c0 = np.polyfit(x[:5].numpy() - 2, y[:5].numpy(), 2, w=np.sqrt(near))
    fit = local_fit(x, y[None], torch.ones(6).double())
    assert fit.coefficients[0].tolist() == pytest.approx([c0, c1, c2])


def a_valley(position: Tensor, ends: tuple[int, int], losses: Tensor, sizes: Tensor, chance: float = 0.0) -> Valley:
    count = len(position)
    flat = torch.zeros(count, 3).double()
    far = torch.full((count,), -9.0).double()
    fit = LocalFit(position, position * 0 + 0.5, flat, far, far, far)
    centre = local_fit(sizes.log(), losses.mean(0, keepdim=True).log(), torch.ones(len(sizes)).double())
    return Valley(100.0, "loss", sizes, losses, losses.mean(0).expand(count, -1), fit, centre, ends, (), chance)


@pytest.mark.parametrize(
    ("position", "chance", "separates"),
    [((8, 8, 9, 10), 0.01, True), ((8, 8, 9, 10), 0.06, False), ((4, 4, 32, 32), 0.0, False)],
)
def test_sizes_are_separated_by_a_narrow_band_and_beyond_chance(
    position: tuple[int, ...], chance: float, separates: bool
) -> None:
    losses = column(4, 1, 4)[None].expand(2, 3)
    assert a_valley(column(*position).log(), (4, 32), losses, column(4, 8, 32), chance).separates == separates


def test_the_chance_of_an_order_is_uniform_under_noise_and_small_for_a_valley() -> None:
    noise = torch.randn(400, 5, 9, generator=torch.Generator().manual_seed(0)).double()
    sizes = 2 ** torch.arange(1.0, 10.0)
    found = torch.tensor([chance_of_order(losses, sizes) for losses in noise])
    for level in (0.05, 0.25, 0.5):
        assert float((found <= level).double().mean()) == pytest.approx(level, abs=3 * (level / 400) ** 0.5)
    valley = (sizes.log2() - 5).square() / 4
    assert max(chance_of_order(losses + valley, sizes) for losses in noise[:50]) < 0.01


def test_a_valley_counts_its_edges_and_lies_on_lines_between_its_sizes() -> None:
    """Minima at 4, 4, 8, 16 and 32 of sizes from 4 to 32; between 4 and 16, half way in log n, the root of the losses'
    product."""
    position = column(4, 4, 8, 16, 32).log()
    found = a_valley(position, (4, 32), column(4, 9, 1)[None].expand(2, 3), column(4, 16, 64))
    assert found.edge_shares == pytest.approx((2 / 5, 1 / 5))
    assert found.loss_at(8)[0] == pytest.approx(6)
    assert found.loss_at(32)[0] == pytest.approx(3)
    assert found.loss_at(1)[0] == pytest.approx(4)
    assert found.loss_at(100)[0] == pytest.approx(1)
    assert found.least().tolist() == pytest.approx([math.exp(0.5)] * 5)
    limits = Limits(2, None, 2)
    assert limits.most(found.budget) == 50
    capped = a_valley(column(48, 50, 50, 49.9).log(), (4, 50), column(4, 9, 1)[None].expand(2, 3), column(4, 16, 50))
    assert capped.edge_shares == (0, 0.5)
    assert capped.capped_share(limits) == capped.edge_shares[1]


def test_sizes_within_two_standard_errors_are_tried_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight sizes of variance 0.02 each, so two standard errors of a difference are 0.4: up to 0.39 above the best
    counts, 0.41 does not. The window of five stays, and so does all between."""
    monkeypatch.setattr(
        valley, "variance_on_scale", lambda losses, measure: torch.full((losses.shape[1],), 0.02).double()
    )
    y = column(2, 0.41, 2, 2, 0, 2, 2, 2, 0.39, 2)
    losses = y.exp().expand(2, -1)
    assert valley._contenders(losses, "loss") == [False, False, *[True] * 7, False]
    y[1] = 0.39
    assert valley._contenders(y.exp().expand(2, -1), "loss") == [False, *[True] * 8, False]
    assert valley._contenders(9 * y.exp().expand(2, -1), "loss") == [False, *[True] * 8, False]
    assert valley._contenders(losses[:1], "loss") == [True] * 10


def test_seeds_come_in_rounds() -> None:
    config = PilotConfig(first_seeds=3)
    assert rounds(config, 8) == [range(3), range(3, 8)]
    assert rounds(config, 2) == [range(2)]
    assert rounds(config, 3) == [range(3)]


def test_sizes_are_rounded_by_ratio() -> None:
    """Between 4 and 6 the border is their geometric mean, 4.899."""
    limits = Limits(smallest=2, largest=20, step=2)
    assert [limits.nearest(size, 1000) for size in (4.89, 4.91, 1.0, 19.4, 90.0)] == [4, 6, 2, 20, 20]
    assert limits.nearest(15, 20) == 10, "two tasks of 10 labels are all that 20 pay"


def test_costs_bound_the_tasks_and_their_size() -> None:
    """A task of n labels costs 10 + 0.5 n: 100 pay for two tasks of 80 labels, and for 6 of 12."""
    limits = Limits(smallest=2, largest=None, step=4, task_cost=10, label_cost=0.5, min_tasks=2)
    assert limits.cost(12) == 16
    assert limits.tasks(12, 100) == 6
    assert limits.most(100) == 80
    assert limits.most(103) == 80, "83 labels are paid for, of which four make a step"
    assert Limits(2, 30, 4, task_cost=10, label_cost=0, min_tasks=2).most(20) == 28
    assert Limits(2, 30, 4, task_cost=10, label_cost=0, min_tasks=2).most(19) == 0
    assert Limits(2, None, 2, min_tasks=3, max_tasks=2).most(1000) == 0
    assert Limits(2, None, 2, min_tasks=3, max_tasks=3).most(1000) == 332
    assert Limits(2, None, 2, task_cost=0, label_cost=0, max_tasks=7).tasks(4, 0) == 7


def test_sizes_are_spread_evenly_in_logarithms_between_two() -> None:
    limits = Limits(smallest=1, largest=None, step=1, min_tasks=2)
    assert limits.sizes(128, 7) == [1, 2, 4, 8, 16, 32, 64]
    assert limits.sizes(128, 3, 4, 16) == [4, 8, 16]
    assert limits.sizes(128, 1) == [1]


def test_random_sizes_are_even_draws_of_the_logarithm() -> None:
    limits = Limits(smallest=2, largest=200, step=2)
    draws = torch.rand(5, generator=torch.Generator().manual_seed(3), dtype=torch.float64).tolist()
    expected = {limits.nearest(2 ** (1 - u) * 200**u, 1000) for u in draws}
    assert random_sizes(limits, 1000, 5, torch.Generator().manual_seed(3)) == sorted(expected)


class Given:
    """Trials whose training losses are given by budget, as ``scan`` runs them."""

    measure = "loss"

    def __init__(self, train: dict[int, tuple[float, ...] | None], test: float = 1.0) -> None:
        self.train, self.test, self.cells = train, test, []

    def run(self, cells: list[AllocationCell], seeds: range) -> list[Trial]:
        self.cells.append(cells)
        budget = 8 * 2 ** (len(self.cells) - 1)
        train = self.train.get(budget)
        tests = (self.test,) * len(seeds)
        return [Trial(cell, tuple(seeds), tests, train) for cell in cells]


LIMITS = Limits(smallest=2, largest=None, step=2)


@pytest.mark.parametrize(("share", "above"), [(0.33, True), (0.333, False)])
def test_a_training_loss_is_above_by_a_one_sided_test(share: float, above: bool) -> None:
    """0.8, 1 and 1.2 of a test loss of 2: mean 0.5, standard error 0.1 / sqrt(3), t(0.95; 2) = 2.91999: 0.3314."""
    trials = Given({8: (0.8, 1.0, 1.2)}, test=2.0)
    assert scan(trials, LIMITS, 8, seeds=range(3), share=share) == (Threshold(8) if above else Threshold(None, 8))
    one = Given({8: (share * 2 + 0.01,)}, test=2.0)
    assert scan(one, LIMITS, 8, seeds=range(1), share=share).labels == 8


def test_budgets_are_doubled_until_the_threshold() -> None:
    """From four tasks of the smallest size; at each budget the second and third of up to four sizes."""
    trials = Given({8: (0.0,), 16: (0.0,), 32: (0.9,)})
    assert scan(trials, LIMITS, 64, seeds=range(1), share=0.1) == Threshold(32, 16)
    sizes = [[cell.support + cell.query for cell in cells] for cells in trials.cells]
    assert sizes == [[4], [4, 6], [4, 8]]
    assert scan(Given({8: (0.0,), 16: (0.0,)}), LIMITS, 31, seeds=range(1), share=0.1) == Threshold(None, 16)
    assert scan(Given({8: None}), LIMITS, 31, seeds=range(1), share=0.1) == Threshold()


def test_resampled_means_are_ratios_to_a_power() -> None:
    """With R = 2 seeds, resamples of the first alone have the mean m (v / m)^p, where p is sqrt(2) times the quantile
    of Student's t over the normal one, 6.3138 and 1.6449."""
    power = math.sqrt(2) * math.tan(0.45 * math.pi) / 1.6448536269514722
    values = torch.stack([column(1, 8), column(3, 2)])
    found = resampled_means(values, 200, torch.Generator().manual_seed(0))
    first = [2 * 0.5**power, 5 * 1.6**power]
    assert {tuple(round(value, 9) for value in row) for row in found.tolist()} == {
        tuple(round(value, 9) for value in row) for row in (first, (2, 5), (2 * 1.5**power, 5 * 0.4**power))
    }


@pytest.mark.parametrize(("seeds", "wider"), [(1, 1.0), (3, 6.964557 / 2.919986), (10, 2.821438 / 1.833113)])
def test_growth_is_clear_where_all_but_one_in_a_hundred_draws_are_on_one_side(seeds: int, wider: float) -> None:
    """Draws are evenly from -1 to 1 around the exponent, and further by quantiles 99 % and 95 % of Student's t."""
    even = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    ratio = wider if seeds == 1 else wider * 1.644854 / 2.326348
    for least in (0.98 * ratio, -0.98 * ratio):
        assert grows(even + 1.01 * least, seeds)
        assert not grows(even + 0.99 * least, seeds)


def test_moments_are_means_over_pairs() -> None:
    """Over pairs of points within tasks and between them, counted one by one; a task that counts twice has no pair
    with its copy."""
    generator = torch.Generator().manual_seed(0)
    tasks = [
        (torch.randn(n, 2, generator=generator).double(), torch.randn(n, generator=generator).double()) for n in (2, 3)
    ]
    for counts in ((1, 1), (2, 1)):
        within, between, power = [], [], []
        for i, (x, y) in enumerate(tasks):
            power += [float(one) ** 2 for one in y] * counts[i]
            for j, (x2, y2) in enumerate(tasks):
                products = [
                    float(y[a] * y2[b] * (x[a] @ x2[b]))
                    for a in range(len(y))
                    for b in range(len(y2))
                    if i != j or a != b
                ]
                if i == j:
                    within += products * counts[i]
                else:
                    between += products * (counts[i] * counts[j])
        inside, across, square = (sum(values) / len(values) for values in (within, between, power))
        found = estimate_moments(tasks, torch.tensor([counts]))
        assert float(found.centre2) == pytest.approx(across)
        assert float(found.spread2) == pytest.approx(inside - across)
        assert float(found.noise2) == pytest.approx(square - inside)


def test_limits_are_those_of_a_config() -> None:
    """The tighter of the ends of a type of task and of the constraints."""
    config = MetaConfig(task_types=({"name": "a", "max_tasks": 9, "task_cost": 3, "label_cost": 2, "ways": 2},))
    found = Limits.of(config, {"max_tasks": 12})
    assert (found.max_tasks, found.task_cost, found.label_cost, found.ways) == (9, 3, 2, 2)
    assert Limits.of(config, {"max_tasks": 5}).max_tasks == 5
