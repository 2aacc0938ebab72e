"""``extends``: what a run file takes from another, what it says itself, and where problems are shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold_registry import Host, run_file
from scorefold_registry.cli.main import main
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_registry.runfile.schema import run_schema

BASE = """\
version: 1
name: base
seed: 3
runtime: {dtype: float64, workers: 2}
stages:
  data: {use: data:sphere, config: {dimension: 2, ambient: 4, points: 100}}
  dimension:
    use: estimator:mle
    inputs: {data: data}
    config: {n_neighbors: 9}
"""
OWN = """\
version: 1
extends: base.yaml
runtime: {workers: 1}
stages:
  data: {config: {points: 60}}
  dimension: {split: train}
  other: {use: estimator:pca, inputs: {data: data}}
"""

Written = Callable[..., Plan]


@pytest.fixture
def plan(host: Host, tmp_path: Path) -> Written:
    def write(own: str, base: str = BASE, sets: tuple[str, ...] = ()) -> Plan:
        (tmp_path / "base.yaml").write_text(base)
        (tmp_path / "own.yaml").write_text(own)
        return make_plan(host.catalogue, read(tmp_path / "own.yaml", sets))

    return write


def test_mappings_are_put_together_and_all_else_is_replaced(plan: Written) -> None:
    found = plan(OWN, sets=("stages.dimension.config.resamples=0",))
    run = found.run
    assert (run.name, run.seed, run.runtime.dtype, run.runtime.workers) == ("own", 3, "float64", 1)
    assert [stage.name for stage in found.stages] == ["data", "dimension", "other"]
    assert run.stages["data"].config == {"dimension": 2, "ambient": 4, "points": 60}
    dimension = run.stages["dimension"]
    assert (dimension.use, dimension.split, dimension.inputs) == ("estimator:mle", "train", {"data": "data"})
    assert dimension.config == {"n_neighbors": 9, "resamples": 0}


@pytest.mark.usefixtures("undrawn")
def test_a_run_keeps_the_whole_file(host: Host, plan: Written, tmp_path: Path) -> None:
    plan(OWN)
    first = run_file(host, tmp_path / "own.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    kept = (first.folder / "run.yaml").read_text()
    assert kept.startswith("# put together from own.yaml and base.yaml\nversion: 1\n")
    again = run_file(host, first.folder / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert [stage.reused for stage in again.stages] == [True, True, True]
    (tmp_path / "base.yaml").write_text(BASE.replace("n_neighbors: 9", "n_neighbors: 8"))
    changed = run_file(host, tmp_path / "own.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert [stage.reused for stage in changed.stages] == [True, False, True]


def test_a_saved_state_is_looked_for_where_the_base_names_it(host: Host, tmp_path: Path) -> None:
    sphere = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 100})
    host.save(host.create("score:analytic", data=sphere), tmp_path / "bases" / "states" / "score")
    (tmp_path / "bases" / "base.yaml").write_text("version: 1\nstages:\n  score: {load: states/score}\n")
    (tmp_path / "own.yaml").write_text(
        "version: 1\nextends: bases/base.yaml\nstages:\n  s: {use: score, do: sample, options: {n: 2, steps: 2}}\n"
    )
    found = make_plan(host.catalogue, read(tmp_path / "own.yaml"))
    assert [stage.registered.id for stage in found.stages] == ["score:analytic", "score:analytic"]


WRONG: dict[str, tuple[str, str, list[str]]] = {
    "in the base": (OWN, BASE.replace("n_neighbors", "neighbours"), ["base.yaml:10:14: unknown field 'neighbours'"]),
    "in the file": (OWN.replace("points: 60", "points: -1"), BASE, ["own.yaml:5:27: "]),
    "broken base": (OWN, "a: [", ["base.yaml:1:5: "]),
    "base of no mapping": (OWN, "- 1\n", ["own.yaml:2:10: ", "is no run file: it holds no mapping"]),
    "empty base": (OWN, "", ["is no run file: it holds no mapping"]),
    "base that extends": (OWN, "version: 1\nextends: other.yaml\n", ["extends a file itself; one level is read"]),
    "no such file": (OWN.replace("base.yaml", "bass.yaml"), BASE, ["own.yaml:2:10: ", "there is no such file"]),
    "a number": (OWN.replace("base.yaml", "3"), BASE, ["own.yaml:2:10: extends is 3; expected the path"]),
    "a list for a mapping": (OWN.replace("{config: {points: 60}}", "[1]"), BASE, ["own.yaml:5:9: "]),
    "no version": (OWN.replace("version: 1\n", ""), BASE, ["the field 'version' is missing"]),
    "a near miss": (OWN.replace("extends:", "extend:"), BASE, ["'extend' is not a field", "did you mean 'extends'"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_problems_are_shown_in_the_file_that_has_them(plan: Written, wrong: str) -> None:
    own, base, messages = WRONG[wrong]
    with pytest.raises(RunFileError) as caught:
        plan(own, base)
    for message in messages:
        assert message in str(caught.value)


def test_a_stage_that_fails_is_shown_in_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE.replace("points: 100", "points: 100, fractions: [0, 0, 1]"))
    Path("own.yaml").write_text("version: 1\nextends: base.yaml\nstages: {dimension: {split: train}}\n")
    assert main(["run", "own.yaml", "--quiet"]) == 2
    assert "base.yaml:7:5: " in capsys.readouterr().err.replace("8:10", "7:5")


def test_the_schema_knows_it(host: Host) -> None:
    validator = jsonschema.Draft202012Validator(run_schema(host.catalogue).schema)
    right: Any = {"version": 1, "extends": "base.yaml"}
    assert not list(validator.iter_errors(right))
    assert list(validator.iter_errors({"version": 1}))
    assert list(validator.iter_errors({"version": 1, "extends": 3}))
    assert json.dumps(right)


def test_a_base_is_the_file_that_the_system_opens(tmp_path: Path, host: Host) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "deep")
    (tmp_path / "base.yaml").write_text(BASE.replace("n_neighbors: 9", "n_neighbors: 5"))
    (tmp_path / "sub" / "base.yaml").write_text(BASE)
    (tmp_path / "own.yaml").write_text("version: 1\nextends: link/../base.yaml\n")
    assert read(tmp_path / "own.yaml").stages["dimension"].config == {"n_neighbors": 9}


def test_a_state_by_its_whole_path_stays_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"version: 1\nstages: {{score: {{load: {tmp_path / 'score'}}}}}\n")
    (tmp_path / "own.yaml").write_text("version: 1\nextends: base.yaml\n")
    assert read(tmp_path / "own.yaml").stages["score"].load == str(tmp_path / "score")


def test_a_base_of_another_version_is_refused(plan: Written) -> None:
    with pytest.raises(RunFileError, match="is of version 2, and this file of 1"):
        plan(OWN, BASE.replace("version: 1", "version: 2"))
    with pytest.raises(RunFileError, match="there is no such file") as caught:
        plan("version: 1\nextends: other.yaml\n")
    assert len(caught.value.problems) == 1, "what would follow from it is not listed"


def test_it_can_not_be_set_on_the_command_line(plan: Written) -> None:
    with pytest.raises(RunFileError, match="write it into the file"):
        plan(BASE, sets=("extends=base.yaml",))


def test_a_base_that_is_a_pipe_or_a_device_is_not_waited_for(plan: Written, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for base in ("pipe.yaml", "/dev/zero"):
        with pytest.raises(RunFileError) as refused:
            plan(OWN.replace("base.yaml", base))
        (problem,) = refused.value.problems
        assert f"{base} is no file, and a pipe or a device may give text without end" in problem.message
        assert (Path(problem.file or "").name, problem.line, problem.column) == ("own.yaml", 2, 10)
        assert problem.hint == "save the base as a file, and name that"


@pytest.mark.parametrize("field", ["threads", "workers"])
def test_more_threads_than_any_machine_has_are_refused(plan: Written, field: str) -> None:
    with pytest.raises(RunFileError) as refused:
        plan(OWN.replace("workers: 1", f"{field}: 1000000000"))
    (problem,) = refused.value.problems
    assert problem.message == f"{field} is 1000000000 (a number); expected a number of at most 1024"
    assert (problem.line, problem.column) == (3, 11 + len(field) + 2)
