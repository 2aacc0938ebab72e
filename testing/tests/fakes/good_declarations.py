"""What the fakes that keep every check are declared as: components and verbs, for those with fakes' host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Component, Port, Verb
from scorefold_testing import verb

DATA = Port("data", kind="data")
POINTS = {"use": "data:points"}


def declare(kind: str, name: str, target: str, **more: Any) -> Component:
    """A component of the fakes; ``target`` is ``module:Class``."""
    return Component(
        kind, name, **{"target": target, "config": "light_config:PlainConfig", "summary": "a fake", **more}
    )


DATA_FED: Mapping[str, Any] = {"requires": (DATA,), "examples": ({"inputs": {"data": POINTS}},)}
TRAINED: Mapping[str, Any] = {**DATA_FED, "provides": ("Trainable",)}
CLASSES: Mapping[str, Any] = {**TRAINED, "examples": ({"inputs": {"data": {"use": "data:pixels"}}},)}
FILE: Mapping[str, Any] = {
    "config": "light_config:FileConfig",
    "examples": ({"config": {"path": str(Path(__file__).with_name("numbers.txt"))}},),
}
BATCHED: Mapping[str, Any] = {"config": "light_config:BatchConfig", "ranges": {"dimension": (1, 3)}}
SCORED: Mapping[str, Any] = {
    "config": "light_config:BatchConfig",
    "requires": (Port("score", kind="score"),),
    "examples": ({"inputs": {"score": {"use": "score:gaussian", "inputs": {"data": POINTS}}}},),
}
CURVED = ("Transports", "ClosedFormGeodesics")
ABLE = ("Encodes", "Potential", "TaskSource")
NOISY = ("EncodesNoise", *ABLE)

COUNTED: Mapping[str, Any] = {"use": "network:sums", "inputs": {"data": POINTS, "more": [POINTS]}}
COUNT = Verb(
    "count",
    takes=(DATA, Port("more", kind="data", many=True)),
    gives="metrics",
    target="good_fakes:count",
    options="light_config:PlainConfig",
    figures="good_fakes:picture",
    examples=({**COUNTED, "use": "flow:small", "options": {}},),
)
WARM = Verb("warm", takes=(), gives="", target="good_fakes:warm", examples=({"use": "metric:mean-gap"},))

COMPONENTS: tuple[Component, ...] = (
    verb.verb_as_component(COUNT),
    verb.verb_as_component(WARM, "metric"),
    declare("data", "points", "good_fakes:Points"),
    declare("data", "pixels", "good_fakes:Pixels"),
    declare("data", "filed", "good_fakes:Filed", **FILE),
    declare("score", "gaussian", "good_fakes:GaussianScore", **TRAINED),
    declare("score", "classes", "good_fakes:GaussianScore", **CLASSES),
    declare("flow", "small", "good_fakes:SmallFlow", **TRAINED),
    declare("flow", "classes", "good_fakes:SmallFlow", **CLASSES),
    declare("geometry", "sinh", "good_fakes:SinhGeometry", provides=CURVED, figures="good_fakes:draw"),
    declare("estimator", "neighbours", "good_fakes:Neighbours", **BATCHED),
    declare("estimator", "fed", "good_fakes:Fed", **SCORED),
    declare("allocator", "tens", "good_fakes:Tens", summary="a baseline"),
    declare("allocator", "renewed", "good_fakes:Renewed", summary="a baseline", revision=2),
    declare("allocator", "refusing", "good_fakes:Tens", summary="a baseline", revision=2),
    declare("allocator", "searching", "good_fakes:Searching"),
    declare("allocator", "cited", "cited_fakes:Tens", summary="a baseline", cite="good.bib"),
    declare("network", "sums", "good_fakes:Sums"),
    declare("metric", "mean-gap", "good_fakes:MeanGap"),
    declare("toy", "toy", "good_fakes:Toy", provides=ABLE),
    declare("toy", "noisy", "good_fakes:Noisy", provides=NOISY),
    declare("toy", "whole", "good_fakes:Whole", provides=ABLE),
)
