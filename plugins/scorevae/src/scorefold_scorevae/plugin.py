"""Components of this plugin: auto-encoders from a frozen score model, and their baselines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scorefold.plugin import LATENT_VERBS, Claim, Comparison, Component, Kind, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"


@hookimpl
def scorefold_kinds() -> Iterable[Kind]:
    yield Kind(
        "autoencoder",
        interface=".vae:Autoencoder",
        verb_names=("fit", *LATENT_VERBS),
        summary="An encoder and a decoder of events, without a score or a density of their own",
        comparison=Comparison(verbs=("fit", "reconstruct"), best="smallest"),
    )


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _codes()
    yield from _baselines()
    yield from _geometries()
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
        target=".scorevae.model:ScoreVAE",
        config=".config:ScoreVAEConfig",
        requires=(Port("prior", kind="score"), Port("data", kind="data")),
        provides=("Trainable", "Encodes", "EncodesNoise"),
        summary="An auto-encoder from a frozen score model: only an encoder is trained, Bayes' rule for scores decodes",
        figures=".scorevae.diagnosis:scorevae_figures",
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
        target=".scorevae.plus:ScoreVAEPlus",
        config=".config:ScoreVAEPlusConfig",
        revision=2,
        requires=(Port("code", kind="score", needs=("EncodesNoise",)), Port("data", kind="data", optional=True)),
        provides=("Trainable", "Encodes", "EncodesNoise"),
        summary="A trained ScoreVAE with a network that corrects its score given the code",
        figures=".scorevae.diagnosis:scorevae_figures",
        examples=(
            {"config": brief, "inputs": {"code": as_built}},
            {"config": {**brief, "encoder_term": False, "weighting": "likelihood"}, "inputs": {"code": as_built}},
        ),
        cite="citation.bib",
    )


def _baselines() -> Iterable[Component]:
    sphere = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 4, "points": 400}}
    digits = {"use": "data:digits", "config": {"limit": 100}}
    network = {"use": "network:mlp", "config": {"width": 32, "blocks": 1}}
    levels = {"channels": [8, 16], "blocks": 1, "groups": 4}
    training = {"steps": 100}
    yield Component(
        kind="autoencoder",
        name="vae",
        target=".vae:VAE",
        config=".config:VAEConfig",
        requires=(Port("data", kind="data"),),
        provides=("Trainable", "Encodes"),
        summary="A variational auto-encoder with a Gaussian decoder, at a beta or at a KL divergence",
        examples=(
            {
                "config": {"latent": 2, "encoder": network, "decoder": network, "beta": 0.1, "training": training},
                "inputs": {"data": sphere},
            },
            {
                "config": {
                    "latent": 3,
                    "encoder": {"use": "network:half-unet", "config": levels},
                    "decoder": {"use": "network:mirror-decoder", "config": levels},
                    "loss": "norm",
                    "target_kl": 4.0,
                    "output": "bounded",
                    "residual": "isotropic",
                    "training": training,
                },
                "inputs": {"data": digits},
            },
        ),
        cite="cite/vae.bib",
    )
    decoder = {"latent": 2, "encoder": network, "network": network, "training": training}
    yield Component(
        kind="score",
        name="diff-decoder",
        target=".diff_decoder:DiffDecoder",
        config=".config:DiffDecoderConfig",
        requires=(Port("data", kind="data"),),
        provides=("Trainable", "Encodes", "EncodesNoise"),
        summary="A score given a code, trained from scratch together with the encoder of the code",
        examples=(
            {"config": {**decoder, "process": "vp"}, "inputs": {"data": sphere}},
            {"config": {**decoder, "beta": 0.0, "condition_dropout": 0.1}, "inputs": {"data": sphere}},
        ),
        cite="cite/diff_decoder.bib",
    )


def _geometries() -> Iterable[Component]:
    sphere = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 3, "points": 100}}
    coupling = {"use": "flow:affine-coupling", "config": {"layers": 2, "hidden": [16]}, "inputs": {"data": sphere}}
    yield Component(
        kind="geometry",
        name="decoder",
        target=".decoder_geometry:DecoderGeometry",
        config=".config:DecoderGeometryConfig",
        requires=(Port("model", kind=("autoencoder", "score", "flow", "estimator"), optional=True),),
        provides=("Transports",),
        summary="Codes measured by what a decoder makes of them: geodesics solved by numbers under any decoder",
        examples=(
            {"inputs": {"model": {"use": "flow:banana"}}},
            {"inputs": {"model": coupling}},
        ),
        figures=".decoder_geometry:decoder_geometry_figures",
        cite="cite/decoder_geometry.bib",
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
            target=f".half_unet:{target}",
            config=f".config:{config}",
            summary=summary,
            examples=({"config": small}, {"config": {**small, "attention": [1], "middle_attention": False}}),
            cite="cite/unet.bib",
        )
    yield Component(
        kind="network",
        name="conv-decoder",
        target=".half_unet:ConvDecoder",
        config=".config:ConvDecoderConfig",
        summary="Transposed convolutions alone, from vectors to images",
        examples=({"config": {"channels": [8, 16]}}, {"config": {"channels": [4]}}),
        cite="citation.bib",
    )


def _sources() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="textured-blobs",
        target=".textured_blobs:TexturedBlobs",
        config=".config:TexturedBlobsConfig",
        summary="Images of a blob on a grid of centres under a Gaussian texture, whose distribution is known",
        examples=({"config": {"points": 200}},),
        cite="citation.bib",
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
