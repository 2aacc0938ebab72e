"""Claims without images of others: exact values at the start, and costs of factorisations on Gaussian pairs.

CAFLOW's factorisation beside Dual-Glow's, on pairs whose bounds are known. Functions of claims take a host, a
profile and a seed.

The encoders are the Haar transform, the same for both and never trained, so that all that differs is which latents of
the two images a latent is given. The flows of latents have as many parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.interfaces import DataSource, TensorSource
from scorefold.random import draw_uniform
from scorefold.seeds import derive_generator
from scorefold_caflow.claims.tasks import costs, trained_flow, training_settings
from scorefold_caflow.config import EncoderConfig, GaussianPairsConfig
from scorefold_caflow.flow.translation import Encoder
from scorefold_caflow.gaussian_pairs import BitBounds, gaussian_pair, structural_bounds

LEVELS = 16
_STEPS, _CHECKED = 200, 40_000


def cost_at_start(host: Any, profile: str, seed: int, *, model: str) -> float:
    """The largest change of log p(w | y) in nats where a flow that was never trained is given another condition."""
    data = host.create("data:gaussian-pairs", {"points": 200, "seed": 0})
    flow = host.create(f"flow:{model}", {"condition_weight": 0.0} if model != "cinn" else {}, data=data).eval()
    events = data.load("train")
    flow.prepare(events, derive_generator(seed, "start"))
    with torch.no_grad():
        change = flow.log_prob(events.x, events.condition) - flow.log_prob(events.x, events.condition.flip(0))
    return float(change.abs().max())


def uniform_cost(host: Any, profile: str, seed: int) -> float:
    """Cost of a trained flow for images whose pixels are uniform over 16 levels, in bits per dimension; log2 16 = 4 is
    their entropy.
    """
    return float(costs(_uniform(host, seed), _images(seed, "test"), seed).mean())


def whole_mass(host: Any, profile: str, seed: int) -> float:
    """The integral of that flow's density over the box of all images, by points uniform in it, and the share of its
    draws that lie outside: together 1."""
    flow = _uniform(host, seed)
    generator = derive_generator(seed, "mass")
    width = LEVELS / (LEVELS - 1)
    low = -width / LEVELS / 2
    like = next(flow.parameters())
    points = low + width * draw_uniform((_CHECKED, *flow.event_shape), generator=generator, like=like)
    with torch.no_grad():
        z, log_det = flow(points)
        inside = (flow.base.log_prob(z) + log_det + flow.dimension * math.log(width)).double().exp().mean()
    drawn = flow.sample(_CHECKED, generator=generator).flatten(1)
    return float(inside + ((drawn < low) | (drawn > low + width)).any(1).double().mean())


def _images(seed: int, split: str) -> Dataset:
    x = torch.randint(LEVELS, (20_000, 1, 4, 4), generator=derive_generator(seed, "levels", split)) / (LEVELS - 1.0)
    return Dataset(x=x, index=torch.arange(len(x)))


@cache
def _uniform(host: Any, seed: int) -> Any:
    scale = EventScale(0.0, 1.0, LEVELS, mean=0.5, std=math.sqrt((1 - 1 / LEVELS**2) / 12) * LEVELS / (LEVELS - 1))
    source = TensorSource({"train": _images(seed, "train"), "test": _images(seed, "test")}, scale)
    config = {
        "scales": 1,
        "preprocess": "logit",
        "encoder": {"steps": 2, "hidden": 16},
        "translation": {"steps": 2, "hidden": 16},
        "training": training_settings(_STEPS),
    }
    return trained_flow(host, "flow:caflow", config, source, seed).model


CASES: Mapping[str, Mapping[str, Any]] = {
    "8x8": {"size": 8, "length": 3.0, "factor": 2, "noise_variance": 0.05},
    "16x16": {"size": 16, "length": 4.0, "factor": 4, "noise_variance": 0.05},
}
SCALES = {"8x8": 2, "16x16": 3}
HIDDEN = {
    "8x8": {"caflow": 40, "caflow-entry": 62, "dual-glow": 69},
    "16x16": {"caflow": 48, "caflow-shared": 65, "dual-glow": 120},
}
"""Channels of the conditional networks that give all flows as many parameters."""
CHANGES: Mapping[str, Mapping[str, Any]] = {"caflow-shared": {"shared": True}, "caflow-entry": {"coarser": "entry"}}
STEPS = {"8x8": 1500, "16x16": 600}
TEST = {"8x8": 40_000, "16x16": 10_000}
"""Pairs that the cost is measured on. Training pairs are as many as there are places in batches: none comes twice."""
MORE = {"smoke": 1 / 3, "quick": 1, "long": 4}
"""Factor of the number of steps."""


def pair_bound(host: Any, profile: str, seed: int, *, case: str, which: str) -> float:
    """A bound of ``BitBounds`` by its field's name, in bits a dimension."""
    return float(getattr(pair_bounds(case), which))


