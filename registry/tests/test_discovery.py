"""Plugins are found in order, lists act before imports, and one broken plugin never harms another."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from discovered import assert_unharmed, record

from scorefold.plugin import Component, hookimpl
from scorefold.stage import RunInfo
from scorefold_registry.plugins.discovery import discover
from scorefold_registry.run.result import Events, Observers

Install = Callable[..., Path]

Source = Callable[..., str]

RUN = RunInfo("short", Path("runs"), seed=0, config={})


def test_plugins_come_in_the_order_of_distribution_and_name(install: Install, component: Source) -> None:
    install("fake-b", component("score", "b"), name="a")
    install("fake-a", component("score", "a"), name="z")
    found = [item for item in discover().plugins if item.distribution.startswith("fake")]
    assert [(item.distribution, item.name) for item in found] == [("fake-a", "z"), ("fake-b", "a")]


def test_hooks_are_called_in_the_order_of_plugins_but_for_those_that_ask_to_be_first_or_last(install: Install) -> None:
    marks = {"fake-b": "", "fake-a": "(trylast=True)", "fake-c": "", "fake-d": "(tryfirst=True)", "fake-e": ""}
    for name, mark in marks.items():
        install(name, f"@hookimpl{mark}\ndef scorefold_report_sections(run): return [({name!r}, '')]")
    found = discover(allow=list(marks))
    order = ["fake-d", "fake-b", "fake-c", "fake-e", "fake-a"]
    assert [title for ((title, _),) in found.manager.hook.scorefold_report_sections(run=None)] == order
    # Observers are called one by one, each guarded from the others, and in the same order.
    observers = Observers(found.manager, Events(Path("events.jsonl")), RUN, list, print)
    asked = list(observers.ask("scorefold_report_sections", run=None))
    assert [title for _, ((title, _),) in asked] == order


def test_every_failing_observer_is_recorded(install: Install) -> None:
    folders = {name: install(name, "@hookimpl\ndef scorefold_before_run(run): 1 / 0") for name in ("fake-a", "fake-c")}
    install("fake-b", "@hookimpl\ndef scorefold_before_run(run): run.append('b')")
    found = discover(allow=["fake-a", "fake-b", "fake-c"])
    observers = Observers(found.manager, Events(Path("events.jsonl")), RUN, list, print)
    notified: list[str] = []
    for _ in range(2):
        observers.notify("scorefold_before_run", run=notified)
    assert notified == ["b", "b"]
    recorded = [json.loads(line)["text"] for line in Path("events.jsonl").read_text().splitlines()]
    assert recorded == [failure.text() for failure in observers.failures]
    assert recorded == [
        f"plugin 'fake-{letter}/{letter}': scorefold_before_run failed: ZeroDivisionError: division by zero "
        f"at {folders[f'fake-{letter}'] / 'plugin.py'}:6 in scorefold_before_run"
        for letter in "ac"
    ]


def test_a_first_result_comes_from_the_first_plugin_that_has_one(install: Install) -> None:
    install("fake-a", "@hookimpl\ndef scorefold_executor(run): return None")
    install("fake-b", "@hookimpl\ndef scorefold_executor(run): return 'b'")
    install("fake-c", "@hookimpl\ndef scorefold_executor(run): return 'c'")
    found = discover(allow=["fake-a", "fake-b", "fake-c"])
    assert found.manager.hook.scorefold_executor(run=None) == "b"


BROKEN = {
    "import error": ("import no_such_module_anywhere", "no_such_module_anywhere", 5),
    "syntax error": ("def broken(:", "SyntaxError", 5),
    "exit while importing": ("raise SystemExit(3)", "SystemExit: 3", 5),
    "hook raises": ("@hookimpl\ndef scorefold_components():\n    raise RuntimeError('no luck')", "no luck", 7),
    "hook fails half way": (
        "@hookimpl\ndef scorefold_components():\n    yield Component(kind='score', name='half', target='a.b:C',"
        " config='a.b:D', summary='')\n    1 / 0",
        "ZeroDivisionError",
        8,
    ),
    "interrupt that nobody pressed": ("raise KeyboardInterrupt", "KeyboardInterrupt", 5),
    "error that is no text": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError('mute')\nraise Mute",
        "Mute",
        8,
    ),
    "exit in a hook": ("@hookimpl\ndef scorefold_components():\n    exit()", "SystemExit", 7),
    "malformed name": (
        "@hookimpl\ndef scorefold_components():\n    yield Component(kind='score', name='Not Good', target='a.b:C',"
        " config='a.b:D', summary='')",
        "'Not Good'",
        7,
    ),
    "no component": ("@hookimpl\ndef scorefold_components(): return ['score:x']", "offers 'score:x'", 5),
    "one component, no list": (
        "@hookimpl\ndef scorefold_components():\n    return Component(kind='score', name='x', target='a.b:C',"
        " config='a.b:D', summary='')",
        "expected an iterable of Component",
        5,
    ),
    "nothing returned": ("@hookimpl\ndef scorefold_components(): pass", "returned None", 5),
    "unknown hook": ("@hookimpl\ndef scorefold_component(): return []", "did you mean 'scorefold_components'", 5),
    "hook without its mark": ("def scorefold_components(): return []", "put @hookimpl", 5),
    "hook twice": (
        "@hookimpl\ndef scorefold_kinds(): return []\n@hookimpl(specname='scorefold_kinds')\ndef more(): return []",
        "implements scorefold_kinds twice, as scorefold_kinds and more",
        7,
    ),
    "unknown argument": (
        "@hookimpl\ndef scorefold_before_run(run, folder): pass",
        "scorefold_before_run has no argument 'folder'; its arguments are run",
        5,
    ),
    "misspelt argument": (
        "@hookimpl\ndef scorefold_before_stage(run, stagee, inputs=None): pass",
        "scorefold_before_stage has no argument 'stagee'; did you mean 'stage'?",
        5,
    ),
    "argument where there is none": (
        "@hookimpl\ndef scorefold_components(run): return []",
        "scorefold_components has no argument 'run'; its arguments are none",
        5,
    ),
    "wrapped observer": (
        "@hookimpl(wrapper=True)\ndef scorefold_before_run(run):\n    yield",
        "scorefold_before_run can't be wrapped; only scorefold_run_stage and scorefold_executor can",
        5,
    ),
    "settings that are no model": (
        "@hookimpl\ndef scorefold_settings(): return 3",
        "what scorefold_settings returned is 3; expected 'package.module:Name'",
        5,
    ),
    "wrapper that does not yield": (
        "@hookimpl(wrapper=True)\ndef scorefold_run_stage(stage): pass",
        "not a generator function",
        0,
    ),
    "command that nobody could give": (
        "@hookimpl\ndef scorefold_commands(register):\n    register('two words', 'a.b:c', 'greets')",
        "a command is called 'two words'",
        7,
    ),
    "command whose summary is no text": (
        "@hookimpl\ndef scorefold_commands(register):\n    register('hello', 'a.b:c', 5)",
        "the summary of command 'hello' is 5; expected text",
        7,
    ),
    "claim whose options are no text and numbers": (
        "@hookimpl\ndef scorefold_claims():\n    yield Claim('c', 's', 't', 'a.b:c', options={'of': ['faces']})",
        "claim 'c' has options {'of': ['faces']}; expected a mapping of names to text and numbers",
        7,
    ),
    "command without a target": (
        "@hookimpl\ndef scorefold_commands(register):\n    register('hello', 'no-colon', 'greets')",
        "the target of command 'hello'",
        7,
    ),
}


@pytest.mark.parametrize(("source", "cause", "line"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_recorded_and_harms_no_other(
    install: Install, healthy: str, source: str, cause: str, line: int
) -> None:
    # One that sorts before the healthy plugin and one after it.
    folders = {name: install(name, source) for name in ("fake-broken", "fake-zbroken")}
    found = discover()
    found.ask_claims()
    for name, folder in folders.items():
        broken = record(found, name)
        assert broken.state == "broken"
        assert cause in (broken.cause or "")
        assert broken.components == []
        assert not found.manager.has_plugin(f"{name}/{broken.name}")
        place = f"{folder / 'plugin.py'}" + (f":{line}" if line else "")
        assert (broken.frame or "").startswith(place)
    assert_unharmed(found)


def test_claims_are_asked_for_once_and_only_when_they_are_wanted(install: Install, healthy: str) -> None:
    lines = ("asked = []", "@hookimpl", "def scorefold_claims():", "    asked.append(1)", "    raise ValueError('no')")
    install("fake-claims", "\n".join(lines))
    late = record(discover(), "fake-claims")
    assert (late.state, late.cause) == ("registered", None)
    assert (late.claims, late.claims) == ([], [])
    assert late.module is not None
    assert late.module.asked == [1]
    assert (late.state, late.cause) == ("broken", "ValueError: no")


def test_the_frame_is_the_plugins_own_line_nearest_to_the_failure(install: Install, healthy: str) -> None:
    folder = install("fake-deep", "from fake_deep import helper", files={"helper.py": "\n\nint('x')"})
    broken = record(discover(), "fake-deep")
    assert broken.frame == f"{folder / 'helper.py'}:3 in <module>"
    assert broken.cause == "ValueError: invalid literal for int() with base 10: 'x'"


def test_a_missing_module_names_the_command_that_fixes_it(install: Install, healthy: str) -> None:
    install("fake-broken", "import no_such_module_anywhere.part")
    fix = record(discover(), "fake-broken").fix
    assert fix == "no_such_module_anywhere is not installed: pip install --upgrade fake-broken"


def test_a_plugin_module_that_is_not_there(install: Install, healthy: str) -> None:
    folder = install("fake-gone", "")
    (folder / "plugin.py").unlink()
    (folder.parent / "fake_gone-1.0.dist-info" / "RECORD").write_text("fake_gone/plugin.py,,\n")
    found = discover()
    gone = record(found, "fake-gone")
    assert (gone.state, gone.fix) == (
        "broken",
        "its installation is not complete: pip install --force-reinstall fake-gone",
    )
    assert_unharmed(found)


@pytest.mark.parametrize("value", ["fake_entry.plugins", "fake_enrty.plugin", "fake_entry.plugin:Inner"])
def test_a_wrong_entry_point_names_the_line_of_pyproject(install: Install, healthy: str, value: str) -> None:
    folder = install("fake-entry", "class Inner: ...")
    text = folder.parent / "fake_entry-1.0.dist-info" / "entry_points.txt"
    text.write_text(f"[scorefold.plugins]\nentry = {value}\n")
    found = discover()
    wrong = record(found, "fake-entry")
    line = '[project.entry-points."scorefold.plugins"] entry = "fake_entry.plugin"'
    assert (wrong.state, wrong.fix) == (
        "broken",
        f"correct in pyproject.toml: {line}, then install the package again",
    )
    if ":" in value:
        assert wrong.cause == "its entry point names fake_entry.plugin:Inner, which is a class; expected a module"
    assert_unharmed(found)


@pytest.mark.parametrize(
    ("stated", "state", "cause"),
    [
        ("", "broken", 'states no __plugin_api__; add to fake_other.plugin: __plugin_api__ = "1.0"'),
        ("__plugin_api__ = 1", "broken", '__plugin_api__ is 1; expected "major.minor"'),
        ("__plugin_api__ = '1.x'", "broken", 'expected "major.minor"'),
        ("__plugin_api__ = '1.1'", "incompatible", "pip install --upgrade scorefold-core"),
        ("__plugin_api__ = '2.0'", "incompatible", "pip install --upgrade scorefold-core"),
        ("__plugin_api__ = '0.9'", "incompatible", "pip install --upgrade fake-other, or switch it off"),
        ("__plugin_api__ = '1.0'", "registered", ""),
    ],
)
def test_the_plugin_api_is_checked(install: Install, healthy: str, stated: str, state: str, cause: str) -> None:
    install("fake-other", f"{stated}\n", header=False)
    found = discover()
    other = record(found, "fake-other")
    assert other.state == state
    assert cause in f"{other.cause or ''}; {other.fix or ''}"
    assert_unharmed(found)


def test_two_entry_points_of_one_module_are_no_two_plugins(install: Install, healthy: str) -> None:
    folder = install("fake-twice", "")
    text = folder.parent / "fake_twice-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\na = fake_twice.plugin\nb = fake_twice.plugin\n")
    found = discover()
    first, second = [item for item in found.plugins if item.distribution == "fake-twice"]
    assert first.state == "registered"
    assert second.state == "broken"
    assert "is the plugin 'a' of fake-twice 1.0 already" in (second.cause or "")


def test_an_entry_point_may_name_extras(install: Install, component: Source) -> None:
    folder = install("fake-extra", component("score", "extra"))
    text = folder.parent / "fake_extra-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\nextra = fake_extra.plugin [fast]\n")
    extra = record(discover(), "fake-extra")
    assert (extra.state, extra.value) == ("registered", "fake_extra.plugin")


def test_an_entry_point_names_a_module_and_nothing_in_it(install: Install, healthy: str) -> None:
    folder = install("fake-inside", "@hookimpl\ndef scorefold_components(): return []")
    text = folder.parent / "fake_inside-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\ninside = fake_inside.plugin:scorefold_components\n")
    found = discover()
    assert record(found, "fake-inside").cause == (
        "its entry point names fake_inside.plugin:scorefold_components, which is a function; expected a module"
    )
    assert_unharmed(found)


def test_unreadable_metadata_breaks_only_its_own_plugins(install: Install, healthy: str) -> None:
    folder = install("fake-nometa", "")
    (folder.parent / "fake_nometa-1.0.dist-info" / "METADATA").unlink()
    found = discover()
    broken = next(item for item in found.plugins if item.value == "fake_nometa.plugin")
    assert broken.state == "broken"
    assert "metadata" in (broken.cause or "")
    assert_unharmed(found)


def test_of_a_distribution_that_is_on_the_path_twice_the_first_counts(
    install: Install, component: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install("fake-once", component("score", "once"), version="2.0")
    hidden = tmp_path / "hidden"
    info = hidden / "Fake.Once-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Fake.Once\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scorefold.plugins]\nonce = fake_once.plugin\nolder = gone.plugin\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(hidden)])
    found = [item for item in discover().plugins if "once" in item.distribution.lower()]
    assert [(item.name, item.version, item.state) for item in found] == [("once", "2.0", "registered")]
    # The first on the path may offer no plugin at all; what it hides stays hidden.
    (folder.parent / "fake_once-2.0.dist-info" / "entry_points.txt").unlink()
    assert not [item for item in discover().plugins if "once" in item.distribution.lower()]


def test_modules_can_be_plugins_without_an_installation() -> None:
    module = ModuleType("my_plugin")
    module.__plugin_api__ = "1.0"  # type: ignore[attr-defined]

    @hookimpl
    def scorefold_components() -> list[Component]:
        return [Component(kind="score", name="mine", target="a.b:C", config="a.b:D", summary="")]

    module.scorefold_components = scorefold_components  # type: ignore[attr-defined]
    mine = discover(extra_plugins=[module]).plugins[-1]
    assert (mine.name, mine.distribution, mine.state) == ("my-plugin", "local", "registered")
    assert [item.id for item in mine.components] == ["score:mine"]


def test_a_plugin_that_is_slow_to_import_is_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_registry.plugins.discovery.SLOW", 0.8)
    install("fake-slow", "import time\ntime.sleep(0.9)")
    found = discover()
    (slow,) = (record for record in found.plugins if record.distribution == "fake-slow")
    (warning,) = slow.warnings
    assert re.fullmatch(r"its import took \d\.\d s, which delays every command", warning)
    assert any(note == f"{slow.label}: {warning}" for note in found.notes)


def _files_of(folder: Path, distribution: str, *files: str) -> None:
    info = folder.parent / f"{distribution.replace('-', '_')}-1.0.dist-info"
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{info.name}/RECORD")))


@pytest.mark.parametrize("editable", [False, True])
def test_a_foreign_entry_point_takes_no_plugin_over(install: Install, component: Source, editable: bool) -> None:
    """It stands before the owner by its name, whose module it names."""
    folder = install("fake-owner", component("score", "owned"))
    foreign = install("fake-foreign", component("score", "foreign"))
    text = foreign.parent / "fake_foreign-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\nforeign = fake_owner.plugin\nown = fake_foreign.plugin\n")
    if editable:
        link = {"dir_info": {"editable": True}, "url": folder.parent.as_uri()}
        (folder.parent / "fake_owner-1.0.dist-info" / "direct_url.json").write_text(json.dumps(link))
    else:
        _files_of(folder, "fake-owner", "fake_owner/__init__.py", "fake_owner/plugin.py")
    _files_of(foreign, "fake-foreign", "fake_foreign/plugin.py")
    for found in (discover(), discover(deny=["owner"])):
        first, own = [item for item in found.plugins if item.distribution == "fake-foreign"]
        assert (first.state, own.state) == ("broken", "registered")
        assert first.cause == "its entry point names fake_owner.plugin, which is the plugin 'owner' of fake-owner 1.0"
        assert first.fix == "pip uninstall fake-foreign, or have it name its own module"
    assert record(found, "fake-owner").state == "disabled"
    assert [item.name for item in record(discover(), "fake-owner").components] == ["owned"]


def test_of_two_distributions_that_brought_one_file_that_of_its_name_owns_it(install: Install) -> None:
    folder, foreign = install("fake-owner", ""), install("fake-foreign", "")
    text = foreign.parent / "fake_foreign-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\nforeign = fake_owner.plugin\n")
    for name in ("fake-owner", "fake-foreign"):
        _files_of(folder, name, "fake_owner/plugin.py")
    found = discover()
    assert (record(found, "fake-owner").state, record(found, "fake-foreign").state) == ("registered", "broken")


def test_targets_that_begin_with_a_dot_are_in_the_package_that_declares_them(install: Install) -> None:
    text = """
@hookimpl
def scorefold_components():
    yield Component("estimator", "near", ".impl:Near", ".:NearConfig", "Near", figures=".figures:draw")
    yield Component("estimator", "far", "scorefold_standard.far:Far", "fake_b.config:FarConfig", "Far")

@hookimpl
def scorefold_kinds():
    verb = Verb("grow", takes=(), gives="metrics", target=".impl:grow", options=".config:Options")
    yield Kind("plant", ".impl:Plant", (verb,))
"""
    install("fake-b", text)
    offered = next(item for item in discover().plugins if item.distribution == "fake-b")
    near, far = offered.components
    assert (near.target, near.config, near.figures) == ("fake_b.impl:Near", "fake_b:NearConfig", "fake_b.figures:draw")
    assert (far.target, far.config) == ("scorefold_standard.far:Far", "fake_b.config:FarConfig")
    (kind,) = offered.kinds
    assert (kind.interface, kind.verbs[0].target, kind.verbs[0].options) == (
        "fake_b.impl:Plant",
        "fake_b.impl:grow",
        "fake_b.config:Options",
    )
