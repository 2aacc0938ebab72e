"""The section of the report: verdicts in a table, the most copied samples, and what was withheld."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from scorefold.artefacts import read_json
from scorefold.stage import RunInfo

_LISTED = 12
_COPIES = 60


def sections(run: RunInfo) -> Iterator[tuple[str, str]]:
    """A section for each audit of a run: (title, HTML)."""
    for path in sorted(run.folder.glob("*/result.json")):
        found = read_json(path).get("audit")
        if found is not None:
            yield f"Audit: {path.parent.name}", _section(found, path.parent / "figures" / "pairs.png")


def _section(found: Mapping[str, Any], pairs: Path) -> str:
    verdicts = [
        [
            f"{verdict['name']}: {'found' if verdict['found'] else 'not found'}",
            verdict["text"][:1].upper() + verdict["text"][1:],
            "" if verdict["p"] is None else f"{verdict['p']:.2g}",
        ]
        for verdict in found["verdicts"]
    ]
    parts = [
        f"<p>The chance of any false alarm among these tests is at most {found['level']:.0%}, all together. A test "
        "that finds nothing says what it would have found; it is no proof that there is nothing.</p>",
        "<p>Distances between distributions are biased upwards in small samples: a Frechet distance is to be compared "
        "with that of as many training points, and with others of as many points only; the kernel distance has no such "
        "bias, and scatters about 0.</p>",
        _table(["verdict", "what was found", "p alone"], verdicts),
    ]
    if not verdicts:
        parts = ["<p>There is no verdict: without held-out points nothing says how near is too near.</p>"]
    if pairs.is_file():
        data = base64.b64encode(pairs.read_bytes()).decode()
        title = "Samples next to their nearest training points"
        parts.append(f'<h4>{title}</h4><img src="data:image/png;base64,{data}" alt="{title}" style="max-width: 100%">')
    for listed in found["copies"]:
        rows = [
            [
                row["sample_name"],
                row["training_name"],
                f"{row['distance']:.4g}",
                f"{row['ratio']:.3f}",
                f"{row['p']:.2g}",
                "copy" if row["named"] else "",
            ]
            for row in listed["nearest"][: min(_COPIES, max(_LISTED, listed["named"]))]
        ]
        parts.append(f"<h4>Samples most like copies ({escape(listed['space'])}): {listed['named']} named</h4>")
        if listed["named"]:
            share = f"{listed['false_share']:.0%}"
            parts.append(f"<p>Of the samples that are named, at most {share} are expected to be no copies.</p>")
        parts.append(_table(["sample", "of the training data", "distance", "over the next", "p", ""], rows))
    parts += [*_training(found["training"]), *_points(found["points"])]
    if found["withheld"]:
        parts.append("<h4>Withheld</h4>")
        parts.append(_table(["number", "why"], [[row["part"], row["reason"]] for row in found["withheld"]]))
    return "\n".join(parts)


def _training(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    pairs = [[*row["names"], f"{row['distance']:.4g}"] for row in found["near_duplicates"]]
    if pairs:
        yield "<h4>Near-duplicates among training points</h4>"
        yield _table(["training point", "another", "distance"], pairs[:_LISTED])
    alone = [[row["name"], f"{row['distance']:.4g}", f"{row['p']:.2g}"] for row in found["outliers"] if row["named"]]
    if alone:
        yield f"<h4>Training points that lie alone: {found['outliers_named']} named</h4>"
        yield _table(["training point", "distance to the 10th nearest", "p"], alone[:_LISTED])


def _points(found: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    """The points that were asked about, the most unlike first."""
    if not found:
        return
    numbers = [name for name in ("log_likelihood", "dimension", "distance") if name in found[0]]
    rows = [
        [
            row["name"],
            "unlike" if row["unlike"] else "",
            f"{row['p']:.2g}",
            row["why"] if row["unlike"] else "",
            *(f"{row[name]:.4g}" for name in numbers),
        ]
        for row in sorted(found, key=lambda row: row["p"])[: 2 * _LISTED]
    ]
    unlike = sum(row["unlike"] for row in found)
    yield f"<h4>Points that were asked about: {unlike} of {len(found)} are unlike the data</h4>"
    yield _table(["point", "", "p", "why", *(name.replace("_", " ") for name in numbers)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # The report's own tables are of names and numbers, of any length; these hold sentences.
    def row(cells: Sequence[str], tag: str) -> str:
        style = "overflow-wrap: normal; word-break: normal"
        return "<tr>" + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    return f'<table style="max-width: none">{row(head, "th")}{"".join(row(cells, "td") for cells in rows)}</table>'
