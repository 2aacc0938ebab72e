"""The section of the report: verdicts in a table, the most copied samples, and what was withheld."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from scorefold.artefacts import read_json
from scorefold.stage import RunInfo

_LISTED = 12


def sections(run: RunInfo) -> Iterator[tuple[str, str]]:
    """A section for each audit of a run: (title, HTML)."""
    for path in sorted(run.folder.glob("*/result.json")):
        found = read_json(path).get("audit")
        if found is not None:
            yield f"Audit: {path.parent.name}", _section(found)


def _section(found: Mapping[str, Any]) -> str:
    verdicts = [
        [
            "found" if verdict["found"] else "not found",
            verdict["name"],
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
        _table(["", "verdict", "what was found", "p alone"], verdicts),
    ]
    for listed in found["copies"]:
        rows = [
            [
                str(row["sample"]),
                str(row["training"]),
                f"{row['distance']:.4g}",
                f"{row['ratio']:.3f}",
                f"{row['p']:.2g}",
                "copy" if row["named"] else "",
            ]
            for row in listed["nearest"][:_LISTED]
        ]
        parts.append(f"<h4>Samples most like copies ({escape(listed['space'])}): {listed['named']} named</h4>")
        parts.append(_table(["sample", "training point", "distance", "over the next", "p", ""], rows))
    if found["withheld"]:
        parts.append("<h4>Withheld</h4>")
        parts.append(_table(["number", "why"], [[row["part"], row["reason"]] for row in found["withheld"]]))
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    # The report's own tables are of names and numbers; these hold sentences.
    style = "max-width: none; overflow-wrap: normal"
    return f'<table style="{style}">{row(head, "th")}{"".join(row(cells, "td") for cells in rows)}</table>'
