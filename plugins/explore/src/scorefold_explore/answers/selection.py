"""Points that were selected: tags on them, and what is known of each as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scorefold.artefacts import read_json
from scorefold.errors import ArtefactError, ConfigError
from scorefold_explore.explored import Explored

MOST_TAGS = 50
WIDE = 200
"""Columns of a point that are written at most."""

COMPARED = 20
"""Rows of the file that are held to the points before the file is trusted."""


def tag(explored: Explored, name: str, points: Sequence[int], on: bool) -> dict[str, list[int]]:
    """Put a tag on points, or take it off; the points of every tag afterwards.

    Raises ``ConfigError`` for points that are not there, for a name without a letter or digit, and for too many tags.
    """
    name = name.strip()
    if not any(letter.isalnum() for letter in name):
        raise ConfigError(f"the tag {name!r:.60} has no letter or digit; expected a word such as 'outlier'")
    rows = {explored.check_point(point) for point in points}
    if on and name not in explored.tags and len(explored.tags) >= MOST_TAGS:
        raise ConfigError(f"there are {MOST_TAGS} tags already; take one off its points first")
    left = explored.tags.get(name, set()) | rows if on else explored.tags.get(name, set()) - rows
    if left:
        explored.tags[name] = left
    else:
        explored.tags.pop(name, None)
    return {one: sorted(held) for one, held in explored.tags.items()}


def exported(explored: Explored, points: Sequence[int], form: str) -> dict[str, Any]:
    """The points as the ``text`` of a file in ``form`` (csv or json) and its ``name``.

    Each has its row in the user's data, its split, label and tags, and the row as the user's file has it, where that is
    one CSV file; else the columns of the point in the units of the data. ``source`` says which.
    """
    for point in points:
        explored.check_point(point)
    table = _file_rows(explored, points) or _columns(explored, points)
    found = []
    for place, point in enumerate(points):
        tags = [name for name, held in explored.tags.items() if point in held]
        own = {
            "row": _called(explored, point),
            "split": explored.group_of(point).name,
            "label": _label(explored, point),
        }
        found.append((own | {"tags": tags}, table[1][place]))
    text = _json(explored, found) if form == "json" else _csv(found)
    return {"text": text, "name": f"selection-{len(points)}.{form}", "source": table[0], "points": len(points)}


def _called(explored: Explored, point: int) -> int | str:
    group = explored.group_of(point)
    if group.index is None or group.rows is None:
        return f"{group.name} {point - group.start}"
    name = group.rows[int(group.index[point - group.start])]
    return name if isinstance(name, str) else int(group.index[point - group.start])


def _label(explored: Explored, point: int) -> str | None:
    label = -1 if explored.labels is None else int(explored.labels[point])
    names = explored.label_names
    return None if label < 0 else names[label] if label < len(names) else str(label)


def _columns(explored: Explored, points: Sequence[int]) -> tuple[str, list[dict[str, Any]]]:
    """The columns of points that are vectors, in the units that the data were read in."""
    if not explored.columns or len(explored.columns) > WIDE:
        return "rows alone", [{} for _ in points]
    raw = explored.scale.to_raw(explored.points[torch.tensor(points)].double())
    rows = [[float(f"{value:.7g}") for value in row] for row in raw.tolist()]
    return "columns of the points", [dict(zip(explored.columns, row, strict=True)) for row in rows]


def _file_rows(explored: Explored, points: Sequence[int]) -> tuple[str, list[dict[str, Any]]] | None:
    """The rows of the CSV file that the points come from; None where they come from elsewhere, or do not agree."""
    config = _data_config(explored)
    path = Path(str(config.get("path", "")))
    if path.suffix.lower() not in (".csv", ".tsv", ".txt") or not path.is_file() or not explored.columns:
        return None
    groups = [explored.group_of(point) for point in points]
    if any(group.index is None or group.stage != explored.data_stage for group in groups):
        return None
    wanted = [int(group.index[point - group.start]) for group, point in zip(groups, points, strict=True)]  # type: ignore[index]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = config.get("delimiter") or ("\t" if path.suffix.lower() == ".tsv" else ",")
            lines = csv.reader(file, delimiter=str(delimiter))
            header = next(lines)
            needed = set(wanted)
            held = {number: line for number, line in enumerate(lines) if number in needed}
    except (OSError, ValueError, csv.Error, StopIteration, TypeError):
        return None
    if len(held) != len(needed) or len(set(header)) != len(header):
        return None
    rows = [dict(zip(header, held[row], strict=False)) for row in wanted]
    return (f"rows of {path.name}", rows) if _agrees(explored, points, rows) else None


def _agrees(explored: Explored, points: Sequence[int], rows: Sequence[Mapping[str, str]]) -> bool:
    """True if rows of a file hold the numbers of the points, in some of them."""
    shared = [name for name in explored.columns if name in rows[0]]
    for point, row in list(zip(points, rows, strict=True))[:COMPARED]:
        raw = explored.scale.to_raw(explored.points[point][None].double())[0]
        for name in shared:
            try:
                value = float(row.get(name, "").replace(",", "."))
            except ValueError:
                continue  # a gap that was filled, or numbers in another form
            own = float(raw[explored.columns.index(name)])
            if abs(value - own) > 1e-3 * max(abs(value), abs(own), 1e-6):
                return False
    return bool(shared)


def _data_config(explored: Explored) -> Mapping[str, Any]:
    """The config of the stage of the data: as it was read, or as the run has it."""
    if explored.data_use is not None:
        return dict(explored.data_use.get("config", {}))
    try:
        facts = read_json(explored.folder_of(explored.data_stage) / "stage.json")
        config = facts["resolved"].get("config")
    except (ArtefactError, KeyError, AttributeError, TypeError):
        return {}
    return config if isinstance(config, Mapping) else {}


def _csv(found: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """A table with our columns first; one that the file has by this name too gets a name of its own."""
    names = list(dict.fromkeys(name for _, values in found for name in values))
    head = [name if name not in names else f"scorefold_{name}" for name in found[0][0]]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*head, *names])
    for own, values in found:
        first = [";".join(one) if isinstance(one, list) else "" if one is None else one for one in own.values()]
        lines.writerow([*first, *(values.get(name, "") for name in names)])
    return text.getvalue()


def _json(explored: Explored, found: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    rows = [{**own, **({"values": dict(values)} if values else {})} for own, values in found]
    return json.dumps({"from": explored.title, "points": rows}, indent=1, ensure_ascii=False) + "\n"
