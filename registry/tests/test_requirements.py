"""What a plugin's distribution requires is held against what is installed before any of its code runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import importlib_metadata
import pytest

from scorefold_registry.cli.main import main
from scorefold_registry.plugins import loading
from scorefold_registry.plugins.discovery import discover
from scorefold_registry.plugins.loading import Unmet, unmet, unmet_contract, versions_of_ours
from scorefold_registry.run import keys

Install = Callable[..., Path]
Source = Callable[..., str]

HAVE = importlib_metadata.version("scorefold-core")
NUMPY = importlib_metadata.version("numpy")


@pytest.mark.parametrize(
    "requires",
    [
        [],
        ["scorefold-core"],
        ["Scorefold.Core"],
        ["scorefold-core >=0.0.1, <99"],
        ["scorefold-core[test]>=0.0.1"],
        [f"scorefold-core=={HAVE}"],
        ["scorefold-core>=99; extra == 'future'"],
        ["scorefold-core>=99; python_version < '3'"],
        ["scorefold-core-extras>=99", "other>=99"],
        ["scorefold-core @ file:///somewhere"],
    ],
)
def test_what_is_met(requires: list[str]) -> None:
    assert unmet_contract("fake-one", requires, versions_of_ours()) is None


@pytest.mark.parametrize(
    ("requirement", "fix"),
    [
        ("scorefold-core>=99", 'pip install "scorefold-core>=99"'),
        ("scorefold-core[test]~=99.1", 'pip install "scorefold-core[test]~=99.1"'),
        ("scorefold-core==99.*", 'pip install "scorefold-core==99.*"'),
        (f"scorefold-core!={HAVE}", f'pip install "scorefold-core!={HAVE}"'),
        ("scorefold-core<0.0.1", "pip install --upgrade fake-one"),
        ("scorefold-core==0.0.1", "pip install --upgrade fake-one"),
        ("scorefold-core==0.0.*", "pip install --upgrade fake-one"),
        ("scorefold-core~=0.0.1", "pip install --upgrade fake-one"),
    ],
)
def test_what_is_not_met_says_what_has_to_move(requirement: str, fix: str) -> None:
    found = unmet_contract("fake-one", ["torch>=2", requirement], versions_of_ours())
    what = f"it requires {requirement}; installed is scorefold-core {HAVE}"
    assert found == Unmet(what, fix)


def test_a_requirement_that_no_one_can_read() -> None:
    found = unmet_contract("fake-one", ["scorefold-core >>> 1"], versions_of_ours())
    assert found is not None
    assert found.what == "its metadata requires 'scorefold-core >>> 1', which can't be read"


def test_other_requirements_are_missing_or_of_another_version() -> None:
    requires = ["numpy>=1", "scorefold-core>=99", "numpy>=99", "no-such-thing>1", "numpy<1", "more; extra == 'x'"]
    assert list(unmet("fake-one", requires)) == [
        Unmet(f"it requires numpy>=99; installed is numpy {NUMPY}", 'pip install "numpy>=99"'),
        Unmet("it requires no-such-thing>1, which is not installed", 'pip install "no-such-thing>1"'),
        Unmet(f"it requires numpy<1; installed is numpy {NUMPY}", "pip install --upgrade fake-one"),
    ]


def test_a_package_of_ours_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "OURS", ("scorefold-absent",))
    (found,) = unmet("fake-one", ["scorefold-absent"])
    assert found == Unmet("it requires scorefold-absent, which is not installed", 'pip install "scorefold-absent"')


def test_packages_that_require_one_another_are_each_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"mine": ["Scorefold_One"], "scorefold-one": ["scorefold-two", "numpy"], "scorefold-two": ["scorefold-one"]}
    monkeypatch.setattr(keys, "libraries", lambda name: dict.fromkeys(needs[name], "1"))
    assert keys.own_packages.__wrapped__("mine") == {"scorefold_one", "scorefold_two"}


@pytest.mark.parametrize("arguments", [[], ["--no-import"]])
def test_a_plugin_for_another_core_is_incompatible_and_none_of_its_code_runs(
    install: Install, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    install("fake-stale", "raise SystemExit('imported')", requires=["scorefold-core<0.0.1"])
    assert main(["plugins", "list", *arguments]) == 0
    assert (
        f"stale  fake-stale 1.0  incompatible\n  cause: it requires scorefold-core<0.0.1; installed is scorefold-core "
        f"{HAVE}\n  fix: pip install --upgrade fake-stale\n"
    ) in capsys.readouterr().out


def test_a_list_goes_before_the_check(install: Install) -> None:
    install("fake-stale", "", requires=["scorefold-core<0.0.1"])
    found = discover(deny=["stale"])
    assert next(item.state for item in found.plugins if item.name == "stale") == "disabled"


def test_the_doctor_names_requirements_of_plugins_that_work(
    install: Install, component: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    install("fake-one", component("score", "one"), requires=["scorefold-core", "numpy>=99"])
    install("fake-off", component("score", "off"), requires=["numpy>=99"])
    assert main(["--plugins=-off", "plugins", "doctor", "--json"]) == 1
    plugins = {item["name"]: item for item in json.loads(capsys.readouterr().out)["plugins"]}
    assert plugins["one"]["state"] == "registered"
    (finding,) = plugins["one"]["findings"]
    assert finding == {
        "fault": True,
        "what": f"it requires numpy>=99; installed is numpy {NUMPY}",
        "at": None,
        "fix": 'pip install "numpy>=99"',
    }
    assert not any(finding["fault"] for finding in plugins["off"]["findings"])


def test_the_doctor_says_how_to_isolate_what_contradicts_another(
    install: Install, component: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    install("fake-one", component("score", "one"), requires=["numpy<1"])
    install("fake-two", component("score", "two"), requires=["numpy>=1.20"])
    assert main(["plugins", "doctor", "--json"]) == 1
    plugins = {item["name"]: item for item in json.loads(capsys.readouterr().out)["plugins"]}
    (finding,) = plugins["one"]["findings"]
    assert "both can't be met here, since" in finding["what"]
    assert "fake-two (numpy>=1.20)" in finding["what"]
    assert finding["fix"] == "isolate it: scorefold plugins add fake-one --isolated"


@pytest.mark.parametrize(
    ("requirement", "imported"),
    [("scorefold-core", False), (f"scorefold-core~={HAVE}", False), ("scorefold-core>=0.0.1", True)],
)
def test_packaging_is_imported_only_where_another_version_is_required(
    install: Install, requirement: str, imported: bool
) -> None:
    folder = install("fake-one", "", requires=[requirement, "torch>=2.4"])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from scorefold_registry.plugins.discovery import discover\n"
        "print([item.state for item in discover().plugins if item.name == 'one'], 'packaging' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.parent)], capture_output=True, text=True, check=True)
    assert done.stdout == f"['registered'] {imported}\n"
