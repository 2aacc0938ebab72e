"""Wheels built as ``make dist`` builds them, all in one process, since most of the time goes into starting one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

BUILD = """
import os, sys
from hatchling.build import build_wheel

out, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    build_wheel(out)
"""
"""For ``python -c``, with the folders of the wheels and of the distributions."""


def members() -> list[Path]:
    """The folders of the workspace that ``make dist`` builds."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    return [path.parent for pattern in workspace["members"] for path in sorted(ROOT.glob(f"{pattern}/pyproject.toml"))]


def buildable(folders: Iterable[Path]) -> list[Path]:
    """Those that can be built here: all, but for a page that npm has to bundle first where there is none."""

    def bundled(folder: Path) -> bool:
        return shutil.which("npm") is not None or any(folder.glob("src/*/page/built/*.js"))

    return [folder for folder in folders if not (folder / "package.json").exists() or bundled(folder)]


def build_wheels(out: Path, folders: Iterable[Path]) -> list[Path]:
    """The wheels of distributions, built without isolation into a new folder."""
    out.mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD, out, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(out.iterdir())
