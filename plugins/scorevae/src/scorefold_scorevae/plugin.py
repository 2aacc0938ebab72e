"""What this plugin offers: auto-encoders from a frozen score model, and their baselines."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Component, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _networks()
    yield from _sources()


def _networks() -> Iterable[Component]:
    small = {"channels": [8, 16], "blocks": 1, "groups": 4}
    for name, target, config, summary in (
        ("half-unet", "HalfUNet", "HalfUNetConfig", "The down path of a U-Net, from images to vectors: an encoder"),
        ("mirror-decoder", "MirrorDecoder", "MirrorDecoderConfig", "The half U-Net's mirror, from vectors to images"),
    ):
        yield Component(
            kind="network",
            name=name,
            target=f"scorefold_scorevae.half_unet:{target}",
            config=f"scorefold_scorevae.network_config:{config}",
            summary=summary,
            examples=({"config": small}, {"config": {**small, "attention": [1], "middle_attention": False}}),
            cite="cite/unet.bib",
        )


def _sources() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="textured-blobs",
        target="scorefold_scorevae.blobs:TexturedBlobs",
        config="scorefold_scorevae.data_config:TexturedBlobsConfig",
        summary="Images of a blob on a grid of centres under a Gaussian texture, whose law is known",
        examples=({"config": {"points": 200}},),
        cite="citation.bib",
    )
