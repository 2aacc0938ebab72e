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


def _kind(name: str, interface: str, summary: str, verbs: tuple[str, ...], compared: Comparison | None = None) -> Kind:
    return Kind(name, f"scorefold.interfaces:{interface}", (), summary, compared, verbs)


_BUDGETS = {f"budget-{budget}": {"options": {"budget": budget}} for budget in (100, 1000, 10000)}
_PATHS = Comparison(verbs=("interpolate",), best="smallest")
_READ = Comparison(verbs=("estimate",))
_PLANS = Comparison(verbs=("allocate",), best="smallest", cases=_BUDGETS)

CORE_KINDS: tuple[Kind, ...] = (
    _kind("data", "DataSource", "A source of points, in disjoint splits", ("load",)),
    _kind("network", "Network", "A builder of networks, named inside a component's config", ()),
    _kind("score", "ScoreModel", "A model of the score of noised data", _MODEL_VERBS, _HELD_OUT),
    _kind("flow", "Flow", "An invertible map between data and a base distribution", _MODEL_VERBS, _HELD_OUT),
    _kind("geometry", "Geometry", "A Riemannian metric on events", ("build", "interpolate"), _PATHS),
    _kind("estimator", "Estimator", "A number about data, with its uncertainty", ("estimate", *LATENT_VERBS), _READ),
    _kind("allocator", "Allocator", "A plan for spending labels across tasks", ("allocate",), _PLANS),
)
