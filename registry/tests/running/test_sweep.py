"""Sweeps: every point an ordinary run, checked before the first, sharing stages, on one process or on several."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from filelock import FileLock

from scorefold.errors import ConfigError, WorkerError
from scorefold.plugin import hookimpl
from scorefold.stage import Executor, pack, perform, unpack
from scorefold_registry import sweep
from scorefold_registry.experiments.rows import SweepResult
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file

Say = Callable[..., Any]

STEPS = "stages.score.config.training.steps"
TEXT = """version: 1
name: tiny
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  score: {use: score:tiny, inputs: {data: data}, config: {training: {steps: 6, batch_size: 8, warmup: 0}}}
  dimension: {use: estimator:tiny-scored, inputs: {score: score, data: data}}
"""


def schema() -> Any:
    return json.loads((files("scorefold") / "schemas" / "sweep.json").read_text())


@pytest.fixture
def file(write: Callable[..., Path]) -> Path:
    return write(TEXT)


def state_of(result: SweepResult, number: int, stage: str = "score") -> bytes:
    run = result.rows[number - 1].run
    assert run is not None
    return (run / stage / "state.safetensors").read_bytes()


def test_a_sweep_says_what_came_out_of_every_point_and_where_it_is(say: Say, file: Path) -> None:
    said = say("sweep", str(file), "--grid", f"{STEPS}=2,6", "--grid", "seed=0,1", "--best", "max:dimension")
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == "4 points, one after another"
    assert lines[1].startswith("[1/4] steps=2 seed=0: dimension.intrinsic dimension ")
    assert next(line for line in lines if line.startswith("point ")).split() == [
        *("point", "steps", "seed", "dimension.intrinsic", "dimension", "time")
    ]
    assert any("±" in line for line in lines), "mean and spread over seeds"
    assert any(line.startswith("greatest dimension.intrinsic dimension: ") and f"at {STEPS}=" in line for line in lines)
    folder = Path(lines[-1].removeprefix("report: ")).parent
    written = json.loads((folder / "sweep.json").read_text())
    jsonschema.validate(written, schema())
    assert written["fields"] == [STEPS, "seed"]
    for point in written["points"]:
        run = Path(point["run"])
        assert run.is_relative_to((folder / "runs" / "tiny").absolute())
        resolved = (run / "resolved.yaml").read_text()
        assert f"steps: {point['values'][STEPS]}" in resolved
        assert f"seed: {point['values']['seed']}" in resolved
        assert (run / "report.html").relative_to(folder.absolute()).as_posix() in (folder / "report.html").read_text()
    with (folder / "sweep.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [line[STEPS] for line in table] == ["2", "2", "6", "6"]
    assert float(table[0]["dimension.intrinsic dimension"]) == written["points"][0]["measures"][written["measures"][0]]
    assert [line["run"] for line in table] == [point["run"] for point in written["points"]]
    assert {path.name for path in (folder / "figures").iterdir()} >= {
        "dimension.intrinsic-dimension.png",
        "dimension.intrinsic-dimension.svg",
    }


def test_a_point_is_what_the_run_alone_is(host: Host, file: Path) -> None:
    swept = sweep(host, file, {STEPS: [2, 6], "seed": [5]}, out="swept", cache="one")
    alone = run_file(host, file, sets=[f"{STEPS}=6"], seed=5, cache="another")
    assert swept.rows[1].measures["dimension.intrinsic dimension"] == alone.stages[-1].metrics["intrinsic dimension"]
    assert state_of(swept, 2) == (alone.folder / "score" / "state.safetensors").read_bytes()
    again = run_file(host, file, sets=[f"{STEPS}=6"], seed=5, cache="one")
    assert all(stage.reused for stage in again.stages), "the cache is the cache of ordinary runs"


def test_stages_that_no_swept_field_reaches_are_computed_once_and_a_second_sweep_computes_none(
    host: Host, file: Path
) -> None:
    first = sweep(host, file, {"stages.dimension.config.scale": [1.0, 2.0, 3.0]})
    assert [row.reused for row in first.rows] == [0, 2, 2]
    assert [row.stages for row in first.rows] == [3, 3, 3]
    second = sweep(host, file, {"stages.dimension.config.scale": [1.0, 2.0, 3.0]})
    assert second.folder == first.folder
    assert [row.reused for row in second.rows] == [3, 3, 3]
    assert [row.measures for row in second.rows] == [row.measures for row in first.rows]
    assert len(list((first.folder / "runs" / "tiny").glob("2*"))) == 3, "the folders of the first are replaced"
    more = sweep(host, file, {"stages.dimension.config.scale": [1.0, 4.0]}, out=first.folder)
    assert [row.reused for row in more.rows] == [3, 2]


def test_workers_change_no_result_and_compute_shared_stages_once(
    host: Host, file: Path, say: Say, warm_workers: None
) -> None:
    over = {STEPS: [2, 6], "stages.dimension.config.scale": [1.0, 2.0]}
    here = sweep(host, file, over, out="here", cache="here-cache")
    options = [text for field, values in over.items() for text in ("--grid", f"{field}={values[0]},{values[1]}")]
    said = say("sweep", str(file), *options, "--workers", "2", "--out", "there", "--cache", "there-cache", "--json")
    assert said.status == 0, said.err
    jsonschema.validate(said.json, schema())
    assert said.err.splitlines()[0] == "4 points, on 2 processes"
    assert sorted(line.split("] ")[1].partition(":")[0] for line in said.err.splitlines()[1:]) == sorted(
        f"steps={steps} scale={scale}" for steps in (2, 6) for scale in (1.0, 2.0)
    )
    points = said.json["points"]
    assert [point["measures"] for point in points] == [dict(row.measures) for row in here.rows]
    kept = {path.name for path in Path("here-cache").iterdir()}
    assert kept == {path.name for path in Path("there-cache").iterdir()}, "the same keys, so the same threads"
    assert sum(point["reused"] for point in points) == 12 - 7, "one data stage, two trainings, four answers"
    for row, point in zip(here.rows, points, strict=True):
        assert state_of(here, row.number) == (Path(point["run"]) / "score" / "state.safetensors").read_bytes()


FAULTY = """version: 1
name: faulty
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  answer: {use: estimator:tiny-fault, inputs: {data: data}}
"""


def test_a_point_that_fails_is_a_row_with_its_error(say: Say, write: Callable[..., Path]) -> None:
    write(FAULTY)
    over = "stages.answer.config.kind=data,value,figures"
    said = say("sweep", "run.yaml", "--grid", over, "--json", "--out", "out")
    assert said.status == 1
    jsonschema.validate(said.json, schema())
    assert said.json["holds"] is False
    data, value, fine = said.json["points"]
    assert data["error"]["code"] == "data"
    assert data["error"]["message"] == "too few points: 20 were given, 50 are needed"
    assert data["error"]["hint"] == "give more points"
    assert Path(data["error"]["file"]).name == "run.yaml"
    assert (data["error"]["line"], data["stages"]) == (6, 0)
    assert "deep inside" in value["error"]["message"]
    assert "deep inside" in (Path(value["run"]) / "error.txt").read_text()
    assert fine["error"] is None
    assert fine["measures"] == {"answer.intrinsic dimension": 1.0}
    page = Path("out/report.html").read_text()
    assert f"{Path(value['run']).name}/error.txt" in page
    assert "failed: too few points" in said.err
    printed = say("sweep", "run.yaml", "--grid", over, "--out", "out", "--quiet")
    assert printed.status == 1
    assert "3 points, 2 failed" in printed.out
    assert "\npoint 1: run.yaml:6:" in printed.out
    assert len(list(Path("out/runs/faulty").glob("2*"))) <= 5


def test_every_point_is_checked_before_the_first_is_run(say: Say, file: Path) -> None:
    said = say("sweep", str(file), "--grid", f"{STEPS}=2,-1", "--grid", "stages.dimension.config.scael=1,2", "--json")
    assert said.status == 2
    problems = said.json["error"]["problems"]
    messages = [problem["message"] for problem in problems]
    assert sum(message.startswith(f"in --grid {STEPS}=-1: ") for message in messages) == 1, messages
    assert any(message.startswith("in --grid stages.dimension.config.scael=1: ") for message in messages)
    assert any("scale" in str(problem["hint"]) for problem in problems), "near misses"
    assert not Path("sweeps").exists()
    assert not Path(".scorefold").exists()
    said = say("sweep", str(file), "--grid", "sed=0,1")
    assert "in --grid sed=0: 'sed' is not a field of a run file" in said.err
    assert "did you mean 'seed'" in said.err
    file.write_text(TEXT.replace("use: data:tiny", "use: data:tini"))
    said = say("sweep", str(file), "--grid", "seed=0,1")
    assert said.err.count("run.yaml:5:15: ") == 1, "what is wrong with the file is said once"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measure", "dimensoin.error"], "there is no stage 'dimensoin'"),
        (["--best", "least:dimension"], "--best least:dimension: expected min:STAGE.METRIC"),
        (["--best", "min:score,dimension"], "expected one measure, and these are 2"),
        (["--workers", "0"], "'0' is not a whole number from 1"),
        (["--grid", "seed=0"], "seed is swept twice"),
    ],
)
def test_what_can_not_be_asked_is_refused(say: Say, file: Path, options: list[str], message: str) -> None:
    said = say("sweep", str(file), "--grid", "seed=0,1", *options)
    assert said.status == 2
    assert message in said.err
    assert not Path("sweeps").exists()


def test_a_metric_that_is_not_there_costs_no_run(say: Say, file: Path) -> None:
    said = say("sweep", str(file), "--grid", "seed=0", "--measure", "score.no-such")
    assert said.status == 2
    assert "stage 'score' has no metric 'no-such'" in said.err
    again = say("sweep", str(file), "--grid", "seed=0", "--measure", "score.loss", "--json", "--quiet")
    assert again.status == 0, again.err
    (point,) = again.json["points"]
    assert point["reused"] == point["stages"] == 3
    assert list(point["measures"]) == ["score.loss"]


def test_the_seed_of_the_command_draws_and_runs(host: Host, file: Path) -> None:
    over = {"stages.dimension.config.scale": "uniform(1, 2)"}
    found = sweep(host, file, over, random=2, seed=9)
    assert all("seed: 9" in (row.run / "resolved.yaml").read_text() for row in found.rows if row.run)
    again, other = sweep(host, file, over, random=2, seed=9), sweep(host, file, over, random=2, seed=10)
    assert [row.values for row in found.rows] == [row.values for row in again.rows]
    assert other.folder != found.folder
    assert other.rows[0].values != found.rows[0].values
    (row,) = sweep(host, file, {**over, "seed": [3]}, random=1, seed=9).rows
    assert row.run is not None
    assert "seed: 3" in (row.run / "resolved.yaml").read_text()
    assert row.values == {**found.rows[0].values, "seed": 3}


def offering(executor: Executor) -> ModuleType:
    module = ModuleType("offering")
    module.__plugin_api__ = "1.0"  # type: ignore[attr-defined]

    def scorefold_executor(run: Any) -> Executor:
        return executor

    module.scorefold_executor = hookimpl(scorefold_executor)  # type: ignore[attr-defined]
    return module


def test_a_module_that_no_worker_can_import_is_refused(file: Path) -> None:
    class Elsewhere(Executor):
        def map(self, target: str, items: Any, key: str) -> list[Any]:
            raise AssertionError("nothing is sent")

    host = Host.discover(extra_plugins=[offering(Elsewhere())])
    with pytest.raises(ConfigError, match="plugin 'offering' was handed over as a module"):
        sweep(host, file, {"seed": [0, 1]})


def test_the_executor_of_a_plugin_does_the_points_and_a_worker_that_dies_costs_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Elsewhere(Executor):
        closed = 0

        def map(self, target: str, items: Any, key: str) -> list[Any]:
            assert key == "sweep of tiny"
            asked.append(len(items))
            answers = []
            for place, item in enumerate(items):
                if item.number == 2:
                    raise WorkerError("the worker ended", item=place, hint="memory")
                answers.append(unpack(perform(target, pack(item, "a point"), None)))
            return answers

        def close(self) -> None:
            Elsewhere.closed += 1

    monkeypatch.setattr("scorefold_registry.experiments.sweep._refuse_handed", lambda host: None)
    found = sweep(Host.discover(extra_plugins=[offering(Elsewhere())]), file, {"seed": [0, 1, 2]})
    assert asked == [3, 1], "what was done is not asked for again"
    assert Elsewhere.closed == 1
    assert [row.error and row.error["message"] for row in found.rows] == [None, "the worker ended", None]
    assert found.rows[2].measures["dimension.intrinsic dimension"] is not None


def test_two_sweeps_do_not_share_a_folder(say: Say, file: Path) -> None:
    Path("out").mkdir()
    with FileLock("out/.lock"):
        said = say("sweep", str(file), "--grid", "seed=0", "--out", "out")
    assert said.status == 2
    assert "another sweep is running in out" in said.err


def test_a_folder_for_stages_that_cannot_be_is_no_point(say: Say, file: Path) -> None:
    Path("taken").touch()
    said = say("sweep", str(file), "--grid", "seed=0", "--cache", "taken")
    assert (said.status, said.out) == (2, "")
    assert "taken can't be made" in said.err


def test_a_folder_of_other_things_is_refused_and_what_lies_in_that_of_a_sweep_stays(say: Say, file: Path) -> None:
    Path("mine").mkdir()
    Path("mine/tiny.yaml").write_text("my own")
    said = say("sweep", str(file), "--grid", "seed=0", "--out", "mine")
    assert said.status == 2
    assert "mine contains other files: tiny.yaml" in said.err
    assert Path("mine/tiny.yaml").read_text() == "my own"
    for name in ("points", "figures"):
        Path("out", name).mkdir(parents=True)
        Path("out", name, "notes.txt").write_text("my own")
    Path("out/points/notes.json").write_text("{}")
    for measure in ("dimension", "score.loss"):
        assert say("sweep", str(file), "--grid", "seed=0", "--out", "out", "--measure", measure).status == 0
    assert {path.name for path in Path("out/figures").iterdir()} == {
        *("score.loss.png", "score.loss.svg", "figures.json", "notes.txt")
    }
    assert {path.name for path in Path("out/points").iterdir()} == {"1.json", "notes.json", "notes.txt"}


SLOW = """version: 1
name: slow
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  score:
    use: score:tiny
    inputs: {data: data}
    config: {training: {steps: 40, batch_size: 8, checkpoint_every: 5, log_every: 5, warmup: 0}}
