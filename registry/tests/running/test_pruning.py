"""``sweep --search --prune``: trainings that are ended early, what is kept of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scorefold.errors import ConfigError, DataError
from scorefold_registry.experiments.engine import Interrupted
from scorefold_registry.experiments.job import PrunedError
from scorefold_registry.experiments.points import parse_axis
from scorefold_registry.experiments.search import Pruning, Search
from scorefold_registry.experiments.sweep import sweep
from scorefold_registry.host import Host

FLOW = """version: 1
name: pruned
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:sphere, config: {dimension: 1, ambient: 2, points: 300}}
  flow:
    use: flow:affine-coupling
    inputs: {data: data}
    config: {layers: 2, hidden: [8], training: {steps: 60, batch_size: 64, validate_every: 20}}
"""
RATE = "stages.flow.config.training.learning_rate"
OVER = {RATE: "loguniform(1e-6, 1e-2)"}

needs_optuna = pytest.mark.needs("optuna")


@needs_optuna
@pytest.mark.parametrize("lowest", [True, False])
def test_the_worse_half_is_given_up_whichever_way_the_search_goes(lowest: bool) -> None:
    search = Search([parse_axis("x=uniform(0, 1)")], 8, lowest=lowest, seed=0, prunes=True)
    for number in range(5):
        search.point(number)
        assert not search.report(10, 1.0 + number)
        search.answer(1.0)
    search.point(5)
    assert not search.report(10, 2.9)
    assert search.report(20, 9.0) is False, "none of those before came so far"
    search.answer(1.0)
    search.point(6)
    assert search.report(10, 3.1)
    search.answer(None, pruned=True)
    assert [trial.state.name for trial in search._study.trials] == [*["COMPLETE"] * 6, "PRUNED"]


def test_losses_are_kept_and_decide_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was ended stays so without a run, and what is reused brings its losses."""
    module, ran, said = import_module("scorefold_registry.experiments.search"), list[int](), list[tuple[int, float]]()

    def run_job(host: Any, job: Any, jobs: Any = None, *, progress: Any = None) -> dict[str, Any]:
        ran.append(job.number)
        if progress is not None:
            progress.measured("other", 5, {"validation": 99.0})
            for step in (10, 20):
                progress.measured("flow", step, {"loss": 1.0})
                progress.measured("flow", step, {"validation": job.number * 1.0})
            progress.stage_ended("flow", 1.0, False, {})
        if job.number == 3:
            raise DataError("a later stage fails")
        return {"run": None, "stages": []}

    def report(step: int, loss: float) -> bool:
        said.append((step, loss))
        return loss == 2.0

    monkeypatch.setattr(module, "run_job", run_job)
    pruning = Pruning("flow", report, tmp_path)
    jobs: list[Any] = [SimpleNamespace(number=number, swept=(f"x={number}",)) for number in (1, 2, 3)]
    host: Any = None
    for _ in range(2):
        pruning.run(host, jobs[0])
        with pytest.raises(PrunedError, match="flow was ended at step 10: its validation loss 2 is above the median"):
            pruning.run(host, jobs[1])
        with pytest.raises(DataError):
            pruning.run(host, jobs[2])
    assert ran == [1, 2, 3, 1, 3]
    assert said == 2 * [(10, 1.0), (20, 1.0), (10, 2.0), (10, 3.0), (20, 3.0)]
    # Another question in the same place is asked afresh.
    pruning.run(host, SimpleNamespace(number=1, swept=("x=7",)))  # type: ignore[arg-type]
    assert len(said) == 12


@needs_optuna
def test_a_search_that_prunes_goes_on_as_it_would_have(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any]
) -> None:
    host, file = Host.discover(), write(FLOW)
    asked: dict[str, Any] = {"search": 9, "best": "min:flow.best validation", "prune": "flow"}
    whole = sweep(host, file, OVER, **asked, out="whole", cache="a")
    assert whole.failed == 0
    assert any(row.pruned for row in whole.rows)
    assert whole.best is not None
    assert not any(row.pruned for row in whole.rows if row.values == whole.best.values)
    module = import_module("scorefold_registry.experiments.search")
    original, done = module.run_job, list[int]()

    def stopped(*given: Any, **named: Any) -> Any:
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(1)
        return original(*given, **named)

    monkeypatch.setattr(module, "run_job", stopped)
    with pytest.raises(Interrupted, match="7 of 9"):
        sweep(host, file, OVER, **asked, out="part", cache="b")
    monkeypatch.setattr(module, "run_job", original)
    again = sweep(host, file, OVER, **asked, out="part", cache="b")
    assert [(row.values, row.pruned) for row in again.rows] == [(row.values, row.pruned) for row in whole.rows]
    options = ["--grid", f"{RATE}={OVER[RATE]}", "--search", "9", "--best", asked["best"], "--prune", "flow", "--quiet"]
    said = say("sweep", str(file), *options, "--out", "part", "--cache", "b")
    assert said.status == 0
    assert f"9 points, {sum(row.pruned for row in whole.rows)} ended early" in said.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--prune goes with --search"),
        pytest.param({"search": 3, "prune": "data"}, "--prune data: there is no such training", marks=needs_optuna),
        pytest.param({"search": 3, "over": {**OVER, "seed": [0, 1]}}, "each has 2 here", marks=needs_optuna),
    ],
)
def test_what_can_not_be_ended_early(options: dict[str, Any], words: str, write: Callable[..., Path]) -> None:
    given: dict[str, Any] = {"over": OVER, "best": "min:flow.loss", "prune": "flow", **options}
    with pytest.raises(ConfigError, match=words):
        sweep(Host.discover(), write(FLOW), **given)
