"""How the page gets into the package: with npm from a checkout, and without it from what is built."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent.parent
BUILT = PLUGIN / "src/scorefold_explore/page/built"
SDIST = "import sys; from hatchling.build import build_sdist; print(build_sdist(sys.argv[1]))"
EDITABLE = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
WHEEL = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def without_node(command: list[str | Path], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command that finds no npm, with some environment variables."""
    environment = {**os.environ, "PATH": str(cwd / "no-programs"), **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def copied(folder: Path) -> Path:
    """The plugin as a fresh checkout has it."""
    ignored = shutil.ignore_patterns("node_modules", "built", "tests", "__pycache__")
    copy = Path(shutil.copytree(PLUGIN, folder / "plugin", ignore=ignored))
    for file in (copy, *copy.rglob("*")):
        file.chmod(file.stat().st_mode | stat.S_IWUSR)  # the checkout may be read-only
    return copy


def test_without_node_the_build_says_so_in_one_line(tmp_path: Path) -> None:
    done = without_node([sys.executable, "hatch_build.py"], copied(tmp_path))
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("scorefold-explore needs Node 20 or later with npm")
    assert "apt install npm" in line


@pytest.mark.parametrize(("build", "made"), [(EDITABLE, True), (WHEEL, False)])
def test_only_a_linked_plugin_may_lack_its_page(tmp_path: Path, build: str, made: bool) -> None:
    command = [sys.executable, "-c", build, tmp_path]
    done = without_node(command, copied(tmp_path), SCOREFOLD_EXPLORE_PAGE="none")
    assert (done.returncode == 0) == made, done.stderr
    assert bool([*tmp_path.glob("*.whl")]) == made


def test_a_source_archive_holds_the_page_and_builds_a_wheel_without_node(tmp_path: Path) -> None:
    if not (BUILT / "explore.js").is_file():
        pytest.skip("the page is not built: it needs npm")
    made = subprocess.run(
        [sys.executable, "-c", SDIST, tmp_path], cwd=PLUGIN, capture_output=True, text=True, check=True
    )
    with tarfile.open(tmp_path / made.stdout.strip()) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path, filter="data")
    assert not [name for name in names if "node_modules" in name]
    folder = tmp_path / names[0].split("/")[0]
    done = without_node([sys.executable, "-c", WHEEL, tmp_path], folder)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.strip()) as wheel:
        held = wheel.namelist()
        page = wheel.read("scorefold_explore/page/built/explore.js").decode()
        licences = wheel.read("scorefold_explore/page/built/licences.txt").decode()
    assert "scorefold_explore/page/index.html" in held
    assert "twgl.js 7" in licences
    assert "Permission is hereby granted" in licences
    assert "new Function" not in page
    assert "eval(" not in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_the_lock_of_npm_names_no_registry() -> None:
    assert "resolved" not in (PLUGIN / "package-lock.json").read_text()
