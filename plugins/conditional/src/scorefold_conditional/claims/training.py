"""Models that are trained for claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from scorefold.diffusion import predictor_corrector
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_conditional.conditional.model import Conditional
from scorefold_toolkit.training import fit


def ancestral(*arguments: Any, **options: Any) -> tuple[Tensor, Any]:
    """Ancestral steps alone, ``predictor_corrector`` without its corrector: what the paper calls the predictor."""
    return predictor_corrector(*arguments, corrector_steps=0, **options)  # type: ignore[call-arg]


ANCESTRAL: dict[str, Any] = {"sampler": ancestral, "spacing": "uniform", "to_zero": False}
"""Sampling of the measured claims: as published, down to the least noise and no further."""


def trained_conditional(host: Any, data: DataSource, config: Mapping[str, Any], seed: int) -> Conditional:
    """A conditional score trained on the training points of a source, its weights and batches from ``seed``."""
    model: Conditional = host.create(
        "score:conditional", dict(config), generator=derive_generator(seed, "weights"), data=data
    )
    fit(model, data.load("train"), model.training_config, seed=seed, precision=host.precision)
    return model
