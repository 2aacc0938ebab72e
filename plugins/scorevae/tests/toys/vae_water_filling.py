"""What an encoder of Gaussian data gains and costs in closed form, and a linear encoder that can learn it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from vae_gaussians import GaussianScore, LinearEncoder, real
from vae_quadrature import signs, times

from scorefold.data import Condition
from scorefold_scorevae.scorevae.encoder import normal_kl
from scorefold_scorevae.scorevae.model import ScoreVAE


def loss_by_variance(kappa: Tensor, t_min: float = 1e-3) -> Tensor:
    """E_t a^2 kappa / (a^2 kappa + s^2) / 2, the data term of a direction of variance kappa given z; any shape."""
    t, weights = times(t_min, nodes=200)
    total = 0.1 * t + 19.9 * t**2 / 2
    ratio = kappa[..., None] / torch.expm1(total)
    return (weights * ratio / (1 + ratio)).sum(-1) / 2


def best_encoder(prior: GaussianScore, variances: list[float], kappa: list[float]) -> LinearEncoder:
    """Codes z = sqrt((1 - kappa / lam) / lam) x + N(0, kappa / lam) of the first directions, which are N(0, 1)."""
    lam, left = real(variances)[: len(kappa)], real(kappa)
    A = torch.zeros(len(kappa), len(variances), dtype=torch.float64)
    A[range(len(kappa)), range(len(kappa))] = ((1 - left / lam) / lam).sqrt()
    return LinearEncoder(prior, A, torch.zeros(len(kappa), dtype=torch.float64), torch.diag(left / lam))


@dataclass(frozen=True)
class Terms:
    data: float
    kl: float
    beta: float

    @property
    def total(self) -> float:
        return self.data + self.beta * self.kl


@torch.no_grad()
def exact_terms(model: ScoreVAE, variances: list[float], beta: float) -> Terms:
    """Data term, by the model's weighting, and KL of a model of N(0, diag variances) whose fields are affine in x,
    without a draw."""
    process, likelihood = model.process, model.config.weighting == "likelihood"
    draws = signs(2 * len(variances) + model.latent_shape[0])
    x0, eps = real(variances).sqrt() * draws[:, : len(variances)], draws[:, len(variances) : 2 * len(variances)]
    mean, log_variance = model.posterior(x0, torch.zeros(len(x0), dtype=torch.float64))
    z = mean + (log_variance / 2).exp() * draws[:, 2 * len(variances) :]
    data = 0.0
    for time, weight in zip(*times(process.t_min, nodes=48 if likelihood else 24), strict=True):
        t = time.expand(len(x0))
        error = model.noise(process.perturb(x0, t, eps), t, z) - eps
        if likelihood:
            weight = weight * (process.t_max - process.t_min)
            error = error * process.dispersion(error, t) / process.coefficients(error, t)[1]
        data += float(weight * error.square().sum(1).mean() / 2)
    return Terms(data, float(normal_kl(mean, log_variance).sum(1).mean()), beta)


class LinearInTime(nn.Module):
    """mean = A(level) x and a log-variance of the level alone, both from a small network of the noise level."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        self.latent, self.size = out_shape[0] // 2, in_shape[0]
        self.body = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.last = nn.Linear(width, self.latent * (self.size + 1))

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        assert t is not None
        answer = self.last(self.body(t[:, None] / 4))
        matrix = answer[:, self.latent :].reshape(-1, self.latent, self.size)
        return torch.cat([(matrix @ x[..., None])[..., 0], answer[:, : self.latent]], 1)