def pair_cost(host: Any, profile: str, seed: int, *, case: str, model: str) -> float:
    """Cost of a trained model for new pairs, in bits per dimension."""
    return float(_costs(host, profile, seed, case, model).mean())


def pair_gap(host: Any, profile: str, seed: int, *, case: str) -> float:
    """Additional cost of Dual-Glow relative to CAFLOW on equal pairs, in bits per dimension."""
    return pair_cost(host, profile, seed, case=case, model="dual-glow") - pair_cost(
        host, profile, seed, case=case, model="caflow"
    )


def below_unconditional(host: Any, profile: str, seed: int, *, case: str) -> float:
    """Distance of Dual-Glow, the worse of the two, below the least cost of any model without the condition."""
    return pair_bounds(case).unconditional - pair_cost(host, profile, seed, case=case, model="dual-glow")


def pair_parameters(host: Any, profile: str, seed: int, *, case: str) -> float:
    """Dual-Glow's number of trained parameters over CAFLOW's."""
    sizes = [_parameters(host, case, model) for model in ("dual-glow", "caflow")]
    return sizes[0] / sizes[1]


def pair_bounds(case: str) -> BitBounds:
    """The bounds of a case for Haar encoders."""
    pair = gaussian_pair(GaussianPairsConfig(**CASES[case]))
    shape = (1, CASES[case]["size"], CASES[case]["size"])
    frozen = EncoderConfig(steps=0, transitions=0)
    encoder = Encoder(shape, SCALES[case], frozen, squeeze="haar", recompute="no").double()
    return structural_bounds(pair, lambda x: encoder(x)[0], lambda x: encoder(x)[0], shape, shape)


def pair_settings(case: str, model: str, steps: int) -> dict[str, Any]:
    """The configuration of a model of a case."""
    return {
        "scales": SCALES[case],
        "squeeze": "haar",
        "encoder": {"steps": 0, "transitions": 0},
        "translation": {"steps": 2, "hidden": HIDDEN[case][model]},
        "condition_weight": 0.0,
        "training": training_settings(steps),
        **CHANGES.get(model, {}),
    }


def gaussian_pairs(host: Any, seed: int, case: str, train: int) -> DataSource:
    """So many pairs to train on, and fresh ones."""
    count = train + TEST[case]
    config = {**CASES[case], "points": count, "fractions": [train / count, 0, 1 - train / count]}
    made: DataSource = host.create("data:gaussian-pairs", config, generator=derive_generator(seed, "pairs", case))
    return made


def _parameters(host: Any, case: str, model: str) -> int:
    few = gaussian_pairs(host, 0, case, 100)
    made = host.create(_component(model), pair_settings(case, model, 1), data=few)
    return sum(one.numel() for one in made.parameters())


def _component(model: str) -> str:
    return "flow:caflow" if model in CHANGES else f"flow:{model}"


@cache
def _costs(host: Any, profile: str, seed: int, case: str, model: str) -> Tensor:
    steps = max(2, round(MORE[profile] * STEPS[case]))
    data = gaussian_pairs(host, seed, case, 128 * steps)
    made = trained_flow(host, _component(model), pair_settings(case, model, steps), data, seed)
    found = costs(made.model, data.load("test"), seed)
    print(
        f"{case}, {model}: {float(found.mean()):.4f} bits a dimension, {made.parameters} parameters, "
        f"{made.seconds:.0f} CPU seconds",
        flush=True,
    )
    return found
