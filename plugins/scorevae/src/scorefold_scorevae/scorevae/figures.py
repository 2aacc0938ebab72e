"""Figures of a trained auto-encoder by diffusion: reconstructions, traversals, and what its score is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold_scorevae.decoder_geometry import _WIDTH
from scorefold_scorevae.scorevae.diagnosis import OverTime, over_time
from scorefold_scorevae.scorevae.encoder import normal_kl
from scorefold_toolkit.figures import as_images, labelled_grid, training

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLOURS = {"prior": SOFT, "encoder": ACCENT, "corrector": WARM}
_SHOWN = 9
_UNITS = 4


@torch.no_grad()
def scorevae_figures(drawn: Any) -> Mapping[str, Figure]:
    """The losses of a ``Fitted`` auto-encoder, its score over time and, of images, reconstructions and traversals."""
    found = dict(training(drawn))
    model = getattr(drawn, "model", None)
    if model is None or not len(drawn.events):
        return found
    generator = torch.Generator(drawn.events.device).manual_seed(0)
    events = drawn.events
    if hasattr(model, "parts"):
        found["score-over-time"] = score_parts_figure(over_time(model, events, generator, 17))
    if as_images(events[:1]) is not None:
        found["reconstructions"] = reconstruction_figure(model, events[:_SHOWN], generator)
        found["traversals"] = traversal_figure(model, events, generator)
    return found


def score_parts_figure(seen: OverTime) -> Figure:
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
def reconstruction_figure(model: Any, events: Tensor, generator: torch.Generator) -> Figure:
    """Rows of images: originals, a draw given the code, the mean of eight draws, and from code and noise together."""
    z = model.encode(events)
    draws = torch.stack([model.decode(z, generator=generator) for _ in range(8)])
    back = model.decode(z, noise=model.encode_noise(events, z, sampler="heun"), sampler="heun")
    names = ["original", "one draw", "mean of 8", "code and noise"]
    return _grid(torch.stack([events, draws[0], draws.mean(0), back]), names, model)


@torch.no_grad()
def traversal_figure(model: Any, events: Tensor, generator: torch.Generator) -> Figure:
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
