"""Settings of the data sources. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from scorefold.config import Config
from scorefold_toolkit.config.common import (
    FRACTIONS,
    Ambient,
    FilePath,
    Fractions,
    Isometry,
    Noise,
    Points,
    Seed,
    Tangents,
)


def _widths(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] < value[1]:
        raise ValueError(f"the widths are {value}; expected (low, high) with 0 < low < high")
    return value


Size = Annotated[int, Field(ge=8, description="Height and width of an image in pixels; 32 in the paper")]
Flatten = Annotated[bool, Field(description="Events are vectors (size * size) instead of images (1, size, size)")]
Weights = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...] | None,
    Field(description="Share of each part, up to a common factor; null for all points of all parts"),
]


class NonUniformSphereConfig(Config):
    """A k-sphere whose k hyperspherical angles are normal around 0."""

    dimension: int = Field(10, ge=1, description="k, the dimension of the sphere; it spans k + 1 coordinates")
    angle_std: float = Field(0.5, gt=0, description="Standard deviation of each angle in radians, alpha in the paper")
    ambient: Ambient = 100
    isometry: Isometry = None
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class SpaghettiConfig(Config):
    """The curve (sin t, sin 2t, ..., sin Dt), t uniform on [0, 1]."""

    ambient: int = Field(100, ge=1, description="D, the number of coordinates")
    nodes: int = Field(
        20_001,
        ge=2,
        description="Points of the curve that its exact score sums over: it is right for noise from length / nodes on, "
        "0.02 for 100 coordinates and 20,001 nodes",
    )
    points: Points = 2000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class SquigglyConfig(Config):
    """A Gaussian on a plane, bent by sines and turned, several times over."""

    dimension: int = Field(10, ge=1, description="k, the dimension of the plane")
    ambient: Ambient = 100
    frequency: float = Field(5.0, gt=0, description="f of the bend x + sin(f x) / 2f; FLIPD's benchmark has 0.5 to 10")
    repeats: int = Field(5, ge=1, description="How often it is bent and turned")
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class LollipopConfig(Config):
    """A disk (radius 1 around (3, 3)), a stick from its rim to (1.5, 1.5) and a dot at the origin."""

    weights: Annotated[
        tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]],
        Field(description="Shares of disk, stick and dot, up to a common factor"),
    ] = (4.0, 2.0, 1.0)
    ambient: Ambient = None
    points: Points = 2000
    noise_std: Noise = 0.0
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _some(self) -> LollipopConfig:
        if sum(self.weights) <= 0:
            raise ValueError("the weights are all 0: one part at least needs a share")
        return self


class PointCloudConfig(Config):
    """A cloud of points in 3 coordinates from a JSON file, centred, divided by its range and moved by an isometry."""

    path: FilePath = Field(description="A JSON file with a list of [x, y, z]")
    dimension: int = Field(2, ge=0, le=3, description="The dimension that the cloud is known to have, 2 for a surface")
    ambient: Ambient = 100
    isometry: Isometry = None
    noise_std: Noise = 0.0
    fractions: Fractions = FRACTIONS
    limit: Annotated[
        int | None, Field(ge=1, description="Largest number of points, drawn by the seed; null for all")
    ] = None
    seed: Seed = None


class SquaresConfig(Config):
    """Images of squares of fixed places, each of a brightness of its own, uniform on [0, 1]."""

    squares: int = Field(10, ge=1, description="Number of squares")
    size: Size = 32
    distinct: bool = Field(
        False, description="Draw a square again that is already there; false as published, where 2 of 100 coincide"
    )
    placement_seed: int = Field(42, ge=0, description="Seed of the places, of Python's own generator; 42 as published")
    flatten: Flatten = False
    points: Points = 2000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class BlobsConfig(Config):
    """Images of Gaussian blobs of fixed centres, each of a width of its own, scaled to [0, 1]."""

    blobs: int = Field(10, ge=1, description="k, the number of blobs")
    size: Size = 32
    widths: Annotated[
        tuple[float, float],
        AfterValidator(_widths),
        Field(description="Least and largest standard deviation of a blob in pixels, uniform between"),
    ] = (1.0, 5.0)
    placement_seed: int = Field(42, ge=0, description="Seed of the centres; the paper's is 42, of another generator")
    flatten: Flatten = False
    points: Points = 2000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _fits(self) -> BlobsConfig:
        # The darkest pixel is always 0 and the brightest 1, so no more than the others can move freely.
        if self.blobs > self.size**2 - 2:
            raise ValueError(f"{self.blobs} blobs were asked for; images of {self.size} pixels take {self.size**2 - 2}")
        return self


class UnionConfig(Config):
    """Points of several sources as one."""

    weights: Weights = None
    separation: float = Field(
        0.0, ge=0, description="Distance by which each part is moved, in a random direction of its own"
    )
    seed: Seed = None


class ProductConfig(Config):
    """Pairs, triples, ... of points of several sources, side by side."""

    ambient: Annotated[
        int | None,
        Field(ge=1, description="Coordinates that the product is moved into by a random isometry; null leaves it"),
    ] = None
    seed: Seed = None
