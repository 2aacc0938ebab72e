"""The formulas behind surrogates by hand: what is measured of data, how points look, recipes and their points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold_neighbours.calibrated import surrogates
from scorefold_neighbours.calibrated.facts import Facts, grid_steps, measure, rounding_reach
from scorefold_neighbours.calibrated.surrogates import (
    Draws,
    SurrogateRecipe,
    chosen_recipes,
    coarse,
    look,
    refined,
    surrogate,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def neighbours_of(x: np.ndarray) -> np.ndarray:
    """The distances (n, n - 1) of each point from the others, ascending."""
    return np.sort(np.linalg.norm(x[:, None] - x, axis=2), axis=1)[:, 1:]


# What is measured.


def test_spectrum_marginals_and_norms_are_those_of_the_principal_axes() -> None:
    x = normal(61, 3) * torch.tensor([3.0, 2.0, 1.0]) + normal(61, 1).exp() * torch.tensor([[1.0, 0.0, 0.0]])
    x = 0.01 * (x - x.mean(0))
    facts = measure(x)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    assert facts.count == 61
    assert facts.variances.tolist() == pytest.approx(values[::-1])
    along = x.numpy() @ vectors[:, ::-1]
    along = along * np.sign((along**3).sum(0))  # the longer tail is on the positive side
    assert facts.marginals.numpy() == pytest.approx(np.sort(along / along.std(0, ddof=1), axis=0))
    assert facts.norms.numpy() == pytest.approx(np.sort(np.linalg.norm(x, axis=1)))
    assert facts.neighbour == pytest.approx(np.median(neighbours_of(x.numpy())[:, 0]))


@pytest.mark.parametrize(("times", "seen"), [(1.03, 3), (0.97, 2)])
def test_an_axis_is_seen_from_a_quarter_of_what_neighbours_differ_by(times: float, seen: int) -> None:
    """Of d directions each makes up a d-th of the squared distance of neighbours, which is twice the variance there.
    d is the maximum-likelihood dimension of ten neighbours, 1 / mean log(T_10 / T_j)."""
    plane = normal(201, 2)
    plane = plane - plane.mean(0)
    distances = neighbours_of(plane.numpy())
    local = 1 / np.mean(np.log(distances[:, 9:10] / distances[:, :9]))
    assert 1.5 < local < 2.5
    nearest = np.median(distances[:, 0])
    deviation = math.sqrt(times**2 * 0.25**2 * nearest**2 / local / 2)
    # A third axis that varies by so much, and in so smooth a way that it hardly moves any neighbour.
    bent = plane[:, :1] ** 2
    flat = torch.cat([plane, torch.ones(201, 1).double()], 1)
    bent = bent - flat @ torch.linalg.lstsq(flat, bent).solution
    found = measure(torch.cat([plane, deviation * bent / bent.std()], 1))
    assert float(found.variances[2]) == pytest.approx(deviation**2)
    assert found.seen == seen


def test_axes_are_seen_up_to_a_third_of_the_points() -> None:
    assert measure(normal(30, 40) - normal(30, 40).mean(0)).seen == 10
    assert len(measure(normal(30, 40) - normal(30, 40).mean(0)).variances) == 29


def test_no_direction_varies_less_than_the_noise_over_all_points() -> None:
    """With 30 points in 20 directions neighbourhoods are too small, and 1 - sqrt(20 / 30) is above a tenth."""
    x = normal(30, 20)
    x = x - x.mean(0)
    least = np.linalg.eigvalsh(np.cov(x.numpy().T))[0]
    assert measure(x).noise == pytest.approx(math.sqrt(least) / (1 - math.sqrt(20 / 30)))
    # Of 30 points in 28 directions a tenth counts, which 1 - sqrt(28 / 30) is below.
    x = normal(30, 28)
    x = x - x.mean(0)
    least = np.linalg.eigvalsh(np.cov(x.numpy().T))[0]
    assert measure(x).noise == pytest.approx(math.sqrt(least) / 0.1)


def test_axes_are_filled_from_a_millionth_of_the_largest_deviation_on() -> None:
    """Variances of 1 and 0.1, and one near 1e-12 of the first."""
    x = torch.linalg.qr(normal(40, 3) - normal(40, 3).mean(0)).Q
    x = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(39)  # of unit covariance
    for last, rank in ((1.2e-12, 3), (0.8e-12, 2)):
        made = measure(x * torch.tensor([1.0, math.sqrt(0.1), math.sqrt(last)], dtype=torch.float64))
        assert (len(made.variances), made.axes.shape) == (rank, (3, rank))
    line = measure(x[:, :1] * torch.ones(1, 2, dtype=torch.float64))
    assert (len(line.variances), line.seen, line.axes.shape) == (1, 1, (2, 1))


@pytest.mark.parametrize(
    ("points", "rank", "near"),
    [(200, 2, 10), (200, 5, 10), (200, 12, 24), (200, 15, 30), (200, 16, None), (30, 15, None)],
)
def test_no_direction_varies_less_than_the_noise_among_neighbours(points: int, rank: int, near: int | None) -> None:
    """Twice as many neighbours as directions, at least 10, and 30 at most: with fewer, all points count alone."""
    x = normal(points, rank) + (normal(points, 1, seed=1) * 5) ** 2 / 5
    x = (x - x.mean(0)).numpy()
    whole = max(0.1, 1 - math.sqrt(rank / points))
    expected = math.sqrt(np.linalg.eigvalsh(np.cov(x.T))[0]) / whole
    if near is not None:
        order = np.argsort(np.linalg.norm(x[:, None] - x, axis=2), axis=1)[:, 1 : near + 1]
        least = sorted(np.linalg.eigvalsh(np.cov(x[rows].T))[0] for rows in order)
        among = math.sqrt(least[(points - 1) // 2]) / (1 - math.sqrt(rank / near))
        assert (among < expected) == (rank < 15)
        expected = min(expected, among)
    assert measure(torch.from_numpy(x)).noise == pytest.approx(expected)


def test_the_step_of_a_grid_is_the_least_gap_and_all_gaps_are_its_multiples() -> None:
    def step(*values: float) -> float:
        return float(grid_steps(torch.tensor(values, dtype=torch.float64)[:, None])[0])

    assert step(0, 0.5, 0.5, 2, 2, 2) == 0.5
    assert step(0, 1, 2.5, 2.5, 2.5, 2.5) == 0  # 1.5 steps
    assert step(0, 1, 3.009, 3.009, 3.009, 3.009) == 1  # as far as rounding goes
    assert step(0, 1, 3.011, 3.011, 3.011, 3.011) == 0
    assert step(0, 1, 2, 3, 3, 3) == 1  # three gaps of six points
    assert step(0, 1, 2, 3, 4, 4) == 0  # four
    assert step(1, 1, 1) == 0
    assert step(0, 1e-10, 1, 1, 1, 1) == pytest.approx(1)  # what rounding parts is one value
    assert step(-0.5, 1e-10 - 0.5, 0.5, 0.5, 0.5, 0.5) == pytest.approx(1)
    assert step(0, 0.8e-9, 1, 1, 1, 1) == pytest.approx(1)
    assert step(0, 1.25e-9, 1, 1, 1, 1) == pytest.approx(1.25e-9)


def test_rounding_moves_neighbours_by_a_share_of_their_distance() -> None:
    """Two rounded values are apart by 2 / 12 of the square of their step more. Two values are no rounding."""
    x = torch.cartesian_prod(*[torch.arange(5.0), 3 * torch.arange(4.0), torch.arange(2.0)]).double()
    x = x - x.mean(0)
    facts = replace(measure(x), neighbour=2.0)
    assert facts.steps.tolist() == pytest.approx([1, 3, 1])
    assert rounding_reach(x, facts) == pytest.approx(math.sqrt(2 * (1 + 9) / 12) / 2)
    smooth = normal(60, 2)
    assert rounding_reach(smooth, measure(smooth - smooth.mean(0))) == 0


# How points look.


@pytest.mark.parametrize(("points", "kept"), [(25, [3, 6]), (60, [3, 6, 12, 25]), (140, [3, 6, 12, 25, 50])])
def test_a_look_is_what_the_formulas_say(points: int, kept: list[int]) -> None:
    """Point by point: numbers of neighbours below half of the points are compared, and one point is the mean."""
    x = (5 * normal(points, 3) * torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)).numpy()
    x[3] = 0
    found = look(torch.from_numpy(x), 2).tolist()
    distances, norms = neighbours_of(x), np.linalg.norm(x, axis=1)
    spread = math.sqrt((norms**2).mean())
    slopes = [1 / np.mean([np.log(row[k - 1] / row[: k - 1]).mean() for row in distances]) for k in kept]
    assert found[: len(kept)] == pytest.approx(slopes)
    found = found[len(kept) :]

    def lower_median(values: np.ndarray) -> float:
        return float(np.sort(values)[(len(values) - 1) // 2])

    lengths = [lower_median(distances[:, k - 1]) / spread for k in (1, kept[-1])]
    assert found[:2] == pytest.approx(lengths)
    small, large = (lower_median(distances[:, k - 1]) for k in (kept[1], kept[-1]))
    pairs = [(distances <= radius * (1 + 1e-6)).sum() for radius in (small, large)]
    growth = math.log(large / small) if large > small else 1e-3
    assert found[2] == pytest.approx(math.log(pairs[1] / pairs[0]) / growth + 0.01)
    assert found[3] == pytest.approx(np.quantile(distances[:, 5], 0.9) / np.quantile(distances[:, 5], 0.1))
    order = np.argsort(np.linalg.norm(x[:, None] - x, axis=2), axis=1)[:120, : min(30, kept[-1]) + 1]
    spectra = [np.linalg.eigvalsh(np.cov(x[rows].T))[::-1] for rows in order]
    assert found[4] == pytest.approx(np.mean([one.sum() ** 2 / (one**2).sum() for one in spectra]))
    assert found[5] == pytest.approx(np.mean([(one > one[0] / 20).sum() for one in spectra]))
    y = x[:, :2] / x[:, :2].std(0, ddof=1)
    unit = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    near = (unit @ unit.T > 0.8).sum() - points
    assert found[6] == pytest.approx(near / (points * (points - 1)) + 1 / points**2)
    norms = np.maximum(norms, 1e-12 * spread)
    assert found[7:] == pytest.approx([np.log(norms).std(ddof=1) + 0.01, (y**4).mean()])


def test_points_on_a_line_and_in_one_place_have_finite_looks() -> None:
    """Equal gaps: the local spectrum has one direction. Points that touch count as a ten-thousandth apart."""
    line = torch.cat([torch.arange(-20.0, 21)[:, None], torch.zeros(41, 2)], 1).double()
    found = look(line, 1).tolist()
    assert found[7:9] == pytest.approx([1, 1])  # after three numbers of neighbours, two lengths, and the density
    twice = torch.cat([normal(30, 2), normal(30, 2) + 1e-9])
    spread = float(twice.square().sum(1).mean().sqrt())
    assert look(twice, 2)[4] == pytest.approx(1e-4 * spread / spread)


def test_points_that_are_all_as_far_apart_grow_by_the_least_that_is_believed() -> None:
    """The corners of a simplex: logarithms of distances grow by a thousandth, and pairs do not."""
    corners = torch.eye(30, dtype=torch.float64) - 1 / 30
    found = look(corners, 3).tolist()
    assert found[:3] == pytest.approx([1000] * 3)
    assert found[5:7] == pytest.approx([0.01, 1])


def test_points_of_which_many_are_copies_have_finite_looks() -> None:
    """As surrogates on a coarse grid are: neighbours of a copy are copies, and points at the mean are near none."""
    copies = torch.cat([torch.zeros(60, 3), torch.eye(3).repeat(2, 1), -torch.eye(3).repeat(2, 1)]).double()
    found = look(copies, 3)
    assert bool((found > 0).all())
    assert bool(found.isfinite().all())
    assert 1 <= float(found[-5]) < 2  # the neighbours of the 60 points at the mean are these: one axis each
    assert float(found[-3]) == pytest.approx(1 / 72**2)


# Recipes.


class Middle(Draws):
    """The middle of every range, one deviation, the first of several."""

    def __init__(self, share: float = 0.5, deviations: float = 1.0, place: int = 0) -> None:
        self.share, self.deviations, self.place = share, deviations, place

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self.share

    def normal(self) -> float:
        return self.deviations

    def one_of(self, items: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
        return items[self.place % len(items)]


def facts(seen: int = 7, noise: float = 1.0, count: int = 100) -> Facts:
    """Of the spread 2 along ``seen`` axes, and less beyond."""
    made = measure(normal(count, seen) - normal(count, seen).mean(0))
    variances = torch.cat([4 * torch.ones(seen), torch.full((2,), 0.01)]).double()
    return replace(made, seen=seen, noise=noise, variances=variances)


def test_draws_are_uniform_normal_and_weighted() -> None:
    draws = Draws(gen())
    values = [draws.uniform(2, 6) for _ in range(4000)]
    assert 2 <= min(values) < 2.01
    assert 5.99 < max(values) <= 6
    assert np.mean(values) == pytest.approx(4, abs=5 * 4 / math.sqrt(12 * 4000))
    shares = [draws.uniform() for _ in range(4000)]
    assert (min(shares), max(shares)) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert np.mean([draws.one_of((0, 1)) for _ in range(4000)]) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(4000))
    assert np.std([draws.normal() for _ in range(4000)]) == pytest.approx(1, abs=5 / math.sqrt(8000))
    shares = np.mean([draws.one_of((0, 1), (1.0, 3.0)) for _ in range(4000)])
    assert shares == pytest.approx(0.75, abs=5 * math.sqrt(0.1875 / 4000))


def test_coarse_recipes_are_even_in_the_logarithm_of_the_dimension() -> None:
    found = coarse(facts(), 9, Middle())
    expected = [int(8 ** ((place + 0.5) / 9)) for place in range(9)]
    expected[7] = 7  # one in eight fills all axes that are seen
    assert [recipe.dimension for recipe in found] == expected
    last = coarse(facts(), 8, Middle(place=1))[7]
    assert last.dimension == 6  # or all but one
    assert coarse(facts(1), 8, Middle(place=1))[7].dimension == 1
    assert [coarse(facts(), 1, Middle(place=place))[0].mixed for place in range(4)] == [1, 2, 2, 7]
    for recipe in found:
        assert recipe.shape == pytest.approx(math.sqrt(0.2 * 3))
        assert recipe.noise == pytest.approx(2 * math.sqrt(0.002 * 0.1))  # of the spread
        low, high = surrogates._frequency_range(100, recipe.dimension)
        assert recipe.frequency == pytest.approx(math.sqrt(low * high))
    assert [coarse(facts(), 1, Middle(share))[0].wound for share in (0.29, 0.31)] == [True, False]
    # A quarter has no noise, and data without room for noise get the most that they allow.
    assert {recipe.noise for recipe in coarse(facts(), 3, Middle(0.24))} == {0.0}
    assert coarse(facts(), 1, Middle(0.26))[0].noise == pytest.approx(2 * 0.002 * 50**0.26)
    assert coarse(facts(noise=0.001), 1, Middle())[0].noise == 0.001
    assert coarse(facts(noise=0.01), 1, Middle())[0].noise == pytest.approx(math.sqrt(0.004 * 0.01))


def test_a_surrogate_bends_a_radian_and_a_half_between_neighbours_at_most() -> None:
    """A step of the nearest neighbour's distance r in k coordinates turns a bend by r / sqrt(k) times its frequency."""
    x = normal(100, 3).numpy()
    nearest = np.median(neighbours_of(x)[:, 0])
    low, high = surrogates._frequency_range(100, 3)
    assert low == 0.3
    assert high == pytest.approx(1.5 * math.sqrt(3) / nearest, rel=0.01)
    assert surrogates._frequency_range(1000, 1) == (0.3, 10.0)
    assert surrogates._frequency_range(3, 60) == pytest.approx((0.3, max(0.303, 1.5 / 1.3)), rel=0.2)


