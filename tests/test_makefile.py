"""The rules of the Makefile that set up environments: what is built, and that nothing is installed twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from wheel_building import members

ROOT = Path(__file__).parent.parent
STAMPS = ("tools", "linked", "linked-optional", "linked-page", "installed")
EXTRAS = ("test", "lint", "bench", "docs", "bridges")
TARGETS = ("install", "demo", "test", "heavy", "quick", "coverage", "lint", "docs", "bench", "gpu")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def listed(name: str) -> list[str]:
    """The folders in a variable of the Makefile."""
    found = re.findall(rf"^{name} := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(found) == 1
    return str(found[0]).split()


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment in which, as its stamps say, everything is installed."""
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", *STAMPS, *(f"installed-{extra}" for extra in EXTRAS)):
        (tmp_path / name).touch()
    return tmp_path


def commands(venv: Path, *arguments: str, programs: str | None = None) -> str:
    """The commands that make would run, where it finds the programs of a folder alone if one is given."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", f"VENV={venv}", "UV=", *arguments],
        cwd=ROOT,
        env=os.environ if programs is None else {**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_member_is_in_one_list() -> None:
    named = [folder for name in ("DEFAULT", "OPTIONAL", "PAGED") for folder in listed(name)]
    assert sorted(named) == sorted(str(folder.relative_to(ROOT)) for folder in members())


def test_a_second_target_installs_nothing_again(venv: Path) -> None:
    assert "-m pip" not in commands(venv, *TARGETS)


def test_only_a_member_with_a_changed_manifest_is_linked_again(venv: Path) -> None:
    printed = commands(venv, "-W", "core/pyproject.toml", "lint")
    assert re.findall(r"-e (\S+)", printed) == ["./core/"]
    # Requirements are given by name: a path would have pip build the member again, and remove its files meanwhile.
    assert re.findall(r"pip install .* ('?scorefold\S*)$", printed, re.MULTILINE) == ["scorefold", "'scorefold[lint]'"]


def test_a_new_environment_builds_each_member_once(tmp_path: Path) -> None:
    printed = commands(tmp_path, "demo", "lint", "test", "docs", "bench")
    linked = re.findall(r"-e (\S+)", printed)
    assert len(linked) == len(set(linked))
    assert {"./"} | {f"./{folder}/" for name in ("DEFAULT", "OPTIONAL") for folder in listed(name)} <= set(linked)
    assert all("--no-build-isolation" in line for line in printed.splitlines() if "-e ./" in line)


def test_without_npm_the_bridge_to_umap_is_tested_all_the_same(tmp_path: Path) -> None:
    for name in ("make", "sh"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    printed = commands(tmp_path, "--always-make", "bridges", programs=str(tmp_path))
    assert "-e ./plugins/explore/" in printed
    assert "'scorefold-explore[umap]'" in printed
    assert "explore" not in commands(tmp_path, "test", programs=str(tmp_path))


def test_with_uv_the_variables_of_pip_are_passed_on(tmp_path: Path) -> None:
    given = ("PIP_EXTRA_INDEX_URL=https://one.example https://two.example", "PIP_CONSTRAINT=lowest.txt")
    printed = commands(tmp_path, "UV=uv", *given, "demo")
    (line,) = (line for line in printed.splitlines() if line.endswith(" scorefold"))
    assert line.startswith("uv pip install ")
    assert "--extra-index-url https://one.example --extra-index-url https://two.example" in line
    assert "--constraint lowest.txt" in line


def test_continuous_integration_runs_in_a_checkout_of_another_user(tmp_path: Path) -> None:
    for name, line in {"make": 'echo make "$@"', "dpkg": "echo Status: install ok installed"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    # Git's own tests have it take every folder for another user's by this variable.
    found = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    done = subprocess.run([ROOT / ".ci/run"], env={**os.environ, **found}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = re.sub(r"=[0-9a-f]{40}$", "=HASH", done.stdout, flags=re.MULTILINE).splitlines()
    assert made == ["make lint", "make portable COMMIT=HASH", "make heavy", "make bridges"]
