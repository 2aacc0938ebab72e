"""A comparison as a table that a person reads: a line a component, a column a case."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scorefold.errors import printable
from scorefold.plugin import Comparison
from scorefold_registry.experiments.comparison_rows import Row, best_of, shortfall
from scorefold_registry.run.progress import number_text
from scorefold_registry.run.report import alike

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A value with its interval as text; ``best`` of its case or not; ``reason`` is why there is none."""

    value: str
    interval: str = ""
    best: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """A component: its cells in the order of the cases, what was plugged in, and its cost over all cases."""

    component: str
    uses: str
    cells: tuple[Cell, ...]
    error: str
    cpu: str
    calls: str
    training: str


@dataclass(frozen=True)
class Grid:
    """The whole table. ``truths`` has the right answer of each case as text, empty where it is not known."""

    cases: tuple[str, ...]
    truths: tuple[str, ...]
    quantities: tuple[str, ...]
    lines: tuple[Line, ...]
    error_name: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns after the cases, those that no line has left out."""
        return tuple(
            name for name, _ in self._costs(self.lines[0]) if any(dict(self._costs(x))[name] for x in self.lines)
        )

    def costs(self, line: Line) -> tuple[str, ...]:
        """A line's entries in the columns after the cases."""
        found = dict(self._costs(line))
        return tuple(found[name] for name in self.columns)

    def _costs(self, line: Line) -> list[tuple[str, str]]:
        return [
            (self.error_name, line.error),
            ("CPU s", line.cpu),
            ("network calls", line.calls),
            ("training CPU s", line.training),
        ]


def grid(rows: Sequence[Row], comparison: Comparison) -> Grid:
    """The rows as a table. There must be at least one."""
    cases = tuple(dict.fromkeys(row.case for row in rows))
    best = best_of(rows, comparison)
    lines = []
    for component in dict.fromkeys(row.component for row in rows):
        own = {row.case: row for row in rows if row.component == component}
        cells = tuple(_cell(own[case], best, comparison) for case in cases)
        lines.append(_line(component, [own[case] for case in cases], cells, comparison))
    truths = [
        next((number_text(row.truth) for row in rows if row.case == case and row.truth is not None), "")
        for case in cases
    ]
    quantities = tuple(dict.fromkeys(row.quantity for row in rows if row.quantity is not None))
    error_name = "mean error" if comparison.best == "truth" else "mean regret"
    return Grid(cases, tuple(truths), quantities, tuple(lines), error_name)


def _cell(row: Row, best: object, comparison: Comparison) -> Cell:
    assert isinstance(best, dict)
    if row.value is None:
        return Cell(MISSING, reason=row.error or row.headline or f"{row.component} gives no {row.quantity}")
    value, interval = number_text(float(row.value)), ""
    if row.interval is not None:
        value, low, high = alike(float(row.value), *map(float, row.interval))
        interval = f"{low} to {high}"
    distance = shortfall(row, comparison)
    return Cell(value, interval, distance is not None and distance == best.get(row.case))


def _line(component: str, rows: Sequence[Row], cells: tuple[Cell, ...], comparison: Comparison) -> Line:
    def total(name: str) -> str:
        found = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        if not found:
            return ""
        return f"{sum(found):,}" if name == "network_calls" else f"{sum(found):.1f}"

    uses = ", ".join(dict.fromkeys(use for row in rows for use in row.uses))
    cpu, calls, training = (total(name) for name in ("cpu_seconds", "network_calls", "training_cpu_seconds"))
    return Line(component, uses, cells, _mean_error(rows, comparison), cpu, calls, training)


def _mean_error(rows: Sequence[Row], comparison: Comparison) -> str:
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


def reasons(table: Grid) -> list[str]:
    """Why cells are empty: a line for each reason, with where it holds."""
    where: dict[str, list[str]] = {}
    for line in table.lines:
        for case, cell in zip(table.cases, line.cells, strict=True):
            if cell.reason:
                where.setdefault(cell.reason, []).append(f"{line.component} on {case}")
    return [printable(f"{', '.join(places)}: {reason}") for reason, places in where.items()]


def row_text(row: Row) -> str:
    """A row in a line, as it comes."""
    return printable(_told(row))


def _told(row: Row) -> str:
    if row.error is not None:
        return f"{row.component} on {row.case}: no value: {row.error}"
    if row.value is None:
        return f"{row.component} on {row.case}: {row.headline or f'gives no {row.quantity}'}"
    cell = _cell(row, {}, Comparison(verbs=("any",)))
    interval = f" ({cell.interval})" if cell.interval else ""
    truth = "" if row.truth is None else f", truth {number_text(row.truth)}"
    cost = "" if row.cpu_seconds is None else f", {row.cpu_seconds:.2f} CPU s"
    calls = "" if row.network_calls is None else f", {row.network_calls:,} network calls"
    return f"{row.component} on {row.case}: {cell.value}{interval}{truth}{cost}{calls}"


def print_table(table: Grid, stream: TextIO) -> None:
    """The table with rules and bold best values on a terminal, and as plain aligned text elsewhere.

    Where a terminal is too narrow for it, the costs stand in a table of their own below the values.
    """
    if not stream.isatty():
        plain = io.StringIO()
        drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        _draw(table, drawn, " ")
        Console(file=plain, highlight=False, width=10_000).print(drawn)
        print("\n".join(line.rstrip() for line in plain.getvalue().splitlines()), file=stream)
        return
    console = Console(file=stream, highlight=False)
    whole = Table(box=SIMPLE_HEAD)
    _draw(table, whole, "\n")
    unbounded = console.options.update(max_width=10_000)
    if console.measure(whole, options=unbounded).maximum <= console.width:
        console.print(whole)
        return
    for parts in ({"costs": False}, {"values": False}):
        half = Table(box=SIMPLE_HEAD)
        _draw(table, half, "\n", **parts)
        console.print(half)


def _draw(table: Grid, drawn: Table, break_: str, *, values: bool = True, costs: bool = True) -> None:
    """Fill an empty table; ``break_`` stands between a name and what belongs to it."""
    drawn.add_column("component", no_wrap=True)
    for case, truth in zip(table.cases, table.truths, strict=True):
        if values:
            drawn.add_column(_text(f"{case}{break_}({truth})" if truth else case), justify="right", no_wrap=True)
    for column in table.columns if costs else ():
        drawn.add_column(column, justify="right", no_wrap=True)
    kinds = {line.component.partition(":")[0] for line in table.lines}
    for line in table.lines:
        name = line.component if len(kinds) > 1 else line.component.partition(":")[2]
        shown = [_text(name + (f"{break_}({line.uses})" if line.uses else ""))]
        if values:
            shown += [Text(cell.value, style="bold" if cell.best else "") for cell in line.cells]
        if costs:
            shown += [Text(cost or MISSING) for cost in table.costs(line)]
        drawn.add_row(*shown)


def _text(text: str) -> Text:
    """Text that is no markup and steers no terminal."""
    return Text(printable(text))
