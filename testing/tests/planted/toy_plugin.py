"""A plugin with something of every kind, which keeps every check. ``test_planted.py`` plants bugs in copies of it."""

# ruff: noqa: F401 - bugs use what the plugin itself does not

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from scorefold.config import Config, TrainingConfig
from scorefold.data import Dataset, EventScale, as_dataset
from scorefold.diffusion import VE
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import (
    Allocator,
    DataSource,
    Estimator,
    Flow,
    Geometry,
    Loss,
    ScoreModel,
    TensorSource,
    Trainable,
)
from scorefold.plugin import Comparison, Component, Kind, Port, Verb, hookimpl
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold.stage import Outcome
from scorefold_toolkit.metrics.measure import Measure, Metric
from scorefold_toolkit.nn.bijection import StandardNormal

__plugin_api__ = "1.0"

NAME = __name__.replace("_", "-")
DATA = Port("data", kind="data")
POINTS = {"use": f"data:{NAME}"}


def declare(kind: str, target: str, **more: Any) -> Component:
    here = {"target": f"{__name__}:{target}", "config": f"{__name__}:SizeConfig", "summary": "A baseline"}
    return Component(kind, NAME, **here, **more)


@hookimpl
def scorefold_components() -> Any:
    fed: dict[str, Any] = {"requires": (DATA,), "examples": ({"inputs": {"data": POINTS}},)}
    yield declare("data", "Points")
    yield declare("score", "Gaussian", **fed, provides=("Trainable",))
    yield declare("flow", "Scaling", **fed)
    yield declare("geometry", "Flat")
    yield declare("estimator", "Neighbours")
    yield declare("allocator", "Tens")
    yield declare("metric", "MeanGap")
    yield declare(f"{NAME}-kind", "Counter")


@hookimpl
def scorefold_kinds() -> Any:
    count = Verb(
        "count",
        takes=(DATA,),
        gives="metrics",
        target=f"{__name__}:count",
        examples=({"use": f"{NAME}-kind:{NAME}", "inputs": {"data": POINTS}},),
    )
    yield Kind(
        f"{NAME}-kind",
        interface=f"{__name__}:Counts",
        verbs=(count,),
        verb_names=("count",),
        comparison=Comparison(("count",), best="largest"),
        summary="What counts",
    )


@hookimpl
def scorefold_verbs() -> Any:
    yield Verb(
        f"{NAME}-thin",
        takes=(DATA,),
        gives="data",
        target=f"{__name__}:thin",
        kinds=("score",),
        examples=({"use": f"score:{NAME}", "inputs": {"data": POINTS}},),
    )


class SizeConfig(Config):
    """A size."""

    size: int = Field(10, ge=1, description="Labels a task, or neighbours")


# data


class Points(DataSource):
    """90 normal points in R^3."""

    def __init__(self, config: SizeConfig, *, generator: torch.Generator | None = None) -> None:
        draws = generator or torch.Generator().manual_seed(0)
        x = torch.randn(90, 3, generator=draws, dtype=torch.float32)
        self.all = Dataset(x, label=torch.arange(90) % 2, index=torch.arange(90))
        self.rows = {"train": range(60), "validation": range(60, 75), "test": range(75, 90)}
        self.event_shape, self.event_scale = (3,), EventScale.of(x[:60])

    def load(self, split: str) -> Dataset:
        if split not in self.rows:
            raise DataError(f"there is no split {split!r}")
        return self.all.take(torch.tensor(self.rows[split]))


# score


class Gaussian(ScoreModel, Trainable):
    """The score of a Gaussian with a learnt mean."""

    def __init__(self, config: SizeConfig, *, data: Any) -> None:
        super().__init__(VE(sigma_max=5.0), data.event_shape, event_scale=data.event_scale)
        self.training_config = TrainingConfig(steps=1)
        self.mean = nn.Parameter(torch.zeros(data.event_shape))
        self.seen = 0.0

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        scale = self.process.coefficients(x, t)[1]
        return (self.mean + self.seen - x) / (1 + scale**2)

    def loss(self, batch: Dataset, *, progress: Any, generator: torch.Generator) -> Loss:
        x = batch.x
        t = torch.rand(len(x), generator=generator, dtype=x.dtype)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        value = (self.noise(self.process.perturb(x, t, noise), t) - noise).square().mean()
        return Loss(value)


# flow


class Scaling(Flow):
    """x times a learnt factor for each coordinate."""

    def __init__(self, config: SizeConfig, *, data: Any) -> None:
        super().__init__(data.event_shape, StandardNormal(), event_scale=data.event_scale)
        self.log_scale = nn.Parameter(torch.full(data.event_shape, 0.3))

    def forward(self, x: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        return z * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(z))


