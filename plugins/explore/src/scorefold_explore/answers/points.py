"""One point: what is known of it, its neighbours, its dimension against scale, and its spectra."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scorefold.diffusion import time_grid
from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ConfigError
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
