"""Settings of geometries whose geodesics are solved by numbers. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from scorefold.config import Config

Start = Literal["straight", "noise", "graph"]


class _Numbers(Config):
    """Settings without yes and no: ``noise: true`` would be 1."""

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"{name} is {str(value).lower()}; expected a number or a name, not yes or no")
        return values


class SolverConfig(_Numbers):
    """Settings of the solver of geodesics."""

    points: int = Field(32, ge=16, le=512, multiple_of=4, description="Steps of the finest grid, a multiple of 4")
    starts: tuple[Start, ...] = Field(
        (),
        description="Starts besides the straight line, which is always tried: noise (the path through the noise of the "
        "two ends) and graph (the shortest path over neighbours among the training points)",
    )
    tolerance: float = Field(
        1e-6, ge=1e-14, le=1e-2, description="Share of the energy that is still to gain, at most, for a length"
    )
    steps: int = Field(100, ge=1, description="Most steps of the solver on each grid")
    richardson: bool = Field(True, description="Extrapolate lengths from the two finest grids")


class SolvedConfig(_Numbers):
    """Settings that every solved geometry has."""

    solver: SolverConfig = Field(SolverConfig(), description="Settings of the solver")
    thorough: bool = Field(
        False,
        description="Whether the diagnosis also solves geodesics backwards, around triangles and at other settings, "
        "and looks for saddles, better known paths and copies: some ten times as long",
    )
