"""The manifest of a saved state: what it may say, and where its references may lead.

Copies and points stand inside the state's folder. A reference may lead to a state anywhere, as a link may, but is
followed only where the digest beside it is that of what is found.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from scorefold.artefacts import MANIFEST_FILE
from scorefold.data import DataSpec, TensorSpec
from scorefold.errors import ArtefactError, ScorefoldError
from scorefold_registry.checked_json import checked

FORMAT = 1
LARGEST_EVENT = 2**26
"""Numbers in one event: with more, no model could be built that its state belongs to."""

_SPEC = TypeAdapter(DataSpec)

# They stand in the line that a person is told to type.
_Distribution = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=200)]
_Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$", max_length=200)]


def _relative(text: str) -> str:
    outside = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or "\\" in text
    if outside or not text.isprintable() or not text:
        raise ValueError(f"{text!r} is no relative path")
    return text


_Path = Annotated[str, AfterValidator(_relative), Field(max_length=1000)]


class Reference(BaseModel, extra="forbid"):
    """What a port is plugged to: the shape of data, points kept inside, or a state elsewhere or copied inside."""

    spec: dict[str, Any] | None = None
    value: _Path | None = None
    state: _Path | None = None
    digest: str = ""
    copied: bool = Field(False, alias="copy")


class Manifest(BaseModel):
    """What ``host.save`` writes beside a state."""

    component: str = Field(max_length=300)
    distribution: _Distribution
    version: _Version
    config: dict[str, Any]
    ports: dict[str, Reference | list[Reference]]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] | None
    dtype: Literal["float16", "bfloat16", "float32", "float64"] | None
    fingerprint: str | None

    @property
    def saved(self) -> str:
        """How messages name what the state is of."""
        return f"{self.component} of {self.distribution} {self.version}"


def check_manifest(raw: Mapping[str, Any], folder: Path) -> Manifest:
    """A manifest as read. Raises ``ArtefactError`` for another format, and for one that no release wrote."""
    if raw.get("format") != FORMAT or isinstance(raw.get("format"), bool):
        raise ArtefactError(
            f"{folder} is of format {raw.get('format')!r:.60}; this release reads {FORMAT}",
            hint="a folder that host.save wrote is expected; update scorefold-registry if a later release wrote it",
        )
    lacking = [key for key in Manifest.model_fields if key not in raw]
    if lacking:
        raise ArtefactError(f"{folder / MANIFEST_FILE} lacks {', '.join(lacking)}; it is not as host.save wrote it")
    return checked(raw, Manifest, folder / MANIFEST_FILE)


def data_spec(reference: Reference, port: str, folder: Path) -> DataSpec:
    """The shape and scale of the data that a port was plugged to. Raises ``ArtefactError`` where they can be none."""
    try:
        spec = _SPEC.validate_python(reference.spec)
    except (ValidationError, ScorefoldError) as error:
        raise ArtefactError(f"{folder / MANIFEST_FILE} does not describe the data of port {port!r}") from error
    conditions = spec.condition_spec
    named = {"": conditions} if isinstance(conditions, TensorSpec) else conditions or {}
    for shape in (spec.event_shape, *(item.shape for item in named.values())):
        if any(size < 0 for size in shape) or math.prod(shape) > LARGEST_EVENT:
            raise ArtefactError(f"{folder / MANIFEST_FILE} gives port {port!r} data of the shape {shape!s:.60}")
    return spec


def place_inside(folder: Path, text: str, port: str) -> Path:
    """A folder inside ``folder``. Raises ``ArtefactError`` for a path, or a link on it, that leads out."""
    place = Path(os.path.normpath(folder / text))
    if not place.is_relative_to(folder) or not place.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"port {port!r} of {folder} refers to {text!r}, which leads out of it")
    return place
