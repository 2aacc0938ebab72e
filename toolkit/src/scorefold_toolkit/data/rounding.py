"""Whether the distances between neighbouring points are lost in the rounding of their coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

_QUERIES, _NUMBERS = 200, 2**22
_FREE = 1e-6  # of the spread: no data of a practical size have nearer neighbours


def rounding_warning(x: Tensor) -> str | None:
    """A warning where points (N, *E) lie so far from 0 that rounding hides how far neighbours are away.

    With q the distance of neighbouring numbers at the largest value of a coordinate, rounding adds the sum of q^2 / 6
    over the coordinates to a squared distance: 1 % of it where the nearest neighbours are 4 root(sum of q^2) away.
    Points that float32 can hold are taken to have been rounded to it, whatever their dtype. Whole numbers below 2^23
    are exact.
    """
    if len(x) < 3 or not x.is_floating_point():
        return None
    flat = x.detach().cpu().flatten(1)
    flat = flat[:: max(1, len(flat) * flat.shape[1] // _NUMBERS)].double()
    largest = flat.abs().amax(0)
    if not bool(largest.isfinite().all()):
        return None
    single = bool((flat.float().double() == flat).all())
    mantissa = 24 if single else 53
    if single and float(largest.max()) < 2**23 and bool((flat == flat.round()).all()):
        return None
    # frexp gives 2^(e-1) <= largest < 2^e, between which numbers lie 2^(e - mantissa) apart.
    steps = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - mantissa)
    least = 4 * float(steps.square().sum().sqrt())
    centred = flat - flat.mean(0)
    if least <= _FREE * float(centred.square().sum(1).mean().sqrt()):
        return None
    queries = centred[:: max(1, len(centred) // _QUERIES)]
    near = torch.cat([_nearest(part, centred) for part in queries.split(max(1, _NUMBERS // len(centred)))])
    near = near[near.isfinite()]
    distance = float(near.median()) if len(near) else 0.0
    if distance >= least:
        return None
    kind = "float32" if single else "float64"
    return (
        f"the coordinates reach {float(largest.max()):.3g}, where {kind} numbers lie {float(steps.max()):.2g} apart, "
        f"and neighbouring points are {distance:.2g} apart: their distances are lost in rounding. Subtract each "
        "column's mean in float64 before the points become float32"
    )


def _nearest(queries: Tensor, points: Tensor) -> Tensor:
    """The distance of each query to the nearest point that isn't itself (n,)."""
    distances = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.masked_fill_(distances == 0, torch.inf).amin(1)
