"""Components of this plugin: an allocator of labels, and learning tasks and meta-learners to try allocations on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Capability, Claim, Component, Kind, Port, Verb, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"

_FEW: Mapping[str, Any] = {"cells": [{"tasks": 8, "support": 4, "query": 4}], "seeds": 1}
_SAMPLES = Path(__file__).parent / "samples"


@hookimpl
def scorefold_kinds() -> Iterable[Kind]:
    yield Kind(
        "learner",
        interface=".learners.interface:Learner",
        verbs=(
            Verb(
                "evaluate",
                takes=(Port("data", kind="data", needs=("TaskSource",)),),
                gives="metrics",
                target=".learners.trainer:evaluate_learner",
                options=".learners.config:EvaluateOptions",
                examples=(
                    {
                        "use": "learner:linear",
                        "inputs": {"data": {"use": "data:linear-tasks"}},
                        "options": _FEW,
                    },
                    {
                        "use": "learner:prototypes",
                        "config": {"updates": 8, "new_tasks": {"tasks": 10}, "validation": {"tasks": 5, "every": 4}},
                        "inputs": {"data": {"use": "data:digit-rotations"}},
                        "options": _FEW,
                    },
                ),
            ),
        ),
        summary="A meta-learner that reports how well an allocation of labels trains it",
    )


@hookimpl
def scorefold_capabilities() -> Iterable[Capability]:
    yield Capability("TaskSource", ".data.batch:TaskSource", "It gives learning tasks")


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield _allocator()
    yield from _sources()
    yield from _learners()


def _allocator() -> Component:
    hard = {"name": "hard", "noise": 2.0, "ways": 2}
    few = [{"name": "easy", "noise": 0.3, "max_tasks": 30, "max_labels": 20}, hard]
    rough = {"max_designs": 200, "sizes": 6}
    apart = {"task_types": few, "split": {"name": "free"}, "weighting": "task-mean"}
    return Component(
        kind="allocator",
        name="meta",
        target=".allocator:MetaAllocator",
        config=".config:MetaConfig",
        summary="The best labels per task for a meta-learner: by closed form, by simulation, or by trying one",
        requires=(
            Port("learner", kind="learner", optional=True),
            Port("tasks", kind="data", needs=("TaskSource",), optional=True),
        ),
        examples=(
            {},
            {"config": {"engine": "monte-carlo", "linear": {"dimension": 4}, "present": 40, "monte_carlo": rough}},
            {"config": apart},
        ),
        figures=".allocator:allocation_figures",
        known_failures={"near-optimum[2]": "a pilot is tried on tasks of one type, and this example has two"},
        cite="citation.bib",
    )


def _sources() -> Iterable[Component]:
    types: dict[str, list[dict[str, Any]]] = {
        "linear": [{"name": "easy", "noise": 0.3}, {"name": "hard", "spread": 2.0, "share": 0.5}],
        "noisy": [{"name": "easy"}, {"name": "hard", "label_noise": 0.2}],
    }
    few_shot = {"root": str(_SAMPLES / "few-shot"), "ways": 2}
    offered: tuple[tuple[str, str, str, str, str, tuple[dict[str, Any], ...]], ...] = (
        (
            "linear-tasks",
            "regression:LinearTasks",
            "LinearTasksConfig",
            "Linear regressions whose weights lie around a common centre",
            "linear.bib",
            ({"dimension": 5}, {"dimension": 3, "types": types["linear"]}),
        ),
        (
            "sinusoid-tasks",
            "regression:SinusoidTasks",
            "SinusoidTasksConfig",
            "Regressions of sinusoids of random amplitude and phase",
            "maml.bib",
            ({}, {"noise": 0.1}),
        ),
        (
            "digit-rotations",
            "classes:DigitRotations",
            "DigitRotationsConfig",
            "Few-shot tasks of scikit-learn's digits turned by quarters, 40 classes",
            "citation.bib",
            ({}, {"flatten": False, "types": types["noisy"]}),
        ),
        (
            "few-shot-folders",
            "folders:FewShotFolders",
            "FewShotFoldersConfig",
            "Few-shot tasks of images in folders, as CIFAR-FS or mini-ImageNet is published",
            "few_shot.bib",
            (few_shot, {**few_shot, "size": 6, "grey": True, "memory": 0.0}),
        ),
    )
    for name, target, config, summary, cite, examples in offered:
        yield Component(
            kind="data",
            name=name,
            target=f".data.{target}",
            config=f".data.config:{config}",
            provides=("TaskSource",),
            summary=summary,
            examples=tuple({"config": example} for example in examples),
            cite=cite if cite == "citation.bib" else f"cite/{cite}",
        )
    digits = {"use": "data:digits", "config": {"limit": 400}}
    yield Component(
        kind="data",
        name="few-shot",
        target=".data.labelled:FewShot",
        config=".data.config:FewShotConfig",
        requires=(Port("data", kind="data", default={"use": "data:digits"}, whole=True),),
        provides=("TaskSource",),
        summary="Few-shot tasks from the classes of any labelled source, divided among the splits",
        examples=(
            {"config": {"ways": 3, "validation": [3, 4, 5]}, "inputs": {"data": digits}},
            {
                "config": {
                    "ways": 5,
                    "train": [0, 1, 2],
                    "validation": [7, 8],
                    "types": types["noisy"],
                    "turned": True,
                },
                "inputs": {"data": digits},
            },
        ),
        cite="cite/few_shot.bib",
    )


def _learners() -> Iterable[Component]:
    brief: dict[str, Any] = {"updates": 8, "new_tasks": {"tasks": 10}, "validation": {"tasks": 5, "every": 4}}
    conv = {"network": {"name": "conv", "channels": 4, "blocks": 2}, "measure": "accuracy"}
    offered: tuple[tuple[str, str, str, str, str, tuple[dict[str, Any], ...]], ...] = (
        (
            "linear",
            "methods:LinearMAML",
            "LinearLearnerConfig",
            "One-step MAML on linear regression, solved exactly",
            "linear.bib",
            ({}, {"rate": 0.2, "new_tasks": {"support": "tied", "rate": 0.3}}),
        ),
        (
            "maml",
            "methods:EpisodicLearner",
            "MAMLConfig",
            "Weights from which a few gradient steps fit a task, by gradients of second or first order",
            "maml.bib",
            (brief, {**brief, **conv, "order": "first", "split": "fixed"}),
        ),
        (
            "anil",
            "methods:EpisodicLearner",
            "ANILConfig",
            "MAML whose last layer alone adapts to a task",
            "anil.bib",
            (brief,),
        ),
        (
            "prototypes",
            "methods:EpisodicLearner",
            "PrototypesConfig",
            "Classes by the nearest mean of their support points in a trained embedding",
            "prototypes.bib",
            (brief, {**brief, **conv, "measure": "loss"}),
        ),
        (
            "callable",
            "function:CallableLearner",
            "CallableLearnerConfig",
            "A function of yours, which trains and tests",
            "citation.bib",
            ({"target": "scorefold_allocation.learners.function:pooled_ridge", "options": {"penalty": 0.1}},),
        ),
    )
    for name, target, config, summary, cite, examples in offered:
        yield Component(
            kind="learner",
            name=name,
            target=f".learners.{target}",
            config=f".learners.config:{config}",
            summary=summary,
            examples=tuple({"config": example} for example in examples),
            cite=cite if cite == "citation.bib" else f"cite/{cite}",
        )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
