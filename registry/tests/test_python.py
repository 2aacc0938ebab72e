"""Run files written from Python: the same numbers, no work done twice, and errors that name what was given."""

from __future__ import annotations

import copy
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import scorefold
from scorefold.errors import ConfigError, DataError, PluginError, ScorefoldError
from scorefold_registry import Host, python, run_file
from scorefold_registry.python import (
    Stage,
    allocate,
    assess,
    audit,
    compare,
    dimension,
    do,
    estimate,
    evaluate,
    fit,
    geodesics,
    interpolate,
    load,
    load_data,
    run,
    sample,
    sweep,
)

ROWS = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, 3.0, -1.0]])
FLOW: dict[str, Any] = {"layers": 2, "hidden": [8], "training": {"steps": 20, "batch_size": 32}}


@pytest.fixture
def points(host: Host, tmp_path: Path) -> Stage:
    return load_data(ROWS, folder=tmp_path, host=host, progress=False)


@pytest.fixture
def flow(points: Stage) -> Stage:
    return fit("flow:affine-coupling", points, **FLOW, progress=False)


def test_what_a_stage_gives_is_what_a_run_file_gives(flow: Stage, points: Stage, host: Host, tmp_path: Path) -> None:
    drawn = sample(flow, n=16, progress=False)
    (tmp_path / "run.yaml").write_text(drawn.run_file)
    result = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "other", cache=tmp_path / "new")
    assert not any(stage.reused for stage in result.stages)
    assert torch.equal(result.value("sample").load("test").x, drawn.value.load("test").x)
    assert drawn.metrics == result.stages[-1].metrics
    assert [stage.name for stage in drawn.run.stages] == ["data", "flow", "sample"]


def test_nothing_is_done_twice(flow: Stage, points: Stage) -> None:
    found = evaluate(flow, points, limit=10, progress=False)
    assert [(stage.name, stage.reused) for stage in found.run.stages] == [
        ("data", True),
        ("flow", True),
        ("evaluate", False),
    ]
    again = evaluate(flow, points, limit=10, progress=False)
    assert all(stage.reused for stage in again.run.stages)
    assert again.metrics == found.metrics
    known = found.value["log_prob"].isfinite()
    assert (len(known), int(known.sum())) == (200, 10)


def test_a_later_session_finds_what_was_done(points: Stage, flow: Stage, tmp_path: Path) -> None:
    other = Host.discover()
    same = fit(
        "flow:affine-coupling", load_data(ROWS, folder=tmp_path, host=other, progress=False), **FLOW, progress=False
    )
    assert [stage.reused for stage in same.run.stages] == [True, True]


@pytest.mark.parametrize("form", ["array", "tensor", "table", "csv", "npy"])
def test_data_in_any_form_are_the_same_points(form: str, points: Stage, host: Host, tmp_path: Path) -> None:
    table = pd.DataFrame(ROWS, columns=["a", "b", "c", "d"])
    table.to_csv(tmp_path / "rows.csv", index=False)
    np.save(tmp_path / "rows.npy", ROWS)
    given: Any = {
        "array": ROWS,
        "tensor": torch.from_numpy(ROWS),
        "table": table,
        "csv": tmp_path / "rows.csv",
        "npy": str(tmp_path / "rows.npy"),
    }[form]
    found = load_data(given, folder=tmp_path, host=host, progress=False).value
    for split in ("train", "validation", "test"):
        assert torch.equal(found.load(split).x, points.value.load(split).x)


def test_labels_conditions_and_splits(host: Host, tmp_path: Path) -> None:
    label, condition = np.arange(200) % 3, ROWS[:, :1]
    settings: dict[str, Any] = {"folder": tmp_path, "host": host, "progress": False, "splits": (0.5, 0.25, 0.25)}
    arrays = load_data(ROWS[:, 1:], label=label, condition=condition, **settings).value
    table = pd.DataFrame(ROWS, columns=list("abcd")).assign(kind=label)
    columns = load_data(table, label="kind", condition="a", **settings).value
    for source in (arrays, columns):
        assert [len(source.load(split)) for split in ("train", "validation", "test")] == [100, 50, 50]
        assert source.event_shape == (3,)
    one, other = arrays.load("test"), columns.load("test")
    assert torch.equal(one.label, other.label)
    assert torch.equal(one.condition, other.condition)


