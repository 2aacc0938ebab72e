"""Surrogate data: smooth random manifolds of a chosen dimension that look like given data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold_neighbours.calibrated.facts import Facts

LATENTS = ("uniform", "gaussian", "sphere", "marginals", "skewed", "scaled", "rays")


@dataclass(frozen=True)
class SurrogateRecipe:
    """Recipe of a surrogate: its dimension, and unknown properties of the data.

    ``latent`` is the distribution of the coordinates: uniform in a cube or on a sphere, Gaussian, independent with the
    marginals of the data along their principal axes, ``skewed`` (Gamma of a ``shape``), Gaussian ``scaled`` by one
    log-normal factor a point whose logarithm has the deviation 1 / (1 + shape), or on ``rays``: uniform in a cube times
    one factor a point, U^(1 / shape) of a uniform U, so that points crowd at a corner. ``frequency`` is how strongly
    the manifold bends (radians a standard deviation of a coordinate) and ``mixed`` how many coordinates each bend
    depends on; ``noise`` is a deviation, in the data's units. Bends that are ``wound`` come in pairs of a sine and a
    cosine, as circles and coils do, and each coordinate or bend lies along an axis of its own.
    """

    dimension: int
    latent: str
    frequency: float
    mixed: int
    noise: float
    shape: float = 1.0
    wound: bool = False


def surrogate(facts: Facts, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Points (n, r) on the principal axes of the data, or (n, D) where these lie on a grid, in float64."""
    u = _latent(facts, recipe, generator)
    clean = (facts.variances - recipe.noise**2).clamp(min=0)
    y = _bent(u, facts, recipe, clean, generator)
    y = _with_tails(y, facts)
    y = y + recipe.noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    if not facts.on_grid:
        return y
    x = y @ facts.axes.T
    steps = facts.steps
    return torch.where(steps > 0, (x / steps.where(steps > 0, 1)).round() * steps, x)


def _latent(facts: Facts, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Coordinates of deviation 1: (n, k), or (n, k + 1) on a k-sphere."""
    n, k = facts.count, recipe.dimension
    if recipe.latent == "uniform":
        return (2 * torch.rand(n, k, generator=generator, dtype=torch.float64) - 1) * math.sqrt(3)
    if recipe.latent == "sphere":
        z = torch.randn(n, k + 1, generator=generator, dtype=torch.float64)
        lengths: Tensor = z.norm(dim=1, keepdim=True)
        return z / lengths * math.sqrt(k + 1)
    if recipe.latent == "marginals":
        # Smooth draws from the marginals of the data: between neighbours in their order.
        columns = torch.arange(k) % facts.marginals.shape[1]
        place = torch.rand(n, k, generator=generator, dtype=torch.float64) * (n - 1)
        below = place.floor().long().clamp(max=n - 2)
        sorted_values = facts.marginals[:, columns]
        low, high = sorted_values.gather(0, below), sorted_values.gather(0, below + 1)
        return low + (place - below) * (high - low)
    if recipe.latent == "rays":
        u = torch.rand(n, k + 1, generator=generator, dtype=torch.float64)
        along = u[:, 1:] * u[:, :1] ** (1 / recipe.shape)
        return (along - along.mean(0)) / along.std(0)
    z = torch.randn(n, k, generator=generator, dtype=torch.float64)
    if recipe.latent == "skewed":
        return (_gamma(z, recipe.shape) - recipe.shape) / math.sqrt(recipe.shape)
    if recipe.latent == "scaled":
        factors = torch.randn(n, 1, generator=generator, dtype=torch.float64) / (1 + recipe.shape)
        return z * factors.exp()
    return z


def _gamma(z: Tensor, shape: float) -> Tensor:
    """Gamma draws of a shape from normal ones, by their quantiles."""
    from scipy.special import gammaincinv

    share = torch.special.ndtr(z).clamp(1e-12, 1 - 1e-12)
    return torch.from_numpy(gammaincinv(shape, share.numpy()))


def _bent(u: Tensor, facts: Facts, recipe: SurrogateRecipe, variances: Tensor, generator: torch.Generator) -> Tensor:
    """The coordinates and bends of them, mixed so that their covariance is the data's: (n, r)."""
    n, width = u.shape
    rank, seen = len(variances), facts.seen
    extra = max(0, rank - width)
    bends = _bends(u, extra, recipe, generator)
    features = torch.cat([u, bends], dim=1) if extra else u
    features = features - features.mean(0)
    if width < seen:
        # Where bends matter they are mixed with the coordinates, so that no axis of the data is free of them.
        head = features[:, :seen]
        features = torch.cat([_white(head) @ _turn(seen, recipe, generator), features[:, seen:]], dim=1)
    features = features[:, :rank]
    features = features / features.std(0).clamp(min=1e-12)
    y = features * variances[: features.shape[1]].sqrt()
    return torch.cat([y, y.new_zeros(n, rank - y.shape[1])], dim=1)


def _turn(count: int, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """A random rotation of the axes, or a random order of them where bends are wound: (count, count)."""
    if recipe.wound:
        return torch.eye(count, dtype=torch.float64)[torch.randperm(count, generator=generator)]
    rotation: Tensor = torch.linalg.qr(torch.randn(count, count, generator=generator, dtype=torch.float64)).Q
    return rotation


def _bends(u: Tensor, count: int, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Random smooth functions of the coordinates: (n, count)."""
    if recipe.wound:
        angles = _angles(u, (count + 1) // 2, recipe, generator)
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :count]
    return _angles(u, count, recipe, generator).sin()


def _angles(u: Tensor, count: int, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Random linear functions of a few coordinates, in radians: (n, count).

    Their gradients are as long as the frequency in the mean of squares. The first of what is wound has this length
    itself, so that a search finds a coil.
    """
    width = u.shape[1]
    weights = torch.randn(width, count, generator=generator, dtype=torch.float64)
    kept = min(recipe.mixed, width)
    order = torch.rand(width, count, generator=generator, dtype=torch.float64).argsort(dim=0)
    weights = weights * (order < kept) / math.sqrt(kept)
    if recipe.wound:
        weights[:, :1] /= weights[:, :1].norm().clamp(min=1e-12)
    phases = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    angles: Tensor = recipe.frequency * (u @ weights) + phases
    return angles


def _white(features: Tensor) -> Tensor:
    """Features with the identity as their covariance; directions that they do not fill stay small."""
    centred = features - features.mean(0)
    left, singular, right = torch.linalg.svd(centred, full_matrices=False)
    kept = singular > 1e-6 * singular[0]
    found: Tensor = (left * kept) @ right * math.sqrt(len(features) - 1)
    return found


def _with_tails(y: Tensor, facts: Facts) -> Tensor:
    """Points with distances from the mean as heavy-tailed as the data's, where their own are not."""
    norms: Tensor = y.norm(dim=1)
    own = norms.clamp(min=1e-12).log().std()
    if float(facts.norms.clamp(min=1e-12).log().std()) <= 1.1 * float(own):
        return y
    target = torch.empty_like(norms)
    target[norms.argsort()] = facts.norms
    return y * (target / norms.clamp(min=1e-12))[:, None]
