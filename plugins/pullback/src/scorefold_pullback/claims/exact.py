"""Results that ``scorefold reproduce pullback`` measures again. Each is ``function(host, profile, seed)``.

Flows whose base has several modes, on two groups of points along a river.

Each function of a claim takes a host, a profile and a seed, as in ``scorefold_pullback.claims.exact``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, TensorSource
from scorefold.seeds import derive_generator
from scorefold_pullback.claims.training import train_flow
from scorefold_pullback.config import SqueezedBananaDataConfig
from scorefold_pullback.flows.linear import Shear
from scorefold_pullback.manifolds import published_chains


def closed_forms(host: Any, profile: str, seed: int) -> float:
    """The largest error, over 1 + the value, of twelve answers on banana and river that are known in closed form."""
    banana, river = (
        host.create("geometry:pullback", flow=host.create(f"flow:{name}", dtype=torch.float64), dtype=torch.float64)
        for name in ("banana", "river")
    )
    rows = ((2, 4), (2, -4), (0.5, 0.3), (-0.2, -1.1))
    x, y, a, b = (_row(host, *values) for values in rows)
    half = _row(host, 0.5)[0]
    answers = (
        (banana.distance(x, y), [2.0]),
        (banana.geodesic(x, y, half), [2 / 9, 0.0]),
        (banana.log(x, y), [-64 / 9, -8.0]),
        (banana.exp(x, banana.log(x, y)), [2.0, -4.0]),
        (banana.transport(x, y, banana.log(x, y)), [64 / 9, -8.0]),
        (banana.metric(x), [16.0, -128 / 9, -128 / 9, 12.704475308641975]),
        (banana.mean(torch.cat([x, y])), [2 / 9, 0.0]),
        (river.distance(a, b), [16.834941202418317]),
        (river.geodesic(a, b, half), [-0.4454291256872454, -0.4]),
        (river.log(a, b), [-1.637800844532474, -1.4]),
        (river.exp(a, river.log(a, b)), [-0.2, -1.1]),
        (river.transport(a, b, river.log(a, b)), [2.320942005529594, -1.4]),
    )
    return max(_error(found, expected) for found, expected in answers)


def arc_length(host: Any, profile: str, seed: int) -> float:
    """The relative error of the banana's arc length, and of the point at a quarter of it."""
    iso = host.create(
        "geometry:iso-pullback", flow=host.create("flow:banana", dtype=torch.float64), dtype=torch.float64
    )
    x, y = _row(host, 2, 4), _row(host, 2, -4)
    quarter = iso.geodesic(x, y, _row(host, 0.25)[0])
    return max(_error(iso.distance(x, y), [8.954453507613854]), _error(quarter, [0.739896919851144, 2.158488424490689]))


def published_sampler(host: Any, profile: str, seed: int) -> float:
    """The variance across the squeezed banana's curve of the published chains' points."""
    config = SqueezedBananaDataConfig(points=1000 if profile == "smoke" else 5000)
    flow = Shear(config, dtype=torch.float64)
    return float(flow(published_chains(flow, flow.base, config.points, config.chain_steps, seed))[0][:, 0].var())


def _row(host: Any, *values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64, device=host.device)


def _error(found: Tensor, expected: list[float]) -> float:
    truth = torch.tensor(expected, dtype=torch.float64)
    return float(((found.detach().cpu().reshape(-1) - truth).abs() / (1 + truth.abs())).max())


POINTS = {"train": 5_000, "test": 4_000}

TRUTH: dict[str, Any] = {"offsets": [[0, -6], [0, 6]], "variances": [0.05, 4.0], "weights": [1, 3]}

FLOW: dict[str, Any] = {
    "map": {"name": "coupling", "layers": 4},
    "training": {"steps": 3000, "learning_rate": 1e-3},
}


def excess(host: Any, profile: str, seed: int, *, modes: int) -> float:
    """Excess of a trained flow's mean -log p of test points over their entropy, in nats per event."""
    points, entropy = _groups(host, seed)
    flow = train_flow(host, points, "anisotropic", {**FLOW, "modes": modes}, seed)
    return float(-flow.log_prob(points.load("test").x).detach().mean()) - entropy


@cache
def _groups(host: Any, seed: int) -> tuple[DataSource, float]:
    """The points, and the mean of -log p over the test points by the distribution that they are drawn from."""
    river = {"use": "flow:river", "config": {"frequency": 1.0}}
    truth = host.create("flow:mixture", TRUTH, flow=river)
    generator = derive_generator(seed, "groups")
    parts = {name: truth.sample(count, generator=generator).detach() for name, count in POINTS.items()}
    entropy = float(-truth.log_prob(parts["test"]).detach().mean())
    return TensorSource({name: Dataset(x) for name, x in parts.items()}), entropy
