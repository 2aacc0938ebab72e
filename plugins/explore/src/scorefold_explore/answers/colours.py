"""Points as a page shows them, in images, numbers and colours."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold_explore.answers.neighbours import NEIGHBOURS, SECONDS, computed_in_time, isolation, neighbour_dimensions
from scorefold_explore.answers.scales import OWN, check_scale
from scorefold_explore.explored import Explored, for_model, generator_of


def packed(values: Tensor | np.ndarray[Any, Any]) -> str:
    """Numbers as base64 of float32, little end first."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def shown(explored: Explored, x: Tensor) -> dict[str, Any]:
    """Events (B, *E) as tiles of bytes where they are images, else as numbers (B, D).

    Bounded images are shown between their bounds; others from the least to the greatest of all points of the page.
    """
    x = x.detach().cpu()
    if explored.image is None:
        raw = explored.scale.to_raw(x) if x.dim() == 2 else x
        return {"kind": "vectors", "rows": _finite(raw.double().flatten(1))}
    low, high = bounds(explored)
    grey = ((x.float() - low) / (high - low)).nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return tiles(grey)


def tiles(grey: Tensor) -> dict[str, Any]:
    """Bytes (B, C, H, W) as the page paints them: B tiles of H rows of W pixels of C channels."""
    data = np.ascontiguousarray(grey.permute(0, 2, 3, 1).numpy())
    count, height, width, channels = data.shape
    text = base64.b64encode(data.tobytes()).decode()
    return {"kind": "images", "count": count, "height": height, "width": width, "channels": channels, "data": text}


def deviation_tiles(explored: Explored, std: Tensor) -> dict[str, Any]:
    """Standard deviations (B, *E) as tiles, white where the greatest is; numbers where points are no images."""
    if explored.image is None:
        return {"kind": "vectors", "rows": _finite(std.double().flatten(1))}
    top = float(std.max()) or 1.0
    grey = (std.detach().cpu().float() / top).nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return {**tiles(grey), "top": float(std.max())}


