"""Spectra of tall matrices and functions of symmetric ones, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import ShapeError


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