def test_refined_recipes_are_near_those_that_they_come_from() -> None:
    near = SurrogateRecipe(4, "gaussian", 1.0, 2, 0.05, 1.0)
    steps = []
    for place in range(4):  # of -1, 0, 0 and 1 more
        wound = replace(near, wound=place % 2 == 1)
        (found,) = refined(facts(), [wound], np.ones(1), 1, Middle(share=0.4, place=place))
        steps.append(found.dimension - round(4 * math.exp(0.2)))
        assert (found.latent, found.mixed, found.wound) == ("gaussian", 2, place % 2 == 1)
    assert steps == [-1, 0, 0, 1]
    assert found.frequency == pytest.approx(math.exp(0.4))
    assert found.shape == pytest.approx(math.exp(0.4))
    assert found.noise == pytest.approx(0.05 * math.exp(0.4))
    (wild,) = refined(facts(), [near], np.ones(1), 1, Middle(share=0.6, deviations=40.0))
    assert (wild.dimension, wild.frequency, wild.shape) == (7, surrogates._frequency_range(100, 7)[1], 3.0)
    assert wild.noise == pytest.approx(2 * 0.1)  # the most, a tenth of the spread
    assert (wild.latent, wild.mixed) == ("uniform", 1)
    for place, mixed in ((1, 2), (2, 7)):
        assert refined(facts(), [near], np.ones(1), 1, Middle(share=0.6, place=place))[0].mixed == mixed
    (drawn,) = refined(facts(), [near], np.ones(1), 1, Middle(share=0.8, deviations=-40.0))
    assert (drawn.dimension, drawn.frequency, drawn.shape) == (1, 0.3, 0.2)
    assert drawn.noise == pytest.approx(2 * 0.002 * 50**0.8)