"""


def test_a_sweep_that_is_stopped_goes_on_where_it_was(
    tmp_path: Path, launch: Callable[..., subprocess.Popen[str]], say: Say, write: Callable[..., Path]
) -> None:
    write(SLOW, "slow.yaml")
    over = ["--grid", "stages.score.config.pause=0,0.1", "--measure", "score.loss"]
    process = launch("sweep", "slow.yaml", *over, "--workers", "2", "--out", "out")
    end = time.monotonic() + 90

    def steps() -> int:
        files = tmp_path.glob("out/runs/slow/*.partial/events.jsonl")
        return sum(file.read_text().count('"metrics", "stage"') for file in files)

    while not ((tmp_path / "out/points/1.json").exists() and steps() >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert err == "interrupted after 1 of 2 points; repeat the command to continue\n"
    (partial,) = tmp_path.glob("out/runs/slow/*.partial")
    assert json.loads((partial / "status.json").read_text())["state"] == "interrupted"
    said = say("sweep", "slow.yaml", *over, "--out", "out", "--json")
    assert said.status == 0, said.err
    first, second = said.json["points"]
    assert first["reused"] == first["stages"]
    assert second["reused"] == 1
    events = (Path(second["run"]) / "events.jsonl").read_text().splitlines()
    assert min(json.loads(line)["step"] for line in events if '"metrics", "stage"' in line) > 5, "it began anew"
    assert not list(tmp_path.glob("out/runs/slow/*.partial"))
    assert state(first) == state(second), "a pause changes no training"


def state(point: dict[str, Any]) -> bytes:
    return (Path(point["run"]) / "score" / "state.safetensors").read_bytes()
