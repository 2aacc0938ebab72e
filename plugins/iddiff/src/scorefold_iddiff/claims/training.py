"""Scores that are trained for claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorefold.interfaces import DataSource, ScoreModel
from scorefold.seeds import derive_generator
from scorefold_toolkit.training import fit


def trained(host: Any, data: DataSource, config: Mapping[str, Any], seed: int) -> ScoreModel:
    """A score of the training points, by the settings of ``score:denoising``."""
    score = host.create("score:denoising", config, generator=derive_generator(seed, "weights"), data=data)
    fit(score, data.load("train"), score.training_config, seed=seed, precision=host.precision)
    assert isinstance(score, ScoreModel)
    return score
