"""What plugins say of themselves can't move a cursor, clear a screen or turn a line around, whatever prints it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold_registry.cli.main import main

Install = Callable[..., Path]
Captured = pytest.CaptureFixture[str]

EVIL = "\x1b[2J\x1b]0;title\x07\x9b31m\u202etxt.exe\u2066\r"

PLUGIN = f"""
EVIL = {EVIL!r}

@hookimpl
def scorefold_kinds():
    verb = Verb("grow", takes=(), gives="metrics", target="fake_evil.impl:grow")
    yield Kind("plant", "fake_evil.impl:Plant", (verb,), EVIL)

@hookimpl
def scorefold_components():
    yield Component(
        "plant", "fern", "fake_evil.impl:Plant", "fake_evil.config:Settings", EVIL, cite="cite.bib",
        examples=({{"config": {{}}}},),
    )

@hookimpl
def scorefold_claims():
    yield Claim("tall", EVIL, EVIL, "fake_evil.impl:fail", tolerance=("min", 0.0), unit=EVIL)

@hookimpl
def scorefold_commands(register):
    register("greet", "fake_evil.impl:grow", EVIL)

def __getattr__(name):
    raise AttributeError(EVIL)
"""
FILES = {
    "impl.py": f"""
from abc import ABC

class Plant(ABC):
    def __init__(self, config):
        raise ValueError({EVIL!r})

def grow(component, inputs, options, context):
    raise ValueError({EVIL!r})

def fail(run):
    raise ValueError({EVIL!r})
""",
    "config.py": f"""
from pydantic import Field
from scorefold.config import Config

class Settings(Config):
    leaf: str = Field({EVIL!r}, description={EVIL!r})
""",
    "cite.bib": f"@misc{{fern,\n note={{ {EVIL} }}\n}}\n",
}

COMMANDS = (
    ["--help"],
    ["plugins", "list"],
    ["plugins", "show", "evil"],
    ["plugins", "show", "plant:fern"],
    ["plugins", "doctor", "--load"],
    ["plugins", "check", "evil"],
    ["reproduce", "evil"],
    ["cite", "run.yaml"],
    ["graph", "run.yaml"],
    ["validate", "run.yaml"],
    ["run", "run.yaml"],
    ["compare", "plant"],
    ["sweep", "run.yaml", "--grid", "seed=0", "--workers", "1"],
    ["schema"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:3]))
def test_words_of_a_plugin_only_print(command: list[str], install: Install, capsys: Captured) -> None:
    install("fake-evil", PLUGIN, files=FILES)
    Path("run.yaml").write_text("version: 1\nname: it\nstages: {fern: {use: plant:fern}}\n")
    for more in ([], ["--json"]):
        if more and command[0] == "--help":
            continue
        capsys.readouterr()
        main([*command, *more])
        said = capsys.readouterr()
        both = said.out + said.err
        assert both
        steering = {part for part in both if unicodedata.category(part) in ("Cc", "Cf") and part not in "\n\t"}
        assert not steering
        if more:
            json.loads(said.out)


QUITS = """
@hookimpl
def scorefold_components():
    yield Component(
        "estimator", "quits", "fake_quits.impl:Quits", "scorefold.config:Config", "quits", examples=({"config": {}},)
    )

@hookimpl
def scorefold_claims():
    yield Claim("quits", "x", "x", "fake_quits.impl:claim", tolerance=("min", 0.0))

@hookimpl
def scorefold_after_run(run, result):
    raise SystemExit(0)
"""
QUITS_IMPL = """
from scorefold.interfaces import Estimator

def claim(host, profile, seed):
    raise SystemExit(0)

class Quits(Estimator):
    def __init__(self, config):
        if config_only():
            raise SystemExit(0)

    def estimate(self, data, *, generator=None):
        raise SystemExit(0)

def config_only():
    import os
    return "QUITS_EARLY" in os.environ
"""


@pytest.mark.parametrize("early", [False, True])
def test_a_plugin_that_ends_the_process_says_nothing_about_what_was_asked(
    early: bool, install: Install, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status 0 of ``sys.exit()`` would say that checks and claims hold."""
    install("fake-quits", QUITS, files={"impl.py": QUITS_IMPL})
    if early:
        monkeypatch.setenv("QUITS_EARLY", "1")
    checked = ["plugins", "check", "quits", "--only", "refuses-too-few-points", "--only", "builds-in-time"]
    assert main([*checked, "--json"]) == 1
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert "SystemExit" in checks["builds-in-time" if early else "refuses-too-few-points"]["detail"]
    results = ("failed", "skipped") if early else ("passed", "failed")
    assert (checks["builds-in-time"]["result"], checks["refuses-too-few-points"]["result"]) == results
    assert main(["reproduce", "quits", "--json"]) == 1
    (claim,) = json.loads(capsys.readouterr().out)["claims"]
    assert claim["verdict"] == "error"


def test_an_observer_that_ends_the_process_costs_no_run(install: Install, capsys: Captured) -> None:
    install("fake-quits", QUITS, files={"impl.py": QUITS_IMPL})
    Path("run.yaml").write_text("version: 1\nname: it\nstages: {data: {use: data:sphere, config: {points: 50}}}\n")
    assert main(["run", "run.yaml", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "report: " in said.out
    assert "scorefold_after_run failed: SystemExit" in said.err


def test_a_command_of_ours_is_not_ended_by_a_plugin(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def quits(arguments: list[str]) -> int:
        raise SystemExit(0)

    monkeypatch.setattr("scorefold_registry.cli.commands.run_files.graph_command", quits)
    assert main(["graph", "run.yaml"]) == 2
    assert "ended by SystemExit: 0" in capsys.readouterr().err
