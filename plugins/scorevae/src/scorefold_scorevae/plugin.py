"""What this plugin offers: auto-encoders from a frozen score model, and their baselines."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Component, Port, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _codes()
    yield from _networks()
    yield from _sources()


def _codes() -> Iterable[Component]:
    sphere = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 4, "points": 400}}
    normal = {"gaussian": True, "process": {"name": "vp", "t_min": 1e-2}}
    prior = {"use": "score:analytic", "config": normal, "inputs": {"data": sphere}}
    # Bounded answers: the flow of an encoder as it starts would otherwise leave every range.
    network = {"use": "network:mlp", "config": {"width": 32, "blocks": 1, "activation": "tanh"}}
    training = {"steps": 100}
    config = {"latent": 2, "encoder": network, "training": training}
    inputs = {"prior": prior, "data": sphere}
    yield Component(
        kind="score",
        name="scorevae",
        target="scorefold_scorevae.model:ScoreVAE",
        config="scorefold_scorevae.config:ScoreVAEConfig",
        requires=(Port("prior", kind="score"), Port("data", kind="data")),
        provides=("Trainable", "Encodes", "EncodesNoise"),
        summary="An auto-encoder from a frozen score model: only an encoder is trained, Bayes' rule for scores decodes",
        examples=(
            {"config": config, "inputs": inputs},
            {
                "config": {
                    **config,
                    "weighting": "likelihood",
                    "times": "log-snr",
                    "encoder_time": "linear",
                    "checkpoint": True,
                },
                "inputs": inputs,
            },
        ),
        cite="citation.bib",
    )
    as_built = {"use": "score:scorevae", "config": {**config, "training": {"steps": 0}}, "inputs": inputs}
    brief = {"network": network, "training": training}
    yield Component(
        kind="score",
        name="scorevae-plus",
        target="scorefold_scorevae.plus:ScoreVAEPlus",
        config="scorefold_scorevae.config:ScoreVAEPlusConfig",
        requires=(Port("code", kind="score", needs=("EncodesNoise",)),),
        provides=("Trainable", "Encodes", "EncodesNoise"),
        summary="A trained ScoreVAE with a network that corrects its score given the code",
        examples=(
            {"config": brief, "inputs": {"code": as_built}},
            {"config": {**brief, "encoder_term": False, "weighting": "likelihood"}, "inputs": {"code": as_built}},
        ),
        cite="citation.bib",
    )


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
