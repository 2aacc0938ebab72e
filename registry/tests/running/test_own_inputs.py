"""What a stage or a hook does to the objects that it gets reaches no other stage, no hook and no cache."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import EventScale
from scorefold.errors import ArtefactError, DataError, ScorefoldError
from scorefold.plugin import hookimpl
from scorefold.stage import Executor
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file, run_plan
from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

RUN = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  score: {use: score:tiny, inputs: {data: data}, config: {training: {steps: 2, batch_size: 4}}}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
  scored: {use: estimator:tiny-scored, inputs: {data: data, score: score}}
  again: {use: estimator:tiny-mean, inputs: {data: data}, config: {scale: 2.0}}
  rescored: {use: estimator:tiny-scored, inputs: {data: data, score: score}, config: {scale: 2.0}}
"""

Run = Callable[..., RunResult]
ANSWERS = ("mean", "scored", "again", "rescored")


def answers(result: RunResult) -> dict[str, Any]:
    """Every answer of a run, and what stands in its files."""
    found: dict[str, Any] = {name: result.value(name).value for name in ANSWERS}
    for name in ("data", "score", *ANSWERS):
        metrics = json.loads((result.folder / name / "result.json").read_text())["metrics"]
        found[f"{name} file"] = {key: value for key, value in metrics.items() if "seconds" not in key}
    return found


@pytest.fixture(scope="module")
def clean_run(finish: Callable[[str], RunResult]) -> RunResult:
    return finish(RUN)


@pytest.fixture
def clean(clean_run: RunResult, tmp_path: Path) -> dict[str, Any]:
    """The answers of a run whose results are in the cache."""
    shutil.copytree(clean_run.folder.parents[2] / "cache", tmp_path / ".scorefold" / "cache")
    return answers(clean_run)


@pytest.fixture
def mean() -> Any:
    return import_module("scorefold_tiny.parts").Mean


def _shuffle(array: Any) -> None:
    np.random.default_rng(0).shuffle(array)


def _each(source: Any, change: Callable[[Any], None]) -> None:
    for split in ("train", "validation", "test"):
        change(source.load(split))


DATA: dict[str, Callable[[Any], None]] = {
    "shuffled through numpy": lambda source: _each(source, lambda d: _shuffle(d.x.numpy())),
    "added to": lambda source: _each(source, lambda d: d.x.add_(100.0)),
    "resized": lambda source: _each(source, lambda d: d.x.resize_(0)),
    "set to another storage": lambda source: _each(source, lambda d: d.x.set_(torch.zeros(3))),
    "index": lambda source: _each(source, lambda d: d.index.zero_()),
    "truth": lambda source: _each(source, lambda d: d.truth.clear()),
    "points of the object": lambda source: source.__dict__.update(_x=torch.zeros(60, 2)),
    "event scale": lambda source: object.__setattr__(source.event_scale, "factor", 1e6),
    "another event scale": lambda source: setattr(source, "event_scale", EventScale(mean=7.0)),
    "event shape": lambda source: setattr(source, "event_shape", (3,)),
    "everything": lambda source: source.__dict__.clear(),
}
"""What code that is given a data source may do to it."""

MODEL: dict[str, Callable[[Any], Any]] = {
    "weights": lambda model: [p.data.zero_() for p in model.parameters()],
    "weights through numpy": lambda model: [_shuffle(p.detach().numpy()) for p in model.parameters()],
    "buffers": lambda model: [b.zero_() for b in model.buffers()],
    "layers": lambda model: setattr(model, "net", torch.nn.Identity()),
    "method": lambda model: model.__dict__.update(score=lambda x, t, condition=None: x),
    "training mode": lambda model: model.train(),
    "dtype": lambda model: model.half(),
    "everything": lambda model: model.__dict__.clear(),
}


REFUSED = ("weights", "weights through numpy", "layers", "dtype", "everything")


def _try(change: Callable[[Any], Any], value: Any) -> None:
    with suppress(AttributeError, RuntimeError, TypeError, ValueError):  # what can't even be tried does no harm
        change(value)


