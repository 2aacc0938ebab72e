"""Output files of many runs: JSON, CSV, figures, and a page that needs no network."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import json_text, write_json, write_text
from scorefold.errors import printable
from scorefold.plotting import ACCENT, INK, SOFT, WARM, tidy
from scorefold_registry.experiments.points import SEED, short_names, value_text
from scorefold_registry.experiments.rows import (
    CaseRow,
    ComparisonResult,
    PointRow,
    SettingRow,
    Spread,
    SweepResult,
    component_names,
    is_finite,
)
from scorefold_registry.experiments.table import (
    best_text,
    compared_csv,
    compared_reasons,
    compared_table,
    failures,
    measures_table,
    points_table,
    settings_table,
    summary,
    swept_csv,
)
from scorefold_registry.run.progress import duration, number_text
from scorefold_registry.run.report import environment_facts, figures_of, templates
from scorefold_registry.run.stage_folder import draw, erase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS_CASES, _ACROSS_FIELDS = 5, 3
"""Panels next to each other before a new line of them begins."""
_MOST_LINES, _MOST_TICKS, _MOST_LETTERS = 6, 5, 30
_LOG_RANGE = 30.0
"""The ratio of largest to smallest from which positive values are drawn on a logarithmic axis."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vP"
"""Colours that colour-blind readers can separate, after Okabe and Ito, with a marker each."""


