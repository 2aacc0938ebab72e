"""Templates from which a plugin starts: a whole package that installs and passes its own tests as generated."""

from __future__ import annotations

import re
from pathlib import Path

TEMPLATES = Path(__file__).parent

LONGEST = 30
"""The most characters of a name: lines with the names of classes and modules in them stay within their width."""


def kinds() -> list[str]:
    """The kinds of component that there is a template for, and ``verb``."""
    return sorted(path.name for path in (TEMPLATES / "kinds").iterdir() if path.is_dir())


def render(kind: str, name: str, destination: Path, *, isolated: bool = False) -> Path:
    """Write a plugin called ``scorefold-<name>`` with one component ``<kind>:<name>`` into a new folder.

    The README of an ``isolated`` plugin says how it is installed into an environment of its own. Returns the folder.
    Raises ``ValueError`` for a kind without a template, and for a name that is not lower-case words joined by '-', at
    most 30 characters in all. The name ``conformance`` raises it too, since every plugin has a test of this name.
    Raises ``FileExistsError`` where the folder is not empty.
    """
    from copier import run_copy

    if kind not in kinds():
        raise ValueError(f"there is no template for kind {kind!r}; there is one for: {', '.join(kinds())}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > LONGEST:
        raise ValueError(
            f"a plugin is called {name!r}; expected lower-case words joined by '-', such as 'my-method', "
            f"at most {LONGEST} characters in all"
        )
    if name == "conformance":
        raise ValueError(
            "a plugin is called 'conformance', and so is the test that every plugin has; choose another name"
        )
    if destination.exists() and any(destination.iterdir()):
        raise FileExistsError(f"{destination} is not empty")
    answers = {"kind": kind, "name": name, "isolated": isolated}
    run_copy(str(TEMPLATES), destination, data=answers, defaults=True, quiet=True)
    return destination
