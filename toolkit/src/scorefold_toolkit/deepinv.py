"""A score model as a denoiser of deepinv."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scorefold.diffusion.process import Isotropic
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold_toolkit.libraries import library


def as_denoiser(score: ScoreModel) -> Any:
    """A ``deepinv.models.Denoiser`` D(x, sigma) = E[x_0 | x_0 + sigma z = x], for deepinv's priors and samplers.

    deepinv's images lie in [0, 1]: x (B, *E) and sigma, a number or (B,), are in units of the range of the model's
    events. With them in the units of events y = low + (high - low) x, the answer is the model's ``denoise`` of
    signal y at the time at which scale / signal is sigma (Tweedie's formula); noise levels outside the process's are
    taken as its ends. Gradients flow through it.

    Raises ``ConfigError`` without deepinv, for a model that takes a condition, for one of events without bounds, and
    for a process whose components differ in noise.
    """
    with library("a denoiser for deepinv", "scorefold-toolkit[deepinv]"):
        from deepinv.models.base import Denoiser
    if score.condition_spec is not None:
        raise ConfigError(
            f"{type(score).__name__} takes a condition, and a denoiser gets none", hint="take an unconditional score"
        )
    process, scale = score.process, score.event_scale
    if not isinstance(process, Isotropic):
        raise ConfigError(f"a denoiser has one noise level, and {type(process).__name__} has several at a time")
    if scale.low is None or scale.high is None:
        raise ConfigError(
            "deepinv's images lie in [0, 1], and these events have no bounds that could be brought there",
            hint="train on data with a range, such as data:digits",
        )
    levels: Isotropic = process
    low, width = scale.low, scale.high - scale.low
    ends = levels.noise_to_signal(torch.tensor([process.t_min, process.t_max], dtype=torch.float64)).tolist()

    class ScoreDenoiser(Denoiser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.score = score

        def forward(self, x: Tensor, sigma: float | Tensor, **options: Any) -> Tensor:
            level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1).expand(len(x)) * width
            t = levels.time_at(level.clamp(*ends)).to(x)
            signal, _ = score.process.coefficients(x, t)
            return (score.denoise(signal * (low + width * x), t) - low) / width

    return ScoreDenoiser()
