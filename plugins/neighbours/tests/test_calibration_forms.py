"""The formulas of the calibration by hand: distances and weights of surrogates, curves left out in turn, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from scorefold.results import Estimate
from scorefold_neighbours.calibrated import answer as answers
from scorefold_neighbours.calibrated.answer import Checked, calibrated_answer, keep
from scorefold_neighbours.calibrated.calibration import (
    Curve,
    SurrogateCalibration,
    calibrate,
    flatness,
    reading_distances,
    rise,
    weights_of,
)
from scorefold_neighbours.calibrated.estimator import _note
from scorefold_neighbours.config import CalibratedConfig

HALF = math.exp(-0.5)
"""The weight of the surrogate whose rank sets the scale."""


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


# Distances and weights.


def test_distances_are_mean_squares_in_the_scatter_of_each_reading() -> None:
    """One reading is a curve without scatter, for which 0.05 counts; the other scatters by sqrt(1/8) around its curve:
    2 and 1 stand in the wrong order, so the rising curve has 1.5 at both."""
    y = np.array([0.0, 1.0, 2.0, 3.0])
    z = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0]])
    found = reading_distances(z, y, np.array([0.0, 0.0]))
    expected = [((n / 0.05) ** 2 + m**2 / 0.125) / 2 for n, m in z]
    assert found.tolist() == pytest.approx(expected)


def test_the_scatter_is_that_of_a_reading_around_its_curve_against_the_dimension() -> None:
    """Two surrogates of each dimension, 0.3 above and below the curve."""
    y = np.repeat([0.0, 1.0, 2.0], 2)
    z = y + np.tile([0.3, -0.3], 3)
    found = reading_distances(z[:, None], y, np.array([0.0]))
    assert found.tolist() == pytest.approx((z / 0.3) ** 2)


def test_weights_fall_off_by_the_squared_distance_of_a_rank() -> None:
    squares = np.array([1.0, 9.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert weights_of(squares, 3) == pytest.approx(np.exp(-(squares - 1) / (2 * 4)))
    assert weights_of(squares) == pytest.approx(np.exp(-(squares - 1) / (2 * 7)))  # the sixth
    assert weights_of(squares[:2]) == pytest.approx([1, math.exp(-8 / 18)])  # of two, the last
    assert weights_of(np.zeros(3)).tolist() == [1, 1, 1]


# Curves, and their errors at surrogates that are left out.


def test_a_reading_that_says_nothing_errs_by_the_scatter_of_the_dimensions_left_out_in_turn() -> None:
    """All readings are alike, so the answer is the mean of the log dimensions. A dimension that is left out differs
    from the mean of the others by n / (n - 1) times its distance from the mean of all."""
    dimensions = np.array([1.0, 2.0, 4.0, 16.0])
    logs = np.log(dimensions)
    error = 4 / 3 * logs.std()
    found = calibrate(np.full((4, 2), 3.0), dimensions, np.array([3.0, 3.0]))
    for curve in (*found.curves, found.together):
        assert curve.corrected == pytest.approx(128**0.25)
        assert curve.error == pytest.approx(error)
    assert found.weights.tolist() == [1, 1, 1, 1]
    assert found.distance == 0


def test_nearer_surrogates_count_more_in_a_curve_and_in_its_error() -> None:
    """Two readings, two surrogates of each: the curve has their means, and each of a pair is foretold by the other."""
    dimensions = np.array([2.0, 3.0, 8.0, 16.0])
    found = calibrate(column(1.0, 1.0, 5.0, 5.0), dimensions, np.array([1.0]))
    (curve,) = found.curves
    assert found.weights == pytest.approx([1, 1, HALF, HALF])
    assert curve.corrected == pytest.approx(6**0.5)
    squares = (math.log(3 / 2) ** 2 + HALF * math.log(2) ** 2) / (1 + HALF)
    assert curve.error == pytest.approx(squares**0.5)


def test_a_curve_keeps_its_ends_beyond_the_readings() -> None:
    dimensions = np.array([2.0, 2.0, 8.0, 8.0])
    for given, expected in ((0.1, 2.0), (100.0, 8.0)):
        assert calibrate(column(1, 1, 5, 5), dimensions, np.array([given])).curves[0].corrected == pytest.approx(
            expected
        )


def test_all_readings_together_are_a_ridge_regression() -> None:
    """Log dimensions are -1 and 1, log readings -c and c, at the data's c. With shares p and q of the weights the slope
    is the covariance 4 p q c over the variance 4 p q c^2 and the ridge, 0.01."""
    c = 0.1
    p, q = HALF / (1 + HALF), 1 / (1 + HALF)
    found = calibrate(np.exp(column(-c, c)), np.exp([-1.0, 1.0]), np.exp([c]))
    slope = 4 * p * q * c / (4 * p * q * c**2 + 0.01)
    assert math.log(found.together.corrected) == pytest.approx((q - p) + (c - (q - p) * c) * slope)
    # Of two surrogates each is foretold to be the other.
    assert found.together.error == pytest.approx(2)


def test_no_error_is_believed_below_three_hundredths() -> None:
    found = calibrate(np.full((5, 1), 2.0), np.full(5, 7.0), np.array([2.0]))
    assert (found.curves[0].corrected, found.curves[0].error) == (pytest.approx(7), 0.03)


def test_a_reading_that_is_missing_counts_as_the_median_of_the_others() -> None:
    dimensions = np.array([1.0, 2.0, 4.0, 8.0])
    given = np.array([2.0])
    expected = calibrate(column(1.0, 2.0, 9.0, 2.0), dimensions, given)
    for missing in (math.nan, 0.0):
        found = calibrate(column(1.0, 2.0, 9.0, missing), dimensions, given)
        assert found.weights == pytest.approx(expected.weights)
        assert found.together == expected.together


def test_the_distance_is_that_of_the_nearest_surrogate() -> None:
    """Readings without scatter: 0.05 is the unit of their logarithms."""
    dimensions = np.array([1.0, 2.0, 4.0])
    found = calibrate(column(1.0, 2.0, 4.0), dimensions, np.array([4 * math.exp(0.2)]))
    assert found.distance == pytest.approx(4)


# What a reading says about the dimension.


def test_the_rise_is_a_slope_in_logarithms_with_every_dimension_once() -> None:
    """Log readings 0 at dimension 1; 1 and 3, so 2 in the mean, at e; 3 at e^2: the slope through 0, 2 and 3 is 1.5."""
    dimensions, readings = np.exp([0.0, 1.0, 1.0, 2.0, 2.0]), np.exp([0.0, 1.0, 3.0, 3.0, 3.0])
    assert rise(readings, dimensions) == pytest.approx(1.5)
    assert rise(np.append(readings, math.nan), np.append(dimensions, 9.0)) == pytest.approx(1.5)
    assert rise(readings[:1], dimensions[:1]) == 1


def test_flatness_is_the_share_that_a_rising_curve_leaves_with_every_dimension_once() -> None:
    """In the order of the readings the log dimensions are 0, 1, 0, 2 with weights 1/2, 1, 1/2, 1. The rising curve has
    2/3 in place of 1 and 0, so it leaves 1/9 + 1/2 * 4/9 = 1/3 of 2."""
    dimensions, readings = np.array([1.0, 1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert flatness(readings, dimensions) == pytest.approx(1 / 6)
    assert flatness(1 / dimensions, dimensions) == pytest.approx(1)
    assert flatness(readings[:1], dimensions[:1]) == 0
    # Two dimensions are separated.
    assert flatness(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(0)


# What is kept.


def reading(readings: Sequence[float], dimensions: Sequence[float], given: float = 2.0) -> Checked:
    return Checked(np.array(dimensions), column(*readings), ["e"], {"e": given}, {})


def why(readings: Sequence[float], dimensions: Sequence[float], **settings: Any) -> str:
    return keep(CalibratedConfig(**{"tolerance": 1.0, **settings}), reading(readings, dimensions)).why.get("e", "")


def test_an_estimator_may_fail_on_a_fifth_of_the_surrogates() -> None:
    dimensions = [1.0, 2.0, 4.0, 8.0, 16.0] * 2
    one, two, three = ([math.nan] * n + dimensions[n:] for n in (1, 2, 3))
    assert why(one, dimensions) == why(two, dimensions) == ""
    assert why(three, dimensions) == "it gives no dimension on 30% of the surrogates"


@pytest.mark.parametrize(("share", "kept"), [(0.32, True), (0.28, False)])
def test_a_reading_explains_three_tenths_of_the_dimensions(share: float, kept: bool) -> None:
    """Two readings, and log dimensions 0 and 1 behind both: a share w of the second reading is 1, and of the first 0.
    Every dimension counts once, so the curve goes from 1 - w to w, and explains (2 w - 1)^2."""
    w = 0.5 + share**0.5 / 2
    count = 1000
    many, few = round(w * count), round((1 - w) * count)
    dimensions = [1.0] * (many + few) + [math.e] * (many + few)
    readings = [1.0] * many + [2.0] * few + [1.0] * few + [2.0] * many
    assert flatness(np.array(readings), np.array(dimensions)) == pytest.approx(1 - share, abs=2e-3)
    said = answers._unfit(np.array(readings), np.array(dimensions))
    assert said == ("" if kept else "its readings hardly change with the dimension of the surrogates")


@pytest.mark.parametrize(("slope", "said"), [(0.21, ""), (0.19, "by 14% at twice"), (0.0, "hardly")])
def test_a_reading_rises_by_a_fifth_of_the_dimension(slope: float, said: str) -> None:
    dimensions = np.array([1.0, 2.0, 4.0, 8.0])
    found = answers._unfit(dimensions**slope, dimensions)
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(("factor", "kept"), [(1.79, True), (1.81, False)])
def test_an_estimator_may_err_by_twice_the_tolerance(factor: float, kept: bool) -> None:
    """Pairs of surrogates with one reading whose dimensions differ by a factor: the error is its logarithm."""
    dimensions = [2.0, 2 * factor, 32.0, 32 * factor]
    checked = reading([1.0, 1.0, 9.0, 9.0], dimensions)
    found = keep(CalibratedConfig(tolerance=0.4), checked)
    assert found.curves["e"].error == pytest.approx(math.log(factor))
    assert found.names == (["e"] if kept else [])
    assert found.why.get("e") == (None if kept else "its readings scatter too much")
    row = calibrated_answer(CalibratedConfig(tolerance=0.4), checked, ["e"], 100.0).diagnostics["table"][0]
    assert row["error"] == pytest.approx(factor - 1)
    assert row["used"] == kept


# The value and its interval.


def settled(
    monkeypatch: pytest.MonkeyPatch,
    corrected: Sequence[float],
    together: float,
    *,
    errors: Sequence[float] = (),
    error: float = 0.1,
    weights: Sequence[float] = (1.0,) * 5,
    distance: float = 0.0,
    largest: float = 1000.0,
    **settings: Any,
) -> Estimate:
    """The answer for curves that are corrected to these values, with these errors, and all together."""
    curves = tuple(map(Curve, corrected, errors or [0.1] * len(corrected)))
    made = SurrogateCalibration(curves, Curve(together, error), np.array(weights), distance)
    monkeypatch.setattr(answers, "calibrate", lambda *given: made)
    names = [f"e{number}" for number in range(len(corrected))]
    dimensions = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    checked = Checked(dimensions, dimensions[:, None].repeat(len(names), 1), names, dict.fromkeys(names, 5.0), {})
    return calibrated_answer(CalibratedConfig(**settings), checked, names, largest)


def test_the_interval_is_students_for_the_surrogates_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its half width, of the logarithm, is t times the root of the error's square and the median disagreement's."""
    found = settled(monkeypatch, [9.0, 10.0, 12.0], 10.0)
    apart = math.log(10 / 9)  # of log(10/9), 0 and log(12/10), the median
    margin = 2.776445 * math.hypot(0.1, apart)  # 5 equal weights: 4 degrees of freedom
    assert found.value == pytest.approx(10)
    assert found.interval == pytest.approx((10 * math.exp(-margin), 10 * math.exp(margin)), rel=1e-6)
    assert found.diagnostics["together"] == pytest.approx({"corrected": 10, "error": math.exp(0.1) - 1, "distance": 0})
    weights = (1.0,) * 9 + (0.5,) * 6  # count as (9 + 3)^2 / (9 + 1.5)
    margin = float(t.ppf(0.75, 144 / 10.5 - 1)) * 0.1
    found = settled(monkeypatch, [10.0], 10.0, weights=weights, level=0.5)
    assert found.interval == pytest.approx((10 * math.exp(-margin), 10 * math.exp(margin)))
    # Fewer than three leave two degrees of freedom.
    found = settled(monkeypatch, [10.0], 10.0, weights=(1.0, 0.5))
    assert found.interval == pytest.approx((10 * math.exp(-0.4302653), 10 * math.exp(0.4302653)), rel=1e-6)


