"""The task of Fashion-MNIST by the protocol of ``claims.tasks``; functions answer None where the data set is absent."""

from __future__ import annotations

from typing import Any

from scorefold_caflow.claims import tasks
from scorefold_toolkit.data.published import FASHION_MNIST


def fashion_row(host: Any, profile: str, seed: int, *, model: str, measure: str) -> float | None:
    """A measure of a model, as ``tasks.row``."""
    return tasks.task_measure(host, profile, seed, task="fashion", model=model, measure=measure) if _at_hand() else None


def fashion_above(host: Any, profile: str, seed: int, *, model: str) -> float | None:
    """Additional cost of a model relative to CAFLOW, in bits per dimension."""
    return tasks.above(host, profile, seed, task="fashion", model=model, other="caflow") if _at_hand() else None


def fashion_parameters(host: Any, profile: str, seed: int, *, model: str) -> float | None:
    """A model's number of parameters over CAFLOW's."""
    return tasks.parameters(host, profile, seed, task="fashion", model=model) if _at_hand() else None


def _at_hand() -> bool:
    return FASHION_MNIST.is_dir()
