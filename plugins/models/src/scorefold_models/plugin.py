"""Models of this plugin, trained by ``make models``, and the images of the demonstration."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Component, Model, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_models() -> Iterable[Model]:
    yield Model("fashion-score", "models/fashion-score", "A score of Fashion-MNIST at 28 pixels: a small U-Net")
    yield Model("fashion-flow", "models/fashion-flow", "A flow of Fashion-MNIST at 28 pixels, for geodesics and codes")
    yield Model("fashion-code", "models/fashion-code", "Sixteen numbers for a garment: an encoder for fashion-score")


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="fashion-thousand",
        target=".thousand:Thousand",
        config="scorefold.config:Config",
        summary="A thousand images of Fashion-MNIST: 500 of its training set, 500 of its test set",
        cite="citation.bib",
    )
