"""Settings of the geometries. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from scorefold_toolkit.config.common import SolvedConfig

_WRONG_NAMES = {
    **dict.fromkeys(
        ("t", "time", "sigma"),
        "noise: 0.2 is the ratio of the noise's deviation to a coordinate's in the data, for any process",
    ),
    **dict.fromkeys(
        ("lam", "lambda"),
        "weight: 1 counts log p so that units move no geodesic; lambda is weight^2 D over the median of |score|^2",
    ),
    "beta": "exponent: 1 is beta = 1/D",
}


class DensityConfig(SolvedConfig):
    """Settings of a geometry from a score model or a flow."""

    noise: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Noise at which the score is read: the ratio of its deviation to a coordinate's in the data. "
        "0.2 for a score where nothing is given; a flow takes none",
    )
    lift: Literal["none", "noise"] = Field(
        "none",
        description="Where the score is read. none: at the points. noise: at the points with one draw of this noise "
        "added to all of them, as a network saw them in training",
    )
    condition: int | tuple[float, ...] | None = Field(
        None, description="For a conditional model: the class, or the vector, that both ends have"
    )
    guidance: float = Field(1.0, description="Must be 1: a guided score is the gradient of no density")

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        for wrong in _WRONG_NAMES.keys() & (values.keys() if isinstance(values, dict) else set()):
            if wrong not in cls.model_fields:
                raise ValueError(f"there is no setting {wrong!r}; {_WRONG_NAMES[wrong]}")
        return values

    @field_validator("guidance")
    @classmethod
    def _unguided(cls, value: float) -> float:
        if value != 1:
            raise ValueError(
                f"guidance is {value:g}; expected 1. A guided score is the gradient of no density, so the distance "
                "between two points would depend on the way between them"
            )
        return value


class ScoreGeometryConfig(DensityConfig):
    """The score metric, and metrics of the same family."""

    form: Literal["graph", "residual", "jacobian", "fisher"] = Field(
        "graph",
        description="graph: I + lambda s s^T, which charges for changes of log p. residual: I + w J^T J of the "
        "denoising residual, which charges for moves across the data's manifold. jacobian: the same of the score. "
        "fisher: I + w J of the denoised point, which charges for moves along the manifold",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=1e4,
        description="How much the density counts next to Euclidean length. lambda is weight^2 D over the median of "
        "|s|^2 on held-out points under this noise; w is weight^2",
    )


class FermatConfig(DensityConfig):
    """Fermat's metric p^(-2 beta) I."""

    exponent: float = Field(1.0, gt=0, le=1e4, description="beta = exponent / D")


class DensityMetricConfig(DensityConfig):
    """Conformal metrics of an energy or of an inverse density."""

    form: Literal["energy", "inverse"] = Field(
        "energy",
        description="energy: (alpha E + 1) I with E = log p_max - log p. inverse: I / (p + eps), p over its mean",
    )
    alpha: float = Field(1.0, gt=0, le=1e6, description="Weight of the energy, a nat, of the form energy")
    eps: float = Field(
        0.01, gt=0, lt=1, description="The quantile of held-out log p that is eps of the form inverse, as a share"
    )


class LandConfig(SolvedConfig):
    """LAND: a diagonal metric by local variances of the training points."""

    gamma: float | None = Field(
        None,
        gt=0,
        description="Width of the weights, in the data's units; by default the median distance to the tenth neighbour",
    )
    eps: float = Field(1e-3, gt=0, description="What is added to each variance, in squared units of the data")
    power: float = Field(1.0, gt=0, le=10, description="Exponent of the metric")
    limit: int = Field(5000, ge=2, description="Most training points")


class RbfConfig(SolvedConfig):
    """RBF: a conformal metric by radial functions around centres of the training points."""

    centres: int = Field(100, ge=1, description="Radial functions; at most one a training point")
    kappa: float = Field(1.0, gt=0, description="Width of a function over the deviation of its cluster")
    eps: float = Field(1e-3, gt=0, description="What is added to the sum of the functions")
    power: float = Field(1.0, gt=0, le=10, description="Exponent of the metric")
    limit: int = Field(5000, ge=2, description="Most training points")


class MetricConfig(SolvedConfig):
    """A metric of the user's own."""

    target: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function from points (B, D) in float64 to G (B, D, D), or to log p (B,)",
    )
    returns: Literal["matrix", "log_prob"] = Field(
        "matrix", description="What the function returns: G, or a log-density, of which the score metric is taken"
    )
    dimension: int = Field(ge=1, description="D, the coordinates of a point")
    weight: float = Field(1.0, gt=0, description="For log_prob: G = I + weight s s^T, in squared units of the points")
