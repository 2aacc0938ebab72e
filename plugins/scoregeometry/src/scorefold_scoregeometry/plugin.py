"""Components of this plugin: geometries of score models, flows, data points and metrics, solved by numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scorefold.plugin import Component, Port, hookimpl

__plugin_api__ = "1.0"

_PLANE = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 200}}
_SCORE = {"use": "score:analytic", "inputs": {"data": _PLANE}}
_VP = {"use": "score:analytic", "config": {"process": "vp"}, "inputs": {"data": _PLANE}}
_BANANA = {"flow": {"use": "flow:banana"}, "data": {"use": "data:banana", "config": {"points": 200}}}
_MODEL = (
    Port("score", kind="score", optional=True),
    Port("flow", kind="flow", optional=True),
    Port("data", kind="data", whole=True),
)
_DATA = (Port("data", kind="data", whole=True),)


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield _geometry(
        "score",
        "from_density:ScoreGeometry",
        "ScoreGeometryConfig",
        _MODEL,
        "The score metric of any score model or flow, and its family: paths that keep to a level of the density",
        {"inputs": {"score": _VP, "data": _PLANE}},
        {"config": {"form": "residual", "noise": 0.5}, "inputs": {"score": _SCORE, "data": _PLANE}},
        {"config": {"weight": 0.5}, "inputs": _BANANA},
    )
    yield _geometry(
        "density",
        "from_density:DensityGeometry",
        "DensityMetricConfig",
        _MODEL,
        "Conformal metrics of a score model or flow: short where the energy is low, or the density high",
        {"inputs": {"score": _VP, "data": _PLANE}},
        {"config": {"form": "inverse"}, "inputs": {"score": _SCORE, "data": _PLANE}},
    )
    yield _geometry(
        "fermat",
        "from_density:FermatGeometry",
        "FermatConfig",
        _MODEL,
        "Fermat's metric of a score model or flow, a power of the inverse density: paths through high density",
        {"inputs": {"score": _VP, "data": _PLANE}},
        {"config": {"exponent": 0.5}, "inputs": _BANANA},
    )
    yield _geometry(
        "land",
        "from_points:LandGeometry",
        "LandConfig",
        _DATA,
        "LAND, a metric of data points alone: short along the directions in which neighbours vary",
        {"config": {"gamma": 1.0, "eps": 0.1}, "inputs": {"data": _PLANE}},
    )
    yield _geometry(
        "rbf",
        "from_points:RbfGeometry",
        "RbfConfig",
        _DATA,
        "RBF, a conformal metric of data points alone: short near radial functions fitted to them",
        {"config": {"centres": 10, "eps": 0.1}, "inputs": {"data": _PLANE}},
    )
    yield _geometry(
        "metric",
        "own:MetricGeometry",
        "MetricConfig",
        (),
        "Geodesics of a metric G(x), or of a log-density, that a function of yours gives",
        {"config": {"target": "scorefold_scoregeometry.examples:paraboloid", "dimension": 2}},
        {"config": {"target": "scorefold_scoregeometry.examples:normal", "dimension": 3, "returns": "log_prob"}},
    )


def _geometry(
    name: str, target: str, config: str, requires: tuple[Port, ...], summary: str, *examples: Mapping[str, Any]
) -> Component:
    return Component(
        kind="geometry",
        name=name,
        target=f"scorefold_scoregeometry.{target}",
        config=f"scorefold_scoregeometry.config:{config}",
        requires=requires,
        provides=("Transports",),
        summary=summary,
        examples=examples,
        figures="scorefold_scoregeometry.diagnosis:geodesic_figures",
        cite=f"cite/{name}.bib",
    )
