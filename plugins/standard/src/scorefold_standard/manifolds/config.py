"""Settings of the manifolds and distributions that data are drawn from. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_standard.data.config import Scale
from scorefold_toolkit.config.common import FRACTIONS, Ambient, Fractions, Isometry, Noise, Points, Seed, Tangents


def _check_room(ambient: int | None, least: int, what: str) -> None:
    if ambient is not None and ambient < least:
        raise ValueError(f"{what} needs at least {least} coordinates; ambient is {ambient}. Set ambient: {least}")


class SphereConfig(Config):
    """The uniform distribution on a k-sphere."""

    dimension: int = Field(2, ge=1, description="k, the dimension of the sphere; it spans k + 1 coordinates")
    ambient: Ambient = None
    radius: float = Field(1.0, gt=0, description="Radius, which sets the units of the data")
    isometry: Isometry = None
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _room(self) -> SphereConfig:
        _check_room(self.ambient, self.dimension + 1, f"a {self.dimension}-sphere")
        return self


class TorusConfig(Config):
    """A torus."""

    form: Literal["flat", "revolution"] = Field(
        "flat", description="A product of circles in 2 coordinates each, or the surface of a ring in 3 coordinates"
    )
    dimension: int = Field(2, ge=1, description="Number of circles; 2 for the torus of revolution")
    ambient: Ambient = None
    radius: float = Field(1.0, gt=0, description="Radius of the circles, or of the tube")
    ring_radius: float = Field(2.0, gt=0, description="Torus of revolution: distance of the tube from the axis")
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _ring(self) -> TorusConfig:
        if self.form == "revolution" and (self.dimension != 2 or self.ring_radius <= self.radius):
            raise ValueError("a torus of revolution has dimension 2 and a ring_radius above its radius")
        _check_room(self.ambient, 3 if self.form == "revolution" else 2 * self.dimension, f"a {self.form} torus")
        return self


class SwissRollConfig(Config):
    """The Swiss roll (t cos t, h, t sin t), t uniform from 1.5 pi over the turns, h uniform over the height."""

    turns: float = Field(1.5, gt=0, description="Turns of the roll")
    height: float = Field(21.0, gt=0, description="Width of the sheet across the roll")
    ambient: Ambient = None
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _room(self) -> SwissRollConfig:
        _check_room(self.ambient, 3, "a Swiss roll")
        return self


class HelixConfig(Config):
    """The helix (r cos t, r sin t, pitch t / 2 pi), uniform by arc length."""

    turns: float = Field(3.0, gt=0, description="Turns of the helix")
    radius: float = Field(1.0, gt=0, description="Radius")
    pitch: float = Field(1.0, description="Rise a turn; 0 for a circle")
    ambient: Ambient = None
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _room(self) -> HelixConfig:
        _check_room(self.ambient, 3, "a helix")
        return self


class SubspaceConfig(Config):
    """A Gaussian on a random linear subspace."""

    dimension: int = Field(2, ge=0, description="k, the dimension of the subspace")
    ambient: Ambient = None
    variances: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="The k variances; null for ones"
    )
    mean: tuple[float, ...] | None = Field(None, description="The mean, one number a coordinate; null for 0")
    points: Points = 2000
    noise_std: Noise = 0.0
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _room(self) -> SubspaceConfig:
        _check_room(self.ambient, max(self.dimension, 1), f"a {self.dimension}-dimensional subspace")
        return self


class GaussianMixtureConfig(Config):
    """Gaussians on random subspaces around random centres."""

    dimensions: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (2, 2, 2), min_length=1, description="Dimension of each component"
    )
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="Weight of each component, up to a common factor; null for equal weights"
    )
    std: float = Field(1.0, gt=0, description="Standard deviation along each direction of a component")
    separation: float = Field(5.0, ge=0, description="Distance of the centres from the origin, in random directions")
    ambient: Ambient = None
    points: Points = 2000
    noise_std: Noise = 0.0
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _as_many(self) -> GaussianMixtureConfig:
        if self.weights is not None and len(self.weights) != len(self.dimensions):
            raise ValueError(f"{len(self.weights)} weights were given for {len(self.dimensions)} components")
        _check_room(self.ambient, max(1, *self.dimensions), "the largest component")
        return self


class BenchmarkManifoldConfig(Config):
    """One of scikit-dimension's benchmark manifolds."""

    name: Literal[
        "M1_Sphere",
        "M2_Affine_3to5",
        "M3_Nonlinear_4to6",
        "M4_Nonlinear",
        "M5a_Helix1d",
        "M5b_Helix2d",
        "M6_Nonlinear",
        "M7_Roll",
        "M8_Nonlinear",
        "M9_Affine",
        "M10a_Cubic",
        "M10b_Cubic",
        "M10c_Cubic",
        "M10d_Cubic",
        "M11_Moebius",
        "M12_Norm",
        "M13a_Scurve",
        "M13b_Spiral",
        "Mbeta",
        "Mn1_Nonlinear",
        "Mn2_Nonlinear",
        "Mp1_Paraboloid",
        "Mp2_Paraboloid",
        "Mp3_Paraboloid",
    ] = Field("M1_Sphere", description="Which manifold, by its name in scikit-dimension")
    points: Points = 2000
    noise_std: Noise = 0.0
    scale: Scale = None
    fractions: Fractions = FRACTIONS
    seed: Seed = None


