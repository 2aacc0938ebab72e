"""Settings of the maps phi that a geometry's flow is made of. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from scorefold.config import Config

Layers = Annotated[int, Field(ge=1, le=1000)]
Width = Annotated[int, Field(ge=1, le=65536)]
Smooth = Annotated[
    Literal["silu", "relu", "tanh", "gelu", "elu"],
    Field(
        description="Nonlinearity of the networks; relu, the published one, leaves the map without second derivatives"
    ),
]


class CheckerboardConfig(Config):
    """What both maps on alternate features share."""

    layers: Layers = Field(4, description="Layers; even ones move features 0, 2, 4, ..., odd ones 1, 3, 5, ...")
    width: Width = Field(64, description="Units of a hidden layer of the networks")
    blocks: int = Field(2, ge=0, le=1000, description="Residual blocks of a network, of two hidden layers each")
    activation: Smooth = "silu"
    rotations: bool = Field(
        False, description="A learned rotation before every two layers; false, as published, starts at the identity"
    )


class CouplingMapConfig(CheckerboardConfig):
    """Affine couplings on alternate features: the published flow for vectors."""

    name: Literal["coupling"] = "coupling"
    scale: Literal["symmetric", "published"] = Field(
        "symmetric",
        description="Scale of a layer: exp(scale_bound tanh(s)), 1 at the start, or sigmoid(s + 2) + 0.001, which lies "
        "in (0.001, 1.001) and is 0.882 at the start: such layers can hardly expand",
    )
    scale_bound: float = Field(2.0, gt=0, le=20, description="Largest log-scale of a symmetric layer, either way")


class SplineMapConfig(CheckerboardConfig):
    """Monotone rational-quadratic splines on alternate features."""

    name: Literal["spline"] = "spline"
    bins: int = Field(8, ge=2, le=256, description="Bins of a spline")
    bound: float = Field(
        5.0, gt=0, description="Splines act on [-bound, bound], in standard deviations of the data; outside is identity"
    )


def _as_map(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Map = Annotated[CouplingMapConfig | SplineMapConfig, Field(discriminator="name")]
MapConfig = Annotated[_Map, BeforeValidator(_as_map, json_schema_input_type=_Map | Literal["coupling", "spline"])]
"""A map in a run file: ``map: {name: coupling, layers: 8}``, or just ``map: spline``."""
