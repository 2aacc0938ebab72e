"""What a comparison leaves on disk: JSON, CSV, the figure, and a page that opens from disk and needs no network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scorefold.artefacts import csv_text, write_json, write_text
from scorefold_registry.experiments.comparison_rows import Row
from scorefold_registry.experiments.comparison_table import grid, reasons
from scorefold_registry.run.csv_cells import cell_text
from scorefold_registry.run.figures import draw
from scorefold_registry.run.progress import duration
from scorefold_registry.run.report import environment_facts, figures_of, templates


def write_comparison(folder: Path, result: Any, environment: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write ``comparison.json``, ``comparison.csv``, the figures and ``report.html`` into a folder.

    ``result`` is a ``ComparisonResult``.
    """
    write_json(folder / "comparison.json", result.as_json())
    write_text(folder / "comparison.csv", csv_of(result.rows))
    write_json(folder / "environment.json", environment)
    draw("scorefold_registry.experiments.comparison_figure:draw", result.rows, folder, math=False)
    table = grid(result.rows, result.comparison)
    page = templates().get_template("comparison.html.j2")
    html = page.render(
        kind=result.kind,
        table=table,
        rows=result.rows,
        reasons=reasons(table),
        figures=figures_of(folder),
        best=result.comparison.best,
        started=datetime.now().strftime("%d %B %Y, %H:%M"),
        seconds=duration(result.seconds),
        command=shlex.join(command),
        facts=environment_facts(environment),
    )
    write_text(folder / "report.html", html)


def csv_of(rows: Sequence[Row]) -> str:
    """The rows as CSV, an interval as two columns."""
    records = [_record(row) for row in rows]
    return csv_text([[*records[0]], *([*record.values()] for record in records)])


def _record(row: Row) -> dict[str, Any]:
    fields = row.as_json()
    low, high = row.interval or (None, None)
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "interval":
            flat |= {"lower": low, "upper": high}
        else:
            text = " ".join(value) if isinstance(value, tuple) else value
            flat[name] = cell_text(text) if isinstance(text, str) else text
    return flat
