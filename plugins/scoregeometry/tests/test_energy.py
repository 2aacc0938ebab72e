"""The energy of ``geometry:density``: E = log p_max - log p with the log p of the mode, near which no datum may be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from known_scores import Normal, close, source
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion import VE
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold_registry import Host


def energy(host: Host, model: ScoreModel, data: Any, **config: Any) -> Any:
    return host.create("geometry:density", {"noise": 0.2, **config}, score=model, data=data)


def held_out(points: Tensor) -> TensorSource:
    return TensorSource({"train": Dataset(points[::2]), "test": Dataset(points[1::2])})


@pytest.mark.parametrize("scores_alone", [False, True])
@pytest.mark.parametrize("size", [2, 10, 50])
@pytest.mark.parametrize("alpha", [1.0, 30.0])
def test_the_metric_of_a_gaussian(host: Host, size: int, alpha: float, scores_alone: bool) -> None:
    """G = (1 + alpha |x|^2 / (2 (1 + sig^2))) I, from the mode on."""
    geometry = energy(host, Normal(torch.eye(size), scores_alone=scores_alone), source(size), alpha=alpha)
    x = torch.zeros(3, size, dtype=torch.float64)
    x[1, 0], x[2] = 1.0, 1.0
    expected = 1 + alpha * x.square().sum(1) / (2 * (1 + geometry.density.sigma**2))
    close(geometry.metric(x).diagonal(dim1=1, dim2=2), expected[:, None].expand(3, size), 1e-4 * float(expected.max()))


def test_the_metric_of_a_flat_gaussian(host: Host) -> None:
    """Of variances from 1 to 1e-4: the climb is not along the axes."""
    axes = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    covariance = axes @ torch.diag(torch.logspace(0, -4, 12, dtype=torch.float64)) @ axes.T
    points = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = held_out(points @ torch.linalg.cholesky(covariance).T)
    geometry = energy(host, Normal(covariance, scores_alone=True), data)
    close(geometry.metric(torch.zeros(1, 12, dtype=torch.float64))[0].diagonal(), torch.ones(12), 1e-3)


class TwoNormals(ScoreModel):
    """0.3 N(-3, 1) + 0.7 N(3, 0.5^2) in D coordinates, along the first: its score alone."""

    def __init__(self, size: int) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (size,))
        self.register_buffer("means", torch.zeros(2, size, dtype=torch.float64))
        self.means[:, 0] = torch.tensor([-3.0, 3.0])

    def logs(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        variances = torch.tensor([1.0, 0.25], dtype=torch.float64)[:, None] + sigma**2
        squares = (x - self.means[:, None]).square().sum(2)
        shares = torch.tensor([0.3, 0.7], dtype=torch.float64)[:, None]
        return shares.log() - squares / (2 * variances) - x.shape[1] / 2 * variances.log(), variances

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        logs, variances = self.logs(x, self.process.coefficients(x[:1], t[:1])[1].flatten())
        return (logs.softmax(0)[:, :, None] * (self.means[:, None] - x) / variances[:, :, None]).sum(0)


@pytest.mark.parametrize("size", [2, 10, 50])
def test_the_metric_of_a_mixture(host: Host, size: int) -> None:
    """The higher mode is the narrower one's, which 70 % of the points are in."""
    model = TwoNormals(size)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(300, size, generator=generator, dtype=torch.float64)
    narrow = torch.rand(300, 1, generator=generator) < 0.7
    geometry = energy(host, model, held_out(torch.where(narrow, model.means[1] + 0.5 * draws, model.means[0] + draws)))
    sigma = torch.tensor(geometry.density.sigma)
    x = torch.stack([model.means[1], model.means[1] + 0.3, model.means[0], 0 * model.means[0]])
    logs = model.logs(x, sigma)[0].logsumexp(0)
    close(geometry.metric(x)[:, 0, 0], 1 + logs[0] - logs, 2e-3)


@pytest.mark.parametrize("noise", [1e-6, 1e-3])
def test_the_mode_is_found_at_small_noise(host: Host, noise: float) -> None:
    """At the mode G is I, and no held-out point lies there."""
    model = Normal(torch.tensor([[4.0, 1.0], [1.0, 0.5]]))
    points = source(2).load("train").x @ torch.tensor([[2.0, 0.0], [0.5, 0.5]], dtype=torch.float64).T
    geometry = energy(host, model, held_out(points), noise=noise, alpha=100.0)
    close(geometry.metric(torch.zeros(1, 2, dtype=torch.float64))[0], torch.eye(2), 1e-4)


def test_energies_of_held_out_points_are_in_the_diagnosis(host: Host) -> None:
    for size, far in ((2, False), (50, True)):
        geometry = energy(host, Normal(torch.eye(size)), source(size))
        numbers, warnings = geometry.diagnose(torch.eye(size, dtype=torch.float64)[:2])
        assert 0 <= numbers["least energy of held-out points"] < numbers["largest energy of held-out points"]
        assert any("none is near the mode" in text for text in warnings) is far


class Runaway(Normal):
    """A score whose density has a mode at 0, and rises without end outside radius 30, as a network's may."""

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return torch.where(x.norm(dim=1, keepdim=True) > 30, 50 * x, super().score(x, t))


def test_the_climb_stays_among_the_data(host: Host) -> None:
    geometry = energy(host, Runaway(torch.eye(10), scores_alone=True), source(10))
    close(geometry.metric(torch.zeros(1, 10, dtype=torch.float64))[0].diagonal(), torch.ones(10), 1e-4)
    geometry = energy(host, Uphill(torch.eye(10), scores_alone=True), source(10))
    assert float(geometry.reference[1]) < 50 * 100


class Uphill(Normal):
    """A score that leads away from the data everywhere, and has no mode."""

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return torch.full_like(x, 50.0)
