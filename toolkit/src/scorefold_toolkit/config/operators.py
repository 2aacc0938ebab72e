"""Configs of operators on images and vectors. No torch here; ``scorefold_toolkit.operators`` builds them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from scorefold.config import Config


class MaskConfig(Config):
    """Sets a region of every image, or a time span of every signal, to 0: y = m x."""

    name: Literal["mask"] = "mask"
    region: Literal["centre", "right", "square", "pixels"] = Field(
        "centre",
        description="A centred square, the right part, a square somewhere, or single pixels; the last two by seed. Of "
        "signals a gap in the middle, the end, a gap somewhere, or single times. All channels are hidden there",
    )
    fraction: float = Field(0.25, gt=0, lt=1, description="Share of the pixels that is hidden")
    seed: int = Field(0, ge=0, description="Where the square or the pixels lie")
    each: bool = Field(
        False, description="A new random square or new pixels for each point, from the seed and the point's index"
    )

    @model_validator(mode="after")
    def _random(self) -> MaskConfig:
        if self.each and self.region not in ("square", "pixels"):
            raise ValueError(
                f"each is true, and a mask of region {self.region} is the same for every point; take square"
            )
        return self


class BoxDownsampleConfig(Config):
    """The mean of every factor x factor block of pixels."""

    name: Literal["box-downsample"] = "box-downsample"
    factor: int = Field(2, ge=2, description="How many times smaller height and width become")


class BicubicDownsampleConfig(Config):
    """Bicubic downsampling with antialiasing (Keys 1981, a = -1/2)."""

    name: Literal["bicubic-downsample"] = "bicubic-downsample"
    factor: int = Field(2, ge=2, description="How many times smaller height and width become")


class UpsampleConfig(Config):
    """Images brought to a larger size, such as those that another operator made smaller (in a list of operators)."""

    name: Literal["upsample"] = "upsample"
    factor: int = Field(2, ge=2, description="How many times larger height and width become")
    kernel: Literal["nearest", "bicubic"] = Field(
        "nearest", description="Every pixel repeated, or bicubic interpolation (Keys 1981, a = -1/2)"
    )


class GaussianBlurConfig(Config):
    """Convolution with a Gaussian, the image reflected at its borders."""

    name: Literal["gaussian-blur"] = "gaussian-blur"
    sigma: float = Field(1.0, gt=0, description="Standard deviation of the Gaussian, in pixels")


class GreyConfig(Config):
    """One channel as a weighted mean of the channels."""

    name: Literal["grey"] = "grey"
    weights: Literal["mean", "luma"] = Field("mean", description="Equal weights, or Rec. 601 luma (three channels)")


class HaarConfig(Config):
    """The orthonormal 2-D Haar transform; coefficients in the layout of an image, coarse ones in the first
    corner."""

    name: Literal["haar"] = "haar"
    levels: int = Field(1, ge=1, description="How often the coarse band is transformed again")


class MatrixConfig(Config):
    """A matrix times the numbers of an event, y = A x."""

    name: Literal["matrix"] = "matrix"
    rows: tuple[tuple[float, ...], ...] = Field(
        min_length=1,
        description="The rows of A, each with one number for each number of an event: [[0, 1, 0]] shows the second of "
        "three columns",
    )

    @model_validator(mode="after")
    def _rectangular(self) -> MatrixConfig:
        sizes = {len(row) for row in self.rows}
        if len(sizes) > 1:
            raise ValueError(f"rows have {min(sizes)} to {max(sizes)} numbers; expected rows of equal lengths")
        return self


class RadonConfig(Config):
    """Line integrals along parallel rays, as a tomograph measures them."""

    name: Literal["radon"] = "radon"
    angles: Annotated[int, Field(ge=1)] | Annotated[tuple[float, ...], Field(min_length=1)] = Field(
        60, description="How many angles, evenly over half a turn; or the angles themselves, in degrees"
    )
    bins: int | None = Field(
        None,
        ge=1,
        description="Bins of the detector, a pixel wide each; null for as many as the image's diagonal needs",
    )


class EdgesConfig(Config):
    """Canny's edge map of the blurred grey image; not linear, so nothing that needs an adjoint takes it."""

    name: Literal["edges"] = "edges"
    sigma: float = Field(0.5, gt=0, description="Standard deviation of the blur, in pixels")
    low_threshold: float = Field(
        10.0, ge=0, description="Least gradient of an edge that a stronger one leads to, of 255"
    )
    high_threshold: float = Field(100.0, ge=0, description="Least gradient that starts an edge, of 255")

    @model_validator(mode="after")
    def _ordered(self) -> EdgesConfig:
        if self.high_threshold < self.low_threshold:
            raise ValueError(
                f"high_threshold is {self.high_threshold:g}; expected at least low_threshold, {self.low_threshold:g}"
            )
        return self


class DeepinvConfig(Config):
    """A linear physics of deepinv, without its noise."""

    name: Literal["deepinv"] = "deepinv"
    physics: str = Field(description="The class in deepinv.physics, such as Inpainting, Blur or Tomography")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Its options by name; events give img_size, channels and img_width where these are left out",
    )
    seed: int = Field(0, ge=0, description="Seed of its random numbers, such as a random mask")


class ComposeConfig(Config):
    """Operators one after the other."""

    name: Literal["compose"] = "compose"
    operators: tuple[OperatorConfig, ...] = Field(min_length=1, description="The operators, the first applied first")


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, int | float) for one in value)


def _as_operator(value: Any) -> Any:
    """A bare name is an operator with its defaults; rows of numbers are a matrix, and another list is a composition."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, list | tuple) and value and all(map(_is_row, value)):
        return {"name": "matrix", "rows": value}
    if isinstance(value, list | tuple):
        return {"name": "compose", "operators": value}
    return value


_Operator = Annotated[
    MaskConfig
    | BoxDownsampleConfig
    | BicubicDownsampleConfig
    | UpsampleConfig
    | GaussianBlurConfig
    | GreyConfig
    | HaarConfig
    | MatrixConfig
    | RadonConfig
    | EdgesConfig
    | DeepinvConfig
    | ComposeConfig,
    Field(discriminator="name"),
]
# compose, deepinv and matrix are not among the bare names: they need more than a name.
_OperatorName = Literal[
    "mask", "box-downsample", "bicubic-downsample", "upsample", "gaussian-blur", "grey", "haar", "radon", "edges"
]
OperatorConfig = Annotated[
    _Operator,
    BeforeValidator(
        _as_operator,
        json_schema_input_type=_Operator | _OperatorName | list[_Operator | _OperatorName | list[Any]],
    ),
]
"""An operator in a run file: ``{name: box-downsample, factor: 4}``, a bare name, the rows of a matrix, or a list
applied in order."""

ComposeConfig.model_rebuild()
