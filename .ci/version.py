"""Prints the version of Scorefold, or writes a new one everywhere: python .ci/version.py [0.2.0]

The one source is ``core/src/scorefold/__init__.py``; a test compares with it every member, CITATION.cff,
the conda recipe, and the versions that members require of each other.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "core/src/scorefold/__init__.py"
LINES = {
    "__init__.py": r'^__version__ = "(.*)"$',
    "pyproject.toml": r'^version = "(.*)"$',
    "CITATION.cff": r"^version: (.*)$",
    "recipe.yaml": r'^  version: "(.*)"$',
}


def files() -> list[Path]:
    """The files that say the version, the source first."""
    patterns = ("pyproject.toml", "*/pyproject.toml", "plugins/*/pyproject.toml", "CITATION.cff", "conda/recipe.yaml")
    return [SOURCE, *(file for pattern in patterns for file in sorted(ROOT.glob(pattern)))]


def said(file: Path) -> str:
    """The version that a file says. Raises ``ValueError`` for one that says none."""
    found = re.search(LINES[file.name], file.read_text(), re.M)
    if found is None:
        raise ValueError(f"{file} says no version; expected a line {LINES[file.name]}")
    return found[1]


def siblings(file: Path) -> list[str]:
    """The versions that a file requires of other members, such as 0.1.0 in ``scorefold-core~=0.1.0``."""
    return re.findall(r'"scorefold-[a-z]+(?:\[[a-z,]+\])?~=([^"]+)"', file.read_text())


def write(version: str) -> None:
    """Write a version into every file that says one."""
    for file in files():
        text, old = file.read_text(), said(file)
        line = re.search(LINES[file.name], text, re.M)
        assert line is not None
        text = text[: line.start()] + line[0].replace(old, version) + text[line.end() :]
        file.write_text(text.replace(f'~={old}"', f'~={version}"'))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", sys.argv[1]):
            sys.exit(f"{sys.argv[1]!r} is no version; expected one such as 0.2.0 or 0.2.0rc1")
        write(sys.argv[1])
    print(said(SOURCE))
