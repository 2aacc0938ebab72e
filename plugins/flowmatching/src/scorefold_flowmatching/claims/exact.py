"""Claims from closed forms of Gaussian data, and of trained flows on a sphere."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, DataSpec, EventScale
from scorefold.interfaces import Network, ScoreModel
from scorefold.seeds import derive_generator
from scorefold_flowmatching.config import FlowMatchingConfig
from scorefold_flowmatching.score import FlowMatching
from scorefold_toolkit.training import fit


class Gaussian(Network):
    """The exact answer where u_0 is N(0, c^2): (t - (1 - t) c^2) u / ((1 - t)^2 c^2 + t^2)."""

    def __init__(self, c: float) -> None:
        self.c = c

    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        return _Answer(self.c)


class _Answer(nn.Module):
    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, u: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        t = torch.sigmoid(level).reshape(-1, *[1] * (u.dim() - 1))
        found: Tensor = (t - (1 - t) * self.c**2) * u / (((1 - t) * self.c) ** 2 + t**2)
        return found


def exact_flow(c: float, units: EventScale, shape: tuple[int, ...] = (1,), **config: Any) -> FlowMatching:
    """The flow of data whose deviation is c times the deviation of their units."""
    return FlowMatching(FlowMatchingConfig(network=Gaussian(c), **config), data=DataSpec(shape, units)).double()  # type: ignore[arg-type]


def gaussian_map(host: Any, profile: str, seed: int) -> float:
    """The largest |x(0) - (m + c x(1))| of points about the mean, by 64 steps of Heun."""
    flow = exact_flow(0.5, EventScale(), t_min=1e-6, t_max=1 - 1e-6)
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    times = torch.linspace(1 - 1e-6, 1e-6, 65, dtype=torch.float64)
    found = x
    for t, s in pairwise(times):
        first = flow.velocity(found, t.expand(len(x)))
        ahead = flow.velocity(found + (s - t) * first, s.expand(len(x)))
        found = found + (s - t) * (first + ahead) / 2
    return float((found - 0.5 * x).abs().max())


def same_flow(host: Any, profile: str, seed: int) -> float:
    """The largest gap, relative to the velocity, between it and f - g^2 score / 2."""
    flow = exact_flow(0.5, EventScale(mean=2.0, std=3.0))
    t = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    x = 3 * torch.randn(25, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    dispersion = flow.process.dispersion(x, t)
    assert isinstance(dispersion, Tensor)
    ours = flow.velocity(x, t)
    theirs = flow.process.drift(x, t) - dispersion**2 * flow.score(x, t) / 2
    return float((ours - theirs).abs().max() / ours.abs().max())


NETWORK = {"use": "network:mlp", "config": {"width": 64, "blocks": 2}}


@cache
def _source(host: Any, seed: int, ambient: int) -> Any:
    return host.create("data:sphere", {"dimension": 2, "ambient": ambient, "points": 6000, "seed": seed})


@cache
def _trained(host: Any, name: str, seed: int, ambient: int) -> ScoreModel:
    source = _source(host, seed, ambient)
    config = {"network": NETWORK, "training": {"steps": 1000}}
    model: Any = host.create(name, config, generator=derive_generator(seed, "weights"), data=source)
    fit(model, source.load("train"), model.training_config, seed=seed, precision=host.precision)
    trained: ScoreModel = model
    return trained


def _off_the_sphere(host: Any, name: str, seed: int) -> float:
    samples = _trained(host, name, seed, 3).sample(1000, generator=derive_generator(seed, "samples"))
    return float((samples.norm(dim=1) - 1).abs().mean())


def sphere_radius(host: Any, profile: str, seed: int) -> float:
    return _off_the_sphere(host, "score:flow-matching", seed)


def radius_ratio(host: Any, profile: str, seed: int) -> float:
    return sphere_radius(host, profile, seed) / _off_the_sphere(host, "score:denoising", seed)


def sphere_dimension(host: Any, profile: str, seed: int) -> float:
    source = _source(host, seed, 6)
    estimator = host.create("estimator:iddiff", score=_trained(host, "score:flow-matching", seed, 6))
    found = estimator.estimate(source.load("test"), generator=derive_generator(seed, "estimate")).value
    # No dimension counts as 0, so that a flow that supports none fails.
    return 0.0 if found is None else float(found)
