"""The report: one page that needs nothing else, says the answer first, and shows text as text."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from scorefold.artefacts import read_json, write_json
from scorefold.plugin import hookimpl
from scorefold_registry.host import Host
from scorefold_registry.run.progress import duration, number_text
from scorefold_registry.run.report import (
    STYLES,
    TAGS,
    Paper,
    clean_section,
    documentation_of,
    papers_of,
    question_of,
)
from scorefold_registry.run.result import RunResult
from scorefold_registry.run.verdicts import alike, answers, stage_warnings

pytestmark = pytest.mark.usefixtures("drawn")

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what a page refers to, its text, and tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: set[str] = set()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action"):
                self.references.append(value or "")
            if name == "id":
                self.ids.add(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(finished: RunResult) -> Page:
    return Page(finished.report.read_text())


def test_it_asks_the_network_for_nothing(page: Page, finished: RunResult) -> None:
    assert page.references
    # A link to a paper loads nothing before a click.
    papers = ("https://arxiv.org/abs/", "https://doi.org/")
    assert all(reference.startswith(("#", "data:image/", *papers)) for reference in page.references)
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= page.ids
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"url\(|@import", finished.report.read_text())


def test_no_script_of_a_section_runs(host: Host, run: Callable[..., RunResult]) -> None:
    """It is left out, with its name, and the page's policy before it allows no source of scripts either."""

    def scorefold_report_sections(run: Any) -> list[tuple[str, str]]:
        return [("Mine", "<script>document.title = 'changed'</script><img src=x onerror=alert(1)><b>mine</b>\ud800")]

    host.manager.register(SimpleNamespace(scorefold_report_sections=hookimpl(scorefold_report_sections)), name="mine")
    html = run().report.read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert html.index("Content-Security-Policy") < html.index("<title>")
    assert not re.search("<script|onerror|alert|changed", html)
    assert r"<img><b>mine</b>\ud800" in html
    assert "Left out, since a section may hold text, tables, links and images alone: script." in html


INERT = {"alt", "class", "colspan", "dir", "height", "href", "lang", "open", "rel", "rowspan", "scope", "span", "src"}
INERT |= {"start", "style", "title", "type", "value", "width"}


