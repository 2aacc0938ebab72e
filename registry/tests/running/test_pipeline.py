"""Runs: what they leave, what is reused and what isn't, who is notified, and what a failing stage says."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import torch

from scorefold.artefacts import load_arrays
from scorefold.errors import ArtefactError, ConfigError, DataError, PluginError, ScorefoldError
from scorefold.plugin import hookimpl
from scorefold.results import Estimate
from scorefold_registry.host import Host
from scorefold_registry.run.result import RunResult
from scorefold_registry.run.stage_folder import load_stage

RUN_FILE = (Path(__file__).parent / "tiny" / "run.yaml").read_text()
SHORT = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
"""

Run = Callable[..., RunResult]


def reused(result: RunResult) -> dict[str, bool]:
    return {stage.name: stage.reused for stage in result.stages}


def schema(name: str) -> Any:
    return json.loads((files("scorefold") / "schemas" / f"{name}.json").read_text())


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_needed_to_read_and_repeat_it(finished: RunResult) -> None:
    folder = finished.folder
    assert (folder / "run.yaml").read_text() == RUN_FILE
    resolved = (folder / "resolved.yaml").read_text()
    assert "score:tiny@1" in resolved
    assert "network:tiny@1" in resolved
    assert "learning_rate: 0.001" in resolved
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert environment["seed"] == 3
    assert environment["threads"] == 1
    assert {"tiny", "standard"} <= {record["name"] for record in environment["plugins"]}
    assert sorted(item.name for item in folder.iterdir() if item.is_dir()) == sorted(s.name for s in finished.stages)
    for stage in finished.stages:
        result = json.loads((folder / stage.name / "result.json").read_text())
        assert result["metrics"] == stage.metrics
    assert (folder / "score" / "state.safetensors").exists()
    assert (folder / "dimension" / "arrays.safetensors").exists()
    assert sorted(item.name for item in (folder / "mean" / "figures").iterdir()) == [
        "figures.json",
        "mean.png",
        "mean.svg",
    ]
    assert finished.report.read_text().startswith("<!doctype html>")
    assert events(folder)[0]["event"] == "run-started"
    assert events(folder)[-1]["event"] == "run-complete"
    assert {event["stage"] for event in events(folder) if event["event"] == "metrics"} == {"score"}
    assert not list(folder.rglob("*.partial"))
    jsonschema.validate(finished.as_json(), schema("run"))


def test_the_order_is_that_of_need(finished: RunResult) -> None:
    assert [stage.name for stage in finished.stages] == ["data", "score", "dimension", "samples", "mean"]


def test_stages_are_rebuilt_from_their_folders(finished: RunResult, host: Host) -> None:
    score = finished.value("score")
    loaded = load_stage(host, finished.folder / "score").value
    x = torch.randn(5, 2)
    assert torch.equal(loaded.score(x, torch.full((5,), 0.5)), score.score(x, torch.full((5,), 0.5)))
    estimate = load_stage(host, finished.folder / "dimension").value
    assert isinstance(estimate, Estimate)
    known = finished.value("dimension")
    assert (estimate.value, estimate.interval, estimate.diagnostics) == (known.value, known.interval, known.diagnostics)
    torch.testing.assert_close(estimate.pointwise, known.pointwise, rtol=0, atol=0)
    samples = load_stage(host, finished.folder / "samples").value
    assert torch.equal(samples.load("test").x, finished.value("samples").load("test").x)
    assert samples.event_scale == finished.value("samples").event_scale
    data = load_stage(host, finished.folder / "data").value
    assert torch.equal(data.load("train").x, finished.value("data").load("train").x)


def test_folders_are_chosen_by_option_environment_and_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("scorefold.toml").write_text('runs = "from-settings"\ncache = "kept"\n')
    assert run(SHORT).folder.parent == Path("from-settings/short").absolute()
    assert Path("kept").is_dir()
    monkeypatch.setenv("SCOREFOLD_RUNS", "from-environment")
    assert run(SHORT).folder.parent == Path("from-environment/short").absolute()
    assert run(SHORT, runs="from-option").folder.parent == Path("from-option/short").absolute()


def test_lists_of_inputs_and_inline_components_are_built(run: Run) -> None:
    text = SHORT + (
        "  many: {use: geometry:tiny-many, inputs: {parts: [data, {use: data:tiny, config: {points: 9}}, data]}}\n"
        "  one: {use: geometry:tiny-many, inputs: {parts: data}}\n"
    )
    result = run(text)
    assert result.value("many").count == 3
    assert result.value("one").count == 1


