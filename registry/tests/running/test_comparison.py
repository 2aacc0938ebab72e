"""Comparisons: what is put on what, what a row holds, what is shared and kept, and what is refused."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold.artefacts import read_json
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.results import Estimate
from scorefold_registry import compare as compare_on
from scorefold_registry import run_file
from scorefold_registry.experiments.rows import CaseRow, over_seeds
from scorefold_registry.experiments.table import measures_table, missing_measures
from scorefold_registry.host import Host
from scorefold_registry.run.progress import number_text
from scorefold_registry.runfile.reader import read

SCHEMA = json.loads(files("scorefold").joinpath("schemas/compare.json").read_text())

Say = Callable[..., Any]
Compare = Callable[..., dict[tuple[str, str], Any]]


@pytest.fixture(autouse=True)
def _tiny_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin but the tiny one."""
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "tiny,verbs")


@pytest.fixture
def host(_tiny_alone: None) -> Host:
    return Host.discover()


@pytest.fixture
def compare(host: Host) -> Compare:
    """Rows by (component's name, case)."""

    def rows(kind: str = "estimator", on: tuple[str, ...] = ("tiny",), **options: Any) -> dict[tuple[str, str], Any]:
        result = compare_on(host, kind, on=on, out="out", **options)
        return {(row.component.partition(":")[2], row.case): row for row in result.rows}

    return rows


def test_every_component_is_a_row_and_a_failure_is_a_reason(compare: Compare) -> None:
    rows = compare(plugged={"score": "score:tiny"})
    assert set(rows) == {("tiny-mean", "tiny"), ("tiny-scored", "tiny"), ("tiny-fault", "tiny")}
    mean = rows["tiny-mean", "tiny"]
    assert mean.value is not None
    assert mean.interval == (mean.value - 1, mean.value + 1)
    assert (mean.quantity, mean.truth, mean.difference) == ("intrinsic dimension", 1, mean.value - 1)
    assert mean.network_calls is None
    assert mean.training_cpu_seconds is None
    assert mean.cpu_seconds > 0
    fault = rows["tiny-fault", "tiny"]
    assert fault.value is None
    assert "deep inside" in fault.error
    assert not fault.skipped
    assert "ValueError: deep inside" in Path("out/rows/estimator-tiny-fault-tiny.txt").read_text()


def test_a_model_plugged_in_is_trained_and_its_evaluations_are_counted(compare: Compare) -> None:
    row = compare(only=["tiny-scored"], plugged={"score": "score:tiny"})["tiny-scored", "tiny"]
    assert row.uses == ("score:tiny",)
    # The test split has 20 points, each scored once.
    assert row.network_calls == 20
    assert row.training_cpu_seconds > 0
    stages = read("out/rows/estimator-tiny-scored-tiny.yaml").stages
    assert [(name, stage.use) for name, stage in stages.items()] == [
        ("data", "data:tiny"),
        ("score-tiny", "score:tiny"),
        ("estimator-tiny-scored", "estimator:tiny-scored"),
    ]


