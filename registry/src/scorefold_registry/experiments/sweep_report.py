"""What a sweep leaves and prints: JSON, CSV, figures, a page with a link to every run, and a table."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scorefold.artefacts import write_json, write_text
from scorefold.errors import printable
from scorefold_registry.experiments.points import short_names, value_text
from scorefold_registry.experiments.sweep_result import Row, Setting, Spread, SweepResult, csv_of
from scorefold_registry.run.figures import draw, erase
from scorefold_registry.run.progress import duration, number_text
from scorefold_registry.run.report import figures_of, templates

PAGE = "report.html"
MISSING = "–"


def write_sweep(result: SweepResult) -> None:
    """Write ``sweep.json``, ``sweep.csv``, the figures and ``report.html`` into the sweep's folder."""
    folder = result.folder
    write_json(folder / "sweep.json", result.as_json())
    write_text(folder / "sweep.csv", csv_of(result))
    erase(folder)  # those of what was measured before
    draw("scorefold_registry.experiments.sweep_figure:draw_sweep", result, folder, math=False)
    html = (
        templates()
        .get_template("sweep.html.j2")
        .render(
            name=result.name,
            summary=summary(result),
            seconds=duration(result.seconds),
            best=None if result.best is None else best_text(result),
            figures=figures_of(folder),
            settings=settings_table(result) if result.seeds else None,
            points=points_table(result),
            failures=failures(result),
            links=[_link(row, folder) for row in result.rows],
        )
    )
    write_text(folder / PAGE, html)


def _link(row: Row, folder: Path) -> str | None:
    """The page of a point's run, from the sweep's folder, or its traceback; None where it left neither."""
    for name in ("report.html", "error.txt"):
        if row.run is not None and (row.run / name).exists():
            return Path(os.path.relpath(row.run / name, folder)).as_posix()
    return None


Lines = tuple[list[str], list[list[str]]]
"""The heads of a table's columns, and its lines."""


def points_table(result: SweepResult) -> Lines:
    """A line for each point: its number, values, measures and time."""
    short = short_names(result.fields)
    heads = ["point", *(short[field] for field in result.fields), *result.measures, "time"]
    lines = []
    for row in result.rows:
        measures = [
            MISSING if (value := row.measures[label]) is None else number_text(value) for label in result.measures
        ]
        took = "failed" if row.error else "reused" if row.reused == row.stages else duration(row.seconds)
        values = [value_text(row.values[field]) for field in result.fields]
        lines.append([str(row.number), *values, *measures, took])
    return heads, lines


def failures(result: SweepResult) -> list[str]:
    """What went wrong, each with the points that it went wrong at."""
    points: dict[str, list[str]] = {}
    for row in result.rows:
        if row.error is not None:
            points.setdefault(row.failure, []).append(str(row.number))
    return [f"point{'' if len(at) == 1 else 's'} {', '.join(at)}: {failure}" for failure, at in points.items()]


def settings_table(result: SweepResult) -> Lines:
    """A line for each setting: its values, and the mean and spread of each measure over the seeds."""
    fields = [field for field in result.fields if field in result.settings[0].values]
    short = short_names(fields)
    heads = [*(short[field] for field in fields), *result.measures, "seeds"]
    lines = []
    for setting in result.settings:
        values = [value_text(setting.values[field]) for field in fields]
        measures = [spread_text(setting.measures[label]) for label in result.measures]
        failed = f" ({setting.failed} failed)" if setting.failed else ""
        lines.append([*values, *measures, f"{len(setting.points)}{failed}"])
    return heads, lines


def spread_text(spread: Spread) -> str:
    """A mean with its standard deviation, where there is one."""
    if spread.mean is None:
        return MISSING
    return number_text(spread.mean) + ("" if spread.std is None else f" ± {spread.std:.2g}")


def summary(result: SweepResult) -> str:
    """How many points there were and how many failed."""
    count = len(result.rows)
    failed = f", {result.failed} failed" if result.failed else ""
    return f"{count} point{'' if count == 1 else 's'}{failed}"


def best_text(result: SweepResult) -> str:
    """The best setting as text."""
    goal, _, label = str(result.goal).partition(":")
    what = "least" if goal == "min" else "greatest"
    if result.best is None:
        return f"no setting has a finite {label} at every point"
    return f"{what} {label}: {spread_text(result.best.measures[label])} at {_at(result, result.best)}"


def _at(result: SweepResult, setting: Setting) -> str:
    said = " ".join(f"{field}={value_text(value)}" for field, value in setting.values.items())
    return said or f"seed={', '.join(value_text(row.values['seed']) for row in result.rows)}"


def table_text(lines: Lines, width: int | None = None) -> str:
    """A table as plain text of at most ``width`` characters a line."""
    heads, rows = lines
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads:
        table.add_column(Text(printable(head)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    stream = io.StringIO()
    Console(file=stream, width=width or 200, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def tell_sweep(result: SweepResult, stream: TextIO) -> None:
    """Print the table, the best setting where one was asked for, and where everything is."""
    width: int | None = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    tables: Sequence[Any] = [points_table(result), *([settings_table(result)] if result.seeds else [])]
    for lines in tables:
        print(f"\n{table_text(lines, width)}", file=stream)
    for failure in failures(result):
        print(printable(f"\n{failure}"), file=stream)
    print(f"\n{summary(result)} in {duration(result.seconds)}", file=stream)
    if result.goal is not None:
        print(printable(best_text(result)), file=stream)
    for name, what in (("runs", "runs"), ("sweep.csv", "table"), (PAGE, "report")):
        print(f"{what}: {result.folder / name}", file=stream)
