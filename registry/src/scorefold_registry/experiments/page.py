"""Output files of many runs: JSON, CSV, figures, and a page that needs no network."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scorefold.artefacts import write_json, write_text
from scorefold_registry.experiments.rows import ComparisonResult, PointRow, SweepResult
from scorefold_registry.experiments.table import (
    best_text,
    compared_csv,
    compared_reasons,
    compared_table,
    failures,
    points_table,
    settings_table,
    summary,
    swept_csv,
)
from scorefold_registry.run.progress import duration
from scorefold_registry.run.report import environment_facts, figures_of, templates
from scorefold_registry.run.stage_folder import draw, erase

PAGE = "report.html"


def _write(folder: Path, name: str, json: Any, csv: str, figures: tuple[str, Any], page: Mapping[str, Any]) -> None:
    """``NAME.json``, ``NAME.csv``, the figures of a function of ``figure`` and the page of the template ``NAME``."""
    write_json(folder / f"{name}.json", json)
    write_text(folder / f"{name}.csv", csv)
    erase(folder)  # those of what was measured before
    function, shown = figures
    draw(f"scorefold_registry.experiments.figure:{function}", shown, folder, math=False)
    html = templates().get_template(f"{name}.html.j2").render(figures=figures_of(folder), **page)
    write_text(folder / PAGE, html)


def write_comparison(result: ComparisonResult, environment: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write ``comparison.json``, ``comparison.csv``, the figure and ``report.html`` into the comparison's folder."""
    write_json(result.folder / "environment.json", environment)
    page = {
        "kind": result.kind,
        "table": compared_table(result.rows, result.comparison),
        "rows": result.rows,
        "cases": list(dict.fromkeys(row.case for row in result.rows)),
        "quantities": list(dict.fromkeys(row.quantity for row in result.rows if row.quantity is not None)),
        "reasons": compared_reasons(result.rows),
        "best": result.comparison.best,
        "started": datetime.now().strftime("%d %B %Y, %H:%M"),
        "seconds": duration(result.seconds),
        "command": shlex.join(command),
        "facts": environment_facts(environment),
    }
    csv = compared_csv(result.rows)
    _write(result.folder, "comparison", result.as_json(), csv, ("draw_comparison", result.rows), page)


def write_sweep(result: SweepResult) -> None:
    """Write ``sweep.json``, ``sweep.csv``, the figures and ``report.html`` into the sweep's folder."""
    page = {
        "name": result.name,
        "summary": summary(result),
        "seconds": duration(result.seconds),
        "best": None if result.best is None else best_text(result),
        "settings": settings_table(result) if result.seeds else None,
        "points": points_table(result),
        "failures": failures(result),
        "links": [_link(row, result.folder) for row in result.rows],
    }
    _write(result.folder, "sweep", result.as_json(), swept_csv(result), ("draw_sweep", result), page)


def _link(row: PointRow, folder: Path) -> str | None:
    """The page of a point's run, from the sweep's folder, or its traceback; None where it left neither."""
    for name in ("report.html", "error.txt"):
        if row.run is not None and (row.run / name).exists():
            return Path(os.path.relpath(row.run / name, folder)).as_posix()
    return None
