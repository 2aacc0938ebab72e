"""The error bound of a Riemannian auto-encoder, which is reported with the realised error.

For p ~ exp(-psi o phi) with psi(z) = z^T A^-1 z / 2 in D coordinates and a code that drops variances of sum s,

    E|D(E(X)) - X|^2 <= C_phi s + o(s),
    C_phi = inf_{0 <= beta < 1/2} C1 C2 C3 / (1 - 2 beta) ((1 + beta) / (1 - 2 beta))^(D/2),

where C1, C2, C3 are the suprema over x of |D phi^-1|_2^2, |det J| and 1 / |det J|, each times e^(-beta q(x) / 2) with
q(x) = phi(x)^T A^-1 phi(x) (Diepeveen, Batzolis et al., ICML 2025, Theorem 1). Under the flow's own distribution, which
is p where |det J| is constant, the error is at most L^2 s with L the Lipschitz constant of phi^-1, and nothing is left
out.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import Flow
from scorefold_pullback.autoencoder.latent_axes import quadratic_base
from scorefold_pullback.flows.mixture import SharedMixture
from scorefold_pullback.geometry.chart import row_lengths
from scorefold_pullback.tangent_pca import significant_components
from scorefold_toolkit.numerics import jacobian

_WHOLE_UP_TO = 32
_POWER_STEPS = 20
_CHUNK = 32
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class ErrorBound:
    """Bounds of the expected squared error |D(E(X)) - X|^2, and what they come from.

    ``theorem`` is C_phi times the dropped variance, to first order in it; None for a mixture, whose density is of
    another form, and where it is above 1e300. ``log_constant`` is log C_phi, attained at ``beta``; ``lipschitz`` is L,
    and ``corollary`` L^2 times the dropped variance. ``volume_spread`` is the standard deviation of log |det J|: where
    it isn't 0, the theorem's density is not the flow's. Suprema are the largest over the ``points``, which are the
    latents given and the base point, so that the bounds are estimates from below.
    """

    points: int
    beta: float | None
    log_constant: float | None
    theorem: float | None
    lipschitz: float
    corollary: float
    volume_spread: float

    def numbers(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


@torch.no_grad()
def error_bound(flow: Flow, z: Tensor, dropped: float) -> ErrorBound:
    """The bounds for latents z (B, *E) and a sum of dropped variances."""
    base = quadratic_base(flow)
    z = torch.cat([base.unwhiten(torch.zeros_like(z[:1])), z])
    stretch = largest_stretches(flow, z)
    log_volume = -flow.inverse(z)[1].double()
    lipschitz = float(stretch.max())
    beta = log_constant = theorem = None
    if not isinstance(base, SharedMixture):
        q = base.whiten(z).flatten(1).double().square().sum(1)
        logs = [2 * stretch.log(), log_volume, -log_volume]
        # The search takes numbers 160 times, which an accelerator would be waited for.
        beta, log_constant = _least(q.cpu(), [log.cpu() for log in logs], flow.dimension)
        theorem = math.exp(log_constant) * dropped if log_constant < 690 else None
    return ErrorBound(
        points=len(z),
        beta=beta,
        log_constant=log_constant,
        theorem=theorem,
        lipschitz=lipschitz,
        corollary=lipschitz**2 * dropped,
        volume_spread=float(log_volume.std(correction=0)),
    )


def largest_stretches(flow: Flow, z: Tensor) -> Tensor:
    """|D phi^-1|_2 at latents z (B, *E), (B,) in float64: the largest factor by which phi^-1 changes a length.

    By whole Jacobians up to 32 coordinates, else by 20 steps of the power method, which come to it from below.
    """
    return torch.cat([_stretches(flow, part) for part in z.split(_CHUNK)])


def _stretches(flow: Flow, z: Tensor) -> Tensor:
    def inverse(latents: Tensor) -> Tensor:
        return flow.inverse(latents)[0]

    if flow.dimension <= _WHOLE_UP_TO:
        norms: Tensor = torch.linalg.matrix_norm(jacobian(inverse, z, mode="reverse").double(), 2)
        return norms
    # w -> J^T w and v -> J v, each one backward pass through a graph that is built once.
    value, transpose = torch.func.vjp(inverse, z)[:2]
    _, push = torch.func.vjp(lambda w: transpose(w)[0], torch.zeros_like(value))[:2]
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(z)
    for _ in range(_POWER_STEPS):
        v = transpose(push(v / _lengths(v))[0])[0]
    return _lengths(push(v / _lengths(v))[0]).flatten().double()


def _lengths(v: Tensor) -> Tensor:
    return row_lengths(v).reshape(-1, *[1] * (v.dim() - 1))


def _least(q: Tensor, logs: list[Tensor], dimension: int) -> tuple[float, float]:
    """The beta in [0, 1/2) at which log C_phi is least, and that: a convex function, by golden section.

    ``q`` and each of ``logs`` are (B,): the suprema are of log + (-beta q / 2).
    """

    def log_constant(beta: float) -> float:
        suprema = sum(float((log - 0.5 * beta * q).max()) for log in logs)
        rest = math.log1p(-2 * beta)
        return suprema - rest + 0.5 * dimension * (math.log1p(beta) - rest)

    low, high = 0.0, 0.5
    for _ in range(80):
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, b) if log_constant(a) <= log_constant(b) else (a, high)
    return low, log_constant(low)


def all_equal(variances: Tensor) -> bool:
    """True if variances (D,), more than one, are the same number."""
    return len(variances) > 1 and bool((variances == variances[0]).all())


def warnings_of_variances(variances: Tensor, measured: Tensor, rank: int, share: float | None) -> list[str]:
    """The base's ``variances`` (D,), widest first, keep ``rank`` coordinates at a ``share``, which is None where the
    number was given; ``measured`` (D,) are the mean squares of the points' own coordinates.
    """
    if all_equal(variances):
        return [
            "all variances of the flow's base are equal, so that which coordinates are kept says nothing: the flow is "
            "not fitted, or has a standard normal base; use one with a variance for each coordinate"
        ]
    # Points without noise may be far narrower than the base across a manifold, but not along it, nor wider anywhere.
    in_all, each = float(measured.sum() / variances.sum()), float((measured / variances).mean())
    if not 0.5 < in_all < 2 or each > 2:
        return [
            f"the points are not of the flow's distribution: their latent variance is {in_all:.3g} times the base's "
            f"in all, and {each:.3g} times on average over coordinates; train the flow on data like these, or longer"
        ]
    if share is None:
        return []
    # What few points leave open about a share is no reason for a warning: a half as much again is.
    tails = measured.flip(0).cumsum(0).flip(0) / measured.sum()
    too_few = rank < len(tails) and float(tails[rank]) > 1.5 * share
    too_many = rank > 1 and float(tails[rank - 1]) < share / 1.5
    if not (too_few or too_many):
        return []
    return [
        f"by the points' own latent variances {significant_components(measured, share)} would be kept, and not {rank}; "
        "the flow's variances do not match the data yet"
    ]


def warnings_of_bound(error: float, standard_error: float, bound: ErrorBound) -> list[str]:
    """``error`` is the mean squared distance of points from their reconstructions.

    Where no variance is dropped the bound is 0 and the error what the flow does not invert, which a ``Diagnosis`` says.
    """
    found = []
    limit = bound.corollary if bound.theorem is None else bound.theorem
    if limit > 0 and error - 3 * standard_error > (1 + 1e-6) * limit:
        found.append(
            f"the mean squared error, {error:.3g}, is above the bound, {limit:.3g}. The bound is for points of the "
            f"flow's distribution. Its suprema are over {bound.points} points, and it is of first order in the "
            "dropped variance"
        )
    if bound.log_constant is not None and bound.volume_spread > 0.5:
        found.append(
            f"log |det J| differs by {bound.volume_spread:.2g} from point to point. The density of the error bound is "
            "therefore not the flow's, and its constant is large; bound.corollary does without"
        )
    return found
