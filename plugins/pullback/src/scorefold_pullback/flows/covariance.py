"""Covariances: their principal directions, and those that are given by rows."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_pullback.config.flows import Matrix


def principal_directions(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues (D,), largest first, of a covariance (D, D), and their eigenvectors as columns (D, D).

    A vector's sign is arbitrary, and libraries differ: its largest entry is positive.
    """
    values, vectors = torch.linalg.eigh(covariance)
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return values.flip(0), vectors.flip(1)


def covariance_of(rows: Matrix, whose: str) -> Tensor:
    """A covariance (D, D) in float64. Raises ``ConfigError`` unless it is symmetric and positive definite."""
    covariance = torch.tensor(rows, dtype=torch.float64)
    failed = torch.linalg.cholesky_ex(covariance).info
    if bool(failed) or not torch.allclose(covariance, covariance.mT, rtol=1e-10):
        raise ConfigError(
            f"the covariance of {whose} is singular, indefinite or not symmetric; its smallest eigenvalue is "
            f"{float(torch.linalg.eigvalsh(covariance).min()):.3g}",
            hint="a covariance is symmetric and positive definite",
        )
    return covariance
