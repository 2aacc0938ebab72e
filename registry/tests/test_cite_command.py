"""``scorefold cite``: exactly the methods of a run, each key once, from the plugins' own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold_registry.cli.main import main

Install = Callable[..., Path]
Source = Callable[..., str]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/cite.json").read_text())

PLUGIN = """
@hookimpl
def scorefold_components():
    for name, cite in (("plain", None), ("outer", "outer.bib"), ("inner", "bib/inner.bib"), ("last", "last.bib")):
        yield Component("score", name, "fake_one.impl:Thing", "fake_one.config:Toast", "toasts", cite=cite)
    yield Component("estimator", "reads", "fake_one.impl:Thing", "scorefold.config:Config", "reads", cite="reads.bib",
                    requires=(Port("score", kind="score", default={"use": "score:last"}),))
"""
CONFIG = """
from scorefold.config import Config, Inline

class Toast(Config):
    inside: list[Inline("score")] = ()
"""
OUTER = (
    "@comment{old, not an entry}\n@article{outer2001,\n  title = {{B}races {in {braces}}},\n}\n@misc{shared,note={x}}\n"
)
INNER = "% a remark\n@misc{shared, note={x}}\n\n@book{inner2002, title = {Inner}}"


@pytest.fixture(autouse=True)
def _installed(install: Install) -> None:
    texts = {"config.py": CONFIG, "outer.bib": OUTER, "inner.bib": INNER}
    texts |= {"last.bib": "@misc{last, note={x}}", "reads.bib": "@misc{reads, note={x}}"}
    folder = install("fake-one", PLUGIN, files=texts)
    (folder / "bib").mkdir()
    (folder / "inner.bib").rename(folder / "bib/inner.bib")


def cited(capsys: Captured, stages: str, *arguments: str) -> dict[str, Any]:
    Path("run.yaml").write_text(f"version: 1\nstages: {{{stages}}}\n")
    assert main(["cite", "run.yaml", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    return found


def test_inline_components_are_cited_and_each_key_once(capsys: Captured) -> None:
    inside = "{use: score:outer, config: {inside: [{use: score:inner}, score:inner]}}"
    found = cited(capsys, f"a: {{use: score:plain, do: sample, config: {{inside: [{inside}]}}}}")
    assert [(entry["key"], entry["components"]) for entry in found["entries"]] == [
        ("outer2001", ["score:outer"]),
        ("shared", ["score:outer", "score:inner"]),
        ("inner2002", ["score:inner"]),
    ]
    assert found["entries"][0]["bibtex"] == "@article{outer2001,\n  title = {{B}races {in {braces}}},\n}"
    assert found["without"] == ["score:plain"]


def test_what_is_plugged_in_is_cited_and_so_are_defaults(capsys: Captured) -> None:
    stage = "a: {use: estimator:reads, inputs: {data: data:sphere, SCORE}}"
    keys = {
        score: [entry["key"] for entry in cited(capsys, stage.replace(", SCORE", score))["entries"]]
        for score in ("", ", score: {use: score:outer}", ", score: score:inner")
    }
    assert keys == {
        "": ["reads", "last"],
        ", score: {use: score:outer}": ["reads", "outer2001", "shared"],
        ", score: score:inner": ["reads", "shared", "inner2002"],
    }


def test_a_stage_that_uses_another_cites_it_once(capsys: Captured) -> None:
    verb = "{use: s, do: sample, inputs: {data: data:sphere}}"
    found = cited(capsys, "s: {use: score:last, do: sample}, e: {use: estimator:reads, inputs: {data: s}}")
    assert [entry["key"] for entry in found["entries"]] == ["last", "reads"]
    found = cited(capsys, f"s: {{use: score:last}}, t: {verb}")
    assert [entry["key"] for entry in found["entries"]] == ["last"]
    assert found["without"] == ["data:sphere"]


def test_set_changes_what_is_cited(capsys: Captured) -> None:
    found = cited(capsys, "s: {use: score:last}", "--set", "stages.s.use=score:inner")
    assert [entry["key"] for entry in found["entries"]] == ["shared", "inner2002"]


def test_text_is_bibtex_and_what_has_none_is_named_beside_it(capsys: Captured) -> None:
    Path("run.yaml").write_text("version: 1\nstages: {a: {use: score:last}, b: {use: score:plain}}\n")
    assert main(["cite", "run.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "% score:last\n@misc{last, note={x}}\n"
    assert captured.err == "without a citation: score:plain\n"


def test_one_key_with_two_texts_is_noted(capsys: Captured, install: Install, component: Source) -> None:
    source = component("score", "other", extra="cite='other.bib'")
    install("fake-two", source, files={"other.bib": "@misc{last, note={another}}"})
    Path("run.yaml").write_text("version: 1\nstages: {a: {use: score:last}, b: {use: score:other}}\n")
    assert main(["cite", "run.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "% score:last, score:other\n@misc{last, note={x}}\n"
    assert "note: score:other and score:last write the entry 'last' differently" in captured.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the citation of score:last, last.bib, can't be read (plugin 'one' of fake-one 1.0)"),
        ("@misc{last, note={x}", "the entry 'last' in the citation of score:last does not end"),
        ("nothing", "the citation of score:last has no BibTeX entry"),
    ],
)
def test_a_citation_that_cannot_be_read_names_its_plugin(
    capsys: Captured, tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "site/fake_one/last.bib"
    file.unlink() if text is None else file.write_text(text)
    Path("run.yaml").write_text("version: 1\nstages: {a: {use: score:last}}\n")
    assert main(["cite", "run.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_a_broken_run_file_is_an_error(capsys: Captured) -> None:
    Path("run.yaml").write_text("version: 1\nstages: {a: {use: score:lst}}\n")
    assert main(["cite", "run.yaml"]) == 2
    assert "run.yaml:2:19: there is no 'score:lst'" in capsys.readouterr().err
