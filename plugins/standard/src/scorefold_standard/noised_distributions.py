"""Densities and scores of distributions after isotropic Gaussian noise, y = x_0 + sigma z, in closed form.

Each module takes y (B, D) and sigma (B,), both positive and of the buffers' dtype, and gives log p_sigma(y) in nats
(B,) and its gradient (B, D).

Modified Bessel functions I of the orders that spheres need, in plain torch operations.

Both functions start from the uniform (Debye) expansion at a high order, where a few terms are exact to rounding, and
recur downwards, which contracts errors. They are elementwise, differentiable to any order, run on any device and stay
exact at x = 0, which scipy's ``ive`` (float64 on CPU, no gradient) does not offer.

Source: NIST Digital Library of Mathematical Functions, 10.41(ii) (the expansion) and 10.29.1 (the recurrence).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor, nn

from scorefold_toolkit.distributions import (
    Distribution,
    Embedded,
    Mixture,
    Points,
    Product,
    SharedGaussians,
    SphereDistribution,
    SubspaceGaussian,
    coordinates,
)

_HIGH_ORDER = 48
_TERMS = 8


@cache
def _debye_polynomials() -> tuple[tuple[dict[int, Fraction], ...], tuple[dict[int, Fraction], ...]]:
    """Coefficients by power of u_k (k = 0.._TERMS) and of w_k = p u_{k-1} / 2 + p^2 u'_{k-1} (w_0 = 0).

    u_{k+1}(p) = p^2 (1 - p^2) u_k'(p) / 2 + (1/8) int_0^p (1 - 5 s^2) u_k(s) ds and v_k = u_k - (1 - p^2) w_k, where
    v_k are the coefficients of the derivative's expansion (DLMF 10.41.9 to 10.41.11).
    """
    u: list[dict[int, Fraction]] = [{0: Fraction(1)}]
    w: list[dict[int, Fraction]] = [{}]
    for _ in range(_TERMS):
        following: dict[int, Fraction] = {}
        mixed: dict[int, Fraction] = {}
        for power, value in u[-1].items():
            for shift, factor in (
                (1, Fraction(power, 2) + Fraction(1, 8 * (power + 1))),
                (3, -Fraction(power, 2) - Fraction(5, 8 * (power + 3))),
            ):
                following[power + shift] = following.get(power + shift, Fraction(0)) + factor * value
            mixed[power + 1] = mixed.get(power + 1, Fraction(0)) + (Fraction(1, 2) + power) * value
        u.append(following)
        w.append(mixed)

    return tuple(u), tuple(w)


@cache
def _debye_series(order: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients in p, lowest power first, of sum_k u_k(p) / order^k and of sum_k w_k(p) / order^k."""
    u, w = _debye_polynomials()
    return _summed(u, order), _summed(w, order)


def _summed(polynomials: tuple[dict[int, Fraction], ...], order: float) -> tuple[float, ...]:
    total: dict[int, Fraction] = {}
    for k, polynomial in enumerate(polynomials):
        for power, value in polynomial.items():
            total[power] = total.get(power, Fraction(0)) + value / Fraction(order) ** k
    return tuple(float(total.get(power, 0)) for power in range(max(total) + 1))