def _panels(count: int, most: int, size: Callable[[int, int], tuple[float, float]]) -> tuple[Figure, list[Axes], int]:
    """A figure with so many panels, at most ``most`` in a line, and how many stand in one; ``size`` is of (in a line,
    lines)."""
    from matplotlib.figure import Figure

    across = min(most, count)
    down = -(-count // across)
    figure = Figure(figsize=size(across, down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel().tolist()
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[:count]:
        tidy(axes)
    return figure, panels, across


def draw_comparison(rows: Sequence[CaseRow]) -> Mapping[str, Figure]:
    """The figure ``comparison``: a panel a case, a line a component, each value with its interval.

    There must be at least one row.
    """
    cases = list(dict.fromkeys(row.case for row in rows))
    names = component_names(rows)
    height = 1.3 + 0.24 * len(names)
    figure, panels, _ = _panels(len(cases), _ACROSS_CASES, lambda across, down: (2.2 + 2.1 * across, down * height))
    for case, axes in zip(cases, panels, strict=False):
        _case(axes, {row.component: row for row in rows if row.case == case}, names)
        axes.set_title(printable(case), fontsize=10, color=INK)
    quantities = dict.fromkeys(row.quantity for row in rows if row.quantity is not None)
    figure.supxlabel(printable(" or ".join(quantities)), fontsize=10, color=INK)
    known = any(row.truth is not None for row in rows)
    figure.set_label(
        "The value of each component on each case, with its interval or spread."
        + " The dashed line is the truth." * known
    )
    return {"comparison": figure}


def _case(axes: Axes, rows: Mapping[str, CaseRow], names: Mapping[str, str]) -> None:
    axes.set_yticks(range(len(names)), list(names.values()))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", color=SOFT, alpha=0.4, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    truth = next((row.truth for row in rows.values() if row.truth is not None), None)
    if truth is not None:
        axes.axvline(truth, color=WARM, linestyle="--", linewidth=1.1, zorder=1)
    for place, component in enumerate(names):
        row = rows[component]
        if not is_finite(row.value):
            where = axes.get_yaxis_transform()
            axes.text(
                0.02, place, "no value", transform=where, fontsize=7.5, color="#7b8794", va="center", style="italic"
            )
            continue
        if row.interval is not None and all(map(is_finite, row.interval)):
            axes.plot(row.interval, (place, place), color=ACCENT, alpha=0.45, linewidth=3.2, solid_capstyle="butt")
        axes.plot([row.value], [place], "o", color=ACCENT, markersize=4.5)
    axes.margins(x=0.12)
    if all(row.value is None for row in rows.values()):
        axes.set_xticks([])


def draw_sweep(result: SweepResult) -> dict[str, Figure]:
    """A figure for each measure that is finite somewhere, with a panel for each field that takes several values.

    Each shows mean and spread over seeds.
    """
    fields = [field for field in result.fields if field != SEED and _count(result, field) > 1] or [SEED]
    if fields == [SEED] and not result.seeds:
        fields = [result.fields[0]]
    shown = [label for label in result.measures if any(is_finite(row.measures[label]) for row in result.rows)]
    return {label: _measure(result, label, fields) for label in shown}


def _count(result: SweepResult, field: str) -> int:
    """Number of values of a field."""
    return len({json_text(row.values[field]) for row in result.rows})


def _measure(result: SweepResult, label: str, fields: Sequence[str]) -> Figure:
    figure, panels, across = _panels(
        len(fields), _ACROSS_FIELDS, lambda across, down: (max(5.2, 3.9 * across), 3.7 * down)
    )
    short = short_names(result.fields)
    for axes, field in zip(panels, fields, strict=False):
        _field(axes, result, label, field)
        axes.set_xlabel(printable(short[field]), fontsize=9, color=INK)
    for axes in panels[::across]:
        axes.set_ylabel(printable(label), fontsize=9, color=INK)
    seeds = _count(result, SEED) if result.seeds else 1
    over = f", mean and standard deviation over {seeds} seeds" if seeds > 1 else ""
    figure.set_label(f"{label} against {' and '.join(short[field] for field in fields)}{over}")
    return figure


def _field(axes: Axes, result: SweepResult, label: str, field: str) -> None:
    place = _places(axes, [row.values[field] for row in result.rows])
    several_seeds = any(len(setting.points) > 1 for setting in result.settings)
    dots = [(place(row.values[field]), found) for row in result.rows if is_finite(found := row.measures[label])]
    if several_seeds or field == SEED:
        axes.plot(*zip(*dots, strict=True), "o", color=SOFT, markersize=4, zorder=1)
    if field == SEED:
        _level(axes, result.settings[0], label)
    else:
        _lines(axes, result, label, field, place)
    if _is_wide([found for _, found in dots]):
        axes.set_yscale("log")


def _is_wide(values: Sequence[float]) -> bool:
    """True if values need a logarithmic axis."""
    return min(values) > 0 and max(values) > _LOG_RANGE * min(values)


def _places(axes: Axes, values: Sequence[Any]) -> Callable[[Any], float]:
    """Position of a value on the x axis: the number itself, or its index."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if _is_wide(values):
            axes.set_xscale("log")
        if len(set(values)) <= _MOST_TICKS:
            ticks = sorted(set(values))
            axes.set_xticks(ticks, [number_text(tick) for tick in ticks])
            axes.minorticks_off()
        return float
    by_text = {json_text(value): value for value in values}
    order = list(by_text)
    names = [printable(value_text(value)) for value in by_text.values()]
    axes.set_xticks(range(len(order)), names, rotation=20 if sum(map(len, names)) > _MOST_LETTERS else 0)
    axes.set_xlim(-0.5, len(order) - 0.5)
    return lambda value: float(order.index(json_text(value)))


def _level(axes: Axes, setting: SettingRow, label: str) -> None:
    """Mean and spread of the one setting there is, across all seeds."""
    spread = setting.measures[label]
    if not is_finite(spread.mean):
        return
    axes.axhline(spread.mean, color=ACCENT, linewidth=1.5)
    if spread.std is not None:
        axes.axhspan(spread.mean - spread.std, spread.mean + spread.std, color=ACCENT, alpha=0.12, linewidth=0)


def _lines(axes: Axes, result: SweepResult, label: str, field: str, place: Callable[[Any], float]) -> None:
    """A line for each combination of the other fields; no lines where there are too many of them to separate."""
    groups: dict[str, list[SettingRow]] = {}
    short = short_names(result.fields)
    for setting in result.settings:
        if is_finite(setting.measures[label].mean):
            others = {name: value for name, value in setting.values.items() if name != field}
            groups.setdefault(json_text(others), []).append(setting)
    joined = len(groups) <= _MOST_LINES
    for number, settings in enumerate(groups.values()):
        ordered = sorted(settings, key=lambda setting: place(setting.values[field]))
        x = [place(setting.values[field]) for setting in ordered]
        _line(axes, x, [setting.measures[label] for setting in ordered], number if joined else None)
        if joined and len(groups) > 1:
            others = {name: value for name, value in settings[0].values.items() if name != field}
            said = " ".join(f"{short[name]}={value_text(value)}" for name, value in others.items())
            axes.lines[-1].set_label(printable(said))
    if joined and len(groups) > 1:
        axes.legend(fontsize=8, frameon=False)


def _line(axes: Axes, x: Sequence[float], spreads: Sequence[Spread], number: int | None) -> None:
    """Means with their spread: a line of a colour and a marker of its own, or dots where lines are too many."""
    colour, marker = (ACCENT, "o") if number is None else (_COLOURS[number], f"{_MARKERS[number]}-")
    means = [spread.mean for spread in spreads if is_finite(spread.mean)]
    errors = [spread.std or 0.0 for spread in spreads]
    if any(errors):
        axes.errorbar(x, means, yerr=errors, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3, zorder=2)
    axes.plot(x, means, marker, color=colour, markersize=5, linewidth=1.5, zorder=3)


PAGE = "report.html"


def _write(folder: Path, name: str, json: Any, csv: str, figures: tuple[str, Any], page: Mapping[str, Any]) -> None:
    """``NAME.json``, ``NAME.csv``, the figures of a function of this module and the page of the template ``NAME``."""
    write_json(folder / f"{name}.json", json)
    write_text(folder / f"{name}.csv", csv)
    erase(folder)  # the figures of an earlier measurement
    function, shown = figures
    draw(f"scorefold_registry.experiments.output_files:{function}", shown, folder, math=False)
    html = templates().get_template(f"{name}.html.j2").render(figures=figures_of(folder), **page)
    write_text(folder / PAGE, html)


def write_comparison(result: ComparisonResult, environment: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write ``comparison.json``, ``comparison.csv``, the figure and ``report.html`` into the comparison's folder."""
    write_json(result.folder / "environment.json", environment)
    page = {
        "kind": result.kind,
        "table": compared_table(result.rows, result.comparison),
        "measures": measures_table(result) if result.measures else None,
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
