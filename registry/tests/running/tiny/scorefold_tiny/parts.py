"""The tiny components."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.artefacts import digest_file
from scorefold.config import TrainingConfig
from scorefold.data import ConditionSpec, Dataset, EventScale
from scorefold.diffusion import VE
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Estimator, Geometry, Network, ScoreModel, Trainable
from scorefold.interfaces.capabilities import Loss, Progress
from scorefold.results import Estimate
from scorefold.stage import Executor


class Points(DataSource):
    """Points on a line in the plane, drawn by the seed; a file may shift them."""

    def __init__(self, config: Any, *, generator: torch.Generator | None = None) -> None:
        shift = 0.0
        self._path = None if config.path is None else Path(config.path)
        if self._path is not None:
            if not self._path.exists():
                raise DataError(f"there is no file {self._path}", hint="write one number into it")
            shift = float(self._path.read_text())
        along = torch.randn(config.points, 1, generator=generator)
        self._x = torch.cat([along, 2 * along + shift], dim=1)
        self.event_shape = (2,)
        self.event_scale = EventScale(mean=float(self._x.mean()), std=float(self._x.std()), shift=1.0, factor=2.0)

    def load(self, split: str) -> Dataset:
        third = len(self._x) // 3
        start = ("train", "validation", "test").index(split) * third
        index = torch.arange(start, start + third)
        return Dataset(self._x[start : start + third], index=index, truth={"dimension": 1})

    def fingerprint(self) -> str | None:
        return None if self._path is None else digest_file(self._path)


class Net(Network):
    def __init__(self, config: Any) -> None:
        self._width = config.width

    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        return nn.Sequential(nn.Linear(in_shape[0], self._width), nn.Tanh(), nn.Linear(self._width, out_shape[0]))


class Model(ScoreModel, Trainable):
    """A network that learns to predict its input from a noised copy."""

    training_config: TrainingConfig

    def __init__(self, config: Any, *, data: Any) -> None:
        super().__init__(VE(sigma_min=0.1, sigma_max=2.0), data.event_shape)
        self.training_config = config.training
        self._pause = config.pause
        self.net = config.net.build(data.event_shape, data.event_shape)

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        sigma = (0.1 * 20.0**t)[:, None]
        out: Tensor = (self.net(x) - x) / sigma**2
        return out

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        if self._pause:
            time.sleep(self._pause)
        noise = torch.randn(batch.x.shape, generator=generator, dtype=batch.x.dtype)
        return Loss(((self.net(batch.x + 0.1 * noise) - batch.x) ** 2).mean())


class Mean(Estimator):
    """The mean of all coordinates, which answers as a dimension."""

    def __init__(self, config: Any) -> None:
        self._scale = config.scale

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = data.tensor() if isinstance(data, Dataset) else data
        value = self._scale * float(x.mean())
        return Estimate(
            "intrinsic dimension",
            value,
            (value - 1, value + 1),
            pointwise=x.flatten(1).mean(1),
            diagnostics={"note": "tiny", "warnings": ["of <few> points"]},
        )


class Scored(Mean):
    """The mean of the scores at the points."""

    def __init__(self, config: Any, *, score: ScoreModel) -> None:
        super().__init__(config)
        self._model = score

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = data.tensor() if isinstance(data, Dataset) else data
        with torch.no_grad():
            return super().estimate(self._model.score(x, torch.zeros(len(x), dtype=x.dtype)))


class OddError(BaseException):
    """What no ``except Exception`` catches."""


class Fault(Estimator):
    """Fails in the way that its config names."""

    def __init__(self, config: Any) -> None:
        self._kind = config.kind

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        if self._kind == "data":
            raise DataError("too few points: 20 were given, 50 are needed", hint="give more points")
        if self._kind == "figures":
            return Estimate("intrinsic dimension", 1.0)
        if self._kind == "exit":
            sys.exit(0)
        if self._kind == "odd":
            raise OddError
        if self._kind == "nothing":
            return None  # type: ignore[return-value]
        if self._kind == "text":
            return Estimate("intrinsic dimension", "three")  # type: ignore[arg-type]
        if self._kind == "halves":
            raise ValueError("the file caf\udce9.png \ud800")
        raise ValueError("deep inside\nwith a second line")


class Many(Geometry):
    """A geometry that takes several sources, and jobs."""

    def __init__(self, config: Any, *, parts: list[Any], executor: Executor | None) -> None:
        self.count = len(parts)
        self.squares = None if executor is None else executor.map("scorefold_tiny.parts:square", [1, 2], "squares")
        self.event_shape = (2,)

    def metric(self, x: Tensor) -> Tensor:
        return self.count * torch.eye(2).expand(len(x), 2, 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        return {"parts": float(self.count)}, ["it has <several> parts"]


def figures(answer: Estimate) -> Mapping[str, Any]:
    """The estimate drawn, with a caption of its own."""
    if answer.diagnostics.get("note") != "tiny":
        raise ValueError("there is nothing to draw")
    figure = answer.plot()
    figure.set_label("The mean of <all> coordinates")
    return {"mean": figure}


def square(item: int) -> int:
    """A job for executors."""
    return item * item


def where(item: int) -> tuple[int, int, int]:
    """A job that says which process and how many threads it runs with."""
    return item, os.getpid(), torch.get_num_threads()
