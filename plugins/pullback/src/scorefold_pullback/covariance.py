"""Covariances that are given by rows."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_pullback.flow_config import Matrix


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
