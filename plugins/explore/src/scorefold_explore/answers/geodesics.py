"""Paths between two points: the geodesic of a learned geometry next to the straight line."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_explore.answers.maps import map_of
from scorefold_explore.answers.pictures import shown
from scorefold_explore.explored import Explored, for_model

MOST = 101


@torch.no_grad()
def between(
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
def answer(
    explored: Explored, geometry: str, start: int, end: int, steps: int, map_name: str, rough: bool = False
) -> dict[str, Any]:
    """Both curves as the page shows them, where they lie on a map, and how long they are; the path through noise too,
    of a geometry that knows one. A ``rough`` answer has a first look in place of the geodesic, and no distance."""
    space = explored.model("geometry", geometry)
    first = rough and sketches(space)
    began = time.perf_counter()
    curve, line = between(explored, geometry, start, end, steps, "sketch" if first else "geodesic")
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
        curves["noise"] = between(explored, geometry, start, end, steps, "noise_path")[0]
        found["noise"] = shown(explored, curves["noise"])
    project = map_of(explored, map_name).project
    if project is not None:
        found |= {f"{name}_map": project(one).double().tolist() for name, one in curves.items()}
    return found
