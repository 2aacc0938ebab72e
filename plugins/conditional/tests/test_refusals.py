"""What a person can get wrong is refused with a message, with the line that fixes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scorefold.data import DataSpec, TensorSpec
from scorefold.errors import ConfigError, DataError, ScorefoldError, ShapeError
from scorefold_conditional.conditional.model import Conditional
from scorefold_conditional.config import ConditionalConfig, PosteriorConfig
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP

Build = Callable[..., Conditional]

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"estimator": "cde", "condition_speed": 0.5}, "set estimator: cmde"),
    ({"estimator": "cdiffe", "condition_speed": 0.5}, "set estimator: cmde"),
    ({"estimator": "cdiffe", "condition_speed": 0}, "set estimator: cde"),
    ({"estimator": "cmde", "condition_speed": 0}, "set estimator: cde"),
    ({"estimator": "vs-cmde", "condition_speed": 1}, "set estimator: cdiffe"),
    ({"condition_speed": 2e-4}, "condition_speed above 0.0002"),
    ({"process": {"name": "edm", "sigma_min": 0.1, "sigma_max": 5}}, "condition_speed above 0.02"),
    ({"amortise": True, "estimator": "cdiffe"}, "set estimator: cmde"),
    ({"anneal": 0.5}, "set estimator: vs-cmde"),
    ({"mask": True}, "set operator: {name: mask}"),
    ({"mask": True, "operator": "box-downsample"}, "the operator is box-downsample"),
    ({"consistency": 0.5}, "set operator"),
    ({"noise_std": 0.5}, "set operator"),
    ({"condition_speed": 1.5}, "less than or equal to 1"),
    ({"condition_speed": -0.1}, "greater than or equal to 0"),
    ({"estimator": "sr3"}, "'cde', 'cdiffe', 'cmde' or 'vs-cmde'"),
    ({"condition_noise": "new"}, "'fresh', 'path' or 'frozen'"),
    ({"condition_dropout": 1}, "less than 1"),
]


@pytest.mark.parametrize(("settings", "said"), CONTRADICTIONS, ids=lambda value: str(value)[:60])
def test_settings_that_contradict_each_other(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ConditionalConfig(**settings)
    assert said in str(caught.value)


def test_the_speed_is_the_estimators_unless_given() -> None:
    speeds = {name: ConditionalConfig(estimator=name).speed for name in ("cde", "cdiffe", "cmde", "vs-cmde")}
    assert speeds == {"cde": 0, "cdiffe": 1, "cmde": 0.01, "vs-cmde": 0.01}
    assert ConditionalConfig(condition_speed=0.25).speed == 0.25


IMAGE = (1, 8, 8)
UNFIT: list[tuple[dict[str, Any], str, str]] = [
    ({"spec": TensorSpec((), classes=3)}, "only classes", "estimator: cde"),
    ({"spec": TensorSpec((2,)), "clean": ["mask"]}, "one tensor without a name", "leave clean out"),
    ({"spec": {"y": TensorSpec((2,))}, "clean": ["mask"]}, "the condition has y", "leave clean out"),
    ({"spec": {"y": TensorSpec((2,))}, "clean": ["y"]}, "clean parts", "estimator: cde"),
    ({"event_shape": IMAGE, "spec": TensorSpec((1, 16, 16))}, "would lose pixels", "at most the event's size"),
    ({"event_shape": IMAGE, "spec": TensorSpec((5,))}, "can't predict its noise", "joint: false"),
    (
        {"event_shape": IMAGE, "spec": TensorSpec(IMAGE), "operator": "edges"},
        "is not linear",
        "choose a linear operator",
    ),
    (
        {"event_shape": IMAGE, "spec": TensorSpec((1, 2, 2)), "operator": "box-downsample"},
        "0 parts of that shape",
        "set operator to the one",
    ),
    (
        {
            "event_shape": IMAGE,
            "spec": {"a": TensorSpec(IMAGE), "b": TensorSpec(IMAGE)},
            "operator": "mask",
        },
        "2 parts of that shape",
        "under clean",
    ),
    (
        {
            "event_shape": IMAGE,
            "spec": TensorSpec(IMAGE),
            "operator": {"name": "mask", "region": "square", "each": True},
        },
        "the data must give it",
        "clean: [mask]",
    ),
    (
        {
            "event_shape": IMAGE,
            "spec": TensorSpec(IMAGE),
            "mask": True,
            "operator": {"name": "mask", "region": "square", "each": True},
        },
        "another one for every point",
        "clean: [mask]",
    ),
    (
        {
            "event_shape": IMAGE,
            "spec": {"image": TensorSpec((1, 4, 4)), "mask": TensorSpec(IMAGE)},
            "clean": ["mask"],
            "operator": [{"name": "mask", "region": "square", "each": True}, "box-downsample"],
        },
        "a mask of each event as one step of several",
        "take the mask alone",
    ),
    ({"network": "mlp"}, "which has not been built", "Host.create"),
]


@pytest.mark.parametrize(("settings", "said", "hint"), UNFIT, ids=lambda value: str(value)[:60])
def test_data_that_do_not_fit(build: Build, settings: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**settings)
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


def test_data_without_a_condition() -> None:
    config = ConditionalConfig(network=MLP(MLPConfig(width=8, blocks=1)))
    with pytest.raises(ConfigError, match="data without a condition") as caught:
        Conditional(config, data=DataSpec((3,)))  # type: ignore[arg-type]
    assert caught.value.hint is not None


ASKED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"condition_noise": "old"}, "expected fresh, path or frozen"),
    ({}, {"condition_speed": 0.5}, "trained at 0.01 alone"),
    ({"estimator": "cde"}, {"condition_speed": 0.5}, "trained at 0 alone"),
    ({"amortise": True}, {"condition_speed": 0.001}, "trained at 0.01 to 1"),
    ({"amortise": True}, {"condition_speed": 2.0}, "trained at 0.01 to 1"),
    ({}, {"consistency": 0.5}, "has no operator"),
    ({}, {"consistency": "all"}, "consistency is 'all'; expected a number"),
    ({"amortise": True}, {"condition_speed": "slow"}, "condition_speed is 'slow'; expected a number"),
    ({}, {"steps_of_noise": 3}, "knows no sampling option steps_of_noise"),
    ({"event_shape": IMAGE, "spec": TensorSpec(IMAGE), "operator": "mask"}, {"consistency": 1.5}, "from 0 to 1"),
]


@pytest.mark.parametrize(("settings", "options", "said"), ASKED, ids=lambda value: str(value)[:60])
def test_options_of_sampling(build: Build, settings: dict[str, Any], options: dict[str, Any], said: str) -> None:
    model = build(**settings)
    spec = model.condition_spec
    assert isinstance(spec, TensorSpec)
    with pytest.raises(ConfigError, match=said):
        model.sample(1, torch.zeros(1, *spec.shape), steps=2, **options)


def test_a_condition_that_is_missing_or_of_another_shape(build: Build) -> None:
    model = build((3,), TensorSpec((2,)))
    x, t = torch.randn(2, 3), torch.full((2,), 0.5)
    for ask in (
        lambda: model.score(x, t),
        lambda: model.bind(None)(x, t),
        lambda: model.bind(torch.randn(2, 2), guidance=2.0)(x, t),
    ):
        with pytest.raises(ConfigError, match="condition_dropout above 0"):
            ask()
    with pytest.raises(ShapeError, match=r"expected \(B, 2\)"):
        model.bind(torch.randn(2, 5))
    with pytest.raises(ShapeError):
        model.score(x, t, torch.randn(2, 5))
    with pytest.raises(DataError, match=r"the condition is inf in row 1 at position 0 \(from 0\)"):
        model.sample(2, torch.tensor([[0.0, 1.0], [torch.inf, 1.0]]))
    with pytest.raises(ScorefoldError):
        model.sample(2, torch.randn(2, 2).long(), sampler="no-such")


@pytest.mark.parametrize("wrong", [{"std": 0}, {"noise_std": 0}, {"radius": -1}, {"modes": 0}, {"points": 0}])
def test_a_ring_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PosteriorConfig(**wrong)
