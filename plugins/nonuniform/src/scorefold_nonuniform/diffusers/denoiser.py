"""Score models as the libraries around them expect: k-diffusion's denoiser, and diffusers' network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition
from scorefold.diffusion.process import expand
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ScoreModel


class Denoiser(nn.Module):
    """E[x_0 | x_0 + sigma z], a score model as k-diffusion calls it: ``denoiser(x, sigma)``.

    ``sigma`` is scale / signal: (B,), or (B, *E) where components, or coefficients of the process' transform, diffuse
    at several speeds. A process passes through one such vector a time, so that time is found from it; ``sigmas`` gives
    those of a grid. Inputs are x_t over the signal, component by component (Karras et al. 2022, eq. 7).
    """

    def __init__(self, score: ScoreModel) -> None:
        super().__init__()
        self.score_model = score

    def sigmas(self, times: Tensor) -> Tensor:
        """sigma at times (S,): (S,), or (S, *E)."""
        return (-self.score_model.process.log_snr(times) / 2).exp()

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """Expected data (B, *E) from x (B, *E) at sigma.

        Raises ``ConfigError`` for a sigma that the process does not pass through.
        """
        process = self.score_model.process
        t = self.time_of(sigma)
        return self.score_model.denoise(process.marginal(x, t)[0], t, condition)

    def time_of(self, sigma: Tensor) -> Tensor:
        """The times (B,) at which the process has these sigmas, by bisection of their mean logarithm.

        Raises ``ShapeError`` and ``ConfigError`` for sigmas that it does not have.
        """
        process = self.score_model.process
        wanted = sigma.double().log()
        low = torch.full((len(sigma),), process.t_min, dtype=torch.float64, device=sigma.device)
        high = torch.full_like(low, process.t_max)
        for _ in range(60):
            middle = (low + high) / 2
            below = _mean(self.sigmas(middle).log()) < _mean(wanted)
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        t = ((low + high) / 2).to(sigma.dtype)
        found = self.sigmas(t)
        if sigma.dim() != 1 and found.shape != sigma.shape:
            raise ShapeError(f"sigma has shape {tuple(sigma.shape)}; expected (B,) or {tuple(found.shape)}")
        # Of a process of several speeds one number a time can't say which.
        if not torch.allclose(expand(found, sigma).log(), expand(sigma, found).log(), rtol=1e-3, atol=1e-3):
            raise ConfigError(
                "the process passes through no time with these noise levels of its components",
                hint="denoiser.sigmas(times) gives those that it has",
            )
        return t


class ScoreUNet(nn.Module):
    """A score model on images as diffusers' pipelines call a network, with the answer of prediction_type epsilon.

    Timesteps are those of a ``NonUniformScheduler`` of the model's process with as many ``num_train_timesteps``.
    ``class_labels`` are the condition. Raises ``ShapeError`` for a model of other events than images (C, H, W).
    """

    def __init__(self, score: ScoreModel, num_train_timesteps: int = 1000) -> None:
        super().__init__()
        if len(score.event_shape) != 3:
            raise ShapeError(f"this model's events have shape {score.event_shape}; a pipeline draws images (C, H, W)")
        self.score_model = score
        channels, height, width = score.event_shape
        self.config = SimpleNamespace(in_channels=channels, out_channels=channels, sample_size=(height, width))
        self.unit = score.process.t_max / (num_train_timesteps - 1)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the model's numbers."""
        return self._like().dtype

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self._like().device

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Condition | None = None, return_dict: bool = True
    ) -> Any:
        """The expected noise (B, *E), as ``.sample`` of what is returned, or the first of a tuple."""
        process = self.score_model.process
        t = torch.as_tensor(timestep, dtype=torch.float64).reshape(-1) * self.unit
        times = t.clamp(process.t_min, process.t_max).to(sample).expand(len(sample))
        noise = self.score_model.noise(sample, times, class_labels)
        return SimpleNamespace(sample=noise) if return_dict else (noise,)

    def _like(self) -> Tensor:
        tensors = (*self.score_model.parameters(), *self.score_model.buffers())
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(()))


def _mean(value: Tensor) -> Tensor:
    return value.flatten(1).mean(1) if value.dim() > 1 else value
