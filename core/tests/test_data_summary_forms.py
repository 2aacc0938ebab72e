"""The limits of summaries by hand: what numbers the rows, what are codes, which tail is heavy, what is looked at."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.interfaces import data
from scorefold.interfaces.data import summarise
from scorefold.summary import DataSummary, describe_column, describe_event, is_code, is_identifier, shape_text, without


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_column_of_whole_numbers_by_hand() -> None:
    found = describe_column("a", numbers(2, 4, 4, 6))
    assert (found.type, found.distinct, found.least, found.mean, found.greatest) == ("integer", 3, 2, 4, 6)
    assert found.spread == pytest.approx(math.sqrt((4 + 0 + 0 + 4) / 4))  # over all, not all but one
    assert describe_column("a", numbers(2, 4), "boolean").type == "boolean"
    assert describe_column("a", numbers(math.nan), "text").type == "text"
    assert (describe_column("a", numbers(math.nan)).distinct, describe_column("a", numbers(math.nan)).missing) == (0, 1)


@pytest.mark.parametrize(("copies", "found"), [(1, True), (2, False)])
def test_numbers_of_rows_are_distinct_but_for_one_in_fifty(copies: int, found: bool) -> None:
    """50 rows, of which ``copies`` repeat one before: 49 of 50 distinct numbers are 98 %."""
    rows = torch.arange(50.0, dtype=torch.float64)
    rows[:copies] = rows[copies : 2 * copies]
    assert is_identifier(describe_column("id", rows)) == found


@pytest.mark.parametrize(("least", "found"), [(50, True), (49, False)])
def test_numbers_of_rows_are_marked_from_fifty_rows_on(least: int, found: bool) -> None:
    rows = torch.arange(float(least), dtype=torch.float64)
    assert is_identifier(describe_column("id", rows)) == found
    assert is_code(describe_column("code", rows % 2)) == found
    assert not is_identifier(describe_column("id", rows + 0.5))  # not whole


@pytest.mark.parametrize(("last", "found"), [(119, True), (120, False)])
def test_numbers_of_rows_fill_half_of_their_range(last: float, found: bool) -> None:
    rows = torch.cat([torch.arange(59.0), torch.tensor([last])]).double()
    assert is_identifier(describe_column("id", rows)) == found


@pytest.mark.parametrize(("values", "found"), [(20, True), (21, False)])
def test_codes_are_twenty_values_at_most(values: int, found: bool) -> None:
    column = describe_column("code", (torch.arange(100) % values + 0.5).double())
    assert is_code(column) == found
    assert column.warnings == ((f"codes? {values} values",) if found else ())
    assert describe_column("code", torch.arange(100.0).double() % 1).warnings == ("constant",)


@pytest.mark.parametrize(("deviations", "found"), [(49.9, False), (50.1, True)])
def test_a_tail_is_heavy_from_fifty_robust_deviations_on(deviations: float, found: bool) -> None:
    """Of 101 numbers the quartiles are the 26th and the 76th: 25 and 75 of the first hundred. Their distance over
    1.349 is a deviation, and the median is 50."""
    deviation = (75 - 25) / 1.349
    rows = torch.arange(101.0, dtype=torch.float64) + 0.25
    for far in (50.25 + deviations * deviation, 50.25 - deviations * deviation):
        column = rows.clone()
        column[100 if far > 0 else 0] = far
        assert ("heavy tail" in describe_column("a", column).warnings) == found
    many = torch.cat([torch.zeros(76), torch.linspace(1, 1000, 25)]).double()
    assert describe_column("a", many).warnings == ()  # the quartiles are one


def test_events_are_described_about_the_mean_of_each_coordinate() -> None:
    x = torch.stack([numbers(0, 2), numbers(10, 14)], 1)
    found = describe_event(x)
    assert (found.type, found.least, found.mean, found.greatest) == ("2 columns", 0, 6.5, 14)
    assert found.spread == pytest.approx(math.sqrt((1 + 4) / 2))
    gap = torch.where(x == 2, math.nan, x)
    assert (describe_event(gap).missing, describe_event(gap).distinct, describe_event(gap).spread) == (1, 3, None)
    assert describe_event(torch.ones(3, 2)).spread is None
    empty = describe_event(torch.full((2, 2), math.nan))
    assert (empty.least, empty.mean, empty.greatest, empty.missing) == (None, None, None, 4)


def test_of_large_data_as_many_numbers_of_each_split_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve numbers, two columns, two splits: the first three rows of each, in the units that they were read in."""
    monkeypatch.setattr(data, "LOOKED_AT", 12)
    one = torch.stack([torch.arange(10.0), -torch.arange(10.0)], 1)
    two = one + 100
    found = summarise([Dataset(one), Dataset(two[:7])], EventScale(shift=5.0, factor=2.0), (2,))
    assert found.rows == 17
    assert [column.mean for column in found.columns] == [5 + 2 * 51, 5 + 2 * 49]
    assert found.columns[0].distinct == 6
    alone = summarise([Dataset(one)], EventScale(), (2,))  # six rows
    assert [column.mean for column in alone.columns] == [2.5, -2.5]
    assert summarise([], EventScale(), (2,)).rows == 0


def test_a_row_is_looked_at_however_wide_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "LOOKED_AT", 3)
    found = summarise([Dataset(torch.arange(8.0).reshape(2, 4))], EventScale(), (4,))
    assert [column.mean for column in found.columns] == [0, 1, 2, 3]


@pytest.mark.parametrize(("columns", "lines"), [(200, 200), (201, 1)])
def test_vectors_have_a_line_a_column_up_to_two_hundred(columns: int, lines: int) -> None:
    assert len(summarise([Dataset(torch.zeros(2, columns))], EventScale(), (columns,)).columns) == lines


def test_headings_count_in_words() -> None:
    def heading(copies: int | None, shared: int | None = None, incomplete: int = 0) -> str:
        return DataSummary(1500, (1,), (), incomplete, copies, shared).heading()

    assert heading(None) == "1,500 rows of 1 column"
    assert heading(0) == "1,500 rows of 1 column, no exact copies"
    assert heading(1, 0) == "1,500 rows of 1 column, 1 exact copy"
    assert heading(2, 1, 3) == "1,500 rows of 1 column, 3 with missing values, 2 exact copies (1 across splits)"
    assert shape_text((3, 8, 9)) == "3 x 8 x 9"
    assert shape_text((2,)) == "2 columns"


@pytest.mark.parametrize("names", [["a"], ["a b", "Unnamed: 0"], ["x, y", "#1", '"q"'], ["true", "1.5", "-", "2020"]])
def test_columns_that_are_left_out_are_read_back_from_yaml(names: list[str]) -> None:
    assert yaml.safe_load(without(names)) == [f"-{name}" for name in names]
