"""The correlation time of a series, and neighbours in space that are neighbours in time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scorefold.data import Dataset
from scorefold_toolkit.data.series import close_in_time, correlation_time, following_rows, time_share


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_the_correlation_time_of_an_autoregression(share: float) -> None:
    """x_t = a x_{t-1} + e has the autocorrelation a^lag, which is below 1/e from lag -1 / ln a on."""
    noise = np.random.default_rng(0).normal(size=200_000)
    values = np.empty_like(noise)
    values[0] = noise[0]
    for row in range(1, len(noise)):
        values[row] = share * values[row - 1] + noise[row]
    assert correlation_time(values[:, None]) == pytest.approx(math.ceil(-1 / math.log(share)), rel=0.1)


def test_the_correlation_time_of_several_columns_and_of_extremes() -> None:
    time = np.arange(5000)
    waves = np.stack([np.cos(time / 4), np.cos(time / 40)], 1)
    fast, slow, both = (correlation_time(waves[:, columns]) for columns in ([0], [1], [0, 1]))
    assert (fast, slow) == (5, 48)
    assert fast < both < slow
    assert correlation_time(np.array([[1.0], [-1.0], [1.0]])) == 1
    assert correlation_time(waves * 1e6 + 1e9) == both


def test_the_ends_of_a_series_do_not_meet() -> None:
    """A line from -1/2 to 1/2 has the autocorrelation 1 - 3u + 2u^3 after a share u of its length."""
    u = np.arange(1000) / 1000
    assert correlation_time(np.arange(1000.0)[:, None]) == np.flatnonzero(1 - 3 * u + 2 * u**3 < 1 / math.e)[0]


def test_neighbours_by_hand() -> None:
    """Points on a line have their neighbours beside them; in random order two are close in time by chance only."""
    line = torch.arange(1000.0)[:, None]
    assert time_share(line, torch.arange(1000), 6)[0] > 0.95
    assert time_share(line, torch.arange(1000), 1) == (0, 0)
    assert time_share(line, 10 * torch.arange(1000), 10) == (0, 0)
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    near, chance = time_share(line[shuffled], torch.arange(1000), 6)
    assert near == pytest.approx(chance, abs=5 * math.sqrt(0.01 / 2000))
    assert chance == pytest.approx(10 / 999, abs=5e-4)
    assert time_share(line[:5], torch.arange(5), 100) == (0, 0)


def test_what_is_said_of_them() -> None:
    line = Dataset(torch.arange(1000.0)[:, None], index=torch.arange(1000))
    text = close_in_time(line, 20)
    assert "100% of the nearest neighbours start fewer than 20 rows apart" in text
    assert "stride: 20" in text
    assert close_in_time(Dataset(line.x, index=30 * torch.arange(1000)), 30) == ""
    assert close_in_time(Dataset(line.x), 30) == ""
    # Of independent points 19 % of the nearest neighbours are fewer than 101 rows apart, as of all pairs.
    noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert close_in_time(Dataset(noise, index=torch.arange(1000)), 101) == ""


def test_a_stride_is_recommended_only_where_it_leaves_enough_events() -> None:
    line = Dataset(torch.arange(1000.0)[:, None], index=torch.arange(1000))
    assert close_in_time(line, 21).endswith("still correlated: it is too short for any stride")
    # Ten rows repeat a point: every twentieth row, 50 of them, is independent of the others.
    repeated = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).repeat_interleave(10, 0)
    events = Dataset(repeated, index=torch.arange(1000))
    assert close_in_time(events, 60).endswith("still correlated: stride: 20 in the data's config keeps them apart")
    assert close_in_time(events.take(torch.arange(0, 1000, 20)), 60) == ""
    assert close_in_time(Dataset(repeated, index=3 * torch.arange(1000)), 180).count("stride: 60 in") == 1


def spread(n: int, d: int) -> torch.Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("points", "follows"),
    [
        ((spread(1000, 4) - 0.5).cumsum(0), True),
        (torch.linspace(0, 1, 200)[:, None], True),
        (spread(50, 8).repeat_interleave(5, 0) + 0.01 * spread(250, 8), True),
        (spread(1000, 4), False),
        (spread(1000, 2)[spread(1000, 2)[:, 0].argsort()], False),  # sorted by one of two columns
        (3 * spread(10, 8).repeat_interleave(100, 0) + spread(1000, 8), False),  # sorted by class
    ],
)
def test_rows_that_follow_each_other(points: torch.Tensor, follows: bool) -> None:
    rows = torch.arange(len(points))
    shuffled = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    assert bool(following_rows(Dataset(points, index=rows))) is follows
    assert bool(following_rows(Dataset(points[shuffled], index=rows[shuffled]))) is follows
    assert following_rows(Dataset(points[shuffled], index=rows)) == ""
    assert following_rows(Dataset(points)) == ""


def test_the_share_of_following_rows() -> None:
    """Each inner point of a line has both, each end has one: 1999 of 2000, up to the 200 rows that are looked at."""
    text = following_rows(Dataset(torch.arange(1000.0)[:, None], index=torch.arange(1000)))
    assert text.startswith("100% of the rows before and after a row")
