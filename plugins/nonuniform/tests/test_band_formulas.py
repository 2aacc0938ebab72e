"""Formulas of bands, number by number: what a boundary costs, how a budget is spent, moments, and ratios of costs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import LinearLogSNR, PerComponent
from scorefold.errors import ConfigError
from scorefold_nonuniform.bands.coefficients import BandMoments, build_bands
from scorefold_nonuniform.bands.speeds import band_ends, boundary_cost, noisiest, spend_budget
from scorefold_nonuniform.config import HaarBandsConfig
from scorefold_nonuniform.cost import CostComparison, CostRow
from scorefold_nonuniform.gaussian_field import field_power
from scorefold_nonuniform.multiscale import _shares

F64 = torch.float64


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


@pytest.mark.parametrize("lam", [-3.0, 0.5])
def test_what_a_boundary_costs(lam: float) -> None:
    """1/2 sum ln(1 + e^lam e), or 1/2 sum (a^2 e + b^2 - 1 - ln b^2) with a^2 = 1 / (1 + e^-lam) and b^2 = 1 - a^2."""
    energy = (0.25, 4.0)
    square = 1 / (1 + math.exp(-lam))
    matched = sum(math.log(1 + math.exp(lam) * e) for e in energy) / 2
    normal = sum(square * e + (1 - square) - 1 - math.log(1 - square) for e in energy) / 2
    assert float(boundary_cost(numbers(lam)[0], numbers(*energy), matched=True)) == pytest.approx(matched)
    assert float(boundary_cost(numbers(lam)[0], numbers(*energy), matched=False)) == pytest.approx(normal)


def test_the_noise_that_a_budget_asks_for() -> None:
    """Of one coefficient: ln(1 + e^lam e) / 2 = nats at lam = ln((e^(2 nats) - 1) / e), for little and for much."""
    for nats, energy in ((1e-6, 4.0), (0.3, 0.25), (30.0, 4.0)):
        expected = math.log(math.expm1(2 * nats) / energy)
        assert noisiest(numbers(energy), nats, matched=True) == pytest.approx(expected)


def schedule() -> LinearLogSNR:
    return LinearLogSNR(numbers(8, 6), numbers(-8, -4), numbers(0.6, 1.0), t_min=0.1)


def test_a_budget_of_noise_leaves_the_ends() -> None:
    spent = schedule()
    spend_budget(spent, [-5.0, -9.0], sets="noise")
    assert torch.as_tensor(spent.lam_min).tolist() == [-5, -9]
    assert torch.as_tensor(spent.t_end).tolist() == [0.6, 1]


@pytest.mark.parametrize(
    ("levels", "least", "ends"),
    [
        # At slopes 32 and 100 / 9 the bands are at -4 and 1 after 0.375 and 0.45; the last, at 0.55, becomes 1.
        ((-4.0, 1.0), (-4.0, 1.0), (0.475, 0.55)),
        # The second would end at 0.37, before the first at 0.475: it ends a hundredth after it, at 0.485.
        ((-4.0, 3.0), (-4.0, 6 - 100 / 9 * 0.385), (0.475, 0.485)),
    ],
)
def test_a_budget_of_ends_keeps_the_speeds(
    levels: tuple[float, ...], least: tuple[float, ...], ends: tuple[float, float]
) -> None:
    spent = schedule()
    spend_budget(spent, levels, sets="ends")
    assert torch.as_tensor(spent.lam_min).tolist() == pytest.approx(least)
    stretched = [0.1 + (end - 0.1) * 0.9 / (ends[1] - 0.1) for end in ends]
    assert torch.as_tensor(spent.t_end).tolist() == pytest.approx(stretched)


def test_a_level_where_a_band_starts_is_refused() -> None:
    with pytest.raises(ConfigError, match="start from 8"):
        spend_budget(schedule(), [0.0, 6.0], sets="noise")


def test_ends_are_evenly_spaced_unless_given() -> None:
    assert band_ends(None, 4) == [0.25, 0.5, 0.75, 1.0]
    assert band_ends((0.2, 1.0), 2) == [0.2, 1.0]


BANDS = build_bands(HaarBandsConfig(levels=1), (1, 2, 2)).double()


def test_moments_of_bands_are_those_of_coefficients() -> None:
    """Of three images of 2 x 2 pixels: the band of details has three coefficients, of which one is set here."""
    coefficients = torch.zeros(3, 1, 2, 2, dtype=F64)
    detail = (BANDS.index == 0).nonzero()[0].tolist()
    coarse = (BANDS.index == 1).nonzero()[0].tolist()
    coefficients[(slice(None), *detail)] = numbers(1, 2, 6)
    coefficients[(slice(None), *coarse)] = numbers(4, 4, 1)
    found = BandMoments.of(BANDS, BANDS.transform.inverse(coefficients))
    assert float(found.mean[tuple(detail)]) == pytest.approx(3)
    assert float(found.variance[tuple(detail)]) == pytest.approx((4 + 1 + 9) / 3)
    assert found.deviations.tolist() == pytest.approx([math.sqrt(14 / 3 / 3), math.sqrt(2)])


def test_moments_before_any_data_are_those_of_white_events() -> None:
    """A level of 3 has the coarse coefficient 3 * 2, by a Haar transform of four pixels, and no detail."""
    found = BandMoments(BANDS, EventScale(mean=3.0, std=0.5)).double()
    assert found.mean[BANDS.index == 1].tolist() == pytest.approx([6])
    assert found.mean[BANDS.index == 0].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.variance.unique().tolist() == [0.25]
    assert found.deviations.tolist() == [0.5, 0.5]
    assert not bool(BandMoments(BANDS, EventScale(mean=3.0, std=0.5), centred=False).mean.any())


def with_moments(mean: float, variance: float) -> BandMoments:
    found = BandMoments(BANDS, EventScale()).double()
    found.mean, found.variance = torch.full_like(found.mean, mean), torch.full_like(found.variance, variance)
    return found


def test_moments_agree_within_the_rounding_of_another_machine() -> None:
    """Variances within 0.001 of themselves; means within 0.001 of the deviation."""
    own = with_moments(2.0, 4.0)
    assert own.agree(with_moments(2.0, 4.0039))
    assert not own.agree(with_moments(2.0, 4.0041))
    assert own.agree(with_moments(2.0019, 4.0))
    assert not own.agree(with_moments(2.0021, 4.0))


def test_bands_that_are_still() -> None:
    found = with_moments(0.0, 1.0)
    found.deviations = numbers(2.0, 1.9e-6)
    assert found.still() == [1]
    found.deviations = numbers(2.0, 2.1e-6)
    assert found.still() == []


def test_a_matched_boundary_is_where_data_of_these_moments_diffuse_to() -> None:
    """At lam = -1.5: mean a m and deviation sqrt(a^2 s^2 + b^2)."""
    process = PerComponent((1, 2, 2), LinearLogSNR(5.0, numbers(-1.5, -1.5)), blocks=BANDS.index)
    with_moments(3.0, 4.0).match_boundaries(process)
    mean, deviation = process.prior(torch.zeros(1, dtype=F64))
    square = 1 / (1 + math.exp(1.5))
    assert mean.unique().tolist() == pytest.approx([3 * math.sqrt(square)])
    assert deviation.unique().tolist() == pytest.approx([math.sqrt(4 * square + 1 - square)])


def test_the_power_of_a_field_falls_with_its_squared_frequency() -> None:
    """(1 + k^2 + j^2)^-decay over its mean, for frequencies 0, 1, 1 of three pixels."""
    found = field_power(3, 1.5)
    plain = [[(1 + k**2 + j**2) ** -1.5 for j in (0, 1, 1)] for k in (0, 1, 1)]
    mean = sum(map(sum, plain)) / 9
    assert torch.allclose(found, torch.tensor(plain, dtype=F64) / mean)


def test_steps_of_scales_share_the_remainder() -> None:
    assert _shares(11, 3) == [4, 4, 3]
    assert _shares(12, 3) == [4, 4, 4]


def row(parameters: int, count: int, seconds: float, steps: int) -> CostRow:
    return CostRow((4,), parameters, count, seconds, steps)


def test_a_comparison_weighs_steps_and_overhead() -> None:
    """(6 * 100) / (2 * 50 + 3 * 20), with 10 more a step, by seconds, and by parameters."""
    found = CostComparison(row(1000, 100, 0.5, 6), (row(700, 50, 0.25, 2), row(900, 20, 0.125, 3)), 10.0)
    assert found.counted == pytest.approx(600 / 160)
    assert found.modelled == pytest.approx(6 * 110 / (2 * 60 + 3 * 30))
    assert found.measured == pytest.approx(3 / (0.5 + 0.375))
    assert found.size_ratio == pytest.approx(1.6)
    assert "1.60" not in found.table()
    assert found.table().splitlines()[-1] == (
        "S: 3.43 measured, 3.75 by multiply-accumulates, 3.14 with 0.000 GMAC more a step"
    )


def test_a_table_of_costs_is_in_millions_billions_and_milliseconds() -> None:
    found = CostComparison(row(12_340_000, 5_678_000_000, 0.0123, 6), (row(1_500_000, 1_000_000, 0.5, 2),))
    first, second = found.table().splitlines()[1:3]
    assert first.split() == ["uniform", "4", "6", "12.34", "5.678", "12.30"]
    assert second.split() == ["scale", "1", "4", "2", "1.50", "0.001", "500.00"]
