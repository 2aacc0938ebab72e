"""The section of the report: verdicts in a table, then the most copied samples and what was withheld, folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
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
            yield f"Audit: {path.parent.name}", _section(found)


def _section(found: Mapping[str, Any]) -> str:
    """The table of tests, then what belongs to single points, folded."""
    verdicts = [
        [
            f"{verdict['name']}{f' ({where})' if (where := verdict['where']) else ''}: "
            f"{'found' if verdict['found'] else 'not found'}",
            verdict["text"][:1].upper() + verdict["text"][1:],
        ]
        for verdict in found["verdicts"]
    ]
    parts = ["<p>There is no verdict: without held-out points there is no reference for distances.</p>"]
    if verdicts:
        parts = [
            _table(["test", "what was found"], verdicts, ' class="stacked"'),
            f"<p>The probability of a false alarm in any of these tests is at most {found['level']:.0%}. A test that "
            "finds nothing prints the effect that it would have found. It does not prove that there is none.</p>",
        ]
        if any(verdict["where"] == "spectrum" for verdict in found["verdicts"]):
            parts.append(
                "<p>Images are compared by pixels, by features of a fixed random network (random-conv), and by their "
                "spectrum. Mirroring and moving leave the spectrum of an image unchanged.</p>"
            )
    for listed in found["copies"]:
        parts.append(_folded(f"Samples most like copies ({listed['space']}): {listed['named']} named", _copies(listed)))
    if found.get("equal"):
        pairs = [[row["sample_name"], row["training_name"]] for row in found["equal"][:_COPIES]]
        table = _table(["sample", "of the training data"], pairs)
        parts.append(_folded(f"Samples that equal a training point: {len(found['equal']):,}", table))
    parts += [*_training(found["training"]), *_points(found["points"])]
    if found["withheld"]:
        rows = [[row["part"], row["reason"]] for row in found["withheld"]]
        parts.append(_folded("Tests that were not made, with reasons", _table(["number", "why"], rows)))
    parts.append(
        _folded(
            "How to read distances between distributions",
            "<p>They are biased upwards in small samples. Compare a Frechet distance with the distance of as many "
            "training points, and with others of as many points only. The kernel distance has no such bias, and "
            "scatters about 0.</p>",
        )
    )
    return "\n".join(parts)


def _copies(listed: Mapping[str, Any]) -> str:
    """The samples that are nearest to a training point, against the next one."""
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
    share = f"<p>Of the samples that are named, at most {listed['false_share']:.0%} are expected to be no copies.</p>"
    table = _table(["sample", "of the training data", "distance", "over the next", "p", ""], rows)
    return f"{share if listed['named'] else ''}{table}"


def _training(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    pairs = [[*row["names"], f"{row['distance']:.4g}"] for row in found["near_duplicates"]]
    if pairs:
        table = _table(["training point", "another", "distance"], pairs[:_LISTED])
        yield _folded("Near-duplicates among training points", table)
    alone = [[row["name"], f"{row['distance']:.4g}", f"{row['p']:.2g}"] for row in found["outliers"] if row["named"]]
    if alone:
        table = _table(["training point", "distance to the 10th nearest", "p"], alone[:_LISTED])
        yield _folded(f"Training points that lie alone: {found['outliers_named']} named", table)


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


def _folded(title: str, html: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    # The report's own tables are of names and numbers, of any length; these hold sentences.
    def row(cells: Sequence[str], tag: str) -> str:
        style = "overflow-wrap: normal; word-break: normal; min-width: 0"
        return "<tr>" + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    # In a box of its own, so that a phone scrolls the table and not the page.
    body = row(head, "th") + "".join(row(cells, "td") for cells in rows)
    return f'<div class="wide"><table{kind} style="max-width: none">{body}</table></div>'
