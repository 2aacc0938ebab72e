"""Figures of a trained image flow: its losses, and what it draws as the temperature rises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.data import Condition, map_condition
from scorefold_caflow.flow.model import ImageFlow
from scorefold_toolkit.figures import as_images, strips, training

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
_SHOWN, _DRAWS = 7, 32


def image_flow_figures(drawn: Any) -> Mapping[str, Figure]:
    """The losses of a ``Fitted`` flow, and its draws for some of what it was trained on."""
    found = dict(training(drawn))
    model = getattr(drawn, "model", None)
    if not isinstance(model, ImageFlow) or not len(drawn.events):
        return found
    given = drawn.condition if model.condition_spec is not None else None
    first = map_condition(given, lambda one: one[:_SHOWN])
    return {**found, "temperatures": temperatures(model, drawn.events[:_SHOWN], first)}


@torch.no_grad()
def temperatures(model: ImageFlow, events: Tensor, condition: Condition | None) -> Figure:
    """A row for each of some events (n, C, H, W): its condition where that is an image, one draw for it at rising
    temperatures from the same noise, the truth, and the standard deviation of many draws at temperature 1.

    Without a condition nothing belongs to one event, and the columns are draws alone.
    """
    scale = model.event_scale
    low = float(events.min()) if scale.low is None else scale.low
    high = float(events.max()) if scale.high is None else scale.high
    columns: list[tuple[str, Tensor, tuple[float, float]]] = []
    seen = _picture(condition, events)
    if seen is not None:
        columns.append(("condition", seen, (float(seen.min()), float(seen.max()))))
    count = len(events) if condition is None else 1
    for temperature in TEMPERATURES:
        draw = model.sample(count, condition, temperature, generator=_noise(events)).reshape_as(events)
        columns.append((f"T = {temperature:g}", _shown(draw), (low, high)))
    if condition is None:
        return strips(columns, None)
    columns.append(("truth", _shown(events), (low, high)))
    many = model.sample(_DRAWS, condition, generator=_noise(events))
    if scale.low is not None or scale.high is not None:
        many = many.clamp(scale.low, scale.high)
    return strips(columns, many.std(0).float().cpu())


def _noise(like: Tensor) -> torch.Generator:
    return torch.Generator(like.device).manual_seed(0)


def _shown(x: Tensor) -> Tensor:
    images = as_images(x)
    assert images is not None
    return images.cpu()


def _picture(condition: Condition | None, events: Tensor) -> Tensor | None:
    """The first image among the parts of a condition, in its own proportions and as high as the events."""
    if condition is None:
        return None
    parts = [condition] if isinstance(condition, Tensor) else list(condition.values())
    images = [part for part in parts if part.dim() == 4 and part.is_floating_point()]
    if not images:
        return None
    height, width = images[0].shape[2:]
    size = (events.shape[2], max(1, round(width * events.shape[2] / height)))
    return functional.interpolate(_shown(images[0]), size, mode="nearest")
