"""Summaries of data: every number of a column is its own, and what is no measurement is marked."""

from __future__ import annotations

import math

import pytest
import torch

from scorefold.artefacts import json_text
from scorefold.data import Dataset, EventScale
from scorefold.interfaces import TensorSource
from scorefold.summary import describe_column, describe_event, is_code, is_identifier


def test_a_column_is_described_by_what_is_there() -> None:
    column = describe_column("a", torch.tensor([1.0, math.nan, 3.0, 3.0, 5.0, math.inf], dtype=torch.float64))
    assert (column.name, column.type, column.missing, column.distinct) == ("a", "integer", 2, 3)
    assert (column.least, column.mean, column.greatest) == (1.0, 3.0, 5.0)
    assert column.spread == pytest.approx(math.sqrt(2))
    assert column.warnings == ()
    assert describe_column("a", torch.tensor([0.5, 1.0])).type == "number"
    empty = describe_column("a", torch.full((4,), math.nan))
    assert (empty.missing, empty.mean, empty.warnings) == (4, None, ("every value is missing",))
    constant = describe_column("a", torch.full((4,), 0.1, dtype=torch.float64))
    assert (constant.spread, constant.warnings) == (0.0, ("constant",))


def test_identifiers_codes_and_heavy_tails_are_marked() -> None:
    draws = torch.Generator().manual_seed(0)
    order = torch.randperm(100, generator=draws).double()
    normal = torch.randn(100, generator=draws, dtype=torch.float64)
    assert is_identifier(describe_column("id", order + 7000))
    assert not is_identifier(describe_column("measured", order**2))
    assert not is_identifier(describe_column("id", order[:40]))
    assert is_code(describe_column("sex", (normal > 0).double()))
    assert not is_code(describe_column("few rows", (normal[:40] > 0).double()))
    assert not is_code(describe_column("a", normal))
    assert describe_column("price", torch.cat([normal, torch.tensor([1e4], dtype=torch.float64)])).warnings == (
        "heavy tail",
    )
    assert describe_column("a", normal).warnings == ()


def test_every_source_of_vectors_has_a_line_a_column_in_the_units_it_was_read_in() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    scale = EventScale(shift=(10.0, 0.0, -1.0), factor=(2.0, 1.0, 0.5))
    source = TensorSource({"train": Dataset(x[:50]), "test": Dataset(x[50:])}, scale, warnings=["look out"])
    summary = source.summary()
    assert (summary.rows, summary.event_shape, summary.warnings) == (60, (3,), ("look out",))
    assert [column.name for column in summary.columns] == ["x0", "x1", "x2"]
    assert summary.columns[0].mean == pytest.approx(10 + 2 * float(x[:, 0].mean()), abs=1e-5)
    assert summary.columns[2].spread == pytest.approx(0.5 * float(x[:, 2].std(correction=0)), rel=1e-5)
    assert summary.heading() == "60 rows of 3 columns"
    assert json_text(summary.as_json())


def test_images_and_long_vectors_have_one_line() -> None:
    x = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)).mul(16).round() / 16
    source = TensorSource(x, EventScale(low=0.0, high=1.0, levels=17, factor=16.0))
    (line,) = source.summary().columns
    assert (line.type, line.missing, line.distinct, line.least, line.greatest) == ("1 x 4 x 4", 0, 17, 0.0, 16.0)
    assert line.spread == pytest.approx(float((16 * (x - x.mean(0))).double().square().mean().sqrt()))
    assert source.summary().heading() == "20 rows of 1 x 4 x 4"
    assert len(TensorSource(torch.rand(5, 201)).summary().columns) == 1
    assert describe_event(torch.full((2, 1, 1, 1), math.nan)).mean is None
