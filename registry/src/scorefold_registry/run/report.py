"""``report.html``: one file that opens from disk and needs no network, made from what the run folder holds."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import importlib_metadata
import nh3
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, RootModel

from scorefold.artefacts import read_json, write_text
from scorefold.errors import ArtefactError, printable
from scorefold_registry.components.paths import file_name
from scorefold_registry.components.stage_files import read_answer, read_checked, read_result, read_stage
from scorefold_registry.run.data_summary import HEAD, NUMBERS, column_cells, summary_in
from scorefold_registry.run.progress import duration, number_text
from scorefold_registry.run.stage_folder import CAPTIONS
from scorefold_registry.run.verdicts import Answer, alike, answers, first_sentence, label_answers, stage_warnings
from scorefold_registry.runfile.yaml_reader import yaml_text

LARGEST_SVG = 400_000
"""Bytes above which a figure is shown as its PNG: a scatter of many points is smaller so, and looks the same."""

_TAGS = """
a abbr b blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption figure h3 h4 h5 h6
hr i img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead time tr u
ul var wbr
"""
_STYLES = """
align-items background-color border border-bottom border-collapse border-color border-left border-radius border-
right border-spacing border-style border-top border-width color column-gap display flex-wrap font-size font-style
font-variant-numeric font-weight gap grid-template-columns height justify-content line-height list-style-type margin
margin-bottom margin-left margin-right margin-top max-height max-width min-width object-fit overflow-wrap overflow-x
padding padding-bottom padding-left padding-right padding-top row-gap text-align text-decoration vertical-align
white-space width word-break
"""
TAGS, STYLES = frozenset(_TAGS.split()), frozenset(_STYLES.split())
"""Elements allowed in a section of a plugin, and the properties of its ``style``.

