"""Manifolds of known dimension with their exact scores: what estimators are held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.diffusion import VE
from scorefold.interfaces import ScoreModel

AMBIENT = 6


@dataclass(frozen=True)
class Problem:
    """A manifold of ``dimension`` in R^6: its points (n, 6) and the exact score of its noised points."""

    name: str
    dimension: int
    points: Callable[[int, torch.Generator], Tensor]
    score: Callable[[], ScoreModel]


def subspace() -> Problem:
    """A standard Gaussian on a plane of R^6."""
    basis = rotation(torch.Generator().manual_seed(2))[:, :2]
    return Problem(
        "a Gaussian on a plane in R^6",
        2,
        lambda n, generator: torch.randn(n, 2, generator=generator, dtype=torch.float64) @ basis.mT,
        lambda: ExactScore(basis, _plane_score),
    )


def sphere(turn: Tensor | None = None) -> Problem:
    """The uniform law on the unit 2-sphere of a 3-dimensional subspace of R^6; ``turn`` (6, 6) rotates x to x turn."""
    basis = rotation(torch.Generator().manual_seed(3))[:, :3]
    if turn is not None:
        basis = turn.mT @ basis

    def points(n: int, generator: torch.Generator) -> Tensor:
        u = torch.randn(n, 3, generator=generator, dtype=torch.float64)
        x: Tensor = u / u.norm(dim=1, keepdim=True) @ basis.mT
        return x

    return Problem("a 2-sphere in R^6", 2, points, lambda: ExactScore(basis, _sphere_score))


class ExactScore(ScoreModel):
    """The score of a law on the span of a basis (6, k), under VE with noise from 1e-3 to 50.

    ``inner(u, sigma)`` is the score within the span at coordinates u (B, k) and noise sigma (B, 1); across the span
    the noised law is normal with variance sigma^2.
    """

    basis: Tensor

    def __init__(self, basis: Tensor, inner: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(VE(sigma_min=1e-3, sigma_max=50.0), (AMBIENT,))
        self.register_buffer("basis", basis)
        self.inner = inner

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        sigma = self.process.coefficients(x, t)[1].reshape(-1, 1)
        u = x @ self.basis
        across = x - u @ self.basis.mT
        score: Tensor = self.inner(u, sigma) @ self.basis.mT - across / sigma**2
        return score


def _plane_score(u: Tensor, sigma: Tensor) -> Tensor:
    return -u / (1 + sigma**2)


def _sphere_score(u: Tensor, sigma: Tensor) -> Tensor:
    """The noised density is exp(-(r^2 + 1) / 2 sigma^2) sinh(a) / a with a = r / sigma^2, up to a constant."""
    r = u.norm(dim=1, keepdim=True).clamp_min(1e-12)
    a = r / sigma**2
    score: Tensor = (-r + 1 / torch.tanh(a) - sigma**2 / r) / sigma**2 * (u / r)
    return score


def rotation(generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix (6, 6)."""
    q: Tensor = torch.linalg.qr(torch.randn(AMBIENT, AMBIENT, generator=generator, dtype=torch.float64)).Q
    return q
