"""Each figure draws what it is given and says what it is."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import ScorefoldError
from scorefold.interfaces import TensorSource
from scorefold.plotting import new_figure
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold_toolkit import figures as event_figures
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.figures import EventGroups
from scorefold_toolkit.training import FitReport
from scorefold_verbs.figures import _signals
from scorefold_verbs.figures import estimate_figures as estimate_figures
from scorefold_verbs.figures import geometry as geometry_figures
from scorefold_verbs.figures import likelihood as likelihood_figures
from scorefold_verbs.load import data as data_figures


def axes_of(figure: Figure) -> Axes:
    figure.draw_without_rendering()
    return figure.axes[0]


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def canvas(figure: Figure) -> Tensor:
    (picture,) = axes_of(figure).images
    return torch.as_tensor(picture.get_array())


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line with a label of its own or of none."""
    return {
        f"{place}:{line.get_label()}": list(zip(*(list(map(float, part)) for part in line.get_data()), strict=True))
        for place, line in enumerate(axes.lines)
    }


def test_a_grid_places_every_image_and_keeps_the_scale_it_is_given() -> None:
    images = torch.arange(1.0, 6.0)[:, None, None, None].expand(5, 1, 2, 3) / 10
    shown = canvas(event_figures.image_grid(images, columns=2, limits=(0.0, 1.0)))
    assert shown.shape == (3 * 3 - 1, 2 * 4 - 1)
    for position in range(5):
        top, left = 3 * (position // 2), 4 * (position % 2)
        torch.testing.assert_close(shown[top : top + 2, left : left + 3], images[position, 0])
    assert bool((shown[2] == 1).all())
    assert bool((shown[:, 3] == 1).all())
    own = canvas(event_figures.image_grid(images, columns=2))
    assert (float(own[0, 0]), float(own[6, 0])) == (0.0, 1.0)


def test_a_grid_of_one_flat_image_and_of_colours() -> None:
    assert float(canvas(event_figures.image_grid(torch.full((1, 1, 2, 2), 7.0))).max()) == 0
    shown = canvas(event_figures.image_grid(torch.rand(3, 3, 4, 4)))
    assert shown.shape == (4, 3 * 5 - 1, 3)


def test_images_stand_next_to_the_images_that_are_their_conditions() -> None:
    x, low = torch.rand(20, 3, 8, 8), torch.rand(20, 1, 4, 4)
    for condition in (low, {"mask": torch.ones(20, 1), "image": low}):
        (figure,) = data_figures(TensorSource({"test": Dataset(x, condition)})).values()
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["condition", "image"] * 3
        first, second = (axes.images[0].get_array().shape for axes in figure.axes[:2])  # type: ignore[union-attr]
        assert (first, second) == ((39, 4), (71, 8, 3))
    (grid,) = data_figures(TensorSource({"test": Dataset(x, torch.arange(20))})).values()
    assert len(grid.axes) == 1


def test_data_are_images_or_points() -> None:
    images = TensorSource(torch.full((40, 1, 3, 3), 0.25), EventScale(low=0.0, high=1.0))
    (figure,) = data_figures(images).values()
    assert float(canvas(figure)[0, 0]) == 0.25
    assert canvas(figure).shape == (4 * 4 - 1, 8 * 4 - 1)
    (figure,) = data_figures(TensorSource(torch.randn(50, 2))).values()
    assert len(axes_of(figure).collections[0].get_offsets()) == 50
    assert data_figures(TensorSource({"test": Dataset(torch.zeros(0, 1, 3, 3))}, EventScale())) == {}
    assert data_figures(TensorSource({"test": Dataset(torch.zeros(1, 3))}, EventScale())) == {}


def test_a_scatter_shows_the_two_widest_directions() -> None:
    x = torch.randn(200, 5, dtype=torch.float64) * torch.tensor([0.1, 9.0, 0.1, 3.0, 0.1])
    (figure,) = event_figures.samples(x).values()
    points = torch.as_tensor(axes_of(figure).collections[0].get_offsets().data)
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    torch.testing.assert_close(points.square().sum(0), values[-2:].flip(0))
    torch.testing.assert_close(points.abs(), (centred @ vectors[:, [-1, -2]]).abs())
    assert axes_of(figure).get_xlabel() == "first principal direction"


def test_points_of_a_plane_stay_where_they_are_and_numbers_make_a_histogram() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    (figure,) = event_figures.samples(x).values()
    assert axes_of(figure).collections[0].get_offsets().tolist() == x.tolist()
    (figure,) = event_figures.samples(torch.randn(70, 1)).values()
    assert sum(bar.get_height() for bar in axes_of(figure).patches) == 70
    assert event_figures.samples(torch.zeros(1, 4)) == {}


def test_images_in_groups_are_rows() -> None:
    x = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 2, 2)
    (figure,) = event_figures.samples(EventGroups(x, "one condition")).values()
    shown = canvas(figure)
    assert shown.shape == (2 * 3 - 1, 3 * 3 - 1)
    torch.testing.assert_close(shown[::3, ::3], x[:, :, 0, 0, 0] / 5)
    assert axes_of(figure).get_title() == "Each row: one condition"


