"""Time series: events are the rows of the file, no row is in two splits, and every wrong input is named with a fix."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import TensorSource
from scorefold.interfaces.data import SPLITS
from scorefold_standard.config import SeriesConfig
from scorefold_standard.data.config import PairedConfig
from scorefold_standard.data.paired import Paired
from scorefold_standard.series.sources import SeriesFile
from scorefold_toolkit.data.series import HasTime

DATES = pd.date_range("2026-01-01", periods=200, freq="h").astype(str).tolist()


def waves(rows: int = 200) -> np.ndarray:
    time = np.arange(rows)
    return np.stack([np.sin(time / 5), 100 + 7 * np.cos(time / 9)], axis=1)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "waves.csv"
    pd.DataFrame(waves(), columns=["a", "b"]).assign(t=0.5 * np.arange(200)).to_csv(path, index=False)
    return path


def source(path: Path, **config: Any) -> SeriesFile:
    return SeriesFile(SeriesConfig(path=path, **config))


def events(series: SeriesFile, split: str = "train") -> tuple[torch.Tensor, list[int]]:
    """The events of a split in the units of the file, and their rows."""
    found = series.load(split)
    assert found.index is not None
    return series.event_scale.to_raw(found.x).double(), found.index.tolist()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npy", "npz"])
def test_windows_are_the_rows_of_the_file(suffix: str, tmp_path: Path) -> None:
    path, frame = tmp_path / f"waves.{suffix}", pd.DataFrame(waves(), columns=["a", "b"])
    match suffix:
        case "csv" | "tsv":
            frame.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
        case "parquet":
            frame.to_parquet(path)
        case "npy":
            np.save(path, waves())
        case _:
            np.savez(path, waves=waves())
    series = source(path, window=12, stride=3)
    assert series.event_shape == (2, 12)
    assert series.rows == range(200)
    for split in SPLITS:
        x, rows = events(series, split)
        assert len(x) > 1
        for event, row in zip(x, rows, strict=True):
            np.testing.assert_allclose(event, waves()[row : row + 12].T, atol=1e-5)


def test_a_plain_array_is_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "wave.npy", waves()[:, 0])
    assert source(tmp_path / "wave.npy", window=16).event_shape == (1, 16)
    assert source(tmp_path / "wave.npy", dimension=3, delay=2).event_shape == (3,)


def test_delay_vectors(table: Path) -> None:
    """Row r of two columns is a[r], a[r + 4], a[r + 8], b[r], b[r + 4], b[r + 8]."""
    series = source(table, time="t", dimension=3, delay=4)
    x, rows = events(series)
    expected = np.stack([waves()[np.array(rows) + shift, column] for column in (0, 1) for shift in (0, 4, 8)], axis=1)
    np.testing.assert_allclose(x, expected, atol=1e-5)
    assert rows == list(range(152))


def test_the_delay_is_the_correlation_time_unless_given(tmp_path: Path) -> None:
    """The autocorrelation of a cosine is cos(lag / 5), below 1/e from lag 5 arccos(1/e) = 5.97 on."""
    np.save(tmp_path / "wave.npy", waves(3000)[:, 0])
    series = source(tmp_path / "wave.npy", dimension=2)
    assert series.delay == series.correlation == 6


def test_rows_without_windows_are_points(table: Path) -> None:
    x, rows = events(source(table, time="t", columns=["b"]))
    np.testing.assert_allclose(x[:, 0], waves()[rows, 1], atol=1e-5)


@pytest.mark.parametrize("cut", [{"window": 12}, {"dimension": 3, "delay": 5}, {}])
@pytest.mark.parametrize("stride", [1, 7])
def test_no_row_is_in_two_splits(table: Path, cut: dict[str, int], stride: int) -> None:
    series = source(table, time="t", stride=stride, fractions=(0.6, 0.2, 0.2), **cut)
    used = []
    for split in SPLITS:
        rows = series.load(split).index
        assert rows is not None
        assert rows.diff().unique().tolist() == [stride]
        used.append({row + step for row in rows.tolist() for step in range(series.span)})
    assert max(used[0]) < min(used[1])
    assert max(used[1]) < min(used[2]) <= max(used[2]) < 200


def test_each_column_has_its_unit_which_is_that_of_the_training_block(table: Path) -> None:
    training = {"time": "t", "window": 200, "fractions": (1.0, 0.0, 0.0)}
    x = source(table, **training).load("train").x
    torch.testing.assert_close(x[0].mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[0].std(1, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    np.testing.assert_allclose(source(table, **training, scale="none").load("train").x[0], waves().T, rtol=1e-5)
    half = source(table, time="t", window=20, fractions=(0.5, 0.0, 0.5)).event_scale
    assert isinstance(half.shift, tuple)
    assert half.shift[0] == half.shift[19] == pytest.approx(waves()[:100, 0].mean())
    assert half.shift[20] == half.shift[39] == pytest.approx(waves()[:100, 1].mean())


def test_events_share_the_memory_of_the_series(tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", np.random.default_rng(0).normal(size=40_000))
    x = source(tmp_path / "long.npy", window=1000).load("train").x
    assert x.shape == (31_001, 1, 1000)
    assert x.untyped_storage().nbytes() < 2 * 40_000 * 4


def test_times_name_rows(table: Path, tmp_path: Path) -> None:
    series = source(table, time="t", window=12)
    assert series.event_shape == (2, 12)
    assert series.rows is not None
    assert list(series.rows[:3]) == ["0.0", "0.5", "1.0"]
    dates = pd.date_range("2026-01-01", periods=200, freq="h").astype(str)
    pd.DataFrame({"when": dates, "a": waves()[:, 0]}).to_csv(tmp_path / "dates.csv", index=False)
    assert source(tmp_path / "dates.csv", time="when", window=12).rows[1] == "2026-01-01 01:00:00"  # type: ignore[index]


def test_events_without_gaps_are_kept(tmp_path: Path) -> None:
    values = waves()[:, 0]
    values[50] = np.nan
    np.save(tmp_path / "gap.npy", values)
    with pytest.raises(DataError, match=r"NaN.* row 50") as found:
        source(tmp_path / "gap.npy", window=10)
    assert "missing: drop" in str(found.value.hint)
    series = source(tmp_path / "gap.npy", window=10, missing="drop")
    _, rows = events(series)
    assert set(range(151)) - set(rows) == set(range(41, 51))
    assert any("1 missing rows or steps" in text for text in series.data_warnings())
    # Delay vectors read every fourth row, so only three of them read row 50.
    _, rows = events(source(tmp_path / "gap.npy", dimension=3, delay=4, missing="drop"))
    assert set(range(152)) - set(rows) == {42, 46, 50}


def test_events_do_not_bridge_missing_times(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table).drop(index=[60, 61])
    frame.to_csv(tmp_path / "cut.csv", index=False)
    with pytest.raises(DataError, match=r"uneven steps: 1 of 197.* row 59 at 29.5 to row 60 at 31.0") as found:
        source(tmp_path / "cut.csv", time="t", window=10)
    assert "missing: drop" in str(found.value.hint)
    _, rows = events(source(tmp_path / "cut.csv", time="t", window=10, missing="drop"))
    assert set(range(149)) - set(rows) == set(range(51, 60))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.repeat(np.arange(100), 2), "do not rise: row 0 is at 0, row 1 at 0"),
        (np.arange(200)[::-1], "do not rise"),
        (["noon"] * 200, "row 0 of .* has 'noon' as its time; expected numbers or dates"),
        ([*range(7), "", *range(8, 200)], "row 7 of .* has '' as its time"),
        ([*range(7), "2026-11-30", *range(8, 200)], "row 7 of .* has '2026-11-30' as its time"),
        ([*range(1900, 1907), "", *range(1908, 2100)], "row 7 of .* has '' as its time"),
        ([*DATES[:7], "", *DATES[8:]], "row 7 of .* has '' as its time"),
        ([*DATES[:7], "7", *DATES[8:]], "row 7 of .* has '7' as its time"),
    ],
)
def test_wrong_times_are_refused(table: Path, tmp_path: Path, column: Any, message: str) -> None:
    pd.read_csv(table).assign(t=column).to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(DataError, match=message) as found:
        source(tmp_path / "wrong.csv", time="t", window=10)
    assert found.value.hint


@pytest.mark.parametrize(
    ("config", "message", "fix"),
    [
        ({"window": 300}, "train gets 160 of them: less than a window of 300 rows", "smaller window"),
        (
            {"window": 300, "fractions": (0.0, 0.0, 1.0)},
            "test gets 200 of them: less than a window of 300",
            "longer series",
        ),
        ({"window": 30}, "validation gets 20 of them: less than a window of 30 rows", "larger share for validation"),
        ({"dimension": 9, "delay": 30}, "less than a delay vector over 241 rows", "smaller dimension or delay"),
        ({"columns": ["c"]}, "no column 'c'; it has a, b, t", ""),
        ({"time": "when"}, "no column 'when'", ""),
        ({"time": None}, "column 't' of .* rises by 0.5 in every row", "time: t names the rows"),
        ({"key": "x"}, "'key' means nothing for a .csv file", "remove 'key'"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(table: Path, config: dict[str, Any], message: str, fix: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as found:
        source(table, **{"time": "t", **config})
    assert fix in str(found.value.hint or "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"window": 1}, "greater than or equal to 2"),
        ({"stride": 0}, "greater than or equal to 1"),
        ({"dimension": 1}, "greater than or equal to 2"),
        ({"dimension": 3, "delay": 0}, "greater than or equal to 1"),
        ({"delay": 3}, "set dimension, such as dimension: 3"),
        ({"window": 8, "dimension": 3}, "leave one of them out"),
        ({"scale": "table"}, "'columns' or 'none'"),
        ({"fractions": (0.5, 0.1, 0.1)}, "sum to 1"),
        ({"missing": "fill"}, "'refuse' or 'drop'"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SeriesConfig(path=Path("waves.csv"), **config)


def test_columns_of_times_are_named_with_the_fix(table: Path, tmp_path: Path) -> None:
    """Times with gaps and times that are dates, where ``time`` is not set."""
    rows, path = pd.read_csv(table), tmp_path / "other.csv"
    rows.assign(t=rows["t"].round(3) + 0.01 * (rows.index % 2)).drop(index=range(50, 60)).to_csv(path, index=False)
    said = source(path, time=None, window=8, missing="drop").data_warnings()[0]
    assert re.fullmatch(
        r"column 't' rises by 0\.\d+ in nearly every row, as times with gaps do: "
        r"time: t names the rows by it; columns: \[-t\] leaves it out",
        said,
    )
    rows.assign(t=DATES).to_csv(path, index=False)
    with pytest.raises(DataError, match="isn't numeric") as found:
        source(path, time=None, window=8)
    assert found.value.hint == "time: t, where it holds the times of the rows; else leave it out with columns: [-t]"
    rows.assign(t=rows["t"].cumsum()).to_csv(path, index=False)
    assert source(path, time=None, window=8).event_shape == (3, 8)


def test_columns_that_hold_no_signal_are_refused(table: Path, tmp_path: Path) -> None:
    pd.read_csv(table).assign(c=3).to_csv(tmp_path / "constant.csv", index=False)
    with pytest.raises(DataError, match=r"column 'c' of .* is 3 in every training row") as found:
        source(tmp_path / "constant.csv", time="t", window=10)
    assert found.value.hint == "leave it out with columns: [-c]"
    pd.read_csv(table).assign(c=["up", "down"] * 100).to_csv(tmp_path / "text.csv", index=False)
    with pytest.raises(DataError, match=r"'c' of .* isn't numeric") as found:
        source(tmp_path / "text.csv", time="t", window=10)
    assert found.value.hint == "leave it out with columns: [-c]"
    np.save(tmp_path / "images.npy", np.ones((9, 4, 4)))
    with pytest.raises(DataError, match=r"expected a series \(T,\) or \(T, C\)"):
        source(tmp_path / "images.npy", window=4)
    np.save(tmp_path / "number.npy", np.array(3.0))
    with pytest.raises(DataError, match=r"array of shape \(\); expected a series \(T,\) or \(T, C\)"):
        source(tmp_path / "number.npy", window=4)
    np.save(tmp_path / "short.npy", np.array([1.0]))
    with pytest.raises(DataError, match="1 usable rows"):
        source(tmp_path / "short.npy")
    np.save(tmp_path / "empty.npy", np.full(50, np.nan))
    with pytest.raises(DataError, match=r"every row .* has a missing value"):
        source(tmp_path / "empty.npy", window=4, missing="drop")


@pytest.mark.parametrize(
    "values",
    [
        0.1 + np.array([0.0, 1e-17, 1.4e-17] * 60),
        np.float32(0.1) + np.spacing(np.float32(0.1)) * np.array([0, 1] * 90, dtype=np.float32),
        np.float32([1 / 3, np.nextafter(np.float32(1 / 3), np.float32(1)), 0.3333334] * 60),
    ],
)
def test_a_column_of_rounding_noise_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "noise.npy", values)
    assert len(np.unique(values)) > 1
    with pytest.raises(DataError, match=r"column .* of .* is 0\.\d+ in every training row, up to rounding; expected"):
        source(tmp_path / "noise.npy", window=10)


def test_a_small_signal_far_from_0_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "far.npy", 1e6 + waves()[:, 0])
    np.save(tmp_path / "far32.npy", (1e3 + waves()[:, 0]).astype(np.float32))
    np.save(tmp_path / "counts.npy", 10_000_000 + np.arange(200) // 7 % 2)
    for name in ("far", "far32", "counts"):
        assert float(source(tmp_path / f"{name}.npy", window=10).load("train").x.std()) == pytest.approx(1, abs=0.1)


def test_a_split_without_a_share_is_empty(table: Path) -> None:
    series = source(table, time="t", window=10, fractions=(1.0, 0.0, 0.0))
    assert len(series.load("train")) == 191
    with pytest.raises(SplitError, match="gives it no share"):
        series.load("test")


def test_a_series_that_changes_is_reported(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    np.save(tmp_path / "still.npy", values)
    assert source(tmp_path / "still.npy", window=4).data_warnings() == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert source(tmp_path / "still.npy", stride=1000).data_warnings() == ()  # of one event
    values[900:] += 3
    np.save(tmp_path / "moved.npy", values)
    found = source(tmp_path / "moved.npy", window=4).data_warnings()
    assert any(re.search(r"test block differs from the training block: its mean by (2\.[5-9]|3)", one) for one in found)
    values[900:] = 5 * (values[900:] - 3)
    np.save(tmp_path / "wider.npy", values)
    found = source(tmp_path / "wider.npy").data_warnings()
    assert any(re.search(r"its deviation (4\.|5)\S*-fold", one) for one in found)


def test_neighbours_in_time_are_reported_with_a_stride_that_leaves_events(tmp_path: Path) -> None:
    """A slow curve that never returns: all neighbours are neighbours in time. With a stride none is."""
    time = np.arange(4000)
    walk = np.random.default_rng(0).normal(size=(4000, 3)).cumsum(0)
    np.save(tmp_path / "walk.npy", walk - 0.999 * np.outer(time / 4000, walk[-1]))
    assert "it is too short for any stride" in _about_neighbours(tmp_path / "walk.npy")
    turns = np.random.default_rng(0).normal(size=(400, 3)).repeat(10, 0)
    np.save(tmp_path / "turns.npy", turns + 0.01 * np.random.default_rng(1).normal(size=(4000, 3)))
    rows = source(tmp_path / "turns.npy").correlation
    assert f"stride: {rows} in the data's config" in _about_neighbours(tmp_path / "turns.npy")
    assert _about_neighbours(tmp_path / "turns.npy", stride=rows) == ""


def _about_neighbours(path: Path, stride: int = 1) -> str:
    texts = source(path, fractions=(1.0, 0.0, 0.0), stride=stride).data_warnings()
    return "".join(text for text in texts if "nearest neighbours" in text)


def test_pairs_of_a_series_have_its_correlation(table: Path) -> None:
    series = source(table, time="t", window=16)
    pairs = Paired(PairedConfig.model_validate({"operator": "mask"}), data=series)
    assert isinstance(pairs, HasTime)
    assert pairs.correlation == series.correlation > 1
    plain = Paired(PairedConfig.model_validate({"operator": "mask"}), data=TensorSource(torch.zeros(2, 1, 16)))
    assert not isinstance(plain, HasTime)


def test_the_fingerprint_is_that_of_the_file(table: Path) -> None:
    first = source(table, time="t", window=10).fingerprint()
    table.write_text(table.read_text().replace("100", "101"))
    assert source(table, time="t", window=10).fingerprint() != first
