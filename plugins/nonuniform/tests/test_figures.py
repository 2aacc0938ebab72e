"""Figures of trained models: those that a run draws, for images and for vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorefold.data import DataSpec, TensorSpec
from scorefold.stage import Fitted
from scorefold_nonuniform.bands.figures import banded_figures
from scorefold_nonuniform.config import MultiScaleConfig, NonUniformConfig
from scorefold_nonuniform.multiscale import MultiScaleScore
from scorefold_nonuniform.nonuniform import NonUniformScore
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_toolkit.training import FitReport


def drawn(
    kind: str, shape: tuple[int, ...], trained: bool = True, condition: TensorSpec | None = None, **settings: Any
) -> set[str]:
    network, data = MLP(MLPConfig(width=8, blocks=0)), DataSpec(shape, condition_spec=condition)
    model: Any
    if kind == "multiscale":
        model = MultiScaleScore(MultiScaleConfig.model_validate({"network": network, **settings}), data=data)
        for each in model.networks:
            each.trained.fill_(trained)
    else:
        model = NonUniformScore(NonUniformConfig.model_validate({"network": network, **settings}), data=data)
    report = FitReport(
        steps=2, history=[{"step": 1, "phase": "fit", "loss": 2.0}, {"step": 2, "phase": "fit", "loss": 1}]
    )
    events = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    return set(banded_figures(Fitted(report, model, events)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8)])
def test_images(shape: tuple[int, ...]) -> None:
    assert drawn("multiscale", shape) == {"training", "speeds", "bands over time", "samples at every scale", "cost"}
    assert drawn("nonuniform", shape) == {"training", "speeds", "bands over time"}


def test_vectors_and_parts_have_fewer() -> None:
    assert drawn("multiscale", (7,), bands="pca") == {"training", "speeds", "cost"}
    assert drawn("multiscale", (1, 8, 8), trained=False) == {"training", "speeds", "bands over time"}
    assert drawn("nonuniform", (7,), bands="pixels", process="vp", ends=[1.0]) == {"training", "speeds"}


@pytest.mark.parametrize("condition", [TensorSpec((), 10), TensorSpec((1, 8, 8))])
def test_conditional_models_have_no_samples_without_a_condition(condition: TensorSpec) -> None:
    assert drawn("multiscale", (1, 8, 8), condition=condition) == {"training", "speeds", "bands over time", "cost"}
    assert drawn("nonuniform", (1, 8, 8), condition=condition) == {"training", "speeds", "bands over time"}


def test_no_training_has_no_figures() -> None:
    assert banded_figures({}) == {}
