"""Settings of the potentials. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_pullback.flows.config import Matrix, Row, Variance, check_square

AnyShape = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...] | None,
    Field(min_length=1, description="The shape of an event, such as [3]; null takes events of any shape"),
]


class QuadraticConfig(Config):
    """psi(z) = (z - location)^T A^-1 (z - location) / 2."""

    variances: tuple[Variance, ...] | None = Field(None, min_length=1, description="A as a diagonal")
    covariance: Matrix | None = Field(None, description="A by rows, symmetric and positive definite")
    location: Row | None = Field(None, description="Where psi is least; null for the origin")

    @model_validator(mode="after")
    def _one_matrix(self) -> QuadraticConfig:
        if (self.variances is None) == (self.covariance is None):
            raise ValueError("expected one of variances and covariance")
        check_square("covariance", self.covariance)
        size = len(self.variances or self.covariance or ())
        if self.location is not None and len(self.location) != size:
            raise ValueError(f"location has {len(self.location)} numbers; expected {size}, one a coordinate")
        return self


class CoshConfig(Config):
    """psi(z) = sum_i cosh z_i."""

    event_shape: AnyShape = None


class LogCoshConfig(Config):
    """psi(z) = sum_i curvature z_i^2 / 2 + weight log cosh z_i."""

    curvature: float = Field(1.0, gt=0, description="Curvature far from the origin")
    weight: float = Field(1.0, ge=0, description="Curvature that is added at the origin")
    event_shape: AnyShape = None


class LogSumExpConfig(Config):
    """psi(z) = curvature |z|^2 / 2 + log sum_k exp(directions_k . z)."""

    directions: Matrix = Field(description="Directions by rows, each as long as an event has coordinates")
    curvature: float = Field(1.0, gt=0, description="Least curvature of psi")

    @model_validator(mode="after")
    def _rectangular(self) -> LogSumExpConfig:
        if len({len(row) for row in self.directions}) != 1:
            raise ValueError(f"directions have lengths {[len(row) for row in self.directions]}; expected equal ones")
        return self