def test_a_path_of_images_shows_both_ends() -> None:
    x = torch.arange(30.0).reshape(1, 30, 1, 1).expand(1, 30, 2, 2)
    (figure,) = event_figures.samples(EventGroups(x, "one geodesic", path=True)).values()
    row = canvas(figure)[0, ::3] * 29
    assert (float(row[0]), float(row[-1])) == (0.0, 29.0)
    assert len(row) == 9
    assert float(row.diff().min()) > 2


def test_vectors_in_groups_are_colours_and_paths_are_lines() -> None:
    """Three axes (groups, events, coordinates) are no images."""
    x = torch.randn(3, 20, 2)
    (figure,) = event_figures.samples(EventGroups(x, "one condition")).values()
    clouds = axes_of(figure).collections
    assert [torch.as_tensor(cloud.get_offsets().data).tolist() for cloud in clouds] == x.double().tolist()
    assert len({tuple(cloud.get_facecolor()[0]) for cloud in clouds}) == 3
    assert len({cloud.get_paths()[0].vertices.tobytes() for cloud in clouds}) == 3, "a second cue besides the colour"
    assert axes_of(figure).get_title() == "Each colour and marker: one condition"
    (figure,) = event_figures.samples(EventGroups(x, "one geodesic", path=True)).values()
    path, start, end, *_ = lines(axes_of(figure)).values()
    assert path == [tuple(point) for point in x[0].double().tolist()]
    assert (start, end) == ([path[0]], [path[-1]])
    among = torch.randn(50, 2)
    (figure,) = event_figures.samples(EventGroups(x, "one geodesic", path=True, among=among)).values()
    (behind,) = axes_of(figure).collections
    assert torch.as_tensor(behind.get_offsets().data).tolist() == among.double().tolist()
    assert axes_of(figure).get_title() == "Each line: one geodesic; grey: the data"
    assert next(iter(lines(axes_of(figure)).values())) == path
    (figure,) = event_figures.samples(EventGroups(x[:1], "samples", among=among)).values()
    assert axes_of(figure).get_title() == "Samples; grey: the data"
    (figure,) = event_figures.samples(EventGroups(torch.randn(2, 4, 1), "one condition")).values()
    assert axes_of(figure).get_ylabel() == "x"


def report(*rows: dict[str, Any]) -> FitReport:
    return FitReport(history=list(rows))


def test_a_training_of_one_phase() -> None:
    drawn = event_figures.training(
        report(
            {"step": 10, "phase": "fit", "loss": 3.0, "learning_rate": 0.1},
            {"step": 20, "phase": "fit", "loss": 2.0, "learning_rate": 0.1},
            {"step": 20, "phase": "fit", "validation": 2.5},
        )
    )
    axes = axes_of(drawn["training"])
    assert lines(axes) == {"0:training": [(10, 3), (20, 2)], "1:held out": [(20, 2.5)]}
    assert legend(axes) == ["training", "held out"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "linear")


def test_phases_are_lines_of_their_own_that_do_not_overlap() -> None:
    drawn = event_figures.training(
        report(
            *({"step": step, "phase": "body", "loss": 100.0 / step} for step in (5, 10)),
            {"step": 10, "phase": "body", "validation": 4.0},
            *({"step": step, "phase": "head", "loss": 1.0 / step} for step in (15, 20)),
        )
    )
    axes = axes_of(drawn["training"])
    first, held_out, mark, second, other_mark = lines(axes).values()
    assert [step for step, _ in first] == [5, 10]
    assert [step for step, _ in second] == [15, 20]
    assert held_out == [(10, 4)]
    assert (mark[0][0], other_mark[0][0]) == (0, 10)
    assert [text.get_text().strip() for text in axes.texts] == ["body", "head"]
    assert legend(axes) == ["training", "held out"]
    assert axes.get_yscale() == "log"  # from 20 to 0.05


def test_a_training_without_steps_has_no_figure() -> None:
    assert event_figures.training(FitReport()) == {}
    assert event_figures.training({}) == {}


def test_log_likelihoods() -> None:
    (figure,) = likelihood_figures({"log_prob": torch.tensor([-3.0, torch.nan, -1.0], dtype=torch.float64)}).values()
    axes = axes_of(figure)
    assert sum(bar.get_height() for bar in axes.patches) == 2
    assert legend(axes) == ["mean -2.00"]
    assert lines(axes)["0:mean -2.00"][0][0] == -2
    assert "nats" in axes.get_xlabel()


