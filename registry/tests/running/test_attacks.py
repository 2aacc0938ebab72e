"""Attacks of a plugin inside its stage: every answer but its own stays right, and nobody else is blamed."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attacker
import pytest
import torch
from attacker import ALONE, ATTACKS, ENDING

from scorefold.errors import ScorefoldError
from scorefold.plugin import hookimpl
from scorefold_registry.host import Host
from scorefold_registry.plugins.foreign_code import ForeignCode
from scorefold_registry.plugins.surroundings import Surroundings
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult

BEFORE = """version: 1
name: attacked
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  score: {use: score:tiny, inputs: {data: data}, config: {training: {steps: 2, batch_size: 4}}}
"""
ATTACK = "  attack{}: {{use: estimator:attacker, inputs: {{data: data, score: score}}, config: {{attack: {}}}}}\n"
AFTER = """  mean: {use: estimator:tiny-mean, inputs: {data: data}}
  scored: {use: estimator:tiny-scored, inputs: {data: data, score: score}}
  draws: {use: score, do: sample, options: {n: 4, steps: 2}}
  after: {use: score:tiny, inputs: {data: data}, config: {training: {steps: 3, batch_size: 4}}}
"""
INNOCENT = ("data", "score", "mean", "scored", "draws", "after")
AT_ONCE = 10
"""Attacks in one run. Each is undone as its stage ends."""

GROUPS = {
    f"{kind} {start}": names[start : start + AT_ONCE]
    for kind in ("data", "model", "patch", "process", "files", "answer")
    for names in ([name for name in ATTACKS if name.startswith(kind) and name not in ALONE],)
    for start in range(0, len(names), AT_ONCE)
} | {name: [name] for name in sorted(ALONE)}


@dataclass
class Place:
    """A folder with a cache; hosts with the attacker and without; the right answers."""

    attacked: Host
    clean: Host
    cache: Path
    answers: dict[str, Any]

    def run(self, *attacks: str, after: str = AFTER, host: Host | None = None) -> RunResult:
        text = BEFORE + "".join(ATTACK.format(number, json.dumps(name)) for number, name in enumerate(attacks)) + after
        Path("run.yaml").write_text(text)
        return run_file(host or (self.attacked if attacks else self.clean), "run.yaml")


def answers(result: RunResult) -> dict[str, Any]:
    """The values of all stages but those of the attacker, and what is in their files."""
    found: dict[str, Any] = {name: result.value(name).value for name in ("mean", "scored")}
    found |= {name: result.value(name).load("test").x.tolist() for name in ("data", "draws")}
    found |= {name: [each.tolist() for each in result.value(name).parameters()] for name in ("score", "after")}
    for name in INNOCENT:
        written = json.loads((result.folder / name / "result.json").read_text())
        metrics = {key: value for key, value in written["metrics"].items() if "second" not in key}
        found[f"{name} file"] = metrics, written.get("warnings")
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The data and the score are in the cache."""
    folder = tmp_path_factory.mktemp("attacks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(Path(__file__).parent / "tiny")
        patch.setattr("scorefold_registry.run.stage_folder._draw", lambda host, planned, outcome, folder: None)
        place = Place(Host.discover(extra_plugins=[attacker]), Host.discover(), folder / ".scorefold", {})
        place.run(after="")
        shutil.copytree(".scorefold", "prepared")
        place.answers = answers(place.run())
        place.cache = folder / "prepared"
        yield place


@pytest.fixture
def place(prepared: Place, undrawn: None) -> Place:
    shutil.copytree(prepared.cache, ".scorefold")
    return prepared


@pytest.fixture(autouse=True)
def _nothing_is_left(_tiny: None) -> Iterator[None]:
    around, code = Surroundings.now(), ForeignCode(["attacker"])
    before = dict(vars(torch.Tensor)), dict(vars(builtins))
    yield
    around.values["environment variables"].update(PYTEST_CURRENT_TEST=os.environ["PYTEST_CURRENT_TEST"])
    assert around.put_back() == []
    assert code.put_back() == []
    assert dict(vars(torch.Tensor)).keys() == before[0].keys()
    assert all(vars(builtins)[name] is one for name, one in before[1].items() if name != "_")


def test_there_are_a_hundred_attacks() -> None:
    assert len(ATTACKS) + len(ENDING) >= 100


@pytest.mark.parametrize("group", GROUPS)
def test_an_attack_reaches_no_other_stage_and_no_cache(place: Place, group: str) -> None:
    result = place.run(*GROUPS[group])
    assert answers(result) == place.answers
    assert result.failures == ()
    for number, name in enumerate(GROUPS[group]):
        for text in json.loads((result.folder / f"attack{number}" / "result.json").read_text()).get("warnings", ()):
            if name.startswith(("data", "model", "patch", "process", "files")):
                assert "plugin 'attacker'" in text or "somebody" in text
                assert "no other run reuses this result" in text or "while the stage ran, somebody changed" in text
    assert answers(place.run()) == place.answers


@pytest.mark.parametrize("hook", ["scorefold_before_run", "scorefold_after_stage", "scorefold_report_sections"])
def test_an_attack_of_an_observer_is_named_and_reaches_nothing(place: Place, hook: str) -> None:
    place.attacked.manager.register(attacker.observer(hook), name="attacker")
    try:
        result = place.run(host=place.attacked)
    finally:
        place.attacked.manager.unregister(name="attacker")
    assert answers(result) == place.answers
    assert {(failure.plugin, failure.hook) for failure in result.failures} == {("attacker", hook)}
    text = result.failures[0].text()
    assert "standard output, which was put back" in text or "changes" in text
    assert answers(place.run()) == place.answers


ENDLESS: dict[str, tuple[str, Callable[[], Any], str]] = {
    "a loop": ("scorefold_before_run", lambda: [None for _ in iter(int, 1)], "did not end within"),
    "a wait": ("scorefold_after_run", lambda: threading.Event().wait(), "did not end within"),
    "sections": ("scorefold_report_sections", lambda: iter(tuple, 1), "a tuple is not a pair"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_hook_without_end_is_ended_and_named(place: Place, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    hook, function, said = ENDLESS[what]
    monkeypatch.setattr("scorefold_registry.run.result.LONGEST", 0.1)
    place.attacked.manager.register(SimpleNamespace(**{hook: hookimpl(lambda: function())}), name="attacker")
    try:
        result = place.run(after="", host=place.attacked)
    finally:
        place.attacked.manager.unregister(name="attacker")
    (failure,) = result.failures
    assert failure.plugin == "attacker"
    assert said in failure.error


@pytest.mark.parametrize("name", ENDING)
def test_an_attack_that_ends_its_stage_is_named(place: Place, name: str) -> None:
    with pytest.raises(ScorefoldError) as raised:
        place.run(name, after="")
    text = str(raised.value)
    assert "attacker" in text or text.startswith("run.yaml:7:")
    assert len(text) < 3000, "the whole of it stands in a file"
