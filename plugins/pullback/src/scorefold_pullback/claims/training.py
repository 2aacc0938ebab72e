"""Flows that are trained for claims, each once a process."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Flow, TensorSource
from scorefold.seeds import derive_generator
from scorefold_pullback.flows.anisotropic import AnisotropicFlow
from scorefold_toolkit.training import fit


def source(host: Any, name: str, config: Mapping[str, Any], seed: int) -> DataSource:
    """A data source drawn from a seed, each once a process."""
    return _source(host, name, json.dumps(config), seed)


def trained_pullback_flow(
    host: Any, data: str, data_config: Mapping[str, Any], flow: str, config: Mapping[str, Any], seed: int
) -> Flow:
    """A flow trained on the training points of a data source, its weights and batches from ``seed``.

    Settings that have a patience are held to the source's validation points.
    """
    return _trained(host, data, json.dumps(data_config), flow, json.dumps(config), seed)


@lru_cache
def _source(host: Any, name: str, config: str, seed: int) -> DataSource:
    if name == "spiral":
        return spiral(json.loads(config)["points"], seed)
    made: DataSource = host.create(f"data:{name}", json.loads(config), generator=derive_generator(seed, name))
    return made


@cache
def _trained(host: Any, data: str, data_config: str, flow: str, config: str, seed: int) -> Flow:
    return train_flow(host, _source(host, data, data_config, seed), flow, json.loads(config), seed)


def train_flow(host: Any, points: DataSource, flow: str, config: Mapping[str, Any], seed: int) -> Flow:
    """A flow trained on the training points of ``points``, new at each call, as by ``trained_pullback_flow``."""
    made = host.create(f"flow:{flow}", config, generator=derive_generator(seed, "weights"), data=points)
    validation = None if made.training_config.patience is None else points.load("validation")
    chosen, precision = made.training_config, host.precision
    fit(made, points.load("train"), chosen, validation=validation, seed=seed, precision=precision)
    assert isinstance(made, Flow)
    return made


def spiral(points: int, seed: int) -> DataSource:
    """Points (theta cos theta, theta sin theta), theta uniform on [0, 4 pi], of the paper's repository."""
    theta = 4 * torch.pi * torch.rand(points, generator=derive_generator(seed, "spiral"), dtype=torch.float64)
    x = (theta[:, None] * torch.stack([theta.cos(), theta.sin()], 1)).float()
    cuts = (0, points * 8 // 10, points * 9 // 10, points)
    parts = zip(("train", "validation", "test"), itertools.pairwise(cuts), strict=True)
    return TensorSource({name: Dataset(x[start:end]) for name, (start, end) in parts})


def variances_of(flow: Flow) -> Tensor:
    """The variances of the base of one of this plugin's trained flows, (D,)."""
    assert isinstance(flow, AnisotropicFlow)
    return flow.base.variances.detach().flatten()
