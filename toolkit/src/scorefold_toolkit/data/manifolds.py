"""Synthetic manifolds: what a source draws, and how it is moved into the ambient space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold.seeds import derive_generator
from scorefold_toolkit.data.splits import split_positions
from scorefold_toolkit.distributions import Distribution


@dataclass(frozen=True, eq=False)
class Draw:
    """Points (N, *E) without noise in float64, their dimension (one int, or (N,)), and what else is known of them.

    ``tangent`` (N, D, k) has orthonormal columns in flattened events; ``label`` (N,) says the component of a mixture;
    ``distribution`` is the distribution of the points with their noise, where it has a closed form.
    """

    x: Tensor
    dimension: int | Tensor
    tangent: Tensor | None = None
    label: Tensor | None = None
    distribution: Distribution | None = None


def splits_of(drawn: Draw, *, noise_std: float, fractions: Sequence[float], seed: int) -> dict[str, Dataset]:
    """The splits of what was drawn, in float32, with Gaussian noise on every coordinate.

    Raises ``DataError`` for too few points, as ``split_positions`` does.
    """
    x = drawn.x
    if noise_std > 0:
        x = x + noise_std * seeded_normal(x.shape, seed, "noise")
    truth: dict[str, int | Tensor] = {"dimension": drawn.dimension}
    if drawn.tangent is not None:
        truth["tangent"] = drawn.tangent.float()
    dataset = Dataset(x=x.float(), label=drawn.label, index=torch.arange(len(x)), truth=truth)
    positions = split_positions(len(x), fractions, seed)
    return {name: dataset.take(position) for name, position in positions.items()}


def isometry(rows: int, columns: int, seed: int, *names: int, published: int | None = None) -> Tensor:
    """A random (rows, columns) matrix with orthonormal columns, uniform: Q of a normal matrix, with R positive.

    With ``published``, a seed, it is drawn as published code does: Q as it comes, of the matrix that torch draws from
    that seed in double precision (single precision gives another). Spheres that share such a seed overlap in span.
    """
    if published is not None:
        generator = torch.Generator().manual_seed(published)
        drawn: Tensor = torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64)).Q
        return drawn
    q, r = torch.linalg.qr(seeded_normal((rows, columns), seed, "isometry", *names))
    basis: Tensor = q * r.diagonal().sign()
    return basis


def complete_basis(basis: Tensor) -> Tensor:
    """Orthonormal columns (D, k), completed to a basis of the whole space (D, D); the first k are the given ones."""
    if basis.shape[1] == 0:
        return torch.eye(len(basis), dtype=basis.dtype)
    left = torch.linalg.svd(basis, full_matrices=True)[0]
    return torch.cat([basis, left[:, basis.shape[1] :]], dim=1)


def ambient(wanted: int | None, least: int, what: str) -> int:
    """The number of coordinates, checked against what the manifold needs."""
    if wanted is None:
        return least
    if wanted < least:
        raise ConfigError(
            f"{what} needs at least {least} coordinates; ambient is {wanted}", hint=f"set ambient: {least}"
        )
    return wanted


def sphere_tangent(u: Tensor) -> Tensor:
    """Orthonormal bases (N, n, n-1) of the complements of unit vectors u (N, n), by Householder reflections."""
    n = u.shape[1]
    # Reflecting along u + sign(u_0) e_0 maps e_0 to -+u without cancellation, so the other columns span the complement.
    v = u.clone()
    v[:, 0] += torch.where(u[:, 0] >= 0, 1.0, -1.0)
    v = v / v.norm(dim=1, keepdim=True)
    reflection = torch.eye(n, dtype=u.dtype) - 2 * v[:, :, None] * v[:, None, :]
    complement: Tensor = reflection[:, :, 1:]
    return complement


def seeded_normal(shape: tuple[int, ...], seed: int, *names: str | int) -> Tensor:
    """Standard normal numbers of a shape in float64, from the seed and a path of names."""
    return torch.randn(shape, generator=derive_generator(seed, *names), dtype=torch.float64)


def uniform(shape: tuple[int, ...], seed: int, *names: str | int) -> Tensor:
    """Numbers uniform on [0, 1) of a shape in float64, from the seed and a path of names."""
    return torch.rand(shape, generator=derive_generator(seed, *names), dtype=torch.float64)
