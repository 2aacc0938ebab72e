"""The figures of a sweep: what stands on which axis, one line for each combination, and spread over seeds."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorefold_registry.experiments.output_files import draw_sweep
from scorefold_registry.experiments.rows import PointRow, SweepResult
from scorefold_registry.experiments.table import points_table, print_table, swept_csv
from scorefold_registry.run.stage_folder import draw


def swept(points: Sequence[tuple[Mapping[str, Any], float | None]]) -> SweepResult:
    """A sweep of these points, each with its values and what it measured."""
    rows = tuple(
        PointRow(number, values, {"s.m": value}, None, 1.0, 1, 0, None)
        for number, (values, value) in enumerate(points, start=1)
    )
    fields = tuple(points[0][0])
    return SweepResult("x", Path("x"), Path("x.yaml"), fields, ("s.m",), rows, None, 1.0)


def panels(result: SweepResult) -> tuple[Figure, list[Axes]]:
    figure = draw_sweep(result)["s.m"]
    figure.canvas.draw()
    return figure, [axes for axes in figure.axes if axes.get_visible()]


def test_seeds_give_mean_and_spread_at_each_value() -> None:
    points = [({"a.steps": steps, "seed": seed}, steps + seed) for steps in (1, 10, 100) for seed in (0, 2)]
    figure, (axes,) = panels(swept(points))
    dots, means = axes.lines[0], axes.lines[-1]
    assert sorted(zip(*dots.get_data(), strict=True)) == sorted((values["a.steps"], value) for values, value in points)
    assert list(means.get_xdata()) == [1, 10, 100]
    assert list(means.get_ydata()) == [2, 11, 101]
    (bars,) = axes.containers
    (segments,) = bars[2]
    low, high = segments.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(math.sqrt(2))
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "10", "100"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steps", "s.m")
    assert figure.get_label() == "s.m against steps, mean and standard deviation over 2 seeds"


def test_another_field_is_another_panel_and_a_line_for_each_of_its_values() -> None:
    points = [({"width": width, "kind": kind}, float(width)) for width in (1, 2, 3) for kind in ("a", "b")]
    _, (width, kind) = panels(swept(points))
    assert len(width.lines) == 2
    assert [text.get_text() for text in width.get_legend().get_texts()] == ["kind=a", "kind=b"]  # type: ignore[union-attr]
    assert width.get_xscale() == "linear"
    assert [tick.get_text() for tick in kind.get_xticklabels()] == ["a", "b"]
    assert len(kind.lines) == 3


def test_draws_are_dots_for_no_line_joins_them() -> None:
    points = [({"rate": 0.1 * number, "width": 30 - number}, float(number)) for number in range(1, 20)]
    _, (rate, _) = panels(swept(points))
    assert all(line.get_linestyle() == "None" for line in rate.lines)
    assert rate.get_legend() is None
    assert len(rate.lines) == len(points)


def test_seeds_alone_and_values_that_are_no_numbers() -> None:
    _, (axes,) = panels(swept([({"seed": seed}, value) for seed, value in enumerate([1.0, 3.0, math.nan, None])]))
    assert axes.get_xlabel() == "seed"
    assert list(axes.lines[0].get_data()[1]) == [1.0, 3.0]
    _, (axes,) = panels(swept([({"seed": seed}, float(seed)) for seed in range(3)]))
    assert list(axes.lines[1].get_ydata()) == [1.0, 1.0], "the mean"
    assert draw_sweep(swept([({"a": 1}, None), ({"a": 2}, math.inf)])) == {}
    _, (axes,) = panels(swept([({"a": 1}, 5.0)]))
    assert axes.get_xlabel() == "a"


def test_fields_and_values_are_called_anything(tmp_path: Path) -> None:
    """No mathematics between dollars, no formula in the table, and nothing that steers."""
    names = ["$\\frac{$", "=1+1", "\x1b[2J", "\u4e2d\u6587", "\u202etxt"]
    result = swept([({"a.$x": name, "b.y": number % 2}, float(number)) for number, name in enumerate(names)])
    assert draw("scorefold_registry.experiments.output_files:draw_sweep", result, tmp_path, math=False) == ["s.m"]
    text, printed = swept_csv(result), io.StringIO()
    print_table(points_table(result), printed)
    assert "'=1+1" in text
    assert not {part for part in text + printed.getvalue() if part in "\x1b\u202e"}
