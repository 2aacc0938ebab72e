"""What a user would write by hand: EDM (Karras et al. 2022) on small images in a hundred lines of plain torch."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

P_MEAN, P_STD, SIGMA_DATA, SIGMA_MIN, SIGMA_MAX, RHO = -1.2, 1.2, 0.5, 0.002, 80.0, 7
CHANNELS = (32, 64, 64)


class EDM(nn.Module):
    """D(y, sigma) of images in units in which their deviation is 1/2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unet = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=CHANNELS,
            down_block_types=("DownBlock2D",) * len(CHANNELS),
            up_block_types=("UpBlock2D",) * len(CHANNELS),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=8,
            add_attention=False,
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        s = sigma.reshape(-1, 1, 1, 1)
        norm = (s**2 + SIGMA_DATA**2).sqrt()
        answer = self.unet(y / norm, 250 * sigma.log() / 4, return_dict=False)[0]
        denoised: Tensor = SIGMA_DATA**2 / norm**2 * y + s * SIGMA_DATA / norm * answer
        return denoised


class Script:
    """Training and sampling of one model; images (N, C, H, W) of any mean and deviation."""

    def __init__(self, images: Tensor, *, batch: int, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.mean, self.unit = images.mean(), images.std() / SIGMA_DATA
        self.x = (images - self.mean) / self.unit
        self.batch, self.rate = batch, rate
        self.model = EDM(images.shape[1])
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=rate, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)

    def next_batch(self) -> Tensor:
        if len(self.order) < self.batch:
            self.order = torch.randperm(len(self.x), generator=self.generator)
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return self.x[rows]

    def step(self, number: int, done: float) -> None:
        """One step; ``done`` is the share of the training behind it, which sets the rate: warm-up, then cosine."""
        rate = self.rate * min(1.0, (number + 1) / 100) * (1 + math.cos(math.pi * done)) / 2
        self.optimiser.param_groups[0]["lr"] = rate
        x = self.next_batch()
        sigma = (P_MEAN + P_STD * torch.randn(len(x), generator=self.generator)).exp()
        noise = torch.randn(x.shape, generator=self.generator) * sigma[:, None, None, None]
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        loss = (weight[:, None, None, None] * (self.model(x + noise, sigma) - x) ** 2).mean()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = 1 - (1 + number) ** (-2 / 3)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - decay)

    def train(self, steps: int) -> None:
        for number in range(steps):
            self.step(number, number / steps)
        with torch.no_grad():
            torch._foreach_copy_([p.detach() for p in self.model.parameters()], self.average)

    @torch.no_grad()
    def sample(self, n: int, *, steps: int = 18, batch: int = 64, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        inverse = torch.linspace(SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO), steps)
        sigmas = [*(inverse**RHO).tolist(), 0.0]
        self.model.eval()
        return torch.cat([self._draw(k, sigmas, generator) for k in [len(r) for r in torch.arange(n).split(batch)]])

    def _draw(self, n: int, sigmas: list[float], generator: torch.Generator) -> Tensor:
        x = sigmas[0] * torch.randn(n, *self.x.shape[1:], generator=generator)
        for sigma, following in pairwise(sigmas):
            slope = (x - self.model(x, x.new_full((n,), sigma))) / sigma
            ahead = x + (following - sigma) * slope
            if following > 0:
                slope = (slope + (ahead - self.model(ahead, x.new_full((n,), following))) / following) / 2
            x = x + (following - sigma) * slope
        return x * self.unit + self.mean