def test_the_dimensions_are_ten_equal_ranges_of_their_logarithm() -> None:
    """From 1 to 101: 8 and 9 share the range from 6.33 to 10.05, and 14 and 17 lie on both sides of 15.9."""
    dimensions = np.array([1.0] * 6 + [100.0, 8.0, 9.0, 14.0, 17.0])
    assert chosen_recipes(dimensions, np.arange(11.0), 10) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]


def test_two_of_five_recipes_are_the_nearest_of_a_range_of_dimensions() -> None:
    """The nearest six are of dimension 1; of the other four, three are the nearest of another range each, and then
    comes the second of the first such range."""
    dimensions = np.array([1.0] * 12 + [10.0, 10.0, 100.0, 100.0, 1000.0])
    distances = np.arange(17.0)
    distances[13] = 12.5
    assert chosen_recipes(dimensions, distances, 10) == [0, 1, 2, 3, 4, 5, 12, 13, 14, 16]
    assert chosen_recipes(dimensions, -distances, 5) == [11, 13, 14, 15, 16]


# Surrogates.


def latent(name: str, dimension: int, shape: float = 1.0, count: int = 4000) -> Tensor:
    made = replace(facts(), count=count)
    return surrogates._latent(made, SurrogateRecipe(dimension, name, 1.0, 1, 0.0, shape), gen(3))


