"""Banana, squeezed banana and river: points of the flows of the same names."""

from __future__ import annotations

from dataclasses import replace

import torch

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold_pullback.config.data import BananaDataConfig, RiverDataConfig, SqueezedBananaDataConfig
from scorefold_pullback.data.langevin import published_chains
from scorefold_pullback.flows.shear import Shear
from scorefold_toolkit.data.manifolds import Draw, normal, splits_of
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed

ShearDataConfig = BananaDataConfig | SqueezedBananaDataConfig | RiverDataConfig


class ShearSource(DataSource):
    """x = phi^-1(z) with z ~ N(0, diag(variances)): exact, or as the published code samples it.

    Events are (2,). ``truth`` holds each point's ``log_density`` under the exact distribution in nats, whichever
    sampler drew it. The distribution fills the plane, thinly across its curve, so that no dimension is called true.

    >>> from scorefold_registry import Host
    >>> banana = Host.discover().create("data:banana", {"points": 200}).load("train")
    >>> banana.x.shape
    torch.Size([160, 2])
    """

    def __init__(self, config: ShearDataConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        flow = Shear(config, dtype=torch.float64)
        if config.sampler == "exact":
            variances = torch.tensor(config.variances, dtype=torch.float64)
            x = flow.inverse(normal((config.points, 2), seed, "points") * variances.sqrt())[0]
        else:
            x = published_chains(flow, flow.base, config.points, config.chain_steps, seed)
        splits = splits_of(Draw(x, 2), noise_std=0.0, fractions=config.fractions, seed=seed)
        self._splits = {name: _with_density(dataset, flow) for name, dataset in splits.items()}
        self.event_shape = (2,)
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def _with_density(dataset: Dataset, flow: Shear) -> Dataset:
    return replace(dataset, truth={"log_density": flow.log_prob(dataset.x.double())})
