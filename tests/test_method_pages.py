"""The pages of the methods have one form: idea, picture, formula, run file, when, limits, paper, evidence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorefold_site.formulas import drawn
from scorefold_site.sessions import blocks

ROOT = Path(__file__).parent.parent
PAPERS = {
    "reading-dimensions": "iddiff",
    "pullback": "pullback",
    "multiscale": "nonuniform",
    "conditional": "conditional",
    "scorevae": "scorevae",
    "caflow": "caflow",
    "allocation": "allocation",
    "score-geodesics": "scoregeometry",
}
"""Pages of methods, by the plugin whose citation has the paper."""
FIRST = ["The formula", "A run file", "When to use it", "Limits", "Paper"]
"""The headings that come first, in order; ``Evidence`` is the last one."""
LAB_NOTES = r"\bcommit [0-9a-f]{7,}|\bCPU s(?:econds)?\b|\bseeds? \d"


def parts(name: str) -> dict[str, str]:
    """The sections of a page by heading, in order; what stands before the first heading is ``idea``."""
    text = re.sub(r"^```.*?^```$", lambda block: block[0].replace("\n## ", "\n##_"), _page(name), flags=re.M | re.S)
    head, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    return {"idea": head} | dict(part.split("\n", 1) for part in rest)


def _page(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


def lab_notes(text: str) -> list[str]:
    """The notes of a measurement that a text has, which belong to the evidence."""
    return re.findall(LAB_NOTES, text)


@pytest.mark.parametrize("name", PAPERS)
def test_a_page_has_the_headings_in_order(name: str) -> None:
    headings = list(parts(name))
    assert headings[1 : 1 + len(FIRST)] == FIRST
    assert headings[-1] == "Evidence"


@pytest.mark.parametrize("name", PAPERS)
def test_the_idea_is_two_sentences_and_a_picture(name: str) -> None:
    _, idea, picture, *_ = re.split(r"\n\n", parts(name)["idea"].strip())
    assert len(re.findall(r"[.?](?:\s|$)", idea)) == 2
    (target,) = re.findall(r"^!\[[^\]]{20,}\]\((\S+)\)$", picture)
    file = ROOT / "docs" / target
    assert file.is_file()
    assert file.stat().st_size <= 150_000, "a picture is small enough for a phone"


@pytest.mark.parametrize("name", PAPERS)
def test_the_formula_is_typeset_and_its_theory_is_linked(name: str) -> None:
    section = parts(name)["The formula"]
    (formula,) = re.findall(r"\$\$(.+?)\$\$", section, flags=re.DOTALL)
    assert drawn(formula.strip(), inline=False).startswith("<svg")
    assert "](theory/" in section or name == "score-geodesics", "a method of no paper of ours has no page of theory"


@pytest.mark.parametrize("name", PAPERS)
def test_a_page_has_a_run_file_reasons_and_limits(name: str) -> None:
    found = parts(name)
    assert [block.language for block in blocks(found["A run file"])][:1] == ["yaml"]
    assert "version: 1" in found["A run file"]
    for heading in ("When to use it", "Limits"):
        assert len(re.findall(r"^- ", found[heading], flags=re.MULTILINE)) >= 2, heading


@pytest.mark.parametrize(("name", "plugin"), PAPERS.items())
def test_the_paper_is_the_one_that_the_plugin_cites(name: str, plugin: str) -> None:
    source = ROOT / f"plugins/{plugin}/src/scorefold_{plugin}"
    cited = "".join(file.read_text(encoding="utf-8") for file in sorted(source.rglob("*.bib")))
    links = re.findall(r"\]\(https://(?:arxiv\.org/abs|doi\.org)/(\S+)\)", parts(name)["Paper"])
    assert links
    assert all(f"{{{link}}}" in cited for link in links), links


@pytest.mark.parametrize("name", PAPERS)
def test_lab_notes_stand_in_the_evidence(name: str) -> None:
    found = parts(name)
    pages = re.findall(r"\]\((evidence/[\w-]+\.md)", found.pop("Evidence"))
    assert pages
    assert all((ROOT / "docs" / page).is_file() for page in pages)
    noted = {heading: notes for heading, text in found.items() if (notes := lab_notes(text))}
    assert not noted


def test_a_lab_note_is_seen() -> None:
    assert lab_notes("by commit c41f1732 in 783 CPU seconds, seed 0") == ["commit c41f1732", "CPU seconds", "seed 0"]
    assert lab_notes("a commit, a seed of one's own, and two CPUs") == []


def test_every_evidence_page_is_listed() -> None:
    listed = re.findall(r"^\| \[.+?\]\((\S+\.md)\)", (ROOT / "docs/evidence/index.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs/evidence").glob("*.md") if page.stem != "index")
