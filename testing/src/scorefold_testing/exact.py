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

Noised = Callable[[Tensor, Tensor], Tensor]
"""(x (B, D), noise sigma (B, 1)) -> the score (B, D) of a distribution blurred by that noise."""


@dataclass(frozen=True)
class ExactProblem:
    """A distribution on a manifold of ``dimension`` in R^``ambient``: its points (n, D), and its score when blurred."""

    name: str
    dimension: int
    points: Callable[[int, torch.Generator], Tensor]
    blurred: Noised
    ambient: int = AMBIENT

    def score(self) -> ScoreModel:
        """The exact score as a model."""
        return ExactScore(self.blurred, self.ambient)

    def moved(self, turn: Tensor | None = None, shift: float = 0.0, factor: float = 1.0) -> ExactProblem:
        """The distribution of factor x turn + shift, for an orthogonal ``turn`` (D, D)."""
        turn = torch.eye(self.ambient, dtype=torch.float64) if turn is None else turn

        def points(n: int, generator: torch.Generator) -> Tensor:
            return factor * self.points(n, generator) @ turn + shift

        def blurred(x: Tensor, sigma: Tensor) -> Tensor:
            back = turn.to(x)
            return self.blurred((x - shift) @ back.mT / factor, sigma / factor) @ back / factor

        return ExactProblem(f"{self.name}, moved", self.dimension, points, blurred, self.ambient)


def subspace(dimension: int = 2, ambient: int = AMBIENT) -> ExactProblem:
    """A standard Gaussian on a subspace of R^``ambient``, a plane by default."""
    name = f"a Gaussian on a {dimension}-dimensional subspace of R^{ambient}"
    return _spanned(name, dimension, ambient, dimension, _normal, lambda u, sigma: -u / (1 + sigma**2))


def sphere() -> ExactProblem:
    """The uniform distribution on the unit 2-sphere of a 3-dimensional subspace of R^6."""
    return _spanned("a 2-sphere in R^6", 2, AMBIENT, 3, _on_sphere, _sphere_score)


def torus() -> ExactProblem:
    """The uniform distribution on a product of two unit circles in a 4-dimensional subspace of R^6: curved, and flat
    inside."""

    def points(n: int, width: int, generator: torch.Generator) -> Tensor:
        return torch.cat([_on_sphere(n, 2, generator) for _ in range(2)], dim=1)

    def score(u: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([_circle_score(part, sigma) for part in u.chunk(2, dim=1)], dim=1)

    return _spanned("a torus in R^6", 2, AMBIENT, 4, points, score)


def _spanned(
    name: str,
    dimension: int,
    ambient: int,
    width: int,
    points: Callable[[int, int, torch.Generator], Tensor],
    score: Noised,
) -> ExactProblem:
    """A distribution in coordinates u (B, width) of a subspace; across it the blurred distribution is normal with
    variance sigma^2."""
    basis = rotation(torch.Generator().manual_seed(width), ambient)[:, :width]

    def blurred(x: Tensor, sigma: Tensor) -> Tensor:
        span = basis.to(x)
        u = x @ span
        return score(u, sigma) @ span.mT - (x - u @ span.mT) / sigma**2

    return ExactProblem(name, dimension, lambda n, generator: points(n, width, generator) @ basis.mT, blurred, ambient)


class ExactScore(ScoreModel):
    """The score of a blurred distribution under VE with noise from 1e-3 to 50."""

    def __init__(self, blurred: Noised, ambient: int) -> None:
        super().__init__(VE(sigma_min=1e-3, sigma_max=50.0), (ambient,))
        self.blurred = blurred

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        return self.blurred(x, self.process.coefficients(x, t)[1].reshape(-1, 1))


def _normal(n: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, width, generator=generator, dtype=torch.float64)


def _on_sphere(n: int, width: int, generator: torch.Generator) -> Tensor:
    u = _normal(n, width, generator)
    x: Tensor = u / u.norm(dim=1, keepdim=True)
    return x


def _sphere_score(u: Tensor, sigma: Tensor) -> Tensor:
    """The blurred density is exp(-(r^2 + 1) / 2 sigma^2) sinh(a) / a with a = r / sigma^2, up to a constant."""
    r = u.norm(dim=1, keepdim=True).clamp_min(1e-12)
    a = r / sigma**2
    score: Tensor = (-r + 1 / torch.tanh(a) - sigma**2 / r) / sigma**2 * (u / r)
    return score


def _circle_score(u: Tensor, sigma: Tensor) -> Tensor:
    """The blurred density is exp(-(r^2 + 1) / 2 sigma^2) I_0(a) with a = r / sigma^2, up to a constant."""
    r = u.norm(dim=1, keepdim=True).clamp_min(1e-12)
    a = r / sigma**2
    score: Tensor = (-r + torch.special.i1e(a) / torch.special.i0e(a)) / sigma**2 * (u / r)
    return score


def rotation(generator: torch.Generator, size: int = AMBIENT) -> Tensor:
    """A random orthogonal matrix (size, size)."""
    q: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return q
