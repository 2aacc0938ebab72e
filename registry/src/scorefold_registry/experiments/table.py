"""Tables of many runs, as a person reads them on a terminal, in a file and on a page, and the CSV of the same."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from scorefold.artefacts import csv_text, json_text
from scorefold.errors import printable
from scorefold.plugin import Comparison
from scorefold_registry.experiments.measures import named_number
from scorefold_registry.experiments.points import short_names, value_text
from scorefold_registry.experiments.rows import (
    CaseRow,
    ComparisonResult,
    PointRow,
    SettingRow,
    Spread,
    SweepResult,
    component_names,
    least_of_groups,
    shortfall,
)
from scorefold_registry.run.output import cell_text
from scorefold_registry.run.progress import duration, number_text
from scorefold_registry.run.verdicts import alike

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """Cell of a table, with smaller text ``below`` it. ``reason`` explains a missing value."""

    text: str
    below: str = ""
    best: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """Heads and lines, each with a cell a column. The first ``together`` columns need not stand with the others."""

    heads: Sequence[Cell]
    lines: Sequence[Sequence[Cell]]
    together: int = 0


def compared_table(rows: Sequence[CaseRow], comparison: Comparison, short: bool = False) -> Table:
    """A line a component and a column a case, then what it cost. There must be at least one row.

    ``short`` leaves out the kind of components that are all of one.
    """
    cases = list(dict.fromkeys(row.case for row in rows))
    truths = {row.case: number_text(row.truth) for row in reversed(rows) if row.truth is not None}
    best = least_of_groups((row.case, shortfall(row, comparison)) for row in rows)
    lines, costs = [], []
    for component, name in component_names(rows).items():
        own = [row for case in cases for row in rows if (row.component, row.case) == (component, case)]
        uses = ", ".join(dict.fromkeys(use for row in own for use in row.uses))
        values = [_value(row, best.get(row.case), comparison) for row in own]
        lines.append([Cell(name if short else component, uses), *values])
        costs.append(_costs(own, comparison))
    there = [head for head in costs[0] if any(cost[head] for cost in costs)]
    for line, cost in zip(lines, costs, strict=True):
        line += [Cell(cost[head] or MISSING) for head in there]
    heads = [Cell("component"), *(Cell(case, truths.get(case, "")) for case in cases), *map(Cell, there)]
    return Table(heads, lines, together=1 + len(cases))


def _value(row: CaseRow, best: float | None, comparison: Comparison) -> Cell:
    if row.value is None:
        return Cell(MISSING, reason=without_value(row))
    distance = shortfall(row, comparison)
    value, interval = _value_and_interval(row)
    below = "; ".join([interval, *_baselines(row)] if interval else _baselines(row))
    return Cell(value, below, distance is not None and distance == best)


def _baselines(row: CaseRow) -> list[str]:
    return [f"{name} {number_text(value)}" for name, value in (row.baselines or {}).items()]


def _value_and_interval(row: CaseRow) -> tuple[str, str]:
    """A row's value and its interval, empty where there is none."""
    assert row.value is not None
    if row.interval is None:
        return number_text(float(row.value)), ""
    value, low, high = alike(float(row.value), *map(float, row.interval))
    return value, f"{low} to {high}"


def measures_table(result: ComparisonResult) -> Table:
    """A line for each component on each case: the metrics of ``--measure``, and their cost."""
    names = list(dict.fromkeys(hit or asked for asked, hit in _asked_measures(result)))
    lines = []
    for row in result.rows:
        found = [(row.metrics or {}).get(name) for name in names]
        costs = (row.cpu_seconds, row.network_calls)
        texts = [MISSING if value is None else number_text(value) for value in found]
        texts += [
            MISSING if cost is None else format(cost, form) for cost, form in zip(costs, (".1f", ","), strict=True)
        ]
        lines.append([row.component, row.case, *texts])
    return _plain(["component", "case", *names, "CPU s", "network calls"], lines)


def missing_measures(result: ComparisonResult) -> list[str]:
    """A line for each metric of ``--measure`` that no row has."""
    there = "; ".join(dict.fromkeys(name for row in result.rows for name in row.metrics or {}))
    has = f"; the rows have {there}" if there else ""
    missing = [asked for asked, hit in _asked_measures(result) if hit is None]
    return [printable(f"no row has a metric {name!r}{has}") for name in missing]


