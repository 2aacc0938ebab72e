"""Each warning about a table with data that deserve it, and none for data without fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scorefold.summary import ColumnSummary
from scorefold_standard.data.array import ArrayFile
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.table_checks import digests
from scorefold_standard.data.table_columns import by_name

ROWS = 120
DRAWS = np.random.default_rng(0).normal(size=(ROWS, 6))
SEX = np.arange(ROWS) % 2 * 3.0
PLAIN = {"a": DRAWS[:, 0], "b": DRAWS[:, 1]}
WIDE = {"a": DRAWS[:, 0], "b": 20 * DRAWS[:, 1]}
TAILED = {"a": DRAWS[:, 0], "b": np.append(DRAWS[1:, 1], 1e3)}
HEAVY = {"a": DRAWS[:, 0], "b": np.append(DRAWS[2:, 1], [60, 1e3])}
CODES = {"a": DRAWS[:, 0], "b": DRAWS[:, 1], "sex": SEX}
WORDS = {**PLAIN, "kind": np.where(SEX > 0, "x", "y")}
GAPS = {"a": DRAWS[:, 0], "b": np.append(DRAWS[2:, 1], [np.nan, np.nan])}
TWICE = {name: np.append(values[1:], values[1]) for name, values in PLAIN.items()}


@pytest.mark.parametrize(
    ("columns", "config", "said"),
    [
        (PLAIN, {}, []),
        (GAPS, {}, ["2 rows have missing values: missing: drop leaves them out"]),
        (GAPS, {"missing": "drop"}, []),
        (
            {"a": np.where(SEX > 0, DRAWS[:, 0], np.nan), "b": np.where(SEX > 0, np.nan, DRAWS[:, 1])},
            {},
            ["every row has a missing value: fill the gaps in, or leave out the columns that have most of them"],
        ),
        ({**PLAIN, "d": [None] * ROWS}, {}, ["column d is empty: columns: [-d] leaves it out"]),
        (
            {"a": np.arange(ROWS) % 25, "b": np.arange(ROWS) % 5},
            {"scale": "none"},
            ["95 rows are exact copies of others, as rows of whole numbers may be: most estimates need"],
        ),
        (WIDE, {}, ["the columns' spreads differ 19-fold, from 0.978 (a) to 19 (b)"]),
        (WIDE, {"scale": "none"}, []),
        (WIDE, {"scale": "columns"}, []),
        ({**PLAIN, "id": np.arange(ROWS) / 1}, {"scale": "columns"}, ["column id numbers the rows"]),
        ({"id": np.arange(ROWS) / 1}, {}, []),
        (
            {**PLAIN, "customer_id": 1000 * np.arange(ROWS) ** 2, "zip": 1000 * np.arange(ROWS)[::-1] ** 2},
            {"scale": "columns"},
            ["columns customer_id, zip are called as identifiers are, which counts as a dimension: columns: ["],
        ),
        (
            {**PLAIN, "Unnamed: 0": np.arange(ROWS)},
            {"scale": "columns"},
            ['column Unnamed: 0 numbers the rows, which counts as a dimension: columns: ["-Unnamed: 0"] leaves it out'],
        ),
        ({**PLAIN, "customer_id": 9.5 * np.arange(ROWS) ** 2}, {"scale": "columns"}, []),
        (
            {**PLAIN, "price": [f"$1,{row:03}.50" for row in range(ROWS)]},
            {},
            ["column price holds numbers preceded by '$': write them", "column price holds no numbers"],
        ),
        ({**PLAIN, "t": 10.0 * np.arange(ROWS)}, {"scale": "columns"}, ["column t rises in equal steps"]),
        ({**PLAIN, "t": 10.0 * np.arange(ROWS) ** 1.1}, {"scale": "columns"}, []),
        (TWICE, {}, ["1 row is an exact copy of another: neighbours at distance 0"]),
        (TWICE, {"duplicates": "drop"}, []),
        (CODES, {}, ["column sex holds few distinct values"]),
        ({**CODES, "c": np.arange(ROWS) % 3}, {"duplicates": "drop"}, []),
        (CODES, {"condition": ["sex"]}, []),
        (
            {**CODES, "k": np.full(ROWS, 7)},
            {"condition": ["sex"]},
            [
                "column k is constant (7), and tests of a posterior count every deviation from a constant as an error: "
                "columns: [-k] leaves it out"
            ],
        ),
        ({**CODES, "k": np.full(ROWS, 7)}, {"condition": ["sex"], "fractions": [0, 0, 1]}, []),
        ({**PLAIN, "k": np.full(ROWS, 7)}, {}, []),
        (
            {**PLAIN, "red": SEX / 3, "blue": 1 - SEX / 3, "sex": SEX},
            {"scale": "columns"},
            [
                "columns red, blue hold 0 and 1 and sum to 1 in groups, as codes of categories do. They put the points "
                "on a lattice: columns: [-red, -blue] leaves them out",
                "column sex holds few distinct values",
            ],
        ),
        (
            {**PLAIN, **{f"{of}{i}": np.arange(ROWS) // of % 3 == i for of in (1, 2) for i in range(3)}},
            {"scale": "columns"},
            ["columns 10, 11, 12, 20, 21 and 1 more hold 0 and 1 and sum to 1 in groups, as codes of categories do."],
        ),
        ({**PLAIN, "red": SEX / 3, "c": np.arange(ROWS) % 3, "blue": 1 - SEX / 3}, {"scale": "columns"}, []),
        ({"a": DRAWS[:, 0], "red": SEX / 3, "blue": 1 - SEX / 3}, {"scale": "columns"}, []),
        (CODES, {"low": -9, "high": 9}, []),
        (HEAVY, {"scale": "columns"}, ["a few rows set the spread of column b: some lie more than 50 deviations out"]),
        (HEAVY, {"scale": "table"}, ["a few rows set the spread of column b"]),
        (HEAVY, {"scale": "robust"}, []),
        (
            TAILED,
            {"scale": "columns"},
            [
                "row 119 (rows count from 0) lies more than 100 quartile ranges out in column b: remove it from the "
                "data if it is wrong; or scale: robust"
            ],
        ),
        ({**TAILED, "n": [f"s{row}" for row in range(ROWS)]}, {"scale": "none", "names": "n"}, ["row 's119' lies"]),
        (WORDS, {}, ["column kind holds no numbers"]),
        (WORDS, {"label": "kind"}, []),
        (
            {**PLAIN, "length": [f"{row}.5 mm" for row in range(ROWS)]},
            {},
            ["column length holds numbers followed by 'mm'", "column length holds no numbers"],
        ),
        (
            {**PLAIN, "seen": [f"2024-01-{1 + row % 28:02} 12:00:00" for row in range(ROWS)]},
            {},
            ["column seen holds dates: write days since the first one", "column seen holds no numbers"],
        ),
        (
            {"a": DRAWS[:, 0], "b": np.append(DRAWS[5:, 1], [-999] * 5)},
            {"scale": "none"},
            [
                "5 values of column b are -999, far from all others, as codes of missing values are: gaps: [-999] "
                "takes them as missing, if they are"
            ],
        ),
        (
            {"a": DRAWS[:, 0], "b": np.append(DRAWS[5:, 1], [-999] * 5)},
            {"scale": "none", "gaps": [-999, "NA"]},
            ["5 rows have missing values: missing: drop leaves them out"],
        ),
        ({"a": DRAWS[:, 0], "b": np.append(DRAWS[4:, 1], [-999] * 4)}, {"scale": "none"}, []),
        (
            {**WORDS, "price": [f"{1000 + row:,}" for row in range(ROWS)]},
            {},
            [
                'column price holds numbers with commas: thousands: "," reads 1,000 as 1000, and decimal: "," as 1.000',
                "column kind holds no numbers",
            ],
        ),
        (
            {**PLAIN, "price": [f"{row},5" for row in range(ROWS)], "cost": ["1.234,5"] * ROWS},
            {},
            [
                'column price holds numbers with commas: decimal: "," reads them',
                'column cost holds numbers with commas: decimal: "," and thousands: "." read them',
            ],
        ),
        (WORDS, {"names": "kind"}, []),
        (WORDS, {"columns": ["-kind"]}, []),
        (WORDS, {"columns": ["a", "b"]}, []),
    ],
)
def test_a_table(columns: dict[str, Any], config: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "x.csv", index=False)
    found = ArrayFile.inspect(ArrayConfig.model_validate({"path": str(tmp_path / "x.csv"), **config})).warnings
    assert len(found) == len(said), found
    assert all(text.startswith(part) for part, text in zip(said, found, strict=True))


STEPS = np.arange(ROWS) * 7.5 + np.repeat([-1e8, 1e8], ROWS // 2)  # float32 numbers lie 8 apart there
BYTES = np.random.default_rng(0).integers(0, [256, 256, 21], (ROWS, 3))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (np.stack([STEPS, 1e8 * DRAWS[:, 0]], 1), ["float32 merges distinct values of column x0: scale: robust"]),
        (np.stack([STEPS[:60], 300 * DRAWS[:60, 0]], 1), ["column x0 rises in equal steps"]),
        # A grid falls back: after 2,500 rows, and no time does.
        (np.stack([np.tile(np.arange(2500.0), 2), np.repeat([0.0, 900.0], 2500)], 1), []),
        (DRAWS.astype(np.float32), []),
        ((DRAWS + 4e6).astype(np.float32), ["the file holds float32 numbers: the coordinates reach 4e+06"]),
        (BYTES.astype(np.uint8), []),
        (BYTES.astype(np.int64), ["the columns' spreads differ 12-fold"]),
    ],
)
def test_an_array(points: Any, said: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", points)
    source = ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy"), fractions=(1.0, 0.0, 0.0)))
    found = source.data_warnings()
    assert len(found) == len(said), found
    assert all(text.startswith(part) for part, text in zip(said, found, strict=True))
    merged = [text for column in source.summary().columns for text in column.warnings if "merges" in text]
    assert merged == (["float32 merges 120 values into 113"] if "merges" in "".join(said) else [])


@pytest.mark.parametrize(("fractions", "across"), [((0.5, 0.0, 0.5), True), ((1.0, 0.0, 0.0), False)])
def test_copies_across_splits(fractions: tuple[float, float, float], across: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.concatenate([DRAWS, DRAWS]))
    (found,) = ArrayFile(ArrayConfig(path=str(tmp_path / "x.npy"), fractions=fractions)).data_warnings()
    assert found.startswith("120 rows are exact copies of others")
    assert ("of them in another split than the original" in found) == across


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_rows_have_one_hash_only_where_they_are_equal(dtype: type) -> None:
    """A lattice of small whole numbers differs in few bits, in which a sum of products would repeat itself."""
    lattice = np.stack(np.meshgrid(*[np.arange(18)] * 4), axis=-1).reshape(-1, 4).astype(dtype)
    found = digests(np.concatenate([lattice, lattice[:5]]), np.arange(len(lattice) + 5))
    assert len(np.unique(found)) == len(lattice)
    assert (found[-5:] == found[:5]).all()
    swapped = digests(lattice[:, ::-1], np.arange(len(lattice)))
    assert np.count_nonzero(swapped == found[: len(lattice)]) == 18**2  # those that read alike from both ends


def test_zeros_of_both_signs_have_one_hash() -> None:
    first, second = digests(np.array([[0.0, 1.0], [-0.0, 1.0]]), np.arange(2))
    assert first == second


@pytest.mark.parametrize(("names", "twice"), [("a,a,b", True), ("a,a.1,b", False), ("a,b,c", False)])
def test_a_name_that_stands_twice_is_a_warning(tmp_path: Path, names: str, twice: bool) -> None:
    (tmp_path / "x.csv").write_text(f"{names}\n" + "".join(f"{row}.5,{row % 9}.25,{row % 7}.5\n" for row in range(40)))
    found = ArrayFile(ArrayConfig(path=tmp_path / "x.csv", scale="none")).data_warnings()
    said = "several columns are called 'a': later ones are called a.1 and so on"
    assert (said in found) == twice


@pytest.mark.parametrize(
    ("names", "distinct", "found"),
    [
        ("id ID user.id customer_id zip zip_code Postal_Code SSN", 101, True),
        ("id ID user.id customer_id zip zip_code Postal_Code SSN", 99, False),
        ("customerId CustomerID order_nr orderNumber phone_number", 900, True),
        ("customerId CustomerID order_nr orderNumber phone_number", 899, False),
        ("grid valid acid post number humid paid cases case_number widths", 1000, False),
    ],
)
def test_identifiers_are_known_by_their_names(names: str, distinct: int, found: bool) -> None:
    for name in names.split():
        warnings = by_name(ColumnSummary(name, "integer", 0, distinct), 1000).warnings
        assert (warnings == ("is called as identifiers are",)) == found, name
        assert by_name(ColumnSummary(name, "number", 0, distinct), 1000).warnings == ()
    assert by_name(ColumnSummary("zip", "integer", 0, 50), 100).warnings  # half of the rows
    codes = ColumnSummary("site_id", "integer", 0, 4, warnings=("codes? 4 values",))
    assert by_name(codes, 8) == codes
