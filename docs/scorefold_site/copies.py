"""Pages that are files of the repository: the changelog, the examples and how to contribute."""

from __future__ import annotations

import re
from pathlib import Path

from scorefold_site.markdown import fence, page

_COPIES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def copied_pages(root: Path) -> dict[str, str]:
    """The pages by their path under ``docs/``, with links that hold there."""
    copies = {path: _read(root, source) for path, source in _COPIES.items()}
    return {**copies, "examples.md": _examples(root)}


def _read(root: Path, source: str) -> str:
    return re.sub(r"\]\(docs/", "](", (root / source).read_text(encoding="utf-8"))


def _examples(root: Path) -> str:
    """The table of examples, then every one of them whole."""
    files = sorted((root / "examples").glob("*.yaml"))
    shown = [part for file in files for part in (f"## {file.name}", fence(file.read_text(encoding="utf-8"), "yaml"))]
    return page(_read(root, "examples/README.md"), *shown)
