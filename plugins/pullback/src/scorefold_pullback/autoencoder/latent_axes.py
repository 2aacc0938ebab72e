"""The coordinates that a Riemannian auto-encoder ranks: those along the axes of the covariance of a flow's base."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import shuffled
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold_pullback.flows.linear import principal_directions
from scorefold_pullback.flows.mixture import SharedMixture
from scorefold_toolkit.nn import Quadratic
from scorefold_toolkit.numerics import gram_spectrum


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Orthonormal axes of the covariance of a base distribution over latents (*E), widest first.

    ``centre`` (D,) is the distribution's mean and ``variances`` (D,) are those along the axes, in float64; ``axes`` are
    positions (D,) where the axes are the coordinates, else columns (D, D).
    """

    centre: Tensor
    variances: Tensor
    axes: Tensor

    def coordinates(self, z: Tensor) -> Tensor:
        """The coordinates (B, D) of latents (B, *E) along the axes, from the centre."""
        apart = z.flatten(1) - self.centre
        return apart[:, self.axes] if self.axes.dim() == 1 else apart @ self.axes

    def latents(self, p: Tensor, event_shape: tuple[int, ...]) -> Tensor:
        """The latents (B, *E) of the first m coordinates (B, m), the others 0."""
        rank = p.shape[1]
        if self.axes.dim() == 1:
            flat = p.new_zeros(len(p), len(self.axes)).index_copy(1, self.axes[:rank], p)
        else:
            flat = p @ self.axes[:, :rank].mT
        return (flat + self.centre).reshape(-1, *event_shape)


def quadratic_base(flow: Flow) -> Quadratic:
    """The base of a flow. Raises ``ConfigError`` for one that is no quadratic potential."""
    base = flow.base
    if not isinstance(base, Quadratic):
        raise ConfigError(
            f"the auto-encoder's flow has a {type(base).__name__} as its base, which has no variances to rank "
            "coordinates by",
            hint="plug in a flow with a normal base, such as flow:affine-coupling with base: diagonal-normal",
        )
    return base


def principal_axes(flow: Flow) -> PrincipalAxes:
    """The axes of a flow's base, by variance.

    They are its coordinates where these are independent, else the eigenvectors of the covariance. A mixture has one
    covariance, of all its parts together. Raises ``ConfigError`` for a base that is no quadratic potential.
    """
    base = quadratic_base(flow)
    with torch.no_grad():
        zero = torch.zeros(1, *flow.event_shape, dtype=torch.float64).to(position_of(flow))
        centre = base.centre if isinstance(base, SharedMixture) else base.unwhiten(zero)[0]
        variances = None if isinstance(base, SharedMixture) else _independent(base, zero)
        if variances is not None:
            order = variances.argsort(descending=True, stable=True)
            return PrincipalAxes(centre.flatten(), variances[order], order)
        covariance = base.covariance() if isinstance(base, SharedMixture) else _covariance(base, zero)
        values, vectors = principal_directions(covariance.double())
        return PrincipalAxes(centre.flatten(), values.clamp_min(0), vectors.to(covariance))


def position_of(flow: Flow) -> Tensor:
    """A tensor with the device and dtype that a flow computes in."""
    tensors = itertools.chain(flow.parameters(), flow.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(()))


