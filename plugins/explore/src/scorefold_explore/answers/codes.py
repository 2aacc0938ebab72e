"""Codes: those of a point, and what a code that was dragged decodes to."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_explore.answers.maps import map_of
from scorefold_explore.answers.pictures import shown
from scorefold_explore.explored import Explored, for_model, generator_of

SHOWN = 64
"""Coordinates of a code that have a slider."""


@torch.no_grad()
def ranges(explored: Explored, coder: str) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each coordinate of the codes of up to 1,000 points, (k,) each."""
    kept: dict[str, tuple[Tensor, Tensor]] = explored.memory.setdefault("code ranges", {})
    if coder not in kept:
        model = explored.model("code", coder)
        some = explored.points[:: max(1, math.ceil(len(explored.points) / 1000))]
        codes = torch.cat([model.encode(for_model(model, part)).flatten(1).double().cpu() for part in some.split(256)])
        kept[coder] = (codes.mean(0), codes.std(0, correction=0))
    return kept[coder]


@torch.no_grad()
def code_of(explored: Explored, coder: str, point: int) -> dict[str, Any]:
    """The code of a point, the coordinates that vary most first, and the range of each slider."""
    model = explored.model("code", coder)
    x = explored.points[explored.check_point(point)][None]
    code = model.encode(for_model(model, x)).flatten().double().cpu()
    mean, std = ranges(explored, coder)
    order = std.argsort(descending=True, stable=True)[:SHOWN]
    wide = 3 * std.clamp_min(1e-6)
    return {
        "code": code.tolist(),
        "order": order.tolist(),
        "low": torch.minimum(mean - wide, code).tolist(),
        "high": torch.maximum(mean + wide, code).tolist(),
        "original": shown(explored, x),
    }


@torch.no_grad()
def decoded(explored: Explored, coder: str, code: list[float], seed: int, map_name: str) -> dict[str, Any]:
    """Decode a code, with noise from a seed if decoding is random, and place the result on a map.

    Raises ``ConfigError`` for a code of another length or with numbers that are not finite.
    """
    model = explored.model("code", coder)
    size = math.prod(model.latent_shape)
    if len(code) != size or not all(math.isfinite(one) for one in code):
        raise ConfigError(f"a code of {len(code)} numbers was given; expected {size} finite numbers")
    z = for_model(model, torch.tensor(code).reshape(1, *model.latent_shape))
    x = model.decode(z, generator=generator_of(model, seed))
    found: dict[str, Any] = {"event": shown(explored, x)}
    project = map_of(explored, map_name).project
    if project is not None:
        found["map"] = project(x).double().tolist()[0]
    return found