Nothing in a section runs, sends or loads anything, or leaves its place. Only links name an address."""

_ATTRIBUTES = {
    "*": {"class", "dir", "lang", "style", "title"},
    "a": {"href"},
    "col": {"span"},
    "colgroup": {"span"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "li": {"value"},
    "ol": {"start", "type"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
_WITH_CONTENT = {"iframe", "math", "noembed", "noframes", "noscript", "object", "script", "select", "style", "svg"}
_WITH_CONTENT |= {"template", "textarea", "title", "xmp"}
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
_LINK = re.compile(r"https?://|mailto:|#|[\w.][^:\\]*\Z", re.IGNORECASE)
_STYLE = re.compile(r"(?!.*(url|expression|import)\s*\()[^\\@<]*\Z", re.IGNORECASE | re.DOTALL)
_SVG = re.compile(r"<svg\b(?P<head>[^<>]*)>(?P<rest>(?:(?!<svg\b).)*?</svg\s*>)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<([a-zA-Z][\w:-]{0,30})")


class _Caption(BaseModel):
    name: str
    title: str
    caption: str


class _Captions(RootModel[dict[str, _Caption]]):
    pass


@dataclass(frozen=True)
class Section:
    """A section of a plugin as it is shown, with the names of the elements that were left out."""

    plugin: str
    title: str
    html: Markup
    left_out: tuple[str, ...]


def clean_section(plugin: str, title: str, fragment: str) -> Section:
    """The section of a plugin with only what ``TAGS`` and ``STYLES`` allow, an inline SVG as an image.

    Scripts, forms, frames, handlers of events, addresses that are not links and whatever else could act are left out.
    """
    text = printable(_SVG.sub(_as_image, fragment).replace("\r\n", "\n"))
    html = nh3.clean(
        text,
        tags=set(TAGS),
        clean_content_tags=_WITH_CONTENT,
        attributes=_ATTRIBUTES,
        attribute_filter=_kept,
        url_schemes={"data", "http", "https", "mailto"},
        filter_style_properties=set(STYLES),
    )
    found = dict.fromkeys(name.lower() for name in _TAG.findall(text))
    left_out = tuple(name for name in found if name not in TAGS and name not in ("html", "head", "body"))
    return Section(plugin, title, Markup(html), left_out)


def _as_image(svg: re.Match[str]) -> str:
    head = svg["head"] if "xmlns=" in svg["head"] else f'{svg["head"]} xmlns="http://www.w3.org/2000/svg"'
    data = base64.b64encode(f"<svg {head.strip()}>{svg['rest']}".encode(errors="replace")).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="" style="max-width: 100%">'


def _kept(tag: str, name: str, value: str) -> str | None:
    allowed = {"src": _IMAGE, "href": _LINK, "style": _STYLE}.get(name)
    return value if allowed is None or allowed.match(value) else None


def write_report(folder: Path, sections: Sequence[tuple[str, str, str]], failures: Sequence[str]) -> None:
    """Write ``report.html`` of a run folder that is otherwise complete.

    ``sections`` are (plugin, title, HTML fragment) from plugins, of whose fragments ``clean_section`` keeps what is
    safe; ``failures`` are the observers that failed.
    """
    status = read_json(folder / "status.json")
    environment = read_json(folder / "environment.json")
    stages = [_stage_view(folder / stage["name"], stage) for stage in status["stages"]]
    found = answers(folder, status["stages"])
    with_own = {stage["name"] for stage in stages if stage["cautions"]}
    said = {warning for answer in found for warning in answer.warnings}
    answering = {answer.stage for answer in found}
    for stage in stages:
        # A verdict that has cautions of its own stands for all warnings of its stage.
        own = stage["name"] in with_own
        stage["unsaid"] = [] if own else [warning for warning in stage["warnings"] if warning not in said]
    run_text = (folder / "run.yaml").read_text(encoding="utf-8")
    page = templates().get_template("report.html.j2")
    html = page.render(
        name=status["name"],
        started=datetime.fromtimestamp(status["started"]).strftime("%d %B %Y, %H:%M"),
        seconds=duration(status["seconds"]),
        command=status["command"],
        seed=environment["seed"],
        question=question_of(run_text),
        verdicts=[_verdict(answer, found, stages) for answer in found],
        methods=_methods(stages),
        papers=papers_of(folder),
        # What answers stands before what it was made from.
        stages=sorted(stages, key=lambda stage: stage["name"] not in answering),
        data_head=HEAD,
        data_numbers=NUMBERS,
        environment=environment,
        facts=environment_facts(environment),
        run_text=run_text,
        sections=[clean_section(*section) for section in sections],
        failures=list(failures),
    )
    write_text(folder / "report.html", html)


@cache
def templates() -> Environment:
    """The templates of our pages, with the filter ``number``."""
    environment = Environment(
        loader=PackageLoader("scorefold_registry.run", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        # Beside what autoescape does: characters that turn the direction of a line, or that HTML can't hold.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number_text
    environment.filters["spread"] = _spread
    return environment


def question_of(run_text: str) -> tuple[str, str]:
    """The question that the first comment of a run file asks, and the rest of this comment; empty where there is none.

    >>> question_of("# Does it copy? Two models.\\nversion: 1")
    ('Does it copy?', 'Two models.')
    """
    lines: list[str] = []
    for line in run_text.splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or (lines and not text):
            break
        # A line for editors, and commands to copy, are no sentences.
        if text and not text.startswith("yaml-language-server") and not line.startswith("#   "):
            lines.append(text)
    asked, mark, rest = " ".join(lines).partition("?")
    return (asked + mark, rest.strip()) if mark and len(asked) < _QUESTION else ("", " ".join(lines))


_QUESTION = 200
"""Letters above which the text before a question mark is no question."""


@dataclass(frozen=True)
class VerdictView:
    """A verdict as a page shows it: its ``first`` sentence and the ``rest``, and which stage asked which model.

    A comparison has ``rows``, the answers that it compares. Each of these is a ``part`` of it.
    """

    answer: Answer
    first: str
    rest: str
    source: str
    rows: tuple[Answer, ...]
    part: bool


def _spread(answer: Answer) -> tuple[str, str]:
    """The value and the interval of an answer as text."""
    if answer.number is None:
        return "no single number", ""
    if answer.between is None:
        return answer.value_text(), ""
    value, low, high = alike(answer.number, *answer.between)
    return value, f"{low} to {high}"


def _verdict(answer: Answer, found: Sequence[Answer], stages: Sequence[Mapping[str, Any]]) -> VerdictView:
    first, rest = first_sentence(answer.said())
    source = next((stage["source"] or "" for stage in stages if stage["name"] == answer.stage), "")
    of_stages = tuple(one for one in found if one.stage in answer.parts)
    part = any(answer.stage in other.parts for other in found)
    return VerdictView(answer, first, rest, source, of_stages, part)


@dataclass(frozen=True)
class UsedMethod:
    """A method of a run: the ``stages`` that used it, and where it was ``loaded`` from or which model was asked.

    ``page`` is the address of its documentation, empty where its distribution names none.
    """

    stages: tuple[str, ...]
    name: str
    summary: str = ""
    loaded: str = ""
    asked: str = ""
    page: str = ""


def _methods(stages: Sequence[Mapping[str, Any]]) -> list[UsedMethod]:
    """The methods of a run in its order, with all stages that used one."""
    groups: dict[UsedMethod, list[str]] = {}
    for stage in stages:
        if stage["source"]:
            method = UsedMethod((), stage["verb"], asked=stage["source"])
        else:
            page = documentation_of(stage["distribution"].partition(" ")[0])
            method = UsedMethod((), stage["component"], stage["summary"], str(stage["loaded"] or ""), page=page)
        groups.setdefault(method, []).append(stage["name"])
    return [replace(method, stages=tuple(names)) for method, names in groups.items()]


def documentation_of(distribution: str) -> str:
    """The address that an installed distribution names as its documentation, empty where it names none."""
    try:
        named = importlib_metadata.metadata(distribution).get_all("Project-URL") or []
    except (importlib_metadata.PackageNotFoundError, ValueError):  # an empty name is a ValueError
        return ""
    addresses = {name.strip().lower(): link.strip() for name, _, link in (text.partition(",") for text in named)}
    found = addresses.get("documentation", "")
    return found if found.startswith("https://") else ""


@dataclass(frozen=True)
class Paper:
    """A paper to cite: its authors, title and year as one text, its link, and the components that it is cited for."""

    text: str
    link: str
    components: str


def papers_of(folder: Path) -> list[Paper]:
    """The papers of ``citations.bib`` in a run's folder, in its order."""
    file = folder / CITATIONS
    if not file.is_file():
        return []
    found = []
    for part in re.split(r"^% ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        components, _, entry = part.partition("\n")
        fields = {name.lower(): _plain(text) for name, text in _FIELD.findall(entry)}
        authors = [" ".join(reversed(name.split(", ", 1))) for name in fields.get("author", "").split(" and ")]
        names = f"{authors[0]} and others" if len(authors) > 3 else ", ".join(authors)
        said = ". ".join(filter(None, (names.rstrip("."), fields.get("title", ""), fields.get("year", ""))))
        doi, number = fields.get("doi", ""), fields.get("eprint", "")
        link = f"https://arxiv.org/abs/{number}" if _ARXIV.fullmatch(number) else ""
        link = f"https://doi.org/{doi}" if _DOI.fullmatch(doi) else link
        found.append(Paper(said, link, components))
    return found


CITATIONS = "citations.bib"
"""The file of a run's folder with what to cite for its methods."""

_FIELD = re.compile(r"^\s*(\w+)\s*=\s*[{\"](.*?)[}\"],?\s*$", re.MULTILINE | re.DOTALL)
_ARXIV = re.compile(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}")
_DOI = re.compile(r"10\.\d{4,9}/[\w.()/:;-]+", re.ASCII)


def _plain(text: str) -> str:
    """A field of BibTeX without its braces and accents' backslashes."""
    return " ".join(re.sub(r"[{}]|\\[^\w\s]?", "", text).split())


def _stage_view(folder: Path, stage: Mapping[str, Any]) -> dict[str, Any]:
    facts = read_stage(folder)
    result = read_result(folder)
    resolved = facts["resolved"]
    data = summary_in(result)
    shown = {"metrics"} if data is None else {"metrics", "data"}
    return {
        **stage,
        "component": stage["component"].partition("@")[0],
        "versioned": stage["component"],
        "summary": facts["summary"].rstrip("."),
        "verb": facts["verb"],
        "distribution": f"{facts['distribution']} {facts['version']}",
        "source": facts["source"],
        "seed": facts["seed"],
        "key": facts["key"],
        "loaded": resolved.get("load"),
        "took": duration(stage["seconds"]),
        "computed": datetime.fromtimestamp(facts["computed"]).strftime("%d %B %Y, %H:%M"),
        "computed_in": duration(facts["seconds"]),
        "costs": _costs(facts),
        "inputs": sorted(_stage_names(resolved.get("inputs", {})) | ({facts["source"]} if facts["source"] else set())),
        "configuration": yaml_text({key: value for key, value in resolved.items() if value not in ({}, None)}),
        "more": yaml_text(
            {key: value for key, value in result.items() if key not in shown and value not in ({}, None)}
        ),
        "warnings": [text for _, text in stage_warnings(folder.parent, [stage])],
        "cautions": (found := read_answer(folder)) is not None and found.caveats is not None,
        "by_label": label_answers(result),
        "data": None
        if data is None
        else {"heading": data.heading(), "rows": [column_cells(one) for one in data.columns]},
        "figures": figures_of(folder),
    }


def _costs(facts: Mapping[str, Any]) -> str:
    """``, 12.3 CPU seconds, at most 540 MB of memory``, as far as they are known."""
    found = []
    if facts.get("cpu_seconds") is not None:
        found.append(f"{facts['cpu_seconds']:.3g} CPU seconds")
    if facts.get("peak_memory") is not None:
        found.append(f"at most {facts['peak_memory']:,.0f} MB of memory")
    return "".join(f", {each}" for each in found)


def _stage_names(inputs: Any) -> set[str]:
    if isinstance(inputs, str):
        return {inputs}
    if isinstance(inputs, Mapping):
        inner = inputs.get("inputs", {}) if "use" in inputs else inputs
        return set().union(*(_stage_names(value) for value in inner.values()))
    return set().union(*(_stage_names(value) for value in inputs)) if isinstance(inputs, list) else set()


def figures_of(folder: Path) -> list[dict[str, str]]:
    """The figures in a folder as images for a page, each with its title and caption."""
    captions = folder / "figures" / CAPTIONS
    if not captions.exists():
        return []
    found = []
    for stem, about in read_checked(captions, _Captions).root.items():
        if file_name(stem) != stem:
            raise ArtefactError(f"{captions} names a figure {stem!r}, which is no name of a file")
        svg, png = folder / "figures" / f"{stem}.svg", folder / "figures" / f"{stem}.png"
        chosen, kind = (svg, "svg+xml") if svg.stat().st_size <= LARGEST_SVG else (png, "png")
        # As images, not inline markup: the identifiers inside two SVGs of one page would clash.
        data = base64.b64encode(chosen.read_bytes()).decode()
        found.append({**about.model_dump(), "source": f"data:image/{kind};base64,{data}"})
    return found


def environment_facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """Facts of ``environment.json`` for a page, by name."""
    versions = {**environment["scorefold"], **environment["versions"]}
    plugins = [f"{plugin['distribution']} {plugin['version']}" for plugin in environment["plugins"]]
    return {
        "Python": f"{environment['python']} ({environment['implementation']})",
        "Platform": str(environment["platform"]),
        "Device": str(environment["gpu"] or environment["device"]),
        "CPU threads": f"{environment['threads']} of {environment['cpus']} cores",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Plugins": ", ".join(dict.fromkeys(plugins)) or "none",
    }