def test_a_score_is_trained_once_for_all_that_take_it(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    model = import_module("scorefold_tiny.parts").Model
    original = model.loss

    def loss(self: Any, *given: Any, **named: Any) -> Any:
        trained.append(1)
        return original(self, *given, **named)

    monkeypatch.setattr(model, "loss", loss)
    compare("score", only=["tiny"])
    assert len(trained) >= 20
    trained.clear()
    rows = compare(only=["tiny-scored"], plugged={"score": "score:tiny"})
    assert rows["tiny-scored", "tiny"].training_cpu_seconds > 0
    assert not trained


def test_rows_of_before_are_taken_with_the_cost_they_had(compare: Compare) -> None:
    first = compare("score")["tiny", "tiny"]
    assert compare("score")["tiny", "tiny"] == first
    again = compare("score", fresh=True)["tiny", "tiny"]
    assert again.value == first.value
    assert again.cpu_seconds != first.cpu_seconds
    assert compare("score", seed=1)["tiny", "tiny"].value != first.value


def test_fields_are_set_in_what_is_compared_plugged_in_and_compared_on(compare: Compare) -> None:
    fields = {"tiny-mean.scale": 2.0, "score:tiny.training.steps": 3, "data:tiny.points": 30}
    plain = compare(only=["tiny-mean"], fields={"data:tiny.points": 30})["tiny-mean", "tiny"]
    rows = compare(only=["tiny-mean", "tiny-scored"], plugged={"score": {"use": "score:tiny"}}, fields=fields)
    assert rows["tiny-mean", "tiny"].value == pytest.approx(2 * plain.value)
    assert rows["tiny-scored", "tiny"].network_calls == 10
    text = Path("out/rows/estimator-tiny-scored-tiny.yaml").read_text()
    assert "steps: 3" in text
    assert "points: 30" in text


def test_seeds_give_a_mean_and_a_range(compare: Compare) -> None:
    alone = [compare(only=["tiny-mean"], seed=seed)["tiny-mean", "tiny"].value for seed in (4, 5, 6)]
    row = compare(only=["tiny-mean"], seed=4, seeds=3)["tiny-mean", "tiny"]
    assert row.value == pytest.approx(sum(alone) / 3)
    assert row.interval == (min(alone), max(alone))
    assert row.seeds == 3
    assert row.difference == pytest.approx(row.value - 1)


def test_one_seed_that_fails_is_the_reason() -> None:
    rows = [CaseRow("estimator:a", "x", value=1.0), CaseRow("estimator:a", "x", error="too few points")]
    assert over_seeds(rows, 2).error == "too few points"
    assert over_seeds(rows, 2).value is None


def test_each_row_runs_by_itself_to_the_same_answer(compare: Compare, host: Host) -> None:
    row = compare(only=["tiny-mean"])["tiny-mean", "tiny"]
    result = run_file(host, "out/rows/estimator-tiny-mean-tiny.yaml", runs="runs")
    assert all(stage.reused for stage in result.stages)
    assert result.value("estimator-tiny-mean").value == row.value


CASES = """
small: {use: data:tiny, config: {points: 30}}
known: {use: data:tiny, truth: 7}
trained-on: {use: data:tiny, split: train, options: {limit: 5}}
"""


def test_a_file_of_cases(compare: Compare, write: Callable[..., Path]) -> None:
    write(CASES, "cases.yaml")
    rows = compare(on=("cases.yaml",), only=["tiny-mean"])
    assert [case for _, case in rows] == ["small", "known", "trained-on"]
    assert rows["tiny-mean", "known"].truth == 7
    assert rows["tiny-mean", "known"].difference == rows["tiny-mean", "known"].value - 7
    assert len({row.value for row in rows.values()}) == 3
    text = Path("out/rows/estimator-tiny-mean-trained-on.yaml").read_text()
    assert "split: train" in text
    assert "limit: 5" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {use: data:tinny}", "cases.yaml:1:10: there is no 'data:tinny'"),
        ("a: {use: data:tiny, config: {point: 3}}", "cases.yaml:1:30: unknown field 'point'"),
        ("a: {use: data:tiny, colour: red}", "cases.yaml:1:21: unknown field 'colour'"),
        ("a: {use: score:tiny}", "cases.yaml:1:10: the case 'a' is a score"),
        ("a: {config: {points: 3}}", "cases.yaml:1:4: the case 'a' has a configuration and no 'use'"),
        ("a: data:tiny", "cases.yaml:1:4: the case 'a' is text; expected a mapping"),
        ("[a, b]", "cases.yaml:1:1: a file of cases maps names to cases; this is a list"),
        ("a: [", "cases.yaml:1:5: broken YAML"),
        ("a: {options: {limit: 3}}", "the case 'a' has no data, which estimate needs"),
        ("a: {use: data:tiny, options: {limt: 3}}", "the case 'a' as options of estimate: unknown field 'limt'"),
    ],
)
def test_faults_of_a_file_of_cases_say_where(say: Say, write: Callable[..., Path], text: str, message: str) -> None:
    write(text, "cases.yaml")
    said = say("compare", "estimator", "--data", "cases.yaml")
    assert said.status == 2
    assert message in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("estimater",), "there is no kind or capability 'estimater'\n  did you mean 'estimator'?"),
        (("network",), "components of kind network are not compared by themselves: they are parts of other components"),
        (("data",), "components of kind data are not compared by themselves: they are what others are compared on"),
        (("Trainable",), "components that provide Trainable have no number in common"),
        (("Encodes",), "no installed component is or provides Encodes"),
        (("estimator",), "there is no case to compare estimator on"),
        (("estimator", "--data", "tinny"), "did you mean 'tiny'?"),
        (("estimator", "--data", "mine.csv"), "scorefold recommend mine.csv compares estimators on it"),
        (("estimator", "--data", "tiny[4]"), "data:tiny declares 1 example;"),
        (("estimator", "--data", "tiny,data:tiny"), "two cases are called 'tiny'"),
        (("estimator", "--data", "score:tiny"), "the case 'score:tiny' is a score; expected data"),
        (("estimator", "--data", "limit=3"), "the case 'limit=3' has no data, which estimate needs"),
        (("estimator", "--data", "tiny", "--only", "tiny-men"), "did you mean 'tiny-mean'"),
        (("score", "--data", "tiny", "--skip", "tiny"), "every component was left out"),
        (("estimator", "--data", "tiny", "--plug", "scores=score:tiny"), "did you mean 'score'?"),
        (("estimator", "--data", "tiny", "--plug", "score=data:tiny"), "port 'score' takes a score"),
        (("estimator", "--data", "tiny", "--plug", "score=3"), "port 'score' is given 3"),
        (
            ("estimator", "--data", "tiny", "--plug", "score={use: score:tiny, confg: {}}"),
            "key 'confg'\n  did you mean",
        ),
        (
            ("estimator", "--data", "tiny", "--plug", "score={use: score:tiny, config: 3}"),
            "given config 3; expected a",
        ),
        (
            ("estimator", "--data", "tiny", "--plug", "score={use: score:tiny, inputs: 0}"),
            "given inputs 0; expected a mapping",
        ),
        (("estimator", "--data", "tiny", "--plug", "score={use: score:tiny, inputs: {dta: 3}}"), "has no port 'dta'"),
        (
            ("estimator", "--data", "tiny", "--plug", "score={use: score:tiny, inputs: {data: 3}}"),
            "data of each case",
        ),
        (("estimator", "--data", "tiny", "--set", "tiny.points=["), "--set tiny.points=[: broken YAML"),
        (("estimator", "--data", "tiny", "--only", ","), "--only and --skip need the name of a component"),
        (("estimator", "--data", ""), "--data needs the name of a case"),
        (("estimator", "--data", "tiny", "--plug", "score"), "--plug score: expected a name, '=' and a value"),
        (("estimator", "--data", "tiny", "--plug", "score={use: score:tiny, config: {a: 1}}"), "unknown field 'a'"),
        (("estimator", "--data", "tiny", "--set", "tiny-mean.scal=2"), "did you mean 'scale'?"),
        (("estimator", "--data", "tiny", "--set", "tiny-mean=2"), "'tiny-mean' names no field"),
        (("estimator", "--data", "tiny", "--set", "tiny-moan.scale=2"), "did you mean estimator:tiny-mean or"),
        (("estimator", "--data", "tiny", "--seeds", "0"), "seeds is 0; expected at least 1"),
        (("estimator", "--data", "tiny", "--seed", "-1"), "seed is -1; expected at least 0"),
        (("estimator", "--data", "tiny", "--threads", "0"), "threads is 0; expected at least 1"),
        (("estimator", "--data", "tiny", "--threads", "1000000000"), "threads is 1000000000; expected at most 1024"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(say: Say, arguments: Any, message: str) -> None:
    said = say("compare", *arguments)
    assert said.status == 2
    assert message in said.err
    assert not Path("runs").exists()


def test_what_cannot_be_put_on_a_case_is_skipped(compare: Compare) -> None:
    row = compare(only=["tiny-scored"])["tiny-scored", "tiny"]
    assert row.skipped
    assert row.value is None
    assert "nothing is plugged into port 'score' of estimator:tiny-scored" in row.error
    assert "--plug score=" in row.error


def test_the_status_says_whether_all_was_measured(say: Say) -> None:
    on = ("--data", "tiny", "--quiet", "--json", "--out", "out")
    assert say("compare", "estimator", *on, "--only", "tiny-mean").status == 0
    assert say("compare", "estimator", *on, "--only", "tiny-mean,tiny-scored").status == 0
    assert say("compare", "estimator", *on, "--only", "tiny-mean,tiny-fault").status == 1
    assert say("compare", "estimator", *on, "--only", "tiny-scored").status == 1


def test_json_is_as_its_schema_says(say: Say) -> None:
    said = say("compare", "estimator", "--data", "tiny", "--json", "--plug", "score=score:tiny")
    jsonschema.validate(said.json, SCHEMA)
    assert said.json["kind"] == "estimator"
    assert [row["component"] for row in said.json["rows"]] == [
        "estimator:tiny-mean",
        "estimator:tiny-scored",
        "estimator:tiny-fault",
    ]
    assert said.err.startswith("[1/3] estimator:tiny-mean on tiny: ")


def test_values_that_are_no_finite_numbers_are_failures_with_their_reason(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wild estimator must cost no other its row, nor the comparison its end."""
    parts = import_module("scorefold_tiny.parts")
    numbers = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
    answers: dict[str, Any] = {**numbers, "text": "two", "true": True, "escape": ValueError("\x1b[2J")}
    for name, value in answers.items():

        def estimate(self: Any, data: Any, *, generator: Any = None, value: Any = value) -> Estimate:
            if isinstance(value, Exception):
                raise value
            return Estimate("intrinsic dimension", value, interval=(1.0, value))

        monkeypatch.setattr(parts.Mean, "estimate", estimate)
        out = f"of {name}"
        said = say("compare", "estimator", "--data", "tiny", "--only", "tiny-mean", "--json", "--out", out, "--fresh")
        jsonschema.validate(said.json, SCHEMA)
        (row,) = said.json["rows"]
        assert (said.status, row["value"]) == (1, None)
        assert ("expected a finite number" in str(row)) == (name in numbers)
        assert "\x1b" not in said.out + said.err
        assert Path(out, "report.html").exists()


def test_no_single_value_is_a_cell_with_its_reason(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, headline = import_module("scorefold_tiny.parts"), "3 to 46, depending on the scale; no single dimension"
    unsure = Estimate("intrinsic dimension", None, headline=headline)
    monkeypatch.setattr(parts.Mean, "estimate", lambda self, data, **named: unsure)
    command = ("compare", "estimator", "--data", "tiny", "--only", "tiny-mean", "--fresh")
    said = say(*command, "--json")
    jsonschema.validate(said.json, SCHEMA)
    (row,) = said.json["rows"]
    assert (row["value"], row["interval"], row["difference"], row["headline"]) == (None, None, None, headline)
    assert row["truth"] == 1
    printed = say(*command).out
    assert f"estimator:tiny-mean on tiny: {headline}" in printed
    assert f"no value: estimator:tiny-mean on tiny: {headline}" in printed


def test_what_is_printed(say: Say) -> None:
    said = say("compare", "estimator", "--data", "tiny", "--plug", "score=score:tiny")
    lines = said.out.splitlines()
    assert lines[0].startswith("[1/3] estimator:tiny-mean on tiny: ")
    assert ", truth 1, " in lines[0]
    head = next(line for line in lines if line.startswith("component"))
    assert head.split("  ")[0] == "component"
    assert "tiny (1)" in head
    assert "network calls" in head
    assert any(line.startswith("tiny-scored (score:tiny) ") for line in lines)
    assert any(line.startswith("no value: estimator:tiny-fault on tiny: ") for line in lines)
    folder = Path(lines[-1].removeprefix("report: ")).parent
    assert folder.parent == Path("runs/compare-estimator").absolute()
    assert read_json(folder / "status.json")["state"] == "complete"
    assert say("runs", "list", "--json").json["runs"][0]["name"] == "compare-estimator"


def test_what_is_written(say: Say, write: Callable[..., Path]) -> None:
    write("'<b>bold</b>': {use: data:tiny}", "cases.yaml")
    said = say("compare", "estimator", "--data", "cases.yaml", "--out", "out", "--json", "--quiet")
    assert read_json(Path("out/comparison.json")) == said.json
    with Path("out/comparison.csv").open() as file:
        records = list(csv.DictReader(file))
    assert [record["component"] for record in records] == [row["component"] for row in said.json["rows"]]
    assert float(records[0]["upper"]) == said.json["rows"][0]["interval"][1]
    assert {path.name for path in Path("out/figures").iterdir()} == {
        "comparison.png",
        "comparison.svg",
        "figures.json",
    }
    page = Path("out/report.html").read_text()
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "deep inside" in page
    assert "rows/estimator-tiny-mean--b-bold-b.yaml" in page


def test_cases_are_called_anything(say: Say, write: Callable[..., Path]) -> None:
    """On the terminal, in the table, in the figure and on the page."""
    names = [
        "\x1b[2J\x9b31m\u202etxt",
        "[bold red]x[/]",
        "$\\frac{$",
        "=1+1",
        "\u4e2d\u6587",
        "'a' onload='b'",
        "x" * 90,
    ]
    write(json.dumps({name: {"use": "data:tiny"} for name in names}), "cases.yaml")
    said = say("compare", "estimator", "--data", "cases.yaml", "--out", "out", "--only", "tiny-mean,tiny-scored")
    assert said.status == 0, said.err
    written = [(Path("out") / name).read_text() for name in ("comparison.csv", "report.html", "comparison.json")]
    for text in (said.out, said.err, *written):
        assert not {part for part in text if unicodedata.category(part) in ("Cc", "Cf") and part != "\n"}
    assert "[bold red]x[/]" in said.out
    with Path("out/comparison.csv").open() as file:
        cases = [record["case"] for record in csv.DictReader(file)]
    assert "'=1+1" in cases
    assert read_json(Path("out/comparison.json"))["rows"][0]["case"] == names[0]


@pytest.mark.parametrize(
    "answer",
    [["a list"], {"value": 1.0}, {"quantity": "q"}, {"quantity": "q", "value": 1.0, "interval": [1.0]}, "text"],
)
def test_what_is_no_answer_is_said(say: Say, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    verbs = import_module("scorefold_verbs.estimate")
    estimate = verbs.estimate

    def wild(*given: Any) -> Any:
        outcome = estimate(*given)
        return replace(outcome, result={**outcome.result, "answer": answer})

    monkeypatch.setattr(verbs, "estimate", wild)
    said = say("compare", "estimator", "--data", "tiny", "--only", "tiny-mean", "--out", "out", "--json", "--fresh")
    assert said.status == 1
    assert "the verb 'estimate' answered" in said.json["rows"][0]["error"]
    assert "expected a mapping with a quantity as text, a value" in said.json["rows"][0]["error"]


def test_a_folder_for_stages_that_cannot_be_is_no_row(say: Say) -> None:
    Path("taken").touch()
    said = say("compare", "estimator", "--data", "tiny", "--only", "tiny-mean", "--cache", "taken")
    assert (said.status, said.out) == (2, "")
    assert "the folder taken can't be made" in said.err


def test_a_folder_of_other_things_is_refused(say: Say) -> None:
    Path("mine").mkdir()
    Path("mine/report.html").write_text("my own")
    said = say("compare", "estimator", "--data", "tiny", "--only", "tiny-mean", "--out", "mine")
    assert said.status == 2
    assert "mine contains other files: report.html" in said.err
    assert Path("mine/report.html").read_text() == "my own"


def test_an_interrupted_comparison_goes_on(say: Say) -> None:
    parts = import_module("scorefold_tiny.parts")

    def stop(self: Any, *given: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    command = (
        "compare",
        "estimator",
        "--data",
        "tiny",
        "--skip",
        "tiny-fault",
        "--plug",
        "score=score:tiny",
        "--quiet",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.Scored, "estimate", stop)
        said = say(*command)
    assert said.status == 130
    assert said.err == "interrupted after 1 of 2 rows; repeat the command to continue\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            parts.Mean, "estimate", stop
        )  # It was measured before the interruption, and is not measured again.
        patch.setattr(parts.Scored, "estimate", lambda self, data, **named: Estimate("intrinsic dimension", 1.0))
        assert say(*command).status == 0


def test_a_port_for_several_takes_the_data(compare: Compare) -> None:
    row = compare("geometry")["tiny-many", "tiny"]
    # Its geodesics are straight, and the data lie on a line: their middles lie where the points are dense.
    assert 0 < row.value < 1.5
    assert row.quantity.startswith("distance of geodesic middles from the data")
    assert read("out/rows/geometry-tiny-many-tiny.yaml").stages["geometry-tiny-many"].inputs["parts"] == ["data"]


def test_a_saved_model_is_plugged_in_and_not_trained(compare: Compare, host: Host) -> None:
    plain = compare(only=["tiny-scored"], plugged={"score": "score:tiny"})["tiny-scored", "tiny"]
    Path("train.yaml").write_text(
        "version: 1\nname: train\nstages:\n  data: {use: data:tiny}\n"
        "  score-tiny: {use: score:tiny, inputs: {data: data}}\n"
    )
    folder = run_file(host, "train.yaml", runs="runs").folder / "score-tiny"
    row = compare(only=["tiny-scored"], plugged={"score": {"load": str(folder)}})["tiny-scored", "tiny"]
    assert row.value == plain.value
    assert row.training_cpu_seconds is None
    assert row.network_calls == plain.network_calls
    stages = read("out/rows/estimator-tiny-scored-tiny.yaml").stages
    assert list(stages) == ["loaded", "data", "estimator-tiny-scored"]
    with pytest.raises(ScorefoldError, match="there is no folder"):
        compare(only=["tiny-scored"], plugged={"score": {"load": "nowhere"}})
    with pytest.raises(ConfigError, match=r"port 'score' is given 5"):
        compare(only=["tiny-scored"], plugged={"score": 5})


def test_further_metrics_stand_in_a_table_of_their_own(compare: Compare, host: Host) -> None:
    row = compare(only=["tiny-mean"])["tiny-mean", "tiny"]
    assert row.metrics
    name, value = next(iter(row.metrics.items()))
    result = compare_on(
        host, "estimator", on=["tiny"], only=["tiny-mean"], measures=[f"{name.upper()}, other"], out="out"
    )
    table = measures_table(result)
    assert [cell.text for cell in table.heads] == ["component", "case", name, "other", "CPU s", "network calls"]
    assert [cell.text for cell in table.lines[0][:4]] == [row.component, "tiny", number_text(value), "–"]
    assert missing_measures(result)[0].startswith("no row has a metric 'other'; the rows have ")
    assert name in Path("out/report.html").read_text()
    commas = replace(row, metrics={"a, b (dB)": 2.0, "b": 3.0})
    both = replace(result, rows=(commas,), measures=("A, b", "b,c"))
    assert [cell.text for cell in measures_table(both).lines[0][2:5]] == ["2", "3", "–"]
    assert [cell.text for cell in measures_table(both).heads[2:5]] == ["a, b (dB)", "b", "c"]
