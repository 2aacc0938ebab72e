"""Minima of curves with a known one."""

import math

import pytest
import torch

from scorefold_allocation.search.fits import from_scale, local_fit, smoothed, to_scale, variance_on_scale
from scorefold_allocation.search.valley import Band, resampled_means


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_parabola_gives_its_vertex() -> None:
    x = torch.linspace(0, 6, 9, dtype=torch.float64)
    least = column(1.3, 2.9, 4.4)
    fit = local_fit(x, 2 + 0.7 * (x - least[:, None]) ** 2, torch.ones(9).double())
    torch.testing.assert_close(fit.position, least)
    torch.testing.assert_close(fit.value, torch.full((3,), 2.0).double())
    torch.testing.assert_close(fit.at(least[:1])[0], fit.value[:1])


def test_a_lopsided_valley_is_found_where_one_parabola_through_all_of_it_fails() -> None:
    size = torch.tensor([2.0 * 1.6**i for i in range(12)]).double()
    y = (400 / size**2 + 1 + 0.02 * size).log()  # least where 800 / n^3 = 0.02
    fit = local_fit(size.log(), y[None], torch.ones(12).double())
    true = 40000 ** (1 / 3)
    assert abs(float(fit.position.exp()) / true - 1) < 0.12
    x = size.log()
    powers = torch.stack((torch.ones(12).double(), x, x**2), 1)
    c = torch.linalg.lstsq(powers, y[:, None]).solution[:, 0]
    assert abs(math.exp(float(-c[1] / (2 * c[2]))) / true - 1) > 0.35


def test_a_curve_that_only_rises_or_falls_is_least_at_its_end() -> None:
    x = torch.linspace(0, 5, 8, dtype=torch.float64)
    fit = local_fit(x, torch.stack((x, -x, -(x**2))), torch.ones(8).double())
    assert fit.position.tolist() == [0, 5, 5]


def test_one_or_two_points_are_enough() -> None:
    one = local_fit(column(1.0), column(3.0)[None], column(1.0))
    two = local_fit(column(1.0, 2.0), column(3.0, 2.5)[None], column(1.0, 1.0))
    assert (float(one.position), float(one.value)) == (1.0, 3.0)
    assert float(two.position) == 2.0
    assert abs(float(two.value) - 2.5) < 1e-12


def test_a_point_of_little_weight_hardly_counts() -> None:
    x = torch.linspace(0, 4, 5, dtype=torch.float64)
    y = (x - 2) ** 2
    y[4] = -3.0
    weight = column(1, 1, 1, 1, 1e-6)
    assert abs(float(local_fit(x, y[None], weight).position) - 2) < 1e-3
    assert float(smoothed(y[None], weight)[0].argmin()) == 2


def test_resampled_means_spread_like_means_of_new_seeds() -> None:
    values = 1 + 0.2 * torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double()
    values[:, 2] = values[:, 1]
    means = resampled_means(values, 20_000, torch.Generator().manual_seed(1))
    expected = 1.795885 / 1.644854 * values.std(0) / math.sqrt(12)  # 95 % of Student's t and of a normal one
    torch.testing.assert_close(means.std(0), expected, rtol=0.03, atol=0)
    torch.testing.assert_close(means[:, 1], means[:, 2])
    assert means.min() > 0
    assert resampled_means(values[:1], 50, torch.Generator()).shape == (1, 3)


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.8), (10, 0.86)])
def test_a_band_of_few_seeds_holds_the_true_mean(seeds: int, least: float) -> None:
    """In nine of ten sets of seeds; with the spread of resampled means alone, three seeds hold it in seven of ten."""
    draws = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(400):
        values = torch.exp(0.2 * torch.randn(seeds, 1, generator=draws, dtype=torch.float64))
        held += Band.of(resampled_means(values, 200, draws)[:, 0]).holds(math.exp(0.02))
    assert least < held / 400 < 0.96


def test_a_band_is_the_middle_nine_tenths() -> None:
    band = Band.of(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (round(band.low, 12), round(band.median, 12), round(band.high, 12)) == (0.05, 0.5, 0.95)
    assert band.holds(0.95)
    assert not band.holds(0.96)


def test_scales_go_back_and_forth_and_know_their_variances() -> None:
    loss = column(0.2, 0.5, 0.9)
    for measure in ("loss", "accuracy"):
        torch.testing.assert_close(from_scale(to_scale(loss, measure), measure), loss)
    draws = loss + 0.02 * torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double()
    for measure in ("loss", "accuracy"):
        seen = to_scale(draws, measure).var(0) / 4000
        torch.testing.assert_close(variance_on_scale(draws, measure), seen, rtol=0.15, atol=0)
    assert torch.equal(variance_on_scale(loss.expand(3, 3), "loss"), torch.ones(3).double())
