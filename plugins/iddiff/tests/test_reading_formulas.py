"""Formulas behind a dimension, number by number: slopes, knees, designs, noise of the data, linear denoisers, gaps."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_iddiff.estimators.flipd import knees
from scorefold_iddiff.normal_bundle import noise_level
from scorefold_iddiff.normal_bundle.noise_level import over_scales
from scorefold_iddiff.pointwise import support
from scorefold_iddiff.pointwise.answers import integrate_over_log_noise, slope_in_log_noise
from scorefold_iddiff.pointwise.noise_designs import design, noises
from scorefold_iddiff.pointwise.plateaus import DimensionPlateau, choose_level, memorised_levels, search_levels, slack
from scorefold_iddiff.pointwise.probe import COORDINATES_AT_ONCE, rows_at_once
from scorefold_iddiff.pointwise.readings import NoiseLevelReading, resampled_dimensions
from scorefold_iddiff.pointwise.spectra import (
    ResponseMoments,
    asymmetry,
    paper_rule,
    projector,
    ratio_rule,
    reference_rule,
    response_gram,
    slope,
)
from scorefold_iddiff.pointwise.support import (
    Corrected,
    LinearDenoiser,
    corrected,
    loss_agreement,
    noise_size,
    relative_gap,
    without_noise,
)

F64 = torch.float64


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def test_slopes_have_root_mean_square_residuals() -> None:
    """Densities 0, 3, 0 at levels 1, e, e^2: slope 0 about the mean 1, residuals -1, 2, -1."""
    levels = [1.0, math.e, math.e**2]
    found, residual = slope_in_log_noise(numbers(0, 3, 0)[:, None], levels)
    assert float(found) == pytest.approx(0, abs=1e-12)
    assert float(residual) == pytest.approx(math.sqrt(2))
    assert float(slope_in_log_noise(numbers(0, 1, 4)[:, None], levels)[0]) == pytest.approx(2)


def test_rates_are_integrated_by_trapezoids() -> None:
    levels = [1.0, math.e, math.e**3]
    assert integrate_over_log_noise(numbers(2, 4, 1)[:, None], levels).flatten().tolist() == pytest.approx([0, 3, 8])


def test_a_knee_is_furthest_from_the_chord() -> None:
    """From 10 to 0 over log levels 0, 1/4, 1/2, 3/4 and 1; a curve that varies by less than a hundredth of itself, and
    of 1, has none."""
    levels = [1.0, 2.0, 4.0, 8.0, 16.0]
    shoulder, elbow = numbers(10, 9.5, 8.5, 3, 0), numbers(10, 6, 1.5, 1, 0)
    both = torch.stack([shoulder, elbow], 1)
    assert knees(both, levels, "auto")[0].tolist() == [2, 2]
    assert knees(both, levels, "shoulder")[0].tolist() == [2, 0]
    assert knees(both, levels, "elbow")[0].tolist() == [0, 2]
    steps = torch.stack([numbers(20, 20, 20, 20, 19.79), numbers(20, 20, 20, 20, 19.81)], 1)
    at, none = knees(steps, levels, "shoulder")
    assert (at.tolist(), none) == ([3, 0], 1)
    small = torch.stack([numbers(0.1, 0.1, 0.1, 0.1, 0.089), numbers(0.1, 0.1, 0.1, 0.1, 0.091)], 1)
    assert knees(small, levels, "shoulder")[0].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("name", "ambient", "count"), [("iid", 10, 40), ("iid", 3, 16), ("pairs", 10, 20), ("simplex", 10, 11)]
)
def test_designs_have_as_many_noises_as_it_takes(name, ambient: int, count: int) -> None:
    assert design(name, ambient, None).count == count
    if name != "iid":
        assert design(name, ambient, 3 * count).count == 3 * count
        with pytest.raises(ConfigError, match=f"has {count} noises"):
            design(name, ambient, count + 1)


def test_independent_noises_are_two_more_than_coordinates() -> None:
    assert design("iid", 10, 12).count == 12
    with pytest.raises(ConfigError, match="at least 12 noises"):
        design("iid", 10, 11)


@pytest.mark.parametrize("name", ["pairs", "simplex"])
def test_frames_have_the_second_moment_of_the_normal(name) -> None:
    """Twice over: the mean square of D coordinates is D, and the second moment is I; of pairs a half is given."""
    made = design(name, 5, 20 if name == "pairs" else 12)
    rows = torch.cat([part[0] for part in noises(made, torch.tensor([0]), 3, torch.zeros(1, dtype=F64), 3)])
    assert len(rows) == (10 if name == "pairs" else 12)
    assert rows.square().sum(1).tolist() == pytest.approx([5] * len(rows))
    assert torch.allclose(rows.T @ rows / len(rows), torch.eye(5, dtype=F64))
    if name == "simplex":
        assert torch.allclose(rows.mean(0), torch.zeros(5, dtype=F64))


def test_a_linear_denoiser_counts_directions_by_their_deviation() -> None:
    """Rows (+-3, 0, 0) and (0, +-1, 0): variances 9 / 2 and 1 / 2; points stand out by 2 in the third coordinate."""
    rows = numbers(3, 0, 0, -3, 0, 0, 0, 1, 0, 0, -1, 0).reshape(4, 3)
    found = LinearDenoiser(rows, numbers(0, 0, 2, 3, 1, -2).reshape(2, 3))
    assert sorted(found.variances.tolist()) == pytest.approx([0.5, 4.5])
    assert found.extent == pytest.approx(math.sqrt(4.5))
    assert (found.outside, found.outside_variance) == (1, pytest.approx(4))
    assert [found.directions(sigma) for sigma in (0.7, 0.71, 1.99, 2.01, 2.13)] == [3, 2, 2, 1, 0]


def test_the_error_of_a_linear_denoiser_at_a_point() -> None:
    """sum (l / (l + s^2))^2 + (x s / (l + s^2))^2 over directions of variance l in which the point lies at x: here of
    variances 4.5, 0.5 and, outside, 4, at (0, 0, 2) and (3, 1, -2), with s = 0.5."""
    rows = numbers(3, 0, 0, -3, 0, 0, 0, 1, 0, 0, -1, 0).reshape(4, 3)
    points = ((0.0, 0.0, 2.0), (3.0, 1.0, -2.0))
    found = LinearDenoiser(rows, torch.tensor(points, dtype=F64)).errors(0.5)
    expected = [
        sum((v / (v + 0.25)) ** 2 + (x * 0.5 / (v + 0.25)) ** 2 for v, x in zip((4.5, 0.5, 4.0), point, strict=True))
        for point in points
    ]
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "size", "above_only", "holds"),
    [
        ((3.5, -1.5), 0.0, False, True),  # a mean of 1 with a standard error of 2.5
        ((1.2, 1.0), 0.0, False, False),  # of 1.1 with 0.1
        ((1.2, 1.0), 8.1, False, True),
        ((1.0,), 9.0, False, False),  # one value has no error that is known
        ((1.0,), -11.0, False, True),
        ((-9.0, -9.0), 0.0, True, True),
        ((-9.0, -9.0), 0.0, False, False),
    ],
)
def test_a_difference_of_two_errors_a_twentieth_and_a_half_is_none(
    values: tuple[float, ...], size: float, above_only: bool, holds: bool
) -> None:
    assert support._within(numbers(*values), size, above_only=above_only) == holds


@pytest.mark.parametrize(("least", "found"), [(19, (True, 5)), (18, (False, 18))])
def test_all_coordinates_count_where_at_most_a_twentieth_is_missing(least: int, found: tuple[bool, int]) -> None:
    scene = noise_level.DataContext(1.0, 1.0, 20, None)
    assert noise_level._rises(numbers(least, 5)[:, None], [True, True], scene) == found
    assert noise_level._rises(numbers(20, 20)[:, None], [True, True], scene) == (False, 0), "nothing rises"


def reading(trace: Tensor, **more: Tensor) -> NoiseLevelReading:
    return NoiseLevelReading(trace, trace, trace, 0, **more)


def test_noise_of_the_data_is_taken_out_of_every_reading() -> None:
    """With m = 0.01^2 / (0.01^2 + 0.02^2) = 0.2, D = 50 and k = 3: tr = 50 m + (1 - m) 3, FLIPD = 50 (1 - 0.64) + 0.64
    * 3; where half is noise, readings stay."""
    trace, flipd = numbers(10 + 0.8 * 3), numbers(50 * 0.36 + 0.64 * 3)
    clean = corrected(reading(trace, flipd=flipd, loss=trace + 0.8), 0.02, 0.01, 50)
    assert [float(value) for value in (clean.trace, clean.flipd, clean.loss)] == pytest.approx([3, 3, 4])
    assert float(without_noise(trace, 0.0101, 0.01, 50)) != float(trace)
    assert float(without_noise(trace, 0.01, 0.01, 50)) == float(trace)
    assert float(without_noise(trace, 0.02, None, 50)) == float(trace)


def with_normal(levels: list[float], sizes: list[float]) -> list[NoiseLevelReading]:
    """Readings of 2 tangent and 3 normal directions whose eigenvalue is the eigenvalue of noise of a size."""
    shares = [size**2 / (size**2 + sigma**2) for size, sigma in zip(sizes, levels, strict=True)]
    return [reading(numbers(1), eigenvalues=numbers(1, 1, share, share, share)[None]) for share in shares]


@pytest.mark.parametrize(
    ("levels", "sizes", "found"),
    [
        ([0.02, 0.04, 0.08, 0.11], [0.05] * 4, 0.05),
        ([0.02, 0.04, 0.08, 0.09], [0.05] * 4, None),  # the last is below twice its size
        ([0.03, 0.04, 0.08, 0.14], [0.05] * 4, None),  # they span less than 0.7 decades
        ([0.02, 0.04, 0.08], [0.05] * 3, None),  # three levels are too few
        ([0.02, 0.04, 0.08, 0.12, 1.0, 2.0, 4.0, 6.0], [0.05] * 4 + [2.5] * 4, 0.05),  # of two as long the first
        ([0.02, 0.04, 0.08, 0.12], [0.05, 0.05, 0.059, 0.05], 0.05),
        ([0.02, 0.04, 0.08, 0.12], [0.05, 0.05, 0.061, 0.05], None),  # by more than a fifth
    ],
)
def test_noise_has_one_size_over_levels(levels: list[float], sizes: list[float], found: float | None) -> None:
    size = noise_size(levels, with_normal(levels, sizes), 2, 5)
    assert size == (None if found is None else pytest.approx(found))


def test_levels_far_above_the_noise_do_not_count() -> None:
    """At six times its size; without the last two there are but three."""
    levels = [0.02, 0.05, 0.11, 0.24, 0.3]
    assert noise_size(levels[:4], with_normal(levels[:4], [0.05] * 4), 2, 5) == pytest.approx(0.05)
    assert noise_size(levels, with_normal(levels, [0.05] * 3 + [0.047, 0.047]), 2, 5) is None


def test_readings_part_by_the_median_over_five_at_least() -> None:
    assert relative_gap(numbers(12, 30, 8), numbers(10, 10, 10)) == pytest.approx(0.2)
    assert relative_gap(numbers(1, 1, 1), numbers(2, 2, 2)) == pytest.approx(0.2)


def test_readings_agree_up_to_two_standard_errors() -> None:
    """FLIPD of 12 +- 1 at two points: two standard errors are 2 sqrt(2) / sqrt(2) = 2, so that 10 agrees with 13."""
    mask, flat = torch.tensor([True, True, False]), numbers(10, 10, 0)
    assert loss_agreement(10.0, Corrected(flat, numbers(11.9, 13.9, 99), flat), mask) == "agree"
    assert loss_agreement(10.0, Corrected(flat, numbers(12.1, 14.1, 99), flat), mask) == "bent"
    assert loss_agreement(1.0, Corrected(flat, numbers(1.24, 1.24, 9), numbers(1, 1, 9)), mask) == "agree"
    assert loss_agreement(1.0, Corrected(flat, numbers(1.26, 1.26, 9), numbers(1, 1, 9)), mask) == "apart"
    assert loss_agreement(10.0, Corrected(numbers(13.9, 13.9, 0), flat, None), mask) == "apart"


def test_margins_of_gaps() -> None:
    """Values 10, 9, 4, 1: gaps 1, 5 and 3. All gaps: k = 4 - 1 - 1 = 2; without the first likewise; (5 - 3) / 10."""
    values = numbers(10, 9, 4, 1)
    for rule in (paper_rule, reference_rule):
        dimension, margin = rule(values)
        assert (int(dimension), float(margin)) == (2, pytest.approx(0.2))
    assert [int(rule(numbers(10, 2, 1, 0.5))[0]) for rule in (paper_rule, reference_rule)] == [3, 2]
    dimension, margin = paper_rule(numbers(4, 1))
    assert (int(dimension), float(margin)) == (1, pytest.approx(0.75))
    dimension, margin = reference_rule(numbers(4, 3, 1))
    assert (int(dimension), float(margin)) == (1, pytest.approx(0.5))


def test_ratios_of_singular_values() -> None:
    """1, 0.5, 0.01 and 0.002: log-ratios 0, ln 2, ln 50, ln 5, so k = 2; (ln 50 - ln 5) / (ln 50 + ln 5)."""
    dimension, margin = ratio_rule(numbers(1, 0.5, 0.01, 0.002))
    assert (int(dimension), float(margin)) == (2, pytest.approx(math.log(10) / math.log(250)))
    assert int(ratio_rule(numbers(0.02, 0.019, 0.018))[0]) == 3
    dimension, margin = ratio_rule(numbers(1, 0.9, 0.51))
    assert (int(dimension), float(margin)) == (0, 1)


def moments_of(noise: Tensor, response: Tensor) -> ResponseMoments:
    made = ResponseMoments.zeros(
        1, design("iid", noise.shape[1], len(noise)), noise.device, projector=True, singular=True
    )
    for rows in (slice(0, 3), slice(3, None)):
        made.add(noise[None, rows], response[None, rows])
    return made


def test_the_slope_is_that_of_least_squares_with_an_intercept() -> None:
    """By numpy's least squares of responses on noises and ones; covariances of responses with and without the mean."""
    generator = torch.Generator().manual_seed(0)
    noise, response = (torch.randn(9, 3, generator=generator, dtype=F64) + 1 for _ in range(2))
    made = moments_of(noise, response)
    design_matrix = torch.cat([noise, torch.ones(9, 1, dtype=F64)], 1)
    expected = torch.linalg.lstsq(design_matrix, response).solution[:3]
    found = slope(made)[0]
    assert torch.allclose(found, expected)
    assert torch.allclose(projector(found[None])[0], torch.eye(3, dtype=F64) - (expected + expected.T) / 2)
    assert float(made.loss_sum) == pytest.approx(float((noise - response).square().sum()))
    lower = torch.ones(3, 3).tril().bool()
    centred = response - response.mean(0)
    plain, without = (response_gram(made, centred=centre)[0] for centre in (False, True))
    assert torch.allclose(plain[lower], (response.T @ response / 9)[lower])
    assert torch.allclose(without[lower], (centred.T @ centred / 9)[lower])


