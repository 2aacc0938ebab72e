"""Pages that are files of the repository: the changelog, the examples, the benchmarks and how to contribute."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorefold_site.gallery import NO_CARD
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
    text = _read(root, "examples/README.md").replace("](papers/README.md)", "](paper-runs.md)")
    before, table, after = re.split(r"((?:^\|.*\n)+)", text, maxsplit=1, flags=re.MULTILINE)
    questions = dict(re.findall(r"^\| `(.+?)\.yaml` \| (.+?) \| .+? \|$", table, flags=re.MULTILINE))
    listed = "\n".join(f"- [{name}.yaml](#{name}yaml): {questions[name]}" for name in NO_CARD)
    gallery = fence(_gallery(root, questions), "{container} gallery")
    return page(before, gallery, "More run files:", listed, after, *shown)


def _gallery(root: Path, questions: Mapping[str, str]) -> str:
    """Cards with the figure of a run, its question and its answer."""
    made = json.loads((root / "docs/figures/gallery/cards.json").read_text(encoding="utf-8"))
    return "\n\n".join(_card(name, asked, made[name]) for name, asked in questions.items() if name not in NO_CARD)


def _card(name: str, question: str, card: dict[str, Any]) -> str:
    answers = [prose(re.sub(r"^[\w:-]+: ", "", line)) for line in card["answer"]]
    shown = f"[![{question}](figures/gallery/{name}.png)](figures/gallery/{name}.png)"
    time = f"{card['cpu']} CPU seconds" if card["cpu"] < 120 else f"{card['cpu'] / 60:.0f} CPU minutes"
    text = page(
        shown,
        f"**{question}**",
        *answers[:2],
        f"[{name}.yaml](#{name}yaml), {time}",
    )
    return fence(text, "{container} card")
