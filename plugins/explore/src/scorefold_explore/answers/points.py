"""Points on the page: what is known of one, and tags and files of points that were selected.

Of one point these are its neighbours, its dimension against scale, and its spectra.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.artefacts import read_json
from scorefold.diffusion import time_grid
from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ArtefactError, ConfigError
from scorefold.interfaces import ScoreModel
from scorefold.stage import report
from scorefold_explore.answers.colours import of_point, shown
from scorefold_explore.answers.neighbours import (
    data_rows,
    dimension_curve,
    distances_from,
    local_spectrum,
    nearest_points,
)
from scorefold_explore.answers.scales import OWN, check_scale, units
from scorefold_explore.explored import Explored, for_model

LEVELS = 10
"""Noise levels at which the dimension at a point is read from a score."""

WIDEST = 1024
"""Coordinates up to which the whole Jacobian of a denoiser is computed."""


def point_answer(explored: Explored, point: int, count: int = 12, scale: str = OWN) -> dict[str, Any]:
    """The neighbours, dimensions and spectra of a point, its distances in a scale, and the numbers of the run."""
    x = explored.points[explored.check_point(point)]
    distances = distances_from(explored, x, check_scale(explored, scale))
    among = distances[data_rows(explored)]
    spectra = [
        {"text": "of its 100 nearest points", "values": local_spectrum(explored, distances, scale=scale).tolist()}
    ]
    if point in explored.spectra:
        text, values = explored.spectra[point]
        spectra.insert(0, {"text": text, "values": values.tolist()})
    label = -1 if explored.labels is None else int(explored.labels[point])
    names = explored.label_names
    return {
        "event": shown(explored, x[None]),
        "group": explored.group_of(point).name,
        "label": None if label < 0 else names[label] if label < len(names) else str(label),
        "numbers": of_point(explored, point),
        "neighbours": nearest_points(explored, point, distances, count, samples=False),
        "samples": nearest_points(explored, point, distances, count, samples=True),
        "copies": int((distances == 0).sum()) - 1,
        "dimensions": dimension_curve(among),
        "spectra": spectra,
        "units": units(explored, scale),
    }


def by_score(explored: Explored, score: str, point: int) -> dict[str, Any]:
    """The dimension at a point against the noise level, and spectra, from a score model.

    The derivative of the denoised point, d E[x_0 | x_t = x] / dx, is near 1 along directions in which the data vary at
    that noise level and near 0 across: its trace counts them, its eigenvalues are the spectrum. Raises ``ConfigError``
    for a model without a scalar noise level, and for events of more than WIDEST coordinates.
    """
    model = explored.model("score", score)
    x = for_model(model, explored.points[explored.check_point(point)])
    size = x.numel()
    if size > WIDEST:
        raise ConfigError(f"events have {size} coordinates; expected at most {WIDEST} for the spectrum at a point")
    rows, spectra = [], []
    levels = levels_of(model, x)
    for number, t in enumerate(levels):
        signal, scale = (float(part.flatten()[0]) for part in model.process.coefficients(x[None], t[None]))
        values = torch.linalg.eigvalsh(denoiser_jacobian(model, signal * x, t)).flip(0)
        sigma = scale / signal
        rows.append({"sigma": sigma, "dimension": float(values.clamp(0, 1).sum())})
        spectra.append({"sigma": sigma, "values": values.tolist()})
        report(number + 1, len(levels), "noise levels")
    return {"dimensions": rows, "spectra": spectra}


def levels_of(model: ScoreModel, like: Tensor) -> Tensor:
    """Times (LEVELS,) from the least noise to the spread of the data, evenly in the logarithm of the noise; with the
    dtype and on the device of ``like``."""
    grid = time_grid(model.process, 8 * LEVELS, "karras").flip(0).to(like)
    x = torch.zeros(len(grid), *model.event_shape, dtype=grid.dtype, device=grid.device)
    signal, scale = model.process.coefficients(x, grid)
    ratio = (scale.reshape(len(grid), -1)[:, 0] / signal.reshape(len(grid), -1)[:, 0]).log()
    top = min(float(ratio.max()), math.log(2 * model.event_scale.std))
    wanted = torch.linspace(float(ratio.min()), top, LEVELS).to(ratio)
    return grid[(ratio[None] - wanted[:, None]).abs().argmin(1)]


def denoiser_jacobian(model: ScoreModel, x: Tensor, t: Tensor) -> Tensor:
    """The symmetric part of signal(t) d E[x_0 | x_t = x] / dx at x (*E) and time t, (D, D) in float64."""
    forward_rules()
    size = x.numel()
    signal = float(model.process.coefficients(x[None], t[None])[0].flatten()[0])
    parts = []
    for start in range(0, size, 64):
        directions = torch.eye(size, dtype=x.dtype, device=x.device)[start : start + 64].reshape(-1, *x.shape)
        points = x.expand_as(directions).contiguous()
        times = t.expand(len(points)).contiguous()
        moved = torch.func.jvp(lambda y, times=times: model.denoise(y, times), (points,), (directions,))[1]
        parts.append(moved.detach().flatten(1))
        report(min(size, start + 64), size, "directions")
    jacobian = signal * torch.cat(parts).double().cpu()
    return (jacobian + jacobian.T) / 2


MOST_TAGS = 50
WIDE = 200
"""Columns of a point that are written at most."""

COMPARED = 20
"""Number of rows of the file that are compared with the points before the file is used."""


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
