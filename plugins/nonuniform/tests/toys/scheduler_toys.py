"""Processes, scores and networks for the tests of our parts inside diffusers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    UNet2DModel,
)
from tiny_unets import tiny_unet
from torch import Tensor

from scorefold.data import TensorSpec
from scorefold.diffusion import VE, VP, DiffusionProcess, LinearLogSNR, PerComponent
from scorefold.interfaces import ScoreModel
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.config import HaarBandsConfig
from scorefold_nonuniform.diffusers.scheduler import NonUniformScheduler
from scorefold_toolkit.rotated import Rotated

SHAPE = (2, 8, 8)


BANDED: dict[str, Any] = {"process": "log-snr", "bands": {"name": "haar", "levels": 2}, "event_shape": SHAPE}


class GaussianScore(ScoreModel):
    """The score of independent coordinates of mean 0.3 and deviation 0.6, in pixels; exact for processes of them."""

    def __init__(self, process: DiffusionProcess, spec: TensorSpec | None = None) -> None:
        super().__init__(process, SHAPE, spec)
        self.register_buffer("like", torch.zeros(()))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        inner, turn, back = components(self.process)
        z, mean = turn(x), turn(torch.full_like(x, 0.3))
        signal, scale = inner.coefficients(z, t)
        answer: Tensor = back((signal * mean - z) / ((0.6 * signal) ** 2 + scale**2))
        return answer


def components(process: DiffusionProcess) -> tuple[Any, Any, Any]:
    """The process of independent components, the way to them, and the way back."""
    if isinstance(process, Rotated):
        return process.inner, process.transform, process.transform.inverse
    return process, lambda x: x, lambda x: x


def speeds() -> PerComponent:
    ends = torch.linspace(0.4, 1.0, 128, dtype=torch.float64).reshape(SHAPE)
    return PerComponent(SHAPE, LinearLogSNR(8.0, -8.0, ends.round(decimals=1)))


def banded() -> Rotated:
    bands = build_bands(HaarBandsConfig(), SHAPE).double()
    lam = torch.tensor([10.0, 9.0, 8.0], dtype=torch.float64)
    ends = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)
    return Rotated(PerComponent(SHAPE, LinearLogSNR(lam, -lam, ends), blocks=bands.index), bands.transform)


PROCESSES = {"vp": VP, "ve": lambda: VE(0.01, 20.0), "speeds": speeds, "bands": banded}


def start(process: DiffusionProcess, count: int = 3) -> Tensor:
    like = torch.zeros((), dtype=torch.float64)
    return process.sample_prior((count, *SHAPE), generator=torch.Generator().manual_seed(0), like=like)


def driven(scheduler: NonUniformScheduler, network: Any, x: Tensor, steps: Any, **options: Any) -> Tensor:
    """As a pipeline drives a scheduler."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
    return x


def network(**changes: Any) -> UNet2DModel:
    return tiny_unet(**{"sample_size": (8, 8), "in_channels": 3, "out_channels": 3, **changes})


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


SCHEDULERS: dict[str, dict[str, Any]] = {
    "uniform": {"process": {"name": "vp"}},
    "haar": {**BANDED, "event_shape": (3, 8, 8), "ends": [0.3, 0.7, 1.0], "deviation": 0.5},
    "fourier": {"process": "cosine", "bands": "fourier", "event_shape": (3, 8, 8), "clip_sample": True},
}
