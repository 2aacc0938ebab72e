"""The kinds that core knows, as data: a plugin adds its own in exactly this form. Plugins give them their verbs."""

from __future__ import annotations

from collections.abc import Mapping

from scorefold.plugin import Comparison, Kind

CAPABILITY_NAMES = (
    "Trainable",
    "Encodes",
    "EncodesNoise",
    "Transports",
    "ClosedFormGeodesics",
    "Potential",
    "TaskSource",
)
"""The capabilities by name, in the order of ``scorefold.interfaces.capabilities.CAPABILITIES``, which needs torch."""

LATENT_VERBS = ("encode", "reconstruct", "generate", "interpolate", "traverse", "edit", "latents")
"""What a user does with latent codes: verbs of any kind whose components may provide ``Encodes``."""

_MODEL_VERBS = ("fit", "sample", "evaluate", "outliers", "assess", *LATENT_VERBS)

_HELD_OUT = Comparison(verbs=("fit", "evaluate"), best="smallest")

CAPABILITY_COMPARISONS: Mapping[str, Comparison] = {
    "Encodes": Comparison(verbs=("fit", "reconstruct"), best="smallest"),
}
"""How components of any kind that provide a capability are compared; those of no other capability can be."""

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
        summary="An invertible map between data and a base law",
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
