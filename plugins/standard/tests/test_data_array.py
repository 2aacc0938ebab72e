"""Files of numbers: every format reads back, and every bad file says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scorefold.data import StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold_standard.config import SeriesConfig
from scorefold_standard.data.array import ArrayFile
from scorefold_standard.data.array_stores import _block_rows
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.series.sources import SeriesFile
from scorefold_toolkit.data.splits import moments

SPLITS = ("train", "validation", "test")


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).normal(5.0, 2.0, (40, 3))


def everything(source: ArrayFile) -> torch.Tensor:
    """All points in the order of the file."""
    parts = [next(source.load(split).batches(1000)) for split in SPLITS]
    index = torch.cat([part.index for part in parts])  # type: ignore[misc]
    return torch.cat([part.x for part in parts])[index.argsort()]


@pytest.mark.parametrize("name", ["points.npy", "points.npz", "points.csv", "bare.csv", "points.parquet"])
def test_formats_read_back(name: str, points: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / name
    frame = pd.DataFrame(points, columns=["a", "b", "c"])
    match name:
        case "points.npy":
            np.save(path, points)
        case "points.npz":
            np.savez(path, x=points)
        case "points.csv":
            frame.to_csv(path, index=False)
        case "bare.csv":
            frame.to_csv(path, index=False, header=False)
        case _:
            frame.to_parquet(path)
    source = ArrayFile(ArrayConfig(path=str(path)))
    torch.testing.assert_close(everything(source), torch.from_numpy(points).float())
    assert [len(source.load(split)) for split in SPLITS] == [32, 4, 4]
    train = source.load("train").x.double()
    assert source.event_scale.mean == pytest.approx(float(train.mean()))
    assert source.event_scale.std == pytest.approx(moments(train, bounded=False)[1])


def test_fingerprint_follows_the_content_not_the_time(points: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, points)
    before = ArrayFile(ArrayConfig(path=str(path))).fingerprint()
    path.touch()
    assert ArrayFile(ArrayConfig(path=str(path))).fingerprint() == before
    points[0, 0] += 1
    np.save(path, points)
    assert ArrayFile(ArrayConfig(path=str(path))).fingerprint() != before


def test_points_are_scaled_a_part_at_a_time(
    points: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, points)
    whole = ArrayFile(ArrayConfig(path=str(path), scale="columns"))
    monkeypatch.setattr("scorefold_standard.data.array._FETCHED_NUMBERS", 20)
    parts = ArrayFile(ArrayConfig(path=str(path), scale="columns"))
    for split in ("train", "validation", "test"):
        assert torch.equal(parts.load(split).x, whole.load(split).x)
        assert torch.equal(parts.load(split).index, whole.load(split).index)  # type: ignore[arg-type]


def test_large_files_are_streamed_to_the_same_points(points: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, points.reshape(40, 3, 1).astype(np.float32))
    held = ArrayFile(ArrayConfig(path=str(path), scale="table"))
    streamed = ArrayFile(ArrayConfig(path=str(path), scale="table", memory=0.0))
    assert isinstance(streamed.load("train"), StreamedDataset)
    assert streamed.event_scale == held.event_scale
    torch.testing.assert_close(everything(streamed), everything(held))
    batches = list(streamed.load("train").batches(10, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [10, 10, 10, 2]
    index = torch.cat([batch.index for batch in batches])  # type: ignore[misc]
    held_x = dict(zip(held.load("train").index.tolist(), held.load("train").x, strict=True))  # type: ignore[union-attr]
    assert all(torch.equal(held_x[int(i)], x) for i, x in zip(index, torch.cat([b.x for b in batches]), strict=True))


def test_bounded_data_have_one_shift_and_one_factor_which_invert(points: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, points)
    source = ArrayFile(ArrayConfig(path=str(path), scale="table", low=-20.0, high=30.0))
    x = source.load("train").x.double()
    assert moments(x) == pytest.approx((0, 1), abs=1e-6)
    scale = source.event_scale
    torch.testing.assert_close(scale.to_raw(everything(source)), torch.from_numpy(points).float(), atol=1e-5, rtol=1e-5)
    assert scale.low is not None
    assert scale.low * scale.factor + scale.shift == pytest.approx(-20)


def test_scale_of_points_far_from_zero_keeps_its_digits(tmp_path: Path) -> None:
    far = 1e8 + np.random.default_rng(0).normal(0.0, 1.0, (200, 2))
    np.save(tmp_path / "far.npy", far)
    source = ArrayFile(ArrayConfig(path=str(tmp_path / "far.npy"), scale="table"))
    assert source.event_scale.factor == pytest.approx(1.0, abs=0.1)
    assert float(source.load("train").x.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_gaps_of_conditions_are_named_and_dropped(tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["t", "x", "y"])
    table.loc[[3, 7, 8, 9, 20, 21], "y"] = np.nan
    table.loc[8, "y"] = np.inf
    table.to_csv(tmp_path / "x.csv", index=False)
    config = ArrayConfig(path=str(tmp_path / "x.csv"), condition=("x", "y"), fractions=(1.0, 0.0, 0.0))
    with pytest.raises(DataError, match=r"the condition y in .* in rows 3, 7, 8, 9, 20 and 1 more") as caught:
        ArrayFile(config)
    assert str(caught.value.hint).startswith("missing: drop")
    assert len(ArrayFile(config.model_copy(update={"missing": "drop"})).load("train")) == 34
    np.savez(tmp_path / "x.npz", t=table[["t"]], y=table["y"])
    with pytest.raises(DataError, match=r"the condition y in .* in rows 3, 7"):
        ArrayFile(config.model_copy(update={"path": tmp_path / "x.npz", "condition": ("y",)}))


def test_labels_and_conditions(points: np.ndarray, tmp_path: Path) -> None:
    frame = pd.DataFrame(points, columns=["a", "b", "c"]).assign(kind=["dog", "cat"] * 20)
    frame.to_csv(tmp_path / "x.csv", index=False)
    config = ArrayConfig(path=str(tmp_path / "x.csv"), label="kind", condition=("c",))
    source = ArrayFile(config)
    train = source.load("train")
    assert source.event_shape == (2,)
    assert source.condition_spec == TensorSpec((1,))
    assert isinstance(train.condition, torch.Tensor)
    assert train.index is not None
    torch.testing.assert_close(train.condition[:, 0], torch.from_numpy(points[:, 2]).float()[train.index])
    assert train.label is not None
    assert torch.equal(train.label, 1 - train.index % 2)  # cat is 0, dog 1; even rows are dogs

    np.savez(tmp_path / "x.npz", images=points, y=np.arange(40) % 3, angle=points[:, 0])
    source = ArrayFile(ArrayConfig(path=str(tmp_path / "x.npz"), label="y", condition=("angle",)))
    train = source.load("train")
    assert train.label is not None
    assert train.index is not None
    assert torch.equal(train.label, train.index % 3)
    assert source.condition_spec == TensorSpec((1,))


def test_rows_take_an_event_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(240, dtype=np.uint8).reshape(20, 12))
    config = ArrayConfig(path=str(tmp_path / "x.npy"), event_shape=(1, 3, 4), low=0, high=255, levels=256)
    source = ArrayFile(config)
    assert source.event_shape == (1, 3, 4)
    assert (source.event_scale.low, source.event_scale.high, source.event_scale.levels) == (0, 255, 256)
    assert torch.equal(everything(source).flatten(), torch.arange(240.0))


def write(path: Path, value: object) -> None:
    np.save(path, np.asarray(value), allow_pickle=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([{"a": 1}, None], dtype=object), "Python objects in dtype"),
        (np.arange(5.0), r"shape \(5,\); expected \(N, \.\.\.\)"),
        (np.zeros((0, 3)), "has no points"),
        (np.zeros((2, 3)), "2 points can't be split"),
        (np.zeros((20, 3), dtype=complex), "type complex128; expected real numbers"),
        (np.array([["a", "b"]] * 20), "expected real numbers"),
    ],
)
def test_bad_arrays_say_what_is_wrong(value: np.ndarray, message: str, tmp_path: Path) -> None:
    write(tmp_path / "x.npy", value)
    with pytest.raises(DataError, match=message):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy")))


def test_rows_that_are_not_finite_are_named(points: np.ndarray, tmp_path: Path) -> None:
    points[[3, 17], 1] = np.nan, np.inf
    np.save(tmp_path / "x.npy", points)
    with pytest.raises(DataError, match=r"rows 3, 17 \(rows count from 0\)"):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy")))
    points[:9] = np.nan
    np.save(tmp_path / "x.npy", points)
    with pytest.raises(DataError, match="rows 0, 1, 2, 3, 4 and 5 more"):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy")))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,\n" + "5,6\n" * 9)
    with pytest.raises(DataError, match="row 1 "):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.csv")))


def test_nullable_columns_with_a_gap_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2, None, *range(10)], dtype="Int64"), "b": [True, False] * 6 + [True]})
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 2 "):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.parquet")))
    frame.drop(index=2).to_parquet(tmp_path / "y.parquet", index=False)
    assert everything(ArrayFile(ArrayConfig(path=str(tmp_path / "y.parquet"))))[0].tolist() == [1.0, 1.0]


def test_bad_files_and_options_say_what_is_wrong(points: np.ndarray, tmp_path: Path) -> None:
    def refuse(error: type[Exception], message: str, **fields: object) -> None:
        with pytest.raises(error, match=message):
            ArrayFile(ArrayConfig.model_validate(fields))

    np.savez(tmp_path / "x.npz", a=points, b=points)
    np.save(tmp_path / "x.npy", points)
    (tmp_path / "broken.npy").write_bytes(b"not numpy")
    (tmp_path / "short.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    (tmp_path / "x.mat").touch()
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "words.csv").write_text("a,b\n" + "1,cat\n" * 10)
    here = str(tmp_path)
    refuse(DataError, "does not exist", path=f"{here}/none.npy")
    refuse(DataError, "is a folder", path=_made(tmp_path / "folder.npy"))
    refuse(DataError, r"(?s)ends with '.mat'.*scipy.io.loadmat\('x.mat'\)", path=f"{here}/x.mat")
    (tmp_path / "x.xlsx").touch()
    refuse(DataError, r"(?s)ends with '.xlsx'.*pandas.read_excel\('x.xlsx'\)", path=f"{here}/x.xlsx")
    refuse(DataError, "can't be read as numbers", path=f"{here}/broken.npy")
    refuse(DataError, "can't be read as numbers", path=f"{here}/short.npy")
    refuse(DataError, "can't be read as a table", path=f"{here}/broken.parquet")
    refuse(DataError, "can't be read as a table", path=f"{here}/empty.csv")
    refuse(DataError, "holds the arrays a, b; say which", path=f"{here}/x.npz")
    refuse(DataError, "has no array 'c'; it has a, b", path=f"{here}/x.npz", key="c")
    refuse(DataError, "column 'b' .* isn't numeric: it holds \\['cat'\\]", path=f"{here}/words.csv")
    refuse(DataError, "has no column 'z'; it has a, b", path=f"{here}/words.csv", columns=["z"])
    refuse(ConfigError, "'key' means nothing for a .npy file", path=f"{here}/x.npy", key="a")
    refuse(ConfigError, "event_shape .* has 4 coordinates", path=f"{here}/x.npy", event_shape=[2, 2])
    refuse(DataError, "low and high say", path=f"{here}/x.npy", low=0, high=1)
    np.savez(tmp_path / "uneven.npz", x=points, y=np.arange(3))
    refuse(DataError, r"label in .* has shape \(3,\); there are 40 points", path=f"{here}/uneven.npz", label="y")
    (tmp_path / "unlabelled.csv").write_text("a,b\n1,x\n2,\n" + "3,y\n" * 9)
    refuse(DataError, "row 1 has no label", path=f"{here}/unlabelled.csv", label="b")
    with pytest.raises(ValueError, match="low must be below high"):
        ArrayConfig(path="x.npy", low=1, high=0)
    with pytest.raises(ValueError, match="levels needs low and high"):
        ArrayConfig(path="x.npy", levels=2)


def test_files_of_another_format_than_their_suffix_or_damaged_are_said(points: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", points)
    np.savez(tmp_path / "archive.npz", x=points)
    whole = (tmp_path / "archive.npz").read_bytes()
    files = {
        "archive.npy": whole,
        "array.npz": (tmp_path / "array.npy").read_bytes(),
        "half.npz": whole[: len(whole) // 2],
        "rotten.npz": whole[:300] + bytes(80) + whole[380:],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"can't be read as numbers in numpy's \{name[-4:]} format"):
            ArrayFile(ArrayConfig(path=str(tmp_path / name)))
    # Of a header that is no literal, numpy's own message shows an object of Python's parser.
    array = (tmp_path / "array.npy").read_bytes()
    (tmp_path / "header.npy").write_bytes(array.replace(b"False", b"f(a,)"))
    with pytest.raises(DataError, match=r"format: malformed node or string[^<]*$"):
        ArrayFile(ArrayConfig(path=str(tmp_path / "header.npy")))


def test_numbers_that_single_precision_cannot_hold_are_refused(points: np.ndarray, tmp_path: Path) -> None:
    points[4] = 1e39
    np.save(tmp_path / "x.npy", points)
    with pytest.raises(DataError, match=r"numbers beyond 3\.4e\+38 in row 4 "):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy")))


@pytest.mark.parametrize("scale", [None, "none", "table", "columns", "robust"])
def test_points_that_do_not_vary_are_not_divided_by_zero(scale: str | None, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((40, 7), 0.1))
    source = ArrayFile(ArrayConfig.model_validate({"path": str(tmp_path / "x.npy"), "scale": scale}))
    assert source.event_scale.std == 1.0
    assert source.event_scale.factor in (1.0, (1.0,) * 7)
    raw = source.event_scale.to_raw(source.load("train").x)
    torch.testing.assert_close(raw, torch.full_like(raw, 0.1))


def test_a_sorted_file_is_shuffled_before_it_is_split(tmp_path: Path) -> None:
    """Rows in order of size, as files often are: every split sees the whole range."""
    np.save(tmp_path / "x.npy", np.linspace(0, 1, 1000)[:, None])
    source = ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy")))
    for split in SPLITS:
        x = source.load(split).x
        assert float(x.mean()) == pytest.approx(0.5, abs=0.12)
        assert float(x.max() - x.min()) > 0.9


@pytest.mark.parametrize(
    ("name", "text", "fields", "first"),
    [
        ("x.csv", "a;b\n2,987.12;2\n999;3\n", {}, [2987.12, 2]),
        ("x.csv", 'a,b\n"1,234,567",2\n"1,000",3\n', {}, [1234567, 2]),
        ("x.csv", "a;b\n2.987,12;0,5\n1,5;3,25\n", {}, [2987.12, 0.5]),
        ("x.csv", "a;b\n1,234;2\n1,999;3\n", {"thousands": ","}, [1234, 2]),
        ("x.csv", "a;b\n1,234;2\n1,999;3\n", {"decimal": ","}, [1.234, 2]),
        ("x.csv", "a,b\n1 234.5,2\n2 000,3\n", {"thousands": " "}, [1234.5, 2]),
        ("x.tsv", "a\tb\n1.5\t2\n2.5\t3\n", {}, [1.5, 2]),
    ],
)
def test_numbers_are_read_as_they_are_written(
    tmp_path: Path, name: str, text: str, fields: dict[str, str], first: list[float]
) -> None:
    head, *rows = text.splitlines()
    (tmp_path / name).write_text("\n".join([head, *rows * 10]))
    source = ArrayFile(ArrayConfig.model_validate({"path": str(tmp_path / name), "fractions": [0, 0, 1], **fields}))
    found = source.load("test")
    place = int((found.index == 0).nonzero())
    assert source.event_scale.to_raw(found.x)[place].tolist() == pytest.approx(first)


def test_cells_that_are_no_numbers_are_named_and_can_be_gaps(tmp_path: Path) -> None:
    rows = [[f"{row}.5", f"{2 * row}.5"] for row in range(40)]
    rows[3][0], rows[7][1], rows[8][1] = "<0.1", "-", "n/a"
    path = tmp_path / "x.csv"
    path.write_text("\n".join(",".join(row) for row in [["a", "b"], *rows]))
    with pytest.raises(
        DataError, match=r"hold numbers, and cells that are none: 'a' holds '<0.1'; 'b' holds '-'"
    ) as caught:
        ArrayFile(ArrayConfig(path=path))
    assert caught.value.hint is not None
    assert 'gaps: ["<0.1", "-"]' in caught.value.hint
    # The fix that is printed is one.
    source = ArrayFile(ArrayConfig(path=path, gaps=("<0.1", "-"), missing="drop", fractions=(0, 0, 1)))
    left = set(range(40)) - {3, 7, 8}
    assert set(source.load("test").index.tolist()) == left
    summary = ArrayFile.inspect(ArrayConfig(path=path))
    assert (summary.gaps, summary.incomplete) == (("<0.1", "-"), 3)
    # A column of text with some numbers stays text, and a column that is left out is not looked at.
    path.write_text("a,b,c\n" + "".join(f"{row},x{row},{'?' if row == 2 else row}\n" for row in range(30)))
    with pytest.raises(DataError, match=r"column 'b' .* isn't numeric"):
        ArrayFile(ArrayConfig(path=path, columns=("-c",)))
    assert ArrayFile(ArrayConfig(path=path, columns=("-b", "-c"))).event_shape == (1,)


@pytest.mark.parametrize("gap", [-999, -999.0, "-999", "-999.0"])
def test_a_number_can_be_a_gap(tmp_path: Path, gap: float | str) -> None:
    """However the file writes it, in columns of numbers and next to other gaps."""
    rows = [[f"{row}.5", f"{row % 7}"] for row in range(40)]
    rows[3][0], rows[4][0], rows[7][1], rows[8][0] = "-999", "-999.0", "-999", "<0.1"
    path = tmp_path / "x.csv"
    path.write_text("\n".join(",".join(row) for row in [["a", "b"], *rows]))
    fields = {"path": str(path), "fractions": [0, 0, 1], "scale": "none"}
    source = ArrayFile(ArrayConfig.model_validate({**fields, "missing": "drop", "gaps": [gap, "<0.1"]}))
    assert set(range(40)) - set(source.load("test").index.tolist()) == {3, 4, 7, 8}
    with pytest.raises(DataError, match=r"rows 3, 4, 7, 8 \("):
        ArrayFile(ArrayConfig.model_validate({**fields, "gaps": [gap, "<0.1"]}))


def test_a_gap_that_no_cell_holds_is_named(tmp_path: Path) -> None:
    """But not those that are taken out of every file."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "".join(f"{row}.5,{'NA' if row == 3 else row}\n" for row in range(40)))
    fields = {"path": str(path), "missing": "drop", "scale": "none"}
    said = "gaps: no cell among the numbers of x.csv is '-99', '-'"
    config = ArrayConfig.model_validate({**fields, "gaps": ["NA", -99, "-", "2.50"]})
    assert said in ArrayFile(config).data_warnings()
    assert said in ArrayFile.inspect(config).warnings
    series = SeriesConfig.model_validate({**fields, "gaps": ["-99", "-"], "window": 4, "scale": "none"})
    assert said in SeriesFile(series).data_warnings()


