"""A declaration of another type than it says breaks its own plugin, with the line, and no other."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import importlib_metadata
import pytest

from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.plugins import discovery
from scorefold_registry.plugins.records import PluginRecord

HEAD = """from scorefold.plugin import Capability, Claim, Comparison, Component, Kind, Port, Verb, hookimpl
__plugin_api__ = "1.0"

@hookimpl
def scorefold_{hook}():
    yield {declaration}
"""

COMPONENT = 'Component("estimator", "mine", "mine.parts:Mine", "scorefold.config:Config", "Mine", {})'
PORT = 'Component("estimator", "mine", "m.p:M", "scorefold.config:Config", "Mine", requires=(Port("data", {}),))'
VERB = 'Verb("count", gives="metrics", target="m.p:count", {})'
KIND = 'Kind("learner", "m.p:Learner", {})'

WRONG: list[tuple[str, str, str]] = [
    ("components", COMPONENT.format('requires=(Port("score", "score"))'), "requires=(Port('score', ...),)"),
    ("components", COMPONENT.format('provides=("Trainable")'), "a comma is missing: provides=('Trainable',)"),
    ("components", COMPONENT.format('provides=["Trainable"]'), "write a tuple: provides=('Trainable',)"),
    ("components", COMPONENT.format("aliases=(3,)"), "an alias of 'mine' is called 3"),
    ("components", COMPONENT.format('aliases="own"'), "a comma is missing: aliases=('own',)"),
    ("components", COMPONENT.format('revision="2"'), "revision='2'"),
    ("components", COMPONENT.format("revision=1.5"), "expected a whole number"),
    ("components", COMPONENT.format("examples={}"), "a comma is missing: examples=({},)"),
    ("components", COMPONENT.format("examples=(3,)"), "expected a tuple of a mapping"),
    ("components", COMPONENT.format("figures=3"), "expected text or None"),
    ("components", COMPONENT.format('cite=("cite/mine.bib",)'), "cite=('cite/mine.bib',); expected text or None"),
    ("components", COMPONENT.format("known_failures=('documented',)"), "expected a mapping of text to text"),
    ("components", COMPONENT.format("known_failures={'documented': 3}"), "expected a mapping of text to text"),
    ("components", COMPONENT.format("ranges={'dimension': 3}"), "ranges={'dimension': 3}"),
    ("components", COMPONENT.format("ranges={'dimension': (1, 'many')}"), "a tuple (a number, a number)"),
    ("components", COMPONENT.format("yields_to='other/mine'"), "a comma is missing: yields_to=('other/mine',)"),
    ("components", COMPONENT.format("overrides=('other/mine',)"), "expected text or None"),
    ("components", COMPONENT.replace('"Mine", {}', "3, "), "summary=3; expected text"),
    ("components", COMPONENT.replace('"estimator"', "('estimator',)").format(""), "kind=('estimator',); expected text"),
    ("components", COMPONENT.replace('"mine"', "7").format(""), "a component is called 7"),
    ("components", PORT.format("kind=3"), "kind=3; expected text or a tuple of text"),
    ("components", PORT.format('kind="data", needs="Trainable"'), "a comma is missing: needs=('Trainable',)"),
    ("components", PORT.format('kind="data", optional="yes"'), "optional='yes'; expected True or False"),
    ("components", PORT.format('kind="data", default="data:sphere"'), "expected a mapping of text to any or None"),
    ("components", PORT.format('kind="data", when=("Trainable",)'), "when=('Trainable',); expected text"),
    ("components", PORT.replace('"data", {}', 'None, "data"'), "a port is called None"),
    ("components", COMPONENT.format('requires=(Port("a", "data"), Port("a", "score"))'), "two requires with the name"),
    ("verbs", VERB.format("takes=Port('data', kind='data')"), "a comma is missing: takes=(Port('data', ...),)"),
    ("verbs", VERB.format("takes=Port('data', kind='data')"), "has takes=Port('data', ...); expected a tuple of Port"),
    ("verbs", VERB.format("takes=(), kinds='score'"), "a comma is missing: kinds=('score',)"),
    ("verbs", VERB.format("takes=(), needs=[]"), "needs=[]; expected a tuple of text"),
    ("verbs", VERB.format("takes=(), options=dict"), "expected text or None"),
    ("kinds", KIND.format('verb_names="count"'), "a comma is missing: verb_names=('count',)"),
    ("kinds", KIND.format("verbs=[]"), "verbs=[]; expected a tuple of Verb"),
    ("kinds", KIND.format("comparison='count'"), "expected Comparison or None"),
    ("kinds", KIND.format("comparison=Comparison('count')"), "a comma is missing: verbs=('count',)"),
    ("kinds", KIND.format("summary=None"), "summary=None; expected text"),
    ("capabilities", 'Capability("Counts", "m.p:Counts", summary=3)', "summary=3; expected text"),
    ("capabilities", 'Capability(3, "m.p:Counts")', "a capability is called 3"),
]  # fmt: skip


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A module of a plugin with some source."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str) -> ModuleType:
        (tmp_path / "mine_plugin.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module("mine_plugin")

    yield make
    sys.modules.pop("mine_plugin", None)


def record_of(host: Host, name: str = "mine_plugin") -> PluginRecord:
    return next(record for record in host.plugins if record.name == name.replace("_", "-") or record.value == name)


@pytest.mark.parametrize(("hook", "declaration", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_a_mistyped_declaration_breaks_its_own_plugin(
    plugin: Callable[[str], ModuleType], hook: str, declaration: str, said: str
) -> None:
    module = plugin(HEAD.format(hook=hook, declaration=declaration))
    host = Host.discover(extra_plugins=[module])
    record = record_of(host)
    assert record.state == "broken"
    assert said in f"{record.cause} {record.fix}"
    assert f"{module.__file__}:6 in scorefold_{hook}" in str(record.frame)
    assert host.catalogue.resolve("estimator:iddiff").component.name == "iddiff"


def test_a_mistyped_claim_is_its_plugins(plugin: Callable[[str], ModuleType]) -> None:
    module = plugin(
        HEAD.format(hook="claims", declaration='Claim("two", "Two", "a paper", "m.p:two", profiles="quick")')
    )
    record = record_of(Host.discover(extra_plugins=[module]))
    assert record.state == "registered"
    assert record.claims == []
    assert record.state == "broken"
    assert "a comma is missing: profiles=('quick',)" in str(record.fix)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("while True: pass", "did not end within"),
        ("import time\n@hookimpl\ndef scorefold_components():\n    while True: time.sleep(0.01)", "did not end within"),
        (
            "@hookimpl\ndef scorefold_components():\n    while True: yield Component('a', 'b', 'c:d', 'e:f', 's')",
            "offers more than 10,000 declarations",
        ),
        (
            "class Odd(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise Odd",
            "Odd",
        ),
        ("class Odd(Exception):\n    def __str__(self): return 3\nraise Odd", "Odd"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_code_that_does_not_end_or_ends_oddly_is_its_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    monkeypatch.setattr(discovery, "LONGEST", 0.2)
    name = f"mine_{tmp_path.name}"  # a module that was found once is not looked for elsewhere
    file = tmp_path / f"{name}.py"
    file.write_text(f'from scorefold.plugin import Component, hookimpl\n__plugin_api__ = "1.0"\n{source}\n')
    monkeypatch.setenv("SCOREFOLD_DEV_PLUGINS", str(file))
    began, handler = time.monotonic(), signal.getsignal(signal.SIGALRM)
    host = Host.discover()
    record = record_of(host, name)
    assert record.state == "broken"
    assert said in str(record.cause)
    assert time.monotonic() - began < 20
    assert signal.getsignal(signal.SIGALRM) is handler
    assert host.catalogue.resolve("estimator:iddiff").state == "registered"


def test_an_object_that_offers_nothing_is_not_registered(plugin: Callable[[str], ModuleType]) -> None:
    class Offers:
        __plugin_api__ = "1.0"
        __name__ = "mine_plugin"

    record = record_of(Host.discover(extra_plugins=[Offers()]))  # type: ignore[list-item]
    assert record.state == "broken"
    assert "it offers nothing: its entry point names an Offers without hooks" in str(record.cause)


@pytest.mark.parametrize("value", ["3", "type('Hook', (), {})"])
def test_a_hook_that_is_no_function_is_named(plugin: Callable[[str], ModuleType], value: str) -> None:
    module = plugin(f"__plugin_api__ = '1.0'\nscorefold_components = {value}\n")
    record = record_of(Host.discover(extra_plugins=[module]))
    assert record.state == "broken"
    assert "scorefold_components is a" in str(record.cause)
    assert "expected a function" in str(record.cause)


def test_entry_points_that_cannot_be_read_are_one_broken_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd_one-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-one\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[scorefold.plugins]\nodd\n= = =\n[[[\nx = \x00\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib_metadata.MetadataPathFinder.invalidate_caches()
    assert main(["plugins", "list"]) == 0
    assert "odd" in capsys.readouterr().out
    assert Host.discover().catalogue.resolve("estimator:iddiff").state == "registered"


COMMANDS = {
    "raises": ("raise ValueError('no')", "the command 'mine' failed in plugin 'mine' of local 0: ValueError: no"),
    "pretends Ctrl-C": ("raise KeyboardInterrupt", "the command 'mine' failed in plugin 'mine' of local 0: Keyboard"),
    "returns text": ("return 'done'", "the command 'mine' of plugin 'mine' of local 0 returned 'done'"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_fails_names_its_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    body, said = COMMANDS[command]
    (tmp_path / "mine.py").write_text(
        'from scorefold.plugin import hookimpl\n__plugin_api__ = "1.0"\n'
        "@hookimpl\ndef scorefold_commands(register):\n    register('mine', 'mine:command', 'mine')\n"
        f"def command(arguments):\n    {body}\n"
    )
    monkeypatch.setenv("SCOREFOLD_DEV_PLUGINS", str(tmp_path / "mine.py"))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert main(["mine"]) == 2
    finally:
        sys.modules.pop("mine", None)
    assert said in capsys.readouterr().err
