"""The data as a map of two numbers for each point, and paths on it.

Maps come from what was learned or from the points alone, and paths between two points from a learned geometry. The code
of a point is shown too, and the event that a dragged code decodes to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.stage import report, reported
from scorefold_explore.answers.colours import packed, shown
from scorefold_explore.answers.scales import OWN, check_scale, rows_in_scale
from scorefold_explore.explored import Explored, for_model, generator_of

MEASURED = 5000
"""Number of points from which the axes are computed."""

ROWS = 1024

UMAP_NEIGHBOURS = 15
"""UMAP compares each point with its nearest points, so it needs more points than this."""


@dataclass(frozen=True)
class Map:
    """A map: ``positions`` (N, 2), what its axes are, and where other events (B, *E) lie on it, if that is known."""

    positions: Tensor
    axes: tuple[str, str]
    project: Callable[[Tensor], Tensor] | None


def map_names(explored: Explored) -> list[dict[str, str]]:
    """The maps that there are, the best first."""
    found = [{"name": "pca", "text": "principal components"}]
    for name, model in explored.of("code").items():
        found.append({"name": f"code:{name}", "text": f"code of {name} ({model.component})"})
    for name, model in explored.of("flow").items():
        found.append({"name": f"chart:{name}", "text": f"chart of the flow {name} ({model.component})"})
    if find_spec("umap") is not None and len(explored.points) > UMAP_NEIGHBOURS:
        found.append({"name": "umap", "text": "UMAP"})
    return found


def map_of(explored: Explored, name: str) -> Map:
    """A map by its name, kept once it is made. ``pca`` and ``umap`` may have a scale behind a colon: ``pca:columns``.
    Raises ``ConfigError`` for a map or a scale that there is not."""
    known: dict[str, Map] = explored.memory.setdefault("maps", {})
    if name not in known:
        kind, _, model = name.partition(":")
        base = kind if kind in ("pca", "umap") else name
        if base not in [one["name"] for one in map_names(explored)]:
            have = ", ".join(one["name"] for one in map_names(explored))
            raise ConfigError(f"there is no map {name!r:.60}; expected one of: {have}")
        scale = check_scale(explored, model or OWN) if base == kind else OWN
        makers: dict[str, Callable[[], Map]] = {
            "pca": lambda: _principal(
                explored.points, "principal component", lambda x: rows_in_scale(explored, x, scale)
            ),
            "code": lambda: _coded(explored, explored.model("code", model).encode, model, "code"),
            "chart": lambda: _coded(explored, lambda x: explored.model("flow", model)(x)[0], model, "chart"),
            "umap": lambda: _umap(rows_in_scale(explored, explored.points, scale)),
        }
        known[name] = makers[kind]()
    return known[name]


def map_answer(explored: Explored, name: str) -> dict[str, Any]:
    """The map as the page plots it."""
    found = map_of(explored, name)
    return {"positions": packed(found.positions), "axes": list(found.axes), "projects": found.project is not None}


def _flat(x: Tensor) -> Tensor:
    return x.detach().cpu().flatten(1).float()


def _principal(points: Tensor, what: str, rows_of: Callable[[Tensor], Tensor] = _flat) -> Map:
    flat = rows_of(points)
    clean = flat[torch.isfinite(flat).all(1)]
    if not len(clean):
        raise ConfigError("every point has missing values; there is nothing to plot", hint="fill or drop them")
    some = clean[torch.linspace(0, len(clean) - 1, min(len(clean), MEASURED)).long()].double()
    mean = some.mean(0)
    axes, shares = _axes(some - mean)
    first, second = axes.float(), mean.float()

    def project(x: Tensor) -> Tensor:
        return (rows_of(x) - second).nan_to_num(0.0) @ first

    parts = [(flat[start : start + 8192] - second).nan_to_num(0.0) @ first for start in range(0, len(flat), 8192)]
    said = [f"{what} {number + 1} ({share:.0%} of the variance)" for number, share in enumerate(shares)]
    return Map(torch.cat(parts), (said[0], said[1]), project)


def _axes(centred: Tensor) -> tuple[Tensor, list[float]]:
    """The two directions of the greatest variance, (D, 2), signs chosen so that maps repeat, and their shares."""
    width = centred.shape[1]
    if width > 1500:
        _, values, rows = torch.linalg.svd(centred[:1000], full_matrices=False)
        variances, vectors = values.square(), rows.T
    else:
        variances, vectors = torch.linalg.eigh(centred.T @ centred)
        variances, vectors = variances.flip(0), vectors.flip(1)
    if width == 1:
        vectors, variances = torch.tensor([[1.0, 0.0]]).double(), torch.cat([variances, torch.zeros(1).double()])
    top = vectors[:, :2]
    signs = torch.sign(top.gather(0, top.abs().argmax(0, keepdim=True)))
    total = float(variances.clamp_min(0).sum()) or 1.0
    return top * torch.where(signs == 0, 1.0, signs), [max(0.0, float(one)) / total for one in variances[:2]]


def _coded(explored: Explored, encode: Callable[[Tensor], Tensor], name: str, what: str) -> Map:
    """The two coordinates of codes (or of a chart) that vary most; codes of one coordinate against their order."""
    owner = (explored.of("code") if what == "code" else explored.of("flow"))[name].value

    @torch.no_grad()
    def coded(x: Tensor) -> Tensor:
        return encode(for_model(owner, x)).flatten(1).cpu().float()

    points = explored.points
    starts = range(0, len(points), ROWS)
    parts = [coded(points[start : start + ROWS]) for start in reported(starts, len(starts), f"{what} of the points")]
    codes = torch.cat(parts)
    if what == "code" and codes.shape[1] > 2:
        found = _principal(codes, f"principal component of the code of {name}")
        inner = found.project
        assert inner is not None
        return Map(found.positions, found.axes, lambda x: inner(coded(x)))
    order = codes.double().nan_to_num(0.0).var(0).argsort(descending=True)[:2] if codes.shape[1] > 1 else [0, 0]
    first, second = int(order[0]), int(order[1])

    def project(x: Tensor) -> Tensor:
        z = coded(x)
        return torch.stack([z[:, first], z[:, second] if codes.shape[1] > 1 else torch.zeros(len(z))], 1)

    positions = torch.stack([codes[:, first], codes[:, second]], 1)
    if codes.shape[1] == 1:
        positions[:, 1] = 0
    said = (f"{what} of {name}, coordinate {first + 1}", f"{what} of {name}, coordinate {second + 1}")
    return Map(positions.nan_to_num(0.0), said, project)


def _umap(points: Tensor) -> Map:
    import umap

    report(0, 1, "UMAP (this may take minutes)")
    flat = points.nan_to_num(0.0).numpy()
    threads = torch.get_num_threads()
    try:
        found = umap.UMAP(n_neighbors=UMAP_NEIGHBOURS, random_state=0, n_jobs=1).fit_transform(flat)
    finally:
        torch.set_num_threads(threads)  # numba has set all that there are
    return Map(torch.from_numpy(np.asarray(found, dtype="float32")), ("UMAP 1", "UMAP 2"), None)


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
        raise ConfigError(f"{steps} steps were given; expected 2 to {MOST}")
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
