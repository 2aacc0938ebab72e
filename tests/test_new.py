"""Plugins from ``scorefold new``: installed, they stand beside ours as they are; uninstalled, they leave no trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from wheel_building import build_wheels

from scorefold.plugin import CORE_KINDS
from scorefold_registry.cli.main import main

KINDS = [*(kind.name for kind in CORE_KINDS), "metric", "verb"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A new plugin of each kind, ``my-KIND``, by its name."""
    base = tmp_path_factory.mktemp("new")
    made = {f"my-{kind}": base / f"scorefold-my-{kind}" for kind in KINDS}
    for kind, (name, folder) in zip(KINDS, made.items(), strict=True):
        assert main(["new", name, "--kind", kind, "--out", str(folder), "--json"]) == 0
    return made


@pytest.fixture(scope="module")
def built(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What is installed of them: the folder of the first, which pip builds itself, and wheels of the others."""
    first, *others = folders.values()
    return [first, *build_wheels(tmp_path_factory.mktemp("built") / "wheels", others)]


def listed(environment: Any) -> Any:
    return json.loads(environment.scorefold("plugins", "list", "--json"))


def test_new_plugins_stand_beside_ours_and_leave_no_trace(
    environment: Any, folders: dict[str, Path], built: list[Path]
) -> None:
    files, plugins = environment.contents(), listed(environment)
    environment.install(*built)

    doctor = json.loads(environment.scorefold("plugins", "doctor", "--load", "--json"))
    findings = {item["name"]: item["findings"] for item in doctor["plugins"]}
    assert {name: findings[name] for name in folders} == {name: [] for name in folders}

    checked = environment.commands(*(("plugins", "check", f"scorefold-{name}", "--json") for name in folders))
    for kind, name, (status, printed) in zip(KINDS, folders, checked, strict=True):
        checks = json.loads(printed)["checks"]
        assert status == 0, [item for item in checks if item["result"] == "failed"]
        (floor,) = [item for item in checks if item["check"] == "floor"]
        assert (floor["component"], floor["result"]) == (f"{kind}:{name}", "passed")

    validate = [("validate", folder / "run.yaml") for folder in folders.values()]
    (_, schema), *validated = environment.commands(("schema", "--json"), *validate)
    assert [kind for kind in KINDS[:-1] if f"{kind}:my-{kind}" not in schema] == []
    assert '"my-verb"' in schema
    assert [status for status, _ in validated] == [0] * len(folders)

    environment.pip("uninstall", "--yes", *(f"scorefold-{name}" for name in folders))
    assert environment.contents() == files
    assert listed(environment) == plugins
    environment.scorefold("validate", folders["my-score"] / "run.yaml", status=1)


def test_new_plugins_pass_their_own_tests(environment: Any, folders: dict[str, Path], built: list[Path]) -> None:
    """All in one process, by the settings that each comes with, which are the same."""
    environment.install(*built)
    settings = folders["my-data"] / "pyproject.toml"
    own = [folder / "tests" for folder in folders.values()]
    printed = environment.call("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", settings, *own)
    passed = int(printed.strip().splitlines()[-1].split()[0])
    # Each has one test of conformance, one of its run file, and one or more of its own.
    assert passed >= 3 * len(folders)


def test_mypy_is_content_with_new_plugins(folders: dict[str, Path], tmp_path: Path) -> None:
    """In one run, because most of its time goes into torch; so the file that all have alike is checked once."""
    settings = folders["my-data"] / "pyproject.toml"
    sources = [path for folder in folders.values() for path in (folder / "src", *folder.glob("tests/test_my_*.py"))]
    command = [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", tmp_path / "cache"]
    outcome = subprocess.run(
        [*command, *sources, folders["my-score"] / "tests" / "test_conformance.py"], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
