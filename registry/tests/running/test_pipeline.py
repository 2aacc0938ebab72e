"""Runs: what they leave, what is reused and what isn't, who is told, and what a failing stage says."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import torch

from scorefold.artefacts import load_arrays
from scorefold.errors import ArtefactError, ConfigError, DataError, PluginError
from scorefold.plugin import hookimpl
from scorefold.results import Estimate
from scorefold.stage import Executor
from scorefold_registry import keys
from scorefold_registry.host import Host
from scorefold_registry.pipeline import run_file
from scorefold_registry.run_result import RunResult
from scorefold_registry.stages import load_stage

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


def plugin(**hooks: Any) -> ModuleType:
    """A plugin made of hook functions."""
    module = ModuleType("watcher")
    module.__plugin_api__ = "1.0"  # type: ignore[attr-defined]
    for name, function in hooks.items():
        function.__module__ = "watcher"
        setattr(module, name, hookimpl(function))
    return module


def test_a_run_leaves_everything_needed_to_read_and_repeat_it(finished: RunResult) -> None:
    folder = finished.folder
    assert (folder / "run.yaml").read_text() == RUN_FILE
    resolved = (folder / "resolved.yaml").read_text()
    assert "score:tiny@1" in resolved
    assert "network:tiny@1" in resolved
    assert "learning_rate: 0.001" in resolved
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
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


def test_an_unchanged_run_is_reused_and_says_the_same(run: Run) -> None:
    first, second = run(), run()
    assert not any(reused(first).values())
    assert all(reused(second).values())
    assert [stage.metrics for stage in first.stages] == [stage.metrics for stage in second.stages]
    assert first.folder != second.folder
    assert torch.equal(second.value("dimension").pointwise, first.value("dimension").pointwise)


def test_a_change_reaches_what_depends_on_it_and_nothing_else(run: Run) -> None:
    run()
    changed = run(sets=["stages.score.config.training.steps=21"])
    assert reused(changed) == {"data": True, "score": False, "dimension": False, "samples": False, "mean": False}
    changed = run(sets=["stages.samples.options.n=9"])
    assert reused(changed) == {"data": True, "score": True, "dimension": True, "samples": False, "mean": False}
    # What is computed from reused stages is what a fresh run computes.
    alone = run(sets=["stages.samples.options.n=9"], cache="elsewhere")
    assert [stage.metrics for stage in alone.stages[2:]] == [stage.metrics for stage in changed.stages[2:]]


def test_adding_a_stage_changes_no_other(run: Run) -> None:
    first = run(SHORT)
    second = run(SHORT.replace("stages:\n", "stages:\n  before: {use: data:tiny}\n"))
    assert reused(second) == {"before": False, "data": True, "mean": True}
    assert second.stages[2].metrics == first.stages[1].metrics


@pytest.mark.parametrize("option", ["runtime.dtype=float64", "runtime.precision=bf16"])
def test_how_it_is_computed_is_part_of_the_key(run: Run, option: str) -> None:
    run(SHORT)
    assert not any(reused(run(SHORT, sets=[option])).values())


def test_seed_version_and_code_are_part_of_the_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SHORT)
    assert not any(reused(run(SHORT, seed=1)).values())
    assert all(reused(run(SHORT)).values())
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        assert not any(reused(run(SHORT)).values())
    with monkeypatch.context() as patch:
        digest = keys.code_digest("scorefold_tiny")
        patch.setattr(keys, "code_digest", lambda package: digest[::-1] if package == "scorefold_tiny" else "same")
        assert not any(reused(run(SHORT)).values())


def test_the_code_digest_sees_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "digested"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    keys.code_digest.cache_clear()
    before = keys.code_digest("digested")
    (package / "inner" / "__init__.py").write_text("a = 2\n")
    keys.code_digest.cache_clear()
    assert keys.code_digest("digested") != before
    with pytest.raises(PluginError, match="can't be found"):
        keys.code_digest("no_such_package_anywhere")


def test_the_files_that_data_read_are_part_of_the_key(run: Run) -> None:
    Path("shift.txt").write_text("1.0")
    text = SHORT.replace("data:tiny}", "data:tiny, config: {path: shift.txt}}")
    inline = SHORT.replace("  data: {use: data:tiny}\n", "").replace(
        "{data: data}", "{data: {use: data:tiny, config: {path: shift.txt}}}"
    )
    run(text)
    run(inline)
    assert all(reused(run(text)).values())
    assert all(reused(run(inline)).values())
    Path("shift.txt").write_text("2.0")
    assert not any(reused(run(text)).values())
    assert not any(reused(run(inline)).values())


def test_fresh_computes_everything_anew(run: Run) -> None:
    first = run(SHORT)
    again = run(SHORT, fresh=True)
    assert not any(reused(again).values())
    assert again.stages[1].metrics == first.stages[1].metrics


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


def test_hooks_are_called_in_order(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINY_NOTES", str(tmp_path / "notes"))
    sets = ["stages.score.config.training={steps: 10, log_every: 5, batch_size: 8}"]
    run(sets=sets)
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes[0] == "before_run tiny"
    assert notes[1:3] == ["before_stage data ", "after_stage data True"]
    assert notes[3] == "before_stage score data"
    assert "on_metrics score 5" in notes
    assert "before_stage dimension score,data" in notes
    assert notes[-1] == "after_run True"
    (tmp_path / "notes").unlink()
    run(sets=sets)
    assert (tmp_path / "notes").read_text().splitlines() == ["before_run tiny", "after_run True"]


def test_a_failing_observer_is_told_and_stops_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TINY_OBSERVER", "fails")
    monkeypatch.setenv("TINY_NOTES", str(tmp_path / "notes"))
    result = run(SHORT)
    assert [failure.hook for failure in result.failures] == ["scorefold_before_run"]
    assert (
        "plugin 'scorefold-tiny/tiny': scorefold_before_run failed: RuntimeError: the observer is out of order at"
        in result.failures[0].text()
    )
    assert "plugin.py:" in result.failures[0].text()
    assert "the observer is out of order" in result.report.read_text()
    assert [e["hook"] for e in events(result.folder) if e["event"] == "observer-failed"] == ["scorefold_before_run"]
    assert "after_run True" in (tmp_path / "notes").read_text()


def test_an_observer_that_fails_hides_no_other(host: Host, write: Callable[[str], Path]) -> None:
    seen: list[str] = []

    def failing(run: Any) -> None:
        raise ValueError("no")

    def failing_late(run: Any, result: Any) -> None:
        raise ValueError("too late")

    def watching(stage: Any) -> None:
        seen.append(stage.name)

    def sections(run: Any) -> Any:
        yield "One", "<p>one</p>"
        raise ValueError("half way")

    watcher = plugin(
        scorefold_before_run=failing,
        scorefold_after_run=failing_late,
        scorefold_before_stage=watching,
        scorefold_report_sections=sections,
    )
    host = Host.discover(extra_plugins=[watcher])
    result = run_file(host, write(SHORT))
    assert seen == ["data", "mean"]
    hooks = [failure.hook for failure in result.failures]
    assert hooks == ["scorefold_before_run", "scorefold_report_sections", "scorefold_after_run"]
    assert "too late" in result.report.read_text()


def test_sections_of_plugins_stand_in_the_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_OBSERVER", "works")
    report = run(SHORT).report.read_text()
    assert "A section of the tiny plugin" in report
    assert "<p>It says <b>hello</b>.</p>" in report


def test_a_profiler_wraps_the_local_runner(write: Callable[[str], Path]) -> None:
    wrapped: list[str] = []

    def around(stage: Any) -> Any:
        outcome = yield
        wrapped.append(stage.name)
        return outcome

    around.__module__ = "watcher"
    watcher = ModuleType("watcher")
    watcher.__plugin_api__ = "1.0"  # type: ignore[attr-defined]
    watcher.scorefold_run_stage = hookimpl(wrapper=True)(around)  # type: ignore[attr-defined]
    result = run_file(Host.discover(extra_plugins=[watcher]), write(SHORT))
    assert wrapped == ["data", "mean"]
    assert result.value("mean").quantity == "intrinsic dimension"


def test_a_plugin_may_serve_the_jobs_of_stages(write: Callable[[str], Path]) -> None:
    class Remote(Executor):
        def map(self, target: str, items: Any, key: str) -> list[Any]:
            return [target]

    given: list[Any] = []

    def executor(run: Any) -> Executor:
        return Remote()

    def around(run: Any, stage: Any, inputs: Any) -> Any:
        given.append(sorted(inputs))

    watcher = plugin(scorefold_executor=executor, scorefold_run_stage=around)
    result = run_file(Host.discover(extra_plugins=[watcher]), write(SHORT))
    # A runner that answers None leaves the stage to the next one.
    assert given == [[], ["data"]]
    assert len(result.stages) == 2


FAULT = SHORT + "  fault: {use: estimator:tiny-fault, inputs: {data: data}}\n"


def test_bad_data_is_told_at_the_stage(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


def test_a_figure_that_fails_costs_no_result(run: Run) -> None:
    for already in (False, True):
        result = run(FAULT, sets=["stages.fault.config.kind=figures"])
        assert reused(result)["fault"] is already
        assert result.value("fault").value == 1.0
        (failure,) = result.failures
        assert "ValueError: there is nothing to draw at" in failure.text()
        assert "there is nothing to draw" in result.report.read_text()


def test_a_missing_data_file_is_told_at_the_stage(run: Run) -> None:
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


def test_a_device_that_is_not_here_is_told_at_its_place(run: Run) -> None:
    with pytest.raises(ConfigError, match="cuda:99") as caught:
        run(SHORT.replace("device: cpu", "device: cuda:99"))
    assert (caught.value.line, caught.value.column) == (3, 19)
    assert not Path("runs").exists()


def test_a_folder_that_can_not_be_made_is_named(run: Run) -> None:
    Path("runs").write_text("a file")
    with pytest.raises(ArtefactError, match="runs/short can't be made"):
        run(SHORT)


def test_a_damaged_copy_in_the_cache_is_made_again(run: Run) -> None:
    first = run()
    for state in Path(".scorefold/cache").glob("*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:-1] + b"x")
    second = run()
    assert not reused(second)["score"]
    assert reused(second)["samples"]
    assert [stage.metrics for stage in second.stages[2:]] == [stage.metrics for stage in first.stages[2:]]
    assert all(reused(run()).values())


def test_all_of_it_works_in_double_precision(run: Run) -> None:
    result = run(sets=["runtime.dtype=float64"])
    assert next(result.value("score").parameters()).dtype == torch.float64
    assert result.value("samples").load("test").x.dtype == torch.float64


def test_an_executor_that_fails_and_sections_that_are_none_are_told(write: Callable[[str], Path]) -> None:
    def executor(run: Any) -> Executor:
        raise OSError("no cluster")

    with pytest.raises(PluginError, match="scorefold_executor failed: OSError: no cluster"):
        run_file(Host.discover(extra_plugins=[plugin(scorefold_executor=executor)]), write(SHORT))

    def sections(run: Any) -> list[str]:
        return ["only a title"]

    result = run_file(Host.discover(extra_plugins=[plugin(scorefold_report_sections=sections)]), write(SHORT))
    assert "'only a title' is no pair" in result.failures[0].text()
