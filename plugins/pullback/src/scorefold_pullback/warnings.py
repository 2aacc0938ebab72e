"""Warnings about the dimension, the reconstructions or the error bound of an auto-encoder."""

from __future__ import annotations

from torch import Tensor

from scorefold_pullback.autoencoder.bound import ErrorBound
from scorefold_pullback.tangent_pca.spectrum import kept


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
        f"by the points' own latent variances {kept(measured, share)} would be kept, and not {rank}; "
        "the flow's variances are not yet those of the data"
    ]


def warnings_of_bound(error: float, standard_error: float, bound: ErrorBound) -> list[str]:
    """``error`` is the mean squared distance of points from their reconstructions.

    Where no variance is dropped the bound is 0 and the error what the flow does not invert, which a ``Diagnosis`` says.
    """
    found = []
    limit = bound.corollary if bound.theorem is None else bound.theorem
    if limit > 0 and error - 3 * standard_error > (1 + 1e-6) * limit:
        found.append(
            f"the mean squared error, {error:.3g}, is above the bound, {limit:.3g}, which is for points of the flow's "
            f"distribution, takes its suprema over {bound.points} points, and is of first order in the dropped variance"
        )
    if bound.log_constant is not None and bound.volume_spread > 0.5:
        found.append(
            f"log |det J| differs by {bound.volume_spread:.2g} from point to point, so that the density of the error "
            "bound is not the flow's, and its constant is large; bound.corollary does without"
        )
    return found