def test_latents_have_the_moments_of_their_distributions() -> None:
    """Uniform in a cube of variance 1, on a sphere of radius sqrt(k + 1), Gamma of a shape in its deviations."""
    cube = latent("uniform", 2)
    assert float(cube.abs().max()) == pytest.approx(math.sqrt(3), abs=0.01)
    assert cube.var(0).tolist() == pytest.approx([1, 1], abs=0.07)
    assert cube.mean(0).tolist() == pytest.approx([0, 0], abs=5 / math.sqrt(4000))
    sphere = latent("sphere", 2)
    assert sphere.shape == (4000, 3)
    assert sphere.norm(dim=1).tolist() == pytest.approx([math.sqrt(3)] * 4000)
    gauss = latent("gaussian", 1)
    for shape in (1.0, 4.0):
        z = latent("skewed", 1, shape)
        assert float(z.min()) >= -math.sqrt(shape)
        assert float(z.mean()) == pytest.approx(0, abs=5 / math.sqrt(4000))
        assert float(z.var()) == pytest.approx(1, abs=0.25)
        assert float((z**3).mean()) == pytest.approx(2 / math.sqrt(shape), rel=0.35)
        # The quantiles of a normal number: 1 of Gamma is an exponential.
        order = gauss[:, 0].argsort()
        assert bool((z[order, 0].diff() >= 0).all())
    share = torch.special.ndtr(gauss[:5, 0])
    assert (latent("skewed", 1)[:5, 0] + 1).tolist() == pytest.approx((-(1 - share).log()).tolist())


