"""Components of this plugin: the verbs of core's kinds, and the verbs of latent codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scorefold.plugin import Component, Kind, Port, Verb, hookimpl

__plugin_api__ = "1.0"

_DATA = Port("data", kind="data")
_ANY_DATA = Port("data", kind="data", optional=True)
_TRAINING_DATA = Port("data", kind="data", optional=True, when="Trainable")
# An estimator that reads the data alone passes over a model, so that swapping estimators is one word in a run file.
_MODELS = tuple(Port(kind, kind=kind, optional=True, passed_over=True) for kind in ("score", "flow"))


_SPLIT = {"points": 120, "fractions": [0.5, 0, 0.5]}
_SPHERE = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 3, **_SPLIT}}
_GROUPS = {"use": "data:gaussian-mixture", "config": _SPLIT}
_SMALL = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
_SHORT = {"steps": 3}


def _gaussian(**options: Any) -> tuple[Mapping[str, Any], ...]:
    """A verb of a score of three coordinates, and what it is asked."""
    config = {"gaussian": True, "process": {"name": "vp", "t_min": 1e-2}}
    return ({"use": "score:analytic", "config": config, "inputs": {"data": _SPHERE}, "options": options},)


def _codes(**options: Any) -> tuple[Mapping[str, Any], ...]:
    """A verb of the codes of an auto-encoder, and what it is asked."""
    config = {"latent": 2, "encoder": _SMALL, "decoder": _SMALL, "training": _SHORT}
    return ({"use": "autoencoder:vae", "config": config, "inputs": {"data": _GROUPS}, "options": options},)


@hookimpl
def scorefold_kinds() -> Iterable[Kind]:
    yield Kind(
        "metric",
        interface="scorefold_toolkit.metrics.measure:Metric",
        summary="Numbers for samples next to held-out points, which assess takes at its port metrics",
    )


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield Component(
        kind="metric",
        name="neighbours",
        target=".metrics:Neighbours",
        config=".config:NeighboursConfig",
        summary="Precision, recall, density and coverage by nearest neighbours",
        cite="citation.bib",
    )
    yield Component(
        kind="metric",
        name="tarp",
        target=".posterior:TARP",
        config=".config:TARPConfig",
        summary="Expected coverage of draws from a posterior by balls around random points, with a p-value",
        cite="citation.bib",
    )
    yield Component(
        kind="metric",
        name="lc2st",
        target=".posterior:LC2ST",
        config=".config:LC2STConfig",
        summary="Whether a classifier separates draws from truths at single conditions, with its null",
        cite="citation.bib",
    )
    yield Component(
        kind="metric",
        name="c2st",
        target=".metrics:C2ST",
        config=".config:C2STConfig",
        summary="How well a classifier separates draws from reference draws of the posterior, as sbibm measures it",
        cite="citation.bib",
    )


@hookimpl
def scorefold_verbs() -> Iterable[Verb]:
    yield Verb(
        "load",
        takes=(),
        gives="data",
        target=".load:load",
        figures=".load:data",
        examples=(_SPHERE,),
    )
    yield Verb(
        "fit",
        takes=(_TRAINING_DATA,),
        gives="",
        target=".fit:fit",
        figures="scorefold_toolkit.figures:training",
        examples=(
            {"use": "score:denoising", "config": {"network": _SMALL, "training": _SHORT}, "inputs": {"data": _SPHERE}},
        ),
    )
    yield from _of_models()
    yield from _of_geometries()
    yield Verb(
        "estimate",
        takes=(_DATA, *_MODELS, Port("repeats", kind="estimate", many=True, optional=True)),
        gives="estimate",
        target=".estimate:estimate",
        options=".config:EstimateOptions",
        figures=".figures:estimate_figures",
        examples=({"use": "estimator:pca", "inputs": {"data": _SPHERE}},),
    )
    yield Verb(
        "allocate",
        takes=(),
        gives="allocation",
        target=".estimate:allocate",
        options=".config:AllocateOptions",
        figures="scorefold_toolkit.figures:allocation",
        examples=({"use": "allocator:uniform", "options": {"budget": 100}},),
    )
    yield from _of_noise()
    yield from _of_codes()


def _of_models() -> Iterable[Verb]:
    """Verbs of scores and flows."""
    yield Verb(
        "sample",
        takes=(_ANY_DATA,),
        gives="data",
        target=".sample:sample",
        options=".config:SampleOptions",
        figures="scorefold_toolkit.figures:samples",
        examples=_gaussian(n=8, steps=4),
    )
    yield Verb(
        "evaluate",
        takes=(_DATA,),
        gives="metrics",
        target=".likelihoods:evaluate_likelihood",
        options=".config:LikelihoodOptions",
        figures=".figures:likelihood",
        examples=_gaussian(limit=8),
    )
    yield Verb(
        "outliers",
        takes=(_DATA, Port("unusual", kind="data", optional=True)),
        gives="metrics",
        target=".likelihoods:outliers",
        options=".config:OutlierOptions",
        figures=".figures:outlier_figures",
        examples=_gaussian(limit=16),
    )
    yield Verb(
        "assess",
        takes=(_DATA, Port("metrics", kind="metric", many=True, optional=True)),
        gives="metrics",
        target=".assess:assess",
        options=".config:AssessOptions",
        figures=".figures:assessment",
        examples=_gaussian(n=2, conditions=16, steps=4),
    )


def _of_geometries() -> Iterable[Verb]:
    yield Verb(
        "build",
        takes=(_ANY_DATA,),
        gives="geometry",
        target=".geometry:build",
        figures=".figures:geometry",
        examples=({"use": "geometry:euclidean", "inputs": {"data": _SPHERE}},),
    )
    yield Verb(
        "interpolate",
        kinds=("geometry",),
        takes=(_DATA,),
        gives="data",
        target=".geometry:interpolate",
        options=".config:InterpolateOptions",
        figures="scorefold_toolkit.figures:samples",
        examples=({"use": "geometry:euclidean", "inputs": {"data": _SPHERE}, "options": {"pairs": 4}},),
    )


def _of_noise() -> Iterable[Verb]:
    """Verbs of any score and any flow; components with codes of their own do the same with these."""
    for name, options, figures, asked in (
        ("encode", "EncodeNoiseOptions", "scorefold_toolkit.figures:samples", {"limit": 8}),
        ("interpolate", "InterpolateCodesOptions", ".figures:event_rows", {"pairs": 2, "times": 3}),
    ):
        yield Verb(
            name,
            kinds=("score", "flow"),
            takes=(_DATA,),
            gives="data",
            target=f".paths:{name}",
            options=f".config:{options}",
            figures=figures,
            examples=_gaussian(**asked, decoding={"steps": 8}),
        )


def _of_codes() -> Iterable[Verb]:
    """Verbs of components with latent codes."""
    beside = Port("beside", kind=("score", "flow", "estimator", "autoencoder"), needs=("Encodes",), optional=True)
    events, rows = "scorefold_toolkit.figures:samples", ".figures:event_rows"
    pictures = ".figures:reconstructions"
    yield _code_verb("encode", "data", "traverse", "EncodeOptions", events)
    yield _code_verb("reconstruct", "metrics", "reconstruct", "ReconstructOptions", pictures, _DATA, beside)
    yield _code_verb("generate", "data", "reconstruct", "GenerateOptions", events, _ANY_DATA)
    yield _code_verb("interpolate", "data", "traverse", "InterpolateCodesOptions", rows)
    yield _code_verb("traverse", "data", "traverse", "TraverseOptions", rows)
    yield _code_verb("edit", "data", "traverse", "EditOptions", rows, asked={"label": 0})
    yield _code_verb("latents", "metrics", "diagnose", "LatentsOptions", ".figures:latent_figures")


def _code_verb(
    name: str, gives: str, module: str, options: str, figures: str, *takes: Port, asked: Mapping[str, Any] | None = None
) -> Verb:
    return Verb(
        name,
        takes=takes or (_DATA,),
        gives=gives,
        target=f".latents.{module}:{name}",
        options=f".config:{options}",
        needs=("Encodes",),
        figures=figures,
        examples=_codes(**(asked or {})),
    )
