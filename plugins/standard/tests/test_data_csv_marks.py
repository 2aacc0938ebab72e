"""What is between the columns of csv files, and before decimals: found where it is clear, and left where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from scorefold.errors import ConfigError, DataError
from scorefold_standard.data.array import ArrayFile
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.table_columns import (
    COMMAS,
    CsvDialect,
    comma_warning,
    has_commas,
    marks_of,
    refuse_titles,
)

ROWS = np.random.default_rng(0).normal(size=(40, 3))


def written(path: Path, delimiter: str, decimal: str, names: str = "") -> Path:
    lines = [delimiter.join(f"{value:.6f}".replace(".", decimal) for value in row) for row in ROWS]
    path.write_text("\n".join([*([names] if names else []), *lines]) + "\n", encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("names", ["", "a{0}b{0}c"])
@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), *((d, m) for d in ";\t|" for m in ".,")])
def test_points_are_read_as_they_were_written(delimiter: str, decimal: str, names: str, tmp_path: Path) -> None:
    file = written(tmp_path / "x.csv", delimiter, decimal, names.format(delimiter))
    assert marks_of(file, None, None) == CsvDialect(delimiter, decimal, bool(names))
    source = ArrayFile(ArrayConfig.model_validate({"path": str(file), "scale": "none", "fractions": [0, 0, 1]}))
    found = source.event_scale.to_raw(source.load("test").x).numpy()
    np.testing.assert_allclose(np.sort(found, 0), np.sort(ROWS, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,5;2,5\n3,25;4,5\n", CsvDialect(";", ",", False)),
        ("1,5\n2,7\n", CsvDialect(",", ".", False)),
        ("id;name;x\n1;Lee, Ann;0,5\n2;Poe, Bo;1,75\n", CsvDialect(";", ",", True)),
        ("tags,x,y\na;b,1.5,2\nc;d,2.5,3\n", CsvDialect(",", ".", True)),
        ('name,x\n"1,234",2.5\n"5,678",3.5\n', CsvDialect(",", ".", True)),
        ("Laenge, mm;Art;Breite, mm\n12,34;Iris;-3,2\n1,5;Iris;0,25\n", CsvDialect(";", ",", True)),
        ("0,5;iris;rot;3,25\n1,5;iris;rot;4,25\n", CsvDialect(";", ",", True)),
        ("a\tb\n1,234\t2\n5,678\t3\n", CsvDialect("\t", ".", True)),
        ("amount;pop;pair\n1,234.50;1,234;3,4\n", CsvDialect(";", ".", True)),
        ("x\n0,125\n1,104\n2,5\n", CsvDialect(",", ".", True, ragged=True)),
        ("t;x\n" + '"one\ntwo";1,5\n' * 800, CsvDialect(";", ",", True)),
        ("x,seq\n1.5," + "A" * 140_000 + "\n2.5,B\n", CsvDialect(",", ".", True)),
        ("a\tb\n1,234\t2\n0,678\t3\n", CsvDialect("\t", ",", True)),
        ("a;b;c\n1.5;2.5;3,5\n1.5;2.5;3,5\n", CsvDialect(";", ".", True)),
        ("x\n1\n2\n", CsvDialect(",", ".", True)),
        ("1\n2\n", CsvDialect(",", ".", False)),
        ("a;b\n1;2\n1;2;3\n", CsvDialect(",", ".", True)),
        ('a;b\n"one\ntwo";1,5\n', CsvDialect(";", ",", True)),
        ("", CsvDialect(",", ".", False)),
        ("a;b\n;-1,5e3\nnan;2\n", CsvDialect(";", ",", True)),
    ],
)
def test_marks_of_small_files(text: str, expected: CsvDialect, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text)
    assert marks_of(file, None, None) == expected


def test_marks_that_are_given_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a\tb\n1,234\t2\n5,678\t3\n")
    assert marks_of(file, None, ",") == CsvDialect("\t", ",", True)
    assert marks_of(file, ",", None) == CsvDialect(",", ".", True, ragged=True)
    config = ArrayConfig.model_validate({"path": str(file), "decimal": ",", "fractions": [0, 0, 1], "scale": "none"})
    assert ArrayFile(config).summary().columns[0].greatest == pytest.approx(5.678)


def test_a_wide_file_is_looked_at_as_far_as_a_million_letters(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("\n".join(";".join(["1,5"] * 50_000) for _ in range(60)))
    assert marks_of(file, None, None) == CsvDialect(";", ",", False)


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(ConfigError, match=r"'decimal' means nothing for a \.npy file"):
        ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy"), decimal=","))
    with pytest.raises(ValidationError, match=r"'\.' or ','"):
        ArrayConfig.model_validate({"path": "x.csv", "decimal": ";"})


@pytest.mark.parametrize("field", ["1,5", ",5", "1,234,567", "1,234.5", "1.234,5", "-1,5e3"])
def test_numbers_with_commas(field: str) -> None:
    assert has_commas(field)


@pytest.mark.parametrize("field", ["1.5", "1,2,3", "a,5", "", "12,"])
def test_fields_that_are_no_such_numbers(field: str) -> None:
    assert not has_commas(field)


@pytest.mark.parametrize(
    ("cells", "fix"),
    [
        (["1,5", "2,75", "3"], 'decimal: "," reads them'),
        (["1,234,567", "12"], 'thousands: "," reads them'),
        (["1,234.5", "2,345"], 'thousands: "," reads them'),
        (["1.234,5", "2,5"], 'decimal: "," and thousands: "." read them'),
        (["7,123", "8"], 'thousands: "," reads 7,123 as 7123, and decimal: "," as 7.123'),
        ([*["1,5"] * 9, "-"], 'decimal: "," reads them'),
    ],
)
def test_the_setting_that_reads_numbers_with_commas_is_named(cells: list[str], fix: str) -> None:
    assert comma_warning(cells) == COMMAS + fix


@pytest.mark.parametrize("cells", [[], ["1", "2"], ["1,5", "a"], ["a, b", "c"]])
def test_other_cells_have_no_warning_of_commas(cells: list[str]) -> None:
    assert comma_warning(cells) == ""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0,1,2\n0.5,1.5,2\n", True),  # as pandas writes an array
        (",0,1,2\n0,0.5,1.5,2\n", True),  # with its index
        ("0,1,2,3\n4,5,6,7\n", True),
        ("0,1\n1,2\n2,0\n", False),  # pairs of nodes
        ("1,2,3,4\n0.5,1.5,2,3\n", False),
        ("0\n0.5\n", False),
    ],
)
def test_a_first_line_that_counts_the_columns_names_them(text: str, names: bool, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert marks_of(tmp_path / "x.csv", None, None).names == names


def test_an_array_that_pandas_wrote_has_no_row_of_names(tmp_path: Path) -> None:
    pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3))).to_csv(tmp_path / "x.csv", index=False)
    assert len(ArrayFile(ArrayConfig(path=tmp_path / "x.csv", fractions=(0, 0, 1))).load("test")) == 40


NUMBERS = "".join(f"{row}.5,{row * row}.25,{row}\n" for row in range(30))


@pytest.mark.parametrize(
    ("above", "said", "fix"),
    [
        (
            "# made by x\n# units: m\na,b,c\n",
            "line 1 of .*: '# made by x'; the names .* line 3: 'a,b,c'",
            "lines 1 to 2",
        ),
        ("Export,,\nDate: 2025-01-01,,\na,b,c\n", "'Export,,'; the names .* stand in line 3: 'a,b,c'", "lines 1 to 2"),
        ("Export\n\na,b,c\n", "'Export'; the names .* stand in line 3: 'a,b,c'", "line 1 from"),
        ("# a b c\n", "'# a b c'; the first numbers stand in line 2: '0.5,0.25,0'", "line 1 from"),
    ],
)
def test_lines_above_a_table_are_named(tmp_path: Path, above: str, said: str, fix: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(above + NUMBERS)
    for read in (ArrayFile, ArrayFile.inspect):
        with pytest.raises(DataError, match=said) as caught:
            read(ArrayConfig(path=path))
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(f"delete {fix}")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[above.count("\n") - ("a,b,c" in above) :]))
    assert ArrayFile(ArrayConfig(path=path)).event_shape == (3,)


@pytest.mark.parametrize("first", ["# a,b,c", ",b,c", "a,,c", "a,b,c", "a,,", "1.5,,", "#1,2,3"])
def test_first_lines_of_a_table_are_no_titles(tmp_path: Path, first: str) -> None:
    """Names after a ``#`` as numpy writes them, an index without a name, missing names and missing values."""
    path = tmp_path / "x.csv"
    path.write_text(f"{first}\n{NUMBERS}")
    assert len(ArrayFile.inspect(ArrayConfig(path=path)).columns) == 3


@pytest.mark.parametrize(
    "text",
    [
        "city;size\n" + "Berlin, Mitte;7\nBerlin;0,5\n" * 10,
        '"Height\n(cm)",Weight\n' + "1,2\n3,4\n" * 10,
    ],
)
def test_a_table_that_its_own_mark_reads_has_no_titles(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    refuse_titles(tmp_path / "x.csv", None)
