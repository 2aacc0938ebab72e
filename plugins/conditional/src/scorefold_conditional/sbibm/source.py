"""``data:sbibm``: parameters as events, with what a simulator makes of them as their conditions."""

from __future__ import annotations

import bz2
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_conditional.sbibm.config import SbibmConfig
from scorefold_conditional.sbibm.tasks import TASKS
from scorefold_toolkit.data.splits import hold_out, pick, plain_scale, source_seed

OBSERVATIONS = 10
DRAWS = 10_000
_FETCH = "pip download --no-deps sbibm==1.1.0"


def published(wheel: Path, task: str, parameters: int, observed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ten published observations of a task: (true parameters (10, P), observations (10, X), reference draws
    (10, 10000, P)), in float32.

    Raises ``DataError`` for a missing file, another file than the wheel, and tables of other sizes.
    """
    if not wheel.exists():
        raise DataError(f"there is no file {wheel}; expected the wheel of sbibm", hint=_FETCH)
    try:
        # A folder with the content serves as well as the zip.
        root = wheel if wheel.is_dir() else zipfile.Path(wheel)
        parts = [_observation(root, wheel, task, number) for number in range(1, OBSERVATIONS + 1)]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{wheel} can't be read as the wheel of sbibm: {error}", hint=_FETCH) from error
    expected = ((1, parameters), (1, observed), (DRAWS, parameters))
    for number, found in enumerate(parts, 1):
        shapes = tuple(tuple(part.shape) for part in found)
        if shapes != expected:
            raise DataError(
                f"observation {number} of {task} in {wheel} holds tables of shapes {shapes}; expected {expected}",
                hint=_FETCH,
            )
    theta, x, draws = zip(*parts, strict=True)
    return torch.cat(theta), torch.cat(x), torch.stack(draws)


def _observation(root: Path | zipfile.Path, wheel: Path, task: str, number: int) -> tuple[Tensor, Tensor, Tensor]:
    folder = root / "sbibm" / "tasks" / task.replace("-", "_") / "files" / f"num_observation_{number}"
    names = ("true_parameters.csv", "observation.csv", "reference_posterior_samples.csv.bz2")
    found = []
    for name in names:
        file = folder / name
        if not file.is_file():
            raise DataError(f"{wheel} has no {name} of observation {number} of {task}", hint=_FETCH)
        text = file.read_bytes()
        text = bz2.decompress(text) if name.endswith(".bz2") else text
        try:
            rows = np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, ndmin=2, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{name} of observation {number} of {task} in {wheel} is no table: {error}") from error
        found.append(torch.from_numpy(rows))
    return found[0], found[1], found[2]


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
