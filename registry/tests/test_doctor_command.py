"""``plugins doctor``: every state with its cause, its place and what fixes it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold_registry.cli.main import main
from scorefold_registry.plugins import settings
from scorefold_registry.plugins.records import STATES

Install = Callable[..., Path]
Source = Callable[..., str]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/plugins-doctor.json").read_text())


@pytest.fixture(autouse=True)
def _apart(install: Install) -> None:
    """In a folder and with lists of its own, where there is nothing to fix at the start of each test."""


def examined(capsys: Captured, status: int, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """The findings about each distribution."""
    assert main(["plugins", "doctor", "--json", *arguments]) == status
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    assert found["well"] == (status == 0)
    return {item["distribution"]: item["findings"] for item in found["plugins"]}


def test_the_schema_knows_all_states() -> None:
    item = SCHEMA["properties"]["plugins"]["items"]["properties"]
    assert tuple(item["state"]["enum"]) == STATES
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_all_is_well(install: Install, component: Source, capsys: Captured) -> None:
    install("fake-good", component("score", "good"))
    assert not any(examined(capsys, 0).values())
    assert main(["plugins", "doctor"]) == 0
    text = capsys.readouterr().out
    assert "well  good  fake-good 1.0  registered\n" in text
    assert text.endswith(" plugins: all is well\n")


def test_a_plugin_whose_module_has_no_hooks_offers_nothing(install: Install, capsys: Captured) -> None:
    folder = install("fake-bare", "")
    (folder / "__init__.py").write_text('__plugin_api__ = "1.0"\n')
    text = folder.parent / "fake_bare-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\nbare = fake_bare\n")
    (finding,) = examined(capsys, 1)["fake-bare"]
    assert "it offers no component: its entry point names fake_bare, which has no hooks" in finding["what"]
    assert '[project.entry-points."scorefold.plugins"] bare = "fake_bare.plugin"' in finding["fix"]


def test_an_entry_point_to_a_missing_name_names_the_file_and_near_names(
    install: Install, component: Source, capsys: Captured
) -> None:
    folder = install("fake-near", component("score", "near"))
    text = folder.parent / "fake_near-1.0.dist-info" / "entry_points.txt"
    text.write_text("[scorefold.plugins]\nnear = fake_near.plugin:scorefold_component\n")
    (finding,) = examined(capsys, 1)["fake-near"]
    file = folder / "plugin.py"
    assert finding["what"] == (
        f"its entry point names fake_near.plugin:scorefold_component, and {file} has no 'scorefold_component'"
    )
    assert finding["fix"].startswith("did you mean 'scorefold_components'?")
    assert '[project.entry-points."scorefold.plugins"] near = "fake_near.plugin"' in finding["fix"]
    assert "pip install" not in finding["fix"]


def test_a_slow_import_is_counted_once(
    install: Install, component: Source, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorefold_registry.plugins.discovery.SLOW", 0.8)
    install("fake-slow", "import time\ntime.sleep(0.9)" + component("score", "slow"))
    assert main(["plugins", "doctor"]) == 1
    text = capsys.readouterr().out
    assert text.count("which delays every command") == 1
    assert text.endswith(": 1 thing to fix\n")


def test_a_misspelt_group_of_entry_points_is_noted(install: Install, component: Source, capsys: Captured) -> None:
    for name, group in (("fake-group", "scorefold.plugin"), ("fake-other", "scorefold_registry.extras")):
        folder = install(name, component("score", "group"))
        text = folder.parent / f"{folder.name}-1.0.dist-info" / "entry_points.txt"
        text.write_text(f"[{group}]\ngroup = {folder.name}.plugin\n")
    assert main(["plugins", "doctor", "--json"]) == 1
    note = "fake-group has entry points in the group 'scorefold.plugin'; did you mean 'scorefold.plugins'?"
    assert json.loads(capsys.readouterr().out)["notes"] == [note]


@pytest.mark.parametrize(
    ("source", "what", "at", "fix"),
    [
        (
            "import no_such_module_anywhere",
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
            "fake_one/plugin.py:5 in <module>",
            "no_such_module_anywhere is not installed: pip install --upgrade fake-one",
        ),
        (
            "def inner():\n    raise ValueError('out of toast')\ninner()",
            "ValueError: out of toast",
            "fake_one/plugin.py:6 in inner",
            "pip install --upgrade fake-one, or switch it off: SCOREFOLD_PLUGINS=-one",
        ),
        (
            "@hookimpl\ndef scorefold_components():\n    raise KeyError('x')",
            "KeyError: 'x'",
            "fake_one/plugin.py:7 in scorefold_components",
            "pip install --upgrade fake-one, or switch it off: SCOREFOLD_PLUGINS=-one",
        ),
        (
            "@hookimpl\ndef scorefold_components():\n    return 3",
            "scorefold_components returned 3; expected an iterable of Component",
            "fake_one/plugin.py:5 in scorefold_components",
            "pip install --upgrade fake-one, or switch it off: SCOREFOLD_PLUGINS=-one",
        ),
        (
            "@hookimpl\ndef scorefold_component():\n    return ()",
            "there is no hook 'scorefold_component'; did you mean 'scorefold_components'",
            "fake_one/plugin.py:5 in scorefold_component",
            "pip install --upgrade fake-one, or switch it off: SCOREFOLD_PLUGINS=-one",
        ),
        (
            "del __plugin_api__",
            "states no __plugin_api__",
            "fake_one/plugin.py",
            'add to fake_one.plugin: __plugin_api__ = "1.0"',
        ),
        (
            "__plugin_api__ = '9.0'",
            "written for plugin API 9.0",
            "fake_one/plugin.py",
            "pip install --upgrade scorefold-core",
        ),
        (
            "__plugin_api__ = '0.9'",
            "written for plugin API 0.9",
            "fake_one/plugin.py",
            "pip install --upgrade fake-one, or switch it off: SCOREFOLD_PLUGINS=-one",
        ),
        (
            "import numpy\n@hookimpl\ndef scorefold_components():\n    return ()",
            "it imports numpy while registering, which slows every command",
            "fake_one/plugin.py:5",
            "let plugin.py hold strings only, and import numpy where it is used",
        ),
    ],
)
def test_a_fault_says_cause_place_and_what_fixes_it(
    install: Install, capsys: Captured, source: str, what: str, at: str | None, fix: str
) -> None:
    install("fake-one", source)
    (finding,) = examined(capsys, 1)["fake-one"]
    assert finding["fault"]
    assert what in finding["what"]
    assert finding["fix"] == fix
    assert finding["at"] is None if at is None else finding["at"].endswith(at)
    sys.modules.pop("fake_one.plugin", None)  # An import that has been done is not seen again.
    assert main(["plugins", "doctor"]) == 1
    text = capsys.readouterr().out
    assert "fix   one  fake-one 1.0  " in text
    assert f"\n    {fix}\n" in text
    assert text.endswith(": 1 thing to fix\n")


def test_the_line_for_a_name_that_two_claim_fixes_it(install: Install, component: Source, capsys: Captured) -> None:
    install("fake-left", component("flow", "same"))
    install("fake-right", component("flow", "other", extra="aliases=('same',)"))
    found = examined(capsys, 1)
    assert len(found["fake-left"]) == len(found["fake-right"]) == 1
    finding = found["fake-right"][0]
    assert finding["what"].startswith("'flow:same' is claimed by fake-left 1.0 (plugin 'left') and fake-right 1.0")
    line = finding["fix"].partition("under [prefer]: ")[2].partition(";")[0]
    Path("scorefold.toml").write_text(f"[prefer]\n{line}\n")
    found = examined(capsys, 0)
    assert found["fake-left"] == []
    (given_away,) = found["fake-right"]
    assert not given_away["fault"]
    assert given_away["what"].startswith("flow:same went to fake-left")
    assert given_away["fix"] == "write fake-right/flow:other to use this one"


def test_a_kind_that_two_declare(install: Install, capsys: Captured) -> None:
    source = "@hookimpl\ndef scorefold_kinds():\n    yield Kind('toaster', interface='scorefold.interfaces:Encodes')"
    install("fake-left", source)
    install("fake-right", source)
    (finding,) = examined(capsys, 1)["fake-left"]
    assert 'prefer one in scorefold.toml, under [prefer]: "kind:toaster" = "fake-left"' in finding["what"]


def test_what_somebody_chose_is_no_fault(
    install: Install, component: Source, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("fake-off", component("score", "off"))
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "-off")
    (finding,) = examined(capsys, 0)["fake-off"]
    assert finding["what"] == "switched off by SCOREFOLD_PLUGINS"
    assert not finding["fault"]


def test_a_list_that_names_no_plugin_is_to_be_fixed(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "-standart")
    examined(capsys, 1)
    assert main(["plugins", "doctor"]) == 1
    assert "fix   SCOREFOLD_PLUGINS names 'standart', but no installed plugin has this name" in capsys.readouterr().out


def test_code_that_cannot_be_imported_is_found_when_asked(
    install: Install, component: Source, capsys: Captured
) -> None:
    source = component("score", "good", target="fake_one.impl:Thing", config="fake_one.impl:Odd")
    impl = "class Odd:\n    pass\n\nclass Thing:\n    pass\n"
    install("fake-one", source, files={"impl.py": impl})
    install("fake-two", component("score", "gone", target="fake_two.impl:Thing"), files={"impl.py": "1 / 0"})
    only = "--plugins=fake-one,fake-two"
    found = examined(capsys, 0, only)
    assert found["fake-one"] == found["fake-two"] == []
    found = examined(capsys, 1, only, "--load")
    assert "is no scorefold.config.Config" in found["fake-one"][0]["what"]
    (finding,) = found["fake-two"]
    assert "score:gone can't be used: importing fake_two.impl:Thing failed: ZeroDivisionError" in finding["what"]
    assert finding["at"].endswith("fake_two/impl.py:1 in <module>")
    assert finding["fix"] == "pip install --upgrade fake-two, or switch it off: SCOREFOLD_PLUGINS=-two"


def test_everything_that_a_plugin_names_is_imported_when_asked(install: Install, capsys: Captured) -> None:
    source = """
