"""From a spectrum to a dimension: the rules of the paper, of its code, and of the tangent projector.

Every rule takes spectra (..., D) in descending order and gives dimensions (...) and margins (...), how clearly each
was decided.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import DataError


def projector_rule(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """The number of eigenvalues of the tangent projector above 1/2, from 0 to D; margin: the least distance from
    1/2.
    """
    return (eigenvalues > 0.5).sum(-1), (eigenvalues - 0.5).abs().amin(-1)


def reference_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest gap of the singular values of centred scores, as the published code reads it, from 1 to D - 2.

    With gaps g_i = s_i - s_{i+1} counted from 0, the first is skipped and k = D - 1 - argmax_{i = 1..D-2} g_i: 0, D
    - 1 and D can't be the answer. Margin: the largest gap less the next, over the largest singular value. Raises
    ``DataError`` for D below 3, where no answer is left.
    """
    ambient = singular_values.shape[-1]
    if ambient < 3:
        raise DataError(
            f"the reference rule answers from 1 to D - 2, and events have D = {ambient} coordinates",
            hint="use rule: projector, which answers from 0 to D",
        )
    return _widest_gap(singular_values, first=1)


def paper_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest gap over all gaps, for scores without centring (the paper's algorithm), from 1 to D - 1; D at
    least 2.
    """
    return _widest_gap(singular_values, first=0)


def _widest_gap(values: Tensor, first: int) -> tuple[Tensor, Tensor]:
    gaps = (values[..., :-1] - values[..., 1:])[..., first:]
    dimension = values.shape[-1] - 1 - first - gaps.argmax(-1)
    widest = gaps.topk(min(2, gaps.shape[-1]), dim=-1).values
    runner_up = widest[..., 1] if widest.shape[-1] > 1 else torch.zeros_like(widest[..., 0])
    return dimension, (widest[..., 0] - runner_up) / values[..., 0].clamp_min(torch.finfo(values.dtype).tiny)


AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "mode": lambda values: values.mode(-1).values,
    "median": lambda values: values.quantile(0.5, dim=-1),
    "mean": lambda values: values.mean(-1),
    "max": lambda values: values.amax(-1),
}
"""Reductions of dimensions over points, (..., N) -> (...), by name."""
