"""Precision, recall, density and coverage: closed forms, and where they come in ``assess``."""

from __future__ import annotations

import math

import pytest
import torch
from verb_toys import Shifted, Source, context, rows

from scorefold.errors import DataError
from scorefold.interfaces import ScoreModel
from scorefold_toolkit.metrics.measure import EvaluationBatch, Units
from scorefold_verbs.assess import assess
from scorefold_verbs.config import AssessOptions, NeighboursConfig
from scorefold_verbs.metrics import Neighbours


def measured(truth: torch.Tensor, samples: torch.Tensor, *sizes: int, **config: int) -> dict[str, float]:
    """The metrics of samples (N, D), in batches of these sizes, all in one without any."""
    measure = Neighbours(NeighboursConfig(**config)).start(Units(0.0, 1.0), truth.shape[1:], None)
    for x, y in zip(truth.split(list(sizes) or len(truth)), samples.split(list(sizes) or len(truth)), strict=True):
        measure.add(EvaluationBatch(x, y[None]))
    return measure.metrics()


def test_a_line_by_hand() -> None:
    """Truths 0 1 2 3, each with radius 1; samples .5 and 9 (radius 8.5), once more .5 (radius 0) and 9."""
    truth = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    samples = torch.tensor([[0.5], [9.0], [0.5], [9.0]])
    found = measured(truth, samples, precision_neighbours=1, density_neighbours=1)
    assert found == {"precision": 0.5, "recall": 0.0, "density": 1.0, "coverage": 0.5}


def test_the_right_distribution_has_density_1_and_the_coverage_of_the_formula() -> None:
    n, k = 500, 5
    expected = 1 - math.prod((n - 1 - i) / (2 * n - 1 - i) for i in range(k))
    assert expected == pytest.approx(0.96922, abs=1e-5)
    found = []
    for seed in range(5):
        x = torch.randn(2 * n, 2, generator=torch.Generator().manual_seed(seed))
        found.append(measured(x[:n], x[n:]))
    assert sum(one["coverage"] for one in found) / 5 == pytest.approx(expected, abs=0.012)
    assert sum(one["density"] for one in found) / 5 == pytest.approx(1, abs=0.05)


def test_far_samples_have_none_of_it_and_copies_all() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    assert set(measured(x, x + 100).values()) == {0.0}
    copies = measured(x, x)
    assert (copies["precision"], copies["recall"], copies["coverage"]) == (1, 1, 1)


def test_batches_do_not_matter() -> None:
    x, y = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    assert measured(x, y, 7, 20, 13) == measured(x, y)


def test_too_few_points_are_refused_by_number() -> None:
    with pytest.raises(DataError, match="5 held-out points have no 5 neighbours each"):
        measured(torch.zeros(5, 2), torch.zeros(5, 2))


def model() -> ScoreModel:
    return Shifted()


def test_assess_reports_it_and_loses_nothing_to_too_few_points() -> None:
    data, metric = Source(test=rows(40)), Neighbours(NeighboursConfig())
    outcome = assess(model(), {"data": data, "metrics": [metric]}, AssessOptions(n=2), context())
    assert {"precision", "recall", "density", "coverage"} <= outcome.result["metrics"].keys()
    plain = assess(model(), {"data": data}, AssessOptions(n=2), context())
    assert plain.result["metrics"].items() < outcome.result["metrics"].items()
    twice = assess(model(), {"data": data, "metrics": [metric, metric]}, AssessOptions(n=2), context())
    assert any("two metrics are called" in text for text in twice.result["warnings"])
    few = assess(model(), {"data": Source(test=rows(4)), "metrics": [metric]}, AssessOptions(n=2), context())
    (said,) = (text for text in few.result["warnings"] if "Balls gives no number: 4 held-out points" in text)
    assert "take more of them (options: conditions)" in said
    assert "precision" not in few.result["metrics"]
    assert few.result["answer"]["value"] is not None