_ROOM: dict[str, tuple[int | None, int]] = {
    "Sphere": (None, 1),
    "Affine": (None, 0),
    "Affine_3to5": (3, 2),
    "Nonlinear": (None, 0),
    "Nonlinear_4to6": (4, 2),
    "Spiral": (1, 2),
    "Helix1d": (1, 2),
    "Helix2d": (2, 1),
    "Helicoid": (2, 1),
    "Roll": (2, 1),
    "Scurve": (2, 1),
    "Moebius": (2, 1),
    "Uniform": (None, 0),
    "Norm": (None, 0),
    "Paraboloid": (None, 0),
    "Cubic": (None, 1),
}
"""The dimension of each set of GeoMLE, None where it has any, and how many columns it needs beyond that."""


class GeoMLEManifoldConfig(Config):
    """A set of the tables of GeoMLE (Gomtsyan et al. 2019)."""

    set: Literal[
        "Sphere",
        "Affine",
        "Affine_3to5",
        "Nonlinear",
        "Nonlinear_4to6",
        "Spiral",
        "Helix1d",
        "Helix2d",
        "Helicoid",
        "Roll",
        "Scurve",
        "Moebius",
        "Uniform",
        "Norm",
        "Paraboloid",
        "Cubic",
    ] = Field("Sphere", description="The set, by its name in the tables")
    dimension: int = Field(2, ge=1, description="Its dimension d")
    ambient: Ambient = None
    sampling: Literal["uniform", "nonuniform"] = Field(
        "uniform", description="nonuniform: the tables' other sampler, whose points crowd; a Paraboloid has one sampler"
    )
    points: Points = 1000
    noise_std: Noise = 0.0
    scale: Scale = None
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @property
    def columns(self) -> int:
        """The number of coordinates: ``ambient``, or as many as the set needs."""
        return self.ambient or self._least

    @property
    def _least(self) -> int:
        if self.set == "Nonlinear":
            return 2 * self.dimension
        return 3 * (self.dimension + 1) if self.set == "Paraboloid" else self.dimension + _ROOM[self.set][1]

    @model_validator(mode="after")
    def _fits(self) -> GeoMLEManifoldConfig:
        dimension = _ROOM[self.set][0]
        if dimension not in (None, self.dimension):
            raise ValueError(f"{self.set} has dimension {dimension}, not {self.dimension}. Set dimension: {dimension}")
        _check_room(self.ambient, self._least, f"{self.set} of dimension {self.dimension}")
        if self.set == "Nonlinear" and self.columns % self._least:
            raise ValueError(
                f"Nonlinear of dimension {self.dimension} has a multiple of {self._least} coordinates; ambient is "
                f"{self.ambient}. Set ambient: {self._least * (self.columns // self._least + 1)}"
            )
        if self.sampling == "nonuniform" and self.set in ("Uniform", "Norm"):
            raise ValueError(f"the tables have no nonuniform {self.set}. Set sampling: uniform")
        return self