@pytest.mark.parametrize("shape", [0.0, 1.0, 3.0])
def test_scaled_latents_have_one_log_normal_factor_a_point(shape: float) -> None:
    z, scaled = latent("gaussian", 3), latent("scaled", 3, shape)
    factors = (scaled / z).log()
    assert factors.std(1).tolist() == pytest.approx([0] * 4000, abs=1e-9)
    assert float(factors[:, 0].std()) == pytest.approx(1 / (1 + shape), abs=5 / math.sqrt(8000))


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_rays_crowd_at_a_corner_by_one_factor_a_point(shape: float) -> None:
    """With x_i = S V_i and E S^m = shape / (shape + m), cov = (E S^2 - (E S)^2) / 4, var = E S^2 / 3 - (E S)^2 / 4."""
    z = latent("rays", 3, shape)
    assert z.mean(0).tolist() == pytest.approx([0] * 3, abs=1e-9)
    assert z.std(0).tolist() == pytest.approx([1] * 3)
    first, second = shape / (shape + 1), shape / (shape + 2)
    variance = second / 3 - first**2 / 4
    shared = (second - first**2) / 4 / variance
    correlations = torch.corrcoef(z.T)[torch.triu_indices(3, 3, 1).unbind()]
    assert correlations.tolist() == pytest.approx([shared] * 3, abs=5 / math.sqrt(4000))
    # The corner is the least of every coordinate: 0, which is E x / deviation below the mean.
    assert z.min(0).values.tolist() == pytest.approx([-first / 2 / math.sqrt(variance)] * 3, abs=0.06)