def test_asymmetry_is_the_odd_part_over_the_whole() -> None:
    """[[0, 3], [1, 0]]: odd part +-2, of norm sqrt(8), over sqrt(10)."""
    assert float(asymmetry(numbers(0, 3, 1, 0).reshape(1, 2, 2))) == pytest.approx(math.sqrt(0.8))


def test_levels_of_a_search_hold_both_ends() -> None:
    assert search_levels(0.1, 10.0, 5) == pytest.approx([0.1, 0.1**0.5, 1, 10**0.5, 10])


def test_a_dimension_may_be_off_by_a_twentieth() -> None:
    assert [slack(k) for k in (19, 20, 39, 40)] == [0, 1, 1, 2]


def test_the_middle_of_the_longest_stretch_of_levels_is_chosen() -> None:
    """Levels 0, 2, 3 and 4 have all points on a plateau: the middle of the last three."""
    points = [[DimensionPlateau(3, 0, 4)], [DimensionPlateau(3, 0, 4)]]
    dimensions = torch.tensor([[3, 3], [3, 2], [3, 3], [3, 3], [3, 3]])
    assert choose_level(points, dimensions) == 3
    assert choose_level([*points, []], torch.cat([dimensions, dimensions[:, :1]], 1)) == 3, "two of three have one"


