"""The cost of sampling at 32, 64 and 128 pixels, with networks of equal total size. Nothing is trained.

Each function of a claim takes a host, a profile and a seed and returns a number, as ``scorefold reproduce`` calls it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from scorefold.interfaces import DataSource, ScoreModel, TensorSource
from scorefold_nonuniform.cost import (
    CostComparison,
    Scale,
    compare_cost,
    count_ratio,
    measure_overhead,
    pixel_proportional_speedup,
    resolution_scales,
    sampling_seconds,
)
from scorefold_nonuniform.multiscale import MultiScaleScore

REPEATS = {"smoke": 1, "quick": 3, "full": 7}
BATCH = {"smoke": 1, "quick": 2, "full": 4}
"""Events a step: with one alone, reading the weights of the coarsest networks takes longer than their arithmetic."""
RESOLUTIONS = {"smoke": (32, 64), "quick": (32, 64, 128), "full": (32, 64, 128)}


class Net(NamedTuple):
    """A U-Net: channels a level, residual blocks a level."""

    channels: tuple[int, ...]
    blocks: int = 2

    @property
    def attention(self) -> tuple[int, ...]:
        """The levels that attend: those that halve the image 3 and 4 times, as published."""
        return tuple(level for level in range(len(self.channels)) if level >= 3)


SCALES = {
    128: Net((64, 128, 128, 192, 256)),
    64: Net((64, 128, 192, 256)),
    32: Net((64, 128, 256)),
    16: Net((128, 256), blocks=4),
}
"""The published networks of the model of the same size, by the pixels of the images they see."""

UNIFORM = {
    128: Net((128, 128, 256, 368, 480)),
    64: Net((144, 144, 288, 448)),
    32: Net((176, 192, 384)),
}
"""The published uniform network at each resolution, with as many levels as the resolution needs. Its channels give it
as many parameters (within 0.5 %) as the networks of all scales from the resolution down have together."""

PUBLISHED_UNIFORM = Net((128, 128, 256, 384, 512))
DEEP = {128: PUBLISHED_UNIFORM, 64: Net((128, 128, 256, 384)), 32: Net((128, 128, 256)), 16: Net((128, 256))}
"""The published networks of the deep model, which has the uniform network at its finest scale."""

MODELS = {"same-size": SCALES, "deep": DEEP}


def pixel_formula(host: Any, profile: str, seed: int) -> float:
    """The largest relative error of S(n) = (3n/4)/(1 - 4^-n) over n = 1 to 6, for one convolutional network."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
    errors = []
    for count in range(1, 7):
        scales = [Scale(_Timeless(network), (3, size, size)) for size in resolution_scales(16 << count >> 1)]
        uniform = replace(scales[0], steps=count)
        errors.append(abs(count_ratio(uniform, scales) / pixel_proportional_speedup(count) - 1))
    return max(errors)


def sampling(host: Any, profile: str, seed: int, *, size: int, figure: str) -> float:
    """A figure of the comparison at a resolution: ``counted`` or ``measured`` S, ``agreement``, the one over the other,
    or ``size_ratio``, the parameters of all scales divided by the parameters of the uniform network."""
    if figure in ("counted", "size_ratio"):
        uniform, scales = _networks(host, size, meta=True)
        if figure == "counted":
            return count_ratio(uniform, scales)
        return sum(scale.parameters for scale in scales) / uniform.parameters
    found = comparison(host, profile, size)
    return found.measured if figure == "measured" else found.measured / found.counted


@cache
def whole_run(host: Any, profile: str, seed: int, *, size: int) -> float:
    """S in CPU time of whole runs, one step on each scale: ``sample`` of score:multiscale and of a uniform score."""
    data = TensorSource(torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)))
    models = uniform_and_multiscale(host, data)
    steps = len(resolution_scales(size))
    seconds = sampling_seconds(models, steps, batch=BATCH[profile], repeats=REPEATS[profile])
    return seconds[0] / seconds[1]


def rises(host: Any, profile: str, seed: int) -> float:
    """The least ratio of measured S at a resolution to measured S at half the resolution."""
    found = [comparison(host, profile, size).measured for size in RESOLUTIONS[profile]]
    return min(after / before for before, after in pairwise(found))


def published_count(host: Any, profile: str, seed: int, *, model: str) -> float | None:
    """S by multiply-accumulates of the published U-Nets at 128 pixels; None without diffusers."""
    if find_spec("diffusers") is None:
        return None
    return count_ratio(*published_networks(model, meta=True))