def test_a_cell_without_end_is_cut_in_the_error(tmp_path: Path) -> None:
    """A number of 100,000 digits is beyond float64, and most likely a damaged file."""
    (tmp_path / "long.csv").write_text("a,b\n" + "1,2\n" * 50 + f"{'1' * 100_000},2\n")
    with pytest.raises(DataError) as raised:
        ArrayFile(ArrayConfig(path=tmp_path / "long.csv"))
    assert "and 99940 more characters" in str(raised.value)
    assert 'columns: ["-a"]' in str(raised.value)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datum;x;y\n" + "01.03.2020;1.234,05;0,5\n" * 20, "column 'datum' .* isn't numeric"),
        ("address;x\n" + "10.0.0.1;2.500.000,5\n" * 20, "column 'address' .* isn't numeric"),
        ("x;y\n" + "2,987.12;1\n" * 30 + "1,5;1\n", "column 'x' .* isn't numeric"),
    ],
)
def test_what_only_looks_like_thousands_is_no_number(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        ArrayFile(ArrayConfig(path=tmp_path / "x.csv"))


def test_labels_and_names_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = [f'{row}.5;"{1 + row % 2},000";00{row};{"-" if row % 2 else "NA"}' for row in range(20)]
    (tmp_path / "x.csv").write_text("\n".join(["a;kind;who;mark", *rows]))
    fields = {"path": tmp_path / "x.csv", "label": "kind", "names": "who", "gaps": ["-"], "columns": ["-mark"]}
    source = ArrayFile(ArrayConfig.model_validate({**fields, "thousands": ","}))
    assert list(source.rows or ())[:3] == ["000", "001", "002"]
    assert source.label_names == ("1,000", "2,000")
    named = ArrayFile(ArrayConfig.model_validate({**fields, "names": "mark", "columns": ["-who"]}))
    assert list(named.rows or ())[:2] == ["NA", "-"]
    (tmp_path / "x.csv").write_text("\n".join(["a;kind;who;mark", *rows, "<0.1;b;id;x"]))
    with pytest.raises(DataError, match=r"'a' holds '<0.1'"):
        ArrayFile(ArrayConfig.model_validate(fields))


def test_a_column_that_looks_like_a_class_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((60, 3)), rng.integers(0, 10, (60, 1))], 1)
    np.savetxt(tmp_path / "x.csv", x, "%.6g", delimiter=",", header="a,b,c,Target")  # "# a,b,c,Target"
    summary = ArrayFile.inspect(ArrayConfig(path=tmp_path / "x.csv"))
    assert [column.name for column in summary.columns] == ["a", "b", "c", "Target"]
    assert "class?" in summary.columns[3].warnings
    (said,) = [text for text in summary.warnings if "looks like the class" in text]
    assert "label: Target" in said
    assert "lattice" not in " ".join(summary.warnings)
    labelled = ArrayFile.inspect(ArrayConfig(path=tmp_path / "x.csv", label="Target"))
    assert not any("class" in text for text in labelled.warnings)