def test_levels_are_memorised_where_a_tenth_and_one_are_missing() -> None:
    """Below half the distance of neighbours, 1: of 20 up to it 18 is a tenth less, 18.1 is not; of 5, 4 is one less."""
    levels = [0.1, 0.4, 0.9, 3.0]
    for own, most, hit in ((18.0, 20.0, True), (18.1, 20.0, False), (4.0, 5.0, True), (4.1, 5.0, False)):
        traces = numbers(own, own, most, 1)[:, None]
        assert memorised_levels(levels, traces, 1.0)[0] == [hit, hit, False, False]
    assert memorised_levels(levels, numbers(0.4, 1, 1, 1)[:, None], 1.0)[0] == [True, False, False, False]
    assert memorised_levels([0.1, 0.6, 0.9, 3.0], numbers(4, 4, 5, 1)[:, None], 1.0)[0] == [True, False, False, False]


@pytest.mark.parametrize(("dimension", "found"), [(21, (20.0, 24.0)), (19, (20.0, 24.0)), (22, None)])
def test_readings_over_scales_are_those_of_plateaus_of_about_the_value(
    dimension: int, found: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twentieth of 20 is 1: a plateau of 21 counts, and one of 22 does not. Nor do levels outside of it."""
    monkeypatch.setattr(noise_level, "loss_agreement", lambda *given: "agree")
    clean = SimpleNamespace(trace=numbers(99, 99), loss=numbers(20, 20), flipd=numbers(23, 25))
    curve = SimpleNamespace(
        found=[{"kind": "manifold", "dimension": dimension, "least_sigma": 0.1, "greatest_sigma": 0.2}],
        levels=[0.05, 0.1, 0.2, 0.4],
        dimensions=numbers(50, 21, 22, 60)[:, None].expand(4, 2),
        corrected=[clean] * 4,
    )
    assert over_scales(curve, 20.0) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spectrum", "whole", "drawn"),
    [
        # Responses .2 and .8 to noises of 1: an eigenvalue 1 - .5 in all, 1 - .2 and 1 - .8 from either noise alone.
        ("projector", 0.5, (0.8, 0.2)),
        # A singular value follows the root of the mean square response, (.04 + .64) / 2 in all.
        ("uncentred", 3.0, (3 * (0.04 / 0.34) ** 0.5, 3 * (0.64 / 0.34) ** 0.5)),
    ],
)
def test_a_resample_moves_the_reading_along_a_direction(
    spectrum: str, whole: float, drawn: tuple[float, float]
) -> None:
    noise = torch.ones(1, 2, 1, dtype=torch.float64)
    response = torch.tensor([[[0.2], [0.8]]], dtype=torch.float64)
    moments: Any = SimpleNamespace(kept=[(noise, response)], paired=False)
    weights = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    found = resampled_dimensions(
        moments,
        torch.tensor([[whole]], dtype=torch.float64),
        torch.eye(1, dtype=torch.float64)[None],
        lambda values: (values[..., 0], values),
        spectrum,
        weights,
    )
    assert found[:, 0].tolist() == pytest.approx(drawn)


def test_as_many_points_at_once_as_their_coordinates_allow() -> None:
    assert rows_at_once(None, 784) == COORDINATES_AT_ONCE // 784
    assert (rows_at_once(7, 784), rows_at_once(None, 10**9)) == (7, 1)
