"""Pictures of a trained model: how its bands diffuse, what stands at the end of every scale, and what scales cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.diffusion import dpm_solver_pp_2m, time_grid
from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, new_figure
from scorefold.seeds import derive_generator
from scorefold_nonuniform.cost import measure_seconds, scales_of
from scorefold_nonuniform.multiscale import MultiScaleScore
from scorefold_nonuniform.nonuniform import NonUniformScore
from scorefold_toolkit import figures as event_figures
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.figures import as_images, image_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_TIMES = 9
_EVENTS = 8
_STEPS = 24


@captioned(
    {
        "speeds": (
            "The log ratio of signal and noise of each band over time. A dotted line is the time at which a band "
            "is noise."
        ),
        "bands over time": "One event while noise is added: all of it above, and each band alone below.",
        "samples at every scale": "Samples as they are made, from the coarsest scale to the finest.",
        "cost": "The computation that one step takes on each scale, with the time that it took here.",
    }
)
@torch.no_grad()
def banded_figures(fitted: Any) -> Mapping[str, Figure]:
    """The figures of a fitted ``score:multiscale`` or ``score:nonuniform``; nothing for one that is not trained."""
    model = getattr(fitted, "model", None)
    if not isinstance(model, MultiScaleScore | NonUniformScore):
        return {}
    drawn = {**event_figures.training(fitted), "speeds": speeds(model), **diffusion(model, fitted.events)}
    if isinstance(model, MultiScaleScore) and len(model.trained) == len(model.bands):
        drawn |= {**({} if model.condition_spec else samples_by_scale(model)), "cost": cost_per_scale_figure(model)}
    return drawn


def speeds(model: MultiScaleScore | NonUniformScore) -> Figure:
    """The log-SNR of each band against time, as long as it diffuses."""
    process = model.coefficients
    t = torch.linspace(process.t_min, process.t_max, 200)
    like = next(value for value in model.buffers() if value.is_floating_point())
    levels = process.levels(t.to(like)).cpu().double()
    figure, axes = new_figure(6.2, 3.8)
    ends = [*process.breakpoints, process.t_max]
    for band, name in enumerate(model.bands.names):
        end = ends[band] if len(ends) == len(model.bands) else process.t_max
        runs = t <= end
        shade = band / max(1, len(model.bands) - 1)
        axes.plot(t[runs].numpy(), levels[runs, band].numpy(), color=_mixed(WARM, ACCENT, shade), label=name)
        axes.axvline(end, color=SOFT, linestyle=":", linewidth=0.8)
    axes.set(xlabel="t", ylabel="log(signal^2 / noise^2)", title="How fast each band becomes noise")
    axes.legend(frameon=False, fontsize=9, title="band, finest first", title_fontsize=9)
    return figure


def diffusion(model: MultiScaleScore | NonUniformScore, events: Tensor) -> Mapping[str, Figure]:
    """One event over time, and each of its bands alone; nothing for events that are no images."""
    if as_images(events[:1]) is None:
        return {}
    process, bands = model.process, model.bands
    t = torch.linspace(process.t_min, process.t_max, _TIMES).to(events)
    x0 = events[:1].expand(_TIMES, *events.shape[1:])
    generator = derive_generator(0, "figure", device=events.device)
    noise = torch.randn(events[:1].shape, generator=generator, device=events.device, dtype=events.dtype)
    z = bands.transform(process.perturb(x0, t, noise.expand_as(x0)))
    rows = [("all", bands.transform.inverse(z))]
    rows += [(name, bands.transform.inverse(z * (bands.index == band))) for band, name in enumerate(bands.names)]
    figure = empty_figure(1.0 * _TIMES + 0.6, 1.05 * len(rows) + 0.6)
    grid = figure.subplots(len(rows), _TIMES, squeeze=False)
    for row, (name, images) in enumerate(rows):
        shown = as_images(images.cpu())
        assert shown is not None
        for column, image in enumerate(_stretched(shown)):
            axes = grid[row][column]
            axes.imshow(
                image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
            )
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(f"t = {float(t[column]):.2f}", fontsize=8, color=INK)
        grid[row][0].set_ylabel(name, fontsize=9, color=INK)
    figure.suptitle("An event and its bands over time", fontsize=10, color=INK)
    return {"bands over time": figure}


def samples_by_scale(model: MultiScaleScore) -> Mapping[str, Figure]:
    """The expected images of a few samples at the end of each scale; empty for events that are no images."""
    stages = list(_stages(model))
    if as_images(stages[0]) is None:
        return {}
    images = [as_images(stage.cpu()) for stage in stages]
    height, width = model.event_shape[-2:]
    large = [
        functional.interpolate(_stretched(image, clip=0.01), (height, width), mode="nearest")
        for image in images
        if image is not None
    ]
    rows = torch.cat(large)
    title = "Samples, scale by scale: the coarsest in the top row"
    return {"samples at every scale": image_grid(rows, _EVENTS, title, limits=(0.0, 1.0))}


def _stages(model: MultiScaleScore) -> Iterator[Tensor]:
    """The denoised active events of a few samples at the end of each scale, coarsest first: (n, *shape(scale))."""
    like = model.moments.mean
    generator = derive_generator(0, "figure", device=like.device)
    z = model.coefficients.sample_prior((_EVENTS, *model.event_shape), generator=generator, like=like)
    marks = [model.process.t_max, *reversed(model.process.breakpoints), model.process.t_min]
    times, state = time_grid(model.process, [_STEPS // len(model.bands) + 1] * len(model.bands)), None
    for place, (start, end) in enumerate(pairwise(marks)):
        inside = (times <= start + 1e-9) & (times >= end - 1e-9)
        z, state = dpm_solver_pp_2m(model.coefficient_score, model.coefficients, z, times[inside], state=state)
        scale = len(model.bands) - 1 - place
        # The end of a scale belongs to the next finer one, whose band is all noise there: it is left out.
        t = torch.full((_EVENTS,), max(end, model.process.t_min)).to(like)
        denoised = model.coefficients.denoised_from_score(model.coefficient_score(z, t), z, t)
        yield model.bands.synthesise(model.bands.take(denoised, scale), scale)


def cost_per_scale_figure(model: MultiScaleScore) -> Figure:
    """Multiply-accumulates of a step of each scale's network on one event, and its milliseconds on this machine."""
    scales = scales_of(model)
    seconds = measure_seconds([scale.call(8) for scale in scales], repeats=2, device=model.moments.mean.device.type)
    figure, axes = new_figure(6.2, 0.5 * len(scales) + 1.4)
    costs = [scale.multiply_accumulates / 1e6 for scale in scales]
    bars = axes.barh(range(len(scales)), costs, color=ACCENT)
    axes.bar_label(bars, [f" {1e3 * each / 8:.3g} ms" for each in seconds], fontsize=9, color=INK)
    labels = [f"scale {k + 1}, {' x '.join(map(str, scale.event_shape))}" for k, scale in enumerate(scales)]
    axes.set_yticks(range(len(scales)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="million multiply-accumulates a step and event", title="What a step costs on each scale")
    return figure


def _stretched(images: Tensor, clip: float = 0.0) -> Tensor:
    """Images (N, C, H, W), each over the range of its own values, but for a share ``clip`` at either end: in [0, 1]."""
    flat = images.float().flatten(1)
    low, high = flat.quantile(clip, 1), flat.quantile(1 - clip, 1)
    spread = (high - low).clamp_min(1e-12)
    return ((images - low[:, None, None, None]) / spread[:, None, None, None]).clamp(0, 1)


def _mixed(first: str, second: str, share: float) -> tuple[float, ...]:
    """A colour between two hexadecimal ones."""
    ends = [[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in (first, second)]
    return tuple(a + share * (b - a) for a, b in zip(*ends, strict=True))
