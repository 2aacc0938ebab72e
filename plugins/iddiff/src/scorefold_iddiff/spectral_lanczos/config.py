"""The config of ``estimator:spectral-lanczos``. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorefold.config import Config
from scorefold_iddiff.pointwise.config import Aggregate, Batch, Level, Shown, Sigma, Sweep


class LanczosConfig(Config):
    """Count of near-zero eigenvalues of the log-density's Hessian."""

    sigma: Sigma = None
    probes: int = Field(
        16, ge=1, description="Random vectors a point; the coordinate vectors, and no chance, where D is not larger"
    )
    steps: int = Field(12, ge=1, description="Lanczos steps a vector: the largest number of eigenvalues separated")
    cutoff: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Eigenvalues of the Hessian count as near zero above -cutoff / sigma^2",
    )
    product: Literal["forward", "differences"] = Field(
        "forward",
        description="Hessian times vector by forward-mode derivatives, or by central differences at twice the calls",
    )
    sweep: Sweep = ()
    points: int = Field(64, ge=2, description="Points at which the dimension is read, drawn at random")
    shown: Shown = 16
    aggregate: Aggregate = "mean"
    level: Level = 0.95
    batch: Batch = None
