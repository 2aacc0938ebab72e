"""Batches of events: what is asked of them, and their lengths."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.errors import DataError, ShapeError


def check_rows(name: str, value: Tensor, shape: tuple[int, ...], taker: str) -> None:
    """Raises ``ShapeError`` unless a value is a tensor (B, *shape), and ``DataError`` for numbers that are not finite.

    ``taker`` says what takes it.
    """
    if not isinstance(value, Tensor):
        raise ShapeError(f"{name} is a {type(value).__name__}; expected a tensor", hint="torch.as_tensor(...)")
    if value.dim() == 0 or tuple(value.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; {taker} takes (B, {expected})")
    # A sum is the cheaper look: it is finite where all are, but for sums that overflow.
    if not value.is_meta and not bool(value.detach().sum().isfinite()):
        wrong = int((~value.isfinite()).flatten(1).any(1).sum())
        if wrong:
            raise DataError(f"{name} holds NaN or infinite numbers in {wrong} of {len(value)} rows")


def row_lengths(v: Tensor) -> Tensor:
    """The Euclidean length of each row of v (B, *E), (B,), whose gradient at 0 is 0."""
    found: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return found
