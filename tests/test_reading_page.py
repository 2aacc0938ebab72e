"""The page on reading a dimension explains each warning that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scorefold.data import Dataset
from scorefold_iddiff.pointwise import score_warnings
from scorefold_iddiff.pointwise.plateaus import DimensionPlateau, memorised_levels
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_iddiff.pointwise.support import Corrected, DataSurvey, LevelCheck
from scorefold_neighbours.estimators.estimator import bias_warning
from scorefold_toolkit.data.series import following_rows

PAGE = (Path(__file__).parent.parent / "docs" / "reading-dimensions.md").read_text()
ROWS = re.findall(r"^\| `(.*?)` \|.*\|.*\|$", PAGE.partition("| warning |")[2], re.MULTILINE)


def reading(dimension: float, loss: float, asymmetry: float) -> NoiseLevelReading:
    values = torch.full((4,), dimension, dtype=torch.float64)
    read = NoiseLevelReading(values, 0 * values, values, 0, loss=values + loss, asymmetry=0 * values + asymmetry)
    read.flipd = values + 3
    return read


def clean(read: NoiseLevelReading) -> Corrected:
    assert read.flipd is not None
    return Corrected(read.trace, read.flipd, read.loss)


def every_warning() -> list[str]:
    look = DataSurvey(rows=100, nearest=1.0, copies=0.5, constant=2, spacing=0.5)
    plateau = DimensionPlateau(2, 0, 3)
    row = {"dimension": 2.0, "least_sigma": 0.1, "greatest_sigma": 1.0, "share": 0.5, "kind": "manifold"}
    sound, unsound = LevelCheck(1.0, 2.0, ""), LevelCheck(3.0, 2.0, "its trace differs from its denoising loss")
    first, second, third = reading(3, 9, 1), reading(6, 0, 0), reading(1, 0, 0)
    dimensions = torch.tensor([[0.0], [5.0], [5.0]])
    score: Any = torch.nn.Linear(1, 1)
    score.event_shape, score.config = (1,), SimpleNamespace(network=None, prediction="eps", weighting="edm")
    return [
        *score_warnings.of_score(first, clean(first), 6),
        *score_warnings.of_score(second, clean(second), 6),
        *score_warnings.of_score(third, clean(third), 1),
        *score_warnings.of_checks([0.1, 0.2], [sound, unsound]),
        *score_warnings.of_checks([0.1, 0.2], [unsound, unsound]),
        *score_warnings.of_checks([0.1], [unsound]),
        *score_warnings.of_bent([25]),
        *score_warnings.of_linear(11.0, LevelCheck(10.9, 11.0, ""), 11),
        score_warnings.of_curved(11.0, "the data lie near an ellipsoid, whose dimension is lower"),
        score_warnings.of_curved(12.0, "neighbours show fewer dimensions than in flat data of the same covariance"),
        *score_warnings.of_network(None, score),
        *score_warnings.of_values(99.0, None, 6),
        *score_warnings.of_values(99.0, None, 1),
        *score_warnings.of_values(6.0, (5.9, 6.1), 6),
        *score_warnings.slant_warnings(9.0, 3.0),
        *score_warnings.bent_by(20.0),
        *score_warnings.of_mixture([row, {**row, "dimension": 5.0}]),
        *score_warnings.of_level(torch.full((2,), 7.0), [[], []], [], 5),
        *score_warnings.of_level(torch.full((2,), 7.0), [[plateau], [plateau]], [row], 5),
        *score_warnings.of_data(look, 0.01, 5, 6),
        *score_warnings.of_data(DataSurvey(100, 0.0, 0.9, 6, 0.0), 0.01, 50, 6),
        *score_warnings.of_data(DataSurvey(100, 1.0, 0.0, 2, 0.0, 0.06), 0.01, 50, 6),
        *memorised_levels([0.1, 1.0, 2.0], dimensions, 1.0)[1],
        bias_warning(7.0, 1000, 20),
        following_rows(Dataset(torch.arange(100.0)[:, None], index=torch.arange(100))),
    ]


def explains(row: str, warning: str) -> bool:
    return re.match(".*".join(map(re.escape, row.split("…"))), warning) is not None


@pytest.mark.parametrize("warning", every_warning())
def test_each_warning_is_on_the_page_once(warning: str) -> None:
    plural = warning.replace("the one direction counts", "all 1 directions count")
    assert len([row for row in ROWS if explains(row, plural)]) == 1


@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_page_is_a_warning_that_there_is(row: str) -> None:
    assert any(explains(row, warning) for warning in every_warning())


def test_the_page_has_as_many_rows_as_there_are_kinds() -> None:
    assert len(ROWS) == 25