@pytest.mark.parametrize("change", DATA)
def test_a_stage_changes_only_its_own_data(
    run: Run, clean: dict[str, Any], mean: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The answers of the stages after it, and all answers from the cache without the harmful code."""
    load = import_module("scorefold_tiny.parts").Points.load
    estimate = mean.estimate
    seen: list[Any] = []

    def remembered(self: Any, split: str) -> Any:
        seen.append(self)
        return load(self, split)

    def harmful(self: Any, data: Any, *, generator: Any = None) -> Any:
        answer = estimate(self, data, generator=generator)
        _try(DATA[change], seen[-1])  # the source that the verb has read from
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(import_module("scorefold_tiny.parts").Points, "load", remembered)
        patch.setattr(mean, "estimate", harmful)
        assert answers(run(RUN, fresh=True)) == clean
    assert answers(run(RUN)) == clean


@pytest.mark.parametrize("change", ["shuffled through numpy", "added to"])
def test_a_result_from_data_that_its_stage_changed_is_not_kept(
    run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Its answers by point do not belong to the rows that they are written to."""
    estimate = mean.estimate

    def harmful(self: Any, data: Any, *, generator: Any = None) -> Any:
        if hasattr(data, "x"):  # the estimator of scores ends here too, with a tensor of its own
            DATA[change](SimpleNamespace(load=lambda split: data))
        return estimate(self, data, generator=generator)

    with monkeypatch.context() as patch:
        patch.setattr(mean, "estimate", harmful)
        result = run(RUN, fresh=True)
    (warning,) = json.loads((result.folder / "mean" / "result.json").read_text())["warnings"][-1:]
    text = "plugin 'tiny' changed the data of stage 'data' while it read them; no other run reuses this result"
    assert text in warning
    again = run(RUN)
    assert [stage.name for stage in again.stages if stage.reused] == ["data", "score", "scored", "rescored"]
    pointwise = [each.value("mean").pointwise for each in (result, again)]
    assert not torch.allclose(*pointwise, equal_nan=True)


@pytest.mark.parametrize("change", MODEL)
def test_a_stage_changes_only_its_own_model(
    run: Run, clean: dict[str, Any], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    scored = import_module("scorefold_tiny.parts").Scored
    estimate = scored.estimate

    def harmful(self: Any, data: Any, *, generator: Any = None) -> Any:
        answer = estimate(self, data, generator=generator)
        _try(MODEL[change], self._model)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(scored, "estimate", harmful)
        if change in REFUSED:  # its model is not the one that it would be saved with
            with pytest.raises(ScorefoldError, match="estimator:tiny-scored"):
                run(RUN, fresh=True)
        else:
            assert answers(run(RUN, fresh=True)) == clean
    assert answers(run(RUN)) == clean


def _inputs(inputs: Any) -> None:
    for value in inputs.values():
        for change in (DATA if hasattr(value, "load") else MODEL).values():
            _try(change, value)


def _outputs(outputs: Any) -> None:
    for change in (DATA if hasattr(outputs.value, "load") else MODEL).values():
        _try(change, outputs.value)
    if hasattr(outputs.value, "diagnostics"):
        object.__setattr__(outputs.value, "value", 25.0)
        outputs.value.diagnostics.clear()
        outputs.value.pointwise.zero_()
    outputs.result["metrics"].clear()
    outputs.result.clear()
    for array in outputs.arrays.values():
        array.zero_()
    outputs.texts["more"] = "text"
    outputs.value = None


def _config(run: Any) -> None:
    run.config["stages"]["mean"]["config"]["scale"] = 100.0


def _files(run: Any) -> None:
    for file in run.folder.glob("*/result.json"):
        file.write_text('{"metrics": {"intrinsic dimension": 25.0}}')


def _with_the_old_time(run: Any) -> None:
    for file in run.folder.glob("*/result.json"):
        about, text = file.stat(), file.read_text()
        file.write_text(text.translate(str.maketrans("0123456789", "1234567890")))
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def _texts(run: Any) -> None:
    for name in ("status.json", "run.yaml", "resolved.yaml", "environment.json"):
        (run.folder / name).write_text("no more")


def _ahead(run: Any) -> None:
    if not (run.folder / "mean").exists():
        (run.folder / "mean").symlink_to(run.folder / "score")


def _with_its_copy(run: Any) -> None:
    _kept(run)
    _files(run)


def _weights(run: Any) -> None:
    for file in run.folder.glob("score/*.safetensors"):
        file.write_bytes(file.read_bytes()[:-8] + bytes(8))


def _folders(run: Any) -> None:
    for file in run.folder.glob("data/*"):
        file.unlink()


def _kept(run: Any) -> None:
    for file in run.folder.parents[2].glob(".scorefold/cache/*/result.json"):
        file.write_text('{"metrics": {"intrinsic dimension": 25.0}}')


def _key(stage: Any) -> None:
    object.__setattr__(stage, "key", "0" * 40)
    object.__setattr__(stage, "name", "data")


def _metrics(metrics: Any) -> None:
    metrics["loss"] = 0.0


def _result(result: Any) -> None:
    result["stages"].clear()


def _seed(run: Any) -> None:
    object.__setattr__(run, "seed", 17)
    object.__setattr__(run, "name", "another")


HOOKS: list[tuple[str, Callable[..., None], str | None]] = [
    ("scorefold_before_stage", _inputs, None),
    ("scorefold_after_stage", _outputs, None),
    ("scorefold_before_run", _config, "'mappingproxy' object does not support item assignment"),
    ("scorefold_before_stage", _config, "'mappingproxy' object does not support item assignment"),
    ("scorefold_after_stage", _config, "'mappingproxy' object does not support item assignment"),
    ("scorefold_before_stage", _files, "it changes the files of stage 'data', which were put back"),
    ("scorefold_after_stage", _files, "it changes the files of stage 'data', which were put back"),
    ("scorefold_report_sections", _files, "it changes the files of stage 'data', which were put back"),
    ("scorefold_before_stage", _with_the_old_time, "it changes the files of stage 'data', which were put back"),
    ("scorefold_before_stage", _texts, None),
    ("scorefold_before_run", _ahead, "it changes the place where stage 'mean' is to come, which was emptied"),
    ("scorefold_before_stage", _weights, "it changes the files of stage 'score', which were put back"),
    ("scorefold_before_stage", _folders, "it changes the files of stage 'data', which were put back"),
    ("scorefold_before_stage", _key, None),
    ("scorefold_before_run", _seed, None),
    ("scorefold_before_stage", _seed, None),
    ("scorefold_on_metrics", _metrics, "'mappingproxy' object does not support item assignment"),
    ("scorefold_after_run", _result, "'tuple' object has no attribute 'clear'"),
]


@pytest.mark.parametrize(("hook", "change", "said"), HOOKS)
def test_a_hook_changes_nothing_for_others(
    host: Host, run: Run, clean: dict[str, Any], hook: str, change: Callable[..., None], said: str | None
) -> None:
    host.manager.register(SimpleNamespace(**{hook: hookimpl(change)}), name="harmful")
    result = run(RUN, fresh=True)
    host.manager.unregister(name="harmful")
    assert answers(result) == clean
    assert answers(run(RUN)) == clean
    assert {failure.plugin for failure in result.failures} == (set() if said is None else {"harmful"})
    assert said is None or said in result.failures[0].text()


def test_the_texts_of_a_run_are_its_own(host: Host, run: Run) -> None:
    host.manager.register(SimpleNamespace(scorefold_after_stage=hookimpl(_texts)), name="harmful")
    folder = run(RUN, fresh=True).folder
    host.manager.unregister(name="harmful")
    assert (folder / "run.yaml").read_text() == RUN
    assert json.loads((folder / "status.json").read_text())["state"] == "complete"
    assert json.loads((folder / "environment.json").read_text())["seed"] == 0


def test_a_stage_whose_copy_is_damaged_too_ends_the_run(host: Host, run: Run) -> None:
    host.manager.register(SimpleNamespace(scorefold_after_stage=hookimpl(_with_its_copy)), name="harmful")
    with pytest.raises(ArtefactError, match=r"stage 'data', and there is no copy .*after_stage of plugin 'harmful'"):
        run(RUN, fresh=True)
    host.manager.unregister(name="harmful")


def test_a_stage_that_damages_the_copies_too_is_named_and_no_hook(
    host: Host, run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.manager.register(SimpleNamespace(scorefold_on_run_error=hookimpl(lambda run: None)), name="innocent")
    estimate = mean.estimate

    def harmful(self: Any, data: Any, *, generator: Any = None) -> Any:
        (folder,) = Path("runs/short").resolve().glob("*.partial")
        _with_its_copy(SimpleNamespace(folder=folder))
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", harmful)
    said = r"stages 'data', 'score', and there is no copy to put back, while stage 'mean' ran\n"
    with pytest.raises(ArtefactError, match=said) as raised:
        run(RUN, fresh=True)
    assert "innocent" not in raised.value.message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_files, ["data", "score"]),
        (_weights, ["score"]),
        (_folders, ["data"]),
        (_kept, []),
    ],
)
def test_a_stage_that_writes_into_the_files_of_others_changes_nothing_for_them(
    run: Run,
    clean: dict[str, Any],
    mean: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], None],
    said: list[str],
) -> None:
    """Into the run's folder, and into the cache."""
    estimate = mean.estimate

    def harmful(self: Any, data: Any, *, generator: Any = None) -> Any:
        (folder,) = Path("runs/short").resolve().glob("*.partial")
        change(SimpleNamespace(folder=folder))
        return estimate(self, data, generator=generator)

    with monkeypatch.context() as patch:
        patch.setattr(mean, "estimate", harmful)
        result = run(RUN, fresh=True)
    assert answers(result) == clean
    found = json.loads((result.folder / "mean" / "result.json").read_text()).get("warnings", [])
    harmed = [text.removeprefix("while the stage ran, somebody changed the files of stage ") for text in found]
    assert [text for text in harmed if text.endswith("put back")] == [f"{name!r}, which were put back" for name in said]
    assert answers(run(RUN)) == clean


