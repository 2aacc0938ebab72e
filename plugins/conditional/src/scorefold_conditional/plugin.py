"""Conditional scores, baselines for inverse problems, and a problem with a known posterior."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scorefold.plugin import Capability, Claim, Comparison, Component, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"

_PAPER = "citation.bib"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _scores()
    yield from _baselines()
    yield from _sources()


def _scores() -> Iterable[Component]:
    ring = {"use": "data:posterior", "config": {"points": 400}}
    holes = {
        "use": "data:paired",
        "config": {"operator": {"name": "mask"}},
        "inputs": {"data": {"use": "data:digits", "config": {"limit": 60}}},
    }
    small = {"use": "data:paired", "inputs": holes["inputs"]}
    network = {"use": "network:mlp", "config": {"width": 32, "blocks": 1}}
    brief = {"network": network, "training": {"steps": 200}}
    fast = (
        "its condition diffuses: bind takes the condition itself and noises it, score the condition as it stands at t"
    )
    yield Component(
        kind="score",
        name="conditional",
        target=".conditional.model:Conditional",
        config=".config:ConditionalConfig",
        requires=(Port("data", kind="data"),),
        provides=("Trainable",),
        summary="A score given a condition that stays clean or diffuses too, at any speed: CDE, CDiffE, CMDE, VS-CMDE",
        examples=(
            {"config": {**brief, "estimator": "cde", "condition_dropout": 0.1}, "inputs": {"data": ring}},
            {"config": brief, "inputs": {"data": ring}},
            {"config": {**brief, "estimator": "cdiffe", "process": "vp"}, "inputs": {"data": small}},
            {
                "config": {**brief, "estimator": "vs-cmde", "operator": "mask", "mask": True},
                "inputs": {"data": holes},
            },
        ),
        cite=_PAPER,
        known_failures={f"bind-is-score[{example}]": fast for example in (1, 2, 3)},
    )
    moons = {"use": "data:sbibm", "config": {"task": "two-moons", "simulations": 200}}
    untrained = {"network": network, "estimator": "cde", "condition_dropout": 0.2, "training": {"steps": 0}}
    one = {"use": "score:conditional", "config": untrained, "inputs": {"data": moons}}
    prior = {"use": "score:analytic", "config": {"gaussian": True, "process": "ve"}, "inputs": {"data": moons}}
    yield Component(
        kind="score",
        name="compositional",
        target=".compositional:Compositional",
        config=".config:CompositionalConfig",
        requires=(Port("posterior", kind="score"), Port("prior", kind="score", optional=True)),
        summary="A posterior given several observations, from scores given one observation",
        examples=(
            {"config": {"observations": 3, "samples": 20}, "inputs": {"posterior": one}},
            {"config": {"observations": 2, "rule": "sum"}, "inputs": {"posterior": one, "prior": prior}},
        ),
        cite="cite/compositional.bib",
        known_failures={"device-followed": "the score makes samples, and the check's device has no numbers"},
    )


@hookimpl
def scorefold_capabilities() -> Iterable[Capability]:
    operators: dict[str, dict[str, Any]] = {
        "halved": {"name": "box-downsample", "factor": 2},
        "pixels": {"name": "mask", "region": "pixels", "fraction": 0.5},
        "hole": {"name": "mask"},
        "quartered": {"name": "box-downsample", "factor": 4},
    }
    cases = {
        f"digits-{name}": {
            "use": "data:paired",
            "config": {"operator": operator},
            "inputs": {"data": {"use": "data:digits"}},
            "options": {"n": 5, "conditions": 50, "steps": 100},
        }
        for name, operator in operators.items()
    }
    yield Capability(
        "SolvesInverse",
        ".solvers.prior:InverseSolver",
        "It gives events for observations of them, by an unconditional prior",
        Comparison(verbs=("assess",), best="largest", cases=cases),
    )


def _baselines() -> Iterable[Component]:
    ports = (Port("prior", kind="score"), Port("data", kind="data", optional=True, whole=True))
    digits = {
        "use": "score:analytic",
        "config": {"gaussian": True, "process": "vp"},
        "inputs": {"data": {"use": "data:digits", "config": {"limit": 100}}},
    }
    pixels = {"name": "mask", "region": "pixels", "fraction": 0.5}
    box = {"name": "box-downsample", "factor": 2}
    yield Component(
        kind="score",
        name="dps",
        target=".solvers.dps:DPS",
        config=".config:DPSConfig",
        requires=ports,
        provides=("SolvesInverse",),
        summary="Samples given y = A x from a score trained without y, by the misfit of its estimate: DPS, PiGDM",
        examples=(
            {"config": {"operator": box}, "inputs": {"prior": digits}},
            {"config": {"operator": pixels, "variant": "pigdm", "noise_std": 0.1}, "inputs": {"prior": digits}},
            {
                "config": {"operator": box, "variant": "pigdm", "covariance": "tweedie", "noise_std": 0.1},
                "inputs": {"prior": digits},
            },
        ),
        cite="cite/dps.bib",
    )
    solvers = (
        ("diffpir", "DPS", "a proximal step towards the observation, without derivatives of the prior: DiffPIR"),
        ("tmpd", "DPS", "the misfit over the row sums of its covariance: TMPD"),
        ("mmps", "DPS", "the misfit over its covariance, from Tweedie's formula: MMPS"),
        ("daps", "DAPS", "an event drawn given the observation at each noise level: DAPS"),
    )
    settings = {"diffpir": "DiffPIR", "tmpd": "TMPD", "mmps": "MMPS", "daps": "DAPS"}
    for name, model, does in solvers:
        yield Component(
            kind="score",
            name=name,
            target=f".solvers.{model.lower()}:{model}",
            config=f".config:{settings[name]}Config",
            requires=ports,
            provides=("SolvesInverse",),
            summary=f"Samples given y = A x from a score trained without y, by {does}",
            examples=({"config": {"operator": box, "noise_std": 0.1}, "inputs": {"prior": digits}},),
            cite="cite/solvers.bib",
        )
    yield Component(
        kind="score",
        name="repaint",
        target=".solvers.repaint:RePaint",
        config=".config:RePaintConfig",
        requires=ports,
        provides=("SolvesInverse",),
        summary="Samples given a part of x from a score trained without it, by replacing this part: RePaint",
        examples=(
            {"config": {"jump_length": 2, "resamples": 2}, "inputs": {"prior": digits}},
            {"config": {"operator": box, "move": "sampler"}, "inputs": {"prior": digits}},
        ),
        cite="cite/repaint.bib",
    )


def _sources() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="posterior",
        target=".posterior:PosteriorSource",
        config=".config:PosteriorConfig",
        summary="Points on a ring of Gaussians with a noisy coordinate as the condition, and their exact posterior",
        examples=({"config": {"points": 200}},),
        cite=_PAPER,
    )
    yield Component(
        kind="data",
        name="sbibm",
        target=".sbibm:SbibmSource",
        config=".config:SbibmConfig",
        summary="Simulations of six tasks of sbibm, and its ten observations of each with reference posteriors",
        examples=(
            {"config": {"task": "two-moons", "simulations": 100}},
            {"config": {"task": "slcp", "simulations": 100}},
        ),
        cite="cite/sbibm.bib",
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
