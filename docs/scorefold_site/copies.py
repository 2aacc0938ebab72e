"""Pages that are files of the repository: the changelog, the examples, the benchmarks and how to contribute."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scorefold_site.gallery import UNTRAINED
from scorefold_site.markdown import fence, page, prose

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
    """The gallery in the place of the table of examples, then every one of them whole."""
    files = [file for suffix in _LANGUAGES for file in sorted((root / "examples").glob(f"*{suffix}"))]
    shown = [
        part
        for file in files
        for part in (f"## {file.name}", fence(file.read_text(encoding="utf-8"), _LANGUAGES[file.suffix]))
    ]
    listed = _read(root, "examples/README.md").replace("](papers/README.md)", "](paper-runs.md)")
    before, table, after = re.split(r"((?:^\|.*\n)+)", listed, maxsplit=1, flags=re.MULTILINE)
    return page(before, fence(_gallery(root, table), "{container} gallery"), after, *shown)


def _gallery(root: Path, table: str) -> str:
    """A card for each row of the table of examples: the figure and the answer of its run, and what it asks."""
    made = json.loads((root / "docs/figures/gallery/cards.json").read_text(encoding="utf-8"))
    questions = re.findall(r"^\| `(.+?)\.yaml` \| (.+?) \| .+? \|$", table, flags=re.MULTILINE)
    return "\n\n".join(_card(name, question, made[name]) for name, question in questions)


def _card(name: str, question: str, card: dict[str, Any]) -> str:
    answers = [prose(re.sub(r"^[\w:-]+: ", "", line)) for line in card["answer"]]
    shown = f"[![{question}](figures/gallery/{name}.png)](figures/gallery/{name}.png)"
    if name in UNTRAINED:
        shown, answers = "", ["It reads a pipeline of yours, so there is no answer to show."]
    time = f"{card['cpu']} CPU seconds" if card["cpu"] < 120 else f"{card['cpu'] / 60:.0f} CPU minutes"
    text = page(
        shown,
        f"**{question}**",
        *answers[:2],
        f"[{name}.yaml](#{name}yaml), {time}",
    )
    return fence(text, "{container} card")
