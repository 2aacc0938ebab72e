"""What estimators and allocators answer with, as JSON, as arrays and as text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from scorefold.artefacts import json_text
from scorefold.errors import DataError
from scorefold.results import Allocation, Estimate, PlanRow


def test_an_estimate_is_split_into_json_and_arrays() -> None:
    pointwise, spectrum, curve = torch.tensor([1.0, 2.0]), torch.ones(1, 4), torch.arange(3)
    answer = Estimate(
        "intrinsic dimension",
        1.5,
        (1.25, 1.75),
        0.9,
        pointwise=pointwise,
        spectrum=spectrum,
        diagnostics={"rule": "projector", "levels": [0.1, 0.2], "curve": curve},
    )
    assert json.loads(json_text(answer.summary())) == {
        "quantity": "intrinsic dimension",
        "value": 1.5,
        "interval": [1.25, 1.75],
        "level": 0.9,
        "headline": "",
        "covers": "",
        "diagnostics": {"rule": "projector", "levels": [0.1, 0.2]},
    }
    arrays = answer.tensors()
    assert set(arrays) == {"curve", "pointwise", "spectrum"}
    assert arrays["pointwise"] is pointwise
    assert arrays["spectrum"] is spectrum
    assert arrays["curve"] is curve


def test_a_bare_estimate_is_complete() -> None:
    answer = Estimate("entropy", 2.0)
    assert answer.summary()["interval"] is None
    assert answer.tensors() == {}
    (axes,) = answer.plot().axes
    assert axes.get_xlabel() == "entropy"


@pytest.mark.parametrize("size", [1e-8, 1.0])
def test_a_histogram_of_small_values_has_many_bars(size: float) -> None:
    (axes,) = Estimate("rate", size, pointwise=size * torch.linspace(0.5, 1.5, 200, dtype=torch.float64)).plot().axes
    assert len(axes.patches) == 40
    assert size == 1.0 or axes.get_xlim()[1] < 10 * size


def test_an_estimate_may_have_no_value() -> None:
    said = "3 to 46, depending on the scale; no single dimension"
    answer = Estimate("intrinsic dimension", None, pointwise=torch.tensor([3.0, 46.0]), headline=said)
    summary = json.loads(json_text(answer.summary()))
    assert (summary["value"], summary["interval"], summary["headline"]) == (None, None, said)
    assert answer.text() == f"intrinsic dimension: {said}"
    with pytest.raises(DataError, match="no single dimension"):
        answer.number()
    (axes,) = answer.plot().axes
    assert said in [" ".join(text.get_text().split()) for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("fields", [{"headline": "none", "interval": (1.0, 2.0)}, {}])
def test_an_estimate_without_a_value_needs_a_headline_and_no_interval(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="entropy: given"):
        Estimate("entropy", None, **fields)


def test_an_interval_says_what_it_covers() -> None:
    points = Estimate("entropy", 2.0, (1.5, 2.5), covers="points")
    assert points.text() == "entropy 2 (95% spread over points 1.5 to 2.5)"
    assert Estimate("entropy", 2.0, (1.5, 2.5)).text() == "entropy 2 (95% interval 1.5 to 2.5)"
    assert points.number() == 2.0


def rows(*sizes: tuple[int, int, int]) -> tuple[PlanRow, ...]:
    return tuple(PlanRow(f"type-{place}", *size) for place, size in enumerate(sizes))


def test_an_allocation_is_json_whatever_its_curve_is_made_of() -> None:
    plan = Allocation(
        "optimal",
        rows((4, 3, 2)),
        leftover=5,
        predicted_loss=0.25,
        interval=(0.2, 0.3),
        near_optimal=(rows((2, 6, 4)), rows((5, 2, 2))),
        curve={"shots": [1, 2], "loss": torch.tensor([0.5, 0.25])},
    )
    assert json.loads(json_text(plan.summary())) == {
        "status": "optimal",
        "plan": [{"task_type": "type-0", "tasks": 4, "support": 3, "query": 2}],
        "leftover": 5,
        "predicted_loss": 0.25,
        "interval": [0.2, 0.3],
        "near_optimal": [
            [{"task_type": "type-0", "tasks": 2, "support": 6, "query": 4}],
            [{"task_type": "type-0", "tasks": 5, "support": 2, "query": 2}],
        ],
        "curve": {"shots": [1, 2], "loss": [0.5, 0.25]},
        "reason": "",
        "remarks": [],
        "warnings": [],
        "diagnostics": {},
    }
    assert plan.csv() == "shots,loss\n1,0.5\n2,0.25\n"


def test_an_allocation_that_is_none_says_why() -> None:
    refused = Allocation("refused", (), leftover=10, reason="the pilot is below the threshold")
    assert refused.text() == "No recommendation: the pilot is below the threshold."
    infeasible = Allocation("infeasible", (), leftover=10, reason="a task costs 12 labels")
    assert infeasible.text() == "No plan fits the budget and the constraints: a task costs 12 labels."
    assert Allocation("infeasible", (), leftover=10).text() == "No plan fits the budget and the constraints."


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (
            Allocation("optimal", rows((4, 3, 2), (1, 7, 0)), 5, predicted_loss=0.123456),
            "4 type-0 tasks of 3 support and 2 query examples, and 1 type-1 task of 7 support and 0 query examples. "
            "It leaves 5 labels over. The predicted loss is 0.1235.",
        ),
        (
            Allocation("feasible", rows((4, 3, 2)), 1),
            "4 type-0 tasks of 3 support and 2 query examples. It leaves 1 label over.",
        ),
        (
            Allocation("feasible", (PlanRow("task", 1000, 3, 2),), 0),
            "1,000 tasks of 3 support and 2 query examples.",
        ),
        (Allocation("feasible", (), 30), "No tasks. It leaves 30 labels over."),
        (Allocation("infeasible", (), 30), "No plan fits the budget and the constraints."),
    ],
)
def test_a_recommendation_in_words(plan: Allocation, text: str) -> None:
    assert plan.text() == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"value": "three"}, "k: given 'three'; expected a number"),
        ({"value": ...}, "k: given Ellipsis; expected a number"),
        ({"value": math.nan}, "k: given nan; expected a finite number, or None and a headline"),
        ({"value": 2.0, "interval": (1.0, math.inf)}, "k: given inf; expected a finite number"),
        ({"value": 2.0, "interval": (3.0, 1.0)}, r"k: given the interval \(3.0, 1.0\); expected \(low, high\)"),
        ({"value": 2.0, "interval": (3.0,)}, r"k: given the interval \(3.0,\); expected \(low, high\)"),
        ({"value": 2.0, "level": "0.95"}, "k: given the level 0.95; expected a number in"),
        ({"value": 2.0, "level": 95.0}, "k: given the level 95.0; expected a number in"),
        ({"value": [1.0]}, r"k: given \[1.0\]; expected"),
        ({"value": torch.ones(3)}, r"k: given tensor\(\[1., 1., 1.\]\); expected"),
        ({"value": 1 + 2j}, "k: given .*; expected a number"),
        ({"value": 1.0, "interval": ("0", "2")}, "k: given '0'; expected a number"),
        ({"value": 1.0, "pointwise": [1.0, 2.0]}, "k: pointwise is a list; expected a tensor, or None"),
        ({"value": 1.0, "spectrum": "flat"}, "k: spectrum is a str; expected a tensor, or None"),
    ],
)
def test_an_estimate_of_no_number_is_refused_where_it_is_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Estimate("k", **given)


@pytest.mark.parametrize("value", [3, 2.5, True, torch.tensor(2.5), np.float32(2.5), np.int64(3)])
def test_whatever_is_one_number_is_an_estimate(value: Any) -> None:
    assert Estimate("k", value, (0.0, torch.tensor(4.0))).text().endswith("(95% interval 0 to 4)")  # type: ignore[arg-type]


def test_an_estimate_draws_into_given_axes() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert Estimate("dimension", 2.0, interval=(1.5, 2.5), pointwise=torch.arange(9.0)).plot(ax=right) is figure
    assert right.get_xlabel() == "dimension"
    assert not left.lines
    assert len(right.patches) > 1
