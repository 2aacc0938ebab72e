"""The scale that maps and distances are taken in, and warnings where one column hides all others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_explore.explored import Explored

OWN = "own"
MEASURED = 20_000
"""Number of points from which the spreads of columns are measured."""

NUMBERS = 8_000_000
"""Maximum of numbers to measure: torch.quantile takes 16 million."""

ALONE = 0.9
"""The share of the variance from which one column hides the others."""

QUARTILES = 1.349
"""The distance of the quartiles of a normal distribution, in standard deviations."""


def scale_names(explored: Explored) -> list[dict[str, str]]:
    """The scales that there are, the run's own first. There is one where points are not rows of a table."""
    own = "each column as it was scaled to train" if explored.scale.per_coordinate else "as the data are"
    found = [{"name": OWN, "text": own}]
    if len(explored.event_shape) == 1 and explored.event_shape[0] > 1:
        found.append({"name": "columns", "text": "each column by its standard deviation"})
        found.append({"name": "robust", "text": "each column by its quartiles"})
        if explored.scale.per_coordinate:
            found.append({"name": "raw", "text": "in the units of the file"})
    return found


def check_scale(explored: Explored, scale: str) -> str:
    """The name of a scale. Raises ``ConfigError`` for one that there is not."""
    have = [one["name"] for one in scale_names(explored)]
    if scale not in have:
        raise ConfigError(f"there is no scale {scale!r:.60}; expected one of: {', '.join(have)}")
    return scale


def rows_in_scale(explored: Explored, x: Tensor, scale: str = OWN) -> Tensor:
    """Events (B, *E) as rows (B, D) of float32 in a scale; missing values stay NaN."""
    rows = x.detach().cpu().flatten(1).float()
    if scale == OWN:
        return rows
    if scale == "raw":
        return explored.scale.to_raw(rows).float()
    middle, spread = _columns(explored, check_scale(explored, scale))
    return (rows - middle) / spread


def _columns(explored: Explored, scale: str) -> tuple[Tensor, Tensor]:
    """The middle and the spread (D,) of each column of the data; a spread of 0 is given as 1."""
    kept: dict[str, tuple[Tensor, Tensor]] = explored.memory.setdefault("spreads", {})
    if scale not in kept:
        rows = _some(explored)
        if scale == "columns":
            spread, middle = rows.std(0, correction=0), rows.mean(0)
        else:
            low, middle, high = torch.quantile(rows, torch.tensor([0.25, 0.5, 0.75]).double(), dim=0)
            spread = (high - low) / QUARTILES
            spread = torch.where(spread > 0, spread, rows.std(0, correction=0))
        kept[scale] = middle.float(), torch.where(spread > 0, spread, 1.0).float()
    return kept[scale]


def _some(explored: Explored) -> Tensor:
    """Some rows (n, D) of the data in float64, without those that have missing values."""
    own = [group for group in explored.groups if not group.samples] or list(explored.groups)
    rows = torch.cat([explored.points[group.start : group.stop] for group in own]).flatten(1)
    most = max(1, min(MEASURED, NUMBERS // max(1, rows.shape[1])))
    rows = rows[:: math.ceil(len(rows) / most)].double()
    whole = rows[rows.isfinite().all(1)]
    return whole if len(whole) else rows.nan_to_num(0.0)


def warnings(explored: Explored) -> list[dict[str, str]]:
    """Warnings about the scale of the map: ``text``, and the scale that is the ``fix``."""
    if len(explored.event_shape) != 1 or explored.event_shape[0] < 2 or explored.scale.per_coordinate:
        return []
    variances = _some(explored).var(0, correction=0)
    share, column = (variances / variances.sum().clamp_min(1e-300)).max(0)
    if float(share) < ALONE:
        return []
    name = explored.columns[int(column)] if explored.columns else f"column {int(column) + 1}"
    return [
        {
            "text": f"{float(share):.0%} of the variance is in the column {name}. Maps, distances and dimensions "
            "hardly see the other columns. Where columns have different units, scale each by its standard deviation.",
            "fix": "columns",
        }
    ]


def units(explored: Explored, scale: str = OWN) -> str:
    """The unit of distances between points in a scale, as a reader says it."""
    if scale == "columns":
        return "standard deviations of the columns"
    if scale == "robust":
        return "robust deviations of the columns"
    if scale == "raw":
        return "the units of the file"
    if explored.scale.per_coordinate:
        return "units of the scaled columns"
    if explored.image is not None and explored.scale.bounded:
        return f"pixel values from {explored.scale.low:g} to {explored.scale.high:g}"
    plain = explored.scale.factor == 1.0
    return "the units of the data" if plain else f"the units of the data divided by {explored.scale.factor:.4g}"
