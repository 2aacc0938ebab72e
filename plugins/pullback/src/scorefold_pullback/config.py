"""Settings of geometries, potentials, estimators and data. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_pullback.flows.config import (
    BananaConfig,
    Matrix,
    RiverConfig,
    Row,
    SqueezedBananaConfig,
    Variance,
    check_square,
)
from scorefold_toolkit.config.common import FRACTIONS, Ambient, Fractions, Isometry, Noise, Points, Seed, Tangents


class RiemannianAutoencoderConfig(Config):
    """Number of latent coordinates to keep: by the share of the variance that may be lost, or by number."""

    unexplained: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest share of the base's variance that the dropped coordinates may hold; null for 0.1, as in "
        "the paper, unless a dimension is given",
    )
    dimension: int | None = Field(None, ge=1, description="Number of coordinates to keep; null to go by unexplained")
    batch_size: int = Field(256, ge=1, description="Points encoded at once")
    curve_points: int = Field(
        500, ge=2, description="Points, the first of the data, that the reconstruction curves are measured on"
    )
    bound_points: int = Field(
        128, ge=1, description="Points, the first of the data, that the constants of the error bound are taken over"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> RiemannianAutoencoderConfig:
        if self.unexplained is not None and self.dimension is not None:
            raise ValueError(
                f"unexplained is {self.unexplained:g} and dimension is {self.dimension}; expected one of them"
            )
        return self

    @property
    def share(self) -> float:
        """The share that ``unexplained`` comes to."""
        return 0.1 if self.unexplained is None else self.unexplained


Metric = Literal["score", "whitened", "latent"]


class PullbackConfig(Config):
    """Score-based pullback geometry."""

    metric: Metric = Field(
        "score",
        description="What Euclidean space is pulled back through: grad psi of the flow (score; A^-1 phi), the flow "
        "over the deviations of a quadratic psi (whitened; A^-1/2 phi), or the flow alone (latent; phi). With a "
        "quadratic psi geodesics, transport and means are the same in all three, distances are not",
    )


class IsoPullbackConfig(PullbackConfig):
    """Iso-Riemannian geometry: the curves of a pullback geometry, at constant Euclidean speed."""

    panels: int = Field(8, ge=1, description="Pieces of a curve on which its length is integrated")
    nodes: int = Field(8, ge=2, le=64, description="Gauss-Legendre nodes in each piece")
    iterations: int = Field(100, ge=1, description="Most steps towards a barycentre")


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


class TangentPCAConfig(Config):
    """Dimension by principal geodesics."""

    unexplained: float = Field(
        0.05, ge=0, le=1, description="Largest share of the Fréchet variance that the dropped directions may hold"
    )
    resamples: int = Field(100, ge=0, description="Bootstrap resamples of the points for the interval; 0 for none")
    level: float = Field(0.95, gt=0, lt=1, description="Mass of the interval")


Sampler = Annotated[
    Literal["exact", "paper"],
    Field(
        description="Draw from the distribution exactly, or as the published code does: by Langevin steps with a "
        "mistake in their acceptance ratio, so that the points lie too far off the curve"
    ),
]
Steps = Annotated[int, Field(ge=1, description="Langevin steps of the sampler 'paper', each from the origin on")]


class _Drawn(Config):
    """Number of points of a flow's distribution, and their sampling."""

    points: Points = 5000
    sampler: Sampler = "exact"
    chain_steps: Steps = 2000
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class BananaDataConfig(_Drawn, BananaConfig):
    """Points of the single banana; 2,500 in the paper."""

    points: Points = 2500
    chain_steps: Steps = 1000


class SqueezedBananaDataConfig(_Drawn, SqueezedBananaConfig):
    """Points of the squeezed banana; 5,000 in the paper."""


class RiverDataConfig(_Drawn, RiverConfig):
    """Points of the river; 5,000 in the paper."""


class SinusoidConfig(Config):
    """x = (sin(beta_1 . z), ..., sin(beta_(N-K) . z), z) with z ~ N(0, 3 I_K), the sines with a little noise."""

    dimension: int = Field(1, ge=1, description="K, the dimension")
    ambient: Ambient = 3
    variance: float = Field(3.0, gt=0, description="Variance of each coordinate of z")
    noise_std: float = Field(1e-3, ge=0, description="Standard deviation of the noise on each sine; none on z")
    points: Points = 5000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class HemisphereConfig(Config):
    """A part of the unit K-sphere: the first angle Beta(5, 5) on [0, pi/2], the others uniform on [0, pi]."""

    dimension: int = Field(2, ge=1, description="K, the dimension of the sphere")
    ambient: Ambient = None
    isometry: Isometry = 0
    noise_std: Noise = 0.0
    points: Points = 10_000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None
