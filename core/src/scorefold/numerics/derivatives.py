"""Derivatives of batched maps f: (B, *E) -> (B, *F) whose rows do not depend on one another.

Every result can itself be differentiated. Batch normalisation in training mode breaks the assumption on rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from scorefold.errors import ConfigError, ShapeError
from scorefold.numerics.draws import draw_signs

Map = Callable[[Tensor], Tensor]

P = ParamSpec("P")
R = TypeVar("R")

# torch scripts its forward-mode rules at the first use in a process, and warns each time that scripting is deprecated.
# Doing it here keeps that warning from users, who can't act on it, and leaves the warnings of their own code alone.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".torch.jit.script")
    torch.func.jvp(torch.neg, (torch.zeros(()),), (torch.ones(()),))


def _outside_inference(derivative: Callable[P, R]) -> Callable[P, R]:
    """A derivative that is taken without gradients where it is called in inference mode: torch before 2.12 gives
    tangents of 0 there."""

    @wraps(derivative)
    def taken(*args: P.args, **options: P.kwargs) -> R:
        if not torch.is_inference_mode_enabled():
            return derivative(*args, **options)
        with torch.inference_mode(False), torch.no_grad():
            plain: Any = [_own(each) for each in args]
            named: Any = {name: _own(each) for name, each in options.items()}
            return derivative(*plain, **named)

    return taken


def _own(given: Any) -> Any:
    """A tensor that autograd may keep, and all else as it is."""
    return given.clone() if isinstance(given, Tensor) and given.is_inference() else given


def _like(name: str, v: Tensor, x: Tensor) -> Tensor:
    """v with the shape of x, a batch of 1 broadcast; raises ``ShapeError`` where that can't be."""
    if v.shape[1:] != x.shape[1:] or v.shape[0] not in (1, x.shape[0]):
        raise ShapeError(
            f"{name} has shape {tuple(v.shape)}; expected {tuple(x.shape)}, or a batch of 1 that broadcasts to it"
        )
    return v.expand_as(x)


@_outside_inference
def pushforward(
    function: Map, x: Tensor, v: Tensor, *, mode: Literal["forward", "reverse"] = "forward"
) -> tuple[Tensor, Tensor]:
    """f(x) and the tangent J(x) v at x (B, *E) for v (B, *E) or (1, *E).

    ``forward`` takes one pass in forward mode; ``reverse`` transposes w -> J^T w, which is linear, by a second reverse
    pass. On small batches the second is several times faster: forward mode goes through Python at every operation with
    a constant. On large ones they cost about the same. Raises ``ShapeError`` where v does not fit x.
    """
    v = _like("v", v, x).contiguous()
    if mode == "forward":
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
    """Whether plain autograd may be used here: torch refuses to mark leaves inside a transform of ``torch.func``."""
    if torch.is_inference_mode_enabled() or x.is_inference():
        return False
    try:
        x.new_empty(()).requires_grad_()
    except RuntimeError:
        return False
    return True


@_outside_inference
def pullback(function: Map, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and the cotangent J(x)^T w at x (B, *E) for w (B, *F) or (1, *F), by reverse mode in one pass.

    Raises ``ShapeError`` where w does not fit f(x).
    """
    value, transpose = torch.func.vjp(function, x)[:2]
    (cotangent,) = transpose(_like("w", w, value).contiguous())
    return value, cotangent


@_outside_inference
def jacobian(
    function: Map, x: Tensor, *, chunk: int | None = None, mode: Literal["forward", "reverse"] = "forward"
) -> Tensor:
    """The Jacobians of all rows, (B, prod(F), prod(E)), by one pass a column in forward mode, or a row in reverse.

    All of them are batched; ``chunk`` bounds how many are computed at once.
    """
    if mode == "reverse":
        return _jacobian_by_rows(function, x, chunk)
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


@_outside_inference
def divergence(
    function: Map,
    x: Tensor,
    *,
    trace: Literal["exact", "hutchinson"] = "exact",
    probes: int = 1,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    mode: Literal["forward", "reverse"] = "forward",
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """f(x) (B, *E) and the trace of its Jacobian (B,), for f: (B, *E) -> (B, *E).

    ``exact`` takes D passes, ``chunk`` of them at once. ``hutchinson`` averages v^T J v over ``probes`` Rademacher
    vectors drawn from ``generator``, or over the vectors given as ``noise`` (probes, B, *E), which an ODE solver
    must hold fixed along a path (Hutchinson 1990; Grathwohl et al. 2019). Its variance is 2 (||S||_F^2 - sum_i
    S_ii^2) / probes with S the symmetric part of J. ``mode`` is forward (needs forward-mode rules of every
    operation) or reverse (works with any module). Raises ``ConfigError`` for unknown options, ``ShapeError`` where
    f changes the shape.
    """
    if trace not in ("exact", "hutchinson") or mode not in ("forward", "reverse"):
        raise ConfigError(
            f"a divergence with trace={trace!r}, mode={mode!r} was asked for; "
            "expected trace exact or hutchinson, mode forward or reverse"
        )
    if trace == "exact":
        size = math.prod(x.shape[1:])
        vectors = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])
    elif noise is not None:
        vectors = torch.stack([_like("noise", v, x) for v in noise])
    else:
        if probes < 1:
            raise ConfigError(f"{probes} probes were asked for; at least 1 is needed")
        vectors = draw_signs((probes, *x.shape), generator=generator, like=x)
    value, products = (_forward_products if mode == "forward" else _reverse_products)(function, x, vectors, chunk)
    return value, products.sum(0) if trace == "exact" else products.mean(0)


def _forward_products(function: Map, x: Tensor, vectors: Tensor, chunk: int | None) -> tuple[Tensor, Tensor]:
    def product(v: Tensor) -> tuple[Tensor, Tensor]:
        v = v.expand_as(x)
        value, tangent = torch.func.jvp(function, (x,), (v,))[:2]
        _check_same_shape(value, x)
        return value, (v * tangent).flatten(1).sum(1)

    # The value does not depend on v: out_dims=None keeps one copy of it, but not with several chunks.
    if chunk is None:
        value, products = torch.func.vmap(product, out_dims=(None, 0))(vectors)  # type: ignore[arg-type]
        return value, products
    products = torch.func.vmap(lambda v: product(v)[1], chunk_size=chunk)(vectors)
    return function(x), products


def _reverse_products(function: Map, x: Tensor, vectors: Tensor, chunk: int | None) -> tuple[Tensor, Tensor]:
    """One backward pass a vector through one graph; the graph is kept where someone may differentiate further."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = x if x.requires_grad else x.detach().requires_grad_()
        value = function(point)
        _check_same_shape(value, x)
        products = []
        for index, v in enumerate(vectors):
            v = v.expand_as(x)
            last = index + 1 == len(vectors)
            (cotangent,) = torch.autograd.grad(value, point, v, create_graph=keep, retain_graph=keep or not last)
            products.append((v * cotangent).flatten(1).sum(1))
        stacked = torch.stack(products)
    return (value, stacked) if keep else (value.detach(), stacked.detach())


def _check_same_shape(value: Tensor, x: Tensor) -> None:
    if value.shape != x.shape:
        raise ShapeError(f"a map from {tuple(x.shape)} to {tuple(value.shape)} has no divergence: the shapes differ")
