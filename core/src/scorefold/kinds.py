"""The kinds and capabilities that core knows, as data: a plugin adds its own in exactly this form."""

from __future__ import annotations

from scorefold.plugin import Capability, Comparison, Kind

LATENT_VERBS = ("encode", "reconstruct", "generate", "interpolate", "traverse", "edit", "latents")
"""What a user does with latent codes: verbs of any kind whose components may provide ``Encodes``."""

_MODEL_VERBS = ("fit", "sample", "evaluate", "outliers", "assess", *LATENT_VERBS)

_HELD_OUT = Comparison(verbs=("fit", "evaluate"), best="smallest")

CORE_CAPABILITIES: tuple[Capability, ...] = (
    Capability("Trainable", "scorefold.interfaces:Trainable", "It can be trained"),
    Capability(
        "Encodes",
        "scorefold.interfaces:Encodes",
        "It has latent codes",
        Comparison(verbs=("fit", "reconstruct"), best="smallest"),
    ),
    Capability("EncodesNoise", "scorefold.interfaces:EncodesNoise", "Code and noise give an event back"),
    Capability("Transports", "scorefold.interfaces:Transports", "It has parallel transport"),
    Capability("ClosedFormGeodesics", "scorefold.interfaces:ClosedFormGeodesics", "Its geodesics cost no solver"),
)

CORE_KINDS: tuple[Kind, ...] = (
    Kind(
        "data",
        interface="scorefold.interfaces:DataSource",
        verb_names=("load",),
        summary="A source of points, in disjoint splits",
    ),
    Kind(
        "network",
        interface="scorefold.interfaces:Network",
        summary="A builder of networks, named inside a component's config",
    ),
    Kind(
        "score",
        interface="scorefold.interfaces:ScoreModel",
        verb_names=_MODEL_VERBS,
        summary="A model of the score of noised data",
        comparison=_HELD_OUT,
    ),
    Kind(
        "flow",
        interface="scorefold.interfaces:Flow",
        verb_names=_MODEL_VERBS,
        summary="An invertible map between data and a base distribution",
        comparison=_HELD_OUT,
    ),
    Kind(
        "geometry",
        interface="scorefold.interfaces:Geometry",
        verb_names=("build", "interpolate"),
        summary="A Riemannian metric on events",
        comparison=Comparison(verbs=("interpolate",), best="smallest"),
    ),
    Kind(
        "estimator",
        interface="scorefold.interfaces:Estimator",
        verb_names=("estimate", *LATENT_VERBS),
        summary="A number about data, with its uncertainty",
        comparison=Comparison(verbs=("estimate",)),
    ),
    Kind(
        "allocator",
        interface="scorefold.interfaces:Allocator",
        verb_names=("allocate",),
        summary="A plan for spending labels across tasks",
        comparison=Comparison(
            verbs=("allocate",),
            best="smallest",
            cases={f"budget-{budget}": {"options": {"budget": budget}} for budget in (100, 1000, 10000)},
        ),
    ),
)
