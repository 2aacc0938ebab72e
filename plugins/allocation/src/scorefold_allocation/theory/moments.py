"""Expected traces of S = X'X / n, for X (n, p) of independent standard normals, and of A = I - a S.

All follow from the moments of the Wishart distribution. Arguments are tensors or numbers and broadcast; everything is
float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Number = Tensor | float


class Traces(NamedTuple):
    """Expected normalised traces of powers of S and of products of traces, for n rows and p columns."""

    s1: Tensor  # E tr S / p
    s2: Tensor  # E tr S^2 / p
    s3: Tensor  # E tr S^3 / p
    s4: Tensor  # E tr S^4 / p
    s11: Tensor  # E (tr S)^2 / p^2
    s12: Tensor  # E tr S tr S^2 / p^2
    s22: Tensor  # E (tr S^2)^2 / p^2


class Shrunk(NamedTuple):
    """Expected normalised traces with A = I - a S."""

    h: Tensor  # E tr A^2 / p
    g1: Tensor  # E tr S A^2 / p
    g2: Tensor  # E tr S tr A^2 / p^2
    g3: Tensor  # E tr A^4 / p
    g4: Tensor  # E (tr A^2)^2 / p^2


def wishart_traces(n: Number, p: Number) -> Traces:
    """The traces for n >= 1 rows and p >= 1 columns."""
    n, p = (torch.as_tensor(value, dtype=torch.float64) for value in (n, p))
    one = torch.ones_like(n * p)
    s3 = (n**2 + p**2 + 3 * n * p + 3 * n + 3 * p + 4) / n**2
    s4 = n**3 + p**3 + 6 * n**2 * p + 6 * n * p**2 + 6 * n**2 + 6 * p**2 + 17 * n * p + 21 * n + 21 * p + 20
    s2 = (n + p + 1) / n
    # E (tr W^2)^2 of W = n S, divided by p^2 n^4 term by term: products of whole numbers would outgrow float64's.
    s22 = (1 + 2 * p / n + (p / n) ** 2 + 2 / n + 2 * p / n**2 + 8 / (n * p) + 21 / n**2 + 8 * p / n**3) + (
        20 / (n**2 * p) + 20 / n**3 + 20 / (n**3 * p)
    )
    return Traces(one, s2 * one, s3, s4 / n**3, 1 + 2 / (n * p), s2 * (n * p + 4) / (n * p), s22)


def shrunk_traces(n: Number, p: Number, rate: Number) -> Shrunk:
    """The traces with A = I - rate S, which one step of that rate on n labels multiplies the error of weights by."""
    a = torch.as_tensor(rate, dtype=torch.float64)
    s = wishart_traces(n, p)
    return Shrunk(
        h=shrinkage(n, p, a),
        g1=s.s1 - 2 * a * s.s2 + a**2 * s.s3,
        g2=s.s1 - 2 * a * s.s11 + a**2 * s.s12,
        g3=1 - 4 * a * s.s1 + 6 * a**2 * s.s2 - 4 * a**3 * s.s3 + a**4 * s.s4,
        g4=1 - 4 * a * s.s1 + 2 * a**2 * s.s2 + 4 * a**2 * s.s11 - 4 * a**3 * s.s12 + a**4 * s.s22,
    )


def shrinkage(n: Number, p: Number, rate: Number) -> Tensor:
    """h = E tr A^2 / p = (1 - a)^2 + a^2 (p + 1) / n; E A^2 = h I exactly."""
    n, p, a = (torch.as_tensor(value, dtype=torch.float64) for value in (n, p, rate))
    return (1 - a) ** 2 + a**2 * (p + 1) / n
