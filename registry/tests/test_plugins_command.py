"""``plugins list`` and ``plugins show``: what they print, as text and as JSON of a fixed schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold_registry.cli.main import main
from scorefold_registry.plugins.names import known_plugins
from scorefold_registry.plugins.records import STATES

Install = Callable[..., Path]
Source = Callable[..., str]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/plugins-list.json").read_text())
SHOW_SCHEMA = json.loads(files("scorefold").joinpath("schemas/plugins-show.json").read_text())


@pytest.fixture
def every_state(install: Install, component: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin in each state that listing can show."""
    Path("scorefold.toml").write_text('plugins = ["-off"]\n[prefer]\n"score:taken" = "fake-winner"')
    install("fake-off", component("score", "off"))
    install("fake-broken", "import no_such_module_anywhere")
    install("fake-new", "__plugin_api__ = '9.0'")
    install("fake-good", component("score", "good better", extra="revision=3") + "\nimport numpy\n")
    install("fake-left", component("flow", "same"))
    install("fake-right", component("flow", "same"))
    install("fake-winner", component("score", "taken"))
    install("fake-loser", component("score", "taken"))


def listed(capsys: Captured, *arguments: str) -> dict[str, dict[str, Any]]:
    assert main(["plugins", "list", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    return {item["distribution"]: item for item in found["plugins"]}


def test_the_schema_knows_all_states() -> None:
    item = SCHEMA["properties"]["plugins"]["items"]["properties"]
    assert tuple(item["state"]["enum"]) == STATES
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SHOW_SCHEMA)


def test_json_holds_to_its_schema_in_every_state(every_state: None, capsys: Captured) -> None:
    found = listed(capsys)
    states = {name: item["state"] for name, item in found.items() if name.startswith("fake")}
    assert states == {
        "fake-broken": "broken",
        "fake-good": "registered",
        "fake-left": "ambiguous",
        "fake-loser": "shadowed",
        "fake-new": "incompatible",
        "fake-off": "disabled",
        "fake-right": "ambiguous",
        "fake-winner": "registered",
    }
    assert list(found) == sorted(found)
    assert [item["name"] for item in found["fake-good"]["components"]] == ["good", "better"]
    assert found["fake-good"]["components"][0]["revision"] == 3
    for name, item in found.items():
        assert (item["cause"] is None) == (states.get(name, "registered") == "registered"), name


def test_without_imports_only_entry_points_are_known(every_state: None, capsys: Captured) -> None:
    found = listed(capsys, "--no-import")
    assert {item["state"] for item in found.values()} == {"found", "disabled"}
    assert not any(item["components"] for item in found.values())


def test_text_says_what_is_wrong_where_and_what_to_do(every_state: None, capsys: Captured) -> None:
    assert main(["plugins", "list"]) == 0
    text = capsys.readouterr().out
    assert "broken  fake-broken 1.0  broken\n  cause: ModuleNotFoundError: No module named 'no_such_module" in text
    assert "fake_broken/plugin.py:5 in <module>\n  fix: no_such_module_anywhere is not installed: pip install" in text
    assert "good  fake-good 1.0  registered\n" in text
    assert "\n  score:      good, better\n" in text
    assert "cause: switched off by " in text
    assert "cause: score:taken went to fake-winner" in text


OFFERS = """
from scorefold.plugin import Capability, Kind, Verb

@hookimpl
def scorefold_kinds():
    yield Kind("thing", "fake_offers.impl:Thing")

@hookimpl
def scorefold_capabilities():
    yield Capability("Stacks", "fake_offers.impl:Stacks")

@hookimpl
def scorefold_verbs():
    yield Verb("weigh", takes=(), gives="metrics", target="fake_offers.impl:weigh", kinds=("thing",))

@hookimpl
def scorefold_commands(register):
    register("weigh", "fake_offers.impl:command", "Weighs")

@hookimpl
def scorefold_before_run(run):
    pass

@hookimpl
def scorefold_executor(run):
    return None
"""


def test_listing_shows_all_that_a_plugin_offers(install: Install, capsys: Captured) -> None:
    install("fake-offers", OFFERS)
    found = listed(capsys)["fake-offers"]
    offered = {name: found[name] for name in ("kinds", "capabilities", "verbs", "commands", "hooks")}
    assert offered == {
        "kinds": ["thing"],
        "capabilities": ["Stacks"],
        "verbs": ["weigh"],
        "commands": ["weigh"],
        "hooks": ["before_run", "executor"],
    }
    assert main(["plugins", "list"]) == 0
    text = capsys.readouterr().out
    assert "  verbs:        weigh\n  commands:     weigh\n  hooks:        before_run, executor\n" in text
    assert main(["plugins", "show", "offers"]) == 0
    assert "  hooks:      before_run, executor\n" in capsys.readouterr().out


def test_a_misspelt_list_is_noted(install: Install, capsys: Captured) -> None:
    assert main(["--plugins=-standart", "plugins", "list"]) == 0
    captured = capsys.readouterr()
    assert "note: --plugins names 'standart', but no installed plugin has this name" in captured.err
    assert "did you mean 'standard'" in captured.err


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured) -> None:
    import importlib_metadata

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib_metadata, "distributions", lambda: iter(()))
    assert main(["plugins", "list"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "no plugin is installed"
    known = [f"not installed: {plugin.name}" for plugin in known_plugins()]
    assert [line.partition(",")[0] for line in others] == known
    assert main(["plugins", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"plugins": []}
    assert main(["plugins", "show", "iddiff"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: no plugin 'iddiff' is installed; there is one: Intrinsic dimension of data from a score model"
    )
    assert "\n  pip install scorefold-iddiff, or in a checkout of Scorefold: pip install ./plugins/iddiff\n" in said


class TestShow:
    SOURCE = """
@hookimpl
def scorefold_components():
    yield Component(
        kind="score", name="good", target="fake_one.impl:Thing", config="fake_one.config:Good", summary="does good",
        requires=(Port("data", kind="data"), Port("more", kind=("score", "flow"), many=True, optional=True,
                  needs=("Encodes",))),
        provides=("Trainable",), aliases=("fine",), cite="good.bib",
    )

@hookimpl
def scorefold_kinds():
    yield Kind("toaster", interface="scorefold.interfaces:Encodes", summary="toasts")

@hookimpl
def scorefold_claims():
    yield Claim("warm", statement="toast is warm", source="table 1", target="a.b:c", role="report")

@hookimpl
def scorefold_commands(register):
    register("toast", "a.b:c", "makes toast")
"""
    CONFIG = """
from pydantic import Field
from scorefold.config import Config, Inline, Use

class Part(Config):
    size: int = Field(1, ge=1, description="How large")

class Good(Config):
    network: Inline("network") = Field(Use(use="network:mlp"), description="The network")
    part: Part = Field(Part(), description="The part")
    rate: float = Field(description="How fast", gt=0)
"""

    @pytest.fixture(autouse=True)
    def _installed(self, install: Install) -> None:
        install("fake-one", self.SOURCE, files={"config.py": self.CONFIG})

    @pytest.mark.parametrize("name", ["one", "fake-one", "Fake_One"])
    def test_a_plugin(self, capsys: Captured, name: str) -> None:
        assert main(["plugins", "show", name]) == 0
        text = capsys.readouterr().out
        assert text.startswith("one  fake-one 1.0  registered\n  module: fake_one.plugin\n")
        assert "  kind toaster: toasts\n" in text
        assert "  score:\n    good  does good\n" in text
        assert "  claims: 1, 0 of which are gates; 'scorefold reproduce one' measures them\n" in text
        assert "  command toast: makes toast\n" in text

    def test_a_plugin_as_json(self, capsys: Captured) -> None:
        assert main(["plugins", "show", "one", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        jsonschema.validate(shown, SHOW_SCHEMA)
        (found,) = shown["plugins"]
        assert found["module"] == "fake_one.plugin"
        assert found["commands"] == [{"name": "toast", "summary": "makes toast"}]
        assert found["components"][0]["name"] == "good"

    def test_a_component(self, capsys: Captured) -> None:
        assert main(["plugins", "show", "score:good"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:12] == [
            "score:good@1  fake-one 1.0  registered",
            "  does good",
            "  verbs: fit, sample, evaluate, outliers, assess, encode, interpolate, audit",
            "  aliases: fine",
            "  provides: Trainable",
            "  port data: data",
            "  port more: several score or flow that provides Encodes (optional)",
            "  config:",
            "    network    a component of kind network, default network:mlp. The network",
            "    part       a mapping. The part",
            "    part.size  a whole number, at least 1, default 1. How large",
            "    rate       a number, above 0, required. How fast",
        ]
        assert "  verb sample: takes data (optional); gives data" in lines
        after = lines[lines.index("  options of sample:") + 1 :]
        assert any(re.match(r"    n +a whole number, at least 1, default 64\.", line) for line in after)
        start = lines.index("a run file to begin with (small, so that it runs soon):")
        assert lines[start + 2 : start + 5] == ["version: 1", "name: good", "stages:"]

    def test_a_component_as_json(self, capsys: Captured) -> None:
        assert main(["plugins", "show", "score:fine", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        jsonschema.validate(found, SHOW_SCHEMA)
        assert found["component"] == "score:good@1"
        assert found["ports"][1] == {
            "name": "more",
            "kinds": ["score", "flow"],
            "needs": ["Encodes"],
            "optional": True,
            "many": True,
        }
        assert [field["name"] for field in found["config"]] == ["network", "part", "part.size", "rate"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("onne", "no plugin and no component is called 'onne'\n  did you mean 'one'?"),
            ("score:godo", "there is no 'score:godo'\n  did you mean score:good?"),
            ("goood", "did you mean score:good?"),
        ],
    )
    def test_what_is_unknown(self, capsys: Captured, name: str, message: str) -> None:
        assert main(["plugins", "show", name]) == 2
        assert message in capsys.readouterr().err


def test_components_stay_in_two_columns_on_a_terminal(
    install: Install, component: Source, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = "Means of all the points that were given, with errors"
    install("fake-wide", component("estimator", "mean").replace("made for a test", summary))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "44")
    assert main(["plugins", "show", "wide"]) == 0
    wanted = "    mean  Means of all the points that were\n          given, with errors\n"
    assert wanted in capsys.readouterr().out