class Acting(HTMLParser):
    """Collects what could act in a section: other elements and attributes than text has, and addresses."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.depth = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.depth += tag not in VOID | {"wbr", "col"}
        if tag not in TAGS:
            self.found.append(tag)
        for name, value in attrs:
            text = (value or "").strip().lower()
            if name not in INERT:
                self.found.append(name)
            if name == "src" and not text.startswith("data:image/"):
                self.found.append(text)
            if name == "href" and not re.match(r"https?://|mailto:|#|[\w.][^:]*$", text):
                self.found.append(text)
            if name == "style":
                self.found += [part for part in text.split(";") if part and part.split(":")[0].strip() not in STYLES]
                self.found += re.findall(r"url\s*\(|expression|@|\\\\", text)

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1


ATTACKS = (Path(__file__).parent / "attacks.txt").read_text().splitlines()


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_a_section_acts(attack: str) -> None:
    fragment = attack.encode().decode("unicode_escape") if "\\" in attack else attack
    section = clean_section("mine", "Mine", f"before {fragment}")
    acting = Acting(str(section.html))
    assert acting.found == []
    assert acting.depth == 0, "an element of the page around it was closed, or one of its own was left open"
    assert str(section.html).startswith("before ")


def test_a_section_keeps_what_shows() -> None:
    kept = (
        '<p>Read <a href="#stage-audit" rel="noopener noreferrer">the audit</a>, <code>a &lt; b</code></p>'
        '<table style="max-width:none"><thead><tr><th scope="col">a</th></tr></thead><tbody><tr>'
        '<td style="overflow-wrap:normal;word-break:normal" colspan="2">1</td></tr></tbody></table>'
        '<h4>Figure</h4><img src="data:image/png;base64,iVBORw0KGgo=" alt="pairs" style="max-width:100%">'
        '<details open=""><summary>more</summary><ul><li>one</li></ul></details>'
    )
    section = clean_section("mine", "Mine", kept)
    assert str(section.html) == kept
    assert section.left_out == ()
    links = '<a href="https://tracker.example/#/runs/1">run</a><a href="audit/result.json">result</a>'
    assert str(clean_section("mine", "Mine", links).html).count("href=") == 2


def test_a_drawing_in_a_section_becomes_an_image() -> None:
    drawing = '<svg width="9" height="9"><circle r="4"/><script>x</script></svg>'
    html = str(clean_section("mine", "Mine", f"<p>one</p>{drawing}<p>two</p>").html)
    (data,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)"', html)
    drawn = base64.b64decode(data).decode()
    assert drawn.startswith('<svg width="9" height="9" xmlns="http://www.w3.org/2000/svg"><circle')
    assert html.startswith("<p>one</p><img ")
    assert html.endswith("<p>two</p>")


def test_a_section_of_many_parts_takes_no_time_that_grows_with_their_square() -> None:
    for many in ("<svg>" * 20_000, "<svg " * 20_000, "<p>x</p>" * 20_000, "<img src=x" * 20_000):
        assert clean_section("mine", "Mine", many).plugin == "mine"


def test_it_is_well_formed(page: Page) -> None:
    assert page.open == []


def test_it_shows_every_stage_with_figures_metrics_configuration_and_versions(page: Page, finished: RunResult) -> None:
    for stage in finished.stages:
        assert f"stage-{stage.name}" in page.ids
        for name, value in stage.metrics.items():
            assert name.replace("_", " ") in page.text
            assert number_text(value) in page.text
    figures = [reference for reference in page.references if reference.startswith("data:image/")]
    assert len(figures) == len(list(finished.folder.glob("*/figures/*.svg"))) >= 4
    for expected in ("score:tiny@1 of scorefold-tiny 0.1", "batch_size: 8", "network:tiny@1", "torch 2", "seed 3"):
        assert expected in page.text
    assert "scorefold run " in page.text


def test_the_answer_comes_first(page: Page, finished: RunResult) -> None:
    value = f"{finished.value('dimension').value:.1f}"
    assert value in page.text[: page.text.index("How it was found")]
    first = answers(finished.folder, finished.as_json()["stages"])[0]
    assert first.sentence().startswith(f"dimension: The intrinsic dimension is {value} (95% interval ")
    assert first.details() == [("note", "tiny"), ("caution", "caution: of <few> points")]
    assert first.sentence().endswith(" too low. Read it with caution.")


def test_the_stage_that_answers_stands_before_those_that_it_is_made_from(finished: RunResult) -> None:
    html = finished.report.read_text()
    places = [html.index(f'<section id="stage-{stage}"') for stage in ("dimension", "data", "score")]
    assert places == sorted(places)


def test_a_note_stands_under_its_value(page: Page) -> None:
    before = page.text[: page.text.index("How it was found")]
    assert "too low. Read it with caution. Tiny. " in " ".join(before.split())


def test_warnings_are_listed_under_the_note(page: Page, finished: RunResult) -> None:
    before = page.text[: page.text.index("How it was found")]
    assert re.search(r"Tiny\.\s+Of <few> points\.\s", before)
    assert answers(finished.folder, finished.as_json()["stages"])[0].warnings == ("of <few> points",)


@pytest.mark.parametrize(
    ("text", "question", "rest"),
    [
        (
            "# yaml-language-server: $schema=x\n# Does it copy? Two\n# models.\n#   scorefold run x\nversion: 1",
            0,
            "Two models.",
        ),
        ("# Does it copy?\n#\n# Why so?\nversion: 1", 0, ""),
        ("# Two models.\nversion: 1\n# Does it copy?", "", "Two models."),
        (f"# {'long ' * 50}why?\nversion: 1", "", f"{'long ' * 50}why?"),
        ("version: 1", "", ""),
        ("", "", ""),
    ],
)
def test_the_question_is_the_first_comment_of_the_run_file(text: str, question: str | int, rest: str) -> None:
    assert question_of(text) == ("Does it copy?" if question == 0 else question, rest)


def test_the_question_stands_on_top_and_the_rest_with_the_method(run: Callable[..., RunResult]) -> None:
    result = run("# Is it <so>? It is made up.\nversion: 1\nname: asked\nstages:\n  data: {use: data:tiny}\n")
    html = result.report.read_text()
    assert "<h1>Is it &lt;so&gt;?</h1>" in html
    text = Page(html).text
    assert text.index("Is it <so>?") < text.index("Measured:") < text.index("How it was found")
    assert text.index("How it was found") < text.index("It is made up.") < text.rindex("data")


def test_a_method_has_a_link_to_the_documentation_that_its_distribution_names(
    run: Callable[..., RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (documentation_of("scorefold-nowhere"), documentation_of("")) == ("", "")
    for name, link in (("safe", "https://a.org/x"), ("unsafe", "javascript:alert(1)")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1\nProject-URL: Documentation, {link}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (documentation_of("safe"), documentation_of("unsafe")) == ("https://a.org/x", "")
    monkeypatch.setattr("scorefold_registry.run.report.documentation_of", lambda _: "https://a.org/x")
    html = run("version: 1\nname: linked\nstages:\n  data: {use: data:tiny}\n").report.read_text()
    assert '<a href="https://a.org/x"><code>data:tiny</code></a>' in html


BIB = """% estimator:a, estimator:b
@inproceedings{one,
  title     = {Diffusion {M}odels Encode},
  author    = {Jan Pawel Stanczuk and Georgios Batzolis and Teo Deveney and Carola-Bibiane Sch{\\"o}nlieb},
  year      = {2024},
  eprint    = {2212.12611},
}

% score:c
@article{two, title = {Second}, author = {A. B.}, year = {2001}, doi = {10.1/x}}
@article{three,
  title = {Third},
  author = {C. D.},
  doi = {10.1000/ok" onclick="},
  eprint = {javascript:1}
}
"""


def test_papers_have_a_link_where_their_number_is_one(tmp_path: Path) -> None:
    assert papers_of(tmp_path) == []
    (tmp_path / "citations.bib").write_text(BIB)
    first, second = papers_of(tmp_path)
    said = "Jan Pawel Stanczuk and others. Diffusion Models Encode. 2024"
    assert first == Paper(said, "https://arxiv.org/abs/2212.12611", "estimator:a, estimator:b")
    assert (second.link, second.components) == ("", "score:c")


def test_a_warning_of_a_verdict_is_not_repeated_with_its_stage(page: Page) -> None:
    """Once for each of the two estimates, and once in what each reported."""
    assert page.text.count("Of <few> points.") == 2
    assert len(re.findall("of <few> points", page.text, re.IGNORECASE)) == 4


GEOMETRY = (
    "version: 1\nname: uncertain\nstages:\n  data: {use: data:tiny}\n"
    "  space: {use: geometry:tiny-many, inputs: {parts: [data]}}\n"
    "  paths: {use: space, do: interpolate, inputs: {data: data}, options: {pairs: 2}}\n"
)


def test_what_a_stage_says_against_itself_stands_with_it(run: Callable[..., RunResult]) -> None:
    result = run(GEOMETRY)
    stages = result.as_json()["stages"]
    assert stage_warnings(result.folder, stages) == [("paths", "it has <several> parts")]
    page = Page(result.report.read_text())
    before = page.text[: page.text.index("How it was found")]
    assert "It has <several> parts." in before, "with the verdict of its stage"


def test_captions_say_more_than_the_figure(page: Page, finished: RunResult) -> None:
    captions = {file.parent.parent.name: read_json(file) for file in finished.folder.glob("*/figures/figures.json")}
    assert captions["mean"]["mean"]["caption"] == "The mean of <all> coordinates"
    assert captions["data"]["data"]["caption"].startswith("Some points of the data.")
    figures = len(list(finished.folder.glob("*/figures/*.svg")))
    assert finished.report.read_text().count("<figcaption>") == figures, "a title stands where there is no caption"
    assert 'alt=""' not in finished.report.read_text()


def test_captions_and_names_are_text_not_markup(page: Page, finished: RunResult) -> None:
    assert "The mean of <all> coordinates" in page.text
    assert "The mean of <all> coordinates" not in finished.report.read_text()


def test_what_plugins_call_things_can_not_break_the_page(run: Callable[..., RunResult]) -> None:
    comment = "# <script>alert(1)</script> & </pre>\n"
    result = run(comment + "version: 1\nname: odd\nstages:\n  data: {use: data:tiny}\n")
    html = result.report.read_text()
    assert "<script>" not in html
    assert comment in Page(html).text


def test_runs_without_an_estimate_answer_with_what_they_measured(run: Callable[..., RunResult]) -> None:
    result = run("version: 1\nstages:\n  data: {use: data:tiny}\n")
    found = answers(result.folder, result.as_json()["stages"])
    assert found[0].sentence().startswith("data: Measured: train points 20; ")
    assert answers(Path(), []) == []


def test_a_stage_without_a_value_says_why(run: Callable[..., RunResult]) -> None:
    result = run("version: 1\nstages:\n  data: {use: data:tiny}\n")
    stages = result.as_json()["stages"]
    file = result.folder / "data" / "result.json"
    answer = {"quantity": "distance", "value": None, "interval": None, "reading": "it is too far"}
    file.write_text(json.dumps({**read_json(file), "answer": answer}))
    (found,) = answers(result.folder, stages)
    assert (found.sentence(), found.sure) == ("data: The distance has no value. It is too far.", "withheld")
    file.write_text(json.dumps({**read_json(file), "answer": {"quantity": "distance", "value": None}}))
    assert answers(result.folder, stages)[0].quantity == "metrics"


BY_LABEL = """version: 1
name: labelled
stages:
  digits: {use: data:digits, config: {fractions: [0.5, 0, 0.5], limit: 300, digits: [0, 1]}}
  mean: {use: estimator:tiny-mean, inputs: {data: digits}, options: {by: label}}
"""


def test_answers_by_label_stand_in_the_answer_the_report_and_the_json(run: Callable[..., RunResult]) -> None:
    result = run(BY_LABEL)
    facts = result.as_json()
    jsonschema.validate(facts, json.loads((files("scorefold") / "schemas" / "run.json").read_text()))
    rows = facts["stages"][1]["by_label"]
    assert [row["label"] for row in rows] == [0, 1]
    assert read_json(result.folder / "mean" / "result.json")["by_label"] == rows
    (answer,) = answers(result.folder, facts["stages"])
    said, low, high = alike(rows[0]["value"], *rows[0]["interval"])
    line = f"label 0: {said} ({low} to {high}), {rows[0]['points']} points"
    assert ("label", line) in answer.details()
    text = " ".join(Page(result.report.read_text()).text.split())
    assert f"0 {said} {low} to {high} {rows[0]['points']} points" in text
    again = run(BY_LABEL).as_json()["stages"][1]
    assert (again["reused"], again["by_label"]) == (True, rows)


def test_a_stage_answers_with_what_it_is_compared_with(tmp_path: Path) -> None:
    answer = {"quantity": "error", "value": 1.128, "interval": [1.1, 1.2], "truth": 1, "reading": "the mean has 1"}
    stage = {"name": "error", "component": "score:tiny@1", "metrics": {"first": 3}}

    def said(answer: object) -> list[str]:
        write_json(tmp_path / "error" / "result.json", {"metrics": {}, "answer": answer})
        write_json(tmp_path / "error" / "value.json", {"type": "none"})
        return [each.sentence() for each in answers(tmp_path, [stage])]

    (tmp_path / "error").mkdir()
    sentence = (
        "error: The error is 1.128 (95% interval 1.100 to 1.200). "
        "The true value is 1, so the answer is 0.128 too high. The mean has 1."
    )
    assert said(answer) == [sentence]
    for other in (
        None,
        3,
        {**answer, "value": None, "reading": ""},
        {**answer, "interval": "wide"},
        {"quantity": "error"},
    ):
        assert said(other) == ["error: Measured: first 3."]


def test_an_allocation_answers_in_words(run: Callable[..., RunResult]) -> None:
    result = run("version: 1\nstages:\n  plan: {use: allocator:uniform, options: {budget: 100}}\n")
    (answer,) = answers(result.folder, result.as_json()["stages"])
    assert answer.verdict.startswith("The plan is ")
    assert answer.verdict in " ".join(Page(result.report.read_text()).text.split())


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((38.9, 38.638, 39.122), ("38.90", "38.64", "39.12")),
        ((-0.0278, -1.0278, 0.9722), ("0.0", "-1.0", "1.0")),
        ((1234.5, 1000.0, 2000.0), ("1234", "1000", "2000")),
        ((11.0, 11.0, 11.0), ("11", "11", "11")),
        ((2.0, float("-inf"), float("inf")), ("2", "-inf", "inf")),
    ],
)
def test_a_value_and_its_interval_have_the_decimals_that_matter(
    numbers: tuple[float, ...], said: tuple[str, ...]
) -> None:
    assert alike(*numbers) == said


def test_times_are_said_as_people_say_them() -> None:
    said = [duration(seconds) for seconds in (0.04, 9.94, 42.2, 59.9, 200, 3725, 7500)]
    assert said == ["0.0 s", "9.9 s", "42 s", "1 min 00 s", "3 min 20 s", "1 h 02 min", "2 h 05 min"]