def test_distances() -> None:
    distances = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    (figure,) = geometry_figures(distances).values()
    assert torch.equal(canvas(figure), distances)
    assert figure.axes[1].get_ylabel() == "distance"
    assert geometry_figures({}) == {}


def test_an_estimate_over_points() -> None:
    pointwise = torch.tensor([10.0, 11.0, 11.0, 13.0, math.nan])
    answer = Estimate("intrinsic dimension", 11.25, (10.5, 12.0), 0.975, pointwise=pointwise)
    axes = axes_of(answer.plot())
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    assert bars[:4] == [(10, 1), (11, 2), (12, 0), (13, 1)]
    assert legend(axes) == ["4 points", "intrinsic dimension 11.25  (97.5%: 10.5 to 12)"]
    assert lines(axes)["0:intrinsic dimension 11.25  (97.5%: 10.5 to 12)"][0][0] == 11.25
    assert axes.get_xlabel() == "intrinsic dimension"


def test_an_estimate_without_points_and_one_with_fractions() -> None:
    bare = axes_of(Estimate("entropy", 2.5).plot())
    assert legend(bare) == ["entropy 2.5"]
    assert list(bare.get_yticks()) == []
    spread = axes_of(Estimate("entropy", 2.5, pointwise=torch.rand(30)).plot())
    assert sum(bar.get_height() for bar in spread.patches) == 30
    hopeless = Estimate("entropy", 2.5, pointwise=torch.full((3,), math.nan))
    assert legend(axes_of(hopeless.plot())) == ["entropy 2.5"]


def test_spectra_stand_beside_the_estimate() -> None:
    assert set(estimate_figures(Estimate("dimension", 2.0))) == set(), "one number needs no histogram"
    few = torch.tensor([2.0, float("nan")])
    assert set(estimate_figures(Estimate("dimension", 2.0, pointwise=few))) == set()
    assert set(estimate_figures(Estimate("dimension", 2.0, pointwise=torch.ones(9)))) == set()
    assert set(estimate_figures(Estimate("dimension", 2.0, pointwise=torch.tensor([1.0, 2.0])))) == {"estimate"}
    small = Estimate("curvature", 4e-7, pointwise=torch.tensor([1e-8, 2e-7, 9e-7]))
    assert set(estimate_figures(small)) == {"estimate"}, "relative to the values"
    for spectrum in (torch.empty(0, 3), torch.tensor([[torch.nan, -torch.inf]])):
        assert set(estimate_figures(Estimate("dimension", 2.0, spectrum=spectrum))) == set()
    (figure,) = estimate_figures(Estimate("dimension", 2.0, spectrum=torch.tensor([[1.0, -torch.inf, -2.0]]))).values()
    assert axes_of(figure).get_ylim()[0] == -2
    spectrum = torch.tensor([[3.0, 2.0, 0.0], [4.0, 1.0, 0.0]])
    drawn = estimate_figures(Estimate("dimension", 2.0, spectrum=spectrum))
    axes = axes_of(drawn["spectrum"])
    assert list(lines(axes).values()) == [[(1, 3), (2, 2), (3, 0)], [(1, 4), (2, 1), (3, 0)]]
    assert axes.get_title() == "Spectra at 2 points"
    assert axes.get_ylim()[0] == 0
    assert all(place == round(place) for place in axes.get_xticks())


def test_a_legend_below_covers_no_curve() -> None:
    figure, axes = new_figure()
    axes.plot([0, 1], [1, 0], label="a curve")
    event_figures.legend_below(axes)
    figure.draw_without_rendering()
    found = axes.get_legend()
    assert found is not None
    assert found.get_window_extent().y1 < axes.get_xaxis().get_tightbbox().y0  # type: ignore[union-attr]
    assert found.get_window_extent().y0 > 0


def test_series_differ_in_colour_and_in_shape() -> None:
    styles = [event_figures.series(number) for number in range(10)]
    assert len({style["color"] for style in styles}) == len({style["marker"] for style in styles}) == 10


def test_ends_that_are_far_apart_come_from_both_sides() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0, 1.0])
    start, end = event_figures.far_apart(x, 4)
    assert start.shape == end.shape == (4, 3)
    assert float((start[:, 1] - end[:, 1]).abs().min()) > 9
    assert {float(start[0, 1]), float(end[0, 1])} == {float(x[:, 1].min()), float(x[:, 1].max())}


