"""Diagnostics that take more solves, and small faults of settings and of a user's own metric."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_registry import Host
from scorefold_scoregeometry import examples
from scorefold_toolkit.checks import VARIABLE
from scorefold_toolkit.geodesics import straight
from scorefold_toolkit.geodesics.thorough import _saddles, beside_copies, way_round

PLANE = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 400}}
EXACT = {"use": "score:analytic", "inputs": {"data": PLANE}}
OWN = "scorefold_scoregeometry.examples:"


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def exact(host: Host, **settings: Any) -> Any:
    return host.create("geometry:score", {"noise": 0.3, **settings}, score=EXACT, data=PLANE, dtype=torch.float64)


def test_a_thorough_diagnosis_of_an_exact_score(host: Host) -> None:
    points = torch.cat([row(1.5, 0.2), row(-0.3, 1.1), row(-1, -0.5), row(0.5, -1.2)])
    plain = exact(host).diagnose(points)[0]
    numbers, warnings = exact(host, thorough=True).diagnose(points)
    assert "least eigenvalue" not in plain
    assert numbers["difference of lengths there and back"] < 1e-6
    assert numbers["longest distance over the way round"] == pytest.approx(1.0)
    assert numbers["least eigenvalue"] > 0.1
    least, largest = (numbers[f"{word} length at half and twice the settings"] for word in ("least", "largest"))
    assert least < 1 < largest
    assert 0 < numbers["median curvature"] < 1
    assert numbers["share of planes of positive curvature"] == 1
    assert numbers["length over the neighbour graph's"] < 1.001
    assert not any(word in text for text in warnings for word in ("saddle", "copies", "way round", "there and back"))


def test_a_flow_and_a_conformal_metric_are_diagnosed_too(host: Host) -> None:
    banana = {"flow": {"use": "flow:banana"}, "data": {"use": "data:banana", "config": {"points": 200}}}
    geometry: Any = host.create("geometry:fermat", {"thorough": True}, **banana)
    numbers = geometry.diagnose(geometry.some_points(4))[0]
    assert math.isfinite(numbers["median curvature"])
    assert len(geometry.varied()) == 2


def test_a_path_over_a_hill_is_a_saddle(host: Host) -> None:
    geometry = exact(host)
    found = geometry.solve(row(-1.5, 0), row(1.5, 0))
    assert _saddles(geometry, found)[1] == []
    line = replace(found, paths=[straight(row(-1.5, 0), row(1.5, 0), 32)[0]])
    numbers, (text,) = _saddles(geometry, line)
    assert numbers["least eigenvalue"] < 0
    assert text.startswith("1 of 1 geodesics are saddles")


def test_a_distance_longer_than_the_way_round_is_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = exact(host)
    points = torch.cat([row(1.5, 0.2), row(-0.3, 1.1), row(-1, -0.5)])
    true = geometry.distance_matrix(points)
    solve = geometry._solve

    def longer(a: Tensor, b: Tensor) -> Any:
        found = solve(a, b)
        return replace(found, length=found.length * torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64))

    monkeypatch.setattr(geometry, "_solve", longer)
    with pytest.warns(UserWarning, match="1 of 3 distances were longer than the way over other points"):
        found = geometry.distance_matrix(points)
    assert float(found[0, 2]) == pytest.approx(float(true[0, 1] + true[1, 2]))
    torch.testing.assert_close(found[[0, 1], [1, 2]], true[[0, 1], [1, 2]])
    torch.testing.assert_close(found, found.mT)


def test_the_way_round_leaves_a_metric_alone() -> None:
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = torch.cdist(points, points)
    torch.testing.assert_close(way_round(lengths), lengths)


def test_middles_on_training_points_are_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    training, held_out, others = torch.randn(3, 50, 2, generator=generator, dtype=torch.float64)
    assert beside_copies(others, training, held_out)[1] == []
    numbers, (text,) = beside_copies(training[:9] + 1e-3, training, held_out)
    assert numbers["nearest training point of middles"] < 0.1
    assert "copies of training points" in text


def test_curvature_is_that_of_the_plane_of_two_vectors(host: Host) -> None:
    own: Any = host.create("geometry:metric", {"target": OWN + "normal", "dimension": 2, "returns": "log_prob"})
    assert float(own.curvature(row(2, 0), row(1, 0), row(0.3, 1))) == pytest.approx(0.04)
    assert float(own.curvature(row(0, 0), row(1, 0), row(0.3, 1))) == pytest.approx(1.0)
    x = row(2, 0).repeat(2, 1)
    with pytest.raises(DataError, match="u and w are parallel, or 0, at 1 of 2 points") as error:
        own.curvature(x, torch.cat([row(1, 0), row(1, 2)]), torch.cat([row(0, 1), row(2, 4)]))
    assert "two independent vectors" in str(error.value.hint)
    matrix: Any = host.create("geometry:metric", {"target": OWN + "half_plane", "dimension": 2})
    assert float(matrix.curvature(row(0, 1), row(1, 0), row(0, 1))) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"noise": True}, "noise is true; expected a number"),
        ({"weight": False}, "weight is false"),
        ({"solver": {"points": True}}, "points is true"),
    ],
)
def test_yes_and_no_are_no_numbers(host: Host, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        host.create("geometry:score", settings, score=EXACT, data=PLANE)


def test_straight_is_a_start_and_others_need_a_model(host: Host) -> None:
    x, y = row(1.5, 0.2), row(-0.3, 1.1)
    torch.testing.assert_close(
        exact(host, solver={"starts": ["straight"]}).distance(x, y), exact(host).distance(x, y), atol=0, rtol=0
    )
    with pytest.raises(ConfigError, match=r"solver\.starts names graph, and this geometry has no model"):
        host.create("geometry:land", {"solver": {"starts": ["straight", "graph"]}}, data=PLANE)


@pytest.mark.parametrize(
    ("answer", "error", "text", "hint"),
    [
        (lambda x: torch.eye(2).expand(len(x), 2, 2), DataError, "returned torch.float32", "dtype=x.dtype"),
        (lambda x: x, ShapeError, r"returned \(1, 2\) for 1 points", "returns: log_prob"),
        (lambda x: 3.0, ShapeError, "returned float for 1 points", r"\(B, D, D\), G at each point"),
    ],
)
def test_answers_of_an_own_metric_that_do_not_fit(
    host: Host, monkeypatch: pytest.MonkeyPatch, answer: Any, error: type[Exception], text: str, hint: str
) -> None:
    monkeypatch.setattr(examples, "paraboloid", answer)
    own = host.create("geometry:metric", {"target": OWN + "paraboloid", "dimension": 2})
    with pytest.raises(error, match=text) as caught:
        own.metric(row(1, 2))
    assert re.search(hint, str(caught.value.hint))  # type: ignore[attr-defined]


def test_a_target_that_is_no_function_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "math")
    with pytest.raises(ConfigError, match="target is 'math:pi', which is a float and no function") as caught:
        host.create("geometry:metric", {"target": "math:pi", "dimension": 2})
    assert "module:function" in str(caught.value.hint)
