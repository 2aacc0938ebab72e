"""The divergence of a batched map f: (B, *E) -> (B, *E) whose rows do not depend on one another.

It can itself be differentiated. Batch normalisation in training mode breaks the assumption on rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from scorefold.errors import ConfigError, ShapeError
from scorefold.random import draw_signs

Map = Callable[[Tensor], Tensor]
P = ParamSpec("P")
R = TypeVar("R")


@cache
def forward_rules() -> None:
    """Load torch's rules of forward mode, 0.2 CPU seconds. torch warns then that scripting them is deprecated."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.func.jvp(torch.neg, (torch.zeros(()),), (torch.ones(()),))


def outside_inference(derivative: Callable[P, R]) -> Callable[P, R]:
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


def like(name: str, v: Tensor, x: Tensor) -> Tensor:
    """v with the shape of x, a batch of 1 broadcast; raises ``ShapeError`` where that can't be."""
    if v.shape[1:] != x.shape[1:] or v.shape[0] not in (1, x.shape[0]):
        raise ShapeError(
            f"{name} has shape {tuple(v.shape)}; expected {tuple(x.shape)}, or a batch of 1 that broadcasts to it"
        )
    return v.expand_as(x)


@outside_inference
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
    vectors drawn from ``generator``, or over the vectors given as ``noise`` (probes, B, *E), which an ODE solver must
    hold fixed along a path (Hutchinson 1990; Grathwohl et al. 2019). Its variance is 2 (||S||_F^2 - sum_i S_ii^2) /
    probes with S the symmetric part of J. ``mode`` is forward (needs forward-mode rules of every operation) or reverse
    (works with any module). Raises ``ConfigError`` for unknown options, ``ShapeError`` where f changes the shape.
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
        vectors = torch.stack([like("noise", v, x) for v in noise])
    else:
        if probes < 1:
            raise ConfigError(f"{probes} probes were asked for; at least 1 is needed")
        vectors = draw_signs((probes, *x.shape), generator=generator, like=x)
    if mode == "forward":
        forward_rules()
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
