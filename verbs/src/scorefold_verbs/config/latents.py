"""The options of the verbs of latent codes, as a run file writes them under ``options``. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from scorefold.config import Config
from scorefold_verbs.config.verbs import EncodeOptions, FeatureOptions, LpipsOptions, Row

_RESERVED = ("z", "noise", "generator")


class DecodingOptions(Config):
    """Settings of decoding."""

    batch_size: int = Field(256, ge=1, description="Events encoded or decoded at once")
    decoding: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the component's 'decode' by the names that it knows, such as steps or guidance",
    )

    @field_validator("decoding")
    @classmethod
    def _further(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _RESERVED:
                raise ValueError(f"decoding holds {name!r}, which the verb sets by itself; leave it out")
        return value


class ReconstructOptions(EncodeOptions, DecodingOptions, FeatureOptions):
    """Points to reconstruct, their codes, and the measures of the reconstructions."""

    batch_size: int = Field(256, ge=1, description="Points encoded and decoded at once")
    codes: Literal["encoded", "drawn"] = Field(
        "encoded", description="Decode the mean of a point's code (encoded), or one draw from its distribution (drawn)"
    )
    draws: int = Field(1, ge=1, description="How often each point is decoded; the mean of the draws is measured too")
    lpips: LpipsOptions | None = Field(None, description="The two files of LPIPS; null leaves LPIPS out")
    shown: int = Field(8, ge=1, description="Points in the figure")


class EncodeNoiseOptions(EncodeOptions, DecodingOptions):
    """Points of a score or a flow to encode, with settings."""

    batch_size: int = Field(256, ge=1, description="Points encoded at once")


class LatentsOptions(EncodeOptions):
    """Points whose codes are diagnosed."""


class GenerateOptions(DecodingOptions, FeatureOptions):
    """Number of codes to sample, and their distribution."""

    n: int = Field(64, ge=1, description="Codes to draw")
    codes: Literal["standard", "gaussian", "mixture"] = Field(
        "standard",
        description="Distribution of codes. standard is the training's own. gaussian is a normal distribution with "
        "full covariance, and mixture a mixture of such, fitted to the codes of the training split",
    )
    components: int = Field(8, ge=1, description="Normal distributions in the mixture")
    fitted: int | None = Field(
        None, ge=2, description="Largest number of training points that a distribution is fitted to; null for all"
    )


class PathOptions(DecodingOptions):
    """Noise of a decoder along a row of events."""

    noise: Literal["own", "shared", "drawn"] | None = Field(
        None,
        description="The noise of each event: that with which its point comes back (own: components that encode noise "
        "alone), one draw for a whole row (shared), or a fresh one (drawn); null is own where that can be, else shared",
    )


class InterpolateCodesOptions(PathOptions):
    """Paths between the codes of pairs of data points."""

    pairs: int = Field(8, ge=1, description="Pairs of points, drawn from the data without replacement")
    times: int = Field(9, ge=2, description="Events on each path, its ends included")
    path: Literal["spherical", "linear"] = Field(
        "spherical",
        description="Between codes at an angle on the great circle, for codes around N(0, I); or on the straight line",
    )


class TraverseOptions(PathOptions):
    """Codes moved along axes of the latent space, one at a time."""

    rows: Literal["units", "points"] = Field(
        "units",
        description="A row for each of the most informative axes, from one point (units); or a row for each of some "
        "points, along one axis (points)",
    )
    axes: Literal["units", "principal"] = Field(
        "units",
        description="The code's own units, those with the largest KL divergence from the prior first; or the principal "
        "directions of the codes of data",
    )
    count: int = Field(8, ge=1, description="Rows: axes, or points, the first of the split")
    point: Row | None = Field(
        None,
        description="The row of the data, from 0 or by its name, whose point is moved (rows: units); null for the "
        "first of the split",
    )
    axis: int = Field(0, ge=0, description="The rank of the axis, 0 the most informative (rows: points)")
    times: int = Field(9, ge=2, description="Events in each row")
    width: float = Field(
        3.0, gt=0, description="How far rows go to either side of the mean code, in deviations of the codes of data"
    )
    limit: int | None = Field(
        None, ge=2, description="Largest number of training points whose codes are measured; null for all"
    )


class EditOptions(PathOptions):
    """An attribute, and how strongly points are moved along it."""

    label: int = Field(ge=0, description="The class of the data's labels (or of their condition) that is the attribute")
    strengths: Annotated[tuple[float, ...], Field(min_length=1)] = Field(
        (-0.6, -0.3, 0.0, 0.3, 0.6),
        description="How far codes are moved, in units of the root of the number of units, towards the class where "
        "above 0",
    )
    points: int = Field(
        8,
        ge=1,
        description="Number of held-out points to edit: the first of the split, half of them of the "
        "class if there are enough",
    )
    penalty: float = Field(
        1.0, gt=0, description="Half of it times the squared weights is added to the probe's summed loss"
    )
    limit: int | None = Field(
        None, ge=2, description="Largest number of points that the probe learns from, and is tried on; null for all"
    )

    @model_validator(mode="after")
    def _apart(self) -> EditOptions:
        if len(set(self.strengths)) < len(self.strengths):
            raise ValueError(f"strengths are {list(self.strengths)}; expected each once")
        return self
