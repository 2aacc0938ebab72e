"""The noise of counts: found where it fills directions, and not in rounded measurements, images and classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold_toolkit.data.counts import count_noise, overdispersion


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latent(dimension: int, columns: int, rows: int = 1000) -> Tensor:
    generator = gen(3)
    return torch.randn(rows, dimension, generator=generator) @ torch.randn(dimension, columns, generator=generator)


def counts(mean: float, rows: int = 1000) -> Tensor:
    return torch.poisson(mean * (latent(2, 8, rows) / 2).exp(), generator=gen(4))


def in_own_units(x: Tensor) -> tuple[Tensor, EventScale]:
    """The points in single precision, each column divided by its deviation, and these units."""
    scale = EventScale(shift=tuple(x.double().mean(0).tolist()), factor=tuple(x.double().std(0).tolist()))
    return scale.from_raw(x).float(), scale


@pytest.mark.parametrize("mean", [1, 4, 20, 200])
def test_counts_about_two_latents_have_noise_for_sure(mean: float) -> None:
    for x, scale in ((counts(mean), EventScale()), in_own_units(counts(mean))):
        text, sure = count_noise(x, scale)
        assert sure
        assert "8 columns hold counts" in text


def test_the_directions_of_noise_are_the_columns_without_the_latents() -> None:
    """Near a mean of 4 the square roots are nearly linear in two small latents."""
    x = torch.poisson(4 * (latent(2, 8, 2000) / 4).exp(), generator=gen(4))
    assert "along 6 of 8 directions" in count_noise(x, EventScale())[0]


def test_noise_far_below_the_distance_of_neighbours_does_not_matter() -> None:
    assert count_noise(counts(100_000, rows=300), EventScale()) == ("", False)


@pytest.mark.parametrize("levels", [20, 50, 400])
def test_measurements_rounded_to_levels_are_no_counts(levels: int) -> None:
    x = latent(3, 8, 2000)
    x = ((x - x.amin(0)) / (x.amax(0) - x.amin(0)) * levels).round()
    assert count_noise(x, EventScale()) == ("", False)
    assert count_noise(*in_own_units(x)) == ("", False)


def test_whole_numbers_that_vary_far_more_or_less_than_counts_are_none() -> None:
    wide = torch.randint(0, 51, (1000, 3), generator=gen()).float()
    narrow = (50 + torch.randn(1000, 4, generator=gen())).round()
    assert count_noise(wide, EventScale()) == ("", False)
    assert count_noise(narrow, EventScale()) == ("", False)


def overdispersed(mean: float, excess: float, rows: int = 1000) -> Tensor:
    """Negative binomial counts of this mean m about two latents, with the variance m + excess m^2."""
    means = mean * (latent(2, 8, rows) / 2).exp()
    shape = torch.full_like(means, 1 / excess)
    return torch.poisson(means * excess * torch._standard_gamma(shape, generator=gen(5)), generator=gen(4))


@pytest.mark.parametrize("mean", [4, 20, 100])
@pytest.mark.parametrize("excess", [1, 0.3, 0.1])
def test_overdispersed_counts_may_be_measurements(mean: float, excess: float) -> None:
    """Whole amounts that are known to some per cent look the same, so that nothing is sure."""
    for x, scale in ((overdispersed(mean, excess), EventScale()), in_own_units(overdispersed(mean, excess))):
        text, sure = count_noise(x, scale)
        assert "8 columns hold whole numbers from 0 up, whose noise grows with them (dispersion" in text
        assert not sure


def test_the_noise_of_small_overdispersed_counts_is_sure() -> None:
    assert all(count_noise(overdispersed(1, excess), EventScale())[1] for excess in (1, 0.3, 0.1))


@pytest.mark.parametrize("spread", [0.3, 0.5])
def test_amounts_with_a_common_factor_are_no_counts_for_sure(spread: float) -> None:
    """Four amounts, each with noise of its own that fills a direction of the data: their dimension is 4."""
    noise = torch.randn(1000, 5, generator=gen())
    amounts = (20 * (0.7 * noise[:, :1] + spread * noise[:, 1:]).exp()).round()
    text, sure = count_noise(amounts, EventScale())
    assert "If these are counts" in text
    assert not sure


def test_independent_columns_of_whole_numbers_are_no_counts_for_sure() -> None:
    """Age, children, years and persons of a household: four columns, four dimensions."""
    shares = torch.rand(1000, 4, generator=gen())
    columns = (shares * torch.tensor([72.0, 5, 40, 5])).floor() + torch.tensor([18.0, 0, 0, 1])
    assert not count_noise(columns, EventScale())[1]


@pytest.mark.parametrize("excess", [1, 0.3, 0.1])
def test_the_dispersion_is_read_from_the_directions_of_noise(excess: float) -> None:
    """Six of eight directions hold noise alone. The smallest of their variances scatters by a tenth."""
    assert overdispersion(overdispersed(20, excess, 2000).double()) == pytest.approx(excess, rel=0.4)


@pytest.mark.parametrize(("mean", "latents", "noise"), [(60, 5, 12), (80, 10, 15), (50, 6, 12), (120, 15, 25)])
def test_whole_numbers_with_noise_of_one_size_are_no_counts(mean: float, latents: float, noise: float) -> None:
    """Their noise is larger than by chance, and does not grow with them."""
    x = mean + latents * latent(2, 8) + noise * torch.randn(1000, 8, generator=gen())
    assert count_noise(x.round().clamp(min=0), EventScale()) == ("", False)


def test_measurements_with_noise_of_one_size_are_no_overdispersed_counts() -> None:
    noisy = latent(3, 8) + torch.randn(1000, 8, generator=gen())
    assert count_noise(((noisy - noisy.amin(0)) * 100).round(), EventScale()) == ("", False)
    people = torch.randn(1000, 4, generator=gen()) * torch.tensor([15.0, 10, 15, 15]) + torch.tensor(
        [60.0, 170, 75, 125]
    )
    assert count_noise(people.round(), EventScale()) == ("", False)
    independent = (30 * torch.randn(1000, 8, generator=gen()).abs()).round()
    assert count_noise(independent, EventScale()) == ("", False)


def test_bits_images_negative_and_broken_numbers_and_few_rows_are_not_looked_at() -> None:
    x = counts(4)
    assert count_noise((x > 3).float(), EventScale()) == ("", False)
    assert count_noise(x, EventScale(low=0, high=255, levels=256)) == ("", False)
    assert count_noise(x[:, None], EventScale()) == ("", False)
    assert count_noise(x - 3, EventScale()) == ("", False)
    assert count_noise(x + 0.5, EventScale()) == ("", False)
    assert count_noise(x[:40], EventScale()) == ("", False)
    assert count_noise(x[:, :1], EventScale()) == ("", False)
