"""Loss of a flow: the likelihood, and penalties that keep the map near an isometry at the data.

Diepeveen, Batzolis, Shumaylov, Schoenlieb, "Score-based pullback Riemannian geometry" (ICML 2025), the training
objective. With z = phi(x) and J = D_x phi, a geometry is pulled back from the density exp(-psi(phi(x))). Where
log |det J| is constant (the volume penalty), this is the flow's own density up to a constant. Where J is orthogonal
(the isometry penalty), the geometry's metric is the score's metric.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.errors import DataError
from scorefold.interfaces import Flow
from scorefold.random import draw_normal, draw_signs, draw_uniform
from scorefold_toolkit.potential import Potential

Isometry = Literal["full", "sliced", "length", "angle", "length-angle"]
Volume = Literal["absolute", "squared"]


def unit_vectors(kind: Isometry, x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """The directions at each point x (B, *E) that an isometry penalty looks along, (K, B, *E).

    ``full``: all D coordinates; ``sliced``: min(count, D) orthonormal ones, uniformly distributed; otherwise ``count``
    independent ones.
    """
    rows, size = len(x), math.prod(x.shape[1:])
    if kind == "full":
        basis = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])
        return basis.expand(size, *x.shape)
    if kind == "sliced":
        gaussian = draw_normal((rows, size, min(count, size)), generator=generator, like=x)
        frames: Tensor = torch.linalg.qr(gaussian)[0]
        return frames.permute(2, 0, 1).reshape(-1, *x.shape)
    gaussian = draw_normal((count, rows, size), generator=generator, like=x)
    return functional.normalize(gaussian, dim=2).reshape(count, *x.shape)


def with_cotangents(flow: Flow, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """phi(x) (B, *E), log |det J| (B,) and J^T q (K, B, *E) for directions q (K, B, *E); all can be differentiated.

    J and J^T have the same singular values, so that over directions without a preference every penalty here has the
    same distribution for J^T q as for J q, and J^T q takes one reverse pass. All K are rows of one batch, which for the
    small networks of flows is faster than one pass a direction.
    """
    count, rows = directions.shape[:2]
    with torch.enable_grad():
        repeated = x.detach().repeat(count, *[1] * (x.dim() - 1)).requires_grad_()
        z, log_det = flow(repeated)
        (products,) = torch.autograd.grad(z, repeated, directions.flatten(0, 1), create_graph=True)
    return z[:rows], log_det[:rows], products.unflatten(0, (count, rows))


def isometry_penalty(kind: Isometry, directions: Tensor, products: Tensor) -> Tensor:
    """Deviation of a map from keeping lengths and angles, averaged over points; 0 for an orthogonal Jacobian.

    ``directions`` and ``products`` are (K, B, *E), as ``with_cotangents`` takes and gives them. ``full`` and
    ``sliced``: the squared Frobenius norm of Q^T J J^T Q - I. ``length``: the squared difference of |J^T q| from 1.
    ``angle``: the squared difference of the cosines between neighbouring directions, before and after. There is no
    rescaling by D / K.
    """
    q, v = directions.flatten(2).transpose(0, 1), products.flatten(2).transpose(0, 1)
    if kind in ("full", "sliced"):
        gram = v @ v.mT
        unit = torch.eye(gram.shape[1], dtype=v.dtype, device=v.device)
        return (gram - unit).square().sum((1, 2)).mean()
    lengths: Tensor = (torch.linalg.vector_norm(v, dim=2) - 1).square().mean()
    if kind == "length":
        return lengths
    before = functional.cosine_similarity(q[:, :-1], q[:, 1:], dim=2)
    angles = (functional.cosine_similarity(v[:, :-1], v[:, 1:], dim=2) - before).square().mean()
    return angles if kind == "angle" else lengths + angles


def volume_penalty(kind: Volume, log_det: Tensor) -> Tensor:
    """The mean of |log |det J||, or of its square, over points: ``log_det`` (B,)."""
    return log_det.abs().mean() if kind == "absolute" else log_det.square().mean()


def hessian_penalty(flow: Flow, psi: Potential, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """One draw of the mean of |sum_k (grad psi(phi(x)))_k Hess phi_k(x)|_F^2 over points x (B, *E).

    The score is -J^T grad psi(phi(x)), and this is the part of its Jacobian that the geometry does not see: it
    vanishes where phi is affine. The square is estimated by the squared norm of the matrix times random signs, whose
    mean is the squared Frobenius norm. grad psi is held fixed, so that it is phi that bends less.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        z = flow(point)[0]
        (slope,) = torch.autograd.grad(z, point, psi.grad(z).detach(), create_graph=True)
        signs = draw_signs(tuple(x.shape), generator=generator, like=x)
        if not slope.requires_grad:
            return slope.new_zeros(())
        (bent,) = torch.autograd.grad(slope, point, signs, create_graph=True, allow_unused=True)
    return slope.new_zeros(()) if bent is None else bent.flatten(1).square().sum(1).mean()


