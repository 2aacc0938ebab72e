"""One estimate from several trainings."""

from __future__ import annotations

from typing import Any

import pytest

from scorefold.errors import ConfigError
from scorefold.results import Estimate
from scorefold_verbs.estimate import over_trainings


def estimates(*values: float | None, half: float | None = 0.49, **facts: Any) -> list[Estimate]:
    return [
        Estimate(
            "intrinsic dimension",
            value,
            None if value is None or half is None else (value - half, value + half),
            headline="" if value is not None else "2 to 9; no single dimension",
            covers="points",
            diagnostics=facts,
        )
        for value in values
    ]


def test_the_interval_of_the_sheet() -> None:
    """Chance in quadrature and the range over scales whole: 10.1, [8.16, 12.04] (Student's 4.303 at 2 degrees)."""
    found = over_trainings(estimates(10.2, 9.6, 10.5, over_scales=(9.4, 10.8)))
    assert found.value == pytest.approx(10.1)
    assert found.interval == pytest.approx((8.16, 12.04), abs=0.005)
    assert (found.covers, found.diagnostics["trainings"]) == ("", [10.2, 9.6, 10.5])
    assert found.diagnostics["note"] == "3 trainings give 10.2, 9.6, 10.5"
    assert found.interval_name() == "95% interval"


def test_without_a_range_the_interval_is_about_the_mean() -> None:
    low, high = over_trainings(estimates(10.2, 9.6, 10.5)).interval or (0, 0)
    assert (low + high) / 2 == pytest.approx(10.1)
    assert (high - low) / 2 == pytest.approx(1.239, abs=0.001)
    # A range that does not hold the mean is still reached from it.
    low, high = over_trainings(estimates(10.0, 10.0, 10.0, half=0.0, over_scales=(10.5, 11.0))).interval or (0, 0)
    assert (low, high) == (10.0, 11.0)


def test_all_coordinates_get_no_interval() -> None:
    """Where no training gives an interval over points, their agreement makes none."""
    assert over_trainings(estimates(10, 10, 10, half=None)).interval is None


def test_one_training_without_a_value_withholds_it() -> None:
    found = over_trainings(estimates(10.2, None, 10.5, warnings=["the score is coarse"]))
    assert found.value is None
    assert found.headline == "2 of 3 trainings give a value (1: 10.2; 2: 2 to 9; no single dimension; 3: 10.5)"
    assert found.diagnostics["warnings"] == ["the score is coarse"]


def test_what_is_no_set_of_trainings_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 trainings were given; expected 3 or more"):
        over_trainings(estimates(1.0, 2.0))
    other = Estimate("entropy", 1.0)
    with pytest.raises(ConfigError, match="entropy at 95%; expected one quantity"):
        over_trainings([*estimates(1.0, 2.0), other])
