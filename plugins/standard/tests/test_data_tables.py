"""Tables with columns of any units: nothing is lost in float32, and what distorts distances is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from uneven_table import DIMENSION, write_uneven

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import Estimator, TensorSource
from scorefold.results import Estimate
from scorefold.stage import StageContext
from scorefold_neighbours.config import MLEConfig, PCAConfig, TwoNNConfig
from scorefold_neighbours.estimators.estimator import NeighbourEstimator
from scorefold_neighbours.estimators.pca import PCAEstimator
from scorefold_standard.data.array import ArrayFile
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.scaling import scale_of_points, statistics_of
from scorefold_toolkit.data.splits import rounding_warning
from scorefold_verbs.config import EstimateOptions
from scorefold_verbs.estimate import estimate as verb_estimate
from scorefold_verbs.load import load as verb_load

FIX = "scale: columns"


def source(path: Path, **fields: Any) -> ArrayFile:
    return ArrayFile(ArrayConfig.model_validate({"path": str(path), **fields}))


def estimated(estimator: Estimator, data: Any, split: str = "train") -> Estimate:
    found = verb_estimate(estimator, {"data": data}, EstimateOptions(), StageContext(stage="k", split=split))
    assert isinstance(found.value, Estimate)
    return found.value


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_uneven(tmp_path_factory.mktemp("tables") / "uneven.csv")


@pytest.mark.parametrize(
    "estimator", [NeighbourEstimator(MLEConfig()), NeighbourEstimator(TwoNNConfig()), PCAEstimator(PCAConfig())]
)
def test_columns_of_different_units_are_reported_first_and_scaled_to_the_right_answer(
    estimator: Estimator, uneven: Path
) -> None:
    raw = estimated(estimator, source(uneven))
    assert raw.value is None
    assert raw.interval is None
    first = raw.diagnostics["warnings"][0]
    assert FIX in first
    assert "0.001 (c0)" in first
    scaled = estimated(estimator, source(uneven, scale="columns"))
    assert scaled.value == pytest.approx(DIMENSION, abs=0.25)
    assert not any(FIX in text for text in scaled.diagnostics.get("warnings", []))


@pytest.mark.parametrize("scale", [None, "none", "table", "columns", "robust"])
def test_every_distinct_value_of_every_column_stays_distinct(scale: str | None, uneven: Path) -> None:
    data = source(uneven, scale=scale)
    x = data.load("train").x
    assert x.dtype == torch.float32
    assert min(len(column.unique()) for column in x.T) > 0.99 * len(x)
    raw = torch.from_numpy(pd.read_csv(uneven).to_numpy())[data.load("train").index]
    off = (data.event_scale.to_raw(x.double()) - raw) / raw.std(0)
    assert float(off.abs().max()) < (1e-4 if scale in (None, "none") else 1e-6)


def test_scales_are_what_they_say(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    raw = draws.standard_t(3, (400, 3)) * [1.0, 5.0, 2.0] + [10.0, 0.0, -4.0]
    np.save(tmp_path / "x.npy", raw)
    everything = {"path": tmp_path / "x.npy", "fractions": [1, 0, 0]}
    std, low, middle, high = raw.std(axis=0), *np.quantile(raw, [0.25, 0.5, 0.75], axis=0)
    expected = {
        "none": (0.0, 1.0),
        "table": (raw.mean(axis=0), np.sqrt(np.mean(std**2))),
        "columns": (raw.mean(axis=0), std),
        "robust": (middle, (high - low) / 1.349),
    }
    for scale, (shift, factor) in expected.items():
        found = source(**everything, scale=scale).event_scale
        np.testing.assert_allclose(found.shift, shift)
        np.testing.assert_allclose(found.factor, factor)
        unit = ((raw - shift) / factor).std(axis=0)
        assert found.std == pytest.approx(np.sqrt(np.mean(unit**2)))
        assert found.log_volume((3,)) == pytest.approx(np.log(np.broadcast_to(factor, 3)).sum())


def test_points_far_from_zero_keep_their_neighbours(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    points = 0.01 * torch.rand(2000, 3, generator=draws, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(6, 3, generator=draws, dtype=torch.float64)).Q
    far = points @ basis.mT + 1e5
    np.save(tmp_path / "far.npy", far.numpy())
    read = estimated(NeighbourEstimator(TwoNNConfig()), source(tmp_path / "far.npy"))
    assert read.value == pytest.approx(3, abs=0.3)
    assert "warnings" not in read.diagnostics
    single = TensorSource({"train": Dataset(far.float())})
    rounded = estimated(NeighbourEstimator(TwoNNConfig()), single)
    assert "lost in rounding" in rounded.diagnostics["warnings"][0]
    assert "float64" in rounded.diagnostics["warnings"][0]
    np.save(tmp_path / "single.npy", far.float().numpy())
    assert "float32 numbers" in source(tmp_path / "single.npy").data_warnings()[0]


def test_rounding_is_reported_only_where_it_matters() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(500, 4, generator=draws, dtype=torch.float64)
    assert rounding_warning((x + 1e7).float()) is not None
    assert rounding_warning((x + 1e7).float().double()) is not None
    assert rounding_warning(x + 1e15) is not None
    for fine in (x, x.float(), x + 1e7, (x + 10).float(), (256 * x).round() + 1e6, torch.full((9, 2), 1e6)):
        assert rounding_warning(fine) is None


@pytest.mark.parametrize(
    ("first", "below", "names"),
    [
        (["2020", "2021"], "1.25", ("2020", "2021")),
        (["0"], "1.25", None),  # a series may begin at 0
        (["5", "3"], "1.25", None),
        (["1", "0", "20"], "1.25", None),
        (["", "2020", "2021"], "1.25", ("2020", "2021")),
        (["2020", "2020"], "1.25", None),  # names differ
        (["2020", "2021"], "2022", None),  # a row of whole numbers
        (["2020.5", "2021.5"], "1.25", None),
        (["0", "1"], "7", None),  # perhaps a pair of nodes
        (["0", "1", "2", "3"], "7", ("0", "1", "2", "3")),
    ],
)
def test_a_first_line_of_whole_numbers_may_be_names(
    first: list[str], below: str, names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    cells = [below] * sum(map(bool, first))
    rows = [",".join([str(row), *cells] if first[0] == "" else cells) for row in range(30)]
    (tmp_path / "x.csv").write_text("\n".join([",".join(first), *rows]))
    summary = ArrayFile.inspect(ArrayConfig(path=tmp_path / "x.csv"))
    assert summary.rows == (31 if names is None else 30)
    if names is not None:
        assert tuple(column.name for column in summary.columns)[-len(names) :] == names


def test_values_that_differ_by_rounding_alone_are_not_merged(tmp_path: Path) -> None:
    """A sine of period 37.3 has 373 values up to rounding, and ten times as many in float64."""
    sine = np.sin(2 * np.pi * np.arange(3730.0) / 37.3)
    assert len(np.unique(sine)) > 3000
    np.save(tmp_path / "x.npy", np.stack([sine, np.arange(3730.0)], 1))
    assert len(source(tmp_path / "x.npy").load("train")) == 2984


def test_an_outlier_that_would_merge_a_column_is_refused_and_robust_reads_it(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).normal(size=(300, 2))
    raw[:, 1] *= 1e-3
    raw[7, 1] = 1e9
    np.save(tmp_path / "x.npy", raw)
    with pytest.raises(DataError, match="merge the 300 distinct values of column 'x1'") as refused:
        source(tmp_path / "x.npy", scale="columns", fractions=[1, 0, 0])
    assert "scale: robust" in str(refused.value)
    x = source(tmp_path / "x.npy", scale="robust", fractions=[1, 0, 0]).load("train").x
    assert len(x[:, 1].unique()) == 300


def test_whole_numbers_that_float64_would_merge_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(600, dtype=np.uint64).reshape(300, 2) + np.uint64(2**63))
    with pytest.raises(DataError, match="merge the 300 distinct values of column 'x0'"):
        source(tmp_path / "x.npy", scale="columns")


def test_columns_of_one_unit_or_with_bounds_are_not_reported(tmp_path: Path) -> None:
    even = np.random.default_rng(0).uniform(size=(200, 3)) * [1.0, 2.0, 8.0]
    np.save(tmp_path / "even.npy", even)
    assert source(tmp_path / "even.npy").data_warnings() == ()
    wide = even * [1.0, 1.0, 20.0]
    np.save(tmp_path / "wide.npy", wide)
    assert FIX in source(tmp_path / "wide.npy").data_warnings()[0]
    for said in ({"scale": "none"}, {"scale": "table"}, {"low": 0, "high": 200}):
        assert source(tmp_path / "wide.npy", **said).data_warnings() == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": "rows"}, "'none', 'table', 'columns' or 'robust'"),
        ({"scale": "columns", "low": 0}, "low and high bound all columns alike"),
        ({"scale": "robust", "event_shape": [1, 2, 2]}, "events have several axes"),
        ({"missing": "fill"}, "'refuse' or 'drop'"),
        ({"duplicates": "merge"}, "'keep' or 'drop'"),
        ({"standardise": "yes"}, "Extra inputs"),
    ],
)
def test_settings_of_tables_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ArrayConfig.model_validate({"path": "x.npy", **fields})


def test_images_have_one_unit(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(size=(40, 1, 2, 2)))
    with pytest.raises(ConfigError, match="events have the shape"):
        source(tmp_path / "x.npy", scale="columns")
    scale = source(tmp_path / "x.npy", scale="table").event_scale
    assert isinstance(scale.factor, float)
    assert scale.std == pytest.approx(1.0)


def test_rows_with_gaps_are_dropped_where_that_is_said(tmp_path: Path) -> None:
    rows = [f"{i},{i * i},{'ab'[i % 2]}" for i in range(30)]
    rows[3], rows[7], rows[11] = "3,,a", ",49,b", "11,121,"
    (tmp_path / "x.csv").write_text("\n".join(["a,b,kind", *rows]))
    with pytest.raises(DataError, match="in rows 3, 7 ") as refused:
        source(tmp_path / "x.csv", label="kind")
    assert "missing: drop" in str(refused.value)
    data = source(tmp_path / "x.csv", label="kind", missing="drop")
    parts = [data.load(split) for split in ("train", "validation", "test")]
    index = torch.cat([part.index for part in parts if part.index is not None])
    assert sorted(index.tolist()) == [i for i in range(30) if i not in (3, 7, 11)]
    for part in parts:
        assert torch.equal(part.x[:, 0], part.index.float())  # type: ignore[union-attr]
        assert torch.equal(part.label, part.index % 2)  # type: ignore[arg-type,operator]
    assert data.label_names == ("a", "b")
    summary = data.summary()
    assert (summary.rows, summary.incomplete) == (30, 3)
    assert [column.missing for column in summary.columns] == [1, 1, 1]
    (tmp_path / "gone.csv").write_text("a,b\n" + "1,\n" * 30)
    with pytest.raises(DataError, match=r"every row of .* has a missing value") as refused:
        source(tmp_path / "gone.csv", missing="drop")
    assert refused.value.hint == "columns: [-b], as this column is empty"


def test_a_table_without_a_complete_row_says_where_its_gaps_are(tmp_path: Path) -> None:
    rows = np.ones((30, 3))
    rows[:20, 1] = rows[20:, 2] = np.nan
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(DataError, match=r"every row of .* has a missing value") as refused:
        source(tmp_path / "x.npy", missing="drop")
    said = "fill the missing values in, or leave out columns with many of them, first x1, which lacks 20 of 30"
    assert refused.value.hint == said
    rows[:] = np.nan
    np.save(tmp_path / "x.npy", rows.reshape(30, 1, 3, 1))
    with pytest.raises(DataError, match=r"every row of .* has a missing value") as refused:
        source(tmp_path / "x.npy", missing="drop")
    assert refused.value.hint == "fill the missing values in"
    np.save(tmp_path / "x.npy", np.full((30, 3), 1e300))
    with pytest.raises(DataError) as refused:
        source(tmp_path / "x.npy", missing="drop")
    assert "values beyond 3.4e38 count as missing" in str(refused.value.hint)


def test_exact_copies_are_counted_across_splits_and_dropped(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).normal(size=(60, 3))
    raw[50:] = raw[:10]
    raw[0, 0] = 0.0
    raw[50, 0] = -0.0
    np.save(tmp_path / "x.npy", raw)
    data = source(tmp_path / "x.npy", fractions=[0.5, 0.0, 0.5], seed=0)
    where = {int(i): split for split in ("train", "test") for i in data.load(split).index}  # type: ignore[union-attr]
    across = sum(where[i] != where[50 + i] for i in range(10))
    summary = data.summary()
    assert 0 < across < 10
    assert (summary.copies, summary.shared) == (10, across)
    (warning,) = data.data_warnings()
    assert warning.startswith(f"10 rows are exact copies of others, {across} of them in another split")
    assert "duplicates: drop" in warning
    kept = source(tmp_path / "x.npy", fractions=[1, 0, 0], duplicates="drop")
    assert sorted(kept.load("train").index.tolist()) == list(range(50))  # type: ignore[union-attr]
    assert kept.data_warnings() == ()
    assert kept.summary().copies == 10


def test_equal_points_with_other_conditions_are_no_copies(tmp_path: Path) -> None:
    k, seen = np.arange(60) % 10, np.random.default_rng(0).normal(size=60)
    seen[50:] = seen[:10]
    pd.DataFrame({"k": k, "x": seen}).to_csv(tmp_path / "x.csv", index=False)
    np.savez(tmp_path / "x.npz", k=k[:, None], x=seen)
    for name in ("x.csv", "x.npz"):
        fields: dict[str, Any] = {"condition": ["x"], "fractions": [1, 0, 0]}
        assert source(tmp_path / name, **fields).summary().copies == 10
        kept = source(tmp_path / name, **fields, duplicates="drop")
        assert sorted(kept.load("train").index.tolist()) == list(range(50))  # type: ignore[union-attr]
    np.savez(tmp_path / "x.npz", k=k[:, None], x=seen.astype(str))
    with pytest.raises(DataError, match="condition"):
        source(tmp_path / "x.npz", condition=["x"], duplicates="drop")


def table(rows: int = 100) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": draws.permutation(rows) + 500,
            "a": draws.normal(size=rows) * 20,
            "b": draws.normal(size=rows) * 20,
            "sex": draws.integers(0, 2, rows) * 30,
            "c": draws.normal(size=rows) * 20,
        }
    )


def test_columns_are_taken_or_left_out(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "x.csv", index=False)
    taken = source(tmp_path / "x.csv", columns=["a", "c"])
    left = source(tmp_path / "x.csv", columns=["-id", "-b", "-sex"])
    assert torch.equal(taken.load("train").x, left.load("train").x)
    assert left.event_shape == (2,)
    with pytest.raises(ConfigError, match="takes 'a' and leaves 'id' out"):
        source(tmp_path / "x.csv", columns=["a", "-id"])
    with pytest.raises(DataError, match="no column 'ident'"):
        source(tmp_path / "x.csv", columns=["-ident"])
    table().rename(columns={"a": "-a"}).to_csv(tmp_path / "minus.csv", index=False)
    assert source(tmp_path / "minus.csv", columns=["-a", "b"]).event_shape == (2,)


def test_identifiers_and_codes_are_reported_with_the_line_that_fixes_them(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "x.csv", index=False)
    identifier, code = source(tmp_path / "x.csv").data_warnings()
    assert identifier.startswith("column id numbers the rows")
    assert "columns: [-id]" in identifier
    assert code.startswith("column sex holds few distinct values")
    assert "condition: [sex] makes it the condition, columns: [-sex]" in code
    assert source(tmp_path / "x.csv", columns=["-id", "-sex"]).data_warnings() == ()
    # Counts, and a table that is all codes, are neither.
    draws = np.random.default_rng(0)
    np.save(tmp_path / "counts.npy", draws.integers(0, 5000, (100, 3)))
    np.save(tmp_path / "levels.npy", draws.integers(0, 17, (100, 4)))
    assert source(tmp_path / "counts.npy").data_warnings() == ()
    assert source(tmp_path / "levels.npy", duplicates="drop").data_warnings() == ()


@pytest.mark.parametrize("step", [0.01, 900.0])
def test_times_are_reported_with_the_source_that_reads_them(tmp_path: Path, step: float) -> None:
    draws = np.random.default_rng(0)
    raw = np.column_stack([7 + step * np.arange(3000), draws.normal(size=(3000, 2))])
    pd.DataFrame(raw, columns=["when", "x", "y"]).astype(np.float32).to_csv(tmp_path / "x.csv", index=False)
    said = source(tmp_path / "x.csv", scale="columns").data_warnings()
    (found,) = [text for text in said if "data:series" in text]
    assert found.startswith("column when rises in equal steps from row to row")
    assert "columns: [-when]" in found
    # Sorted numbers, falling ones and few rows are no times.
    raw[:, 0] = np.sort(draws.normal(size=3000))
    others = {
        "sorted": raw,
        "falls": np.column_stack([-np.arange(3000.0) / 7, raw[:, 1]]),
    }
    others["few"] = np.column_stack([np.arange(19) / 7, raw[:19, 1]])
    for name, points in others.items():
        np.save(tmp_path / f"{name}.npy", points)
        assert "data:series" not in " ".join(source(tmp_path / f"{name}.npy", scale="columns").data_warnings())


def test_a_few_rows_that_set_the_spread_are_reported(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).normal(size=(300, 2))
    raw[3, 1] = 1e3
    np.save(tmp_path / "x.npy", raw)
    for scale in ("table", "columns"):
        (said,) = source(tmp_path / "x.npy", scale=scale).data_warnings()
        assert said.startswith("row 3 (rows count from 0) lies more than 100 quartile ranges out in column x1")
        assert said.endswith("scale: robust")
    (said,) = source(tmp_path / "x.npy", scale="robust").data_warnings()
    assert said.endswith("remove it from the data if it is wrong")


def test_a_split_that_nobody_reads_need_not_exist(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 3)))
    data = source(tmp_path / "x.npy", fractions=[1, 0, 0])
    loaded = verb_load(data, {}, None, StageContext(stage="data"))
    assert loaded.result["metrics"] == {"train points": 100}
    assert estimated(PCAEstimator(PCAConfig()), data).value == 3
    with pytest.raises(SplitError, match="the test split is empty") as refused:
        estimated(PCAEstimator(PCAConfig()), data, "test")
    assert "split: train" in str(refused.value)


def test_a_column_whose_quartiles_are_one_value_is_divided_by_its_deviation() -> None:
    """Of 0, 0, 0, 0 and 10 the median is 0 and the deviation 4."""
    found = statistics_of([np.array([[0.0], [0.0], [0.0], [0.0], [10.0]])], every=1)
    scale = scale_of_points(found, "robust", vectors=True)
    assert (scale.shift, scale.factor) == ((0.0,), (4.0,))
