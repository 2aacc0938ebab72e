"""The verb ``load`` of data sources."""

from __future__ import annotations

from typing import Any

from scorefold.errors import SplitError
from scorefold.interfaces import (
    DataSource,
)
from scorefold.interfaces.data import SPLITS
from scorefold.stage import Outcome, StageContext
from scorefold_verbs.inputs import (
    Inputs,
)


def load(component: DataSource, inputs: Inputs, options: None, context: StageContext) -> Outcome:
    """Load every split once, so that bad data ends the run here; report sizes, shape, scale, known truths, and what
    the data hold (``DataSource.summary``).

    A source may lack some of the splits, but not all (``SplitError``); any other ``DataError`` passes through.
    """
    sizes: dict[str, int] = {}
    truth: dict[str, Any] = {}
    for split in SPLITS:
        try:
            dataset = component.load(split)
        except SplitError:
            if split == SPLITS[-1] and not sizes:
                raise
            continue  # a verb that needs the split says so
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
