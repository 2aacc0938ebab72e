"""Figures of answers: estimates, likelihoods, geodesics, and draws next to the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, new_figure, tidy
from scorefold.results import Estimate
from scorefold_toolkit.figures import as_images, by_label, curves, own_limits, plane, strips
from scorefold_toolkit.nn.reshape import is_signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scorefold_verbs.assess import Assessed
    from scorefold_verbs.measures import Calibration


_DRAWS, _GROUPS = 5, 8
_GAP = 1


def assessment(shown: Assessed) -> Mapping[str, Figure]:
    """Held-out points beside their draws (images in rows, signals as curves, vectors in a plane), and for conditional
    models the coverage and the places of the truths."""
    figures = {"draws": _signals(shown) or _images(shown) or _points(shown)}
    if shown.calibration is not None and shown.draws.shape[1] > 1:
        figures["calibration"] = _calibration(shown.calibration)
    return figures


def _signals(shown: Assessed) -> Figure | None:
    """A panel for each held-out signal, with its draws in colours and the truth in black."""
    if not is_signal(shown.truth.shape[1:]):
        return None
    if shown.calibration is None:
        return curves(shown.draws[:, :1], "Draws (colours) and held-out signals (black)", truth=shown.truth)
    seen = shown.condition if shown.condition is not None and shown.condition.shape == shown.truth.shape else None
    title = "Each panel: a held-out signal (black) and its draws"
    return curves(shown.draws[:, :_DRAWS], title, truth=shown.truth, observed=seen, panels=6)


def _images(shown: Assessed) -> Figure | None:
    """Condition, truth, draws, their mean and their standard deviation, a row for each held-out point."""
    truth = as_images(shown.truth)
    if truth is None:
        return None
    each = shown.draws[:, :_DRAWS]
    spread = shown.draws.shape[1] > 1 and shown.calibration is not None
    columns: list[tuple[str, Tensor, tuple[float, float]]] = []
    bounds = (shown.units.low, shown.units.high)
    if shown.condition is not None:
        seen = as_images(shown.condition)
        assert seen is not None
        wide = functional.interpolate(seen, truth.shape[2:], mode="nearest")
        columns.append(("condition", wide, own_limits(seen, bounds)))
    columns.append(("truth" if shown.calibration is not None else "held out", truth, bounds))
    for number in range(each.shape[1]):
        drawn = as_images(each[:, number])
        assert drawn is not None
        columns.append((f"draw {number + 1}", drawn, bounds))
    if spread:
        mean = as_images(shown.draws.mean(1))
        assert mean is not None
        columns.append(("mean", mean, bounds))
    return strips(columns, shown.draws.float().std(1).reshape(len(truth), -1, *truth.shape[2:]) if spread else None)


def _points(shown: Assessed) -> Figure:
    """Draws and truths in one plane: with conditions a colour for each, the truth ringed; else draws over truths."""
    import matplotlib

    figure, axes = new_figure(5.4, 4.6)
    groups = shown.draws[:_GROUPS, :500].flatten(2) if shown.calibration is not None else shown.draws.flatten(2)
    truth = shown.truth[: len(groups)].flatten(1)
    each = groups.shape[1]
    if truth.shape[1] == 1:  # a column of numbers for each held-out point
        position = torch.arange(len(truth), dtype=torch.float64)
        all_points = torch.stack([position[:, None].expand(-1, each).flatten(), groups.flatten().double()], 1)
        points, truths = all_points.unflatten(0, (len(truth), each)), torch.stack([position, truth[:, 0].double()], 1)
        names = ("held-out point", "x")
    else:
        both, names = plane(torch.cat([truth, groups.flatten(0, 1)]))
        truths, points = both[: len(truth)], both[len(truth) :].unflatten(0, (len(truth), each))
        axes.set_aspect("equal", adjustable="datalim")
    if shown.calibration is None:
        flat = points.flatten(0, 1)
        axes.scatter(truths[:, 0], truths[:, 1], s=14, color=WARM, linewidths=0, label="held out", zorder=3)
        axes.scatter(flat[:, 0], flat[:, 1], s=6, color=ACCENT, alpha=0.4, linewidths=0, label="draws")
    else:
        colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
        for number, (group, one) in enumerate(zip(points, truths, strict=True)):
            label = ("draws", "truth") if number == 0 else (None, None)
            axes.scatter(
                group[:, 0], group[:, 1], s=6, color=[colours[number]], alpha=0.5, linewidths=0, label=label[0]
            )
            axes.plot(*one.tolist(), "o", color=colours[number], markeredgecolor=INK, markersize=8, label=label[1])
        axes.set_title("Each colour: one condition", fontsize=10, color=INK)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend(frameon=False, fontsize=9)
    return figure


def _calibration(calibration: Calibration) -> Figure:
    """The coverage of central intervals against their mass, and the histogram of the truths' places."""
    figure = empty_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        tidy(axes)
    levels = torch.linspace(0.05, 0.95, 19).tolist()
    shares = torch.tensor([calibration.shares(level) for level in levels], dtype=torch.float64)
    left.plot([0, 1], [0, 1], color=WARM, linewidth=1, label="calibrated")
    left.fill_between(levels, shares[:, 0] - 2 * shares[:, 1], shares[:, 0] + 2 * shares[:, 1], color=ACCENT, alpha=0.2)
    left.plot(levels, shares[:, 0], color=ACCENT, label="these draws, ± 2 s.e.")
    left.set(xlabel="mass of the central interval", ylabel="truths inside", xlim=(0, 1), ylim=(0, 1))
    left.set_aspect("equal")
    left.legend(frameon=False, fontsize=8)
    places = calibration.places[~calibration.places.isnan()].double()
    right.hist(places.numpy(), bins=20, range=(0, 1), density=True, color=SOFT)
    right.axhline(1, color=WARM, linewidth=1)
    right.set(xlabel="place of the truth among the draws", ylabel="density", xlim=(0, 1))
    right.set_title(
        f"{len(calibration.places)} truths, {calibration.places.shape[1]} coordinates", fontsize=9, color=INK
    )
    return figure