def _asked_measures(result: ComparisonResult) -> list[tuple[str, str | None]]:
    """Metrics of ``--measure``, each with its own name, or None where no row has it. Names may hold commas."""
    there = dict.fromkeys((name for row in result.rows for name in row.metrics or {}), 0.0)
    whole = {text: named_number(text, there) for text in result.measures}
    parts = [part.strip() for text, hit in whole.items() for part in ([text] if hit else text.split(","))]
    found = {part: named_number(part, there) for part in parts if part}
    return [(part, None if hit is None else hit[0]) for part, hit in found.items()]


def compared_line(row: CaseRow) -> str:
    """A row in a line, as it comes."""
    if row.error is not None:
        came = f"no value: {row.error}"
    elif row.value is None:
        came = row.headline or f"gives no {row.quantity}"
    else:
        value, interval = _value_and_interval(row)
        truth = "" if row.truth is None else f", truth {number_text(row.truth)}"
        cost = "" if row.cpu_seconds is None else f", {row.cpu_seconds:.2f} CPU s"
        calls = "" if row.network_calls is None else f", {row.network_calls:,} network calls"
        beside = "".join(f"; {text}" for text in _baselines(row))
        came = f"{value}{f' ({interval})' if interval else ''}{truth}{cost}{calls}{beside}"
    return printable(f"{row.component} on {row.case}: {came}")


def _costs(rows: Sequence[CaseRow], comparison: Comparison) -> dict[str, str]:
    """Error and cost of a component's rows, by column; empty if unknown."""

    def total(name: str, form: str) -> str:
        found = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        return format(sum(found), form) if found else ""

    return {
        "mean error" if comparison.best == "truth" else "mean regret": _mean_error(rows, comparison),
        "CPU s": total("cpu_seconds", ".1f"),
        "network calls": total("network_calls", ","),
        "training CPU s": total("training_cpu_seconds", ".1f"),
    }


def _mean_error(rows: Sequence[CaseRow], comparison: Comparison) -> str:
    """The mean absolute error in per cent of the truth, or the mean regret; with how many cases it is over."""
    if comparison.best == "truth":
        found = [abs(row.difference / row.truth) for row in rows if row.difference is not None and row.truth]
    else:
        found = [row.regret for row in rows if row.regret is not None]
    if not found:
        return ""
    mean = math.fsum(found) / len(found)
    text = f"{100 * mean:.1f} %" if comparison.best == "truth" else number_text(mean)
    return text if len(found) == len(rows) else f"{text} ({len(found)} of {len(rows)})"


def points_table(result: SweepResult) -> Table:
    """A line for each point: its number, values, measures and time."""
    short = short_names(result.fields)
    heads = ["point", *(short[field] for field in result.fields), *result.measures, "time"]
    return _plain(heads, (_point(result, row) for row in result.rows))


def _point(result: SweepResult, row: PointRow) -> list[str]:
    found = [row.measures[label] for label in result.measures]
    took = "reused" if row.reused == row.stages else duration(row.seconds)
    if row.error is not None:
        took = "ended early" if row.pruned else "failed"
    values = [value_text(row.values[field]) for field in result.fields]
    return [str(row.number), *values, *(MISSING if value is None else number_text(value) for value in found), took]


def settings_table(result: SweepResult) -> Table:
    """A line for each setting: its values, and the mean and spread of each measure over the seeds."""
    fields = [field for field in result.fields if field in result.settings[0].values]
    short = short_names(fields)
    heads = [*(short[field] for field in fields), *result.measures, "seeds"]
    return _plain(heads, (_setting(result, fields, setting) for setting in result.settings))


def _setting(result: SweepResult, fields: Sequence[str], setting: SettingRow) -> list[str]:
    failed = f" ({setting.failed} failed)" if setting.failed else ""
    measures = [spread_text(setting.measures[label]) for label in result.measures]
    return [*(value_text(setting.values[field]) for field in fields), *measures, f"{len(setting.points)}{failed}"]