def test_a_verb_on_a_stage_leaves_that_stage_as_it_was(run: Run) -> None:
    text = RUN_FILE + (
        "  more: {use: score, do: fit, inputs: {data: data}}\n  later: {use: score, do: sample, inputs: {data: data}}\n"
    )
    result = run(text)
    before = load_arrays(result.folder / "score" / "state.safetensors")
    after = load_arrays(result.folder / "more" / "state.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], tensor) for name, tensor in result.value("score").state_dict().items())


FAULT = SHORT + "  fault: {use: estimator:tiny-fault, inputs: {data: data}}\n"


def test_bad_data_is_reported_at_the_stage(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINY_NOTES", str(tmp_path / "notes"))
    with pytest.raises(DataError) as caught:
        run(FAULT, sets=["stages.fault.config.kind=data"])
    error = caught.value
    assert (error.file, error.line, error.column) == ("run.yaml", 7, 16)
    assert error.message == "too few points: 20 were given, 50 are needed"
    assert "on_stage_error fault DataError" in (tmp_path / "notes").read_text()
    # The stages before it are kept.
    with pytest.raises(DataError):
        run(FAULT, sets=["stages.fault.config.kind=data"])
    newest = max(Path("runs/short").glob("*.partial"), key=lambda folder: folder.stat().st_mtime)
    assert [e["reused"] for e in events(newest) if e["event"] == "stage-ended"] == [True, True]
    assert json.loads((newest / "status.json").read_text())["state"] == "failed"


def test_a_figure_that_fails_costs_no_result(run: Run, drawn: None) -> None:
    for already in (False, True):
        result = run(FAULT, sets=["stages.fault.config.kind=figures"])
        assert reused(result)["fault"] is already
        assert result.value("fault").value == 1.0
        (failure,) = result.failures
        assert "ValueError: there is nothing to draw at" in failure.text()
        assert "there is nothing to draw" in result.report.read_text()


def test_a_missing_data_file_is_reported_at_the_stage(run: Run) -> None:
    with pytest.raises(DataError, match="no file") as caught:
        run(SHORT.replace("data:tiny}", "data:tiny, config: {path: gone.txt}}"))
    assert caught.value.line == 5


def test_a_crash_in_a_plugin_names_it_and_keeps_its_traceback(run: Run, say: Callable[..., Any]) -> None:
    Path("run.yaml").write_text(FAULT)
    said = say("run", "run.yaml")
    assert said.status == 2
    assert "Traceback" not in said.err + said.out
    assert "run.yaml:7:16" in said.err
    assert "stage 'fault' (estimator:tiny-fault) failed in plugin 'tiny' (scorefold-tiny 0.1) at" in said.err
    assert "parts.py:" in said.err
    assert "ValueError: deep inside" in said.err
    log = next(Path("runs/short").glob("*.partial/error.txt"))
    assert "Traceback" in log.read_text()
    assert str(log.absolute()) in said.err
    said = say("run", "run.yaml", "--json")
    assert said.status == 2
    jsonschema.validate(said.json, schema("error"))
    assert said.json["error"]["line"] == 7
    with pytest.raises(PluginError):
        run(FAULT)


def test_a_device_that_is_not_here_is_reported_at_its_place(run: Run) -> None:
    with pytest.raises(ConfigError, match="cuda:99") as caught:
        run(SHORT.replace("device: cpu", "device: cuda:99"))
    assert (caught.value.line, caught.value.column) == (3, 19)
    assert not Path("runs").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_simulated_device_has_no_half_precision(run: Run, precision: str) -> None:
    with pytest.raises(ConfigError, match=precision) as caught:
        run(SHORT.replace("device: cpu", f"device: simulated, precision: {precision}"))
    assert caught.value.line == 3


def test_a_folder_that_can_not_be_made_is_named(run: Run) -> None:
    Path("runs").write_text("a file")
    with pytest.raises(ArtefactError, match="runs/short can't be made"):
        run(SHORT)


def test_all_of_it_works_in_double_precision(run: Run) -> None:
    result = run(sets=["runtime.dtype=float64"])
    assert next(result.value("score").parameters()).dtype == torch.float64
    assert result.value("samples").load("test").x.dtype == torch.float64


def test_a_plugin_that_ends_the_process_ends_the_run_with_an_error(say: Callable[..., Any]) -> None:
    Path("run.yaml").write_text(FAULT)
    said = say("run", "run.yaml", "--set", "stages.fault.config.kind=exit", "--quiet")
    assert said.status == 2
    assert "stage 'fault' (estimator:tiny-fault) failed in plugin 'tiny'" in said.err
    assert "SystemExit" in said.err


def test_a_cache_that_can_not_be_made_is_reported_before_anything_is_written(run: Run) -> None:
    Path("kept").write_text("a file")
    with pytest.raises(ArtefactError, match="kept can't be made") as caught:
        run(SHORT, cache="kept")
    assert caught.value.file is None
    assert not Path("runs").exists()


def test_a_report_that_can_not_be_written_leaves_no_complete_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> None:
        raise ArtefactError("the disk is full")

    monkeypatch.setattr("scorefold_registry.run.execution.write_report", failing)
    with pytest.raises(ArtefactError, match="the disk is full"):
        run(SHORT)
    (folder,) = Path("runs/short").glob("*.partial")
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"


def test_remarks_of_a_score_reach_every_stage_that_it_is_part_of(run: Run) -> None:
    text = """version: 1
name: ring
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:torus, config: {form: revolution, points: 60}}
  score: {use: score:analytic, inputs: {data: data}}
  dimension: {use: estimator:tiny-scored, inputs: {score: SCORE, data: data}}
"""
    inline = "{use: score:analytic, inputs: {data: data}}"
    for score in ("score", inline):
        folder = run(text.replace("SCORE", score)).folder
        said = {
            name: json.loads((folder / name / "result.json").read_text()) for name in ("data", "score", "dimension")
        }
        assert "warnings" not in said["data"]
        assert ["memorises" in text for text in said["score"]["warnings"]] == [True]
        assert said["dimension"]["warnings"] == said["score"]["warnings"]


def test_the_size_of_calls_is_set_for_a_run_and_changes_no_key(run: Run) -> None:
    from scorefold import batching

    assert not any(reused(run(SHORT)).values())
    again = run(SHORT.replace("threads: 1", "threads: 1, batch_size: 5"))
    assert batching._chosen == 5
    assert all(reused(again).values())
    run(SHORT)
    assert batching._chosen is None


def test_what_no_ordinary_handler_catches_is_an_error_like_any(write: Any, say: Any) -> None:
    """A stage that raises a BaseException of its own: named, as JSON, and the run's state is failed."""
    said = say("run", str(write(FAULT)), "--set", "stages.fault.config.kind=odd", "--quiet", "--json")
    assert said.status == 2
    assert "failed in plugin 'tiny'" in said.json["error"]["message"]
    assert "OddError" in said.json["error"]["message"]
    (status,) = Path("runs/short").glob("*.partial/status.json")
    assert json.loads(status.read_text())["state"] == "failed"


def test_an_estimator_that_returns_nothing_is_named(write: Any, say: Any) -> None:
    said = say("run", str(write(FAULT)), "--set", "stages.fault.config.kind=nothing", "--quiet", "--json")
    error = said.json["error"]
    assert error["message"] == (
        "estimate of scorefold_tiny.parts:Fault returned None in stage 'fault'; expected an Estimate"
    )
    assert re.fullmatch(r"end estimate at .*/parts\.py:\d+ with 'return Estimate\(...\)', .*", error["hint"])
    assert Path(error["file"]).name == "run.yaml"
    assert "fault" in Path(error["file"]).read_text().splitlines()[error["line"] - 1]


def test_an_estimate_that_is_no_number_is_refused_where_it_is_made(write: Any, say: Any) -> None:
    said = say("run", str(write(FAULT)), "--set", "stages.fault.config.kind=text", "--quiet")
    assert "failed in plugin 'tiny'" in said.err
    assert "intrinsic dimension: given 'three'; expected a number" in said.err


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_half_a_character_in_an_error_costs_no_error(write: Any, say: Any, form: tuple[str, ...]) -> None:
    said = say("run", str(write(FAULT)), "--set", "stages.fault.config.kind=halves", "--quiet", *form)
    text = said.json["error"]["message"] if form else said.err
    assert "failed in plugin 'tiny'" in text
    assert r"the file caf\udce9.png \ud800" in text
    (kept,) = Path("runs/short").glob("*.partial/error.txt")
    assert r"ValueError: the file caf\udce9.png \ud800" in kept.read_text()
    (status,) = Path("runs/short").glob("*.partial/status.json")
    assert "caf" in json.loads(status.read_text())["error"]


def test_a_hook_that_raises_anything_stops_nothing(host: Host, run: Run) -> None:
    class Odd(BaseException):
        pass

    def scorefold_before_run(run: Any) -> None:
        raise Odd("at once")

    host.manager.register(SimpleNamespace(scorefold_before_run=hookimpl(scorefold_before_run)), name="odd")
    (failure,) = run(SHORT).failures
    assert failure.error == "Odd: at once"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "big.bin"), "can't read or write big.bin: No space left"),
        (MemoryError(), "needs more memory than is available"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "needs more memory",
        ),
    ],
)
def test_faults_of_the_machine_are_no_plugins(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("scorefold_verbs.load.load", failing)
    with pytest.raises(ScorefoldError) as refused:
        run()
    assert said in str(refused.value)
    assert "plugin" not in str(refused.value)
    assert refused.value.line is not None
