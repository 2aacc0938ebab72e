"""From a spectrum to a dimension: the rules of the paper, of its code, and of the tangent projector.

Every rule takes spectra (..., D) in descending order and gives dimensions (...) and margins (...), how clearly each
was decided. Singular values are on the scale where a normal direction has 1 (see ``spectra``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.errors import DataError

_FLOOR = 1e-3
"""Singular values below this are rounding, of which ratios mean nothing: in float32 it reaches 3e-4."""


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
    _check_ambient("reference", singular_values, 3, "1 to D - 2")
    return _widest_gap(singular_values, first=1)


def paper_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest gap over all gaps, for scores without centring (the paper's algorithm), from 1 to D - 1.

    Margin as for the reference rule. Raises ``DataError`` for D below 2.
    """
    _check_ambient("paper", singular_values, 2, "1 to D - 1")
    return _widest_gap(singular_values, first=0)


def ratio_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest ratio s_i / s_{i+1} of centred singular values, from 0 to D: a gap on the log scale.

    A value of 1, what pure noise has, stands before the first, so that D is the answer where all values are small
    alike; 0 is where all are above 1/2. Values below 0.001 count as 0.001. Margin: the largest log-ratio less the next
    one, over their sum; 1 where the answer is 0.
    """
    values = singular_values.clamp_min(_FLOOR)
    logs = torch.cat([values.new_zeros(*values.shape[:-1], 1), values.clamp_max(1).log()], -1)
    drops = logs[..., :-1] - logs[..., 1:]
    largest = torch.cat([drops, torch.zeros_like(drops[..., :1])], -1).topk(2, dim=-1).values
    none = singular_values[..., -1] > 0.5
    dimension = torch.where(none, 0, drops.shape[-1] - drops.argmax(-1))
    margin = (largest[..., 0] - largest[..., 1]) / largest.sum(-1).clamp_min(1e-12)
    return dimension, torch.where(none, torch.ones_like(margin), margin)


def threshold_rule(singular_values: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """The number of centred singular values below a threshold between 0 (tangent) and 1 (normal), from 0 to D.

    Margin: the least distance from the threshold.
    """
    return (singular_values < threshold).sum(-1), (singular_values - threshold).abs().amin(-1)


def _check_ambient(rule: str, values: Tensor, least: int, answers: str) -> None:
    ambient = values.shape[-1]
    if ambient < least:
        raise DataError(
            f"the {rule} rule answers from {answers}, and events have D = {ambient} coordinate{'s' * (ambient > 1)}",
            hint="use rule: projector, which answers from 0 to D",
        )


def _widest_gap(values: Tensor, first: int) -> tuple[Tensor, Tensor]:
    gaps = (values[..., :-1] - values[..., 1:])[..., first:]
    dimension = values.shape[-1] - 1 - first - gaps.argmax(-1)
    widest = gaps.topk(min(2, gaps.shape[-1]), dim=-1).values
    runner_up = widest[..., 1] if widest.shape[-1] > 1 else torch.zeros_like(widest[..., 0])
    return dimension, (widest[..., 0] - runner_up) / values[..., 0].clamp_min(torch.finfo(values.dtype).tiny)
