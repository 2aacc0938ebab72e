"""What a plugin's code changes around it is put back and named, and its result is not kept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import Dataset
from scorefold.errors import DataError, PluginError, ScorefoldError
from scorefold.plugin import hookimpl
from scorefold_registry.cli.commands.run import next_step
from scorefold_registry.host import Host
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.process_guard import SETTINGS, generator_states, guarded, seeded
from scorefold_registry.run import stage_values
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult

RUN = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
  again: {use: estimator:tiny-mean, inputs: {data: data}, config: {scale: 2.0}}
"""

Run = Callable[..., RunResult]


CHANGES: dict[str, Callable[[], object]] = {
    "the working folder": lambda: os.chdir("/"),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's precision of products of matrices": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's choice of deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch's gradient mode": lambda: torch.set_grad_enabled(False),
    "torch's inference mode": lambda: _kept.append(_entered(torch.inference_mode())),
}
DRAWS: dict[str, Callable[[], object]] = {
    "Python's global random generator": random.random,
    "numpy's global random generator": lambda: np.random.rand(3),
    "torch's global random generator": lambda: torch.rand(3),
}
_kept: list[Any] = []


@pytest.fixture
def mean(_tiny: None) -> Any:
    """The class of estimator:tiny-mean, which the tests make do other things."""
    return import_module("scorefold_tiny.parts").Mean


def _entered(context: Any) -> Any:
    context.__enter__()
    return context


def _now() -> dict[str, Any]:
    return {what: setting.value() for what, setting in SETTINGS.items()}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_named_and_put_back(what: str) -> None:
    before = _now()
    with guarded() as changed:
        CHANGES[what]()
    assert changed == [what]
    assert _now() == before
    assert float((torch.ones(2, requires_grad=True) * 2).sum().detach()) == 4
    with guarded() as changed:
        torch.zeros(3).add_(1)
    assert changed == []


@pytest.mark.parametrize("what", DRAWS)
def test_draws_follow_from_a_seed_and_are_put_back(what: str) -> None:
    before, draws = generator_states(), []
    for seed in (7, 7, 8):
        with seeded(seed) as drawn:
            draws.append(str(DRAWS[what]()))
        assert drawn == [what]
        assert generator_states() == before
    assert draws[0] == draws[1] != draws[2]
    with seeded(7) as drawn:
        torch.rand(3, generator=torch.Generator().manual_seed(0))
    assert drawn == []


def test_another_bit_generator_of_numpy_is_seeded_and_put_back() -> None:
    """Its states are no tuples of the legacy form, and it takes no seed."""
    own = np.random.get_bit_generator()
    try:
        with seeded(7):
            expected = np.random.rand()
        with seeded(7) as drawn:
            np.random.set_bit_generator(np.random.PCG64(1))
        assert (drawn, np.random.get_bit_generator()) == (["numpy's global random generator"], own)
        np.random.set_bit_generator(np.random.Philox(1))
        before = generator_states()
        with seeded(7):
            assert np.random.rand() == expected
        assert generator_states() == before
    finally:
        np.random.set_bit_generator(own)


def test_a_working_folder_that_was_removed_is_nobodys_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("before", "meanwhile"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "before")
    (tmp_path / "before").rmdir()
    with guarded() as changed:
        torch.set_default_dtype(torch.float64)
    assert changed == ["torch's default dtype"]
    monkeypatch.chdir(tmp_path / "meanwhile")
    with guarded() as changed:
        (tmp_path / "meanwhile").rmdir()
    assert changed == []


