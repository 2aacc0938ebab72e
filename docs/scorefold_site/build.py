"""Builds the site: writes all pages into a folder and has Sphinx make HTML of them.

``python -m scorefold_site.build OUT [--published]``, with ``docs`` on the path. Any warning of Sphinx is an error.
A site to be published stands in a folder of its version, and each page of it links to the list of all.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scorefold_site import pages, theory, versions
from scorefold_site.components import linked_components
from scorefold_site.copies import copied_pages
from scorefold_site.inventory import inventory
from scorefold_site.links import on_site
from scorefold_site.markdown import fence
from scorefold_site.navigation import BELOW, NAVIGATION, UNSEARCHED
from scorefold_site.notebooks import notebook_pages

ROOT = Path(__file__).resolve().parents[2]


def build(out: Path, *, published: bool = False) -> int:
    """Writes the site into ``out``, which is emptied first; the status of Sphinx."""
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "docs"
        write_pages(source)
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            "-j",
            "auto",
            "-b",
            "html",
            "-d",
            f"{folder}/doctrees",
            *(["-A", f"versions=../{versions.PAGE}"] if published else []),
        ]
        status = subprocess.run([*command, str(source), str(out)], check=False).returncode
    for left in ("objects.inv", ".buildinfo"):
        (out / left).unlink(missing_ok=True)
    for page in (out / "_modules").rglob("*.html"):
        # From the source back to the last page that showed it, which need not be the one with its entry.
        page.write_text(re.sub(r'<a class="viewcode-back" [^>]*>.*?</a>', "", page.read_text(encoding="utf-8")))
    return status


def write_pages(folder: Path) -> None:
    """Every page, written and generated, with what it shows, and the settings of Sphinx."""
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("scorefold_site", "__pycache__", "*.pyc"))
    files = {**pages(ROOT), **copied_pages(ROOT), **notebook_pages(ROOT), **theory.function_page(ROOT)}
    for path, content in files.items():
        # What is no page, such as a notebook, is downloaded; a figure stands beside its page.
        place = folder / ("downloads/" + path if path.endswith(".ipynb") else path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    ids = {item.id for item in inventory(ROOT).components}
    for page in folder.glob("*.md"):
        page.write_text(linked_components(page.read_text(encoding="utf-8"), ids), encoding="utf-8")
    for page in folder.rglob("*.md"):
        text = captioned(on_site(page.read_text(encoding="utf-8"), page.relative_to(folder).as_posix()))
        page.write_text(theory.linked(text) if page.parent.name == "theory" else text, encoding="utf-8")
    for name in UNSEARCHED:
        file = folder / f"{name}.md"
        file.write_text(f"---\nnosearch: true\n---\n\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    for name, entries in BELOW.items():
        file = folder / f"{name}.md"
        listed = [f"{title} <{path}>" for path, title in entries.items()]
        file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{_listed('hidden', listed)}\n", encoding="utf-8")
    start = folder / "index.md"
    start.write_text(start.read_text(encoding="utf-8") + "".join(_toctrees(folder)), encoding="utf-8")
    (folder / "downloads").mkdir(exist_ok=True)
    (folder / "downloads" / "llms.txt").write_text(_contents(folder), encoding="utf-8")


def _contents(folder: Path) -> str:
    """The pages by group with the first sentence of each, for programs that read the site (llms.txt)."""
    lines = ["# Scorefold", "", "> " + first_sentence(folder / "index.md")]
    for group, entries in NAVIGATION.items():
        lines += ["", f"## {group}", ""]
        pages = {**entries, **{below: title for name in entries for below, title in BELOW.get(name, {}).items()}}
        for path, title in pages.items():
            place = path.replace("/*", "/index")
            said = first_sentence(folder / f"{place}.md")
            lines.append(f"- [{title}]({place}.html)" + (f": {said}" if said else ""))
    return "\n".join(lines) + "\n"


def first_sentence(page: Path) -> str:
    """The first sentence of a page that is no title, table or block, without its links."""
    text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for part in re.split(r"\n\s*\n", text):
        if re.match(r"[A-Z\[]|`(?!`)", part):
            plain = re.sub(r"\[(.+?)\]\([^)]*\)", r"\1", " ".join(part.split()))
            return re.split(r"(?<=[.?!:]) ", plain)[0].rstrip(":")
    return ""


def captioned(text: str) -> str:
    """Markdown in which the titles of blocks (``yaml title="mine.yaml"``) are captions of Sphinx."""
    return re.sub(r'^```(\w+) title="([^"]+)"$', r"```{code-block} \1\n:caption: \2", text, flags=re.MULTILINE)


def _toctrees(folder: Path) -> list[str]:
    return [_toctree(folder, group, entries) for group, entries in NAVIGATION.items()]


def _toctree(folder: Path, group: str, entries: dict[str, str]) -> str:
    lines = []
    for path, title in entries.items():
        if not path.endswith("/*"):
            lines.append(f"{title} <{path}>")
            continue
        inside = path.removesuffix("/*")
        index = folder / inside / "index.md"
        empty = not index.exists()
        text = f"# {title}\n" if empty else index.read_text(encoding="utf-8")
        listed = sorted(str(page.relative_to(index.parent)) for page in index.parent.rglob("*.md") if page != index)
        # A page of its own names those below it; one that is only a title lists them.
        tree = _listed("maxdepth: 1" if empty else "hidden", [name.removesuffix(".md") for name in listed])
        index.write_text(f"{text}\n\n{tree}\n", encoding="utf-8")
        lines.append(f"{title} <{inside}/index>")
    return "\n\n" + _listed(f"hidden:\n:caption: {group}", lines) + "\n"


def _listed(option: str, lines: Sequence[str]) -> str:
    option = option if ":" in option else f"{option}:"
    return fence(f":{option}\n\n" + "\n".join(lines), "{toctree}")


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]), published="--published" in sys.argv[2:]))
