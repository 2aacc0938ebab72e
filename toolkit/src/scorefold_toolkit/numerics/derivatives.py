"""Derivatives of batched maps f: (B, *E) -> (B, *F) whose rows do not depend on one another.

Every result can itself be differentiated. Batch normalisation in training mode breaks the assumption on rows.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from scorefold.diffusion.divergence import Map, forward_rules, like, outside_inference


@outside_inference
def pushforward(
    function: Map, x: Tensor, v: Tensor, *, mode: Literal["forward", "reverse"] = "forward"
) -> tuple[Tensor, Tensor]:
    """f(x) and the tangent J(x) v at x (B, *E) for v (B, *E) or (1, *E).

    ``forward`` takes one pass in forward mode; ``reverse`` transposes w -> J^T w, which is linear, by a second reverse
    pass. On small batches the second is several times faster: forward mode goes through Python at every operation with
    a constant. On large ones they cost about the same. Raises ``ShapeError`` where v does not fit x.
    """
    v = like("v", v, x).contiguous()
    if mode == "forward":
        forward_rules()
        value, tangent = torch.func.jvp(function, (x,), (v,))[:2]
        return value, tangent
    # Plain autograd has the smaller overhead, but may not run inside a transform, and what it answers asks for
    # gradients, which must not be where x does not.
    if (x.requires_grad or not torch.is_grad_enabled()) and _outside_transforms(x):
        return _transposed_twice(function, x, v)
    value, transpose = torch.func.vjp(function, x)[:2]
    (tangent,) = torch.func.vjp(lambda w: transpose(w)[0], torch.zeros_like(value))[1](v)
    return value, tangent


def _transposed_twice(function: Map, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = x if x.requires_grad else x.detach().requires_grad_()
        value = function(point)
        w = torch.zeros_like(value).requires_grad_()
        cotangent = _gradient(value, point, w, keep=True)
        tangent = _gradient(cotangent, w, v, keep=keep)
    return (value, tangent) if keep else (value.detach(), tangent.detach())


def _gradient(value: Tensor, point: Tensor, w: Tensor, *, keep: bool) -> Tensor:
    """J^T w of a value that may not depend on the point."""
    if not value.requires_grad:
        return torch.zeros_like(point)
    (found,) = torch.autograd.grad(value, point, w, create_graph=keep, materialize_grads=True)
    return found


def _outside_transforms(x: Tensor) -> bool:
    """True if plain autograd may be used here: torch refuses to mark leaves inside a transform of ``torch.func``."""
    if torch.is_inference_mode_enabled() or x.is_inference():
        return False
    try:
        x.new_empty(()).requires_grad_()
    except RuntimeError:
        return False
    return True


@outside_inference
def pullback(function: Map, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and the cotangent J(x)^T w at x (B, *E) for w (B, *F) or (1, *F), by reverse mode in one pass.

    Raises ``ShapeError`` where w does not fit f(x).
    """
    value, transpose = torch.func.vjp(function, x)[:2]
    (cotangent,) = transpose(like("w", w, value).contiguous())
    return value, cotangent


@outside_inference
def jacobian(
    function: Map, x: Tensor, *, chunk: int | None = None, mode: Literal["forward", "reverse"] = "forward"
) -> Tensor:
    """The Jacobians of all rows, (B, prod(F), prod(E)), by one pass a column in forward mode, or a row in reverse.

    All of them are batched; ``chunk`` bounds how many are computed at once.
    """
    if mode == "reverse":
        return _jacobian_by_rows(function, x, chunk)
    forward_rules()
    event = tuple(x.shape[1:])
    basis = torch.eye(math.prod(event), dtype=x.dtype, device=x.device).reshape(-1, 1, *event)

    def column(v: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(function, (x,), (v.expand_as(x),))[1]
        return tangent.flatten(1)

    columns: Tensor = torch.func.vmap(column, out_dims=-1, chunk_size=chunk)(basis)
    return columns


def _jacobian_by_rows(function: Map, x: Tensor, chunk: int | None) -> Tensor:
    value, transpose = torch.func.vjp(function, x)[:2]
    event = tuple(value.shape[1:])
    basis = torch.eye(math.prod(event), dtype=value.dtype, device=value.device).reshape(-1, 1, *event)

    def row(w: Tensor) -> Tensor:
        cotangent: Tensor = transpose(w.expand_as(value))[0]
        return cotangent.flatten(1)

    rows: Tensor = torch.func.vmap(row, out_dims=1, chunk_size=chunk)(basis)
    return rows