def test_a_component_by_name_and_its_ports(points: Stage, flow: Stage, host: Host) -> None:
    found = estimate("estimator:mle", points, n_neighbors=7, split="train", progress=False)
    assert found.specs["estimator"]["config"] == {"n_neighbors": 7}
    assert found.value.value == pytest.approx(2, abs=0.4)
    assert found.metrics["intrinsic dimension"] == found.value.value
    exact = do(None, "score:analytic", host.create("data:sphere", {"dimension": 1, "ambient": 3}), host=host)
    assert exact.value.event_shape == (3,)


def test_an_object_of_the_host_is_plugged_in(host: Host, tmp_path: Path) -> None:
    sphere = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 300})
    score = host.create("score:analytic", data=sphere)
    points = load_data("data:sphere", dimension=2, ambient=4, points=300, folder=tmp_path, host=host, progress=False)
    found = estimate("estimator:iddiff", points, score=score, points=40, shown=8, sigma=0.05, progress=False)
    assert float(found.value.pointwise.median()) == 2
    host.save(score, tmp_path / "score")
    loaded = load(tmp_path / "score", folder=tmp_path, host=host, progress=False)
    assert sample(loaded, n=4, progress=False).value.load("test").x.shape == (4, 4)


def test_options_and_config_have_forms_of_their_own(flow: Stage, points: Stage) -> None:
    found = do("sample", flow, options={"n": 3}, progress=False)
    assert found.specs["sample"] == {"use": "flow", "do": "sample", "options": {"n": 3}}
    whole = estimate("estimator:pca", points, config={"resamples": 0}, options={"limit": 50}, progress=False)
    assert whole.specs["estimator"]["options"] == {"limit": 50}


def test_a_second_stage_of_a_name_gets_a_number(flow: Stage) -> None:
    first = sample(flow, n=2, progress=False)
    assert sample(first.specs and flow, n=3, progress=False).name == "sample"
    paths = interpolate("geometry:euclidean", first, name="sample-2", pairs=1, progress=False)
    assert list(paths.specs) == ["data", "flow", "sample", "sample-2"]


def test_how_a_stage_is_shown(points: Stage, drawn: None) -> None:
    found = estimate("estimator:mle", points, split="train", progress=False)
    assert re.fullmatch(
        r"stage 'estimator': estimator:mle\n"
        r"  The intrinsic dimension is \d\.\d+ \(95% spread over points .*\)\.\n"
        r"  advice: .*",
        repr(found),
    )
    assert found.verdict == found.answer.verdict == repr(found).splitlines()[1].strip()
    assert found.answer.sure == "clear"
    page = found._repr_html_()
    assert page.startswith("<pre>stage &#x27;estimator&#x27;")
    assert "<img src='data:image/" in page
    assert found.plot().axes[0].images
    with pytest.raises(ConfigError, match="has no figure 'dimensions'"):
        found.plot("dimensions")