def test_an_allocation_has_a_bar_a_row_though_types_repeat() -> None:
    plan = Allocation("optimal", (PlanRow("easy", 5, 3, 2), PlanRow("easy", 2, 10, 1)), leftover=7)
    axes = axes_of(event_figures.allocation(plan)["allocation"])
    assert [bar.get_height() for bar in axes.patches] == [15, 20, 10, 2]
    assert [bar.get_y() for bar in axes.patches] == [0, 0, 15, 20]
    assert len({bar.get_x() for bar in axes.patches}) == 2
    assert axes.get_title() == "47 labels spent, 7 left over"
    assert legend(axes) == ["support labels", "query labels"]
    assert next(tick.get_text() for tick in axes.get_xticklabels()) == "5 tasks of easy,\n3 + 2 labels each"
    assert event_figures.allocation(Allocation("infeasible", (), 9)) == {}


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ScorefoldError, match="pip install matplotlib"):
        new_figure()


def test_answers_for_labels_stand_on_an_axis_that_begins_at_0() -> None:
    rows = [
        {"label": 0, "name": "shirt", "value": 200.0, "interval": (167.0, 233.0)},
        {"label": 1, "name": "trouser", "value": 104.0, "interval": (91.0, 117.0)},
    ]
    figure = event_figures.by_label(Estimate("dimension", 150.0, diagnostics={"by_label": rows}))["by-label"]
    low, high = figure.axes[0].get_xlim()
    assert low == 0
    assert high > 233


def test_signals_are_curves() -> None:
    """A panel a signal, a line a channel, of the values that are given."""
    x = torch.randn(5, 2, 32)
    figure = event_figures.samples(x)["samples"]
    axes_of(figure)
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 5
    assert [len(axes.lines) for axes in panels] == [2] * 5
    drawn = torch.tensor(panels[3].lines[1].get_ydata())
    torch.testing.assert_close(drawn, x[3, 1])
    assert len(event_figures.samples(torch.randn(40, 1, 32))["samples"].axes) == 12
    assert event_figures.samples(torch.randn(4, 28, 28))["samples"].axes[0].images  # images without a channel


def test_signals_given_one_condition_share_a_panel() -> None:
    groups = EventGroups(torch.randn(3, 4, 1, 32), "one condition")
    figure = event_figures.samples(groups)["samples"]
    assert [len(axes.lines) for axes in figure.axes] == [4] * 3
    assert "one condition" in figure.get_suptitle()


def test_data_of_signals_show_what_was_observed() -> None:
    x = torch.randn(6, 1, 32)
    seen = x.clone()
    seen[..., 10:] = 0
    (figure,) = data_figures(TensorSource({"test": Dataset(x, seen)})).values()
    lines = figure.axes[2].lines
    assert len(lines) == 2
    torch.testing.assert_close(torch.tensor(lines[0].get_ydata()), x[2, 0])
    torch.testing.assert_close(torch.tensor(lines[1].get_ydata()), x[2, 0, :10])


def test_draws_of_signals_stand_over_the_truth() -> None:
    """Five draws in colour, the truth as a line and what was observed of it as dots; six panels at most."""
    truth = torch.randn(8, 1, 32)
    units = SimpleNamespace(low=None, high=None)
    shown = SimpleNamespace(truth=truth, condition=truth.clone(), draws=torch.randn(8, 7, 1, 32), units=units)
    shown.calibration = SimpleNamespace()
    figure = _signals(shown)  # type: ignore[arg-type]
    assert figure is not None
    assert [len(axes.lines) for axes in figure.axes] == [5 + 1 + 1] * 6
    torch.testing.assert_close(torch.tensor(figure.axes[4].lines[5].get_ydata()), truth[4, 0])
    shown.calibration = None
    figure = _signals(shown)  # type: ignore[arg-type]
    assert figure is not None
    assert [len(axes.lines) for axes in figure.axes] == [1 + 1] * 8 + [0]
    shown.truth = torch.randn(8, 3)
    assert _signals(shown) is None  # type: ignore[arg-type]


def test_paths_and_points_have_captions_of_their_own() -> None:
    lines = EventGroups(torch.rand(2, 5, 2), "pair of points", path=True)
    assert event_figures.samples(lines)["samples"].get_label().startswith("Paths between pairs of points")
    assert event_figures.samples(torch.rand(9, 2))["samples"].get_label().startswith("Samples of this stage")
    signals = EventGroups(torch.arange(20.0)[:, None, None].expand(2, 20, 1, 64), "pair of points", path=True)
    figure = event_figures.samples(signals)["samples"]
    assert "signals as curves in a panel" in figure.get_label()
    shown = [line.get_ydata()[0] for line in figure.axes[0].lines]
    assert (shown[0], shown[-1], len(shown)) == (0, 19, 9), "both ends of a path"
    found = captioned({"samples": "Geodesics."})(event_figures.samples)
    assert found(lines)["samples"].get_label() == "Geodesics."
