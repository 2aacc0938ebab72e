"""Data without a run, and a second run of the same points beside the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scorefold.errors import ConfigError, DataError
from scorefold_explore.explored import Explored
from scorefold_explore.opening.run import gathered_points, say_what_is_missing
from scorefold_registry import Host
from scorefold_registry.python import load_data


def open_data(host: Host, place: Path, read: Mapping[str, Any]) -> Explored:
    """The points of a file (npy, npz, csv, parquet), a folder of images, or a component such as ``data:digits``.

    ``read`` sets fields of whatever reads them, such as ``{"label": "species"}``. Raises ``DataError`` and
    ``ConfigError`` as the reader does.
    """
    named = str(place)
    component = ":" in named and not place.exists()
    if not component and not place.exists():
        raise DataError(f"{place} is not there", hint="name a run's folder, a file of data or a folder of images")
    stage = load_data(named if component else place, host=host, progress=False, **read)
    notes = [str(text) for text in stage.warnings]
    explored = gathered_points(
        "data", stage.value, title=named.rpartition("/")[2] or named, place=place, state="data", notes=notes
    )
    explored.data_use, explored.host = stage.specs["data"], host
    explored.stages = [{"name": "data", "component": str(explored.data_use["use"]), "verb": "load"}]
    say_what_is_missing(explored)
    return explored


MARK = "second run"


def put_beside(explored: Explored, other: Explored) -> None:
    """Add the models, the numbers and the notes of another run; each is named after its stage, with a mark.

    Raises ``ConfigError`` where the two runs are about other points, or about the points in other units.
    """
    _check_points(explored, other)
    for name, model in other.models.items():
        called = f"{name} ({MARK})"
        explored.models[called] = replace(model, name=called)
        explored.folders[called] = other.folder_of(name)
    # The samples of the second run are not on the page, so only numbers of the data have a place.
    count = _data_count(explored)
    for text, known in other.known.items():
        values = torch.full((len(explored.points),), torch.nan)
        values[:count] = known.values[:count]
        if bool(values.isfinite().any()):
            explored.known[f"{text}, {MARK}"] = replace(known, values=values, text=f"{text}, {MARK}")
    explored.curves |= {f"{name} ({MARK})": rows for name, rows in other.curves.items()}
    explored.stages = [*explored.stages, *({**one, "name": f"{one['name']} ({MARK})"} for one in other.stages)]
    explored.notes = [*explored.notes, *(f"{MARK}: {text}" for text in other.notes)]
    explored.title = f"{explored.title} and {other.title}"
    explored.second = other
    explored.missing.clear()
    say_what_is_missing(explored)


def _data_count(explored: Explored) -> int:
    """Number of points before the first samples."""
    return next((group.start for group in explored.groups if group.samples), len(explored.points))


def _check_points(explored: Explored, other: Explored) -> None:
    hint = "both need a data stage with the same file, splits, seed and scale"
    said = f"{other.title} can't stand beside {explored.title}"
    if explored.event_shape != other.event_shape:
        one, two = (" x ".join(map(str, each.event_shape)) for each in (explored, other))
        raise ConfigError(f"{said}: its points are of {two}, not of {one}", hint=hint)
    counts = _data_count(explored), _data_count(other)
    if counts[0] != counts[1]:
        raise ConfigError(f"{said}: it has {counts[1]:,} points, not {counts[0]:,}", hint=hint)
    near = torch.isclose(explored.points[: counts[0]], other.points[: counts[0]], rtol=1e-4, atol=1e-6, equal_nan=True)
    if not bool(near.all()):
        apart = int((~near.flatten(1).all(1)).sum())
        raise ConfigError(f"{said}: {apart:,} of its {counts[1]:,} points are other ones, or in other units", hint=hint)
