"""Configs of linear operators on images and vectors. No torch here; ``scorefold.operators`` builds them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from scorefold.config import Config


class MaskConfig(Config):
    """Sets a region of every image to 0: y = m x."""

    name: Literal["mask"] = "mask"
    region: Literal["centre", "right", "square", "pixels"] = Field(
        "centre",
        description="A centred square, the right part, a square somewhere, or single pixels; the last two by seed",
    )
    fraction: float = Field(0.25, gt=0, lt=1, description="Share of the pixels that is hidden")
    seed: int = Field(0, ge=0, description="Where the square or the pixels lie")


class BoxDownsampleConfig(Config):
    """The mean of every factor x factor block of pixels."""

    name: Literal["box-downsample"] = "box-downsample"
    factor: int = Field(2, ge=2, description="How many times smaller height and width become")


class BicubicDownsampleConfig(Config):
    """Bicubic downsampling with antialiasing (Keys 1981, a = -1/2)."""

    name: Literal["bicubic-downsample"] = "bicubic-downsample"
    factor: int = Field(2, ge=2, description="How many times smaller height and width become")


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


class ComposeConfig(Config):
    """Operators one after the other."""

    name: Literal["compose"] = "compose"
    operators: tuple[OperatorConfig, ...] = Field(min_length=1, description="The operators, the first applied first")


def _as_operator(value: Any) -> Any:
    """A bare name is an operator with its defaults; a list is a composition."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, list | tuple):
        return {"name": "compose", "operators": value}
    return value


_Operator = Annotated[
    MaskConfig
    | BoxDownsampleConfig
    | BicubicDownsampleConfig
    | GaussianBlurConfig
    | GreyConfig
    | HaarConfig
    | ComposeConfig,
    Field(discriminator="name"),
]
# compose is not among the bare names: it needs its operators.
_OperatorName = Literal["mask", "box-downsample", "bicubic-downsample", "gaussian-blur", "grey", "haar"]
OperatorConfig = Annotated[
    _Operator,
    BeforeValidator(
        _as_operator,
        json_schema_input_type=_Operator | _OperatorName | list[_Operator | _OperatorName | list[Any]],
    ),
]
"""A linear operator in a run file: ``{name: box-downsample, factor: 4}``, a bare name, or a list applied in
order."""

ComposeConfig.model_rebuild()
