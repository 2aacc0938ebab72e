"""Tables whose columns have names: they are compared by name, in whatever order they stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import DataError
from scorefold.interfaces import TensorSource
from scorefold.stage import StageContext
from scorefold_audit.audit import audit
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.answers import answer_entries

OPTIONS = AuditOptions.model_validate({"permutations": 99, "quality_points": 50})


class Table(TensorSource):
    """Points whose columns have these names, a letter each; ``split`` holds all of them."""

    def __init__(self, x: Tensor, names: str, split: str = "test", scale: EventScale | None = None) -> None:
        super().__init__({split: Dataset(x.float())}, scale or EventScale())
        self.column_names = tuple(names)


class WithGaps(Table):
    """A table whose rows with gaps are left out."""

    def __init__(self, x: Tensor, names: str, gaps: Tensor) -> None:
        super().__init__(x, names)
        self.gaps = gaps

    def incomplete_rows(self) -> tuple[Tensor, Tensor]:
        return torch.arange(len(self.gaps)), self.gaps


def points(seed: int, rows: int) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 2.0, 3.0])


def audited(samples: TensorSource, training: Tensor, names: str = "abc", **given: Any) -> dict[str, Any]:
    inputs = {"data": Table(training, names, "train"), "held_out": Table(points(1, 200), "abc"), **given}
    return dict(audit(samples, inputs, OPTIONS, StageContext("audit")).result)


def test_columns_in_another_order_are_compared_by_name() -> None:
    training = points(0, 200)
    samples = torch.cat([training[:40], points(2, 60)])
    scale = EventScale(shift=(1.0, 2.0, 3.0), factor=(4.0, 5.0, 6.0))
    for order, names in (([0, 1, 2], "abc"), ([2, 1, 0], "cba"), ([1, 2, 0], "bca")):
        result = audited(Table(samples[:, order], names), training)
        assert result["metrics"]["named copies (columns)"] >= 40
    held_out = Table(scale.from_raw(points(1, 200)[:, [2, 0, 1]].double()).float(), "cab", scale=scale)
    result = audited(Table(samples, "abc"), training, held_out=held_out)
    assert result["metrics"]["named copies (columns)"] >= 40
    assert result["metrics"]["held-out points that are training points"] == 0


def test_samples_with_gaps_are_compared_by_name() -> None:
    training = points(0, 200)
    gaps = training[:40, [2, 1, 0]].double()
    gaps[torch.arange(40), torch.arange(40) % 3] = torch.nan
    result = audited(WithGaps(points(2, 60)[:, [2, 1, 0]], "cba", gaps), training)
    assert result["metrics"]["copied share (samples with missing values)"] > 0.9


@pytest.mark.parametrize(
    ("names", "said", "fix"),
    [("abz", "have z and lack c", "[-z]"), ("abcd", "have d", "[-d]"), ("ab", "lack c", "[-c]")],
)
def test_other_columns_are_refused_by_their_names(names: str, said: str, fix: str) -> None:
    samples = torch.randn(60, len(names), generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=f"samples have other columns than the training data: they {said}") as refused:
        audited(Table(samples, names), points(0, 200))
    assert f"columns: {fix} leaves them out" in str(refused.value.hint)


@pytest.mark.parametrize(("names", "warned"), [("xyz", True), ("", False), ("abc", False)])
def test_names_that_have_none_in_common_are_a_caveat(names: str, warned: bool) -> None:
    caveats = audited(Table(points(2, 60), names), points(0, 200))["answer"]["caveats"]
    said = "the columns of the samples have other names (x, y, z), and are compared in their order"
    assert (said in caveats) == warned


def test_samples_that_are_narrower_than_the_data_memorise_nothing() -> None:
    """They are near to training points, and as near to held-out points."""
    narrow = audited(Table(0.6 * points(2, 300), "abc"), points(0, 400), held_out=Table(points(1, 300), "abc"))
    found = {verdict["name"]: verdict for verdict in narrow["audit"]["verdicts"]}
    assert found["memorisation"]["value"] > 0.55
    assert not found["memorisation"]["found"]
    training = points(0, 400)
    near = training[:300] + 0.1 * points(3, 300)
    memorised = audited(Table(near, "abc"), training, held_out=Table(points(1, 300), "abc"))
    assert next(verdict for verdict in memorised["audit"]["verdicts"] if verdict["name"] == "memorisation")["found"]


def test_listed_copies_are_no_acquittal() -> None:
    entry = {"name": "copies", "where": "columns", "found": False, "value": 0.04, "interval": [-0.02, -0.01]}
    rows = [{"sample_name": f"row {k}", "training_name": f"row {9 * k}", "named": k < 3} for k in range(5)]
    said = answer_entries([{**entry, "smallest_found": 0.1}], [], [{"named": 3, "space": "columns", "nearest": rows}])
    surest = (
        "The surest are row 0 of the samples (a copy of row 0 of the training data), row 1 of the samples (a copy of"
    )
    assert f" {surest} row 9 of the training data) and row 2 of the samples (a copy of row 18 of" in said["verdict"]
    assert said["verdict"].startswith("3 samples are listed as copies, though their share may be chance.")
    assert "95% interval 0.0% to 0.0%" in said["verdict"]
    assert said["sure"] == "with caution"
    assert answer_entries([{**entry, "smallest_found": 0.1}], [])["verdict"].startswith("No sign of copying")
    # Sentence and value are of the space whose list names the most.
    both = [{**entry, "where": "pixels", "value": 0.0, "smallest_found": 0.1}, {**entry, "where": "spectrum"}]
    lists = [{"named": 0, "space": "pixels", "nearest": []}, {"named": 3, "space": "spectrum", "nearest": rows}]
    said = answer_entries(both, [], lists)
    assert "An estimated 4.0% of its samples" in said["verdict"]
    assert (said["quantity"], said["value"]) == ("copied share of the samples (spectrum)", 0.04)


def of_name(result: dict[str, Any], name: str, where: str = "columns") -> dict[str, Any]:
    verdicts = result["audit"]["verdicts"]
    found: dict[str, Any] = next(one for one in verdicts if (one["name"], one["where"]) == (name, where))
    return found


def test_held_out_points_of_another_time_accuse_no_right_model() -> None:
    """They lie far from training points, so that samples look near. Training points say how near others are."""
    held_out = Table(points(1, 300) + 1.5, "abc")
    training = points(0, 400)
    right = audited(Table(points(2, 300), "abc"), training, held_out=held_out)
    assert of_name(right, "memorisation")["value"] > 0.6
    assert not of_name(right, "memorisation")["found"]
    assert not of_name(right, "copies")["found"]
    assert right["audit"]["copies"][0]["named"] == 0
    assert any("held-out points have other means or spreads" in said for said in right["warnings"])
    fair = audited(Table(points(2, 300), "abc"), training, held_out=Table(points(1, 300), "abc"))
    assert not any("other means or spreads than training" in said for said in fair["warnings"])
    copier = audited(Table(torch.cat([training[:60], points(2, 240)]), "abc"), training, held_out=held_out)
    assert of_name(copier, "copies")["found"]
    named = [row for row in copier["audit"]["copies"][0]["nearest"] if row["named"]]
    assert sum(row["sample"] == row["training"] < 60 for row in named) > 0.85 * len(named) > 45


def test_samples_that_equal_held_out_points_are_a_caution() -> None:
    training, held_out = points(0, 400), points(1, 300)
    drawn = Table(torch.cat([held_out[:90], points(2, 210)]), "abc")
    said = "90 of 300 samples equal a held-out point exactly, and no training point"
    swapped = audited(drawn, training, held_out=Table(held_out, "abc"))
    assert any(one.startswith(said) for one in swapped["answer"]["caveats"])
    whole = [each.round() for each in (training, held_out, points(2, 300))]
    equal = audited(Table(whole[2], "abc"), whole[0], held_out=Table(whole[1], "abc"))
    assert not any("equal a held-out point" in one for one in equal["warnings"])


def test_rows_that_are_equal_but_for_one_column_are_copies() -> None:
    def drawn(seed: int, rows: int) -> Tensor:
        return torch.cat([points(seed, rows), points(seed + 9, rows)], 1)

    training, held_out, samples = drawn(0, 400), Table(drawn(1, 300), "abcdef"), drawn(2, 300)
    samples[:60] = training[100:160]
    samples[torch.arange(60), torch.arange(60) % 6] = points(30, 60)[:, 0]
    result = audited(Table(samples, "abcdef"), training, "abcdef", held_out=held_out)
    assert of_name(result, "copies", "all columns but one")["value"] == pytest.approx(0.2, abs=1e-3)
    assert "20.0% of its samples are near-exact copies" in result["answer"]["verdict"]
    listed = next(one for one in result["audit"]["copies"] if one["space"] == "all columns but one")
    pairs = [(row["sample"], row["training"]) for row in listed["nearest"] if row["named"]]
    assert pairs == [(place, 100 + place) for place in range(60)]
    chance = audited(
        Table(drawn(5, 300).round(), "abcdef"),
        training.round(),
        "abcdef",
        held_out=Table(drawn(1, 300).round(), "abcdef"),
    )
    reasons = {row["part"]: row["reason"] for row in chance["audit"]["withheld"]}
    assert "rows of these data are often so alike" in reasons["copies (all columns but one)"]


def test_an_unrounded_column_is_no_copying() -> None:
    """Equal rows are usual, and samples whose whole numbers are not rounded equal them in all columns but one."""
    random = torch.Generator().manual_seed(0)

    def rows(count: int) -> Tensor:
        classes = torch.randint(3, (count, 4), generator=random).float()
        return torch.cat([classes, torch.randn(count, 1, generator=random) * 9], 1)

    training, held_out, samples = rows(600), rows(300), rows(300)
    training[:, 4], held_out[:, 4] = training[:, 4].round(), held_out[:, 4].round()
    result = audited(Table(samples, "abcde"), training, "abcde", held_out=Table(held_out, "abcde"))
    assert not any(one["found"] for one in result["audit"]["verdicts"] if one["name"] == "copies")


def test_few_training_points_and_paired_ones_hide_no_copies() -> None:
    few = points(0, 40)
    samples = torch.cat([few[:30], points(2, 270)])
    found = audited(Table(samples, "abc"), few, held_out=Table(points(1, 600), "abc"))
    assert of_name(found, "copies")["found"]
    alone = points(0, 250)
    pairs = torch.cat([alone, alone + 0.2 * points(7, 250)])
    copies = torch.cat([pairs[:90] + 0.01 * points(8, 90), points(2, 210)])
    found = audited(Table(copies, "abc"), pairs, held_out=Table(points(1, 300), "abc"))
    assert of_name(found, "copies")["found"]


@pytest.mark.parametrize("change", [lambda x: 3 * x, lambda x: x / 3, lambda x: x + 4])
def test_samples_in_other_units_acquit_nobody(change: Any) -> None:
    training = points(0, 400)
    samples = Table(change(torch.cat([training[:60], points(2, 240)])), "abc")
    answer = audited(samples, training, held_out=Table(points(1, 300), "abc"))["answer"]
    said = "Whether this model copies can't be said: samples have other medians or spreads"
    assert answer["verdict"].startswith(said)
    assert (answer["value"], answer["sure"]) == (None, "withheld")
    assert "in 3 of 3 columns (a, b, c)" in answer["verdict"]


def test_more_listed_copies_than_near_exact_ones_are_said() -> None:
    verdict = {"name": "copies", "where": "columns", "found": True, "value": 0.02, "interval": [0.01, 0.04]}
    rows = [{"sample_name": "row 4", "training_name": "row 9", "named": True}]
    for named, said in ((46, True), (12, False)):
        listed = {"space": "columns", "samples": 300, "named": named, "false_share": 0.1, "nearest": rows}
        text = answer_entries([{**verdict, "smallest_found": None}], [], [listed])["verdict"]
        sentence = "46 of 300 are listed as copies, near-exact or not, at most 10% of them wrongly."
        assert (sentence in text) == said


@pytest.mark.parametrize("copies", [1, 3])
def test_few_equal_rows_are_named_and_are_no_acquittal(copies: int) -> None:
    training = points(0, 300)
    samples = torch.cat([points(2, 97), training[5 : 5 + copies]])
    result = audited(Table(samples, "abc"), training)
    said = result["answer"]["verdict"]
    assert said.startswith(
        f"{copies} sample{'s equal' if copies > 1 else ' equals'} a training point exactly. No held-out"
    )
    assert result["answer"]["sure"] == "with caution"
    pairs = [(row["sample"], row["training"]) for row in result["audit"]["equal"]]
    assert pairs == [(97 + place, 5 + place) for place in range(copies)]


@pytest.mark.parametrize("by", ["training", "held-out"])
def test_equal_rows_that_others_have_too_are_no_copies(by: str) -> None:
    """Whole numbers are equal by chance, among training points or held-out ones."""
    training, held_out = points(0, 300), points(1, 200)
    samples = torch.cat([points(2, 97), training[5:7]])
    if by == "training":
        training[8] = training[9]
    else:
        held_out[3] = training[20]
    result = audited(Table(samples, "abc"), training, held_out=Table(held_out, "abc"))
    assert result["answer"]["verdict"].startswith("No sign of copying")
    assert result["audit"]["equal"] == []


def test_a_share_above_0_by_its_interval_is_no_acquittal() -> None:
    entry = {"name": "copies", "where": "columns", "found": False, "value": 0.15, "interval": [0.03, 0.29]}
    said = answer_entries([{**entry, "smallest_found": 0.2}], [])
    assert said["verdict"].startswith("This model may copy its training data. An estimated 15.0%")
    assert said["sure"] == "with caution"
    clear = answer_entries([{**entry, "interval": [0.0, 0.29], "smallest_found": 0.2}], [])
    assert clear["verdict"].startswith("No sign of copying")


def test_wide_tables_of_few_rows_are_audited() -> None:
    """The cells of C_T are found in as many principal directions as there are training rows."""
    x = torch.randn(110, 80, generator=torch.Generator().manual_seed(0))
    names = "".join(chr(200 + place) for place in range(80))
    inputs = {"data": Table(x[:50], names, "train"), "held_out": Table(x[50:80], names)}
    result = audit(Table(x[80:], names), inputs, OPTIONS, StageContext("audit")).result
    assert result["answer"]["verdict"].startswith("No sign of copying")


def test_held_out_points_of_another_kind_judge_neither_quality_nor_duplicates() -> None:
    result = audited(Table(points(2, 200), "abc"), points(0, 300), held_out=Table(points(1, 200) + 6, "abc"))
    names = {verdict["name"] for verdict in result["audit"]["verdicts"]}
    assert not names & {"off-the-data", "misses-data", "different", "duplicates", "overlap"}
    assert "near-duplicates and quality of samples" in [row["part"] for row in result["audit"]["withheld"]]


def test_columns_in_other_units_are_named() -> None:
    large = torch.tensor([1.0, 1.0, 100.0])
    with pytest.raises(DataError, match="samples spread 0") as caught:
        audited(Table(points(2, 100), "abc"), points(0, 300) * large, held_out=Table(points(1, 200) * large, "abc"))
    assert str(caught.value.hint).endswith("columns that differ: 'c'")
