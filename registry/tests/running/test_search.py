"""``sweep --search``: settings chosen by what those before them gave, stopped and continued, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scorefold.errors import ConfigError
from scorefold_registry.experiments.engine import Interrupted
from scorefold_registry.experiments.points import parse_axis
from scorefold_registry.experiments.search import Search
from scorefold_registry.experiments.sweep import sweep
from scorefold_registry.host import Host

TEXT = """version: 1
name: searched
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
"""
SCALE = "stages.mean.config.scale"

needs_optuna = pytest.mark.needs("optuna")


def tried(search: Search, gives: Callable[[dict[str, Any]], float | None]) -> list[dict[str, Any]]:
    """The points of a search in which each gives what a function says."""
    found = []
    for number in range(len(search)):
        try:
            found.append(dict(search.point(number).values))
        except IndexError:
            break
        search.answer(gives(found[-1]))
    return found


@needs_optuna
def test_a_search_finds_what_draws_would_not() -> None:
    axes = [parse_axis("x=uniform(-10, 10)"), parse_axis("n=integers(1, 9)"), parse_axis("rate=loguniform(1e-5, 1)")]
    search = Search(axes, 60, lowest=True, seed=0)
    found = tried(search, lambda at: (at["x"] - 3) ** 2 + abs(at["n"] - 4))
    best = min(found, key=lambda at: (at["x"] - 3) ** 2 + abs(at["n"] - 4))
    assert abs(best["x"] - 3) < 0.5
    assert best["n"] == 4
    late = [abs(at["x"] - 3) for at in found[30:]]
    early = [abs(at["x"] - 3) for at in found[:30]]
    assert sum(late) < 0.7 * sum(early)
    assert all(type(at["n"]) is int and 1e-5 <= at["rate"] <= 1 for at in found)
    assert [point.sets[1] for point in search.points[:2]] == [f"n={at['n']}" for at in found[:2]]


@needs_optuna
def test_seeds_are_one_setting_and_their_mean_counts() -> None:
    axes = [parse_axis("x=uniform(0, 1)"), parse_axis("seed=0,1,2")]
    search = Search(axes, 2, lowest=False, seed=0)
    found = tried(search, lambda at: at["x"] if at["seed"] else None)
    assert [at["seed"] for at in found] == [0, 1, 2, 0, 1, 2]
    assert len({at["x"] for at in found}) == 2
    assert search._study.best_value == max(at["x"] for at in found)


@needs_optuna
def test_a_small_space_is_tried_once_and_failures_stop_nothing() -> None:
    search = Search([parse_axis("how=choice(a, b, {c: 1})")], 20, lowest=True, seed=0)
    found = tried(search, lambda at: None if at["how"] == "a" else 1.0)
    assert len(found) == 3
    assert len(search) == 20


@needs_optuna
def test_a_search_of_a_run_file_goes_on_where_it_was_stopped(
    host: Host, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any]
) -> None:
    file = write(TEXT)
    over = {SCALE: "loguniform(1e-3, 1e3)", "seed": [0, 1]}
    whole = sweep(host, file, over, search=6, best="min:mean", out="whole", cache="a")
    assert (len(whole.rows), whole.failed) == (12, 0)
    assert whole.best is not None
    scales = [row.values[SCALE] for row in whole.rows]
    assert whole.best.values[SCALE] in scales
    # Stopped after four points, the same question asks for the same points and computes none of those again.
    module = import_module("scorefold_registry.experiments.sweep")
    original, done = module.run_job, list[int]()

    def stopped(*given: Any) -> Any:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(1)
        return original(*given)

    monkeypatch.setattr(module, "run_job", stopped)
    with pytest.raises(Interrupted, match="4 of 12"):
        sweep(host, file, over, search=6, best="min:mean", out="part", cache="b")
    monkeypatch.setattr(module, "run_job", original)
    again = sweep(host, file, over, search=6, best="min:mean", out="part", cache="b")
    assert [row.values for row in again.rows] == [row.values for row in whole.rows]
    assert [row.reused for row in again.rows][:4] == [2, 2, 2, 2]
    options = ("--grid", f"{SCALE}=uniform(0.1, 1)", "--search", "3", "--best", "min:mean", "--quiet")
    said = say("sweep", str(file), *options)
    assert said.status == 0
    assert "least mean.intrinsic dimension" in said.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"best": "min:mean", "random": 3}, ("--search and --random exclude each other",)),
        ({"best": "min:mean", "workers": 2}, ("--workers", "a search chooses each setting")),
        ({"best": "min:mean", "in_step": True}, ("--zip",)),
        ({}, ("--search needs --best", "min:score.loss")),
        pytest.param({"best": "min:mean", "search": 0}, ("--search 0", "from 1"), marks=needs_optuna),
        pytest.param({"best": "min:mean", "over": {"seed": [0, 1]}}, ("nothing to search",), marks=needs_optuna),
    ],
)
def test_what_does_not_go_with_a_search(
    options: dict[str, Any], words: tuple[str, ...], host: Host, write: Callable[..., Path]
) -> None:
    given = {"over": {SCALE: "uniform(0, 1)"}, "search": 3, **options}
    with pytest.raises(ConfigError) as refused:
        sweep(host, write(TEXT), **given)
    assert all(word in str(refused.value) for word in words)


def test_a_package_that_is_missing_is_named(
    host: Host, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorefold_registry.experiments.search.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Optuna, which is not installed") as refused:
        sweep(host, write(TEXT), {SCALE: "uniform(0.1, 1)"}, search=3, best="min:mean")
    assert "pip install 'scorefold-registry[search]'" in str(refused.value)
