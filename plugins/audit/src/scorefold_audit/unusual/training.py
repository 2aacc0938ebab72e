"""The training set itself: near-duplicates, and points that lie alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from scorefold_audit.copying.nearest import NEIGHBOURS, Numbers, Search
from scorefold_audit.copying.spaces import Overlap
from scorefold_audit.unusual.judging import high


def training_lists(search: Search, overlap: Overlap, held_out: Numbers, share: float, most: int) -> dict[str, Any]:
    """Pairs of near-duplicates, the nearest first, and points that lie alone, the farthest first, ``most`` of each, as
    JSON.

    ``held_out`` (h,) are the distances of held-out points from their 10th nearest training point. A training point
    whose own is larger than that of nearly all of them is named, by conformal p-values and Benjamini and Hochberg's
    list, of which ``share`` is false.
    """
    places = overlap.chosen
    distances, found = search.nearest(search.points[places], NEIGHBOURS + 1)
    p = high(distances[:, -1], held_out)
    order = np.lexsort((-distances[:, -1], p))
    named = false_discovery_control(p) <= share
    # A duplicate may come before the point itself.
    other = np.where(found[:, 0] == places, found[:, min(1, found.shape[1] - 1)], found[:, 0])
    pairs = {
        (int(min(one, two)), int(max(one, two))): float(apart)
        for one, two, apart in zip(places, other, overlap.own, strict=True)
        if apart <= overlap.near
    }
    return {
        "searched": len(places),
        "near_duplicates": [
            {"points": list(pair), "distance": apart} for pair, apart in sorted(pairs.items(), key=lambda item: item[1])
        ][:most],
        "outliers": [
            {
                "point": int(places[row]),
                "distance": float(distances[row, -1]),
                "p": float(p[row]),
                "named": bool(named[row]),
            }
            for row in order[:most]
        ],
        "outliers_named": int(named.sum()),
    }
