"""Settings of plugins that only have hooks: named in a run file, checked in its place, handed to every hook."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from scorefold.errors import ScorefoldError
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read

Install = Callable[..., Path]

WATCHER = """
seen = []

@hookimpl
def scorefold_settings():
    return "fake_watcher.config:Settings"

@hookimpl
def scorefold_before_run(run):
    seen.append(run.plugins.get("watcher"))
"""

CONFIG = """
from pydantic import Field, field_validator
from scorefold.config import Config
from scorefold.errors import ConfigError

class Settings(Config):
    every: int = Field(10, ge=1, description="Steps between two looks")
    label: str = Field("", description="What it is called")

    @field_validator("label")
    @classmethod
    def _at_hand(cls, label):
        if label == "library":
            raise ConfigError("the library is not installed", hint="pip install library")
        return label
"""

RUN = """version: 1
name: watched
runtime: {{device: cpu, threads: 1}}
plugins:
  {plugins}
stages:
  data: {{use: data:sphere, config: {{dimension: 2, ambient: 3, points: 40}}}}
"""


@pytest.fixture
def watcher(install: Install) -> Any:
    install("fake-watcher", WATCHER, files={"config.py": CONFIG})
    # A second call of discover gives the same module, whose list the hook has filled.
    return lambda: __import__("fake_watcher.plugin", fromlist=["seen"]).seen


def problems(plugins: str) -> list[ScorefoldError]:
    path = Path("run.yaml")
    path.write_text(RUN.format(plugins=plugins))
    with pytest.raises(RunFileError) as caught:
        make_plan(Host.discover().catalogue, read(path))
    return list(caught.value.problems)


def test_a_hook_is_handed_its_settings(watcher: Any) -> None:
    path = Path("run.yaml")
    path.write_text(RUN.format(plugins="watcher: {every: 3}"))
    first = run_file(Host.discover(), path)
    assert [settings.every for settings in watcher()] == [3]
    resolved = (first.folder / "resolved.yaml").read_text()
    assert "every: 3" in resolved
    assert "label: ''" in resolved
    again = run_file(Host.discover(), path, sets=["plugins.watcher.every=5"])
    assert watcher()[-1].every == 5
    assert again.stages[0].reused, "settings of a plugin are no part of what a stage computes"


def test_a_plugin_that_is_not_named_is_handed_nothing(watcher: Any) -> None:
    path = Path("run.yaml")
    path.write_text(RUN.format(plugins="{}"))
    run_file(Host.discover(), path)
    assert watcher() == [None]


def test_an_empty_entry_means_the_defaults(watcher: Any) -> None:
    path = Path("run.yaml")
    path.write_text(RUN.format(plugins="watcher:"))
    run_file(Host.discover(), path)
    assert watcher()[0].every == 10


@pytest.mark.parametrize(
    ("plugins", "place", "message"),
    [
        ("watcher: {evry: 3}", (5, 13), "did you mean 'every'"),
        ("watcher: {every: 0}", (5, 20), "at least 1"),
        ("watcher: [1]", (5, 12), "expected a mapping"),
        ("watcher: {label: library}", (5, 12), "pip install library"),
        ("wacher: {}", (5, 3), "did you mean 'watcher'"),
        ("standard: {}", (5, 3), "has no settings"),
        ("- watcher", (5, 3), "expected a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_its_place(watcher: Any, plugins: str, place: tuple[int, int], message: str) -> None:
    (problem,) = problems(plugins)
    assert message in str(problem)
    assert (problem.line, problem.column) == place


def test_a_plugin_that_is_switched_off_says_so(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "-watcher")
    (problem,) = problems("watcher: {}")
    assert "disabled" in str(problem)


def test_two_plugins_of_one_name_are_not_guessed_between(watcher: Any, install: Install) -> None:
    install("other-watcher", WATCHER.replace("fake_watcher", "other_watcher"), files={"config.py": CONFIG})
    (problem,) = problems("watcher: {}")
    assert "fake-watcher and other-watcher have a plugin 'watcher' each" in str(problem)
    assert "--plugins=-fake-watcher/watcher" in str(problem)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ('"fake_odd.config"', "expected 'package.module:Name'"),
        ("None", "expected 'package.module:Name'"),
    ],
)
def test_what_names_no_model_breaks_the_plugin(install: Install, answer: str, message: str) -> None:
    install("fake-odd", f"@hookimpl\ndef scorefold_settings():\n    return {answer}\n")
    (record,) = [record for record in Host.discover().plugins if record.name == "odd"]
    assert record.state == "broken"
    assert message in str(record.cause)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("Settings = dict", "are no scorefold.config.Config"),
        ("import nowhere_at_all", "nowhere_at_all"),
        ("", "has no 'Settings'"),
    ],
)
def test_a_model_that_cannot_be_had_is_said_in_the_file(install: Install, source: str, message: str) -> None:
    install("fake-watcher", WATCHER, files={"config.py": source})
    (problem,) = problems("watcher: {}")
    assert message in str(problem)
    assert problem.line == 5


def test_the_schema_knows_them(watcher: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--json"]) == 0
    schema = Draft202012Validator(json.loads(capsys.readouterr().out))

    def valid(plugins: Any) -> bool:
        stages = {"data": {"use": "data:sphere"}}
        return bool(schema.is_valid({"version": 1, "plugins": plugins, "stages": stages}))

    assert valid({"watcher": {"every": 3}})
    assert valid({"watcher": None})
    assert not valid({"watcher": {"every": 0}})
    assert not valid({"watcher": {"evry": 1}})
    assert not valid({"standard": {}})


def test_plugins_show_lists_them(watcher: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "watcher"]) == 0
    assert "    every  a whole number, at least 1, default 10. Steps between two looks" in capsys.readouterr().out
    assert main(["plugins", "show", "watcher", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["plugins"]
    assert [field["name"] for field in shown["settings"]] == ["every", "label"]
