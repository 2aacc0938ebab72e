"""Samples and training points with missing values: they are counted, and compared in the columns that they have."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import Dataset, EventScale
from scorefold.errors import DataError
from scorefold.interfaces import TensorSource
from scorefold.stage import StageContext
from scorefold_audit.audit import audit
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.answers import answer_entries
from scorefold_audit.copying.incomplete import (
    IncompletePoints,
    copies_of_gaps,
    gap_copies,
    incomplete_points,
    nearest_with_gaps,
)
from scorefold_audit.sets import Sets
from scorefold_audit.verdicts import judge, of_copies

NAN = float("nan")


def points(seed: int, rows: int) -> torch.Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 3


class Samples(TensorSource):
    """Samples whose rows with gaps are left out; the others come first, seven at least."""

    def __init__(self, values: torch.Tensor, complete: torch.Tensor | None = None) -> None:
        self.values, self.first = values, 7 if complete is None else len(complete)
        super().__init__({"test": Dataset(values[:0].float() if complete is None else complete.float())}, EventScale())

    def incomplete_rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first + torch.arange(len(self.values)), self.values


def verdicts_of(samples: TensorSource, **inputs: TensorSource) -> dict[str, Any]:
    """The result of the verb, with quick tests of quality."""
    options = AuditOptions.model_validate({"permutations": 99, "quality_points": 50})
    return dict(audit(samples, inputs, options, StageContext("audit")).result)


def audited(training: torch.Tensor, held_out: torch.Tensor, samples: TensorSource) -> dict[str, Any]:
    splits = {"train": Dataset(training.float()), "test": Dataset(held_out.float())}
    return verdicts_of(samples, data=TensorSource(splits, EventScale()))


def withheld(result: dict[str, Any]) -> dict[str, str]:
    return {row["part"]: row["reason"] for row in result["audit"]["withheld"]}


def sets_of(training: torch.Tensor, held_out: torch.Tensor, scale: EventScale) -> Sets:
    given = [Dataset(scale.from_raw(each).float()) for each in (training, held_out, held_out, held_out[:0])]
    return Sets(*given, scale)


def read(sets: Sets, samples: torch.Tensor, seed: int = 0) -> IncompletePoints:
    found = incomplete_points(sets, Samples(samples), "samples", seed)
    assert found is not None
    return found


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
    incomplete = read(sets_of(training, points(1, 200), scale), with_gaps(copied))
    found = gap_copies(incomplete.sets, AuditOptions(), 0)
    assert found.rates.samples >= 38
    assert len(found.named) >= 38
    assert all(found.near.index[place] == 50 + place for place in found.named)
    assert incomplete.sets.called("samples", 3) == "row 10"


@pytest.mark.parametrize("apart", [0.0, 1e-3])
def test_noisy_copies_of_points_that_occur_twice_are_found(apart: float) -> None:
    random = torch.Generator().manual_seed(9)
    once = points(0, 200)
    training = torch.cat([once, once + apart * torch.randn(200, 5, generator=random)])
    copied = once[:150] + 1e-3 * torch.randn(150, 5, generator=random)
    incomplete = read(sets_of(training, points(1, 200), EventScale()), with_gaps(copied))
    found = gap_copies(incomplete.sets, AuditOptions(), 0)
    assert found.rates.samples >= 145
    assert len(found.named) >= 140


def test_samples_with_gaps_that_are_no_copies_are_not_found() -> None:
    sets = sets_of(points(0, 200), points(1, 200), EventScale())
    incomplete = read(sets, with_gaps(points(2, 40)))
    verdict = judge([of_copies(gap_copies(incomplete.sets, AuditOptions(), 0))], 0.05)[0]
    assert not verdict["found"]
    assert "the share of samples with missing values is" in verdict["text"]


def test_samples_that_are_sorted_by_their_gaps_are_no_copies() -> None:
    # A fifth of them lack one column, the others all but two; there are fewer held-out points than samples.
    false = 0
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        training, held_out, rows = (torch.randn(count, 10, generator=random).double() for count in (1000, 100, 500))
        rows[:100, 0] = rows[100:, 2:] = NAN
        incomplete = read(sets_of(training, held_out, EventScale()), rows)
        false += judge([of_copies(gap_copies(incomplete.sets, AuditOptions(), seed))], 0.05)[0]["found"]
    assert false <= 3


def test_copies_at_the_end_of_many_samples_are_found() -> None:
    training, rows = points(0, 1500), with_gaps(points(2, 3000))
    rows[1500:] = with_gaps(training)
    rows[3:5, :4] = NAN
    result = audited(training, points(1, 200), Samples(rows, points(3, 60)))
    assert result["metrics"]["samples with missing values"] == 3000
    (said,) = (one for one in result["audit"]["verdicts"] if one["where"] == "columns that they have")
    assert said["found"]
    assert 0.4 < said["value"] < 0.6
    assert "500 of 2,998 were drawn at random and compared" in said["text"]
    reasons = withheld(result)
    part = "copies among samples with missing values, of "
    assert reasons[part + "those not drawn"] == "500 of 2,998 were drawn at random and compared"
    assert reasons[part + "one value"] == "2 of them have fewer than two values, and one value is no copy"


@pytest.mark.parametrize(("training", "held_out"), [(1, 30), (19, 30), (30, 19)])
def test_few_points_withhold_the_comparison(training: int, held_out: int) -> None:
    result = audited(points(0, training), points(1, held_out), Samples(with_gaps(points(2, 30)), points(3, 30)))
    few = "training" if training < 20 else "held-out"
    said = withheld(result)["copies among samples with missing values"]
    assert said == f"the tests of copying need at least 20 {few} points; {min(training, held_out)} were given"


@pytest.mark.parametrize("copies", [True, False])
def test_few_complete_samples_leave_an_answer_about_the_others(copies: bool) -> None:
    training = points(0, 200)
    rows = with_gaps(training[:60] if copies else points(2, 60))
    answer = audited(training, points(1, 200), Samples(rows, points(3, 10)))["answer"]
    assert answer["quantity"] == "copied share of the samples with missing values (columns that they have)"
    assert answer["verdict"].startswith("This model copies" if copies else "No sign of copying")
    assert answer["value"] == pytest.approx(float(copies), abs=0.1)
    assert any("10 complete ones were given; 20 are needed" in caveat for caveat in answer["caveats"])


class Training(Samples):
    def load(self, split: str) -> Dataset:
        return super().load({"train": "test"}.get(split, split))


def test_copies_of_training_points_with_gaps_are_found() -> None:
    training, held_out = points(0, 400), points(1, 200)
    data = Training(with_gaps(training[:150]), training[150:])
    samples = Samples(training[:0], torch.cat([training[:60], points(2, 60)]))
    result = verdicts_of(samples, data=data, held_out=Samples(with_gaps(held_out[:60]), held_out[60:]))
    (said,) = (one for one in result["audit"]["verdicts"] if one["where"] == "training points with missing values")
    assert said["found"]
    assert said["value"] == pytest.approx(0.5, abs=0.05)
    assert "relative to the neighbour of this point, than" in said["text"]
    assert "of its samples are near-exact copies" in result["answer"]["verdict"]
    listed = next(one for one in result["audit"]["copies"] if one["space"] == "training points with missing values")
    named = [one for one in listed["nearest"] if one["named"]]
    assert len(named) >= 55
    # The points with gaps are the last 150 rows, and the first 60 of them are copied.
    assert all(one["training"] == 250 + one["sample"] for one in named if one["sample"] < 60)
    caveats = result["answer"]["caveats"]
    assert "60 held-out points have missing values and were left out" in caveats
    assert not any("would not be seen" in caveat for caveat in caveats)


def test_copies_with_gaps_of_points_with_gaps_are_found() -> None:
    """They are compared in the columns that both have."""
    training, rows = points(0, 400), with_gaps(points(0, 400)[:150])
    data, samples = (
        Training(rows, training[150:]),
        Samples(with_gaps(torch.cat([rows[:40], points(5, 40)])), points(2, 60)),
    )
    result = verdicts_of(samples, data=data, held_out=Samples(training[:0], points(1, 200)))
    (said,) = (one for one in result["audit"]["verdicts"] if one["where"] == "columns that both have")
    assert said["found"]
    assert said["value"] == pytest.approx(0.5, abs=0.1)
    assert "% of its samples with missing values are near-exact copies" in result["answer"]["verdict"]
    listed = next(one for one in result["audit"]["copies"] if one["space"] == "columns that both have")
    named = [one for one in listed["nearest"] if one["named"]]
    assert len(named) >= 35
    # Samples with gaps are rows 60 and on, training points with gaps rows 250 and on.
    assert all(one["training"] == 190 + one["sample"] for one in named if one["sample"] < 100)
    assert not any("would not be seen" in caveat for caveat in result["answer"]["caveats"])


def test_copies_with_gaps_are_found_where_columns_hold_few_values() -> None:
    """Rows that share such columns alone are at distance 0 too."""
    random = torch.Generator().manual_seed(0)
    drawn = [torch.randn(count, 6, generator=random) for count in (300, 100, 200, 80)]
    for each in drawn:
        each[:, 3:] = each[:, 3:].clamp(-1, 1).round()
    training, gaps, held_out, samples = drawn
    gaps[torch.arange(100), torch.arange(100) % 6] = NAN
    samples[torch.arange(80), torch.arange(80) % 6] = NAN
    samples[:40] = gaps[:40]
    given = [Dataset(each) for each in (gaps, held_out, samples, samples[:0])]
    matches, _ = copies_of_gaps(Sets(*given, EventScale()), Dataset(training), AuditOptions(), 0)
    assert (matches.near.ratio[:40] == 0).sum() >= 36
    assert (matches.near.index[:40] == range(40)).sum() >= 36
    assert matches.rates.p_more() < 1e-4


def test_points_with_gaps_that_copy_nothing_are_a_false_alarm_in_one_of_twenty_audits() -> None:
    false = 0
    for seed in range(40):
        random = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(count, 5, generator=random) * 10.0 ** torch.arange(-2, 3) for count in (200, 60, 100, 120)]
        training, gaps, held_out, samples = drawn
        for each in (training, gaps, held_out, samples):
            each[:, 2:4] = (each[:, 2:4] / 5).round()
        for each in (gaps, samples):
            each[torch.rand(each.shape, generator=random) < 0.3] = NAN
        given = [Dataset(each) for each in (gaps, held_out, samples, samples[:0])]
        matches, _ = copies_of_gaps(Sets(*given, EventScale()), Dataset(training), AuditOptions(), seed)
        false += matches.rates.p_more() < 0.05
    assert false <= 4


def test_the_nearest_row_in_the_columns_that_both_have_by_hand() -> None:
    """In columns 0 and 2 the row is 4 from a complete one. Samples are 0 and 2 from it; the third has one column of it.

    In all three columns it would be 5 from the complete one, and distances are scaled up by the root of 3/2 to find it.
    """
    complete = torch.tensor([[0.0, 3, 4, 9], [50, 60, 70, 80]]).repeat(10, 1)
    row = torch.tensor([[0.0, 0, 0, NAN]])
    samples = torch.tensor([[0.0, NAN, 0, 1], [0, NAN, 2, 1], [0, NAN, NAN, 1]]).repeat(7, 1)
    given = [Dataset(each) for each in (row, samples.nan_to_num(7.0), samples, samples[:0])]
    found, _ = copies_of_gaps(Sets(*given, EventScale()), Dataset(complete), AuditOptions(scale="none"))
    assert found.space == "columns that both have"
    assert found.near.ratio == pytest.approx([0, 1 / 2, math.inf] * 7)
    assert found.near.distance[:2] == pytest.approx([0, 2])


def test_training_points_with_gaps_that_nothing_copies_are_no_finding() -> None:
    """A false alarm in one of twenty audits, of columns of other widths, two of them rounded."""
    false = 0
    for seed in range(40):
        random = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(count, 5, generator=random).double() for count in (200, 60, 100, 120)]
        training, gaps, held_out, samples = (each * 10.0 ** torch.arange(-2, 3) for each in drawn)
        for each in (training, gaps, held_out, samples):
            each[:, 2:4] = (each[:, 2:4] / 5).round()
        gaps[torch.rand(60, 5, generator=random) < 0.3] = NAN
        found = incomplete_points(sets_of(training, held_out, EventScale()), Samples(gaps), "training", 0)
        assert found is not None
        sets = replace(found.sets, samples=Dataset(samples.float()))
        matches, _ = copies_of_gaps(sets, Dataset(training.float()), AuditOptions())
        false += matches.rates.p_more() < 0.05
    assert false <= 4


def test_the_nearest_point_with_gaps_by_hand() -> None:
    """Points with gaps are 2, 3 and 0 from complete ones; the third is left out."""
    complete = torch.tensor([[0.0, 9, 2], [7, 1, 4], [5, 5, 8]]).repeat(7, 1)
    rows = torch.tensor([[0, NAN, 4], [NAN, 1, 1], [5, 5, NAN]])
    samples = torch.tensor([[0, 0, 3.0], [0, 1, 2], [5, 5, 1]]).repeat(7, 1)
    given = [Dataset(each) for each in (rows, samples, samples, samples[:0])]
    options = AuditOptions(scale="none")
    found, repeated = copies_of_gaps(Sets(*given, EventScale()), Dataset(complete), options)
    assert repeated == 1
    assert found.near.index.tolist() == [0, 1, 1] * 7
    assert found.near.distance == pytest.approx([1, 1, 4] * 7)
    assert found.near.ratio == pytest.approx([1 / 2, 1 / 3, 4 / 3] * 7)
    given[0] = Dataset(rows[2:])
    with pytest.raises(DataError, match="each of these 1 points is repeated by a complete one"):
        copies_of_gaps(Sets(*given, EventScale()), Dataset(complete), options)


def test_points_that_complete_ones_repeat_are_withheld() -> None:
    training = points(0, 300)
    rows = torch.cat([with_gaps(training[:40]), with_gaps(points(4, 60))])
    data = Training(rows, training)
    result = verdicts_of(Samples(training[:0], points(2, 60)), data=data, held_out=Samples(rows[:0], points(1, 100)))
    part = "copies of training points with missing values, of repeated ones"
    assert withheld(result)[part] == "40 of them are repeated by a complete one in the columns that they have"
    assert "copied share (training points with missing values)" in result["metrics"]


def test_few_complete_training_points_leave_a_caveat() -> None:
    training = points(0, 30)
    data = Training(with_gaps(training[:15]), training[15:])
    result = verdicts_of(Samples(training[:0], points(2, 30)), data=data, held_out=Samples(training[:0], points(1, 30)))
    said = "samples were not compared with 15 training points with missing values: copies of them would not be seen"
    assert said in result["warnings"]
    few = "the tests of copying need at least 20 training points; 15 were given"
    assert withheld(result)["copies of training points with missing values"] == few


def test_infinite_values_are_missing_ones() -> None:
    training = points(0, 200)
    rows = with_gaps(training[:40])
    rows[rows == rows[:, [4]]] = torch.inf
    incomplete = read(sets_of(training, points(1, 200), EventScale()), rows)
    assert gap_copies(incomplete.sets, AuditOptions(), 0).rates.samples == 40


def test_a_source_without_gaps_and_rows_of_one_value_are_left_out() -> None:
    sets = sets_of(points(0, 200), points(1, 200), EventScale())
    row = torch.full((1, 5), NAN)
    row[0, 2] = 1
    assert incomplete_points(sets, object(), "samples", 0) is None
    assert incomplete_points(sets, Samples(row[:0]), "samples", 0) is None
    found = read(sets, row)
    assert (found.count, found.few, len(found.sets.samples)) == (1, 1, 0)


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
    assert "100.0% of its samples are near-exact copies" in both
    assert "100.0% of its samples with missing values are near-exact copies" in both
    clear = answer_entries([verdict("columns", False), {**gaps, "found": False}], [])["verdict"]
    assert clear.startswith("No sign of copying. An estimated 5.0% of its samples are near-exact copies")