@pytest.mark.parametrize(
    ("corrected", "together", "largest", "value"),
    [
        ([9.0, 11.0], 10.0, 50.0, 10.0),
        ([9.0, 11.0], 8.0, 50.0, 9.0),
        ([9.0, 11.0], 12.0, 50.0, 11.0),
        ([9.0, 11.0], 10.0, 9.5, 9.5),
        ([0.98, 1.05], 0.97, 50.0, 1.0),
    ],
)
def test_the_value_lies_between_the_single_ones_one_and_the_columns(
    corrected: list[float], together: float, largest: float, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settled(monkeypatch, corrected, together, largest=largest)
    assert found.value == pytest.approx(value)
    assert found.interval is not None
    assert 1 <= found.interval[0] <= value <= found.interval[1] <= largest


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"distance": 2.49}, ""),
        ({"distance": 2.51}, "No surrogate of any dimension looks like these data"),
        ({"error": math.log(1.39)}, ""),
        ({"error": math.log(1.41)}, "Together they are off by 41% on surrogates like these data"),
        ({"corrected": [10.0, 13.4], "errors": [0.1, 0.1]}, ""),  # (0 + log 1.34 / 0.1) / 2 = 1.5
        ({"corrected": [10.0, 18.0], "errors": [0.1, 0.1]}, ""),  # 2.94
        ({"corrected": [10.0, 18.5], "errors": [0.1, 0.1]}, "still disagree by more than their errors, from 10 to 18"),
        ({"corrected": [10.0, 18.5], "errors": [0.1, 0.2]}, ""),
        ({"corrected": [10.0, 5.4], "errors": [0.1, 0.1]}, "still disagree by more than their errors, from 5.4 to 10"),
    ],
)
def test_no_value_is_given_beyond_the_limits(
    changed: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many surrogates and a low level: the interval is narrow whatever the error.
    given = {"corrected": [10.0], "together": 10.0, "weights": [1.0] * 400, "level": 0.5, **changed}
    found = settled(monkeypatch, **given)
    assert (found.value is None) == bool(said)
    assert said in found.headline


def margin_of(error: float) -> float:
    return float(t.ppf(0.975, 399)) * error


@pytest.mark.parametrize(("ends", "kept"), [(3.9, True), (4.1, False)])
def test_an_interval_is_an_answer_up_to_four_times_its_lower_end(
    ends: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = math.log(ends) / 2 / margin_of(1.0)
    found = settled(monkeypatch, [50.0], 50.0, weights=[1.0] * 400, error=error, tolerance=1.0)
    assert (found.value is not None) == kept
    assert kept or "which is too wide for an answer" in found.headline
    if found.interval is not None:
        assert found.interval[1] / found.interval[0] == pytest.approx(ends)


@pytest.mark.parametrize(
    ("largest", "share", "kept"),
    [
        (5.0, 0.74, True),
        (5.0, 0.76, False),
        (4.0, 0.76, False),
        (3.0, 0.76, True),
        (2.0, 0.94, True),
        (2.0, 0.96, False),
    ],
)
def test_an_interval_covers_three_quarters_of_four_columns_and_more_at_most(
    largest: float, share: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From ``low`` to the number of columns: an interval that the columns end."""
    low = largest - share * (largest - 1)
    error = math.log(largest / low) / margin_of(1.0)
    found = settled(monkeypatch, [largest], largest, weights=[1.0] * 400, error=error, tolerance=1.0, largest=largest)
    assert (found.value is not None) == kept
    assert kept or f"most of what {largest:.0f} columns allow" in found.headline


@pytest.mark.parametrize(("given", "said"), [(100, ""), (101, " of 101")])
def test_points_that_were_left_out_are_counted_beside_copies(given: int, said: str) -> None:
    """90 distinct points and 10 copies are all of 100 points, and not of 101."""
    facts = {"table": [{"used": True}, {"used": False}], "surrogates": 40}
    found = Estimate("intrinsic dimension", None, diagnostics=facts, headline="no dimension")
    text = _note(found, {"points": 90, "points given": given, "duplicates": 10})
    assert text.startswith(f"1 of 2 estimators kept, checked on 40 surrogates of 90 distinct points{said};")
