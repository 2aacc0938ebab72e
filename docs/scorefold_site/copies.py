"""Pages that are files of the repository: the changelog, the examples, the benchmarks and how to contribute."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scorefold_registry.run.verdicts import first_sentence
from scorefold_site.markdown import fence, page, prose

_COPIES = {
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "paper-runs.md": "examples/papers/README.md",
}

_TABLE = r"((?:^\|.*\n)+)"
_LANGUAGES = {".yaml": "yaml", ".py": "python"}


def copied_pages(root: Path) -> dict[str, str]:
    """The pages by their path under ``docs/``, with links that hold there."""
    copies = {path: _read(root, source) for path, source in _COPIES.items()}
    return {**copies, "examples.md": _examples(root), **_example_pages(root)}


def _read(root: Path, source: str) -> str:
    return re.sub(r"\]\((\.\./)?docs/", "](", (root / source).read_text(encoding="utf-8"))


def _examples(root: Path) -> str:
    """The gallery in the place of the table of examples."""
    text = _read(root, "examples/README.md").replace("](papers/README.md)", "](paper-runs.md)")
    before, table, after = re.split(_TABLE, text, maxsplit=1, flags=re.MULTILINE)
    cards, asked = _cards(root), _questions(table)
    listed = "\n".join(
        f"- [{name}](examples/{Path(name).stem}.md): {asked[name]}" for name in asked if name not in cards
    )
    shown = "\n\n".join(_card(Path(name).stem, asked[name], cards[name]) for name in asked if name in cards)
    return page(before, fence(shown, "{container} gallery"), "More files to run:", listed, after)


def _example_pages(root: Path) -> dict[str, str]:
    """A page for each example: its question, the figure and the answers of its run, and the whole file."""
    table = re.split(_TABLE, _read(root, "examples/README.md"), maxsplit=1, flags=re.MULTILINE)[1]
    cards, pages = _cards(root), {}
    for name, question in _questions(table).items():
        file = root / "examples" / name
        title, _, rest = question.partition("? ")
        parts = [f"# {title}?" if rest else f"# {title}", rest]
        if name in cards:
            parts += [f"![{question}](../figures/gallery/{file.stem}.png)", *map(prose, cards[name]["answer"])]
        if file.suffix == ".yaml":
            parts.append(fence(f"$ scorefold run examples/{name}", "console"))
        code = fence(file.read_text(encoding="utf-8"), _LANGUAGES[file.suffix])
        pages[f"examples/{file.stem}.md"] = page(*filter(None, parts), code)
    return pages


def _questions(table: str) -> dict[str, str]:
    """The questions of examples by the names of their files."""
    return dict(re.findall(r"^\| `(.+?\.(?:yaml|py))` \| (.+?) \| .+? \|$", table, flags=re.MULTILINE))


def _cards(root: Path) -> dict[str, Any]:
    """The cards of the gallery by the names of their files."""
    made = json.loads((root / "docs/figures/gallery/cards.json").read_text(encoding="utf-8"))
    return {f"{name}.yaml": card for name, card in made.items()}


def _card(name: str, question: str, card: dict[str, Any]) -> str:
    # The first sentence: the page of the example has the others.
    answers = [
        prose(first_sentence(re.sub(r"^[\w:-]+: ", "", line))[0].removesuffix(".") + ".") for line in card["answer"]
    ]
    shown = f"[![{question}](figures/gallery/{name}.png)](figures/gallery/{name}.png)"
    time = f"{card['cpu']} CPU seconds" if card["cpu"] < 120 else f"{card['cpu'] / 60:.0f} CPU minutes"
    text = page(
        shown,
        f"**{question}**",
        *answers[:2],
        f"[{name}.yaml](examples/{name}.md), {time}",
    )
    return fence(text, "{container} card")
