"""Components of this plugin: flows of images given images, and their baselines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scorefold.plugin import Claim, Component, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _flows()
    yield Component(
        kind="data",
        name="gaussian-pairs",
        target=".gaussian_pairs:GaussianPairs",
        config=".config:GaussianPairsConfig",
        summary="Images of a Gaussian field and a degraded version, with the conditional distribution",
        examples=({"config": {"points": 200}}, {"config": {"points": 200, "task": "inpainting"}}),
        cite="citation.bib",
    )


def _flows() -> Iterable[Component]:
    digits = {"use": "data:digits", "config": {"limit": 60}}
    pairs = {"use": "data:paired", "config": {"operator": {"name": "mask"}}, "inputs": {"data": digits}}
    small = {"use": "data:paired", "inputs": {"data": digits}}
    training = {"steps": 20, "batch_size": 16}
    steps = {"steps": 1, "hidden": 8}
    brief: dict[str, Any] = {"encoder": steps, "translation": steps, "training": training}
    examples: dict[str, tuple[dict[str, Any], ...]] = {
        "caflow": (
            {"config": brief, "inputs": {"data": pairs}},
            {"config": {**brief, "shared": True, "adapter": 8, "squeeze": "haar"}, "inputs": {"data": pairs}},
            {
                "config": {**brief, "scales": 1, "condition_size": "event", "dequantisation": "variational"},
                "inputs": {"data": small},
            },
            {"config": {**brief, "order": "staged-joint", "recompute": "inverse"}, "inputs": {"data": digits}},
        ),
        "dual-glow": (
            {"config": brief, "inputs": {"data": pairs}},
            {
                "config": {**brief, "preprocess": "logit", "translation": {**steps, "coupling": "mixture"}},
                "inputs": {"data": pairs},
            },
        ),
        "cinn": (
            {"config": {"flow": steps, "features": 8, "training": training}, "inputs": {"data": pairs}},
            {
                "config": {"flow": steps, "features": 8, "injectors": True, "training": training},
                "inputs": {"data": small},
            },
        ),
    }
    variational = "its noise within a level follows a distribution of its own, so u = 1/2 is no middle of it"
    failures = {"discrete-levels[2]": variational}
    for name, config, summary, cite in (
        ("caflow", "CAFLOWConfig", "Images given images, each scale given the coarser ones of both", "citation.bib"),
        (
            "dual-glow",
            "DualGlowConfig",
            "Images given images, each scale given its own alone",
            "cite/dual_glow.bib",
        ),
        ("cinn", "CINNConfig", "Images given features of images: one conditional flow", "cite/cinn.bib"),
    ):
        yield Component(
            kind="flow",
            name=name,
            target=".flow.model:ImageFlow",
            config=f".config:{config}",
            requires=(Port("data", kind="data"),),
            provides=("Trainable",),
            summary=summary,
            figures=".flow.model:image_flow_figures",
            examples=examples[name],
            known_failures=failures if name == "caflow" else {},
            cite=cite,
        )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