@hookimpl
def scorefold_components():
    yield Component(kind="score", name="one", target="fake_one.impl:Thing", config="fake_one.impl:Settings", summary="",
                    figures="fake_one.impl:no_figures")

@hookimpl
def scorefold_claims():
    yield Claim("claim", statement="", source="", target="fake_one.impl:no_claim")

@hookimpl
def scorefold_commands(register):
    register("greet", "fake_one.impl:no_command", "")

@hookimpl
def scorefold_settings():
    return "fake_one.impl:no_settings"

@hookimpl
def scorefold_kinds():
    verb = Verb("toast", takes=(), gives="metrics", target="fake_one.impl:no_verb", options="fake_one.impl:no_options")
    yield Kind("toaster", interface="fake_one.impl:no_interface", verbs=(verb,))
"""
    impl = "from scorefold.config import Config\n\nclass Settings(Config):\n    pass\n\nclass Thing:\n    pass\n"
    install("fake-one", source, files={"impl.py": impl})
    assert examined(capsys, 0, "--plugins=one")["fake-one"] == []
    found = [finding["what"] for finding in examined(capsys, 1, "--plugins=one", "--load")["fake-one"]]
    label = "(plugin 'one' of fake-one 1.0)"
    assert found == [
        f"{what} can't be used: fake_one.impl has no {missing!r} {label}"
        for what, missing in (
            ("the figures of score:one", "no_figures"),
            ("the claim 'claim'", "no_claim"),
            ("the command 'greet'", "no_command"),
            ("the settings of 'one'", "no_settings"),
            ("the kind 'toaster'", "no_interface"),
            ("the verb 'toast' of 'toaster'", "no_verb"),
            ("the verb 'toast' of 'toaster'", "no_options"),
        )
    ]


def test_plugins_of_one_name_are_shown_how_to_be_named_apart(
    install: Install, component: Source, capsys: Captured
) -> None:
    install("fake-left", component("score", "one"), name="twin")
    install("fake-right", component("score", "two"), name="twin")
    (finding,) = examined(capsys, 0)["fake-left"]
    assert finding["what"] == "fake-right 1.0 has a plugin 'twin' too, so lists that say only that mean both"
    found = examined(capsys, 0, "--plugins=-fake-left/twin")
    assert found["fake-left"][0]["what"] == "switched off by --plugins"


def test_plugins_of_ours_that_are_not_installed_are_named(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib_metadata

    monkeypatch.setattr(importlib_metadata, "distributions", lambda: iter(()))
    assert main(["plugins", "doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    assert {"scorefold-standard", "scorefold-iddiff"} <= {item["distribution"] for item in found["not_installed"]}
    assert main(["plugins", "doctor"]) == 0
    text = capsys.readouterr().out
    assert (
        "none  iddiff  scorefold-iddiff  not installed\n"
        "  Intrinsic dimension of data from a score model; it offers estimator:iddiff, "
    ) in text
    assert "\n    pip install scorefold-iddiff, or in a checkout of Scorefold: pip install ./plugins/iddiff\n" in text


def test_preferences_that_nothing_answers_to_are_to_be_fixed(
    install: Install, component: Source, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("fake-a", component("score", "same"))
    install("fake-b", component("score", "same"))
    Path("scorefold.toml").write_text(
        '[prefer]\n"score:same" = "fake-c"\n"score:sane" = "fake-a"\n[prefers]\n[other-tool]\nplugin = 1\n'
    )
    assert main(["plugins", "doctor"]) == 1
    said = capsys.readouterr().out
    assert "fix   [prefer] gives 'score:same' to 'fake-c', which brings no plugin here; did you mean " in said
    assert "fix   [prefer] gives away 'score:sane', but nothing has this name; did you mean 'score:same'" in said
    assert "scorefold.toml says 'prefers', which is not a setting; did you mean 'prefer'?" in said
    assert "other-tool" not in said
    # Of a plugin that is switched off nobody knows what it would offer.
    Path("scorefold.toml").write_text('[prefer]\n"score:same" = "fake-b"\n')
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "-fake-a,-fake-b")
    assert main(["plugins", "doctor"]) == 0


def test_every_word_that_is_read_in_the_settings_is_known_by_a_misspelling(capsys: Captured) -> None:
    sources = "".join(file.read_text() for file in Path(settings.__file__).parent.parent.rglob("*.py"))
    words = sorted({"plugins", "prefer", "develop", *re.findall(r'\barea\("(\w+)"', sources)})
    assert len(words) == 7
    Path("scorefold.toml").write_text("".join(f"{word[:-1]} = 0\n" for word in words))
    main(["plugins", "list"])
    said = capsys.readouterr().err
    for word in words:
        assert f"says {word[:-1]!r}, which is not a setting; did you mean {word!r}?" in said


def test_a_preference_for_a_kind_is_one(install: Install, capsys: Captured) -> None:
    kind = """
        @hookimpl
        def scorefold_kinds():
            yield Kind("toaster", "scorefold.interfaces:Estimator", (), "toasts")
    """
    install("fake-a", kind)
    install("fake-b", kind)
    Path("scorefold.toml").write_text('[prefer]\n"kind:toaster" = "fake-a"\n')
    assert main(["plugins", "doctor"]) == 0
    assert "[prefer]" not in capsys.readouterr().out


def test_two_files_of_one_name_are_reported_once_with_what_is_wrong(
    install: Install, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of one distribution, so no list can separate them."""
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "same_plugin.py").write_text('__plugin_api__ = "1.0"\n')
    monkeypatch.setenv("SCOREFOLD_DEV_PLUGINS", "one/same_plugin.py,two/same_plugin.py")
    assert main(["plugins", "doctor"]) == 1
    said = capsys.readouterr().out
    assert "same_plugin.py already" in said
    assert "has a plugin" not in said


def test_commands_that_cannot_be_given_are_to_be_fixed(install: Install, capsys: Captured) -> None:
    source = "@hookimpl\ndef scorefold_commands(register):\n    register({!r}, 'fake.impl:go', 'goes')"
    for name, command in {"fake-ours": "run", "fake-a": "same", "fake-b": "same", "fake-own": "own"}.items():
        install(name, source.format(command))
    found = examined(capsys, 1)
    assert found["fake-ours"][0]["what"] == "its command 'run' is one of ours, which stays"
    assert found["fake-a"][0]["what"] == "its command 'same' is one of fake-b too, so neither can be given"
    assert found["fake-b"][0]["fix"] == "deny one of them: --plugins=-b"
    assert found["fake-own"] == []
