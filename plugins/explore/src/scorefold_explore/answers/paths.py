"""Paths between two points by a learned geometry, the code of a point, and the event that a dragged code decodes to."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_explore.answers.colours import shown
from scorefold_explore.answers.maps import map_of
from scorefold_explore.explored import Explored, for_model, generator_of

MOST = 101


@torch.no_grad()
def curve_between(
    explored: Explored, geometry: str, start: int, end: int, steps: int, way: str = "geodesic"
) -> tuple[Tensor, Tensor]:
    """A curve and the straight line from one point to another, (steps, *E) each, ends included.

    ``way`` is the geometry's method that gives the curve: ``geodesic``; ``sketch``, a first look that is not checked;
    or ``noise_path``, through the noise of both points. Raises ``ConfigError`` for a geometry or a point that is not
    there, and for fewer than 2 steps or more than MOST.
    """
    if not 2 <= steps <= MOST:
        raise ConfigError(f"{steps} steps were asked for; expected 2 to {MOST}")
    space = explored.model("geometry", geometry)
    x, y = (explored.points[explored.check_point(one)][None] for one in (start, end))
    times = torch.linspace(0, 1, steps)
    curve: Tensor = getattr(space, way)(for_model(space, x), for_model(space, y), for_model(space, times))[0]
    weights = times.reshape(-1, *[1] * (x.dim() - 1))
    return curve.float().cpu(), (1 - weights) * x + weights * y


def sketches(space: object) -> bool:
    """Check for a geometry that gives a first look at a geodesic before it is solved."""
    return hasattr(space, "sketch")


@torch.no_grad()
def path_answer(
    explored: Explored, geometry: str, start: int, end: int, steps: int, map_name: str, rough: bool = False
) -> dict[str, Any]:
    """Both curves as the page shows them, where they lie on a map, and how long they are; the path through noise too,
    of a geometry that knows one. A ``rough`` answer has a first look in place of the geodesic, and no distance."""
    space = explored.model("geometry", geometry)
    first = rough and sketches(space)
    began = time.perf_counter()
    curve, line = curve_between(explored, geometry, start, end, steps, "sketch" if first else "geodesic")
    seconds = time.perf_counter() - began
    x, y = (for_model(space, explored.points[one][None]) for one in (start, end))
    found: dict[str, Any] = {
        "curve": shown(explored, curve),
        "line": shown(explored, line),
        "distance": None if first else float(space.distance(x, y)),
        "curve_length": float((curve[1:] - curve[:-1]).flatten(1).norm(dim=1).sum()),
        "line_length": float((line[-1] - line[0]).norm()),
        "seconds": seconds,
        "rough": first,
    }
    curves = {"curve": curve, "line": line}
    if not first and hasattr(space, "noise_path"):
        curves["noise"] = curve_between(explored, geometry, start, end, steps, "noise_path")[0]
        found["noise"] = shown(explored, curves["noise"])
    project = map_of(explored, map_name).project
    if project is not None:
        found |= {f"{name}_map": project(one).double().tolist() for name, one in curves.items()}
    return found


SHOWN = 64
"""Coordinates of a code that have a slider."""


@torch.no_grad()
def code_ranges(explored: Explored, coder: str) -> tuple[Tensor, Tensor]:
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
    mean, std = code_ranges(explored, coder)
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
def decoded_code(explored: Explored, coder: str, code: list[float], seed: int, map_name: str) -> dict[str, Any]:
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
