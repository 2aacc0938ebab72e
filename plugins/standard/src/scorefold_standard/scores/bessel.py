"""Modified Bessel functions I of the orders that spheres need, in plain torch operations.

Both functions start from the uniform (Debye) expansion at a high order, where a few terms are exact to rounding, and
recur downwards, which contracts errors. They are elementwise, differentiable to any order, run on any device and stay
exact at x = 0, which scipy's ``ive`` (float64 on CPU, no gradient) does not offer.

Source: NIST Digital Library of Mathematical Functions, 10.41(ii) (the expansion) and 10.29.1 (the recurrence).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

_HIGH_ORDER = 48
_TERMS = 8


@cache
def _debye_polynomials() -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """Coefficients, lowest power first, of u_k (k = 0.._TERMS) and of w_k = p u_{k-1} / 2 + p^2 u'_{k-1}.

    u_{k+1}(p) = p^2 (1 - p^2) u_k'(p) / 2 + (1/8) int_0^p (1 - 5 s^2) u_k(s) ds and v_k = u_k - (1 - p^2) w_k, where
    v_k are the coefficients of the derivative's expansion (DLMF 10.41.9 to 10.41.11).
    """
    u: list[dict[int, Fraction]] = [{0: Fraction(1)}]
    w: list[dict[int, Fraction]] = []
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

    def dense(polynomial: dict[int, Fraction]) -> tuple[float, ...]:
        return tuple(float(polynomial.get(power, 0)) for power in range(max(polynomial) + 1))

    return tuple(map(dense, u)), tuple(map(dense, w))


def _series(polynomials: tuple[tuple[float, ...], ...], p: Tensor, order: float, first: int) -> Tensor:
    """sum_k polynomial_k(p) / order^k, with k counted from ``first``."""
    total = torch.zeros_like(p)
    for k, coefficients in reversed(list(enumerate(polynomials, start=first))):
        value = torch.zeros_like(p)
        for coefficient in reversed(coefficients):
            value = value * p + coefficient
        total = total + value / order**k
    return total


def _ladder(order: float, x_squared: Tensor) -> tuple[list[Tensor], float, Tensor]:
    """g_j = I_j(x) / (x I_{j-1}(x)) for j = top, top - 1, ..., order + 1, with top and the series U at the order
    top.
    """
    top = float(order + max(0, math.ceil(_HIGH_ORDER - order)))
    u, w = _debye_polynomials()
    root = torch.sqrt(1 + x_squared / top**2)
    u_series = _series(u, 1 / root, top, 0)
    # I_{top+1} / (x I_top) from the expansion of the derivative, with the difference V - U taken out analytically: the
    # textbook form sqrt(1 + z^2) V / U - 1 loses all digits for small z.
    g = (1 / (1 + root) - _series(w, 1 / root, top, 1) / root / u_series) / top
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
