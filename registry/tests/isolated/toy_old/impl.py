"""The components: they draw, warn, report, read the version of ``clash``, and misbehave."""

from __future__ import annotations

import ctypes
import locale
import os
import random
import signal
import socket
import sys
import time
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import clash
import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from scorefold.config import Config, Inline, Use
from scorefold.data import Dataset, EventScale
from scorefold.errors import DataError, SplitError
from scorefold.interfaces import DataSource, Estimator, Network
from scorefold.results import Estimate
from scorefold.stage import reported


class Shift(Config):
    by: float = Field(0.0, ge=0, description="How far")


class MeanConfig(Config):
    scale: float = Field(1.0, gt=0, description="A factor")
    even: int = Field(2, description="An even number")
    shift: Shift = Shift()

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} was given; expected an even number")
        return value


class Mean(Estimator):
    def __init__(self, config: MeanConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config
        self.drawn = torch.randn((), generator=generator)
        self.initial = torch.randn(())

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = data.tensor() if isinstance(data, Dataset) else data
        if len(x) < 3:
            raise DataError(f"{len(x)} points were given; expected 3 at least", hint="give it more points")
        means = x.reshape(len(x), -1).mean(1) * self.config.scale + self.config.shift.by
        noise = torch.randn(3, generator=generator)
        for _ in reported(range(3), 3, "thirds"):
            pass
        drawn = {"noise": noise, "drawn": float(self.drawn), "initial": float(self.initial)}
        drawn |= {"numpy": np.float64(2.5), "infinite": float("inf"), "pair": (1, [2, None])}
        value = float(means.mean() + noise.sum())
        return Estimate(
            "mean", value, (value - 1, value + 1), pointwise=means, diagnostics={"clash": clash.VERSION, **drawn}
        )


class OfPort(Mean):
    def __init__(self, config: MeanConfig, reference: Any, *, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator=generator)
        self.reference = reference

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        if isinstance(self.reference, Estimator):
            return self.reference.estimate(data, generator=generator)
        return super().estimate(self.reference.load("train"), generator=generator)


class MisdeedConfig(Config):
    do: str = Field(description="What to do")
    kept: Path | None = Field(None, description="A file to write")


class Misdeed(Estimator):
    def __init__(self, config: MisdeedConfig) -> None:
        self.config = config

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        do = self.config.do
        if do == "segfault":
            ctypes.string_at(0)
        elif do == "exit":
            os._exit(3)
        elif do == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif do == "system-exit":
            sys.exit(4)
        elif do == "raise":
            raise KeyError("no such thing")
        elif do == "interrupt":
            raise KeyboardInterrupt
        elif do == "warn":
            warnings.warn("mind this", RuntimeWarning, stacklevel=1)
        elif do == "loop":
            if self.config.kept is not None:
                self.config.kept.touch()
            while True:
                time.sleep(0.01)
        elif do == "memory":
            held = [torch.ones(2**26) for _ in range(100)]
            return Estimate("mean", float(len(held)))
        elif do == "patch":
            torch.randn = None  # type: ignore[assignment]
            torch.Tensor.__add__ = None  # type: ignore[assignment, method-assign]
            torch.set_default_dtype(torch.float64)
            os.chdir("/")
            locale.setlocale(locale.LC_ALL, "C")
            random.seed(0)
            warnings.simplefilter("ignore")
            np.seterr(all="raise")
            torch.set_default_device("meta")
            torch.inference_mode().__enter__()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("x" * 5_000_000)
        elif do == "path":
            return Estimate("mean", float(sys.path[0].count("layers")), diagnostics={"pid": os.getpid()})
        elif do == "threads":
            return Estimate("mean", float(torch.get_num_threads()))
        elif do == "read":
            self.config.kept.read_text()
        elif do == "write":
            self.config.kept.write_text("written")
        elif do.startswith("connect"):
            socket.create_connection(("127.0.0.1", int(do.partition(":")[2])), timeout=5).close()
        elif do == "processes":
            seen = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
            return Estimate("mean", float(len(seen)), diagnostics={"home": os.environ["HOME"]})
        elif do == "strange":
            return 3  # type: ignore[return-value]
        elif do == "object":
            return Estimate("mean", 1.0, diagnostics={"held": object()})
        return Estimate("mean", 1.0, diagnostics={"pid": os.getpid(), "random": random.random()})


class Shape(ABC):
    """The interface of a kind that the plugin adds."""

    @abstractmethod
    def size(self, x: Tensor) -> Tensor: ...


class SquareConfig(Config):
    side: float = Field(2.0, gt=0, description="Length of a side")


class Square(Shape):
    def __init__(self, config: SquareConfig) -> None:
        self.side = config.side

    def size(self, x: Tensor) -> Tensor:
        return self.side**2 * x


class Layer(Network):
    def __init__(self, config: Config) -> None:
        pass

    def build(self, in_shape: Any, out_shape: Any, *, time: bool = False, condition: Any = None) -> nn.Module:
        return nn.Linear(*in_shape, *out_shape)


class SizedConfig(Config):
    network: Inline("network") = Use(use="network:toy-network")  # type: ignore[valid-type]


class Sized(Estimator):
    reads_neighbours = True

    def __init__(self, config: SizedConfig, shape: Shape) -> None:
        self.shape, self.layer = shape, config.network.build((1,), (1,))

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("size", self.shape.size(self.layer(torch.ones(1, 1))).item())


class PointsConfig(Config):
    points: int = Field(50, ge=3, description="Points")
    splits: tuple[str, ...] = Field(("train", "test"), description="The splits it has")


class Points(DataSource):
    def __init__(self, config: PointsConfig, *, generator: torch.Generator | None = None) -> None:
        self.splits = config.splits
        self.x = torch.randn(config.points, 3, generator=generator)
        self.label = torch.arange(config.points) % 2
        self.event_shape, self.event_scale = (3,), EventScale.of(self.x)
        self.label_names = ("even", "odd")

    def load(self, split: str) -> Dataset:
        if split not in self.splits:
            raise SplitError(f"these points have no {split!r}")
        half = len(self.x) // 2
        part = slice(0, half) if split == "train" else slice(half, None)
        x = self.x[part]
        return Dataset(x, label=self.label[part], index=torch.arange(len(x)), truth={"dimension": 3})

    def data_warnings(self) -> tuple[str, ...]:
        return ("these points are made up",)


class FileConfig(Config):
    path: Path = Field(description="A file of numbers")


class File(Points):
    def __init__(self, config: FileConfig) -> None:
        self.path = config.path
        super().__init__(PointsConfig(points=6))
        self.x = torch.tensor([float(word) for word in config.path.read_text().split()])[:, None]
        self.label = torch.zeros(len(self.x), dtype=torch.int64)
        self.event_shape, self.event_scale = (1,), EventScale.of(self.x)

    def fingerprint(self) -> str:
        return self.path.read_text()
