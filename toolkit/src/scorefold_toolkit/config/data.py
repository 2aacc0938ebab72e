"""Fields that the configs of many data sources share. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


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
        raise ValueError(f"{twice[0]!r} stands twice; expected every class once")
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
    int | None, Field(ge=0, description="Seed of what is drawn here; null takes it from the run's root seed")
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
