"""The options of the verb ``audit``. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_toolkit.config.common import DrawingOptions

SpaceName = Literal["columns", "pixels", "spectrum", "random-conv", "inception"]


class AuditOptions(DrawingOptions, Config):
    """Numbers of points, features and the level of an audit."""

    n: int = Field(1000, ge=2, description="Samples to draw; the most that are taken of samples that are given")
    held_out: int = Field(5000, ge=2, description="The most held-out points, chosen at random")
    batch_size: int = Field(256, ge=1, description="Events drawn, or passed through a network, at once")
    spaces: Annotated[tuple[SpaceName, ...], Field(min_length=1)] | None = Field(
        None,
        description="What distances are between: the numbers of vectors (columns), the pixels of images, their "
        "spectrum, features of a fixed random network (random-conv), or Inception-v3's. Mirrored and moved images have "
        "equal spectra. null is the first three for images, columns for all else. Quality is measured in the last one",
    )
    inception: str | None = Field(
        None,
        min_length=1,
        description="The file of torchvision's Inception-v3, inception_v3_google-0cc3c7bd.pth; nothing is fetched",
    )
    scale: Literal["columns", "none"] = Field(
        "columns",
        description="What the numbers of vectors are divided by: each column by its standard deviation over the "
        "training points, or nothing. Where nine of ten values are equal, it is by the root mean square of the other "
        "values' differences from these",
    )
    level: float = Field(
        0.05, gt=0, lt=0.5, description="Chance of any false alarm among all tests together (Holm's correction)"
    )
    listed: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Expected share of false ones among the copies that are named (Benjamini-Hochberg)",
    )
    permutations: int = Field(399, ge=99, description="Permutations behind the tests of quality")
    quality_points: int = Field(
        500,
        ge=20,
        description="The most points of each set in precision, recall, density, coverage, and the kernel distance",
    )
    membership_points: int = Field(500, ge=20, description="The most points of each set whose losses are compared")
    loss_draws: int = Field(8, ge=1, description="Noises for each point behind its loss (score models)")
    noise: float | None = Field(
        None,
        gt=0,
        description="Noise of these losses, in the units of the model; null is what held-out points are from training "
        "points over the root of the dimension, half the data's standard deviation at most",
    )
    dimension_points: int = Field(
        100, ge=0, description="The most points of each set whose local dimension is measured (score models)"
    )
    dimension_noise: float | None = Field(
        None,
        gt=0,
        description="Noise of the local dimension, in the units of the model; null is a tenth of the losses' noise",
    )
    likelihood: int = Field(
        0,
        ge=0,
        description="Points of each set whose likelihoods under a score model are compared, by its ODE, which is slow; "
        "flows have theirs in any case. For points that are asked about, 100 unless another number is set",
    )

    @model_validator(mode="after")
    def _weights(self) -> AuditOptions:
        if ("inception" in (self.spaces or ())) != (self.inception is not None):
            raise ValueError("inception names the file of the space 'inception': set both, or neither")
        return self
