"""Scores in closed form, and geometries of them, that several files of tests ask."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.special import ive
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion import VE
from scorefold.interfaces import Geometry, ScoreModel, TensorSource
from scorefold_registry import Host

HALF = torch.tensor([0.5], dtype=torch.float64)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def close(value: Tensor | float, expected: Any, tolerance: float) -> None:
    given = torch.as_tensor(value, dtype=torch.float64)
    torch.testing.assert_close(
        given, torch.as_tensor(expected, dtype=torch.float64).expand_as(given), atol=tolerance, rtol=0
    )


class Normal(ScoreModel):
    """The score of N(0, covariance) under any process; its density too, unless ``scores_alone``."""

    def __init__(self, covariance: Tensor, process: Any = None, scores_alone: bool = False) -> None:
        super().__init__(process or VE(sigma_min=1e-6, sigma_max=50.0), (len(covariance),))
        self.register_buffer("covariance", covariance.double())
        if not scores_alone:
            self.noised_log_prob = self._log_prob

    def _precision(self, x: Tensor, t: Tensor) -> Tensor:
        signal, scale = self.process.coefficients(x[:1], t[:1])
        eye = torch.eye(len(self.covariance), dtype=x.dtype)
        return torch.linalg.inv(signal**2 * self.covariance + scale**2 * eye)

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return -x @ self._precision(x, t)

    def _log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        precision = self._precision(x, t)
        whole = torch.logdet(2 * math.pi * torch.linalg.inv(precision))
        return -0.5 * ((x @ precision * x).sum(1) + whole)


class Ring(ScoreModel):
    """Points with uniform angles on a sphere of radius 1 in the first n of D coordinates, as they stand under noise:
    the score alone, by Bessel ratios."""

    def __init__(self, n: int, dimension: int, scores_alone: bool = True) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (dimension,))
        self.n = n
        if not scores_alone:
            self.noised_log_prob = self._log_prob
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        variance = self.process.coefficients(x, t)[1].reshape(-1, 1) ** 2
        along = torch.zeros_like(x)
        along[:, : self.n] = x[:, : self.n]
        r = along.norm(dim=1, keepdim=True)
        ratio = bessel_ratio(self.n / 2 - 1, r / variance)
        return (ratio * along / r - x) / variance

    def _log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        variance = self.process.coefficients(x, t)[1].reshape(-1) ** 2
        kappa = x[:, : self.n].norm(dim=1) / variance
        order = self.n / 2 - 1
        bessel = torch.from_numpy(ive(order, kappa.numpy())).log() + kappa - order * kappa.log()
        return bessel - (x.square().sum(1) + 1) / (2 * variance)


def bessel_ratio(order: float, kappa: Tensor) -> Tensor:
    """I_(order + 1)(kappa) / I_order(kappa) by the continued fraction of Gauss, from below."""
    found = torch.zeros_like(kappa)
    for k in range(400, -1, -1):
        found = 1 / (2 * (order + 1 + k) / kappa + found)
    return found


def source(dimension: int, sphere: int = 0) -> TensorSource:
    """Normal points, or points on the sphere in the first coordinates."""
    draws = torch.randn(200, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if sphere:
        draws[:, sphere:] = 0
        draws = draws / draws.norm(dim=1, keepdim=True)
    parts = {name: Dataset(draws[k::2]) for k, name in enumerate(("train", "test"))}
    return TensorSource(parts)


def score_geometry(host: Host, model: ScoreModel, weight: float, sigma: float = 1e-6, **config: Any) -> Geometry:
    """geometry:score with lambda = ``weight``, whatever its data are, read at a noise of deviation ``sigma``."""
    settings = {"noise": sigma, "solver": {"points": 64, "tolerance": 1e-10, "steps": 200}, **config}
    data = source(model.event_shape[0])
    plain: Any = host.create("geometry:score", settings, score=model, data=data)
    settings["weight"] = math.sqrt(weight / plain.weight)
    return host.create("geometry:score", settings, score=model, data=data)