def estimate_figures(answer: Estimate) -> Mapping[str, Figure]:
    """The estimate over points, where it has several; spectra and answers for labels where there are any."""
    figures = {}
    if answer.pointwise is not None and int(answer.pointwise.isfinite().sum()) > 1:
        figures["estimate"] = answer.plot()
    if answer.spectrum is not None:
        figure, axes = new_figure()
        for row in answer.spectrum[:20].detach().cpu().double():
            axes.plot(range(1, len(row) + 1), row.numpy(), color=ACCENT, alpha=0.4, linewidth=1)
        axes.set(xlabel="rank", ylabel="spectrum", title=_at_points(min(20, len(answer.spectrum))))
        figures["spectrum"] = figure
    return {**figures, **by_label(answer)}


def _at_points(count: int) -> str:
    return "Spectrum at one point" if count == 1 else f"Spectra at {count} points"


def geometry(distances: Any) -> Mapping[str, Figure]:
    """The matrix of distances between some points; nothing where no data were given."""
    if not isinstance(distances, Tensor):
        return {}
    figure, axes = new_figure(5.0, 4.2)
    picture = axes.imshow(distances.numpy(), cmap="viridis")
    figure.colorbar(picture, ax=axes, label="distance")
    axes.set(title="Distances between test points", xlabel="point", ylabel="point")
    return {"distances": figure}


def likelihood(values: Mapping[str, Tensor]) -> Mapping[str, Figure]:
    """The histogram of log-likelihoods over points."""
    log_prob = values["log_prob"]
    figure, axes = new_figure()
    axes.hist(log_prob.numpy(), bins=40, color=SOFT)
    axes.axvline(float(log_prob.mean()), color=ACCENT, label=f"mean {float(log_prob.mean()):.2f}")
    axes.set(xlabel="log-likelihood (nats)", ylabel="points")
    axes.legend(frameon=False, fontsize=9)
    return {"log-likelihood": figure}


def outlier_figures(scores: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Figure]:
    """The histograms of each outlier score: over usual points, and over unusual ones where there are any.

    What lies beyond three times the range of the usual ones stands in the last bar, so that these are seen.
    """
    usual, unusual = scores["usual"], scores.get("unusual")
    figure = empty_figure(3.4 * len(usual) + 0.6, 3.2)
    places = figure.subplots(1, len(usual), squeeze=False)[0]
    for axes, (name, values) in zip(places, usual.items(), strict=True):
        tidy(axes)
        both = values if unusual is None else torch.cat((values, unusual[name]))
        limit = float(3 * values.max() - 2 * values.min())
        high = min(float(both.max()), limit)
        edges = torch.linspace(float(both.min()), high + 1e-9, 41).tolist()
        axes.hist(values.numpy(), bins=edges, color=SOFT, label="usual", density=True)
        if unusual is not None:
            shown = unusual[name].clamp(max=high).numpy()
            axes.hist(shown, bins=edges, color=WARM, alpha=0.6, label="unusual", density=True)
        units = "bits" if name == "condition cost" else "bits a dimension"
        beyond = f"; the last bar: {limit:.3g} and more" if float(both.max()) > limit else ""
        axes.set(xlabel=f"{name} ({units}{beyond})", yticks=[])
    if unusual is not None:
        places[0].legend(frameon=False, fontsize=9)
    return {"outliers": figure}
