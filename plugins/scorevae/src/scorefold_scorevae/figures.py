"""Figures of a trained auto-encoder by diffusion: reconstructions, traversals, and what its score is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold_scorevae.coding.diagnosis import OverTime, over_time
from scorefold_scorevae.coding.objective import normal_kl
from scorefold_toolkit.figures import as_images, labelled_grid, training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scorefold_scorevae.geometry.decoder import DecoderGeometry

_COLOURS = {"prior": SOFT, "encoder": ACCENT, "corrector": WARM}
_SHOWN = 9
_UNITS = 4
_GEODESICS, _TIMES, _ROWS, _GRID = 6, 65, 4, 60
_WIDTH = 2.5  # deviations of the codes, to either side


@torch.no_grad()
def fitted(drawn: Any) -> Mapping[str, Figure]:
    """The losses of a ``Fitted`` auto-encoder, its score over time and, of images, reconstructions and traversals."""
    found = dict(training(drawn))
    model = getattr(drawn, "model", None)
    if model is None or not len(drawn.events):
        return found
    generator = torch.Generator(drawn.events.device).manual_seed(0)
    events = drawn.events
    if hasattr(model, "parts"):
        found["score-over-time"] = contributions(over_time(model, events, generator, 17))
    if as_images(events[:1]) is not None:
        found["reconstructions"] = reconstructions(model, events[:_SHOWN], generator)
        found["traversals"] = traversals(model, events, generator)
    return found


def contributions(seen: OverTime) -> Figure:
    """Above, the size of each part of the expected noise over time; below, how often the encoder's interval holds the
    code."""
    figure = empty_figure(6.4, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    times = seen.times.cpu().numpy()
    for name, size in seen.sizes.items():
        above.plot(times, size.cpu().numpy(), color=_COLOURS.get(name, INK), label=name, linewidth=1.8)
    above.set(ylabel="root mean square of the noise", title="What the expected noise given the code is made of")
    above.legend(frameon=False, fontsize=9)
    below.axhline(0.9, color=INK, linestyle=":", linewidth=0.8)
    below.plot(times, seen.coverage.cpu().numpy(), color=ACCENT, marker="o", markersize=3)
    below.set(ylim=(0, 1.02), xlabel="t (data to noise)", ylabel="codes in their\n90 % interval")
    for axes in (above, below):
        tidy(axes)
    return figure


@torch.no_grad()
def reconstructions(model: Any, events: Tensor, generator: torch.Generator) -> Figure:
    """Rows of images: originals, a draw given the code, the mean of eight draws, and from code and noise together."""
    z = model.encode(events)
    draws = torch.stack([model.decode(z, generator=generator) for _ in range(8)])
    back = model.decode(z, noise=model.encode_noise(events, z, sampler="heun"), sampler="heun")
    names = ["original", "one draw", "mean of 8", "code and noise"]
    return _grid(torch.stack([events, draws[0], draws.mean(0), back]), names, model)


@torch.no_grad()
def traversals(model: Any, events: Tensor, generator: torch.Generator) -> Figure:
    """A row for each of the most informative units, which alone changes along it, from the first image's noise."""
    mean, std = model.encode_distribution(events)
    kl = normal_kl(mean, 2 * std.clamp_min(1e-6).log()).mean(0)
    units = kl.argsort(descending=True)[:_UNITS]
    steps = torch.linspace(-_WIDTH, _WIDTH, _SHOWN, dtype=mean.dtype, device=mean.device)
    z = mean[:1].repeat(len(units) * _SHOWN, 1)
    for row, unit in enumerate(units):
        z[row * _SHOWN : (row + 1) * _SHOWN, unit] = mean[:, unit].mean() + steps * mean[:, unit].std()
    rows = model.decode(z, noise=model.encode_noise(events[:1], mean[:1], sampler="heun"), sampler="heun")
    return _grid(rows.unflatten(0, (-1, _SHOWN)), [f"unit {unit}" for unit in units.tolist()], model)


def _grid(rows: Tensor, names: list[str], model: Any) -> Figure:
    """Rows of images (R, n, *E) with their names."""
    images = as_images(rows.flatten(0, 1))
    assert images is not None
    bounds = (model.event_scale.low, model.event_scale.high)
    return labelled_grid(images.cpu().unflatten(0, rows.shape[:2]), names, [], "", bounds)


@torch.no_grad()
def geometry(space: DecoderGeometry) -> Mapping[str, Figure]:
    """Geodesics between codes of the model's own distribution, always the same ones, and straight lines of codes.

    In the plane they lie over the volume sqrt(det G), by its logarithm; of images each geodesic is a row above the
    straight line's. Geodesics that are withheld are left out, and counted in the title.
    """
    codes = space.typical_codes(2 * _GEODESICS, torch.Generator().manual_seed(0))
    start, end = codes.chunk(2)
    solved = space.solve(start, end)
    kept = (~solved.withheld).nonzero()[:, 0]
    lost = len(start) - len(kept)
    title = f"{len(kept)} geodesics between codes" + (f"; {lost} are withheld" if lost else "")
    if len(kept) == 0:
        return {}
    times = torch.linspace(0, 1, _TIMES, dtype=torch.float64)
    size = start[0].numel()
    paths = solved.take(kept).at(times).to(codes)
    lines = start[kept].flatten(1)[:, None].lerp(end[kept].flatten(1)[:, None], times.to(codes)[:, None])
    found = {}
    if size == 2:
        found["geodesics"] = _over_volume(space, paths, lines, title)
    few = torch.stack([paths, lines], 1).flatten(0, 1)[: 2 * _ROWS, :: (_TIMES - 1) // 8]
    images = as_images(space.decoded(few.flatten(0, 1).unflatten(1, space.event_shape)).cpu())
    if images is not None:
        names = ["geodesic", "straight"] * (len(few) // 2)
        grid = images.unflatten(0, few.shape[:2])
        found["decoded"] = labelled_grid(
            grid, names, [], "Between two codes: the geodesic, and the straight line", (None, None)
        )
    return found


def _over_volume(space: DecoderGeometry, paths: Tensor, lines: Tensor, title: str) -> Figure:
    seen = torch.cat([paths, lines]).flatten(0, 1)
    paths, lines = paths.cpu(), lines.cpu()
    low, high = seen.amin(0), seen.amax(0)
    edge = 0.1 * (high - low) + 1e-9
    across, up = (
        torch.linspace(float(a), float(b), _GRID).double() for a, b in zip(low - edge, high + edge, strict=True)
    )
    metric = space.metric(torch.cartesian_prod(across, up).to(seen)).double().cpu()
    volume = torch.linalg.slogdet(metric).logabsdet.div(2 * math.log(10)).reshape(_GRID, _GRID).T
    figure = empty_figure(6.2, 5.0)
    axes = figure.subplots()
    tidy(axes)
    picture = axes.pcolormesh(across.numpy(), up.numpy(), volume.numpy(), cmap="Blues", shading="nearest")
    figure.colorbar(picture, ax=axes, label="log10 of the volume sqrt(det G)")
    for number, (path, line) in enumerate(zip(paths, lines, strict=True)):
        names = ("geodesic", "straight line of codes") if number == 0 else ("_", "_")
        axes.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.6, label=names[0])
        axes.plot(line[:, 0], line[:, 1], color=WARM, linewidth=1, linestyle="--", label=names[1])
        axes.scatter(path[[0, -1], 0], path[[0, -1], 1], s=22, color=INK, zorder=4)
    axes.set(xlabel="unit 0", ylabel="unit 1")
    axes.set_title(title, fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=9)
    return figure