def test_marginal_latents_lie_between_the_neighbours_of_the_data_in_their_order() -> None:
    low, high = torch.tensor([[0.0, 10.0]]).double(), torch.tensor([[1.0, 30.0]]).double()
    made = replace(facts(2), count=4000, marginals=torch.cat([low.repeat(3999, 1), high]))
    u = surrogates._latent(made, SurrogateRecipe(3, "marginals", 1.0, 1, 0.0), gen())
    assert u.shape == (4000, 3)
    assert 0 <= float(u[:, 0].min()) <= float(u[:, 0].max()) <= 1
    assert 10 <= float(u[:, 1].min()) <= float(u[:, 1].max()) <= 30
    assert 0 <= float(u[:, 2].min()) <= float(u[:, 2].max()) <= 1  # the axes in turn
    curved = replace(made, count=10, marginals=torch.arange(10.0).double().square()[:, None])
    place = torch.rand(10, 1, generator=gen(7), dtype=torch.float64) * 9
    assert float(place.max()) > 8
    below = place.floor()
    expected = below**2 + (place - below) * (2 * below + 1)  # straight lines between the squares
    u = surrogates._latent(curved, SurrogateRecipe(1, "marginals", 1.0, 1, 0.0), gen(7))
    torch.testing.assert_close(u, expected)


