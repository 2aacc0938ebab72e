"""Fields and settings that the configs of several plugins share: of data, of drawing, of geodesics. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from scorefold.config import Config


def _not_empty(value: Any) -> Any:
    if value == "":
        raise ValueError("the path is empty; expected a file or a folder")
    return value


FilePath = Annotated[Path, BeforeValidator(_not_empty, json_schema_input_type=Path)]
"""A file or folder, or files by a pattern. In a run file a relative one starts at the file, as any ``Path`` does."""

ClassName = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
"""A class of labelled data: its number, or its name where the source has names."""


def _shares(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if not (min(value) >= 0 and abs(sum(value) - 1) <= 1e-6):  # so put, NaN is refused too
        raise ValueError(f"the fractions are {value}; expected three of at least 0 that sum to 1")
    return value


def once_each(value: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Raises ``ValueError`` where a class is named twice."""
    twice = [each for number, each in enumerate(value) if each in value[:number]]
    if twice:
        raise ValueError(f"{twice[0]!r} is listed twice; expected every class once")
    return value


Classes = Annotated[
    tuple[ClassName, ...],
    Field(min_length=1),
    AfterValidator(once_each),
]
KeptClasses = Annotated[
    Classes | None,
    Field(
        description="Only points of these classes, by number or by name; labels and conditions keep the source's "
        "numbers, and 'limit' counts what is kept; null for all"
    ),
]
Fractions = Annotated[
    tuple[float, float, float],
    AfterValidator(_shares),
    Field(description="Shares of the points for training, validation and test"),
]
Seed = Annotated[
    int | None, Field(ge=0, description="Seed of random numbers here; null derives it from the run's root seed")
]
Points = Annotated[int, Field(ge=1, description="Points over all splits")]
Noise = Annotated[
    float,
    Field(ge=0, description="Standard deviation of Gaussian noise added to every coordinate, in units of the data"),
]
Ambient = Annotated[int | None, Field(ge=1, description="Coordinates of a point; null for the fewest that will do")]
Isometry = Annotated[
    int | None,
    Field(
        ge=0,
        lt=2**63,
        description="Seed of the isometry into the ambient space as published code draws it, 0 there; null draws "
        "another by 'seed'",
    ),
]
Tangents = Annotated[
    bool, Field(description="Also give orthonormal tangent bases, truth 'tangent' (N, ambient, dimension)")
]

FRACTIONS = (0.8, 0.1, 0.1)
"""The shares where nothing is said."""


_RESERVED = ("n", "condition", "steps", "sampler", "spacing", "to_zero", "guidance", "generator")


class DrawingOptions(Config):
    """Options of sampling."""

    steps: (
        Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None
    ) = Field(
        None,
        description="Steps of the sampler (score models): a number, shared out over the process' intervals, or a list "
        "with a number for each interval, from noise to data; null is what the model takes, as "
        "many as need 36 network calls for most",
    )
    sampler: Literal["edm", "heun", "dpmpp-2m", "ddim", "euler-maruyama", "predictor-corrector"] | None = Field(
        None,
        description="Sampler (score models); null is the model's default, edm for most, dpmpp-2m for models by bands",
    )
    spacing: Literal["karras", "log-snr", "uniform"] | None = Field(
        None,
        description="Spacing of the sampler's times (score models); null is the model's default, karras for most",
    )
    to_zero: bool | None = Field(
        None,
        description="Whether a last call takes away the noise that is left at the smallest time (score models); null "
        "is what the model does, true for most",
    )
    guidance: float = Field(1.0, ge=0, description="Weight of the conditional score against the unconditional one")
    temperature: Annotated[float, Field(ge=0)] | tuple[Annotated[float, Field(ge=0)], ...] = Field(
        1.0, description="Scale of the base's deviations (flows): one number, or one for each of the flow's latents"
    )
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="Further sampling options of the model, by the names that its 'bind' or 'sample' knows, such as "
        "condition_noise (score models)",
    )

    @field_validator("sampling")
    @classmethod
    def _further(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _RESERVED:
                raise ValueError(f"sampling holds {name!r}; write {name} next to sampling, not in it")
        return value


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
