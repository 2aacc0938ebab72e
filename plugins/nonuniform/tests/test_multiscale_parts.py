"""Scales trained alone, together, or as parts of one model: the same weights, and nothing but parts of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from multiscale_toys import TRAINING, field, model, trained

from scorefold.errors import ConfigError, DataError, TrainingError
from scorefold_nonuniform.config import GaussianFieldConfig
from scorefold_nonuniform.gaussian_field import GaussianField
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_toolkit.training import fit


def test_scales_train_to_the_same_weights_alone_and_together(tmp_path: Path) -> None:
    whole = trained()
    assert whole.trained == (0, 1, 2)
    for scale in (2, 0, 1):
        alone = trained(tmp_path, only=f"scale-{scale + 1}")
        assert alone.trained == (scale,)
        for name, value in alone.networks[scale].state_dict().items():
            assert torch.equal(value, whole.networks[scale].state_dict()[name]), name
    resumed = trained(tmp_path)  # from the checkpoints of the three
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(TrainingError, match="independent phases are scale-1, scale-2, scale-3"):
        trained(only="scale-9")


def test_parts_trained_apart_make_the_whole() -> None:
    """Each scale's steps are as in the whole: 30 over three scales are ten each, whichever are trained here."""
    whole = trained()
    parts = [trained(train=[scale]) for scale in (1, 2, 3)]
    joined = model(parts=parts)
    assert joined.trained == (0, 1, 2)
    assert joined.phases() == []
    for name, value in whole.state_dict().items():
        assert torch.equal(value, joined.state_dict()[name]), name
    rest = model(parts=parts[:1])
    assert [(phase.name, phase.steps) for phase in rest.phases()] == [("scale-2", 10), ("scale-3", 10)]
    fit(rest, field().load("train"), rest.training_config, seed=7)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


@pytest.mark.parametrize(
    "other",
    [
        {"network": MLP(MLPConfig(width=16, blocks=2))},
        {"network": MLP(MLPConfig(width=8, blocks=1))},
        {"network": MLP(MLPConfig(width=16, blocks=1, activation="relu"))},
        {"source": field(16)},
    ],
)
def test_a_part_with_other_networks_or_events_is_refused(other: dict[str, Any]) -> None:
    part = trained(train=[2], training={**TRAINING, "steps": 6})
    with pytest.raises(ConfigError, match="the part that trained scale 2 has another network there, or other events"):
        model(parts=[part], **other)


def test_parts_keep_the_moments_that_they_were_trained_with() -> None:
    """A budget sets ends by them, so that the same data change nothing, and other data are refused."""
    settings: dict[str, Any] = {"boundary_kl": 0.3, "budget_sets": "ends", "training": {**TRAINING, "steps": 6}}
    joined = model(parts=[trained(train=[1, 3], **settings)], **settings)
    before = {name: value.clone() for name, value in joined.state_dict().items()}
    fit(joined, field().load("train"), joined.training_config)
    for name, value in joined.state_dict().items():
        assert name.startswith("networks.1.") or torch.equal(value, before[name]), name
    other = GaussianField(GaussianFieldConfig(size=8, points=300, seed=1))
    with pytest.raises(DataError, match="the parts were trained on other data"):
        fit(joined, other.load("train"), joined.training_config)


def test_parts_of_other_data_do_not_make_a_model() -> None:
    part = trained(train=[1])
    other = model(source := GaussianField(GaussianFieldConfig(size=8, points=300, seed=1)), train=[2])
    fit(other, source.load("train"), other.training_config)
    with pytest.raises(ConfigError, match="the parts were trained on different data"):
        model(parts=[part, other])
    near = trained(train=[2])
    near.moments.variance.mul_(1 + 1e-6)  # what another machine's rounding leaves
    assert model(parts=[part, near]).trained == (0, 1)


def test_a_part_answers_for_its_own_scales_alone() -> None:
    part = trained(train=[2]).eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.isfinite(part.score(x, torch.full((2,), 0.5))).all()
    with pytest.raises(ConfigError, match="scale 1 of this model was not trained; trained are 2"):
        part.score(x, torch.full((2,), 0.1))