# geometry


class Flat(Geometry):
    """R^3 with a metric that stretches each axis."""

    def __init__(self, config: SizeConfig) -> None:
        self.event_shape = (3,)

    def metric(self, x: Tensor) -> Tensor:
        return torch.diag_embed(torch.arange(1, 4, dtype=x.dtype, device=x.device).expand(x.shape))

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x


# estimator


class Neighbours(Estimator):
    """Levina and Bickel's maximum likelihood."""

    def __init__(self, config: SizeConfig) -> None:
        self.size = config.size

    def estimate(self, data: Any, *, generator: Any = None) -> Estimate:
        data = as_dataset(data)
        x = data.tensor().double()
        if len(x) < self.size + 2:
            raise DataError(f"{self.size + 2} points are needed; {len(x)} were given")
        nearest = torch.cdist(x, x).topk(self.size + 1, largest=False).values[:, 1:]
        inverse = (nearest[:, -1:] / nearest[:, :-1]).log().mean(1)
        value = float(1 / inverse.mean())
        return Estimate("intrinsic dimension", value, (0.9 * value, 1.1 * value), pointwise=1 / inverse)


# allocator


class Tens(Allocator):
    """Tasks of so many labels."""

    def __init__(self, config: SizeConfig) -> None:
        self.size = 2 * config.size

    def allocate(self, budget: int, *, pilot: Any = None, constraints: Any = None, generator: Any = None) -> Allocation:
        if budget < 0 or constraints:
            raise ConfigError(f"a budget of {budget}")
        tasks, left = divmod(budget, self.size)
        if not tasks:
            return Allocation("infeasible", (), budget)
        return Allocation("feasible", (PlanRow("task", tasks, self.size // 2, self.size // 2),), left)


# metric


class MeanGap(Metric):
    """The distance of the mean of samples from the mean of the held-out points."""

    def __init__(self, config: SizeConfig) -> None:
        self.config = config

    def start(self, units: Any, event_shape: Any, condition_spec: Any) -> Measure:
        return Gap()


class Gap(Measure):
    """A sum of differences."""

    def __init__(self) -> None:
        self.gaps: list[Tensor] = []

    def add(self, batch: Any) -> None:
        draws = batch.draws
        self.gaps.append((draws.mean(0) - batch.truth).flatten(1))

    def metrics(self) -> dict[str, float]:
        return {"gap of means": float(torch.cat(self.gaps).mean(0).norm())}


# a kind of its own, and its verb


class Counts:
    """What counts points."""


class Counter(Counts):
    """Counts them one by one."""

    def __init__(self, config: SizeConfig) -> None:
        self.size = config.size

    def number(self, x: Tensor) -> int:
        return len(x) + self.size


def count(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """The number of points."""
    points = inputs["data"].load("train").x
    number = component.number(points)
    answer = {"quantity": "points", "value": number}
    return Outcome({"points": number}, {"metrics": {"points": number}, "answer": answer})


# a verb of another kind


def thin(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """Half of the points, drawn at random."""
    data = inputs["data"]
    x = data.load("train").x
    rows = torch.randperm(len(x), generator=context.generator("rows"))[:30]
    chosen = TensorSource(x[rows])
    return Outcome(chosen, {"metrics": {"points": 30, "mean": float(x[rows].mean())}}, {"x": x[rows]})


# hooks


@hookimpl
def scorefold_before_run(run: Any) -> None:
    """Notes that it began."""
    (run.folder / "noted.txt").write_text(run.name)


@hookimpl
def scorefold_before_stage(run: Any, stage: Any, inputs: Any) -> None:
    """Looks at the inputs."""
    seen = inputs["data"].load("train").x
    assert len(seen)


@hookimpl
def scorefold_run_stage(run: Any, stage: Any, inputs: Any) -> None:
    """Leaves it to the local runner."""
    return None


@hookimpl
def scorefold_on_metrics(run: Any, stage: Any, step: int, metrics: Any) -> None:
    """Looks at the metrics."""
    shown = dict(metrics)
    assert shown


@hookimpl
def scorefold_after_stage(run: Any, stage: Any, outputs: Any, seconds: float) -> None:
    """Looks at the result."""
    found = dict(outputs.result)
    assert found


@hookimpl
def scorefold_report_sections(run: Any) -> Any:
    """One section."""
    return [("Toy", f"<p>{run.name}</p>")]


@hookimpl
def scorefold_after_run(run: Any, result: Any) -> None:
    """Notes that it ended."""
    stages = [stage["name"] for stage in result["stages"]]
    (run.folder / "noted.txt").write_text(", ".join(stages))