def test_bends_are_sines_of_a_few_coordinates() -> None:
    """A weak frequency f moves a sine by f |cos(phase)| a deviation: f^2 / 2 in the mean of the squares."""
    u = normal(1500, 4)
    bends = surrogates._bends(u, 2000, SurrogateRecipe(4, "gaussian", 0.01, 2, 0.0), gen(1))
    assert float(bends.abs().max()) <= 1.0
    assert float(bends.mean(0).square().mean()) == pytest.approx(0.5, abs=0.05)  # sin(phase)^2
    assert float(bends.mean()) == pytest.approx(0, abs=5 * math.sqrt(0.5 / 2000))
    assert float(bends.var(0).mean()) == pytest.approx(0.01**2 / 2, rel=0.1)
    slopes = torch.linalg.lstsq(torch.cat([u, torch.ones(1500, 1).double()], 1), bends).solution[:4]
    counted = (slopes.abs() > 1e-5 * 0.01 + 0.01 * slopes.abs().amax(0)).sum(0)
    assert float((counted <= 2).double().mean()) > 0.97
    single = surrogates._bends(u[:, :1], 50, SurrogateRecipe(1, "gaussian", 3.0, 9, 0.0), gen(2))
    assert float(single.abs().max()) == pytest.approx(1, abs=1e-3)


def test_wound_bends_are_pairs_of_sine_and_cosine_of_one_angle() -> None:
    """The gradient of the first angle is as long as the frequency; others are as long in the mean of their squares."""
    u = normal(400, 3)
    recipe = SurrogateRecipe(3, "gaussian", 2.5, 2, 0.0, wound=True)
    bends = surrogates._bends(u, 5, recipe, gen(1))
    angles = surrogates._angles(u, 3, recipe, gen(1))
    assert bends.shape == (400, 5)
    torch.testing.assert_close(bends[:, ::2], angles.sin())
    torch.testing.assert_close(bends[:, 1::2], angles[:, :2].cos())
    many = surrogates._angles(u, 4000, recipe, gen(1))
    slopes = torch.linalg.lstsq(torch.cat([u, torch.ones(400, 1).double()], 1), many).solution[:3]
    lengths = slopes.norm(dim=0)
    assert float(lengths[0]) == pytest.approx(2.5)
    assert float(lengths[1:].square().mean().sqrt()) == pytest.approx(2.5, rel=0.05)
    assert float(lengths[1:].std()) > 0.5
    free = surrogates._angles(u, 1, replace(recipe, wound=False), gen(1))
    assert not torch.allclose(free, angles[:, :1])


def test_axes_of_what_is_wound_are_put_in_another_order_and_others_are_turned() -> None:
    recipe = SurrogateRecipe(1, "gaussian", 1.0, 1, 0.0)
    order = surrogates._turn(5, replace(recipe, wound=True), gen(1))
    assert sorted(order.argmax(1).tolist()) == [0, 1, 2, 3, 4]
    assert order.argmax(1).tolist() != [0, 1, 2, 3, 4]
    assert sorted(set(order.flatten().tolist())) == [0, 1]
    turn = surrogates._turn(5, recipe, gen(1))
    torch.testing.assert_close(turn @ turn.T, torch.eye(5).double())
    assert float(turn.abs().max()) < 0.999


def test_a_wound_curve_is_a_coil_whose_turns_are_near() -> None:
    """Along its axis a point is a turn of 2 pi / frequency deviations from the next, whatever the axes are."""
    made = replace(facts(3), count=1000, variances=torch.tensor([4.0, 4.0, 0.01]).double())
    made = replace(made, norms=torch.ones(1000).double())  # no tails
    recipe = SurrogateRecipe(1, "uniform", 9.0, 1, 0.0, wound=True)
    coils = [surrogate(made, recipe, gen(seed)) for seed in range(6)]
    along = [x for x in coils if float(x[:, :2].norm(dim=1).std()) < 0.3]
    assert 0 < len(along) < 6, "the axis of a coil is the thin one in a third of all"
    for x in along:
        # The angle advances by the frequency per deviation of the thin axis.
        order = x[:, 2].argsort()
        angle = torch.atan2(x[order, 1], x[order, 0])
        steps = torch.remainder(angle.diff() + math.pi, 2 * math.pi) - math.pi
        turned = float(steps.sum().abs()) / float((x[:, 2].max() - x[:, 2].min()) / x[:, 2].std())
        assert turned == pytest.approx(9, rel=0.02)


