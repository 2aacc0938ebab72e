"""Distances between points under a geometry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scorefold.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def geometry(distances: Any) -> Mapping[str, Figure]:
    """The matrix of distances between some points; nothing where no data were given."""
    if not isinstance(distances, Tensor):
        return {}
    figure, axes = new_figure(5.0, 4.2)
    picture = axes.imshow(distances.numpy(), cmap="viridis")
    figure.colorbar(picture, ax=axes, label="distance")
    axes.set(title="Distances between test points", xlabel="point", ylabel="point")
    return {"distances": figure}