def _independent(base: Quadratic, zero: Tensor) -> Tensor | None:
    """The variances (D,) of a base whose coordinates are independent, in float64; None for another."""
    precisions = base.hessian_product(zero, torch.ones_like(zero))
    probe = torch.randn(zero.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(zero)
    if not torch.allclose(base.hessian_product(zero, probe), precisions * probe, rtol=1e-5, atol=0):
        return None
    return precisions.flatten().double().reciprocal()


def _covariance(base: Quadratic, zero: Tensor) -> Tensor:
    """A = L L^T, (D, D)."""
    unit = torch.eye(zero.numel(), dtype=zero.dtype, device=zero.device).reshape(-1, *zero.shape[1:])
    columns = (base.unwhiten(unit) - base.unwhiten(zero)).flatten(1)
    return columns.mT @ columns


_ALL_UP_TO = 16


def kept_counts(size: int, *needed: int) -> list[int]:
    """The numbers of coordinates that the curve is measured at: 0..D, or for more than 16 about as many, closer
    together where they are small, with those that are ``needed``.
    """
    if size <= _ALL_UP_TO:
        return list(range(size + 1))
    few = range(_ALL_UP_TO // 2)
    spread = torch.logspace(0, 1, _ALL_UP_TO // 2, base=size / len(few), dtype=torch.float64)
    return sorted({*few, *(len(few) * spread).round().int().tolist(), *needed, size})


@torch.no_grad()
def reconstruction_curve(
    flow: Flow,
    axes: PrincipalAxes,
    x: Tensor,
    counts: list[int],
    *,
    batch_size: int = 256,
    generator: torch.Generator | None = None,
) -> Mapping[str, list[float]]:
    """Mean squared error a coordinate of points x (N, *E) from m coordinates, for each m of ``counts``.

    By order: the widest m (``decreasing``), the narrowest (``increasing``), or ``random`` ones, a generator's or else
    always the same.
    """
    size = flow.dimension
    by_width = torch.arange(size)
    chosen = torch.Generator().manual_seed(0) if generator is None else generator
    orders = {"decreasing": by_width, "increasing": by_width.flip(0), "random": shuffled(size, chosen)}
    codes = torch.cat([axes.coordinates(flow(part)[0]) for part in x.split(batch_size)])

    def error(chosen: Tensor) -> Tensor:
        total = x.new_zeros((), dtype=torch.float64)
        for p, part in zip(codes.split(batch_size), x.split(batch_size), strict=True):
            only = torch.zeros_like(p).index_copy(1, chosen, p[:, chosen])
            back = flow.inverse(axes.latents(only, flow.event_shape))[0]
            total += (back - part).double().square().sum()
        return total / x.numel()

    errors = {name: [error(order[:count].to(x.device)) for count in counts] for name, order in orders.items()}
    return {name: torch.stack(found).tolist() for name, found in errors.items()}


def unseen_pca_curve(x: Tensor) -> Tensor:
    """Held-out error of a PCA per coordinate of points x (N, *E), 2 or more, with 0..D components.

    Half of the points are read in the components of the other half, and the other way round: in its own components a
    few points seem to vary along fewer directions than they do. So do neighbours in the order that are alike, such as
    frames: of every second point and of the first half of them, the larger remainder counts.

    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 0.1])
    >>> [round(float(left), 1) for left in unseen_pca_curve(x)]
    [4.4, 1.4, 0.0, 0.0]
    """
    points = x.flatten(1).double()
    middle = (len(x) + 1) // 2
    halves = ((points[::2], points[1::2]), (points[:middle], points[middle:]))
    return torch.maximum(*(_crossed(*each) for each in halves)) / x.numel()


def _crossed(first: Tensor, second: Tensor) -> Tensor:
    """Total error of either half by the components of the other."""
    left = first.new_zeros(first.shape[1] + 1)
    for fitted, read in ((first, second), (second, first)):
        centred = read - fitted.mean(0)
        _, sizes, axes = torch.linalg.svd(fitted - fitted.mean(0), full_matrices=False)
        # Points that repeat each other have fewer directions than rows; what the decomposition adds is arbitrary.
        axes = axes[sizes > sizes[0] * max(fitted.shape) * torch.finfo(sizes.dtype).eps]
        found = (centred @ axes.T).square().sum(0)
        beyond = (centred.square().sum() - found.sum()).clamp_min(0)  # across all components of few points
        tails = torch.cat([found.flip(0).cumsum(0).flip(0), found.new_zeros(len(left) - len(found))])
        left += tails + (beyond if len(found) < len(left) - 1 else 0)
    return left


def pca_curve(x: Tensor, counts: list[int]) -> list[float]:
    """Error of a PCA of points x (N, *E) per coordinate, with m components, for each m of ``counts``."""
    flat = x.flatten(1).double()
    narrowest = gram_spectrum(flat - flat.mean(0)).square().flip(0)
    tails = torch.cat([narrowest.new_zeros(1), narrowest.cumsum(0)]) / x.numel()
    left: list[float] = tails[[flat.shape[1] - count for count in counts]].tolist()
    return left
