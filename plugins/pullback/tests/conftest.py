"""Geometries in float64, for all tests of this plugin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Condition, DataSpec
from scorefold.interfaces import Flow
from scorefold_pullback.config import PullbackConfig
from scorefold_pullback.flows.config import BananaConfig, LinearFlowConfig, RiverConfig, SqueezedBananaConfig
from scorefold_pullback.flows.linear import LinearFlow, Shear
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_testing.contract import stir
from scorefold_toolkit.potential import Potential

MakeGeometry = Callable[..., Pullback]


class Uniform:
    """A base distribution that is no potential."""

    centre = 0.5

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.zeros(len(z))

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return torch.rand(shape, generator=generator)


class Doubled(Flow):
    def __init__(self) -> None:
        super().__init__((2,), Uniform())

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return 2 * x, x.new_full((len(x),), 2 * math.log(2))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z / 2, z.new_full((len(z),), -2 * math.log(2))


def flow_called(name: str, **settings: Any) -> Flow:
    """A closed-form flow in float64, or ``coupling``: an untrained coupling flow, its parameters moved at random;
    ``without a potential`` has a base that is none."""
    if name == "coupling":
        torch.manual_seed(0)
        config = AffineCouplingConfig(layers=4, hidden=(16,), base="diagonal-normal", **settings)
        flow = CouplingFlow(config, data=DataSpec((4,))).double().eval()
        stir(flow, torch.Generator().manual_seed(1))
        return flow
    if name == "without a potential":
        return Doubled()
    if name == "linear":
        return LinearFlow(LinearFlowConfig(**settings), dtype=torch.float64)
    configs = {"banana": BananaConfig, "squeezed": SqueezedBananaConfig, "river": RiverConfig}
    return Shear(configs[name](**settings), dtype=torch.float64)


def geometry_of(flow: Flow | str, metric: str = "score", psi: Potential | None = None, **settings: Any) -> Pullback:
    """The pullback geometry of a flow, or of the flow of that name."""
    chosen = flow_called(flow, **settings) if isinstance(flow, str) else flow
    return Pullback(PullbackConfig.model_validate({"metric": metric}), flow=chosen, psi=psi)


@pytest.fixture
def make_geometry() -> MakeGeometry:
    return geometry_of


@pytest.fixture
def make_flow() -> Callable[..., Flow]:
    return flow_called
