"""The options of verbs, as a run file has them under ``options``, and the settings of metrics. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from scorefold.config import Config
from scorefold_toolkit.config.common import DrawingOptions, FilePath

_ByLabel = Annotated[
    Literal["label"] | None,
    Field(
        description="'label' also answers for the points of each label by themselves; labels with fewer than 10 points "
        "are named and left out"
    ),
]

Row = Annotated[int, Field(ge=0, strict=True)] | str


class SampleOptions(DrawingOptions):
    """Number of samples, with settings of sampling."""

    n: int = Field(64, ge=1, description="Draws; for each condition where conditions are given")
    conditions: int = Field(8, ge=1, description="How many conditions of the condition data to draw for")


class LpipsOptions(Config):
    """The two weight files of LPIPS: of AlexNet or of VGG-16."""

    alexnet: FilePath | None = Field(
        None, description="torchvision's state dict of AlexNet, alexnet-owt-7be5be79.pth; nothing is fetched"
    )
    vgg16: FilePath | None = Field(
        None, description="In its place, torchvision's state dict of VGG-16, vgg16-397923af.pth"
    )
    heads: FilePath = Field(
        description="The linear heads of the lpips package, weights/v0.1/alex.pth; with VGG-16 weights/v0.1/vgg.pth"
    )

    @model_validator(mode="after")
    def _one(self) -> LpipsOptions:
        if (self.alexnet is None) == (self.vgg16 is None):
            raise ValueError("LPIPS takes the features of one network: name the file alexnet or vgg16")
        return self


class FeatureOptions(Config):
    """Features of Frechet distances."""

    features: Literal["pixels", "random-conv", "inception", "published-inception"] | None = Field(
        None,
        description="What Frechet distances are between: the coordinates themselves (pixels), the features of a fixed "
        "random network for small images (random-conv), or Inception-v3's, of torchvision (inception) or of published "
        "FIDs (published-inception); null is random-conv for images, else pixels",
    )
    inception: FilePath | None = Field(
        None,
        description="The file of the weights: torchvision's inception_v3_google-0cc3c7bd.pth (inception), or "
        "pytorch-fid's pt_inception-2015-12-05-6726825d.pth (published-inception); nothing is fetched",
    )

    @model_validator(mode="after")
    def _weights(self) -> FeatureOptions:
        if (self.features in ("inception", "published-inception")) != (self.inception is not None):
            raise ValueError(
                "inception names the file of the features 'inception' or 'published-inception': set both, or neither"
            )
        return self


class AssessOptions(DrawingOptions, FeatureOptions):
    """Number of samples to compare with the truth, and the measures."""

    n: int = Field(5, ge=1, description="Draws for each held-out point")
    conditions: int = Field(
        256, ge=2, description="Largest number of held-out points, with their conditions, the first of the split"
    )
    batch_size: int = Field(256, ge=1, description="Events drawn at once")
    rounding: Literal["levels", "8-bit", "none"] = Field(
        "levels",
        description="What is rounded before it is measured, as an image file would: draws to the levels of the data, "
        "where they have some; draws and truths to 256 values; or nothing. Draws are clipped to the data's bounds",
    )
    lpips: LpipsOptions | None = Field(None, description="The two files of LPIPS; null leaves LPIPS out")
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.9), description="Masses of the central intervals whose coverage is counted (conditional models)"
    )
    shown: int = Field(8, ge=1, description="Held-out points in the figure")
    by: _ByLabel = None


class LikelihoodOptions(Config):
    """Settings of log-likelihoods."""

    limit: int | None = Field(
        None,
        ge=1,
        description="Largest number of points to evaluate; null evaluates all with a flow, and 256 with a score, which "
        "solves an ODE for each",
    )
    batch_size: int = Field(128, ge=1, description="Points evaluated at once")
    trace: Literal["exact", "hutchinson"] = Field("hutchinson", description="Trace of the Jacobian (score models)")
    probes: int = Field(4, ge=1, description="Probe vectors of the Hutchinson trace")
    tolerance: float = Field(1e-4, gt=0, description="Relative and absolute tolerance of the ODE solver")


COST_LIMIT = "limit of the cost (bits a dimension)"
"""The metric of the cost above which a point is unlike the data."""


class OutlierOptions(LikelihoodOptions):
    """Settings of the scores of unusual points."""

    others: int = Field(
        8,
        ge=1,
        description="How many other points' conditions each point is also given, so that what its own says of it can "
        "be seen (conditional models); costs as many likelihoods",
    )
    above: float | None = Field(
        None,
        description="The cost above which a point is unlike the data, in bits a dimension; null takes it from these "
        "points. scorefold apply takes it from the run, where a stage did this with held-out points",
        json_schema_extra={"metric_of_run": COST_LIMIT},
    )


class InterpolateOptions(Config):
    """Geodesics between pairs of data points."""

    pairs: int = Field(8, ge=1, description="Pairs of points, drawn from the data without replacement")
    times: int = Field(9, ge=2, description="Points on each geodesic, its ends included")
    between: tuple[tuple[Row, Row], ...] | None = Field(
        None,
        description="These pairs of rows of the data, from 0 or by their names (the paths of images), of any split; "
        "null draws pairs from the split",
    )


class EstimateOptions(Config):
    """Points of the estimate."""

    limit: int | None = Field(None, ge=1, description="Largest number of points, the first of the split; null for all")
    by: _ByLabel = None
    trainings: int = Field(
        1,
        ge=1,
        le=50,
        description="How often the models that this stage takes from other stages are trained, each time with another "
        "seed, so that the interval covers trainings: 1, or 3 and more",
    )

    @field_validator("trainings")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value == 2:
            raise ValueError("2 trainings say nothing of their scatter; expected 1, or 3 and more")
        return value


class EncodeOptions(Config):
    """Points to encode."""

    limit: int | None = Field(None, ge=1, description="Largest number of points, the first of the split; null for all")
    batch_size: int = Field(256, ge=1, description="Points encoded at once")


class AllocateOptions(Config):
    """Budget and constraints."""

    budget: int = Field(ge=0, description="Labels to spend")
    constraints: dict[str, Any] = Field(default_factory=dict, description="Bounds, by the allocator's names")


class NeighboursConfig(Config):
    """Number of neighbours of the balls."""

    precision_neighbours: int = Field(3, ge=1, description="Of precision and recall (3 in the paper)")
    density_neighbours: int = Field(5, ge=1, description="Of density and coverage (5 in the paper)")


class TARPConfig(Config):
    """The random points of TARP."""

    references: int = Field(8, ge=1, description="Random points for each truth, each a test of its own")
    seed: int = Field(0, ge=0, description="Seed of the random points, and of ties")
    warns_below: float = Field(1e-3, gt=0, lt=1, description="The p-value below which there is a warning")


class LC2STConfig(Config):
    """The classifier of LC2ST, and how often truth and draw are exchanged."""

    exchanges: int = Field(
        100, ge=19, description="Trainings with truth and draw exchanged at random; the least p-value is 1 over 1 more"
    )
    classifier: Literal["quadratic", "mlp"] | None = Field(
        None,
        description="Logistic regression on numbers, their squares and products (quadratic), or a network (mlp); null "
        "is quadratic up to 40 numbers of event and condition together",
    )
    width: int = Field(32, ge=1, description="Units in each of the network's two hidden layers (mlp)")
    iterations: int = Field(100, ge=1, description="Passes over the pairs, at most (mlp)")
    seed: int = Field(0, ge=0, description="Seed of the classifier and of the exchanges")
    warns_below: float = Field(0.01, gt=0, lt=1, description="The p-value below which there is a warning")


class C2STConfig(Config):
    """Samples for the classifier: their number and choice."""

    draws: int = Field(
        10_000, ge=50, description="Draws of the model and of the reference for each condition (10,000 as published)"
    )
    seed: int = Field(1, ge=0, description="Seed of the classifier and of the five parts (1 as published)")


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
    draws: int = Field(
        1,
        ge=1,
        description="How often each point is decoded. The second half has the opposite noise of the first, and the "
        "mean of all is measured too",
    )
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
