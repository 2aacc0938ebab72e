"""Configs of flows whose geometry is known, and of anisotropic flows that are trained. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scorefold.config import Config, TrainingConfig
from scorefold_pullback.maps.config import CouplingMapConfig, MapConfig

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


class LinearFlowConfig(Config):
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
    def _one_map(self) -> LinearFlowConfig:
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


class AnisotropicConfig(Config):
    """An anisotropic flow: learned variances, and a map held near an isometry."""

    map: MapConfig = Field(CouplingMapConfig(), description="The layers of phi")
    start: Literal["auto", "pca", "none"] = Field(
        "auto",
        description="Start with a fixed centring and rotation onto the principal axes of the training points, with "
        "their variances as the first ones; auto does so but "
        "for maps of images, glow and regular, whose pixels must keep their places",
    )
    standardise: bool = Field(
        True,
        description="Give the layers events of mean 0 and standard deviation 1, and scale back what they return, which "
        "leaves lengths as they are; false gives them the events as they are, as the published code does",
    )
    whiten: bool = Field(
        False,
        description="Divide the coordinates that the layers act on by their standard deviations at the start, and "
        "multiply the results by them: steps of a training then move wide and narrow coordinates by equal shares",
    )
    variances: Literal["learned", "closed-form", "fixed"] = Field(
        "learned",
        description="Variances of the base. learned are trained beside the map. closed-form are the running mean "
        "squares of the latents. fixed are the variance of a standardised coordinate (1 if standardise is false)",
    )
    modes: int = Field(
        1,
        ge=1,
        description="Normal distributions that the base is made of, for data in separate groups: all have the "
        "variances, and where there are several their means and shares are trained as well. 1 is around 0",
    )
    variance_floor: float = Field(
        1e-6, gt=0, lt=1, description="The smallest variance, as a share of the variance of a coordinate of the data"
    )
    variance_speed: float = Field(
        10.0,
        gt=0,
        description="Learning rate of what is learned of the base, as a multiple of training.learning_rate",
    )
    isometry: Literal["auto", "full", "sliced", "length", "angle", "length-angle"] = Field(
        "auto",
        description="Penalty on what the map does to lengths and angles: the whole Jacobian, or random directions; "
        "auto is full up to 32 coordinates and sliced above",
    )
    isometry_weight: float = Field(0.2, ge=0, description="Weight of the isometry penalty; 0 for none")
    directions: int = Field(4, ge=1, description="Random directions a point, for all but full; angle needs 2")
    volume: Literal["absolute", "squared"] = Field(
        "squared", description="Penalty on log |det J|: its square, or, as in the published code, its size"
    )
    volume_weight: float = Field(1.0, ge=0, description="Weight of the volume penalty; 0 for none")
    hessian_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the second derivatives of the map in the score's Jacobian. It is for data of standard "
        "deviation 1, or as they are if standardise is false",
    )
    code_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the squared error of codes, in variances of the data. Each point keeps a random number "
        "of the widest coordinates (nested dropout). The published loss has no such part",
    )
    noise: float = Field(
        0.0, ge=0, description="Standard deviation of normal noise added to points in training, in units of the data"
    )
    start_points: int = Field(10_000, ge=2, description="Training points that the start is taken from")
    training: TrainingConfig = Field(TrainingConfig(batch_size=128), description="How the flow is trained")

    @model_validator(mode="after")
    def _fits(self) -> AnisotropicConfig:
        if self.modes > 1 and self.variances == "closed-form":
            raise ValueError("variances: closed-form needs one mode; set variances: learned, or modes: 1")
        if self.modes > 1 and self.hessian_weight:
            raise ValueError("hessian_weight is for one mode; set it to 0, or modes: 1")
        if self.modes > 1 and self.code_weight:
            raise ValueError("code_weight is for one mode, whose variances order a code; set it to 0, or modes: 1")
        if "angle" in self.isometry and self.directions < 2:
            raise ValueError(f"isometry {self.isometry} compares pairs of directions; directions is {self.directions}")
        return self


class IsometricConfig(AnisotropicConfig):
    """The baseline with the isometry penalty and a standard normal base."""

    variances: Literal["learned", "closed-form", "fixed"] = Field("fixed", description="Variances of the base")


class StandardNormalConfig(AnisotropicConfig):
    """The baseline with a standard normal base, trained by its likelihood alone."""

    variances: Literal["learned", "closed-form", "fixed"] = Field("fixed", description="Variances of the base")
    isometry_weight: float = Field(0.0, ge=0, description="Weight of the isometry penalty; 0 for none")
    volume_weight: float = Field(0.0, ge=0, description="Weight of the volume penalty; 0 for none")
