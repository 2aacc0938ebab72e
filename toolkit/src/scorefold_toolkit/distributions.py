"""Distributions of data that have a closed form: what a synthetic source knows of its points and an analytic score is
made from.

All tensors are float64; D is the number of coordinates of a flattened event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from scorefold.errors import ShapeError


def _check_basis(basis: Tensor, centre: Tensor) -> None:
    if centre.dim() != 1 or basis.dim() != 2 or basis.shape[0] != centre.shape[0]:
        raise ShapeError(
            f"the centre has shape {tuple(centre.shape)} and the basis {tuple(basis.shape)}; expected (D,) and (D, n)"
        )
    eye = torch.eye(basis.shape[1], dtype=basis.dtype, device=basis.device)
    if not torch.allclose(basis.mT @ basis, eye, atol=1e-5):
        raise ShapeError("the columns of the basis are not orthonormal", hint="take Q of torch.linalg.qr(basis)")


@dataclass(frozen=True, eq=False)
class SubspaceGaussian:
    """x = mean + basis diag(sqrt(variances)) g with g standard normal in R^k.

    ``mean`` (D,), ``basis`` (D, k) with orthonormal columns, ``variances`` (k,) non-negative; k = 0 is a point and
    k = D a Gaussian of full rank. Raises ``ShapeError`` for shapes that don't fit and for a basis that isn't
    orthonormal.

    >>> line = SubspaceGaussian(torch.zeros(3), basis=torch.eye(3)[:, :1], variances=torch.tensor([4.0]))
    >>> line.dimension, coordinates(line)
    (1, 3)
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        _check_basis(self.basis, self.mean)
        if self.variances.shape != self.basis.shape[1:] or bool((self.variances < 0).any()):
            raise ShapeError(
                f"variances has shape {tuple(self.variances.shape)}; expected {self.basis.shape[1]} numbers >= 0"
            )

    @property
    def dimension(self) -> int:
        """k, the number of directions with a variance above 0."""
        return int((self.variances > 0).sum())


@dataclass(frozen=True, eq=False)
class SphereDistribution:
    """x = centre + radius basis u + noise_std z, u uniform on the unit k-sphere in R^(k+1), z standard normal in R^D.

    ``centre`` (D,), ``basis`` (D, k+1) with orthonormal columns, ``radius`` above 0. ``noise_std`` is the noise that
    the data themselves carry: at noise level sigma of a diffusion the points are a sphere with noise of variance
    sigma^2 + noise_std^2. Raises ``ShapeError`` as ``SubspaceGaussian`` does.

    >>> circle = SphereDistribution(torch.zeros(3), basis=torch.eye(3)[:, :2], radius=2.0)
    >>> circle.dimension, coordinates(circle)
    (1, 3)
    """

    centre: Tensor
    basis: Tensor
    radius: float
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        _check_basis(self.basis, self.centre)
        if self.radius <= 0 or self.noise_std < 0:
            raise ShapeError(f"a sphere of radius {self.radius} with noise {self.noise_std}; expected > 0 and >= 0")

    @property
    def dimension(self) -> int:
        """k, the dimension of the sphere."""
        return self.basis.shape[1] - 1


@dataclass(frozen=True, eq=False)
class Points:
    """The uniform distribution on finitely many points, ``x`` (N, D).

    >>> coordinates(Points(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])))
    2
    """

    x: Tensor

    def __post_init__(self) -> None:
        if self.x.dim() != 2 or self.x.shape[0] == 0:
            raise ShapeError(f"the points have shape {tuple(self.x.shape)}; expected (N, D) with N at least 1")


