"""Who is notified of a run, in which order, and who may do its stages in our place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scorefold.errors import PluginError, ScorefoldError
from scorefold.plugin import hookimpl
from scorefold.stage import Executor, Outcome
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.progress import Silent
from scorefold_registry.run.result import RunResult

SHORT = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
"""

Run = Callable[..., RunResult]


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def plugin(name: str = "watcher", **hooks: Any) -> ModuleType:
    """A plugin made of hook functions."""
    module = ModuleType(name)
    module.__plugin_api__ = "1.0"  # type: ignore[attr-defined]
    for name, function in hooks.items():
        function.__module__ = name
        setattr(module, name, hookimpl(function))
    return module


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


def test_a_failing_observer_is_reported_and_stops_nothing(
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


def test_a_hook_that_takes_long_is_named_and_not_ended(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorefold_registry.run.result.PATIENCE", 0.2)
    ended, said, warned = [], [], threading.Event()

    def slow(run: Any) -> None:
        assert warned.wait(20)
        ended.append(run.name)

    class Heard(Silent):
        def warned(self, name: str, text: str) -> None:
            said.append(f"{name}: {text}")
            warned.set()

    host = Host.discover(extra_plugins=[plugin("slow", scorefold_before_run=slow)])
    result = run_file(host, write(SHORT), progress=Heard())
    assert ended == ["short"]
    assert not result.failures
    assert len(said) == 1
    assert said[0].startswith("plugin 'local/slow': scorefold_before_run still runs after 0 s; Ctrl-C ends the run")
    assert said[0].endswith("--plugins=-local/slow leaves it out")


@pytest.mark.parametrize(("raised", "state"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")])
def test_a_run_that_ends_early_is_seen(write: Callable[[str], Path], raised: type[BaseException], state: str) -> None:
    seen: list[tuple[str, str]] = []

    def stopping(stage: Any) -> None:
        if stage.name == "mean":
            raise raised("enough")

    def ended(run: Any, state: str, error: BaseException) -> None:
        seen.append((state, json.loads((run.folder / "status.json").read_text())["state"]))
        assert "mean" in str(error) or "enough" in str(error)

    watcher = plugin(scorefold_run_stage=stopping, scorefold_on_run_error=ended)
    with pytest.raises((KeyboardInterrupt, ScorefoldError)):
        run_file(Host.discover(extra_plugins=[watcher]), write(SHORT))
    assert seen == [(state, state)]


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


def test_an_executor_that_fails_and_sections_that_are_none_are_reported(write: Callable[[str], Path]) -> None:
    def executor(run: Any) -> Executor:
        raise OSError("no cluster")

    with pytest.raises(PluginError, match="scorefold_executor of plugin 'watcher' failed: OSError: no cluster"):
        run_file(Host.discover(extra_plugins=[plugin(scorefold_executor=executor)]), write(SHORT))

    def sections(run: Any) -> list[str]:
        return ["only a title"]

    result = run_file(Host.discover(extra_plugins=[plugin(scorefold_report_sections=sections)]), write(SHORT))
    assert "a str is not a pair of a title" in result.failures[0].text()


def test_plugins_are_notified_in_their_order(write: Callable[[str], Path]) -> None:
    seen: list[str] = []

    def watching(name: str) -> ModuleType:
        def before(run: Any) -> None:
            seen.append(name)

        return plugin(name, scorefold_before_run=before)

    host = Host.discover(extra_plugins=[watching("one"), watching("two"), watching("three")])
    run_file(host, write(SHORT))
    assert seen == ["one", "two", "three"]


def test_a_stage_may_run_another_file_with_the_same_host(write: Callable[..., Path]) -> None:
    write(SHORT.replace("short", "inner"), "inner.yaml")
    inner: list[RunResult] = []

    def around(run: Any, stage: Any) -> Any:
        if run.name == "short" and not inner:
            inner.append(run_file(host, Path("inner.yaml"), seed=1))

    host = Host.discover(extra_plugins=[plugin(scorefold_run_stage=around)])
    result = run_file(host, write(SHORT))
    assert [stage.name for stage in result.stages] == ["data", "mean"]
    assert (inner[0].name, len(inner[0].stages)) == ("inner", 2)
    assert inner[0].folder.parent.name == "inner"
    # Each did its own stages: the inner run is what it is alone.
    alone = run_file(Host.discover(), Path("inner.yaml"), seed=1, cache="elsewhere")
    assert inner[0].stages[1].metrics == alone.stages[1].metrics != result.stages[1].metrics


def test_what_another_runner_gives_is_kept_like_our_own(run: Run, write: Callable[[str], Path]) -> None:
    text = SHORT + "  score: {use: score:tiny, inputs: {data: data}}\n  drawn: {use: score, do: sample}\n"
    there = run(text, runs="there")

    def elsewhere(stage: Any) -> Any:
        return Outcome(host.load(there.folder / "score")) if stage.name == "score" else None

    host = Host.discover(extra_plugins=[plugin(scorefold_run_stage=elsewhere)])
    here = run_file(host, write(text), cache="other")
    assert here.stages[3].metrics == there.stages[3].metrics
    state = "score/state.safetensors"
    assert (here.folder / state).read_bytes() == (there.folder / state).read_bytes()


def test_constructors_get_the_executor_of_the_run(write: Callable[[str], Path]) -> None:
    text = SHORT + "  many: {use: geometry:tiny-many, inputs: {parts: [data]}}\n"
    seen: list[Any] = []

    def after(stage: Any, outputs: Any) -> None:
        if stage.name == "many":
            seen.append(outputs.value.squares)

    host = Host.discover(extra_plugins=[plugin(scorefold_after_stage=after)])
    assert run_file(host, write(text)).value("many").squares is None
    assert seen == [[1, 4]]
    assert host.create("geometry:tiny-many", parts=[host.create("data:tiny")]).squares is None