def test_a_column_of_names_is_no_class(tmp_path: Path) -> None:
    rows = [f"{row}.5,s{row},{'ab'[row % 2]}" for row in range(60)]
    (tmp_path / "x.csv").write_text("\n".join(["a,sample_id,kind", *rows]))
    said = " ".join(ArrayFile.inspect(ArrayConfig(path=tmp_path / "x.csv")).warnings)
    assert "or label: kind" in said
    (tmp_path / "x.csv").write_text("\n".join(["a,sample_id,kind", *rows]).replace(",a\n", ",\n").replace(",b", ","))
    said = " ".join(ArrayFile.inspect(ArrayConfig(path=tmp_path / "x.csv", columns=("-kind",))).warnings)
    assert "or names: sample_id" in said
    assert "label" not in said


def test_tables_that_are_parted_otherwise_are_said(tmp_path: Path) -> None:
    def refuse(text: str, message: str, hint: str = "", **fields: object) -> None:
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises((DataError, ConfigError), match=message) as caught:
            ArrayFile(ArrayConfig.model_validate({"path": str(tmp_path / "x.csv"), **fields}))
        assert hint in str(caught.value)

    refuse("a b\n" + "1 2\n" * 20, "isn't numeric", 'set delimiter: " "')
    refuse("a;b\n1;2;3\n" + "1;2\n" * 20, "isn't numeric", 'set delimiter: ";"')
    refuse("a;b\n" + "1,5;2,5\n" * 20, "more fields than its first line", "decimal: to the character", delimiter=",")
    refuse("a;b\n1;2\n" + "1;2;3\n" * 20, "can't be read as a table", "set delimiter: to the character", delimiter=";")
    refuse(
        "a,b\n" + "1,2\n" * 49 + "1,2,3\n", "can't be read", "line 51 has 3 cells, and lines above have 2: repair it"
    )
    refuse("a;b\n" + "1,234;2\n" * 20, "column 'a' .* isn't numeric", 'set decimal: ","')
    refuse("x\n0,125\n1,104\n" + "2,5\n" * 20, "more fields than its first line")
    (tmp_path / "x.csv").write_bytes("Größe;b\n1,5;2\n".encode("cp1252"))
    with pytest.raises(DataError, match="can't be read as a table: 'utf-8' codec can't decode") as caught:
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.csv")))
    assert caught.value.hint == "save it as UTF-8, which a spreadsheet calls CSV UTF-8"
    refuse("a,b\n", "has no rows below its first line")
    refuse("a,b\n" + "1,2\n" * 20, "no column .* is left for the points", label="a", condition=["b"])
    refuse("a,b\n" + "1,2\n" * 20, "column 'a' is a coordinate .* and also their label", columns=["a"], label="a")
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2)))
    with pytest.raises(ConfigError, match="is also the label"):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.npz"), key="x", label="x"))


