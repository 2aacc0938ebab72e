"""The objective where its answer is known: Gaussian data, whose best encoder is reverse water-filling, and two points.

Each function of a claim takes a host, a profile and a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import ConditionSpec, Dataset, EventScale
from scorefold.diffusion import DiffusionProcess
from scorefold.interfaces import Network, Progress, TensorSource
from scorefold.interfaces.data import DataSource
from scorefold.seeds import derive_generator
from scorefold_scorevae.claims.training import cosine_training, trained_component
from scorefold_scorevae.scorevae.encoder import normal_kl
from scorefold_toolkit.nn import Conditioner

VARIANCES = (2.0, 0.5, 0.1, 0.01)
"""Of the four directions of the Gaussian data."""
EVENTS, DRAWS = 20_000, 40


class LinearInTime(Network):
    """Builds encoders whose mean is linear in the event and whose variance is free of it, as for Gaussian data."""

    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        return _LinearInTime(math.prod(in_shape), out_shape[0] // 2)


class _LinearInTime(nn.Module):
    """x (B, D) at a noise level (B,) to A x and the log-variance, (B, 2 k), both given by a network of the level."""

    def __init__(self, size: int, latent: int) -> None:
        super().__init__()
        self.shape = (latent, size)
        self.network = Conditioner(1, latent * (size + 1), (64, 64))
        nn.init.normal_(self.network.layers[-1].weight, std=0.1)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
        latent, size = self.shape
        answer = self.network(t[:, None])
        mean = torch.einsum("bkd,bd->bk", answer[:, : latent * size].reshape(-1, latent, size), x.flatten(1))
        return torch.cat([mean, answer[:, latent * size :]], dim=1)


def water_filling(host: Any, profile: str, seed: int, *, beta: float, latent: int) -> float:
    """The loss of a trained linear encoder over the least that there is for any encoder."""
    data = _gaussian(seed)
    prior = host.create("score:analytic", {"process": {"name": "vp", "t_min": 1e-3}, "gaussian": True}, data=data)
    config = {
        "latent": int(latent),
        "encoder": LinearInTime(),
        "beta": beta,
        "training": cosine_training(2500, batch_size=256, learning_rate=3e-3, optimiser="adam", weight_decay=0.0),
    }
    model = trained_component(host, "score:scorevae", config, data, seed, prior=prior, data=data)
    found = _loss(model, data, beta, seed)
    least = least_loss(model.process, beta, int(latent))
    print(f"beta {beta:g}, {latent} units: loss {found:.5f}, least {least:.5f}", flush=True)
    return found / least


def least_loss(process: DiffusionProcess, beta: float, latent: int) -> float:
    """The least data term + beta KL of Gaussian data: reverse water-filling.

    A coded direction of variance v keeps kappa of it at ln(v / kappa) / 2 nats, and an uncoded one all. The data term
    of a direction is E_t[a^2 kappa / (a^2 kappa + s^2)] / 2 over uniform times, by the midpoint rule.
    """
    t = process.t_min + (process.t_max - process.t_min) * (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    snr = process.double().log_snr(t).exp()
    shares = torch.logspace(-6, 0, 2001, dtype=torch.float64)

    def terms(variance: float) -> tuple[float, float]:
        """The loss of a direction without a code, and the least with one."""
        kappa = variance * shares
        parts = [float((k * snr / (k * snr + 1)).mean()) / 2 for k in kappa]
        coded = torch.tensor(parts, dtype=torch.float64) - beta * shares.log() / 2
        return parts[-1], float(coded.min())

    found = [terms(variance) for variance in VARIANCES]
    gains = sorted((plain - coded for plain, coded in found), reverse=True)
    return sum(plain for plain, _ in found) - sum(gains[:latent])


def _gaussian(seed: int) -> TensorSource:
    """Events (N, 4) whose mean is 0 and whose covariance is diag(VARIANCES) to the last digit."""
    x = torch.randn(EVENTS, len(VARIANCES), generator=derive_generator(seed, "gaussian"), dtype=torch.float64)
    x = x - x.mean(0)
    factor = torch.linalg.cholesky(x.mT @ x / len(x))
    x = torch.linalg.solve_triangular(factor, x.mT, upper=False).mT * torch.tensor(VARIANCES).double().sqrt()
    return TensorSource({"train": Dataset(x.float()), "test": Dataset(x.float())})


@torch.no_grad()
def _loss(model: Any, data: DataSource, beta: float, seed: int) -> float:
    """The data term and beta times the KL divergence of a trained encoder, over many times and noises."""
    x, generator = data.load("test").to(next(model.parameters()).device), derive_generator(seed, "loss")
    values = [model.loss(x, progress=Progress(0, 1, ""), generator=generator).parts["data"] for _ in range(DRAWS)]
    mean, std = model.encode_distribution(x.x)
    return float(torch.stack(values).mean() + beta * normal_kl(mean, 2 * std.log()).sum(1).mean())


def two_points(host: Any, profile: str, seed: int, *, term: str) -> float:
    """The data term for x = 1 or -1 and z = x + N(0, 1/4), with the Gaussian q(z | x_t) of the right mean and variance.

    ``term`` says what is done with its log-determinant, whose gradient counts since the variance depends on x_t:
    ``kept``, ``left out``, or ``wrong sign``; ``exact`` has the score of the true posterior, ``none`` that without a
    code. By quadrature over time, noise and code.
    """
    points = TensorSource({"train": Dataset(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))}, EventScale())
    settings = {"process": {"name": "vp", "t_min": 1e-3}, "points": True}
    prior = host.create("score:analytic", settings, data=points, dtype=torch.float64)
    prior = prior.double().cpu()
    process = prior.process
    t, noise, shift = torch.meshgrid(_middles(1e-3, 1.0, 160), *[_middles(-6, 6, 81)] * 2, indexing="ij")
    weight = _density(noise) * _density(shift) / (_density(noise) * _density(shift)).sum()
    t, noise, z = t.reshape(-1), noise.reshape(-1, 1), 1 + shift.reshape(-1, 1) / 2
    x = process.perturb(torch.ones_like(noise), t, noise)
    correction = _corrections(host, prior, points)[term](x, t, z).detach()
    expected = prior.noise(x, t) + process.noise_from_score(correction, x, t)
    return float(((expected - noise).square().sum(1) / 2 * weight.reshape(-1)).sum())


def _corrections(host: Any, prior: Any, data: DataSource) -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """Terms that are added to the prior's score, by name."""

    def posterior(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, scale = prior.process.coefficients(x, t)
        mean = torch.tanh(signal * x / scale**2)
        return mean, (1.25 - mean**2).log()

    def model(logdet: bool) -> Any:
        config = {"latent": 1, "encoder": {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}, "logdet": logdet}
        made = host.create("score:scorevae", config, prior=prior, data=data, dtype=torch.float64)
        made.cpu().posterior = posterior
        return made.correction

    kept, left_out = model(True), model(False)

    def exact(x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """x is 1 with odds exp(2 a x / s^2 + 8 z)."""
        signal, scale = prior.process.coefficients(x, t)
        with_code = torch.tanh(signal * x / scale**2 + 4 * z)
        correction: Tensor = signal * (with_code - torch.tanh(signal * x / scale**2)) / scale**2
        return correction

    return {
        "kept": kept,
        "left out": left_out,
        "wrong sign": lambda x, t, z: 2 * left_out(x, t, z) - kept(x, t, z),
        "exact": exact,
        "none": lambda x, t, z: torch.zeros_like(x),
    }


def _middles(low: float, high: float, count: int) -> Tensor:
    return low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _density(x: Tensor) -> Tensor:
    return (-(x**2) / 2).exp()
