"""Samples with missing values: they are counted, and compared in the columns that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import Dataset, EventScale
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.incomplete import gap_copies, incomplete_samples, nearest_with_gaps
from scorefold_audit.sets import Sets
from scorefold_audit.verdicts import answer_entries, judge, of_copies

NAN = float("nan")


def points(seed: int, rows: int) -> torch.Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 3


class Incomplete:
    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def incomplete_rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        return 7 + torch.arange(len(self.values)), self.values


def sets_of(training: torch.Tensor, held_out: torch.Tensor, scale: EventScale) -> Sets:
    given = [Dataset(scale.from_raw(each).float()) for each in (training, held_out, held_out, held_out[:0])]
    return Sets(*given, scale)


def with_gaps(values: torch.Tensor) -> torch.Tensor:
    found = values.clone()
    found[torch.arange(len(found)), torch.arange(len(found)) % 5] = NAN
    return found


def test_rows_are_compared_in_the_columns_that_they_have() -> None:
    training = np.arange(12.0).reshape(3, 4) ** 2 + 0.1
    rows = training[[2, 0, 1]] + [[0, 0, 0, 1e-9]]
    rows[0, 1] = rows[1, :2] = rows[2, 3] = NAN
    near = nearest_with_gaps(rows, training)
    assert near.index.tolist() == [2, 0, 1]
    assert near.distance.tolist() == [0, 0, 0]
    near = nearest_with_gaps(rows + np.array([0, 0, 0.5, 0]), training)
    assert near.distance == pytest.approx([0.5, 0.5, 0.5])
    assert np.all((near.ratio > 0) & (near.ratio < 1))


@pytest.mark.parametrize("noise", [0, 1e-3])
def test_copies_with_gaps_are_found_and_named_by_their_rows(noise: float) -> None:
    scale = EventScale(shift=(5.0, -3.0, 0.0, 0.0, 1.0), factor=(10.0, 0.1, 1.0, 1.0, 1.0))
    training = points(0, 200)
    copied = training[50:90] + noise * torch.randn(40, 5, generator=torch.Generator().manual_seed(9))
    incomplete = incomplete_samples(sets_of(training, points(1, 200), scale), Incomplete(with_gaps(copied)))
    assert incomplete is not None
    found = gap_copies(incomplete, AuditOptions(), 0)
    assert found.rates.samples >= 38
    assert len(found.named) >= 38
    assert all(found.near.index[place] == 50 + place for place in found.named)
    assert incomplete.called("samples", 3) == "row 10"


def test_samples_with_gaps_that_are_no_copies_are_not_found() -> None:
    sets = sets_of(points(0, 200), points(1, 200), EventScale())
    incomplete = incomplete_samples(sets, Incomplete(with_gaps(points(2, 40))))
    assert incomplete is not None
    verdict = judge([of_copies(gap_copies(incomplete, AuditOptions(), 0))], 0.05)[0]
    assert not verdict["found"]
    assert "the share of samples with missing values is" in verdict["text"]


def test_samples_that_are_sorted_by_their_gaps_are_no_copies() -> None:
    # A fifth of them lack one column, the others all but two; there are fewer held-out points than samples.
    false = 0
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        training, held_out, rows = (torch.randn(count, 10, generator=random).double() for count in (1000, 100, 500))
        rows[:100, 0] = rows[100:, 2:] = NAN
        incomplete = incomplete_samples(sets_of(training, held_out, EventScale()), Incomplete(rows))
        assert incomplete is not None
        false += judge([of_copies(gap_copies(incomplete, AuditOptions(), seed))], 0.05)[0]["found"]
    assert false <= 3


def test_a_source_without_gaps_and_rows_of_one_value_are_left_out() -> None:
    sets = sets_of(points(0, 200), points(1, 200), EventScale())
    row = torch.full((1, 5), NAN)
    row[0, 2] = 1
    assert incomplete_samples(sets, object()) is None
    assert incomplete_samples(sets, Incomplete(row)) is None
    assert incomplete_samples(sets, Incomplete(row[:0])) is None


def verdict(where: str, found: bool) -> dict[str, Any]:
    interval = [0.9, 1.0] if found else [0.0, 0.05]
    entry = {"name": "copies", "where": where, "found": found, "value": interval[1], "interval": interval}
    return {**entry, "smallest_found": 0.1}


def test_the_answer_names_copies_with_gaps_besides_others() -> None:
    gaps = verdict("columns that they have", True)
    alone = answer_entries([verdict("columns", False), gaps], [])["verdict"]
    assert alone.startswith(
        "This model copies its training data. An estimated 100.0% of its samples with missing values"
    )
    both = answer_entries([verdict("columns", True), gaps], [])["verdict"]
    assert "100.0% of its samples are copies" in both
    assert "100.0% of its samples with missing values are copies" in both
    clear = answer_entries([verdict("columns", False), {**gaps, "found": False}], [])["verdict"]
    assert clear.startswith("No sign of copying. An estimated 5.0% of its samples are copies")
