"""Jobs for the cluster, and a component whose estimate is made of jobs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.config import Config
from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import Estimator
from scorefold.plugin import Component, hookimpl
from scorefold.results import Estimate
from scorefold.stage import Executor

__plugin_api__ = "1.0"


class StubbornError(Exception):
    """An error that can't be pickled."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)


@hookimpl
def scorefold_components() -> Any:
    for name, target in (("of-jobs", "OfJobs"), ("of-waiting", "OfWaiting")):
        yield Component(
            kind="estimator",
            name=name,
            target=f"dask_jobs:{target}",
            config="scorefold.config:Config",
            summary="Made for a test",
        )


class OfJobs(Estimator):
    """The largest eigenvalue of the covariance, from sums that jobs make."""

    def __init__(self, config: Config, *, executor: Executor | None) -> None:
        self._executor = executor

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = data.tensor() if isinstance(data, Dataset) else data
        assert self._executor is not None
        parts = self._executor.map("dask_jobs:second_moment", x.chunk(4), key="moments")
        moment = torch.stack([part for part, _ in parts]).sum(0) / len(x)
        value = float(torch.linalg.eigvalsh(moment)[-1])
        return Estimate("variance", value, diagnostics={"processes": sorted({process for _, process in parts})})


class OfWaiting(Estimator):
    """Says that it is there and sleeps for a minute."""

    def __init__(self, config: Config) -> None:
        pass

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        Path(f"here-{os.getpid()}").touch()
        time.sleep(60)
        return Estimate("nothing", 0.0)


def second_moment(x: Tensor) -> tuple[Tensor, int]:
    return x.T @ x, os.getpid()


def spectrum(seed: int) -> Tensor:
    """Something whose last bits depend on how it is computed."""
    x = torch.randn(300, 300, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.svdvals(x @ x.T).cumsum(0)


def around(item: Any) -> dict[str, Any]:
    """What surrounds a job: its process, its threads, and what may be used."""
    names = ("SCOREFOLD_PLUGINS", "SCOREFOLD_OF_WORKER")
    variables = {name: os.environ.get(name) for name in names}
    return {"process": os.getpid(), "threads": torch.get_num_threads(), **variables}


def fail(item: str) -> str:
    """Fails in the way that the item names."""
    if item == "data":
        raise DataError("too few points", hint="give more", file="points.csv", line=3, column=1)
    if item == "stubborn":
        raise StubbornError("it stays here", "because")
    if item == "disk":
        raise OSError(28, "no space left")
    return item


def die(item: tuple[str, str, int]) -> int:
    """Ends its process, "always", or "once" as a file records; otherwise squares."""
    how, folder, number = item
    mark = Path(folder) / f"died-{number}"
    if how == "always" or (how == "once" and not mark.exists()):
        mark.touch()
        os._exit(9)
    return number * number
