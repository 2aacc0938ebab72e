"""The kinds that core knows, as data: a plugin adds its own in exactly this form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scorefold.plugin import Comparison, Kind, Port, Verb

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

_DATA = Port("data", kind="data")
_TRAINING_DATA = Port("data", kind="data", optional=True, when="Trainable")
# An estimator that reads the data alone passes over a model, so that swapping estimators is one word in a run file.
_MODELS = (Port("score", kind="score", optional=True), Port("flow", kind="flow", optional=True))

_FIT_SCORE = Verb(
    "fit",
    takes=(_TRAINING_DATA,),
    gives="score",
    target="scorefold.verbs:fit",
    figures="scorefold.event_figures:training",
)
_FIT_FLOW = replace(_FIT_SCORE, gives="flow")
_SAMPLE = Verb(
    "sample",
    takes=(Port("data", kind="data", optional=True),),
    gives="data",
    target="scorefold.verbs:sample",
    options="scorefold.verb_options:SampleOptions",
    figures="scorefold.event_figures:samples",
)
_LOG_LIKELIHOOD = Verb(
    "evaluate",
    takes=(_DATA,),
    gives="metrics",
    target="scorefold.likelihood:evaluate_likelihood",
    options="scorefold.verb_options:LikelihoodOptions",
    figures="scorefold.figures:likelihood",
)
_ASSESS = Verb(
    "assess",
    takes=(_DATA,),
    gives="metrics",
    target="scorefold.assessment:assess",
    options="scorefold.verb_options:AssessOptions",
    figures="scorefold.figures_assess:assessment",
)
_OUTLIERS = Verb(
    "outliers",
    takes=(_DATA, Port("unusual", kind="data", optional=True)),
    gives="metrics",
    target="scorefold.outliers:outliers",
    options="scorefold.verb_options:OutlierOptions",
    figures="scorefold.figures:outlier_scores",
)


def _of_codes(
    name: str, gives: str, target: str, options: str, figures: str, *further: Port, optional: bool = False
) -> Verb:
    """A verb of latent codes."""
    return Verb(
        name,
        takes=(Port("data", kind="data", optional=optional), *further),
        gives=gives,
        target=f"scorefold.{target}:{name}",
        options=f"scorefold.{options}",
        needs=("Encodes",),
        figures=f"scorefold.{figures}",
    )


LATENT_VERBS: tuple[Verb, ...] = (
    _of_codes("encode", "data", "latent_verbs", "verb_options:EncodeOptions", "event_figures:samples"),
    _of_codes(
        "reconstruct",
        "metrics",
        "latent_quality",
        "latent_options:ReconstructOptions",
        "figures_latent:reconstructions",
        Port("beside", kind=("score", "flow", "estimator", "autoencoder"), needs=("Encodes",), optional=True),
    ),
    _of_codes(
        "generate", "data", "latent_quality", "latent_options:GenerateOptions", "event_figures:samples", optional=True
    ),
    _of_codes("interpolate", "data", "latent_verbs", "latent_options:InterpolateCodesOptions", "figures_latent:rows"),
    _of_codes("traverse", "data", "latent_verbs", "latent_options:TraverseOptions", "figures_latent:rows"),
    _of_codes("edit", "data", "latent_verbs", "latent_options:EditOptions", "figures_latent:rows"),
    _of_codes("latents", "metrics", "latent_diagnosis", "latent_options:LatentsOptions", "figures_latent:latents"),
)
"""What a user does with latent codes: the verbs of any kind whose components may provide ``Encodes``."""

_HELD_OUT = Comparison(verbs=("fit", "evaluate"), best="smallest")

CAPABILITY_COMPARISONS: Mapping[str, Comparison] = {
    "Encodes": Comparison(verbs=("fit", "reconstruct"), best="smallest"),
}
"""How components of any kind that provide a capability are compared; those of no other capability can be."""

CORE_KINDS: tuple[Kind, ...] = (
    Kind(
        "data",
        interface="scorefold.interfaces:DataSource",
        verbs=(Verb("load", takes=(), gives="data", target="scorefold.verbs:load", figures="scorefold.figures:data"),),
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
        verbs=(_FIT_SCORE, _SAMPLE, _LOG_LIKELIHOOD, _OUTLIERS, _ASSESS, *LATENT_VERBS),
        summary="A model of the score of noised data",
        comparison=_HELD_OUT,
    ),
    Kind(
        "flow",
        interface="scorefold.interfaces:Flow",
        verbs=(_FIT_FLOW, _SAMPLE, _LOG_LIKELIHOOD, _OUTLIERS, _ASSESS, *LATENT_VERBS),
        summary="An invertible map between data and a base law",
        comparison=_HELD_OUT,
    ),
    Kind(
        "geometry",
        interface="scorefold.interfaces:Geometry",
        verbs=(
            Verb(
                "build",
                takes=(Port("data", kind="data", optional=True),),
                gives="geometry",
                target="scorefold.verbs:build",
                figures="scorefold.figures:geometry",
            ),
            Verb(
                "interpolate",
                takes=(_DATA,),
                gives="data",
                target="scorefold.verbs:interpolate",
                options="scorefold.verb_options:InterpolateOptions",
                figures="scorefold.event_figures:samples",
            ),
        ),
        summary="A Riemannian metric on events",
        comparison=Comparison(verbs=("interpolate",), best="smallest"),
    ),
    Kind(
        "estimator",
        interface="scorefold.interfaces:Estimator",
        verbs=(
            Verb(
                "estimate",
                takes=(_DATA, *_MODELS, Port("repeats", kind="estimate", many=True, optional=True)),
                gives="estimate",
                target="scorefold.verbs:estimate",
                options="scorefold.verb_options:EstimateOptions",
                figures="scorefold.figures:estimate",
            ),
            *LATENT_VERBS,
        ),
        summary="A number about data, with its uncertainty",
        comparison=Comparison(verbs=("estimate",)),
    ),
    Kind(
        "allocator",
        interface="scorefold.interfaces:Allocator",
        verbs=(
            Verb(
                "allocate",
                takes=(),
                gives="allocation",
                target="scorefold.verbs:allocate",
                options="scorefold.verb_options:AllocateOptions",
                figures="scorefold.event_figures:allocation",
            ),
        ),
        summary="A plan for spending labels across tasks",
        comparison=Comparison(
            verbs=("allocate",),
            best="smallest",
            cases={f"budget-{budget}": {"options": {"budget": budget}} for budget in (100, 1000, 10000)},
        ),
    ),
)
