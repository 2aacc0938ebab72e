"""Exact claims about image flows: their start, and their densities next to their samples. Functions of claims take a
host, a profile and a seed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch

from scorefold.data import Dataset, EventScale
from scorefold.interfaces import TensorSource
from scorefold.random import draw_uniform
from scorefold.seeds import derive_generator
from scorefold_caflow.claims.training import costs, trained, training

LEVELS = 16
_STEPS, _CHECKED = 200, 40_000


def start(host: Any, profile: str, seed: int, *, model: str) -> float:
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
        "training": training(_STEPS),
    }
    return trained(host, "flow:caflow", config, source, seed).model