def _plain(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> Table:
    return Table([Cell(head) for head in heads], [[Cell(text) for text in line] for line in lines])


def spread_text(spread: Spread) -> str:
    """A mean with its standard deviation, where there is one."""
    if spread.mean is None:
        return MISSING
    return number_text(spread.mean) + ("" if spread.std is None else f" ± {spread.std:.2g}")


def print_table(table: Table, stream: TextIO) -> None:
    """The table with rules and bold best values on a terminal, and as plain aligned text elsewhere.

    Where a terminal is too narrow for it, the columns that need not stand together are two tables.
    """
    every = list(range(len(table.heads)))
    if not stream.isatty():
        plain = io.StringIO()
        Console(file=plain, width=10_000, color_system=None).print(_drawn(table, every, " "))
        print("\n".join(line.rstrip() for line in plain.getvalue().splitlines()), file=stream)
        return
    console = Console(file=stream, highlight=False)
    needed = console.measure(_drawn(table, every, "\n"), options=console.options.update(max_width=10_000)).maximum
    parted = needed > console.width and table.together
    if parted:
        console.print(_drawn(table, every[: table.together], "\n"), "")
        every = [0, *every[table.together :]]
    console.print(_drawn(table, every, "\n"))


def _drawn(table: Table, columns: Sequence[int], break_: str) -> rich.table.Table:
    """Some columns as text; ``break_`` stands between what names a line or a column and what belongs to it."""

    def shown(cell: Cell, names: bool) -> Text:
        below = f"{break_}({cell.below})" if names and cell.below else ""
        # No markup, and nothing that steers a terminal.
        return Text(printable(cell.text + below), style="bold" if cell.best else "")

    drawn = rich.table.Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        drawn.add_column(shown(table.heads[column], True), justify="right" if column else "left", overflow="fold")
    for line in table.lines:
        drawn.add_row(*(shown(line[column], column == 0) for column in columns))
    return drawn


def compared_reasons(rows: Sequence[CaseRow]) -> list[str]:
    """Reasons why rows have no value: a line per reason, with its cases, by component."""
    components = list(dict.fromkeys(row.component for row in rows))
    empty = sorted((row for row in rows if row.value is None), key=lambda row: components.index(row.component))
    found = _by_reason((without_value(row), f"{row.component} on {row.case}") for row in empty)
    return [printable(f"{', '.join(places)}: {reason}") for reason, places in found]


def without_value(row: CaseRow) -> str:
    """Reason why a row has no value."""
    return row.error or row.headline or f"{row.component} gives no {row.quantity}"


def failures(result: SweepResult) -> list[str]:
    """Failures, each with its points."""
    failed = ((row.failure, str(row.number)) for row in result.rows if row.error is not None)
    return [f"point{'' if len(at) == 1 else 's'} {', '.join(at)}: {failure}" for failure, at in _by_reason(failed)]


def _by_reason(found: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    """Reasons with all their places, of (reason, place)."""
    places: dict[str, list[str]] = {}
    for reason, place in found:
        places.setdefault(reason, []).append(place)
    return places.items()


def summary(result: SweepResult) -> str:
    """Numbers of all points, of failed points and of points that were ended early."""
    count, pruned = len(result.rows), sum(row.pruned for row in result.rows)
    failed = f", {result.failed} failed" if result.failed else ""
    ended = f", {pruned} ended early" if pruned else ""
    return f"{count} point{'' if count == 1 else 's'}{failed}{ended}"


def best_text(result: SweepResult) -> str:
    """The best setting as text."""
    goal, _, label = str(result.goal).partition(":")
    what = "least" if goal == "min" else "greatest"
    if result.best is None:
        return f"no setting has a finite {label} at every point"
    values = result.best.values or {"seed": ", ".join(value_text(row.values["seed"]) for row in result.rows)}
    at = " ".join(f"{field}={value_text(value)}" for field, value in values.items())
    return f"{what} {label}: {spread_text(result.best.measures[label])} at {at}"


def compared_csv(rows: Sequence[CaseRow]) -> str:
    """The rows of a comparison as CSV, an interval as two columns."""
    records = []
    for row in rows:
        record: dict[str, Any] = {}
        for name, value in row.as_json().items():
            if name == "interval":
                record["lower"], record["upper"] = value or (None, None)
            elif name in ("baselines", "metrics"):
                record[name] = None if value is None else json_text(value)
            else:
                record[name] = " ".join(value) if name == "uses" else value
        records.append(record)
    return _csv([records[0], *(record.values() for record in records)])


def swept_csv(result: SweepResult) -> str:
    """A line for each point: its number, the swept fields, the measures, seconds, the run's folder and its error."""
    lines: list[list[Any]] = [["point", *result.fields, *result.measures, "seconds", "run", "error"]]
    for row in result.rows:
        values = [_swept(row.values[field]) for field in result.fields]
        measures = [row.measures[label] for label in result.measures]
        lines.append(
            [row.number, *values, *measures, row.seconds, "" if row.run is None else str(row.run), row.failure]
        )
    return _csv(lines)


def _swept(value: Any) -> Any:
    """A swept value as a cell: numbers and text as they are, anything else as JSON."""
    plain = isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool))
    return value if plain else json_text(value)


def _csv(lines: Iterable[Iterable[Any]]) -> str:
    return csv_text([cell_text(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