def test_the_working_folder_of_a_run_may_be_removed(
    host: Host, mean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    estimate, folder = mean.estimate, tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def removing(self: Any, data: Any, *, generator: Any = None) -> Any:
        folder.rmdir()
        monkeypatch.setattr(mean, "estimate", estimate)
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", removing)
    result = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert "changed" not in (result.folder / "mean" / "result.json").read_text()
    assert str(result.folder) in next_step(result)


def test_a_working_folder_that_cannot_be_entered_again_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    words = f"a plugin left the working folder {folder}, which can't be entered again: No such file or directory"
    changing = guarded()
    changing.__enter__()
    torch.set_default_dtype(torch.float64)
    os.chdir("/")
    folder.rmdir()
    with pytest.raises(PluginError, match=words):
        changing.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float32


def test_a_library_that_is_not_imported_yet_is_seeded_too() -> None:
    code = """
import sys
from scorefold_registry.plugins.process_guard import seeded
assert "numpy.random" not in sys.modules
with seeded(3) as drawn:
    import numpy
    print(numpy.random.rand(), end="")
assert drawn == ["numpy's global random generator"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == str(np.random.RandomState(3).rand())


def test_draws_are_put_back_whatever_the_default_device() -> None:
    before = torch.get_rng_state()
    with torch.device("meta"), seeded(3) as drawn:
        torch.manual_seed(5)
    assert drawn == ["torch's global random generator"]
    assert torch.equal(torch.get_rng_state(), before)


def test_all_at_once_are_put_back() -> None:
    before, states = _now(), generator_states()
    with guarded() as changed, seeded(0) as drawn:
        for change in (CHANGES | DRAWS).values():
            change()
    # Inference takes gradients with it.
    assert set(changed) == CHANGES.keys() - {"torch's gradient mode"}
    assert drawn == list(DRAWS)
    assert (_now(), generator_states()) == (before, states)


def test_what_is_imported_meanwhile_had_the_state_that_it_starts_with(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _now()
    changing = guarded()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        changed = changing.__enter__()
    for change in CHANGES.values():
        change()
    changing.__exit__(None, None, None)
    assert set(changed) == CHANGES.keys() - {"torch's gradient mode"}
    assert _now() == before


def test_a_stage_that_draws_from_a_global_generator_repeats(
    run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = mean.estimate

    def drawing(self: Any, data: Any, *, generator: Any = None) -> Any:
        x = data.tensor() if isinstance(data, Dataset) else data
        return estimate(self, x + np.random.rand() + random.random() + torch.rand(()))

    monkeypatch.setattr(mean, "estimate", drawing)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    first = run(RUN)
    text = "drew from Python's global random generator and numpy's global random generator and torch's global random "
    assert f"the code of plugin 'tiny' {text}generator" in (first.folder / "mean" / "result.json").read_text()
    np.random.rand()
    second = run(RUN, fresh=True)
    assert first.value("mean").value == second.value("mean").value != first.value("again").value
    assert [stage["reused"] for stage in run(RUN).as_json()["stages"]] == [True, True, True]


def test_the_plugin_of_the_data_is_named_where_a_stage_draws(
    run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    sphere = import_module("scorefold_standard.manifolds.synthetic").DensityManifold
    load = sphere.load
    monkeypatch.setattr(sphere, "load", lambda self, split: (torch.rand(()), load(self, split))[1])
    found = run(RUN.replace("data:tiny", "data:sphere")).folder / "mean" / "result.json"
    text = (
        "the code of plugin 'tiny' or of what is plugged into it (standard) drew from torch's global random generator"
    )
    assert text in found.read_text()


def test_another_thread_that_draws_costs_a_stage_nothing(run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, estimate, ended = run(RUN).value("mean"), mean.estimate, threading.Event()

    def beside(self: Any, data: Any, *, generator: Any = None) -> Any:
        thread = threading.Thread(target=lambda: (np.random.rand(), ended.wait()))
        thread.start()
        while np.random.get_state()[2] == 624:  # nothing was drawn yet
            time.sleep(0.001)
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", beside)
    try:
        first = run(RUN, fresh=True)
    finally:
        ended.set()
    assert first.value("mean").value == clean.value
    text = "the code of plugin 'tiny', or another thread of this process, drew from numpy's global random generator"
    assert text in (first.folder / "mean" / "result.json").read_text()
    assert [stage["reused"] for stage in run(RUN).as_json()["stages"]] == [True, True, True]


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(24, "Too many open files"), "Too many open files"), (MemoryError(), "more memory than is available")],
)
def test_data_that_cannot_be_compared_are_no_change_of_a_plugin(
    run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    estimate, read = mean.estimate, stage_values._Image.read

    def failing(self: Any) -> Any:
        raise error

    def full(self: Any, data: Any, *, generator: Any = None) -> Any:
        monkeypatch.setattr(stage_values._Image, "read", failing)
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", full)
    with pytest.raises(ScorefoldError, match=words):
        run(RUN)
    monkeypatch.setattr(stage_values._Image, "read", read)


def test_a_stage_that_changes_them_is_not_kept(run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, estimate = run(RUN).value("mean"), mean.estimate

    def changing(self: Any, data: Any, *, generator: Any = None) -> Any:
        torch.set_default_dtype(torch.float64)
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", changing)
    first = run(RUN, fresh=True)
    assert torch.get_default_dtype() == torch.float32
    text = "plugin 'tiny' changed torch's default dtype, which was put back; no other run reuses this result"
    assert text in (first.folder / "mean" / "result.json").read_text()
    assert text.replace("'", "&#39;") in first.report.read_text()
    assert first.value("mean").value == clean.value
    assert [stage["reused"] for stage in run(RUN).as_json()["stages"]] == [True, True, True]
    again = run(RUN.replace("scale: 2.0", "scale: 3.0"))
    assert [stage["reused"] for stage in again.as_json()["stages"]] == [True, True, False]
    assert not run(RUN.replace("scale: 2.0", "scale: 3.0")).as_json()["stages"][-1]["reused"]


def test_the_line_that_called_another_plugin_is_named(run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose code failed may have got something that nobody can use."""
    own: dict[str, Any] = {"__name__": mean.__module__}
    first = "from scorefold_neighbours.estimators.formulas import moment_dimension"
    lines = f"{first}\ndef estimate(*_, **more):\n    moment_dimension(3)"
    exec(compile(lines, "own.py", "exec"), own)
    monkeypatch.setattr(mean, "estimate", own["estimate"])
    with pytest.raises(PluginError, match=r"of plugin 'tiny'\) failed in plugin 'neighbours'.*, called at own.py:3 in"):
        run(RUN, fresh=True)


def test_a_long_error_is_cut() -> None:
    assert describe(ValueError("long " * 10_000)) == "ValueError: " + "long " * 200


def test_what_a_stage_does_to_its_data_reaches_no_other(run: Run, mean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, estimate = run(RUN), mean.estimate

    def moving(self: Any, data: Any, *, generator: Any = None) -> Any:
        answer = estimate(self, data, generator=generator)
        data.x.add_(100.0)
        return answer

    monkeypatch.setattr(mean, "estimate", moving)
    spoilt = run(RUN, fresh=True)
    assert spoilt.value("again").value == clean.value("again").value
    assert "changed the data of stage 'data' while it read them" in (spoilt.folder / "mean" / "result.json").read_text()


@pytest.mark.parametrize("hook", ["scorefold_before_stage", "scorefold_after_stage"])
def test_what_a_hook_does_to_the_data_reaches_no_stage(host: Host, run: Run, hook: str) -> None:
    clean = run(RUN)

    def before(inputs: Any) -> None:
        for source in inputs.values():
            source.load("test").x.zero_()

    def after(outputs: Any) -> None:
        if hasattr(outputs.value, "load"):
            outputs.value.load("test").x.zero_()

    function = hookimpl(before if hook == "scorefold_before_stage" else after)
    host.manager.register(SimpleNamespace(**{hook: function}), name="zeroes")
    result = run(RUN, fresh=True)
    assert result.value("mean").value == clean.value("mean").value
    assert result.value("again").value == clean.value("again").value
    assert result.failures == ()


def test_a_hook_that_changes_the_process_is_named(host: Host, run: Run) -> None:
    def scorefold_before_run(run: Any) -> None:
        torch.set_default_dtype(torch.float64)

    host.manager.register(SimpleNamespace(scorefold_before_run=hookimpl(scorefold_before_run)), name="doubles")
    result = run(RUN)
    assert torch.get_default_dtype() == torch.float32
    assert "plugin 'doubles': scorefold_before_run" in result.failures[0].text()
    assert "torch's default dtype, which was put back" in result.failures[0].text()


def test_the_default_dtype_is_part_of_the_key(run: Run) -> None:
    run(RUN)
    torch.set_default_dtype(torch.float64)
    try:
        assert [stage["reused"] for stage in run(RUN).as_json()["stages"]] == [False, False, False]
    finally:
        torch.set_default_dtype(torch.float32)


def test_files_that_change_while_a_stage_reads_them_are_refused(
    run: Run, mean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is streamed: what was read is of two files, and is not kept under the key of the first."""
    file, estimate = tmp_path / "points.npy", mean.estimate
    np.save(file, np.random.default_rng(0).normal(size=(90, 2)))
    text = RUN.replace("data:tiny}", f"data:array, config: {{path: {file}, memory: 0}}}}")

    def late(self: Any, data: Any, *, generator: Any = None) -> Any:
        opened = file.stat().st_mtime_ns
        np.save(file, np.zeros((90, 2)))
        os.utime(file, ns=(opened, opened))  # the source watches the time and the size, the run the content
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", late)
    with pytest.raises(DataError, match="the files of stage 'data' changed while stage 'mean' read them"):
        run(text)
    monkeypatch.setattr(mean, "estimate", estimate)
    assert run(text).value("mean").value == 0

    def truncated(self: Any, data: Any, *, generator: Any = None) -> Any:
        file.write_bytes(file.read_bytes()[:200])
        return estimate(self, data, generator=generator)

    monkeypatch.setattr(mean, "estimate", truncated)
    with pytest.raises(DataError, match=r"points\.npy was written to since it was opened"):
        run(text, fresh=True)


def test_a_file_that_changes_before_its_stage_has_read_it_is_refused(host: Host, run: Run, tmp_path: Path) -> None:
    """The key is of the first content, and what is read later is of the second."""
    file = tmp_path / "points.npy"
    np.save(file, np.random.default_rng(0).normal(size=(90, 2)))
    text = RUN.replace("data:tiny}", f"data:array, config: {{path: {file}}}}}")

    def late(stage: Any) -> None:
        opened = file.stat().st_mtime_ns
        np.save(file, np.zeros((90, 2)))
        os.utime(file, ns=(opened, opened))

    host.manager.register(SimpleNamespace(scorefold_before_stage=hookimpl(late)), name="late")
    with pytest.raises(DataError, match="the files of stage 'data' changed while stage 'data' read them"):
        run(text)
    host.manager.unregister(name="late")
    np.save(file, np.random.default_rng(0).normal(size=(90, 2)))
    assert run(text).value("mean").value != 0