@dataclass(frozen=True, eq=False)
class SharedGaussians:
    """x = m_j + basis diag(sqrt(variances)) g, j uniform, g standard normal in R^D: Gaussians of one covariance.

    ``means`` (C, D), ``basis`` (D, D) orthonormal, ``variances`` (D,) non-negative. All of them cost two products with
    matrices (C, D), where a ``Mixture`` asks each. Raises ``ShapeError`` as ``SubspaceGaussian`` does.

    >>> axis = torch.eye(1, dtype=torch.float64)
    >>> two = SharedGaussians(torch.tensor([[-5.0], [5.0]]).double(), basis=axis, variances=axis[0])
    >>> log_density(two, torch.tensor([[5.0], [0.0]])).exp().round(decimals=4)
    tensor([0.1995, 0.0000], dtype=torch.float64)
    """

    means: Tensor
    basis: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        if self.means.dim() != 2 or len(self.means) == 0:
            raise ShapeError(f"the means have shape {tuple(self.means.shape)}; expected (C, D) with C at least 1")
        _check_basis(self.basis, self.means[0])
        if self.basis.shape[1] != self.means.shape[1]:
            raise ShapeError(
                f"the basis has {self.basis.shape[1]} columns; expected {self.means.shape[1]}, one a coordinate",
                hint="complete it, with variances of 0",
            )
        if self.variances.shape != self.means.shape[1:] or bool((self.variances < 0).any()):
            raise ShapeError(
                f"variances has shape {tuple(self.variances.shape)}; expected {self.means.shape[1]} numbers >= 0"
            )


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of distributions; ``weights`` (C,) are non-negative and sum to 1, else ``ShapeError`` is raised.

    >>> axis = torch.eye(1, dtype=torch.float64)
    >>> left, right = (SubspaceGaussian(m * axis[0], axis, axis[0]) for m in (-5.0, 5.0))
    >>> uneven = Mixture(torch.tensor([0.75, 0.25]), (left, right))
    >>> log_density(uneven, torch.tensor([[-5.0], [5.0]])).exp().round(decimals=4)
    tensor([0.2992, 0.0997], dtype=torch.float64)
    """

    weights: Tensor
    components: tuple[Distribution, ...]

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.components),) or len(self.components) == 0:
            raise ShapeError(
                f"{len(self.components)} components and weights of shape {tuple(self.weights.shape)}; expected one each"
            )
        if bool((self.weights < 0).any()) or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise ShapeError("the weights of a mixture are non-negative and sum to 1")


@dataclass(frozen=True, eq=False)
class Product:
    """Independent distributions side by side: x = (x_1, ..., x_C) with x_i from the i-th distribution, in the sum of
    their coordinates.

    Raises ``ShapeError`` where there is no component.

    >>> circle = SphereDistribution(torch.zeros(2), basis=torch.eye(2), radius=1.0)
    >>> coordinates(Product((circle, circle)))  # a torus in R^4
    4
    """

    components: tuple[Distribution, ...]

    def __post_init__(self) -> None:
        if not self.components:
            raise ShapeError("a product of no distributions; expected at least one")


@dataclass(frozen=True, eq=False)
class Embedded:
    """x = centre + basis u with u from ``distribution`` in R^m: a distribution moved by an isometry.

    ``centre`` (D,), ``basis`` (D, m) with orthonormal columns. Raises ``ShapeError`` as ``SubspaceGaussian`` does, and
    where the distribution isn't one on R^m.

    >>> circle = SphereDistribution(torch.zeros(2), basis=torch.eye(2), radius=1.0)
    >>> lifted = Embedded(circle, centre=torch.tensor([0.0, 0.0, 9.0]), basis=torch.eye(3)[:, :2])
    >>> coordinates(circle), coordinates(lifted)
    (2, 3)
    """

    distribution: Distribution
    centre: Tensor
    basis: Tensor

    def __post_init__(self) -> None:
        _check_basis(self.basis, self.centre)
        if coordinates(self.distribution) != self.basis.shape[1]:
            raise ShapeError(
                f"a distribution on {coordinates(self.distribution)} coordinates has {self.basis.shape[1]} directions"
            )


Distribution: TypeAlias = (
    SubspaceGaussian | SphereDistribution | Points | SharedGaussians | Mixture | Product | Embedded
)


def coordinates(distribution: Distribution) -> int:
    """D, the number of coordinates of a distribution's points."""
    match distribution:
        case SubspaceGaussian(mean=centre) | SphereDistribution(centre=centre) | Embedded(centre=centre):
            return len(centre)
        case Points(x=x) | SharedGaussians(means=x):
            return x.shape[1]
        case Mixture(components=parts):
            return coordinates(parts[0])
        case Product(components=parts):
            return sum(coordinates(part) for part in parts)


def translated(distribution: Distribution, shift: Tensor) -> Distribution:
    """The distribution of x + shift, with ``shift`` (D,)."""
    match distribution:
        case SubspaceGaussian():
            return replace(distribution, mean=distribution.mean + shift)
        case SphereDistribution() | Embedded():
            return replace(distribution, centre=distribution.centre + shift)
        case Points():
            return Points(distribution.x + shift)
        case SharedGaussians():
            return replace(distribution, means=distribution.means + shift)
        case Mixture():
            return replace(distribution, components=tuple(translated(part, shift) for part in distribution.components))
        case Product():
            shifts = shift.split([coordinates(part) for part in distribution.components])
            return Product(tuple(map(translated, distribution.components, shifts)))


def log_density(distribution: Distribution, x: Tensor) -> Tensor | None:
    """log p(x) in nats at flattened events x (N, D), (N,) in float64.

    None where the distribution has no density on R^D (a subspace, a sphere, points), or none in closed form (a noisy
    sphere).
    """
    if isinstance(distribution, SubspaceGaussian) and distribution.dimension == len(distribution.mean):
        standard = ((x.double() - distribution.mean) @ distribution.basis) ** 2 / distribution.variances
        return -0.5 * (standard + distribution.variances.log() + math.log(2 * math.pi)).sum(1)
    if isinstance(distribution, SharedGaussians) and bool((distribution.variances > 0).all()):
        normaliser = (
            math.log(len(distribution.means)) + 0.5 * (distribution.variances.log() + math.log(2 * math.pi)).sum()
        )
        return torch.logsumexp(shared_exponents(distribution, x.double()), dim=1) - normaliser
    if isinstance(distribution, Mixture):
        parts = _stacked([log_density(part, x) for part in distribution.components])
        return None if parts is None else torch.logsumexp(parts + distribution.weights.double().log()[:, None], dim=0)
    if isinstance(distribution, Product):
        sides = x.split([coordinates(part) for part in distribution.components], dim=1)
        parts = _stacked([log_density(part, side) for part, side in zip(distribution.components, sides, strict=True)])
        return None if parts is None else parts.sum(0)
    if isinstance(distribution, Embedded) and distribution.basis.shape[1] == len(distribution.centre):
        return log_density(distribution.distribution, (x.double() - distribution.centre) @ distribution.basis)
    return None


def shared_exponents(distribution: SharedGaussians, x: Tensor) -> Tensor:
    """-(x - m_j)^T S^-1 (x - m_j) / 2 of x (N, D), S the covariance of full rank, (N, C): ``softmax`` over the second
    dimension says which of the Gaussians x is from."""
    centre = distribution.means.mean(0)  # squares are expanded; centring keeps the numbers that cancel small
    along, means = (x - centre) @ distribution.basis, (distribution.means - centre) @ distribution.basis
    whole = (along**2 / distribution.variances).sum(1, keepdim=True) + (means**2 / distribution.variances).sum(1)
    return (along / distribution.variances) @ means.mT - 0.5 * whole


def _stacked(parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.stack(known) if len(known) == len(parts) else None
