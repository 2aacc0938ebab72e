"""CAFLOW's factorisation beside Dual-Glow's, on pairs whose bounds are known. Functions of claims take a host, a
profile and a seed.

The encoders are the Haar transform, the same for both and never trained, so that all that differs is which latents of
the two images a latent is given. The flows of latents have as many parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_caflow.claims.training import costs, trained, training
from scorefold_caflow.config.data import GaussianPairsConfig
from scorefold_caflow.config.flows import EncoderConfig
from scorefold_caflow.data.bounds import Bounds, structural_bounds
from scorefold_caflow.data.pairs import gaussian_pair
from scorefold_caflow.flow.encoder import Encoder

CASES: Mapping[str, Mapping[str, Any]] = {
    "8x8": {"size": 8, "length": 3.0, "factor": 2, "noise_variance": 0.05},
    "16x16": {"size": 16, "length": 4.0, "factor": 4, "noise_variance": 0.05},
}
SCALES = {"8x8": 2, "16x16": 3}
HIDDEN = {"8x8": {"caflow": 40, "dual-glow": 69}, "16x16": {"caflow": 48, "caflow-shared": 65, "dual-glow": 120}}
"""Channels of the conditional networks that give all flows as many parameters."""
STEPS = {"8x8": 1500, "16x16": 600}
TEST = {"8x8": 40_000, "16x16": 10_000}
"""Pairs that the cost is measured on. Training pairs are as many as there are places in batches: none comes twice."""
MORE = {"smoke": 1 / 3, "quick": 1, "long": 4}
"""Factor of the number of steps."""


def bound(host: Any, profile: str, seed: int, *, case: str, which: str) -> float:
    """A bound of ``Bounds`` by its field's name, in bits a dimension."""
    return float(getattr(bounds(case), which))


def cost(host: Any, profile: str, seed: int, *, case: str, model: str) -> float:
    """Cost of a trained model for new pairs, in bits per dimension."""
    return float(_costs(host, profile, seed, case, model).mean())


def gap(host: Any, profile: str, seed: int, *, case: str) -> float:
    """Additional cost of Dual-Glow relative to CAFLOW on equal pairs, in bits per dimension."""
    return cost(host, profile, seed, case=case, model="dual-glow") - cost(
        host, profile, seed, case=case, model="caflow"
    )


def below_unconditional(host: Any, profile: str, seed: int, *, case: str) -> float:
    """Distance of Dual-Glow, the worse of the two, below the least cost of any model without the condition."""
    return bounds(case).unconditional - cost(host, profile, seed, case=case, model="dual-glow")


def parameters(host: Any, profile: str, seed: int, *, case: str) -> float:
    """Dual-Glow's number of trained parameters over CAFLOW's."""
    sizes = [_parameters(host, case, model) for model in ("dual-glow", "caflow")]
    return sizes[0] / sizes[1]


def bounds(case: str) -> Bounds:
    """The bounds of a case for Haar encoders."""
    pair = gaussian_pair(GaussianPairsConfig(**CASES[case]))
    shape = (1, CASES[case]["size"], CASES[case]["size"])
    frozen = EncoderConfig(steps=0, transitions=0)
    encoder = Encoder(shape, SCALES[case], frozen, squeeze="haar", recompute="no").double()
    return structural_bounds(pair, lambda x: encoder(x)[0], lambda x: encoder(x)[0], shape, shape)


def settings(case: str, model: str, steps: int) -> dict[str, Any]:
    """The configuration of a model of a case."""
    shared = {"shared": True} if model == "caflow-shared" else {}
    return {
        "scales": SCALES[case],
        "squeeze": "haar",
        "encoder": {"steps": 0, "transitions": 0},
        "translation": {"steps": 2, "hidden": HIDDEN[case][model]},
        "condition_weight": 0.0,
        "training": training(steps),
        **shared,
    }


def pairs(host: Any, seed: int, case: str, train: int) -> DataSource:
    """So many pairs to train on, and fresh ones."""
    count = train + TEST[case]
    config = {**CASES[case], "points": count, "fractions": [train / count, 0, 1 - train / count]}
    made: DataSource = host.create("data:gaussian-pairs", config, generator=derive_generator(seed, "pairs", case))
    return made


def _parameters(host: Any, case: str, model: str) -> int:
    few = pairs(host, 0, case, 100)
    made = host.create(_component(model), settings(case, model, 1), data=few)
    return sum(one.numel() for one in made.parameters())


def _component(model: str) -> str:
    return f"flow:{model.removesuffix('-shared')}"


@cache
def _costs(host: Any, profile: str, seed: int, case: str, model: str) -> Tensor:
    steps = max(2, round(MORE[profile] * STEPS[case]))
    data = pairs(host, seed, case, 128 * steps)
    made = trained(host, _component(model), settings(case, model, steps), data, seed)
    found = costs(made.model, data.load("test"), seed)
    print(
        f"{case}, {model}: {float(found.mean()):.4f} bits a dimension, {made.parameters} parameters, "
        f"{made.seconds:.0f} CPU seconds",
        flush=True,
    )
    return found