def bounds(explored: Explored) -> tuple[float, float]:
    """Values that are shown as black and as white."""
    scale = explored.scale
    if scale.low is not None and scale.high is not None:
        return scale.low, scale.high
    if "bounds" not in explored.memory:
        some = explored.points[:: max(1, len(explored.points) // 2000)]
        low, high = float(some.min()), float(some.max())
        explored.memory["bounds"] = (low, high if high > low else low + 1.0)
    found: tuple[float, float] = explored.memory["bounds"]
    return found


def _finite(rows: Tensor) -> list[list[float | None]]:
    return [[value if np.isfinite(value) else None for value in row] for row in rows.tolist()]


TRACED = 128
"""Coordinates up to which the likelihoods of a score take the whole trace; beyond, one random vector estimates it."""


def colour_names(explored: Explored) -> list[dict[str, Any]]:
    """The colours that there are; ``ready`` says which need no computation."""
    found = [{"name": "group", "text": "split or samples", "ready": True}]
    if explored.labels is not None:
        found.append({"name": "label", "text": "label", "ready": True})
    if explored.tags:
        found.append({"name": "tag", "text": "tag", "ready": True})
    found += [{"name": f"known:{name}", "text": name, "ready": True} for name in explored.known]
    found.append({"name": "dimension", "text": f"local dimension from {NEIGHBOURS} neighbours", "ready": False})
    found.append({"name": "isolation", "text": "outlier score: distance of neighbours", "ready": False})
    for kind in ("flow", "score"):
        found += [
            {"name": f"likelihood:{name}", "text": f"log-likelihood by {name} (nats)", "ready": False}
            for name in explored.of(kind)
        ]
    found += [
        {"name": f"reconstruction:{name}", "text": f"reconstruction error of {name}", "ready": False}
        for name in explored.of("code")
    ]
    found += [
        {"name": f"column:{number}", "text": name, "ready": True} for number, name in enumerate(explored.columns[:50])
    ]
    return found


def colour_answer(explored: Explored, name: str) -> dict[str, Any]:
    """A colour as the page shows it: ``values`` (N,), ``classes`` where they are such, and how many are ``known``.

    ``dimension`` and ``isolation`` may have a scale behind a colon, as in ``dimension:columns``.
    """
    kept: dict[str, dict[str, Any]] = explored.memory.setdefault("colours", {})
    if name == "tag" and explored.tags:
        return _classes(tags_of(explored), list(explored.tags), name)
    if name not in kept:
        kept[name] = _answer(explored, name)
    return kept[name]


def _answer(explored: Explored, name: str) -> dict[str, Any]:
    texts = {one["name"]: one["text"] for one in colour_names(explored)}
    base, _, scale = name.partition(":")
    if scale and base in ("dimension", "isolation"):
        texts[name] = f"{texts[base]}, scale {check_scale(explored, scale)}"
    if name not in texts:
        raise ConfigError(f"there is no colour {name!r:.60}; expected one of: {', '.join(texts)}")
    if name == "group":
        return _classes(group_numbers(explored), [group.name for group in explored.groups], texts[name])
    if name == "label":
        assert explored.labels is not None
        count = int(explored.labels.max()) + 1
        called = [*explored.label_names, *map(str, range(len(explored.label_names), count))][:count]
        return _classes(explored.labels, called, texts[name])
    kind, _, rest = name.partition(":")
    values: Tensor
    if kind == "known":
        values = explored.known[rest].values
    elif kind == "column":
        raw = explored.scale.to_raw(explored.points)
        values = raw[:, int(rest)].float()
    else:
        values, _ = _computed(explored, kind, rest)
    known = values.isfinite()
    found: dict[str, Any] = {"values": packed(values), "text": texts[name], "known": int(known.sum())}
    if bool(known.any()):
        edges = torch.tensor([0.01, 0.5, 0.99])
        some = values[known][:: max(1, int(known.sum()) // 100_000)]
        found["low"], found["middle"], found["high"] = torch.quantile(some, edges).tolist()
    return found


def group_numbers(explored: Explored) -> Tensor:
    """The number of each point's group, (N,)."""
    return torch.cat([torch.full((group.stop - group.start,), n) for n, group in enumerate(explored.groups)])


def tags_of(explored: Explored) -> Tensor:
    """The number of each point's last tag, (N,), -1 where it has none."""
    values = torch.full((len(explored.points),), -1)
    for number, points in enumerate(explored.tags.values()):
        values[torch.tensor(sorted(points))] = number
    return values


def _classes(values: Tensor, called: list[str], text: str) -> dict[str, Any]:
    known = torch.where(values >= 0, values.float(), torch.nan)
    return {"values": packed(known), "classes": called, "text": text, "known": int((values >= 0).sum())}


def _computed(explored: Explored, kind: str, name: str) -> tuple[Tensor, int]:
    if len(explored.points) < 4:
        raise ConfigError(f"{len(explored.points)} points are too few for neighbours; expected 4 or more")
    if kind == "dimension":
        return neighbour_dimensions(explored, SECONDS, name or OWN)
    if kind == "isolation":
        return isolation(explored, SECONDS, name or OWN)
    if kind == "likelihood":
        return _likelihoods(explored, name)
    return _errors(explored, name)


def _likelihoods(explored: Explored, name: str) -> tuple[Tensor, int]:
    """Log-likelihoods: exact by a flow; by a score with an estimated trace where there are many coordinates."""
    model = (explored.of("flow") | explored.of("score"))[name].value
    given: dict[str, Any] = {}
    if isinstance(model, ScoreModel) and explored.points[0].numel() > TRACED:
        given = {"trace": "hutchinson", "probes": 1, "generator": generator_of(model, 0)}

    def compute(rows: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = model.log_prob(for_model(model, explored.points[rows]), **given)
        return found

    batch = 4 if isinstance(model, ScoreModel) else 32
    return computed_in_time(len(explored.points), compute, f"log-likelihoods by {name}", seconds=SECONDS, batch=batch)


def _errors(explored: Explored, name: str) -> tuple[Tensor, int]:
    coder = explored.model("code", name)

    def compute(rows: Tensor) -> Tensor:
        x = for_model(coder, explored.points[rows])
        with torch.no_grad():
            back: Tensor = coder.reconstruct(x, generator=generator_of(coder, 0))
        return (back - x).flatten(1).square().mean(1).sqrt()

    return computed_in_time(len(explored.points), compute, f"reconstructions by {name}", seconds=SECONDS)


def of_point(explored: Explored, point: int) -> dict[str, float]:
    """The numbers that are known of one point, by name."""
    found = {name: float(known.values[point]) for name, known in explored.known.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}
