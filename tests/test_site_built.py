"""The documentation site as built: every page is there, links lead somewhere, notebooks ran, no network is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scorefold import __version__
from scorefold_site import pages, versions
from scorefold_site.copies import copied_pages
from scorefold_site.formulas import drawn
from scorefold_site.sessions import blocks
from scorefold_site.theory import named

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.heavy  # a case that tests/heavy.txt lacks would build the site in make test
NOTEBOOKS = ["any-score", "own-images", "own-plugin", "own-table", "representations"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as for publication, which ``make docs`` does but for a link: any warning fails it."""
    out = tmp_path_factory.mktemp("site") / "0.2.0"
    paths = os.pathsep.join([str(ROOT / "docs"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "scorefold_site.build", str(out), "--published"]
    # Notebooks show figures themselves, which the backend of tests would keep from them.
    variables = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | {"PYTHONPATH": paths}
    outcome = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert versions.write(out.parent) == ["0.2.0"]
    return out


def test_the_site_builds_without_a_warning(built: Path) -> None:
    assert sorted(path.stem for path in (ROOT / "docs/notebooks").glob("*.md")) == NOTEBOOKS
    for path in {**pages(ROOT), **copied_pages(ROOT)}:
        assert (built / path).with_suffix(".html").is_file(), path


def test_pages_say_their_version_and_lead_to_the_others(built: Path) -> None:
    for page, back in (("index.html", "./"), ("theory/index.html", "../")):
        said = (built / page).read_text()
        assert f'Version {__version__} · <a href="{back}../versions.html">other versions</a>' in said
    assert '<a href="0.2.0/index.html">Scorefold 0.2.0</a>' in (built.parent / "versions.html").read_text()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_was_run_and_can_be_downloaded(built: Path, name: str) -> None:
    """Its code has run, or the site was not built; page and download show what the cells gave."""
    page = (built / f"notebooks/{name}.html").read_text()
    assert f'href="{name}.ipynb"' in page
    assert re.search(r"<img [^>]*src=[\"'](?:data:image/|[\w./-]+\.png)", page), "a figure stands on the page"
    notebook = json.loads((built / f"notebooks/{name}.ipynb").read_text())
    source = (ROOT / f"docs/notebooks/{name}.md").read_text()
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == len([block for block in blocks(source) if block.language == "python"]) > 4
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} >= {"execute_result"}
    assert not [output for output in outputs if output.get("name") == "stderr"], "no warnings"
    assert "image" in json.dumps(outputs)


def test_the_site_needs_no_network(built: Path) -> None:
    """Pages load nothing from elsewhere; links that a reader may follow are something else."""
    for page in built.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"([^\"]+)\"", text)
        loaded += re.findall(
            r"<link[^>]*\brel=\"(?:stylesheet|preconnect|preload|icon)\"[^>]*\bhref=\"([^\"]+)\"", text
        )
        away = [address for address in loaded if re.match(r"(?:https?:)?//", address)]
        assert not away, page.name
    for sheet in built.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_links_inside_the_site_lead_somewhere(built: Path) -> None:
    """Anchors of the hand-made diagram included, which Sphinx does not look at."""
    for page in built.rglob("*.html"):
        text = page.read_text()
        for target in re.findall(r"href=\"([^\"]+)\"", text):
            path, _, anchor = target.partition("#")
            path = path.partition("?")[0]
            if re.match(r"[a-z]+:|/", path):
                continue
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor and there.suffix == ".html":
                assert f'id="{anchor}"' in there.read_text(), f"{page.name}: {target}"


def test_every_function_that_a_formula_names_has_an_entry(built: Path) -> None:
    functions = named(ROOT)
    assert len(functions) > 50
    linked = "".join(page.read_text() for page in (built / "theory").glob("*.html"))
    for name, item in functions.items():
        own = f"{item.__module__}.{item.__qualname__}"
        assert f'id="{name}"' in linked or own in linked, name
        assert re.search(rf'<a class="reference internal" href="[^"]*#{re.escape(name)}"', linked), f"{name} is no link"


def test_formulas_are_drawn_and_read_out(built: Path) -> None:
    pages = [path for path in (ROOT / "docs/theory").glob("*.md") if "$$" in path.read_text()]
    assert len(pages) == 7, "one for each paper"
    for page in pages:
        shown = (built / f"theory/{page.stem}.html").read_text()
        written = len(re.findall(r"\$\$.+?\$\$", page.read_text(), re.DOTALL))
        assert shown.count('class="formula"') == written > 0
    assert 'aria-label="x^2"' in drawn("x^2", inline=True)
    with pytest.raises(ValueError, match="can't be drawn"):
        drawn(r"\Big\lvert x", inline=False)


QUESTIONS = {
    "What is the intrinsic dimension of my table?": ("tables.html", "intrinsic dimension"),
    "May I trust this dimension?": ("reading-dimensions.html", "plateau"),
    "What lies between these two points?": ("pullback.html", "geodesic"),
    "Does this model copy its training data?": ("audit.html", "copies"),
    "How many labels should I buy for each task?": ("allocation.html", "labels per task"),
    "How do I fill in pixels that are missing?": ("conditional.html", "inpainting"),
    "Which of my rows are unlike the others?": ("notebooks/own-table.html", "outliers"),
    "What few numbers hold my images?": ("scorevae.html", "reconstruct"),
    "How do I make an image from another one?": ("caflow.html", "condition"),
    "My data don't fit into memory": ("large-data.html", "memory"),
    "What does this error mean?": ("errors.html", "ConfigError"),
    "How do I add a method of my own?": ("author-tutorial.html", "pip install"),
}


def test_a_reader_finds_each_answer_in_two_clicks(built: Path) -> None:
    """From the first page, by links in the text alone: the list at the side would make every page one click."""
    start = (built / "index.html").resolve()
    near = {start, *links_of(start)}
    reached = near.union(*(links_of(page) for page in near))
    for question, (page, words) in QUESTIONS.items():
        there = (built / page).resolve()
        assert there in reached, f"{question} {page} is more than two clicks away"
        assert words in there.read_text(), f"{question} {page} says nothing of {words}"


def links_of(page: Path) -> set[Path]:
    """The pages that the text of a page links to."""
    article = page.read_text().partition("<article")[2].partition("</article>")[0]
    targets = [target.partition("#")[0] for target in re.findall(r'href="([^":]+)"', article)]
    return {(page.parent / target).resolve() for target in targets if target.endswith(".html")}
