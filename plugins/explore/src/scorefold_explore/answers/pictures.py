"""Points as a page shows them: images as bytes, vectors as numbers in the units that they were read in."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold_explore.explored import Explored


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
