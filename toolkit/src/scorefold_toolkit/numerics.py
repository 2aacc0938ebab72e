"""Derivatives of batched maps, spectra and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from scorefold.diffusion.divergence import Map, forward_rules, like, outside_inference
from scorefold.errors import ConfigError, DataError, ShapeError


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
    if (x.requires_grad or not torch.is_grad_enabled()) and outside_transforms(x):
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


def outside_transforms(x: Tensor) -> bool:
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


Statistic = Callable[[Tensor], Tensor]

AGGREGATES: dict[str, Statistic] = {
    "mean": lambda values: values.mean(-1),
    "median": lambda values: values.quantile(0.5, dim=-1),
    "mode": lambda values: values.round().mode(-1).values,
    "max": lambda values: values.amax(-1),
}
"""Functions (..., N) -> (...) that summarise numbers at points, by name. ``mode`` first rounds to whole numbers."""

_RESAMPLED_VALUES_AT_ONCE = 4_000_000


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1)


def bootstrap_interval(
    values: Tensor,
    statistic: Statistic = _mean,
    level: float = 0.95,
    generator: torch.Generator | None = None,
    *,
    resamples: int = 1000,
) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high) of a statistic of values (N,) (Efron 1979).

    ``statistic`` reduces the last dimension, (R, N) -> (R,). ``level`` in (0, 1) is the mass between the two ends.
    Raises ``DataError`` for no values or values that are not finite, ``ConfigError`` for a level or a number of
    resamples out of range.
    """
    if not 0 < level < 1:
        raise ConfigError(f"a confidence level of {level} was given; it must lie between 0 and 1", hint="such as 0.95")
    if resamples < 1:
        raise ConfigError(f"{resamples} resamples were asked for; at least 1 is needed")
    if values.dim() != 1 or len(values) == 0:
        raise DataError(f"values have shape {tuple(values.shape)}; expected (N,) with N at least 1")
    values = values.detach().double()
    if not bool(values.isfinite().all()):
        raise DataError(f"{int((~values.isfinite()).sum())} of {len(values)} values are not finite")
    device = values.device if generator is None else generator.device
    at_once = max(1, _RESAMPLED_VALUES_AT_ONCE // len(values))
    draws = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        index = torch.randint(len(values), (count, len(values)), generator=generator, device=device)
        draws.append(statistic(values[index.to(values.device)]))
    tail = (1 - level) / 2
    statistics = torch.cat(draws).double()
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64, device=statistics.device)
    low, high = statistics.quantile(ends).tolist()
    return low, high


def gram_spectrum(matrix: Tensor) -> Tensor:
    """The singular values of matrices (..., K, D), descending: (..., D) in the dtype of the input.

    For K >= D they are the roots of the eigenvalues of the D x D Gram matrix, formed and solved in float64, which
    costs a fraction of a singular value decomposition. Squaring loses half the digits: values below about 1e-8 of
    the largest are noise, which in float32 would already be true below 3e-4. For K < D the decomposition itself is
    the cheaper one; the D - K missing values are 0. Raises ``ShapeError`` for fewer than two dimensions.
    """
    if matrix.dim() < 2:
        raise ShapeError(f"a spectrum of a tensor of shape {tuple(matrix.shape)} was asked for; expected (..., K, D)")
    rows, columns = matrix.shape[-2:]
    wide = matrix.double()
    if rows < columns:
        values = torch.linalg.svdvals(wide)
        values = torch.cat([values, values.new_zeros(*values.shape[:-1], columns - rows)], -1)
        return values.to(matrix.dtype)
    squares: Tensor = torch.linalg.eigvalsh(wide.mT @ wide)
    return squares.clamp_min(0).sqrt().flip(-1).to(matrix.dtype)


def symmetric_function(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """f(A) = Q f(diag(a)) Q^T of symmetric matrices A (..., D, D), with ``function`` acting on eigenvalues (..., D).

    Only the lower triangle is read. Raises ``ShapeError`` where the matrices are not square.
    """
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(f"matrices of shape {tuple(matrix.shape)} are not square; expected (..., D, D)")
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = (vectors * function(values)[..., None, :]) @ vectors.mT
    return result


def symmetric_sqrt(matrix: Tensor) -> Tensor:
    """The symmetric root of positive semi-definite matrices (..., D, D); eigenvalues below 0 by rounding count as
    0."""
    return symmetric_function(matrix, lambda values: values.clamp_min(0).sqrt())
