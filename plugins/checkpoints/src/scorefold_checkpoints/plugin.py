"""Components of this plugin: score models from published checkpoints and from own networks, and latents as data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scorefold.plugin import Capability, Component, Port, hookimpl

__plugin_api__ = "1.0"

_SAMPLES = Path(__file__).parent / "samples"
_LATENT = {"path": str(_SAMPLES / "latent")}
_DIGITS = {"use": "data:digits", "config": {"limit": 100}}
_OWN = {"parametrisation": "velocity", "schedule": "flow", "event_shape": [1, 2, 2]}
_ELSEWHERE = "the network and its scheduler are described by the folder that it was published in"

_META = "torch moves TorchScript to every device but meta, which is the one that is tried"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _scores()
    yield from _sources()


def _scores() -> Iterable[Component]:
    yield Component(
        kind="score",
        name="diffusers",
        revision=2,
        target=".diffusers.score:DiffusersScore",
        config=".config:DiffusersConfig",
        summary="A diffusers network and its scheduler, from a folder or from the Hugging Face cache",
        requires=(Port("data", kind="data", optional=True),),
        provides=("DecodesLatents",),
        examples=({"config": {"path": str(_SAMPLES / "diffusers")}}, {"config": {**_LATENT, "space": "latent"}}),
        known_failures={f"bundle-stands-alone{example}": _ELSEWHERE for example in ("", "[1]")},
        cite="citation.bib",
    )
    yield Component(
        kind="score",
        name="callable",
        target=".own.score:NetworkScore",
        config=".config:CallableConfig",
        summary="A network of your own from a Python module, with its parametrisation and its schedule",
        requires=(Port("data", kind="data", optional=True),),
        examples=({"config": {**_OWN, "network": "scorefold_checkpoints.own.example:NormalVelocity"}},),
    )
    yield Component(
        kind="score",
        name="exported",
        aliases=("torchscript",),
        target=".own.score:NetworkScore",
        config=".config:ExportedConfig",
        summary="A network from an archive of torch.export or TorchScript, with its parametrisation and its schedule",
        requires=(Port("data", kind="data", optional=True),),
        examples=({"config": {**_OWN, "path": str(_SAMPLES / "normal.pt")}},),
        known_failures={
            "bundle-stands-alone": "the program of the network is in its archive",
            **dict.fromkeys(("device-arrives", "device-followed", "other-device-refused"), _META),
        },
    )


def _sources() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="activations",
        target=".own.activations:Activations",
        config=".config:ActivationsConfig",
        summary="The output of a layer of a network of your own, as data: its representations",
        requires=(Port("data", kind="data", whole=True),),
        examples=(
            {
                "config": {"network": "scorefold_checkpoints.own.example:small_classifier", "layer": "1"},
                "inputs": {"data": _DIGITS},
            },
        ),
    )
    yield Component(
        kind="data",
        name="latents",
        target=".diffusers.latent:Latents",
        config=".config:LatentsConfig",
        summary="Images as latents of a published model's autoencoder",
        requires=(Port("data", kind="data", whole=True),),
        examples=({"config": _LATENT, "inputs": {"data": _DIGITS}},),
    )
    latent = {"use": "score:diffusers", "config": {**_LATENT, "space": "latent"}}
    latents = {"use": "data:latents", "config": _LATENT, "inputs": {"data": _DIGITS}}
    yield Component(
        kind="data",
        name="decoded",
        target=".diffusers.latent:DecodedLatents",
        config=".config:DecodedConfig",
        summary="Latents of a latent model, such as its samples, as images",
        requires=(
            Port("model", kind="score", needs=("DecodesLatents",)),
            Port("latents", kind="data", whole=True),
        ),
        examples=({"inputs": {"model": latent, "latents": latents}},),
        known_failures={"device-arrives": "an image is decoded to know its shape, and meta, which is tried, has none"},
    )


@hookimpl
def scorefold_capabilities() -> Iterable[Capability]:
    yield Capability("DecodesLatents", ".diffusers.latent:DecodesLatents", "It shows its latents as images")
