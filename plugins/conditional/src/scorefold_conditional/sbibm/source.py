"""``data:sbibm``: parameters as events, with what a simulator makes of them as their conditions."""

from __future__ import annotations

import torch

from scorefold.data import Dataset, TensorSpec
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_conditional.sbibm.config import SbibmConfig
from scorefold_conditional.sbibm.tasks import TASKS
from scorefold_conditional.sbibm.wheel import published
from scorefold_toolkit.data.splits import hold_out, pick, plain_scale, source_seed

FURTHER = 1000
"""Simulations of the test split where there is no wheel."""


class SbibmSource(DataSource):
    """Parameters (P,) of a task of sbibm, drawn from its prior, with a simulated observation (X,) as the condition
    (Lueckmann et al. 2021).

    ``train`` and ``validation`` share the simulations. ``test`` is the ten published observations with their true
    parameters, and the truth ``posterior`` (10, 10000, P) holds reference draws, which ``metric:c2st`` reads. Without
    a wheel it is further simulations. Raises ``DataError`` for a file other than the
    wheel of sbibm.

    >>> from scorefold_registry import Host
    >>> moons = Host.discover().create("data:sbibm", {"task": "two-moons", "simulations": 100})
    >>> moons.load("train")
    Dataset(90 of shape (2,), condition, index)
    """

    def __init__(self, config: SbibmConfig, *, generator: torch.Generator | None = None) -> None:
        task = TASKS[config.task]
        seed = source_seed(config.seed, generator)
        total = config.simulations + (FURTHER if config.wheel is None else 0)
        theta = task.prior(total, derive_generator(seed, "parameters"))
        x = task.simulate(theta, derive_generator(seed, "simulations"))
        whole = Dataset(x=theta.float(), condition=x.float(), index=torch.arange(total))
        train, validation = hold_out(
            torch.randperm(config.simulations, generator=derive_generator(seed, "split")), config.validation
        )
        self._splits = {"train": whole.take(train), "validation": whole.take(validation)}
        if config.wheel is None:
            self._splits["test"] = whole.take(torch.arange(config.simulations, total))
        else:
            truth, seen, draws = published(config.wheel, config.task, task.parameters, task.observed)
            rows = torch.arange(total, total + len(truth))
            self._splits["test"] = Dataset(x=truth, condition=seen, index=rows, truth={"posterior": draws})
        self.event_shape = (task.parameters,)
        self.condition_spec = TensorSpec((task.observed,))
        self.event_scale = plain_scale(self._splits["train"].x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)