def published_time(host: Any, profile: str, seed: int, *, model: str) -> float | None:
    """S in CPU time of the published U-Nets at 128 pixels; None without diffusers."""
    if find_spec("diffusers") is None:
        return None
    found = compare_cost(*published_networks(model), batch=BATCH[profile], repeats=REPEATS[profile])
    print(found.table())
    return found.measured


@cache
def overhead(host: Any, profile: str, seed: int) -> float:
    """o in GMAC a step on one CPU thread: from the 32-pixel scale's network, on images of 32 and of 64 pixels."""
    both = [_scale(host, SCALES[32], pixels) for pixels in (64, 32)]
    return measure_overhead(both, batch=BATCH[profile], repeats=REPEATS[profile]) / 1e9


@cache
def comparison(host: Any, profile: str, size: int) -> CostComparison:
    """The cost of the uniform network of a resolution and of the networks of the scales from it down, measured in
    turns."""
    extra = 1e9 * overhead(host, profile, 0)
    found = compare_cost(*_networks(host, size), batch=BATCH[profile], repeats=REPEATS[profile], overhead=extra)
    print(found.table())
    return found


def uniform_and_multiscale(host: Any, data: DataSource) -> tuple[ScoreModel, MultiScaleScore]:
    """score:denoising and score:multiscale on images of a size in ``UNIFORM``, as large as one another, untrained."""
    size = data.event_shape[-1]
    scales = resolution_scales(size)
    networks = [{"use": "network:unet", "config": _settings(SCALES[pixels])} for pixels in scales]
    config = {"bands": {"name": "haar", "levels": len(scales) - 1}, "networks": networks}
    network = {"use": "network:unet", "config": _settings(UNIFORM[size])}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        uniform: ScoreModel = host.create("score:denoising", {"process": "log-snr", "network": network}, data=data)
        several: MultiScaleScore = host.create("score:multiscale", config, data=data)
    return uniform.eval(), several.eval()


def published_networks(model: str, *, meta: bool = False) -> tuple[Scale, list[Scale]]:
    """(uniform, scales) as published at 128 pixels: guided diffusion's U-Net, built from the parts of diffusers."""
    sizes = MODELS[model]
    return (
        Scale(published_unet(PUBLISHED_UNIFORM, 128, meta=meta), (3, 128, 128), steps=len(sizes)),
        [Scale(published_unet(net, size, meta=meta), (3, size, size)) for size, net in sizes.items()],
    )


def published_unet(net: Net, size: int, *, meta: bool = False) -> nn.Module:
    """Guided diffusion's U-Net of Dhariwal and Nichol (2021), as the published configurations set it.

    Residual blocks that resample, scales and shifts by the time, 64 channels a head; (x, t) to the answer.
    """
    from diffusers import UNet2DModel

    attends = [level in net.attention for level in range(len(net.channels))]
    with torch.device("meta" if meta else "cpu"):
        unet = UNet2DModel(
            sample_size=size,
            block_out_channels=net.channels,
            down_block_types=tuple("AttnDownBlock2D" if each else "ResnetDownsampleBlock2D" for each in attends),
            up_block_types=tuple("AttnUpBlock2D" if each else "ResnetUpsampleBlock2D" for each in reversed(attends)),
            layers_per_block=net.blocks,
            attention_head_dim=64,
            downsample_type="resnet",
            upsample_type="resnet",
            resnet_time_scale_shift="scale_shift",
            time_embedding_dim=512,
        )
    return _Answer(unet)


class _Answer(nn.Module):
    """diffusers' network with its answer in place of the record around it."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.unet(x, t, return_dict=False)[0]
        return answer


class _Timeless(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.network(x)
        return answer


def _networks(host: Any, size: int, *, meta: bool = False) -> tuple[Scale, list[Scale]]:
    """(uniform, scales) of a resolution, for a run with one step on each scale."""
    scales = [_scale(host, SCALES[pixels], pixels, meta=meta) for pixels in resolution_scales(size)]
    return replace(_scale(host, UNIFORM[size], size, meta=meta), steps=len(scales)), scales


def _scale(host: Any, net: Net, pixels: int, *, meta: bool = False) -> Scale:
    """One step of a network:unet on images of some pixels a side."""
    shape = (3, pixels, pixels)
    with torch.device("meta" if meta else "cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Scale(host.create("network:unet", _settings(net)).build(shape, shape, time=True), shape)


def _settings(net: Net) -> dict[str, Any]:
    """The configuration of a network:unet."""
    return {"channels": net.channels, "blocks": net.blocks, "attention": net.attention, "groups": 16}
