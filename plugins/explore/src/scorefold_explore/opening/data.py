"""A file or a folder of data, without a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorefold.errors import DataError
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
