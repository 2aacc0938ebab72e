"""Settings of the maps phi that a geometry's flow is made of. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from scorefold.config import Config

Layers = Annotated[int, Field(ge=1, le=1000)]
Width = Annotated[int, Field(ge=1, le=65536)]
Scale = Literal["symmetric", "published", "none"]
Smooth = Annotated[
    Literal["silu", "relu", "tanh", "gelu", "elu"],
    Field(
        description="Nonlinearity of the networks; relu, the published one, leaves the map without second derivatives"
    ),
]


class CheckerboardConfig(Config):
    """Common settings of both maps on alternate features."""

    layers: Layers = Field(8, description="Layers; which features each moves, masks says")
    width: Width = Field(64, description="Units of a hidden layer of the networks")
    blocks: int = Field(2, ge=0, le=1000, description="Residual blocks of a network, of two hidden layers each")
    activation: Smooth = "silu"
    masks: Literal["mixed", "alternate", "nested"] = Field(
        "mixed",
        description="Which features a layer moves, given the others: even and odd ones in turn (alternate, as "
        "published), or, in every second pair of layers, the first half and the second: after a start on principal "
        "axes narrow features are then moved by all of the wide ones. nested: every layer moves all but the first k "
        "features, given these. In the inverse k grows geometrically from few to a quarter of all, so that few wide "
        "coordinates decode to a curved surface. It is meant for the start on principal axes",
    )
    rotations: bool = Field(False, description="A learned rotation before every two layers; published: none")

    @model_validator(mode="after")
    def _keeps_order(self) -> CheckerboardConfig:
        if self.rotations and self.masks == "nested":
            raise ValueError("masks nested go by the order of the features, which rotations mix; set one of them")
        return self


class CouplingMapConfig(CheckerboardConfig):
    """Affine couplings on alternate features: the published flow for vectors."""

    name: Literal["coupling"] = "coupling"
    scale: Scale = Field(
        "symmetric",
        description="Scale of a layer: exp(scale_bound tanh(s)), 1 at the start, or sigmoid(s + 2) + 0.001, which lies "
        "in (0.001, 1.001) and is 0.882 at the start: such layers can hardly expand. With none, layers only shift: "
        "volumes are kept, and no product of scales makes a decoder unstable",
    )
    scale_bound: float = Field(2.0, gt=0, le=20, description="Largest log-scale of a symmetric layer, either way")


class SplineMapConfig(CheckerboardConfig):
    """Monotone rational-quadratic splines on alternate features."""

    name: Literal["spline"] = "spline"
    bins: int = Field(8, ge=2, le=256, description="Bins of a spline")
    bound: float = Field(
        5.0, gt=0, description="Splines act on [-bound, bound], in standard deviations of the data; outside is identity"
    )


class GlowMapConfig(Config):
    """Couplings of the channels of images, as in Glow, with nothing split off between levels."""

    name: Literal["glow"] = "glow"
    levels: int = Field(2, ge=1, le=30, description="Levels, each on images half as high and wide; published: 3")
    steps: Layers = Field(4, description="Couplings in a level; published: 7")
    channels: Width = Field(32, description="Channels of the networks' convolutions; published: 96")
    blocks: int = Field(1, ge=0, le=1000, description="Residual blocks of a network; published: 3")
    activation: Smooth = "silu"
    linear: Literal["lu", "orthogonal"] = Field(
        "lu",
        description="Maps that mix the channels: any matrix, started at a rotation, or reflections, which keep lengths",
    )
    scale_bound: float = Field(2.0, gt=0, le=20, description="Largest log-scale of a layer, either way")


class RegularMapConfig(Config):
    """Reflections and bounded shifts by neighbours: only the activation normalisations change volume."""

    name: Literal["regular"] = "regular"
    blocks: Layers = Field(3, description="Blocks of a normalisation, reflections and a parity layer; two for images")
    reflections: int = Field(
        3,
        ge=1,
        le=1000,
        description="Householder reflections in a block, of the features or of the channels of an image",
    )
    order: int = Field(2, ge=1, le=32, description="Degree of the polynomials in tanh; published: 2, for images 6")
    channels: Width = Field(32, description="Hidden channels of a parity layer, for images; published: 128")
    kernel: int = Field(3, ge=3, le=31, description="Size of its convolutions, odd, for images; published: 5")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; expected an odd number, which has a middle")
        return kernel


class ZukoMapConfig(Config):
    """The transformation of a flow of the library zuko (``pip install scorefold-pullback[zuko]``)."""

    name: Literal["zuko"] = "zuko"
    flow: str = Field(
        "NSF", description="Class in zuko.flows: MAF, NICE, NSF or RealNVP, or another that has both directions exactly"
    )
    activation: Smooth = "silu"
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the class, such as {transforms: 3, hidden_features: [64, 64]}"
    )

    @field_validator("options")
    @classmethod
    def _free(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name, why in (
            ("features", "the event says how many there are"),
            ("context", "a map has none"),
            ("activation", "it stands beside options"),
        ):
            if name in options:
                raise ValueError(f"leave {name} out of options: {why}")
        return options


def _as_map(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Map = Annotated[
    CouplingMapConfig | SplineMapConfig | GlowMapConfig | RegularMapConfig | ZukoMapConfig, Field(discriminator="name")
]
_Name = Literal["coupling", "spline", "glow", "regular", "zuko"]
MapConfig = Annotated[_Map, BeforeValidator(_as_map, json_schema_input_type=_Map | _Name)]
"""A map in a run file: ``map: {name: coupling, layers: 8}``, or just ``map: spline``."""
