"""The figures of a sweep: each measure against each swept field, mean and spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import json_text
from scorefold.errors import printable
from scorefold.plotting import ACCENT, INK, SOFT, tidy
from scorefold_registry.experiments.points import short_names, value_text
from scorefold_registry.experiments.sweep_result import SEED, Setting, SweepResult
from scorefold_registry.run.progress import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES, _MOST_COLUMNS, _MOST_TICKS, _MOST_LETTERS = 6, 3, 5, 30
_LOG_RANGE = 30.0
"""The ratio of largest to smallest from which positive values are drawn on a logarithmic axis."""
_COLOURS = (ACCENT, "#d9480f", "#2b8a3e", "#862e9c", "#0b7285", "#5c4813")


def draw_sweep(result: SweepResult) -> dict[str, Figure]:
    """A figure for each measure that is finite somewhere, with a panel for each field that takes several values."""
    fields = [field for field in result.fields if field != SEED and _several(result, field)] or [SEED]
    if fields == [SEED] and not result.seeds:
        fields = [result.fields[0]]
    return {label: _figure(result, label, fields) for label in result.measures if _any_finite(result, label)}


def _several(result: SweepResult, field: str) -> bool:
    return len({json_text(row.values[field]) for row in result.rows}) > 1


def _any_finite(result: SweepResult, label: str) -> bool:
    return any(_finite(row.measures[label]) for row in result.rows)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _figure(result: SweepResult, label: str, fields: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    columns = min(len(fields), _MOST_COLUMNS)
    rows = -(-len(fields) // columns)
    figure = Figure(figsize=(max(5.2, 3.9 * columns), 3.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    short = short_names(result.fields)
    for axes, field in zip(panels, fields, strict=False):
        tidy(axes)
        _panel(axes, result, label, field)
        axes.set_xlabel(printable(short[field]), fontsize=9, color=INK)
    for axes in panels[len(fields) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel(printable(label), fontsize=9, color=INK)
    seeds = len({json_text(row.values[SEED]) for row in result.rows}) if result.seeds else 1
    over = f", mean and standard deviation over {seeds} seeds" if seeds > 1 else ""
    figure.set_label(f"{label} against {' and '.join(short[field] for field in fields)}{over}")
    return figure


def _panel(axes: Axes, result: SweepResult, label: str, field: str) -> None:
    place = _places(axes, [row.values[field] for row in result.rows])
    several_seeds = any(len(setting.points) > 1 for setting in result.settings)
    if several_seeds or field == SEED:
        dots = [(place(row.values[field]), row.measures[label]) for row in result.rows if _finite(row.measures[label])]
        axes.plot(*zip(*dots, strict=True), "o", color=SOFT, markersize=4, zorder=1)
    if field == SEED:
        _level(axes, result.settings[0], label)
    else:
        _lines(axes, result, label, field, place)
    values = [value for row in result.rows if (value := row.measures[label]) is not None and math.isfinite(value)]
    if min(values) > 0 and max(values) > _LOG_RANGE * min(values):
        axes.set_yscale("log")


def _places(axes: Axes, values: Sequence[Any]) -> Any:
    """Where a value stands on the x axis: a number at itself, anything else at its turn."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if min(values) > 0 and max(values) > _LOG_RANGE * min(values):
            axes.set_xscale("log")
        if len(set(values)) <= _MOST_TICKS:
            ticks = sorted(set(values))
            axes.set_xticks(ticks, [number_text(tick) for tick in ticks])
            axes.minorticks_off()
        return float
    order = list(dict.fromkeys(json_text(value) for value in values))
    names = [printable(value_text(value)) for value in {json_text(value): value for value in values}.values()]
    axes.set_xticks(range(len(order)), names, rotation=20 if sum(map(len, names)) > _MOST_LETTERS else 0)
    axes.set_xlim(-0.5, len(order) - 0.5)
    return lambda value: float(order.index(json_text(value)))


def _level(axes: Axes, setting: Setting, label: str) -> None:
    """Mean and spread of the one setting there is, across all seeds."""
    spread = setting.measures[label]
    if spread.mean is None or not math.isfinite(spread.mean):
        return
    axes.axhline(spread.mean, color=ACCENT, linewidth=1.5)
    if spread.std is not None:
        axes.axhspan(spread.mean - spread.std, spread.mean + spread.std, color=ACCENT, alpha=0.12, linewidth=0)


def _lines(axes: Axes, result: SweepResult, label: str, field: str, place: Any) -> None:
    """A line for each combination of the other fields; no lines where there are too many of them to separate."""
    groups: dict[str, list[Setting]] = {}
    names: dict[str, str] = {}
    short = short_names(result.fields)
    for setting in result.settings:
        if _finite(setting.measures[label].mean):
            others = {name: value for name, value in setting.values.items() if name != field}
            key = json_text(others)
            groups.setdefault(key, []).append(setting)
            names[key] = " ".join(f"{short[name]}={value_text(value)}" for name, value in others.items())
    joined = len(groups) <= _MOST_LINES
    for number, (key, settings) in enumerate(groups.items()):
        ordered = sorted(settings, key=lambda setting: place(setting.values[field]))
        colour = _COLOURS[number] if joined else ACCENT
        _line(axes, ordered, label, [place(setting.values[field]) for setting in ordered], colour, joined)
        if joined and len(groups) > 1:
            axes.lines[-1].set_label(printable(names[key]))
    if joined and len(groups) > 1:
        axes.legend(fontsize=8, frameon=False)


def _line(axes: Axes, settings: Sequence[Setting], label: str, x: Sequence[float], colour: str, joined: bool) -> None:
    spreads: Sequence[Mapping[str, Any]] = [vars(setting.measures[label]) for setting in settings]
    means = [spread["mean"] for spread in spreads]
    errors = [spread["std"] or 0.0 for spread in spreads]
    if any(errors):
        axes.errorbar(x, means, yerr=errors, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3, zorder=2)
    axes.plot(x, means, "o-" if joined else "o", color=colour, markersize=5, linewidth=1.5, zorder=3)