def _at(coefficients: tuple[float, ...], p: Tensor) -> Tensor:
    value = torch.full_like(p, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = torch.addcmul(p.new_tensor(coefficient), value, p)
    return value


def _ladder(order: float, x_squared: Tensor) -> tuple[list[Tensor], float, Tensor]:
    """g_j = I_j(x) / (x I_{j-1}(x)) for j = top, top - 1, ..., order + 1, with top and the series U at the order
    top.
    """
    top = float(order + max(0, math.ceil(_HIGH_ORDER - order)))
    u, w = _debye_series(top)
    root = torch.sqrt(1 + x_squared / top**2)
    u_series = _at(u, 1 / root)
    # I_{top+1} / (x I_top) from the expansion of the derivative, with the difference V - U taken out analytically: the
    # textbook form sqrt(1 + z^2) V / U - 1 loses all digits for small z.
    g = (1 / (1 + root) - _at(w, 1 / root) / root / u_series) / top
    ladder = []
    j = top
    while j > order:
        g = 1 / (2 * j + x_squared * g)
        ladder.append(g)
        j -= 1
    if not ladder:
        # The order is high enough by itself: the expansion one above it gives the ratio asked for.
        return [g], top, u_series
    return ladder, top, u_series


def bessel_ratio_over_argument(order: float, x_squared: Tensor) -> Tensor:
    """I_{order+1}(x) / (x I_order(x)) at x = sqrt(x_squared), for order >= -1/2; tends to 1 / (2 order + 2) at x = 0.

    Relative error below 1e-13 in float64. The argument is squared so that the result is smooth in it at zero.
    """
    ladder, _, _ = _ladder(order, x_squared)
    return ladder[-1]


def log_bessel_normalised(order: float, x: Tensor) -> Tensor:
    """log [ Gamma(order + 1) (2 / x)^order I_order(x) ] - x at x >= 0, for order >= -1/2; 0 at x = 0.

    It is the logarithm of the mean of exp(x u_1) over the unit sphere in R^(2 order + 2), less x.
    """
    ladder, top, u_series = _ladder(order, x**2)
    z = x / top
    root = torch.sqrt(1 + z**2)
    # top * root - x without the cancellation of two numbers of the size of x.
    log_i = top / (root + z) - top * torch.log1p(root) - 0.5 * torch.log(root) + torch.log(u_series)
    log_i = log_i - top * math.log(top) - 0.5 * math.log(2 * math.pi * top)
    if top > order:
        log_i = log_i - torch.stack(ladder).log().sum(0)
    return log_i + math.lgamma(order + 1) + order * math.log(2)


_DISTANCES_AT_ONCE = 2**21


class NoisedDistribution(nn.Module, ABC):
    """A distribution of x_0 seen through noise."""

    @abstractmethod
    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        """log p_sigma(y), (B,)."""

    @abstractmethod
    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        """grad log p_sigma(y), (B, D)."""


class NoisedSubspaceGaussian(NoisedDistribution):
    """x_0 = mean + basis diag(sqrt(variances)) g: an anisotropic Gaussian around a subspace, of any rank from 0 to
    D.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor

    def __init__(self, distribution: SubspaceGaussian, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("mean", distribution.mean.to(dtype))
        self.register_buffer("basis", distribution.basis.to(dtype))
        self.register_buffer("variances", distribution.variances.to(dtype))

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        along, across = self._split(y)
        rank = along.shape[1]
        variance = self.variances + sigma[:, None] ** 2
        quadratic = (along**2 / variance).sum(1) + (across**2).sum(1) / sigma**2
        log_det = variance.log().sum(1) + 2 * (y.shape[1] - rank) * sigma.log()
        return -0.5 * (quadratic + log_det + y.shape[1] * math.log(2 * math.pi))

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        along, across = self._split(y)
        variance = sigma[:, None] ** 2
        return -across / variance - (along / (self.variances + variance)) @ self.basis.T

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along the basis (B, k) and the rest of y - mean across it (B, D)."""
        centred = y - self.mean
        along = centred @ self.basis
        return along, centred - along @ self.basis.T


class NoisedSphere(NoisedDistribution):
    """x_0 uniform on a sphere of radius R in an n-dimensional subspace (Bessel ratios; von Mises and Fisher's
    distribution)."""

    centre: Tensor
    basis: Tensor

    def __init__(self, distribution: SphereDistribution, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("centre", distribution.centre.to(dtype))
        self.register_buffer("basis", distribution.basis.to(dtype))
        self.radius = float(distribution.radius)
        self.noise_std = float(distribution.noise_std)
        self.order = distribution.basis.shape[1] / 2 - 1

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        variance = sigma**2 + self.noise_std**2
        centred = y - self.centre
        along = centred @ self.basis
        across = centred - along @ self.basis.T
        r: Tensor = torch.linalg.vector_norm(along, dim=1)
        quadratic = ((across**2).sum(1) + (r - self.radius) ** 2) / variance
        angular = log_bessel_normalised(self.order, self.radius * r / variance)
        return angular - 0.5 * (quadratic + y.shape[1] * torch.log(2 * math.pi * variance))

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        variance = (sigma**2 + self.noise_std**2)[:, None]
        centred = y - self.centre
        along = centred @ self.basis
        weight = self.radius / variance
        kappa_squared = weight**2 * (along**2).sum(1, keepdim=True)
        # E[x_0 | y] = R A(kappa) u / r with A(kappa) = kappa g(kappa^2) and kappa = R r / variance: no division by r.
        denoised = self.radius * weight * bessel_ratio_over_argument(self.order, kappa_squared) * along
        return (denoised @ self.basis.T - centred) / variance


class NoisedPoints(NoisedDistribution):
    """x_0 uniform on finitely many points: a Gaussian mixture with a component a point, streamed over rows of y."""

    centre: Tensor
    points: Tensor
    squares: Tensor

    def __init__(self, distribution: Points, dtype: torch.dtype) -> None:
        super().__init__()
        # Distances are taken from |y|^2 - 2 y.x + |x|^2; centring keeps the numbers that cancel small.
        centre = distribution.x.mean(0)
        self.register_buffer("centre", centre.to(dtype))
        self.register_buffer("points", (distribution.x - centre).to(dtype))
        self.register_buffer("squares", (self.points**2).sum(1), persistent=False)

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        sums = [torch.logsumexp(self._exponents(*rows), dim=1) for rows in self._rows(y, sigma)]
        normaliser = math.log(len(self.points)) + 0.5 * y.shape[1] * torch.log(2 * math.pi * sigma**2)
        return torch.cat(sums) - normaliser

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        parts = []
        for rows, noise in self._rows(y, sigma):
            denoised = self._exponents(rows, noise).softmax(dim=1) @ self.points
            parts.append((denoised - (rows - self.centre)) / noise[:, None] ** 2)
        return torch.cat(parts)

    def _rows(self, y: Tensor, sigma: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = max(1, _DISTANCES_AT_ONCE // len(self.points))
        return list(zip(y.split(size), sigma.split(size), strict=True))

    def _exponents(self, y: Tensor, sigma: Tensor) -> Tensor:
        """-|y - x_j|^2 / (2 sigma^2), (B, N)."""
        centred = y - self.centre
        squares = torch.addmm(self.squares, centred, self.points.T, alpha=-2) + (centred**2).sum(1, keepdim=True)
        return squares * (-0.5 / sigma[:, None] ** 2)


class NoisedSharedGaussians(NoisedDistribution):
    """Gaussians of one covariance, which noise widens. The score is the score of one Gaussian about E[m | y].

    m is the mean of the Gaussian that a point comes from. In the basis of the covariance the score of a coordinate u is
    (E[m | y] - u) / (variance + sigma^2).
    """

    centre: Tensor
    means: Tensor
    basis: Tensor
    variances: Tensor

    def __init__(self, distribution: SharedGaussians, dtype: torch.dtype) -> None:
        super().__init__()
        # Squares are expanded, as for NoisedPoints: centring keeps the numbers that cancel small.
        centre = distribution.means.mean(0)
        self.register_buffer("centre", centre.to(dtype))
        self.register_buffer("means", ((distribution.means - centre) @ distribution.basis).to(dtype))
        self.register_buffer("basis", distribution.basis.to(dtype))
        self.register_buffer("variances", distribution.variances.to(dtype))

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        along, variance = self._split(y, sigma)
        whole = (along**2 / variance + variance.log()).sum(1) + y.shape[1] * math.log(2 * math.pi)
        return torch.logsumexp(self._exponents(along, variance), dim=1) - math.log(len(self.means)) - 0.5 * whole

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        along, variance = self._split(y, sigma)
        expected = self._exponents(along, variance).softmax(dim=1) @ self.means
        return ((expected - along) / variance) @ self.basis.mT

    def _split(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """y and its variance in the basis, each (B, D)."""
        return (y - self.centre) @ self.basis, self.variances + sigma[:, None] ** 2

    def _exponents(self, along: Tensor, variance: Tensor) -> Tensor:
        """log p(y | j) but for what no j changes, (B, C)."""
        return (along / variance) @ self.means.mT - 0.5 * (1 / variance) @ (self.means**2).mT


class NoisedMixture(NoisedDistribution):
    """A mixture: its score is the mean of the components' scores under the posterior of the component given y."""

    log_weights: Tensor

    def __init__(self, distribution: Mixture, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("log_weights", distribution.weights.log().to(dtype))
        self.components = nn.ModuleList(noised_distribution(component, dtype) for component in distribution.components)

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        return torch.logsumexp(self._joint(y, sigma), dim=1)

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        posterior = self._joint(y, sigma).softmax(dim=1)
        total = torch.zeros_like(y)
        for weight, component in zip(posterior.unbind(1), self._distributions(), strict=True):
            total = total + weight[:, None] * component.score(y, sigma)
        return total

    def _distributions(self) -> list[NoisedDistribution]:
        return [component for component in self.components if isinstance(component, NoisedDistribution)]

    def _joint(self, y: Tensor, sigma: Tensor) -> Tensor:
        """log w_c + log p_c(y), (B, C)."""
        return self.log_weights + torch.stack(
            [distribution.log_prob(y, sigma) for distribution in self._distributions()], dim=1
        )


class NoisedProduct(NoisedDistribution):
    """Independent distributions side by side: noise of one level on all coordinates leaves them independent."""

    def __init__(self, distribution: Product, dtype: torch.dtype) -> None:
        super().__init__()
        self.sizes = [coordinates(component) for component in distribution.components]
        self.components = nn.ModuleList(noised_distribution(component, dtype) for component in distribution.components)

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        return torch.stack([distribution.log_prob(side, sigma) for distribution, side in self._sides(y)]).sum(0)

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([distribution.score(side, sigma) for distribution, side in self._sides(y)], dim=1)

    def _sides(self, y: Tensor) -> list[tuple[NoisedDistribution, Tensor]]:
        sides = zip(self.components, y.split(self.sizes, dim=1), strict=True)
        return [(distribution, side) for distribution, side in sides if isinstance(distribution, NoisedDistribution)]


class NoisedEmbedded(NoisedDistribution):
    """A distribution moved by an isometry: it has its own score along the basis, and the noise's score across it."""

    centre: Tensor
    basis: Tensor

    def __init__(self, distribution: Embedded, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("centre", distribution.centre.to(dtype))
        self.register_buffer("basis", distribution.basis.to(dtype))
        self.inner = noised_distribution(distribution.distribution, dtype)

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        along, across = self._split(y)
        rest = y.shape[1] - along.shape[1]
        noise = (across**2).sum(1) / sigma**2 + rest * torch.log(2 * math.pi * sigma**2)
        return self.inner.log_prob(along, sigma) - 0.5 * noise

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        along, across = self._split(y)
        return self.inner.score(along, sigma) @ self.basis.T - across / sigma[:, None] ** 2

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along the basis (B, m) and the rest of y - centre across it (B, D)."""
        centred = y - self.centre
        along = centred @ self.basis
        return along, centred - along @ self.basis.T


def noised_distribution(distribution: Distribution, dtype: torch.dtype) -> NoisedDistribution:
    """The distribution as a module with its tensors as buffers of a dtype."""
    if isinstance(distribution, SubspaceGaussian):
        return NoisedSubspaceGaussian(distribution, dtype)
    if isinstance(distribution, SphereDistribution):
        return NoisedSphere(distribution, dtype)
    if isinstance(distribution, Points):
        return NoisedPoints(distribution, dtype)
    if isinstance(distribution, SharedGaussians):
        return NoisedSharedGaussians(distribution, dtype)
    if isinstance(distribution, Product):
        return NoisedProduct(distribution, dtype)
    if isinstance(distribution, Embedded):
        return NoisedEmbedded(distribution, dtype)
    return NoisedMixture(distribution, dtype)
