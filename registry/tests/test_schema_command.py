"""``scorefold schema``: where it writes, what it prints, and plugins that can't say what their settings are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from scorefold_registry.cli.main import main

Install = Callable[..., Path]
Source = Callable[..., str]
Captured = pytest.CaptureFixture[str]

CONFIG = """
from pydantic import Field
from scorefold.config import Config, Inline

class Toast(Config):
    slices: int = Field(2, ge=1, description="Slices of bread")
    inside: list[Inline("score")] = Field((), description="More of it")
    either: Inline("network") | None = Field(None, description="A network, or none")
"""


FEW = ("--plugins", "standard,verbs")
"""Of our plugins those that are named here: ``tests/test_schema.py`` has the schema of all."""


def schema(capsys: Captured, *others: str) -> Draft202012Validator:
    """The schema of a few plugins and these."""
    assert main(["--plugins", ",".join([FEW[1], *others]), "schema", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def stage(**keys: Any) -> dict[str, Any]:
    return {"version": 1, "stages": {"it": keys}}


def test_it_is_written_and_the_line_is_printed(install: Install, capsys: Captured) -> None:
    assert main([*FEW, "schema"]) == 0
    assert capsys.readouterr().out == "# yaml-language-server: $schema=.scorefold/schema.json\n"
    written = json.loads(Path(".scorefold/schema.json").read_text())
    assert written["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert written == schema(capsys).schema


def test_out_says_where(install: Install, capsys: Captured) -> None:
    assert main([*FEW, "schema", "--out", "there/runs.json"]) == 0
    assert "$schema=there/runs.json" in capsys.readouterr().out
    assert [path.name for path in Path("there").iterdir()] == ["runs.json"]
    assert main([*FEW, "schema", "--json", "--out", "both.json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("both.json").read_text())


def test_json_alone_writes_nothing(install: Install, capsys: Captured) -> None:
    schema(capsys)
    assert not list(Path.cwd().iterdir())


def test_a_place_that_cannot_be_written_to(install: Install, capsys: Captured) -> None:
    Path("file").write_text("")
    assert main([*FEW, "schema", "--out", "file/schema.json"]) == 2
    assert "file/schema.json can't be written" in capsys.readouterr().err


def test_a_third_party_stands_in_it_like_ours(install: Install, component: Source, capsys: Captured) -> None:
    extra = "aliases=('bread',)"
    source = component("score", "toast", config="fake_one.config:Toast", extra=extra)
    install("fake-one", source, files={"config.py": CONFIG})
    found = schema(capsys, "one")
    for name in ("score:toast", "score:bread", "score:toast@1", "fake-one/score:toast"):
        assert found.is_valid(stage(use=name, do="sample", config={"slices": 3})), name
        assert not found.is_valid(stage(use=name, do="sample", config={"slices": 0})), name
    nested = {"use": "score:toast", "config": {"inside": [{"use": "bread", "config": {"slices": 4}}]}}
    assert found.is_valid(stage(do="sample", **nested))
    nested["config"]["inside"][0]["config"]["slices"] = "many"
    assert not found.is_valid(stage(do="sample", **nested))
    assert found.is_valid(stage(use="score:toast", do="sample", config={"either": None}))
    assert not found.is_valid(stage(use="score:toast", do="sample", config={"either": "score:toast"}))


def test_a_name_that_two_claim_must_be_written_in_full(install: Install, component: Source, capsys: Captured) -> None:
    for name in ("fake-left", "fake-right"):
        install(name, component("score", "same"))
    found = schema(capsys, "left", "right")
    assert not found.is_valid(stage(use="score:same", do="sample"))
    assert found.is_valid(stage(use="fake-left/score:same", do="sample"))
    offered = {item.get("const") for item in found.schema["$defs"]["stage"]["properties"]["use"]["anyOf"]}
    assert {"fake-left/score:same", "fake-right/score:same"} <= offered
    assert "score:same" not in offered


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
        (
            "from collections.abc import Callable\nfrom scorefold.config import Config\n"
            "class Toast(Config):\n    call: Callable[[], int]",
            "Cannot generate a JsonSchema",
        ),
    ],
)
def test_settings_that_cannot_be_had_are_left_open_and_noted(
    install: Install, component: Source, capsys: Captured, config: str, cause: str
) -> None:
    source = component("score", "toast", config="fake_one.config:Toast")
    install("fake-one", source, files={"config.py": config})
    assert main(["--plugins", "standard,verbs,one", "schema", "--json"]) == 0
    captured = capsys.readouterr()
    (note,) = captured.err.splitlines()
    assert note.startswith("note: the config of fake-one/score:toast is left open: ")
    assert cause in note
    found = Draft202012Validator(json.loads(captured.out))
    assert found.is_valid(stage(use="score:toast", do="sample", config={"anything": 1}))
    assert not found.is_valid(stage(use="data:sphere", config={"anything": 1}))


def test_options_of_a_kind_that_a_plugin_adds(install: Install, capsys: Captured) -> None:
    source = """
@hookimpl
def scorefold_kinds():
    brown = Verb("brown", takes=(Port("bread", kind="data", many=True),), gives="toast", target="fake_one.config:brown",
                 options="fake_one.config:Toast")
    yield Kind("toaster", interface="scorefold.interfaces:Encodes", summary="toasts", verbs=(brown,))

@hookimpl
def scorefold_components():
    yield Component("toaster", "plain", "fake_one.config:Plain", "scorefold.config:Config", "toasts plainly")
"""
    install("fake-one", source, files={"config.py": CONFIG})
    found = schema(capsys, "one")
    bread = ["data", {"use": "data:sphere"}]
    assert found.is_valid(stage(use="toaster:plain", inputs={"bread": bread}, options={"slices": 1}))
    assert not found.is_valid(stage(use="toaster:plain", inputs={"bread": bread}, options={"slices": 0}))
    assert not found.is_valid(stage(use="toaster:plain", options={"slices": 1}))
    assert not found.is_valid(stage(use="toaster:plain", inputs={"bread": [{"use": "network:mlp"}]}))


def test_torch_is_not_imported(install: Install) -> None:
    code = (
        "import sys; from scorefold_registry.cli.main import main; main(['schema']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
