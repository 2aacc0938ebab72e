"""Pages that are files of the repository: the changelog, the examples, the benchmarks and how to contribute."""

from __future__ import annotations

import re
from pathlib import Path

from scorefold_site.markdown import fence, page

_COPIES = {
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "paper-runs.md": "examples/papers/README.md",
}

_LANGUAGES = {".yaml": "yaml", ".py": "python"}


def copied_pages(root: Path) -> dict[str, str]:
    """The pages by their path under ``docs/``, with links that hold there."""
    copies = {path: _read(root, source) for path, source in _COPIES.items()}
    return {**copies, "examples.md": _examples(root)}


def _read(root: Path, source: str) -> str:
    return re.sub(r"\]\((\.\./)?docs/", "](", (root / source).read_text(encoding="utf-8"))


def _examples(root: Path) -> str:
    """The table of examples, then every one of them whole."""
    files = [file for suffix in _LANGUAGES for file in sorted((root / "examples").glob(f"*{suffix}"))]
    shown = [
        part
        for file in files
        for part in (f"## {file.name}", fence(file.read_text(encoding="utf-8"), _LANGUAGES[file.suffix]))
    ]
    table = _read(root, "examples/README.md").replace("](papers/README.md)", "](paper-runs.md)")
    return page(table, *shown)
