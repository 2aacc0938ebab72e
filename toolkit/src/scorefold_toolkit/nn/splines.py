"""Monotone rational-quadratic splines (Durkan, Bekasov, Murray and Papamakarios 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MIN_BIN = 0.1
"""The smallest width and height of a bin, as a share of what it would be were all bins equal.

A flat bin between steep knots has an inner derivative of about 2 s^2 / (s + d), s its mean slope and d theirs:
thinner bins (published code has 1e-3 of the whole interval) let it fall to 1e-6, and the inverse in float32 is then
noise.
"""
MIN_SLOPE = 1e-2
"""The smallest derivative at an inner knot."""


def spline_parameters(bins: int) -> int:
    """How many numbers a coordinate's spline takes: widths, heights, and derivatives at inner knots."""
    return 3 * bins - 1


def rational_quadratic_spline(
    x: Tensor, raw: Tensor, *, bound: float, dim: int = -1, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """An increasing map of each coordinate and the logarithm of its derivative, both of the shape of x.

    On [-bound, bound] it is a rational-quadratic spline (equations 4 to 9 of the paper), outside the identity; the
    derivative is 1 at both ends, so the map is continuously differentiable everywhere. ``raw`` has the shape of x
    with one more dimension ``dim``, of size 3K - 1 for K bins: K unnormalised widths, K heights and K - 1 inner
    derivatives. All of them 0 give the identity. ``inverse`` computes the inverse map and the logarithm of its own
    derivative, at the same cost. ``bound`` is in units of x and must be positive, K at least 2.

    The layout matters for speed: bins on a leading ``dim`` make every operation a long contiguous one.
    """
    dim = dim % raw.dim()
    bins = (raw.shape[dim] + 1) // 3
    inside = x.clamp(-bound, bound)
    shares = raw.narrow(dim, 0, 2 * bins).unflatten(dim, (2, bins)).softmax(dim + 1)
    smallest, spread = 2 * bound * MIN_BIN / bins, 2 * bound * (1 - MIN_BIN)

    # Which bin holds each point. Knots are needed for comparison only, so no gradient passes through a cumulative sum.
    searched = shares.detach().select(dim, 1 if inverse else 0).narrow(dim, 0, bins - 1)
    steps = torch.arange(1, bins, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (raw.dim() - dim - 1))
    knots = searched.cumsum(dim) * spread + (steps * smallest - bound)
    passed = (inside.detach().unsqueeze(dim) >= knots).to(x.dtype)
    count = passed.sum(dim, keepdim=True)
    index = count.long()

    pair = [-1] * raw.dim()
    pair.insert(dim, 2)
    chosen = shares.gather(dim + 1, index.unsqueeze(dim).expand(pair)).squeeze(dim + 1) * spread + smallest
    width, height = chosen.unbind(dim)
    before = (shares.narrow(dim + 1, 0, bins - 1) * passed.unsqueeze(dim)).sum(dim + 1) * spread
    left, bottom = (before + (count * smallest - bound)).unbind(dim)

    # Only the two derivatives in use go through softplus. The 0 at either end stands for a derivative of 1.
    end = torch.zeros_like(raw.narrow(dim, 0, 1))
    slopes = torch.cat([end, raw.narrow(dim, 2 * bins, bins - 1), end], dim)
    ends = slopes.gather(dim, torch.cat([index, index + 1], dim)) + math.log(math.expm1(1 - MIN_SLOPE))
    slope_left, slope_right = (functional.softplus(ends) + MIN_SLOPE).unbind(dim)

    mean_slope = height / width
    curvature = slope_left + slope_right - 2 * mean_slope
    if inverse:
        rise = inside - bottom
        a = height * (mean_slope - slope_left) + rise * curvature
        b = height * slope_left - rise * curvature
        c = -mean_slope * rise
        # This form of the root does not cancel; the discriminant is positive up to rounding.
        theta = 2 * c / (-b - (b * b - 4 * a * c).clamp_min(0).sqrt())
    else:
        theta = (inside - left) / width
    rest = 1 - theta
    mixed = theta * rest
    denominator = mean_slope + curvature * mixed
    numerator = slope_right * theta * theta + 2 * mean_slope * mixed + slope_left * rest * rest
    log_slope = (mean_slope * mean_slope * numerator / (denominator * denominator)).log()
    # With unit derivatives at the ends, adding what clamping took off is the linear tail.
    if inverse:
        return left + width * theta + (x - inside), -log_slope
    value = bottom + height * (mean_slope * theta * theta + slope_left * mixed) / denominator
    return value + (x - inside), log_slope
