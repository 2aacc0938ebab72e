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
from scorefold_audit.verdicts import answer_entries

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


def audited(samples: TensorSource, training: Tensor, **given: Any) -> dict[str, Any]:
    inputs = {"data": Table(training, "abc", "train"), "held_out": Table(points(1, 200), "abc"), **given}
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
    said = answer_entries([{**entry, "smallest_found": 0.1}], [], [{"named": 3, "nearest": rows}])
    surest = "The surest are row 0 (a copy of row 0 of the training data), row 1 (a copy of row 9 of the training data)"
    assert f" {surest} and row 2 (a copy of row 18 of the training data)." in said["verdict"]
    assert said["verdict"].startswith("3 samples are listed as copies, though their share may be chance.")
    assert "95% interval 0.0% to 0.0%" in said["verdict"]
    assert said["sure"] == "with caution"
    assert answer_entries([{**entry, "smallest_found": 0.1}], [])["verdict"].startswith("No sign of copying")
