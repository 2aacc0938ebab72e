"""The coordinates that a Riemannian auto-encoder ranks: those along the axes of the covariance of a flow's base."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold_pullback.flows.covariance import principal_directions
from scorefold_pullback.flows.mixture import SharedMixture
from scorefold_toolkit.nn import Quadratic


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
    """The axes of a flow's base: its coordinates, by variance, where these are independent; else the eigenvectors of
    the covariance, which for a mixture is that of all parts together.

    Raises ``ConfigError`` for a base that is no quadratic potential.
    """
    base = quadratic_base(flow)
    with torch.no_grad():
        zero = torch.zeros(1, *flow.event_shape, dtype=torch.float64).to(place_of(flow))
        centre = base.centre if isinstance(base, SharedMixture) else base.unwhiten(zero)[0]
        variances = None if isinstance(base, SharedMixture) else _independent(base, zero)
        if variances is not None:
            order = variances.argsort(descending=True, stable=True)
            return PrincipalAxes(centre.flatten(), variances[order], order)
        covariance = base.covariance() if isinstance(base, SharedMixture) else _covariance(base, zero)
        values, vectors = principal_directions(covariance.double())
        return PrincipalAxes(centre.flatten(), values.clamp_min(0), vectors.to(covariance))


def place_of(flow: Flow) -> Tensor:
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
