"""Palette and style of all figures.

matplotlib is imported when a figure is asked for: estimates and models can be used without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scorefold.errors import ScorefoldError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, SOFT, WARM = "#1f2933", "#2563eb", "#b8c4d6", "#d9480f"
"""The palette of every figure: text and lines, the answer, context, and truth or warning."""


def empty_figure(width: float, height: float) -> Figure:
    """An empty figure of ours, its size in inches. Raises ``ScorefoldError`` where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ScorefoldError("figures need matplotlib", hint="pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def new_figure(width: float = 6.4, height: float = 4.0, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """An empty figure of ours with one pair of axes, or ``ax`` with its figure. Raises as ``empty_figure`` does."""
    axes = empty_figure(width, height).subplots() if ax is None else ax
    tidy(axes)
    return axes.get_figure(root=True), axes  # type: ignore[return-value]


def tidy(axes: Axes) -> None:
    """Our look: no top and right spines, quiet ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
