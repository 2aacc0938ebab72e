"""Figures show the curve, the plan and the threshold, and nothing where there is nothing to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scorefold.results import Allocation, PlanRow
from scorefold_allocation.allocator import MetaAllocator, allocation_figures, lines_of
from scorefold_allocation.config import MetaConfig


@pytest.fixture(scope="module")
def plan() -> Allocation:
    return MetaAllocator(MetaConfig()).allocate(960)


def test_a_figure_for_every_question(plan: Allocation, tmp_path: Path) -> None:
    figures = allocation_figures(plan)
    assert list(figures) == ["allocation", "labels per task", "budget"]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    texts = [text.get_text() for text in figures["labels per task"].axes[0].get_legend().get_texts()]
    assert "960 labels in all" in texts
    assert "the plan: 12 labels per task" in texts
    assert any(text.startswith("near-optimal: 6 to") for text in texts)


def test_lines_are_those_of_the_curve(plan: Allocation) -> None:
    lines = lines_of(plan)
    assert [line.budget for line in lines] == [240, 480, 960]
    assert sum(len(line.sizes) for line in lines) == len(plan.curve["loss"])
    for line in lines:
        assert list(line.sizes) == sorted(line.sizes)
        assert line.near[0] <= line.best <= line.near[1]
        assert all(low <= loss <= high for low, loss, high in zip(line.low, line.loss, line.high, strict=True))
    drawn = {
        tuple(each.get_xdata()): tuple(each.get_ydata())
        for each in allocation_figures(plan)["labels per task"].axes[0].lines
    }
    for line in lines:
        assert drawn[line.sizes] == line.loss


def test_the_threshold_and_the_plan_stand_in_the_figure_of_budgets(plan: Allocation) -> None:
    axes = allocation_figures(plan)["budget"].axes[0]
    places = {each.get_label(): (list(each.get_xdata()), list(each.get_ydata())) for each in axes.lines}
    assert places["threshold, 40 labels"][0] == [40, 40]
    assert places["the plan: 12 labels per task"] == ([960], [12.0])
    assert places["least loss"][0] == [240, 480, 960]
    without = replace(plan, diagnostics={**plan.diagnostics, "threshold": None})
    assert not any("threshold" in each.get_label() for each in allocation_figures(without)["budget"].axes[0].lines)


def test_the_plan_of_a_pilot_stands_at_its_own_budget(plan: Allocation) -> None:
    curve = {name: values[-12:] for name, values in plan.curve.items()}
    curve["budget"] = [240.0] * 5 + [480.0] * 7
    rows, diagnostics = (PlanRow("task", 99, 5, 5),), {**plan.diagnostics, "engine": "pilot"}
    axes = allocation_figures(replace(plan, plan=rows, leftover=10, curve=curve, diagnostics=diagnostics))[
        "budget"
    ].axes[0]
    (place,) = [list(each.get_xdata()) for each in axes.lines if each.get_label().startswith("the plan")]
    assert place == [1000]
    valleys = allocation_figures(replace(plan, plan=rows, leftover=10, curve=curve, diagnostics=diagnostics))[
        "labels per task"
    ]
    named = [str(each.get_label()) for each in valleys.axes[0].lines]
    assert "the plan: 12 labels per task, extrapolated to 1,000 labels in all" in named


def test_one_budget_and_losses_that_explode(plan: Allocation) -> None:
    curve = {name: list(values[:4]) for name, values in plan.curve.items()}
    curve["loss"], curve["high"] = [1.0, 2.0, 5.0, 1e6], [1.1, 2.2, 5.5, 1e7]
    figures = allocation_figures(replace(plan, curve=curve))
    assert list(figures) == ["allocation", "labels per task"]
    assert figures["labels per task"].axes[0].get_ylim()[1] < 10


def test_nothing_is_drawn_of_a_refusal_and_only_the_plan_without_a_curve(plan: Allocation) -> None:
    assert allocation_figures(Allocation("refused", (), 10, reason="too few labels")) == {}
    assert list(allocation_figures(replace(plan, curve={}))) == ["allocation"]