def test_one_hook_does_not_see_what_another_did(host: Host, run: Run) -> None:
    seen: list[float] = []

    def before(inputs: Any) -> None:
        for source in inputs.values():
            if hasattr(source, "load"):
                seen.append(float(source.load("test").x.abs().sum()))
                source.load("test").x.zero_()

    for name in ("first", "second"):
        host.manager.register(SimpleNamespace(scorefold_before_stage=hookimpl(before), name=name), name=name)
    run(RUN)
    assert len(set(seen)) == 1
    assert seen[0] > 0


def test_a_hook_does_not_change_the_error(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch, mean: Any) -> None:
    def failing(self: Any, data: Any, *, generator: Any = None) -> Any:
        raise DataError("too few points", hint="give more")

    def harmful(error: Any) -> None:
        error.args = ("all is well",)
        error.message, error.hint, error.line = "all is well", None, 1

    monkeypatch.setattr(mean, "estimate", failing)
    host.manager.register(SimpleNamespace(scorefold_on_stage_error=hookimpl(harmful)), name="harmful")
    with pytest.raises(DataError, match=r":7:\d+: too few points\s+give more") as raised:
        run(RUN)
    assert raised.value.hint == "give more"


def test_a_source_that_cannot_be_written_is_built_for_each_stage(
    run: Run, clean: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = import_module("scorefold_tiny.parts").Points
    built: list[Any] = []
    construct = points.__init__

    def unwritable(self: Any, config: Any, *, generator: Any = None) -> None:
        construct(self, config, generator=generator)
        self._open = (number for number in ())  # has no state that a file could hold
        built.append(self)

    monkeypatch.setattr(points, "__init__", unwritable)
    assert answers(run(RUN, fresh=True)) == clean
    assert len(built) > len(ANSWERS)


class _Squares(Executor):
    def __init__(self, name: str) -> None:
        self.name = name

    def map(self, target: str, items: Any, key: str) -> list[Any]:
        return [self.name for _ in items]


def test_two_runs_on_one_host_keep_their_executors(host: Host, write: Callable[..., Path]) -> None:
    text = (
        "version: 1\nname: {0}\nseed: {1}\nruntime: {{device: cpu, threads: 1}}\nstages:\n  data: {{use: data:tiny}}\n"
    )
    text += "  many: {{use: geometry:tiny-many, inputs: {{parts: [data]}}}}\n"
    together = threading.Barrier(2, timeout=60)
    seen: dict[str, Any] = {}

    def before(stage: Any) -> None:
        if stage.name == "many":  # each under a key of its own, so that neither waits for the other
            together.wait()
            seen[f"met {threading.get_ident()}"] = True

    def after(run: Any, stage: Any, outputs: Any) -> None:
        if stage.name == "many":
            seen[run.name] = outputs.value.squares

    watcher = SimpleNamespace(scorefold_before_stage=hookimpl(before), scorefold_after_stage=hookimpl(after))
    host.manager.register(watcher, name="watcher")
    plans = {
        name: make_plan(host.catalogue, read(write(text.format(name, seed), f"{name}.yaml"), ()))
        for seed, name in enumerate(("one", "two"))
    }
    threads = [
        threading.Thread(target=run_plan, args=(host, plan), kwargs={"jobs": _Squares(name), "fresh": True})
        for name, plan in plans.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen["one"], seen["two"], len(seen)) == (["one", "one"], ["two", "two"], 4)


def test_values_of_a_finished_run_are_those_of_its_stages(host: Host, write: Callable[..., Path]) -> None:
    first = run_file(host, write(RUN))
    data = first.value("data")
    assert first.value("data") is data
    assert torch.equal(data.load("test").x, run_file(host, write(RUN)).value("data").load("test").x)
