"""A user's own function as a learner."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch

from scorefold.errors import ConfigError, ScorefoldError, TrainingError
from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.config import CallableLearnerConfig
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.trainer import tasks_of
from scorefold_toolkit.checks import check_module


class CallableLearner(Learner):
    """``function(source, cells, seed, **options)``, which gives a number for each cell, or ``Losses``.

    The function is imported when the learner is built, with permission: ``SCOREFOLD_ALLOW_CODE`` names its module.
    Raises ``ConfigError`` without it, where the function can't be imported or doesn't take these arguments, for an
    answer that is neither, and for numbers that ``measure`` rules out; ``TrainingError`` where the function
    raises. Numbers that are not finite are handed on.

    >>> from scorefold_allocation.learners.interface import AllocationCell
    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> target = "scorefold_allocation.learners.function:pooled_ridge"
    >>> learner = host.create("learner:callable", {"target": target, "options": {"penalty": 0.1}})
    >>> tasks = host.create("data:linear-tasks", {"dimension": 3})
    >>> losses = learner.evaluate(tasks, [AllocationCell(10, 5, 5), AllocationCell(200, 5, 5)], seed=0)
    >>> bool(losses.test[1] < losses.test[0])  # more tasks, a smaller loss on new ones
    True
    """

    def __init__(self, config: CallableLearnerConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config
        self.measure = config.measure
        module, _, name = config.target.partition(":")
        check_module(module)
        try:
            self._function = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ConfigError(
                f"target: {config.target} can't be imported: {error}",
                hint="is its folder the working folder, or on PYTHONPATH, or installed?",
            ) from error
        except AttributeError as error:
            raise ConfigError(
                f"target: the module {module} has no {name}", hint="target: module:function, both as they are spelt"
            ) from error
        except Exception as error:
            raise ConfigError(f"target: {module} fails as it is imported: {_described(error)}") from error
        if not callable(self._function):
            raise ConfigError(f"target: {config.target} is a {type(self._function).__name__}; expected a function")
        self._refuse_other_arguments()

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        try:
            answer: Any = self._function(source, cells, seed, **self.config.options)
        except ScorefoldError:
            raise
        except Exception as error:
            raise TrainingError(f"{self.config.target} raised {_described(error)}") from error
        if not isinstance(answer, Losses):
            return Losses(self._numbers(answer, len(cells), self.measure))
        train = None if answer.train is None else self._numbers(answer.train, len(cells), "loss")
        return Losses(self._numbers(answer.test, len(cells), self.measure), train)

    def _refuse_other_arguments(self) -> None:
        options = self.config.options
        try:
            takes = inspect.signature(self._function)
        except (TypeError, ValueError):  # some functions of C have no signature
            return
        try:
            takes.bind(None, (), 0, **options)
        except TypeError as error:
            call = ", ".join(["source", "cells", "seed", *(f"{name}={value!r}" for name, value in options.items())])
            raise ConfigError(
                f"target: {self.config.target} takes {takes} and would be called with ({call}): {error}",
                hint="take source, cells and seed, and set 'options' to the arguments that it needs beside them",
            ) from error

    def _numbers(self, answer: Any, cells: int, measure: str) -> torch.Tensor:
        """The answer as a number for each cell, in float64."""
        target = self.config.target
        try:
            numbers = torch.as_tensor(answer, dtype=torch.float64).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{target} gave {_shown(answer)}; expected one number a cell, or Losses") from error
        if numbers.shape != (cells,):
            raise ConfigError(
                f"{target} gave numbers of shape {tuple(numbers.shape)} for {cells} cells; "
                "expected one number a cell, in their order"
            )
        most = 1.0 if measure == "accuracy" else torch.inf
        outside = numbers[(numbers < 0) | (numbers > most)].tolist()
        if outside:
            raise ConfigError(
                f"{target} gave the {measure} {outside[0]:g}; expected {'0 to 1' if most == 1.0 else '0 or more'}",
                hint=None
                if measure == "accuracy"
                else "measure: accuracy, where the numbers are shares that are right",
            )
        return numbers


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _shown(answer: Any) -> str:
    return "None" if answer is None else f"a {type(answer).__name__}"


def pooled_ridge(source: TaskSource, cells: Sequence[AllocationCell], seed: int, penalty: float = 1.0) -> list[float]:
    """Half the mean squared error on 100 new tasks of ridge regression on all labels at once: one answer for all tasks,
    which adapts to none."""
    x, y = tasks_of(source, "test", 100, 1, 50, [seed])[0].tensors()
    losses = []
    for cell in cells:
        X, t = (part.flatten(0, 1).double() for part in tasks_of(source, "train", *cell, [seed])[0].tensors())
        X = X.flatten(1)
        weights = torch.linalg.solve(X.T @ X + penalty * torch.eye(X.shape[1], dtype=X.dtype), X.T @ t)
        losses.append(float((x.double().flatten(2) @ weights - y).square().mean()) / 2)
    return losses