def test_progress_shows_the_stage_and_not_those_before_it(points: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    estimate("estimator:mle", points, split="train")
    shown = capsys.readouterr().out
    assert shown.startswith("[1/1] estimator: estimator:mle\n")
    assert "data" not in shown


def test_a_run_file_is_run(points: Stage, host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(estimate("estimator:mle", points, split="train", progress=False).run_file)
    result = run(tmp_path / "file.yaml", sets=["stages.estimator.config.n_neighbors=5"], folder=tmp_path, host=host)
    assert [stage.reused for stage in result.stages] == [True, False]


def test_a_stage_is_swept_with_what_was_done_before(points: Stage, host: Host, tmp_path: Path) -> None:
    found = estimate("estimator:mle", points, split="train", progress=False)
    over = {"stages.estimator.config.n_neighbors": [5, 9]}
    result = sweep(found, over, progress=False, workers=1)
    assert [row.error for row in result.rows] == [None, None]
    assert result.folder.is_relative_to(tmp_path)
    assert [(row.stages, row.reused) for row in result.rows] == [(2, 1), (2, 1)], "the data were read before"
    (tmp_path / "file.yaml").write_text(found.run_file)
    again = sweep(tmp_path / "file.yaml", over, host=host, progress=False, workers=1, out=tmp_path / "sweep")
    assert [row.measures for row in again.rows] == [row.measures for row in result.rows]


def test_a_comparison_without_a_host_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compare("estimator", on=["2-sphere"], only=["pca"], out=tmp_path / "out", cache=tmp_path / "cache")
    assert [row.component for row in result.rows] == ["estimator:pca"]
    assert "pca on 2-sphere" in capsys.readouterr().out


Wrong = Callable[[Stage, Stage, Path], Any]
REFUSED: dict[str, tuple[Wrong, type[Exception], str]] = {
    "text": (lambda points, flow, _: load_data("no such thing"), DataError, "no such thing does not exist"),
    "no numbers": (lambda points, flow, _: load_data({"a": 1}), ConfigError, "expected an array of numbers"),
    "nan": (lambda points, flow, _: load_data(ROWS * np.nan), DataError, "holds NaN"),
    "a label that is no column": (
        lambda points, flow, _: load_data(pd.DataFrame(ROWS), label=np.arange(200)),
        ConfigError,
        "label is ndarray; expected the name of a column",
    ),
    "a field that is not there": (
        lambda points, flow, _: estimate("estimator:mle", points, neighbours=3),
        ConfigError,
        "unknown field 'neighbours'\n.*did you mean 'n_neighbors'",
    ),
    "an option that is not there": (lambda points, flow, _: sample(flow, number=3), ConfigError, "number"),
    "a verb that is not there": (lambda points, flow, _: do("smaple", flow), PluginError, "sample"),
    "a component that is not there": (lambda points, flow, _: fit("flow:afine", points), PluginError, "flow:afine"),
    "a missing port": (lambda points, flow, _: estimate("estimator:lidl", points), ConfigError, "'flow'"),
    "no data to train on": (
        lambda points, flow, here: fit("flow:affine-coupling", host=points.setting.host, folder=here),
        ConfigError,
        "nothing is plugged into port 'data'",
    ),
    "a stage of the wrong kind": (lambda points, flow, _: estimate("estimator:mle", flow), ConfigError, "flow"),
    "a number for a stage": (
        lambda points, flow, _: estimate("estimator:iddiff", points, score=3),
        ConfigError,
        "an input is 3; expected a stage",
    ),
    "another seed": (
        lambda points, flow, _: sample(flow, n=2, seed=5),
        ConfigError,
        "seed is 5 here and 0 in stage 'flow'",
    ),
    "two stages of one name": (
        lambda points, flow, _: assess(
            flow, load_data(ROWS[:100], folder=points.setting.folder, host=points.setting.host)
        ),
        ConfigError,
        "two different stages are called 'data'",
    ),
    "a name that is taken": (lambda points, flow, _: sample(flow, n=2, name="data"), ConfigError, "name='data-2'"),
    "no state": (lambda points, flow, here: load(here / "nothing"), ConfigError, "nothing"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_does_not_fit_is_refused(wrong: str, points: Stage, flow: Stage, tmp_path: Path) -> None:
    act, error, message = REFUSED[wrong]
    with pytest.raises(error, match=message) as caught:
        act(points, flow, tmp_path)
    assert "files/" not in str(caught.value), "the file was not written by its reader"


def test_numbers_and_lists_of_numpy_are_written_plainly(points: Stage, flow: Stage, host: Host, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"folder": tmp_path, "host": host, "progress": False}
    found = load_data(ROWS, seed=np.int64(0), splits=np.array([0.8, 0.1, 0.1]), **settings)
    assert "fractions: [0.8, 0.1, 0.1]" in found.run_file
    assert sample(flow, n=np.int64(3), progress=False).metrics["samples"] == 3
    lists = assess(flow, points, metrics=["metric:neighbours"], n=1, conditions=20, progress=False)
    assert "density" in lists.metrics


ODD: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (lambda: load_data(np.ma.masked_greater(ROWS, 1.0)), "x has masked values"),
    "ragged": (lambda: load_data([[1.0, 2.0], [3.0]]), "expected an array of numbers"),
    "sparse": (lambda: load_data(torch.eye(3).to_sparse()), "expected an array of numbers"),
    "text": (lambda: load_data(ROWS.astype(str)), r"x holds text \(<U32\).*\n.*x\.astype\(float\) reads numbers"),
    "complex": (lambda: load_data(ROWS + 1j), r"x holds complex numbers \(complex128\).*\n.*\[x\.real, x\.imag\]"),
    "dates": (lambda: load_data(ROWS.astype("M8[D]")), r"x holds dates .*\n.*x\.astype\('int64'\) counts"),
    "no columns": (lambda: dimension(ROWS[:, :0]), r"x is an empty array of shape \(200, 0\)"),
    "a table without rows": (lambda: load_data(pd.DataFrame(ROWS[:0])), r"the table has the shape \(0, 4\)"),
    "nothing": (lambda: estimate("estimator:mle", None), "'data' of estimator:mle.*\n.*in Python an array, a table or"),
    "levels of names": (
        lambda: load_data(pd.DataFrame(ROWS[:, :2], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]))),
        "names of columns on several levels",
    ),
    "labels that look like numbers": (
        lambda: load_data(pd.DataFrame(ROWS).assign(kind=["01", "1"] * 100), label="kind"),
        "the label '01' in column 'kind' is text",
    ),
    "two files": (lambda: load_data(pd.DataFrame(ROWS), path="other.csv"), "path is given twice"),
    "a model for a stage": (lambda: do("sample", torch.nn.Linear(2, 2)), "expected a component or a stage"),
    "no name": (lambda: load_data(ROWS, name=None), "the name of the stage is None"),  # type: ignore[arg-type]
    "a runtime in a word": (lambda: load_data(ROWS, runtime="cpu"), "runtime is text; expected a mapping"),  # type: ignore[arg-type]
    "a device": (lambda: load_data(ROWS, runtime={"device": torch.device("cpu")}), "device"),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_data_are_refused_by_what_they_are(odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    act, message = ODD[odd]
    with pytest.raises(ScorefoldError, match=message):
        act()


def test_labels_may_be_objects_of_text(host: Host, tmp_path: Path) -> None:
    kinds = pd.Series(["cat", "dog"] * 100)
    found = load_data(ROWS, label=kinds, folder=tmp_path, host=host, progress=False).value
    assert sorted(found.load("train").label.unique().tolist()) == [0, 1]


def test_a_stage_is_shown_when_its_folder_is_gone(points: Stage) -> None:
    shutil.rmtree(points.run.folder)
    assert repr(points) == "stage 'data': data:array, whose folder is gone"
    assert "is gone" in points._repr_html_()


def test_a_score_that_an_estimator_reads_is_trained_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorefold_registry.python.stages.SCORE", {"training": {"steps": 3, "batch_size": 16}})
    x = np.random.default_rng(0).standard_normal((200, 3))
    found = estimate("estimator:denoising-loss", x, draws=8, shown=4, folder=tmp_path, seed=3, progress=False)
    assert [spec["use"] for spec in found.specs.values()] == [
        "data:array",
        "score:denoising",
        "estimator:denoising-loss",
    ]
    assert found.setting.seed == 3
    given = load_data(x, folder=tmp_path, seed=3, progress=False)
    again = estimate("estimator:denoising-loss", given, draws=8, shown=4, progress=False)
    assert again.value.value == found.value.value


def test_errors_name_no_file_that_nobody_has_seen(tmp_path: Path) -> None:
    x = np.zeros((20, 2))
    x[3, 1] = np.nan
    for given, what in ((x, "the array"), (pd.DataFrame(x, columns=["a", "b"]), "the table")):
        with pytest.raises(DataError, match=f"^{what} holds NaN") as caught:
            load_data(given, folder=tmp_path, progress=False)
        assert str(tmp_path) not in str(caught.value)


def test_scorefold_has_the_functions_of_users() -> None:
    names = {"Host", "as_estimator", *python.__all__}
    assert names <= set(dir(scorefold))
    assert all(getattr(scorefold, name) is getattr(python, name) for name in python.__all__)
    assert scorefold.Host is Host
    with pytest.raises(AttributeError, match="no attribute 'estimates'"):
        _ = scorefold.estimates


TABLE = pd.DataFrame(
    {
        "row": range(200),
        "kind": ["a", "b"] * 100,
        "small": ROWS[:, 0],
        "large": 1e6 * ROWS[:, 1],
        "third": ROWS[:, 2],
        "sum": ROWS[:, 2] - ROWS[:, 0],
    }
)


def test_dimension_reads_a_table_as_recommend_does(host: Host, tmp_path: Path) -> None:
    found = dimension(TABLE, folder=tmp_path, host=host, progress=False)
    config = found.specs["data"]["config"]
    assert config["columns"] == ["-row", "-kind"]
    assert config["scale"] == "columns"
    assert [note.partition(":")[0] for note in found.notes] == ["columns", "scale"]
    assert found.notes[0] in repr(found)
    assert found.value.diagnostics["points"] == 200
    # Seeds derive from names of stages: these are recommend's.
    assert list(found.specs) == ["data", "dimension"]
    table = tmp_path / "table.csv"
    TABLE.to_csv(table, index=False)
    by_path = dimension(table, folder=tmp_path, host=host, progress=False)
    assert (by_path.value.value, by_path.value.headline) == (found.value.value, found.value.headline)
    settled = dimension(TABLE, columns=["small", "third"], scale="none", folder=tmp_path, host=host, progress=False)
    assert settled.specs["data"]["config"]["columns"] == ["small", "third"]
    assert settled.notes == ()
    assert settled.value.interval is None or settled.value.interval[1] <= 2


def test_dimension_asks_a_stage_about_its_points(points: Stage) -> None:
    found = dimension(points, progress=False)
    assert (list(found.specs), found.notes) == (["data", "dimension"], ())
    assert found.value.diagnostics["points"] == 160
    by_folder = dimension(points.folder, folder=points.setting.folder, host=points.setting.host, progress=False)
    assert by_folder.value.diagnostics["points"] == 160
    with pytest.raises(ConfigError, match="seed is 3 here and 0 in stage 'data'"):
        dimension(points, seed=3, progress=False)


def test_dimension_says_what_does_not_fit(host: Host, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of the array is left"):
        dimension(np.ones((60, 2)), folder=tmp_path, host=host, progress=False)
    with pytest.raises(ConfigError, match=r"dimension\(\.\.\.\) takes no splits="):
        dimension(ROWS, splits=[1, 0, 0], host=host, progress=False)


def test_dimension_leaves_text_out_beside_a_condition(host: Host, tmp_path: Path) -> None:
    found = dimension(TABLE, condition="small", folder=tmp_path, host=host, progress=False)
    assert found.specs["data"]["config"]["condition"] == ["small"]
    assert "-kind" in found.specs["data"]["config"]["columns"]
    with pytest.raises(DataError, match="column 'kind' of the table isn't numeric") as caught:
        dimension(TABLE, condition="kind", folder=tmp_path, host=host, progress=False)
    assert caught.value.hint == "a condition is numbers: replace each class by one, or read them by label: kind"


def test_audit_leaves_text_and_numbers_of_rows_out(host: Host, tmp_path: Path) -> None:
    found = audit(TABLE, TABLE, folder=tmp_path, host=host, progress=False)
    assert found.specs["train"]["config"]["columns"] == ["-kind", "-row"]
    commas = TABLE.assign(kind="1,5")
    with pytest.raises(DataError, match="column 'kind' of the table isn't numeric") as caught:
        audit(commas, commas, folder=tmp_path, host=host, progress=False)
    assert caught.value.hint == "drop it from each table: table.drop(columns='kind')"


def test_numbers_of_bfloat16_are_read(host: Host, tmp_path: Path) -> None:
    given = torch.tensor(ROWS).bfloat16()
    found = load_data(given, splits=(1, 0, 0), scale="none", folder=tmp_path, host=host, progress=False)
    train = found.value.load("train")
    assert torch.equal(train.x[train.index.argsort()].to(torch.bfloat16), given)


READ = [
    lambda: do("estimate", "estimator:mle", "data:sphere", ambient=4),
    lambda: geodesics("geometry:euclidean", "data:sphere", ambient=4),
    lambda: geodesics("flow:affine-coupling", "data:sphere", ambient=4, seed=1),
    lambda: audit("data:sphere", ROWS, missing="drop"),
]


@pytest.mark.parametrize("asked", READ)
def test_a_field_of_data_is_refused_with_the_call_that_takes_it(asked: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"says how data are read, and '\w+' takes no fields of data") as caught:
        asked()
    data = "data" if asked is READ[-1] else "'data:sphere'"
    field = "missing='drop'" if asked is READ[-1] else "ambient=4"
    assert caught.value.hint == f"give data that are read so: sf.load_data({data}, {field})"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: audit(ROWS, ROWS, data=ROWS), r"audit\(\.\.\.\) takes no data="),
        (lambda: dimension(ROWS, data=ROWS), r"dimension\(\.\.\.\) takes no data="),
        (lambda: dimension(ROWS, folder=3), "folder is 3; expected the name of a folder"),  # type: ignore[arg-type]
        (lambda: dimension(ROWS, host="x"), "host is 'x'; expected what"),  # type: ignore[arg-type]
        (lambda: do(3, "score:analytic", ROWS), "the verb is 3; expected its name"),  # type: ignore[arg-type]
        (lambda: fit("score:analytic", ROWS, config=[1]), r"config is \[1\]; expected a mapping"),
        (lambda: sample("score:analytic", options=3), "options is 3; expected a mapping"),
        (lambda: compare(3), "the kind is 3; expected its name"),  # type: ignore[arg-type]
        (lambda: sweep("run.yaml", 3), "over is 3; expected a mapping"),  # type: ignore[arg-type]
        (lambda: fit("score:denoising", ROWS, verb="x", progress=False), "unknown field 'verb'"),
    ],
)
def test_arguments_of_another_kind_are_named(asked: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asked()


def test_audit_names_copies_by_their_rows(host: Host, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(500, 3))
    samples = np.concatenate([rows[20:60], np.random.default_rng(2).normal(size=(100, 3))])
    found = audit(samples, rows[:300], rows[300:], permutations=99, folder=tmp_path, host=host, progress=False)
    assert {verdict["name"] for verdict in found.result["audit"]["verdicts"] if verdict["found"]} >= {"copies"}
    (listed,) = found.result["audit"]["copies"]
    copies = {row["sample"]: row["training"] for row in listed["nearest"] if row["named"]}
    assert copies.items() >= {(sample, sample + 20) for sample in range(40)}
    assert found.specs["train"]["config"]["fractions"] == (1, 0, 0)
    assert found.specs["train"]["config"]["scale"] == "none"


def test_audit_of_a_trained_stage_takes_its_training_data(flow: Stage, points: Stage) -> None:
    found = audit(flow, n=40, permutations=99, progress=False)
    assert found.specs[found.name]["inputs"] == {"data": points.name}
    with pytest.raises(ConfigError, match="needs data to compare the samples with"):
        audit(ROWS)
    with pytest.raises(ConfigError, match="needs a model or samples"):
        audit(None, ROWS)


@pytest.mark.parametrize(
    ("use", "kind", "config"),
    [
        ("flow:affine-coupling", "geometry:pullback", FLOW),
        ("score:analytic", "geometry:score", {}),
    ],
)
def test_geodesics_ask_a_model_by_its_geometry(points: Stage, use: str, kind: str, config: dict[str, Any]) -> None:
    model = fit(use, points, **config, progress=False) if config else do(None, use, points, progress=False)
    found = geodesics(model, points, pairs=2, times=3, progress=False)
    assert found.specs[found.name]["use"] == kind
    assert found.specs[found.name]["do"] == "interpolate"
    assert found.value.load("test").x.shape == (6, 4)


def test_geodesics_are_of_scores_flows_and_geometries(points: Stage) -> None:
    straight = geodesics("geometry:euclidean", points, pairs=2, times=3, progress=False)
    assert straight.metrics["pairs"] == 2
    with pytest.raises(ConfigError, match="'estimator:mle', which is of the kind 'estimator'; expected a score"):
        geodesics("estimator:mle", points)
    with pytest.raises(ConfigError, match="interpolate is asked of None; expected a component or a stage"):
        geodesics(None, points)  # type: ignore[arg-type]


def test_a_folder_of_samples_loads_as_data_in_the_units_of_the_file(host: Host, tmp_path: Path) -> None:
    rows = 100 + 7 * np.random.default_rng(0).normal(size=(60, 3))
    given = load_data(rows[:, :2], condition=rows[:, 2:], scale="columns", host=host, folder=tmp_path, progress=False)
    flow = fit("flow:affine-coupling", given, layers=2, training={"steps": 2}, progress=False)
    drawn = sample(flow, given, n=2, progress=False)
    again = load(drawn.folder, host=host, folder=tmp_path, progress=False).value
    second = again.load("test")
    first = drawn.value.load("test").take(second.index)
    assert torch.allclose(again.event_scale.to_raw(second.x).double(), drawn.value.event_scale.to_raw(first.x))
    assert torch.equal(second.condition, first.condition)
    assert abs(float(second.x.mean()) - 100) < 50


def test_a_network_as_a_setting_is_refused_with_the_fix(points: Stage) -> None:
    with pytest.raises(ConfigError, match="network is a Linear; expected the name of a component") as failed:
        fit("score:denoising", points, network=torch.nn.Linear(5, 4), progress=False)
    assert "score:callable" in str(failed.value.hint)
    with pytest.raises(ConfigError, match="pilot is a function; expected the name of a component") as failed:
        allocate("allocator:meta", pilot=lambda tasks, support, query: 1.0, budget=100)
    assert "to its own method" in str(failed.value.hint)


def test_a_stage_is_loaded_and_not_pickled(points: Stage) -> None:
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(ConfigError, match="stage 'data' can't be pickled or copied deeply") as failed:
            copied(points)
        assert f"sf.load({str(points.folder)!r})" in str(failed.value.hint)
    assert copy.copy(points) is points
    assert pickle.loads(pickle.dumps(points.value)).event_shape == points.value.event_shape


def test_a_verdict_and_its_warnings_say_what_the_terminal_says(host: Host, tmp_path: Path) -> None:
    """A part of the points is a grid, whose neighbours are at one distance, of which the estimate itself warns."""
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), -1).reshape(-1, 2)
    points = np.concatenate([np.random.default_rng(0).normal(size=(300, 2)), 50 + grid])
    made = estimate("estimator:mle", points, host=host, folder=tmp_path, progress=False)
    assert made.verdict.endswith("Read it with caution.")
    assert made.warnings == list(made.answer.warnings)
    assert "two nearest neighbours at one distance" in made.warnings[-1]
    assert all(f"caution: {text}" in repr(made) for text in made.warnings)
