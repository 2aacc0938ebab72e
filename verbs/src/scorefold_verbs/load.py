"""The verb ``load``, and the figure of the data that it loads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import PluginError, SplitError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.figures import as_images, curves, image_grid, own_limits, picture_of, scatter, strips
from scorefold_toolkit.nn.reshape import is_signal
from scorefold_verbs.inputs import Inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def load(component: DataSource, inputs: Inputs, options: None, context: StageContext) -> Outcome:
    """Load every split once, so that bad data ends the run here; report sizes, shape, scale, known truths, and what
    the data hold (``DataSource.summary``).

    A source may lack some of the splits, but not all (``SplitError``); any other ``DataError`` passes through.
    """
    sizes: dict[str, int] = {}
    truth: dict[str, Any] = {}
    for split in SPLITS:
        try:
            dataset = answer_of(component.load, Dataset, split, stage=context.stage)
        except SplitError:
            if split == SPLITS[-1] and not sizes:
                raise
            continue  # a verb that needs the split says so
        _check(component, split, dataset)
        sizes[split] = len(dataset)
        truth |= {name: value for name, value in dataset.truth.items() if isinstance(value, int | float | str)}
    scale = component.event_scale
    result = {
        "metrics": {f"{split} points": size for split, size in sizes.items()},
        "event_shape": list(component.event_shape),
        "event_scale": {
            "low": scale.low,
            "high": scale.high,
            "levels": scale.levels,
            "mean": scale.mean,
            "std": scale.std,
        },
        "truth": truth,
        "data": component.summary().as_json(),
    }
    if warnings := component.data_warnings():
        result["warnings"] = list(warnings)
    return Outcome(component, result)


def _check(source: DataSource, split: str, dataset: Dataset) -> None:
    """Raises ``PluginError`` for a source without its scale, or whose events have another shape than it declares."""
    of = f"{type(source).__module__}:{type(source).__qualname__}"
    scale, shape = getattr(source, "event_scale", None), getattr(source, "event_shape", None)
    if not isinstance(scale, EventScale):
        said = "no event_scale" if scale is None else f"a {type(scale).__name__} as its event_scale"
        hint = "set self.event_scale = EventScale.of(points of the training split), from scorefold.data"
        raise PluginError(f"{of} has {said}; expected an EventScale", hint=hint)
    if shape is None or tuple(shape) != tuple(dataset.event_shape):
        declared = "no event_shape" if shape is None else f"the event_shape {tuple(shape)}"
        loaded = tuple(dataset.event_shape)
        hint = f"set self.event_shape = {loaded}"
        raise PluginError(f"{of} declares {declared}, and load({split!r}) gives events {loaded}", hint=hint)


_PAIRS = 8  # images in a column, next to their conditions


@captioned({"data": "Some points of the data."})
def data(source: DataSource) -> Mapping[str, Figure]:
    """The first points of the test split, or of another where there is none: a grid of images, each next to its
    condition where that is an image too, curves of signals, or a scatter in the widest plane."""
    name, shown = _any_split(source)
    signals = is_signal(shown.event_shape)
    # Windows of a series overlap the next ones, so signals come from all over the split.
    places = torch.linspace(0, len(shown) - 1, min(12, len(shown))).long() if signals else torch.arange(len(shown))[:32]
    few = shown.take(places)
    images = as_images(few.x)
    condition = picture_of(few.condition)
    if signals and len(few):
        observed = condition if condition is not None and condition.shape == few.x.shape else None
        return {"data": curves(few.x[:, None], f"From {name}", observed=observed)}
    if images is not None and condition is not None and len(images):
        return {"data": _pairs(condition, images, source)}
    if images is None:
        points = shown.tensor(limit=2000)
        return {"data": scatter(points, name[0].upper() + name[1:])} if len(points) > 1 else {}
    limits = (source.event_scale.low, source.event_scale.high)
    return {"data": image_grid(images, title=f"From {name}", limits=limits)} if len(images) else {}


def _any_split(source: DataSource) -> tuple[str, Dataset]:
    """A split with points and what to call it: all points where there is no other one."""
    found: dict[str, Dataset] = {}
    for name in ("test", "validation", "train"):
        with suppress(SplitError):
            found[name] = source.load(name)
    full = [name for name, split in found.items() if len(split)]
    name = next(iter(full or found))
    return (f"the {name} split" if len(full) > 1 else "all points"), found[name]


def _pairs(condition: Tensor, images: Tensor, source: DataSource) -> Figure:
    """Conditions next to their images, in pairs of columns."""
    seen = as_images(condition)
    assert seen is not None
    scale = source.event_scale
    low, high = (
        float(own if end is None else end) for end, own in zip((scale.low, scale.high), images.aminmax(), strict=True)
    )
    columns = []
    for rows in torch.arange(len(images)).split(_PAIRS):
        columns.append(("condition", seen[rows], own_limits(seen, (low, high))))
        columns.append(("image", images[rows], (low, high)))
    figure = strips(columns, None)
    figure.set_label("Some points of the data, each image right of its condition.")
    return figure