def drawn_counts(rows: int, size: int, *, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Numbers of coordinates to keep, in 1..size: (rows,), with log K uniform on [0, log(size + 1)) and K rounded down.

    K is k with probability log((k + 1) / k) / log(size + 1).
    """
    uniform = draw_uniform((rows,), generator=generator, like=like)
    return (uniform * math.log(size + 1)).exp().floor().clamp(1, size)


def code_penalty(flow: Flow, x: Tensor, z: Tensor, variances: Tensor, counts: Tensor) -> Tensor:
    """The mean of |x - phi^-1(z_K)|^2 over points x (B, *E), whose latents, with noise or without, are z (B, *E).

    z_K keeps the K coordinates of largest ``variances`` (*E), a K of ``counts`` (B,) for each point, and is 0 in the
    others, as in the decoder of a Riemannian auto-encoder. With random K this is nested dropout (Rippel, Gelbart and
    Adams, "Learning ordered representations with nested dropout", ICML 2014). The published flow has no such term.
    """
    rank = variances.detach().flatten().argsort(descending=True, stable=True).argsort()
    kept = rank < counts[:, None]
    back, _ = flow.inverse(z * kept.reshape(z.shape))
    return (back - x).flatten(1).square().sum(1).mean()


_STARTS, _DIRECTIONS = 5, 32


@dataclass(frozen=True, eq=False)
class FlowParts:
    """The share (N, K) that each part has in each point, in float64; the largest parts first."""

    shares: Tensor

    @property
    def weights(self) -> Tensor:
        """The share of each part in all points, (K,)."""
        return self.shares.mean(0)

    def means(self, values: Tensor) -> Tensor:
        """The mean of values (N, *E) over each part, (K, *E)."""
        means = self.shares.mT @ values.flatten(1).double() / self.shares.sum(0)[:, None]
        return means.reshape(-1, *values.shape[1:])

    def squares(self, values: Tensor) -> Tensor:
        """The mean square of values (N, *E) around the means of their parts, (*E)."""
        centred = values.double() - values.double().mean(0)
        between: Tensor = torch.tensordot(self.weights, self.means(centred).square(), dims=1)
        return centred.square().mean(0) - between

    def covariance(self, x: Tensor) -> Tensor:
        """The covariance of points (N, D) around the means of their parts, (D, D)."""
        centred = x.double() - x.double().mean(0)
        means = self.means(centred)
        return centred.mT @ centred / len(x) - (self.weights[:, None] * means).mT @ means


def find_parts(x: Tensor, count: int, generator: torch.Generator) -> FlowParts:
    """The parts of points x (N, D), for the best of five starts by k-means, along at most 32 principal directions.

    Raises ``DataError`` for fewer different points than parts, and for points without such parts.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    different = len(x.unique(dim=0))
    if different < count:
        raise DataError(
            f"the start has {different} different points for a base of {count} modes",
            hint=f"give more points, or set modes to {different} or less",
        )
    centred = x.double() - x.double().mean(0)
    points = (centred / centred.square().mean().sqrt()).cpu().numpy()
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    axes = PCA(min(_DIRECTIONS, *points.shape), random_state=seed)
    fitted = GaussianMixture(count, covariance_type="tied", n_init=_STARTS, random_state=seed)
    with warnings.catch_warnings():
        # A start need not be the best fit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            along = axes.fit_transform(points)
            shares = fitted.fit(along).predict_proba(along)
        except ValueError as error:
            raise DataError(
                f"no mixture of {count} normal distributions fits the start's {len(x)} points: {error}",
                hint="set modes: 1, or leave out columns that do not vary",
            ) from error
    largest_first = shares.mean(0).argsort()[::-1].copy()
    return FlowParts(x.new_tensor(shares[:, largest_first], dtype=torch.float64))
