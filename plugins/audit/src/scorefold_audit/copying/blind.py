"""What can be said without held-out points: raw numbers, and no verdict."""

from __future__ import annotations

import numpy as np
import torch

from scorefold_audit.copying.nearest import Near, Neighbours
from scorefold_audit.copying.spaces import Space
from scorefold_audit.copying.statistics import RATIO
from scorefold_audit.quality.comparison import some
from scorefold_audit.quality.diversity import relative_vendi

FEWEST = 20


def raw_numbers(space: Space, count: int, generator: torch.Generator) -> dict[str, float]:
    """Numbers of samples next to training points alone, by name: none of them says by itself whether a model copies."""
    if min(len(space.samples), len(space.training)) < FEWEST:
        return {}
    near = Near.of(space.search, Neighbours.of(space.search, space.within("samples")))
    own = space.search.own(near.index)
    numbers = {
        "near-copies among samples": float((near.ratio < RATIO).mean()),
        "authentic samples": float((near.distance > own).mean()),
        "distance of samples from training points over theirs (median)": float(
            np.median(near.distance) / (np.median(own) or 1.0)
        ),
    }
    size = min(count, len(space.samples), len(space.training))
    chosen = (some(torch.from_numpy(x), size, generator) for x in (space.samples, space.training))
    numbers["Vendi score over that of training points"] = relative_vendi(*chosen)
    return {f"{name} ({space.name})": value for name, value in numbers.items()}
