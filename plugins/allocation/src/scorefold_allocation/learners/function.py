"""A user's own function as a learner."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from scorefold.errors import ConfigError
from scorefold.interfaces import TaskSource
from scorefold_allocation.learner import Cell, Learner, Losses
from scorefold_allocation.learner_config import CallableLearnerConfig


class CallableLearner(Learner):
    """``function(source, cells, seed, **options)``, which gives a number for each cell, or ``Losses``.

    The function is imported when the learner is built. Raises ``ConfigError`` where it can't be, and for an answer that
    is neither.
    """

    def __init__(self, config: CallableLearnerConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config
        self.measure = config.measure
        module, _, name = config.target.partition(":")
        try:
            self._function = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ConfigError(
                f"target: {config.target} can't be imported: {error}",
                hint="is its folder the working folder, or on PYTHONPATH, or installed?",
            ) from error
        except AttributeError as error:
            raise ConfigError(f"target: the module {module} has no {name}") from error
        if not callable(self._function):
            raise ConfigError(f"target: {config.target} is a {type(self._function).__name__}; expected a function")

    def evaluate(self, source: TaskSource, cells: Sequence[Cell], seed: int) -> Losses:
        answer: Any = self._function(source, cells, seed, **self.config.options)
        losses = answer if isinstance(answer, Losses) else Losses(self._numbers(answer))
        for values in (losses.test, losses.train):
            if values is not None and values.shape != (len(cells),):
                raise ConfigError(
                    f"{self.config.target} gave numbers of shape {tuple(values.shape)} for {len(cells)} cells; "
                    "expected one number a cell, in their order"
                )
        return losses

    def _numbers(self, answer: Any) -> torch.Tensor:
        try:
            return torch.as_tensor(answer, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{self.config.target} gave a {type(answer).__name__}; expected one number a cell, or Losses"
            ) from error