def test_whitened_features_have_the_identity_as_their_covariance() -> None:
    x = normal(50, 3) @ normal(3, 3, seed=1) + 7
    torch.testing.assert_close(torch.cov(surrogates._white(x).T), torch.eye(3).double())
    torch.testing.assert_close(torch.cov(surrogates._white(1e-7 * x).T), torch.eye(3).double())
    flat = torch.cat([x, x[:, :1]], 1)
    values = torch.linalg.eigvalsh(torch.cov(surrogates._white(flat).T))
    assert values.tolist() == pytest.approx([0, 1, 1, 1], abs=1e-9)


@pytest.mark.parametrize(("width", "seen"), [(1, 2), (2, 2), (1, 1), (2, 3), (4, 3)])
def test_coordinates_and_bends_are_mixed_to_the_covariance_of_the_data(width: int, seen: int) -> None:
    """Exactly: variances of every axis, and no covariance among the axes that are seen, where coordinates are mixed."""
    made, u = replace(facts(), seen=seen), normal(100, width) + 3
    variances = torch.tensor([5.0, 2.0, 0.5]).double()
    y = surrogates._bent(u, made, SurrogateRecipe(width, "gaussian", 1.0, 1, 0.0), variances, gen())
    assert y.mean(0).tolist() == pytest.approx([0] * 3, abs=1e-9)
    assert y.var(0).tolist() == pytest.approx(variances.tolist())
    shares = torch.corrcoef(torch.cat([u, y], 1).T)[:width, width:].abs()
    if width < seen:
        covariance = torch.cov(y[:, :seen].T)
        torch.testing.assert_close(covariance, torch.diag(variances[:seen]))
        assert float(shares[0, :seen].max()) < 0.999
        assert float(shares[0, :seen].square().sum()) == pytest.approx(1)  # the coordinate is turned, and all there
    else:
        same = min(width, 3)
        assert shares.diagonal()[:same].tolist() == pytest.approx([1] * same)


def test_a_surrogate_has_the_variances_less_the_noise_and_the_noise() -> None:
    made = replace(facts(3), count=5000, variances=torch.tensor([4.0, 1.0, 0.3, 0.01]).double())
    made = replace(made, norms=torch.ones(5000).double())  # no tails
    x = surrogate(made, SurrogateRecipe(3, "gaussian", 1.0, 1, 0.5), gen())
    noise = 0.25
    expected = [4.0, 1.0, 0.3, noise]  # the last has less variance than the noise
    assert x.var(0).tolist() == pytest.approx(expected, rel=5 * math.sqrt(2 / 5000))


def test_distances_from_the_mean_are_as_heavy_tailed_as_the_data_where_their_own_are_not() -> None:
    y = normal(200, 3)
    own = float(y.norm(dim=1).log().std())
    heavy = normal(200, seed=1).exp().sort().values
    made = replace(facts(), norms=heavy)
    found = surrogates._with_tails(y, made)
    assert found.norm(dim=1).sort().values.tolist() == pytest.approx(heavy.tolist())
    assert found.norm(dim=1).argsort().tolist() == y.norm(dim=1).argsort().tolist()
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True))
    for times, changed in ((1.09, False), (1.11, True)):
        logs = normal(200, seed=2).sort().values
        similar = replace(made, norms=(times * own * logs / logs.std()).exp())
        assert torch.equal(surrogates._with_tails(y, similar), y) != changed


def test_points_on_a_grid_are_rounded_to_its_steps_in_the_columns_of_the_data() -> None:
    x = torch.cat([(normal(300, 1) / 0.5).round() * 0.5, 3 * normal(300, 1)], 1)
    x = x[x[:, 0].argsort()]
    made = measure(x - x.mean(0))
    assert made.steps.tolist() == pytest.approx([0.5, 0])
    found = surrogate(made, SurrogateRecipe(2, "gaussian", 1.0, 1, 0.0), gen())
    assert (found[:, 0] / 0.5).round().tolist() == pytest.approx((found[:, 0] / 0.5).tolist())
    assert len(found[:, 1].unique()) == 300
    assert found.var(0).tolist() == pytest.approx(x.var(0).tolist(), rel=0.15)
