"""The points of a sweep: what options mean, every combination, draws that repeat, and faults."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from scorefold.errors import ConfigError
from scorefold_registry.experiments.measures import StageMetric, as_number, measure_labels, metric_of, parse_measures
from scorefold_registry.experiments.points import axes_of, make_points, parse_axis, point_text, short_names
from scorefold_registry.experiments.rows import PointRow, best_setting, make_settings
from scorefold_registry.runfile.yaml_reader import parse_value


def points(*over: str, **options: Any) -> list[dict[str, Any]]:
    return [dict(point.values) for point in make_points([parse_axis(text) for text in over], **options)]


def test_values_are_yaml() -> None:
    assert parse_axis("a.b=1, 2.5,text,true,null").values == (1, 2.5, "text", True, None)
    assert parse_axis("a={name: ve}, {name: vp, beta_max: 5}").values == ({"name": "ve"}, {"name": "vp", "beta_max": 5})
    assert parse_axis("a=[1, 2],[3]").values == ([1, 2], [3])
    assert parse_axis("a='x, y',z=1").values == ("x, y", "z=1")
    assert parse_axis("a='f(x)'").values == ("f(x)",)


def test_every_combination_the_last_field_first() -> None:
    found = points("a=1,2", "seed=0,1,2")
    assert found == [{"a": a, "seed": seed} for a in (1, 2) for seed in (0, 1, 2)]
    assert [point.number for point in make_points(axes_of({"a": [1, 2]}))] == [1, 2]


def test_values_in_step() -> None:
    assert points("a=1,2", "b=x,y", in_step=True) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_what_is_set_reads_back_as_the_value() -> None:
    values = [1, -0.5, 1e-7, "text", "1", "a: b", "ünï", "", True, None, {"a": [1, {"b": "c"}]}, [], "é\n'\""]
    for point, value in zip(make_points(axes_of({"x": values})), values, strict=True):
        (text,) = point.sets
        field, _, said = text.partition("=")
        assert field == "x"
        read = parse_value(said)
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize("mark", [",", ";", "?", "-", "'"])
def test_a_mark_alone_is_text(mark: str) -> None:
    assert parse_value(mark) == parse_value(f" {mark} ") == mark
    with pytest.raises(ConfigError):
        parse_value(f"[1{mark}")


def test_draws_repeat_and_more_of_them_begin_with_the_same() -> None:
    over = (
        "rate=loguniform(1e-4, 1e-1)",
        "width=integers(3, 5)",
        "how=choice(a, b, 3)",
        "u=uniform(-1, 2)",
        "seed=0,1",
    )
    few, many = points(*over, random=5, seed=7), points(*over, random=200, seed=7)
    assert many[:10] == few
    assert [row["seed"] for row in few[:4]] == [0, 1, 0, 1], "every seed for each draw"
    assert few[0]["rate"] == few[1]["rate"]
    assert list(few[0]) == ["rate", "width", "how", "u", "seed"]
    assert points(*over, random=5, seed=8) != few
    alone = points("rate=loguniform(1e-4, 1e-1)", random=5, seed=7)
    assert [row["rate"] for row in alone] == [row["rate"] for row in few[::2]], "further fields change no draw"


def test_draws_fill_the_space_evenly() -> None:
    """Each of 8 x 8 squares has one of 64 points of a Sobol sequence; of random points, a third would have none."""
    found = points("a=uniform(0, 8)", "b=uniform(0, 8)", random=64, seed=3)
    squares = {(math.floor(row["a"]), math.floor(row["b"])) for row in found}
    assert len(squares) >= 62  # a number that is rounded to six digits may pass an edge
    assert len(points("a=uniform(0, 1)", random=1)) == 1


def test_draws_are_of_their_distributions() -> None:
    def drawn(text: str, count: int = 4000) -> list[Any]:
        return [row["x"] for row in points(f"x={text}", "i=0", random=count)]

    uniform = drawn("uniform(2, 4)")
    assert 2 <= min(uniform) < 2.01
    assert 3.99 < max(uniform) <= 4
    assert abs(sum(uniform) / len(uniform) - 3) < 0.04
    logs = [math.log10(value) for value in drawn("loguniform(1e-3, 10)")]
    assert abs(sum(logs) / len(logs) + 1) < 0.08
    assert min(logs) >= -3
    assert sum(value < -2 for value in logs) / len(logs) == pytest.approx(0.25, abs=0.03)
    assert all(float(f"{value:.6g}") == value for value in drawn("uniform(0, 1)", 50))
    assert set(drawn("integers(-1, 2)")) == {-1, 0, 1, 2}
    assert drawn("choice(a, b)") == ["a", "b"] or drawn("choice(a, b)") == ["b", "a"], "drawn twice is run once"


@pytest.mark.parametrize(
    ("over", "options", "message", "hint"),
    [
        ([], {}, "needs a field to vary", "--grid seed"),
        (["seed"], {}, "--grid seed: expected a field, '=' and values", "--grid seed=0,1,2"),
        (["=1"], {}, "expected a field", "seed"),
        (["seed="], {}, "expected a field", "seed"),
        (["seed=1,1"], {}, "1 is there twice", "once"),
        (["a=[1"], {}, "--grid a=[1: these are no values", "quote"),
        (["a=1", "a=2"], {}, "a is swept twice", "one --grid"),
        (["a=uniform(0,1)"], {}, "--grid a=uniform(0,1): a field that is drawn needs the number", "--random 20"),
        (["a=1,2"], {"random": 3}, "--random has no field", "a=uniform"),
        (["a=uniform(0,1)"], {"random": 0}, "--random 0", None),
        (["a=unifrom(0,1)"], {}, "there is no distribution 'unifrom'", "did you mean 'uniform'"),
        (["a=uniform(1,0)"], {}, "1 is not less than 0", "uniform(a, b)"),
        (["a=uniform(0)"], {}, "expected two numbers", "uniform(a, b)"),
        (["a=uniform(0,x)"], {}, "expected two numbers", "uniform(a, b)"),
        (["a=uniform(0,.inf)"], {}, "0 is not less than inf", "uniform(a, b)"),
        (["a=loguniform(0,1)"], {}, "0 is not above 0", "loguniform(a, b)"),
        (["a=integers(0,1.5)"], {}, "expected two whole numbers", "integers(a, b)"),
        (["a=choice()"], {}, "at least one value", None),
        (["a=1,2", "b=1,2,3"], {"in_step": True}, "a has 2, b has 3", "as many values"),
    ],
)
def test_faults_name_the_option_and_what_fixes_it(
    over: Sequence[str], options: dict[str, Any], message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        points(*over, **options)
    assert message in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


def test_fields_are_called_by_their_shortest_ending() -> None:
    names = short_names(
        ["seed", "stages.score.config.training.steps", "stages.flow.config.training.steps", "stages.a.split"]
    )
    assert list(names.values()) == ["seed", "score.config.training.steps", "flow.config.training.steps", "split"]
    (point,) = make_points(axes_of({"stages.a.config.rate": [0.1], "name": ["x"]}))
    assert point_text(point) == "rate=0.1 name=x"


STAGES = ["data", "score", "dimension"]


def test_measures_are_stages_with_a_metric_or_their_first() -> None:
    assert parse_measures(["score.loss,dimension"], STAGES) == (StageMetric("score", "loss"), StageMetric("dimension"))
    commas = parse_measures(["dimension.intrinsic dimension, lower,score.log-likelihood (nats)"], STAGES)
    assert commas == (
        StageMetric("dimension", "intrinsic dimension, lower"),
        StageMetric("score", "log-likelihood (nats)"),
    )
    assert parse_measures(["score", "score"], STAGES) == (StageMetric("score"),)
    for text in ("scores.loss", "score.loss,dimensoin.error"):
        with pytest.raises(ConfigError, match="there is no stage") as caught:
            parse_measures([text], STAGES)
        assert "did you mean" in str(caught.value.hint)


def stages_with(**metrics: Any) -> list[dict[str, Any]]:
    return [{"name": "dimension", "metrics": metrics, "reused": False}]


def test_metrics_are_found_by_name_whatever_the_case_and_the_spaces() -> None:
    stages = stages_with(**{"note": "words", "Intrinsic dimension": 3, "loss": "NaN"})
    assert metric_of(StageMetric("dimension"), stages) == ("Intrinsic dimension", 3.0)
    assert metric_of(StageMetric("dimension", "intrinsic-dimension"), stages) == ("Intrinsic dimension", 3.0)
    assert math.isnan(metric_of(StageMetric("dimension", "loss"), stages)[1])  # type: ignore[index]
    assert metric_of(StageMetric("dimension", "note"), stages) is None
    assert metric_of(StageMetric("score", "loss"), stages) is None
    assert [as_number(value) for value in (True, None, "-Infinity", "three", 2)] == [None, None, -math.inf, None, 2.0]


def test_a_metric_that_no_point_has_is_named_with_those_there_are() -> None:
    rows = [[], stages_with(error=1.0, truth=2)]
    assert measure_labels([StageMetric("dimension")], rows) == {StageMetric("dimension"): "dimension.error"}
    assert measure_labels([StageMetric("score", "x")], rows) == {StageMetric("score", "x"): "score.x"}, (
        "no point came that far"
    )
    with pytest.raises(ConfigError, match="stage 'dimension' has no metric 'eror'") as caught:
        measure_labels([StageMetric("dimension", "eror")], rows)
    assert "did you mean 'error'" in str(caught.value.hint)
    assert "repeat the command" in str(caught.value.hint)


def row(number: int, a: Any, seed: int, value: float | None, error: Any = None) -> PointRow:
    return PointRow(number, {"a": a, "seed": seed}, {"s.m": value}, None, 1.0, 1, 0, error)


def test_seeds_are_taken_together_and_the_best_has_no_failures() -> None:
    failed = {"code": "data", "message": "no", "file": "f.yaml", "line": 3, "column": 2}
    rows = [
        row(1, 1, 0, 1.0),
        row(2, 1, 1, 3.0),
        row(3, "1", 0, 0.5),
        row(4, "1", 1, None, failed),
        row(5, 2, 0, math.nan),
    ]
    settings = make_settings(rows, ["s.m"])
    assert [setting.values["a"] for setting in settings] == [1, "1", 2]
    assert [setting.points for setting in settings] == [(1, 2), (3, 4), (5,)]
    assert settings[0].measures["s.m"].mean == 2.0
    assert settings[0].measures["s.m"].std == pytest.approx(math.sqrt(2))
    assert (settings[1].measures["s.m"].std, settings[1].measures["s.m"].points, settings[1].failed) == (None, 1, 1)
    assert math.isnan(settings[2].measures["s.m"].mean or 0)
    assert best_setting(settings, "min", "s.m") is settings[0], "half of the other's seeds failed"
    assert best_setting(settings[1:], "max", "s.m") is None
    assert rows[3].failure == "f.yaml:3:2: no"
    assert json.dumps(rows[0].values)
