"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from scorefold.plugin import Component, Kind, Port, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_kinds() -> Iterator[Kind]:
    yield Kind("toy-shape", ".impl:Shape", summary="A shape with a size")


@hookimpl
def scorefold_components() -> Iterator[Component]:
    yield Component("estimator", "toy-mean", ".impl:Mean", ".impl:MeanConfig", "A mean")
    yield Component("estimator", "toy-misdeed", ".impl:Misdeed", ".impl:MisdeedConfig", "It does what its config says")
    yield Component("data", "toy-points", ".impl:Points", ".impl:PointsConfig", "Points of a normal distribution")
    yield Component("data", "toy-file", ".impl:File", ".impl:FileConfig", "Points of a file")
    yield Component(
        "estimator",
        "toy-port",
        ".impl:OfPort",
        ".impl:MeanConfig",
        "A mean of its own data",
        requires=(Port("reference", kind=("data", "estimator"), whole=True),),
    )
    yield Component(
        "estimator",
        "toy-any",
        ".impl:OfPort",
        ".impl:MeanConfig",
        "A mean next to a network",
        requires=(Port("reference", kind="network"),),
    )
    yield Component(
        "estimator",
        "toy-asks",
        ".models:Asks",
        "scorefold.config:Config",
        "Numbers of a score",
        requires=(Port("score", kind="score"),),
    )
    yield Component("score", "toy-score", ".models:Score", ".models:ModelConfig", "A score of its own")
    yield Component("score", "toy-bound", ".models:Bound", ".models:ModelConfig", "A score bound in its own way")
    yield Component(
        "score",
        "toy-trained",
        ".models:Trained",
        ".models:TrainedConfig",
        "A score that is trained",
        provides=("Trainable",),
    )
    yield Component(
        "score",
        "toy-asking",
        ".models:Asking",
        ".models:TrainedConfig",
        "A score whose constructor asks",
        requires=(Port("reference", kind="estimator", whole=True),),
        provides=("Trainable",),
    )
    yield Component("flow", "toy-flow", ".models:Shear", ".models:ModelConfig", "A flow of two coordinates")
    yield Component(
        "geometry", "toy-geometry", ".models:Wide", "scorefold.config:Config", "A geometry", provides=("Transports",)
    )
    yield Component("network", "toy-network", ".impl:Layer", "scorefold.config:Config", "A network")
    yield Component("toy-shape", "toy-square", ".impl:Square", ".impl:SquareConfig", "A square")
    yield Component(
        "estimator",
        "toy-sized",
        ".impl:Sized",
        ".impl:SizedConfig",
        "A size of a network's answer",
        requires=(Port("shape", kind="toy-shape"),),
    )
