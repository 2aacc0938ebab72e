"""Settings of the flows. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from scorefold.config import Config

Variance = Annotated[float, Field(gt=0)]
Row = Annotated[tuple[float, ...], Field(min_length=1)]
Matrix = Annotated[tuple[Row, ...], Field(min_length=1)]
Plane = Annotated[
    tuple[Variance, Variance], Field(description="Variances of the two latent coordinates: across, and along the curve")
]


def check_square(name: str, matrix: tuple[tuple[float, ...], ...] | None) -> None:
    """Raises ``ValueError`` for rows that make no square matrix."""
    if matrix is not None and any(len(row) != len(matrix) for row in matrix):
        raise ValueError(f"{name} has {len(matrix)} rows of lengths {[len(row) for row in matrix]}; expected a square")


class BananaConfig(Config):
    """The single banana of the paper: x = (z_1 + curvature z_2^2, z_2)."""

    curvature: float = Field(1 / 9, description="Coefficient of the parabola that the distribution lies along")
    variances: Plane = (0.25, 4.0)


class SqueezedBananaConfig(BananaConfig):
    """The squeezed banana of the paper: a banana with a small variance across."""

    variances: Plane = (1 / 81, 4.0)


class RiverConfig(Config):
    """The river of the paper: x = (z_1 + amplitude sin(frequency z_2), z_2)."""

    amplitude: float = Field(1.0, description="Height of the sine that the distribution lies along")
    frequency: float = Field(2.0, description="Radians a unit of the second coordinate")
    variances: Plane = (1 / 25, 3.0)


class LinearConfig(Config):
    """z = W (x - mean), with W a matrix, a random rotation, or the eigenvectors of a covariance."""

    matrix: Matrix | None = Field(None, description="W by rows, any invertible matrix")
    rotation: int | None = Field(None, ge=0, lt=2**63, description="Seed of a random rotation of 'dimension'")
    covariance: Matrix | None = Field(
        None,
        description="Covariance of the data by rows: W is its eigenvectors, the variances its eigenvalues, largest "
        "first, and the flow's distribution the Gaussian with it",
    )
    dimension: int | None = Field(None, ge=1, description="Number of coordinates, for a random rotation")
    mean: Row | None = Field(None, description="The point that goes to 0; null for the origin")
    variances: tuple[Variance, ...] | None = Field(None, description="Variances of the latent coordinates; null for 1")

    @model_validator(mode="after")
    def _one_map(self) -> LinearConfig:
        given = [name for name in ("matrix", "rotation", "covariance") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'no map'} given; expected one of matrix, rotation, covariance")
        check_square("matrix", self.matrix)
        check_square("covariance", self.covariance)
        if (self.rotation is None) != (self.dimension is None):
            raise ValueError("a rotation has a seed, rotation, and a dimension: give both, or neither")
        if self.covariance is not None and self.variances is not None:
            raise ValueError("a covariance has its own variances; leave variances out")
        size = len(self.matrix or self.covariance or ()) or self.dimension
        for name, values in (("mean", self.mean), ("variances", self.variances)):
            if values is not None and len(values) != size:
                raise ValueError(f"{name} has {len(values)} numbers; expected {size}, one a coordinate")
        return self


class IdentityConfig(Config):
    """z = x."""

    event_shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="The shape of an event, such as [3] or [1, 8, 8]"
    )
    variances: Variance | tuple[Variance, ...] = Field(
        1.0, description="Variances of the coordinates, flattened; one number for all of them"
    )


class MixtureConfig(Config):
    """The base sum_k weights_k N(offsets_k, diag(variances)) for the map of another flow."""

    offsets: Matrix = Field(description="Means of the parts by rows, in latent coordinates, flattened")
    variances: tuple[Variance, ...] = Field(min_length=1, description="Variances that all parts share, flattened")
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="Shares of the parts, up to a common factor; null for equal ones"
    )

    @model_validator(mode="after")
    def _fits(self) -> MixtureConfig:
        lengths = [len(row) for row in self.offsets]
        if set(lengths) != {len(self.variances)}:
            raise ValueError(f"offsets have lengths {lengths}; expected {len(self.variances)}, one for each variance")
        if self.weights is not None and len(self.weights) != len(self.offsets):
            raise ValueError(f"weights has {len(self.weights)} numbers; expected {len(self.offsets)}, one a part")
        return self