def test_values_between_the_levels_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.repeat(np.linspace(0, 1, 16)[:, None], 3, axis=1).astype(np.float32))
    config = ArrayConfig(path=str(tmp_path / "x.npy"), low=0, high=1, levels=16)
    assert ArrayFile(config).event_scale.levels == 16
    with pytest.raises(DataError, match=r"row 1 .* none of the 17 levels from 0 to 1"):
        ArrayFile(config.model_copy(update={"levels": 17}))


@pytest.mark.parametrize(
    "fields", [{"event_shape": [-1, -3]}, {"event_shape": []}, {"low": float("nan")}, {"path": ""}, {"memory": -1}]
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ArrayConfig.model_validate({"path": "x.npy", **fields})


def _made(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def test_blocks_of_a_store_are_an_eighth_of_the_memory() -> None:
    """12 numbers of 8 bytes a row, of 2^17 bytes; 2^16 and 2^22 bytes are the least and the most."""
    array = np.zeros((5, 3, 4))
    assert [_block_rows(array, memory) for memory in (1.0, 0.0, 1e9)] == [2**17 // 96, 2**16 // 96, 2**22 // 96]
    assert _block_rows(np.zeros((2, 2**20)), 1.0) == 1


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((100, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    with pytest.raises(DataError) as caught:
        ArrayFile(ArrayConfig(path=tmp_path / "cut.npy"))
    assert caught.value.hint == "the file ends before its last number: copy or save it again"
