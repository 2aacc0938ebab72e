"""Gaussian data, whose scores, encoders and distributions given a code are closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, DataSpec, EventScale
from scorefold.diffusion import VP, DiffusionProcess
from scorefold.interfaces import ScoreModel
from scorefold_scorevae.config import ScoreVAEConfig
from scorefold_scorevae.scorevae.encoder import Posterior
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP


def real(*values: Any) -> Tensor:
    """A float64 tensor; several values are its rows."""
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)


class GaussianScore(ScoreModel):
    """grad log p_t of N(mean (D,), covariance (D, D)), under the variance-preserving process with beta 0.1 to 20 or
    another one of one speed."""

    def __init__(
        self, mean: Tensor, covariance: Tensor, t_min: float = 1e-5, process: DiffusionProcess | None = None
    ) -> None:
        scale = EventScale(mean=float(mean.mean()), std=float(covariance.diagonal().mean().sqrt()))
        super().__init__(process or VP(t_min=t_min), (len(mean),), event_scale=scale)
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
        variances, axes = torch.linalg.eigh(covariance)
        self.register_buffer("variances", variances)
        self.register_buffer("axes", axes)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t)
        signal, scale = self.process.coefficients(x, t)
        return -((x - signal * self.mean) @ self.axes / (signal**2 * self.variances + scale**2)) @ self.axes.mT


def conditional_score(process: DiffusionProcess, mean: Tensor, covariance: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The score (B, D) of the noised distribution N(mean (B, D), covariance (D, D))."""
    signal, scale = process.coefficients(x, t)
    noised = signal[..., None] ** 2 * covariance + scale[..., None] ** 2 * torch.eye(x.shape[1]).to(x)
    return -torch.linalg.solve(noised, (x - signal * mean)[..., None])[..., 0]


@dataclass(frozen=True)
class LinearEncoder:
    """z given x_0 ~ N(A x_0 + c, R) for data N(m, S), which fixes the distributions of z given x_t and of x_0 given
    z."""

    prior: GaussianScore
    A: Tensor
    c: Tensor
    R: Tensor

    def moments(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, k) and covariance (B, k, k) of z given x_t: N(A (m + G (x_t - a m)) + c, R + A (S - a G S) A^T)
        with G = a S (a^2 S + s^2 I)^-1. At t_min that is the encoder itself."""
        m, S = self.prior.mean, self.prior.covariance
        signal, scale = self.prior.process.coefficients(x, t)
        data = (t <= self.prior.process.t_min)[:, None]
        a = torch.where(data, 1, signal)[..., None]
        s = torch.where(data, 0, scale)[..., None]
        gain = torch.linalg.solve(a**2 * S + s**2 * torch.eye(len(m)).to(x), a * S).mT
        denoised = m + (gain @ (x - a[..., 0] * m)[..., None])[..., 0]
        covariance = self.R + self.A @ (S - a * gain @ S) @ self.A.mT
        return denoised @ self.A.mT + self.c, covariance

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """As ``ScoreVAE.posterior`` answers, for codes whose covariance is diagonal."""
        mean, covariance = self.moments(x, t)
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        assert torch.allclose(covariance, torch.diag_embed(diagonal), atol=1e-12)
        return mean, diagonal.log()

    def decoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and covariance (D, D) of x_0 given z: N(m + K (z - A m - c), S - K A S)."""
        m, S = self.prior.mean, self.prior.covariance
        gain = torch.linalg.solve(self.A @ S @ self.A.mT + self.R, self.A @ S).mT
        return m + (z - self.A @ m - self.c) @ gain.mT, S - gain @ self.A @ S


@dataclass(frozen=True)
class LinearDecoder:
    """z ~ N(0, I_k), x_0 = W z + m + N(0, r I)."""

    W: Tensor
    m: Tensor
    r: float

    def prior(self, t_min: float = 1e-5) -> GaussianScore:
        return GaussianScore(self.m, self.W @ self.W.mT + self.r * torch.eye(len(self.m)).to(self.m), t_min)

    def encoder(self, prior: GaussianScore) -> LinearEncoder:
        """Its distribution of z given x_0: N(P^-1 W^T (x_0 - m) / r, P^-1) with P = I + W^T W / r."""
        k = self.W.shape[1]
        inverse = torch.linalg.inv(torch.eye(k).to(self.W) + self.W.mT @ self.W / self.r)
        A = inverse @ self.W.mT / self.r
        return LinearEncoder(prior, A, -A @ self.m, inverse)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, self.W.shape[1], generator=generator, dtype=torch.float64)
        noise = torch.randn(n, len(self.m), generator=generator, dtype=torch.float64)
        return z @ self.W.mT + self.m + self.r**0.5 * noise


def worked_decoder() -> LinearDecoder:
    """The case of four coordinates and two code units that the numbers of the tests belong to."""
    W = real([1.0, 0.0], [0.0, 0.5], [1.0, 0.0], [0.0, 0.5])
    return LinearDecoder(W, real([0.3, -0.2, 0.1, 0.0]), 0.04)


def auto_encoder(prior: ScoreModel, latent: int, posterior: Posterior | None = None, **config: Any) -> ScoreVAE:
    """A ScoreVAE in float64 and in evaluation mode, with ``posterior`` in place of its encoder's answers."""
    config.setdefault("encoder", MLP(MLPConfig(width=8, blocks=1)))
    data = DataSpec(prior.event_shape, prior.event_scale)
    model = ScoreVAE(ScoreVAEConfig(latent=latent, **config), prior=prior, data=data).double().eval()
    if posterior is not None:
        model.posterior = posterior
    return model
