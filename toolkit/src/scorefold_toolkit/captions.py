"""Captions of figures: the sentences below a figure that say what is seen and how to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Figures = Callable[[Any], Mapping[str, Figure]]

ESTIMATE = "The estimate at each point, as a histogram. The line is the answer for all points."
SCALE = "The reading at each noise level sigma. Directions along which the data vary by less than sigma do not count."
GEODESICS = "Geodesics and the straight lines between their ends."
SAMPLES = "Samples of this stage. Images are scaled to the range of the data."
PATHS = (
    "Paths between pairs of points: images from left to right, signals as curves in a panel, other points from an open "
    "to a filled marker."
)
TRAINING = (
    "The loss at each step of the training. The held-out loss is of points that the training has not seen; below the "
    "dashed line the model has learned something."
)


def captioned(captions: Mapping[str, str]) -> Callable[[Figures], Figures]:
    """Decorator of a function of figures: a figure without a label gets the caption of its name as its label.

    >>> from scorefold.plotting import new_figure
    >>> shown = captioned({"line": "A straight line."})(lambda _: {"line": new_figure()[0]})
    >>> shown(None)["line"].get_label()
    'A straight line.'
    """

    def decorate(figures: Figures) -> Figures:
        @wraps(figures)
        def named(shown: Any) -> Mapping[str, Figure]:
            found = figures(shown)
            for name, figure in found.items():
                # Figures of geodesics and others are drawn by ``samples``, whose caption says less.
                if figure.get_label() in ("", SAMPLES, PATHS) and name in captions:
                    figure.set_label(captions[name])
            return found

        return named

    return decorate
