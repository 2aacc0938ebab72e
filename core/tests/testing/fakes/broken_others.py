"""The broken fakes of estimators, allocators, data, networks and capabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from broken_fakes import breaks, calls
from good_fakes import GaussianScore, Neighbours, Pixels, Points, Sum, Sums, Tens, Toy
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.interfaces import Loss

# Estimators.


def answering(change: Any) -> Any:
    """``estimate`` with some of the answer changed by ``change(answer, data)``."""

    def estimate(self: Any, data: Any, *, generator: Any = None) -> Any:
        found = Neighbours.estimate(self, data, generator=generator)
        return replace(found, **change(found, data))

    return estimate


def rank(x: Tensor) -> float:
    return float(torch.linalg.matrix_rank(x - x.mean(0)))


breaks("right-on-subspace", Neighbours, estimate=answering(lambda found, x: {"value": float(x.shape[1])}))
breaks("right-on-sphere", Neighbours, estimate=answering(lambda found, x: {"value": rank(x)}))
breaks(
    "rotation-invariant",
    Neighbours,
    estimate=answering(lambda found, x: {"value": found.value + float(10 * x[:, 0].abs().mean())}),
)


def accepts_few(self: Any, data: Any, *, generator: Any = None) -> Any:
    from scorefold.results import Estimate

    return Estimate("intrinsic dimension", 0.0) if len(data) < 12 else Neighbours.estimate(self, data)


breaks("refuses-too-few-points", Neighbours, estimate=accepts_few)
breaks("estimate-shapes", Neighbours, estimate=answering(lambda found, x: {"pointwise": found.pointwise[:-1]}))
breaks("interval-holds-value", Neighbours, estimate=answering(lambda found, x: {"interval": (0.0, found.value / 2)}))
breaks(
    "tensor-or-dataset",
    Neighbours,
    estimate=answering(lambda found, x: {"value": found.value + isinstance(x, Dataset)}),
)

# Allocators.


def planning(change: Any) -> Any:
    """``allocate`` with some of the answer changed by ``change(answer)``."""

    def allocate(self: Any, budget: int, **options: Any) -> Any:
        found = Tens.allocate(self, budget, **options)
        return replace(found, **change(found))

    return allocate


breaks("within-budget", Tens, allocate=planning(lambda found: {"leftover": found.leftover + 1}))
breaks(
    "whole-numbers",
    Tens,
    allocate=planning(lambda found: {"plan": tuple(replace(row, tasks=float(row.tasks)) for row in found.plan)}),
)
breaks("infeasible-budget", Tens, allocate=planning(lambda found: {"status": "feasible"}))
breaks("refuses-bad-budgets", Tens, allocate=lambda self, budget, **options: Tens.allocate(self, abs(budget)))
breaks("allocation-told", Tens, allocate=planning(lambda found: {"predicted_loss": float("nan")}))

# Data.


def loading(change: Any) -> Any:
    """``load`` with some of the data set changed by ``change(dataset, source)``."""

    def load(self: Any, split: str) -> Any:
        found = Points.load(self, split)
        return replace(found, **change(found, self))

    return load


breaks("splits-disjoint", Points, load=lambda self, split: Points.load(self, "train" if split == "test" else split))
breaks("load-repeats", Points, load=loading(lambda found, source: {"x": found.x + next(calls)}))
breaks("event-shape", Points, load=loading(lambda found, source: {"x": found.x[:, :3]}))
breaks("event-scale", Points, load=loading(lambda found, source: {"x": 2 * found.x}))
breaks("levels-on-grid", Pixels, load=loading(lambda found, source: {"x": 0.99 * found.x}))
breaks("unknown-split-refused", Points, load=lambda self, split: self.all)
breaks("conditions-fit", Pixels, load=loading(lambda found, source: {"condition": found.condition + 1}))


class Short(Dataset):
    """A data set whose batches leave out what does not fill one."""

    def batches(self, size: int, generator: Any = None, *, drop_last: bool = False) -> Any:
        return super().batches(size - 1, generator, drop_last=True)


def short(self: Any, split: str) -> Dataset:
    found = Points.load(self, split)
    return Short(x=found.x, index=found.index)


breaks("batches-cover", Points, load=short)
breaks("truth-fits", Points, load=loading(lambda found, source: {"truth": {"dimension": 5}}))

# Networks.


class Timeless(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, None, condition)


class Unconditional(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, t)


class Crowded(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x - x.mean(0), t, condition)


class Idle(Sum):
    def __init__(self, into: int, out: int, condition: Any) -> None:
        super().__init__(into, out, condition)
        self.unused = nn.Linear(1, 1)


class Flat(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, t, condition)[:, 0]


breaks("network-shapes", Sums, module=Flat)
breaks("network-uses-time", Sums, module=Timeless)
breaks("network-uses-condition", Sums, module=Unconditional)
breaks("network-rows-independent", Sums, module=Crowded)
breaks("network-learns", Sums, module=Idle)

# Capabilities.


def detached(self: Any, batch: Dataset, **options: Any) -> Loss:
    return Loss(GaussianScore.loss(self, batch, **options).value.detach())


def unseeded(self: Any, batch: Dataset, *, progress: Any, generator: Any) -> Loss:
    fresh = torch.Generator().manual_seed(next(calls))
    return GaussianScore.loss(self, batch, progress=progress, generator=fresh)


def needs_training(self: Any, batch: Dataset, **options: Any) -> Loss:
    assert self.training
    return GaussianScore.loss(self, batch, **options)


breaks("loss-trains", GaussianScore, loss=detached)
breaks("loss-follows-generator", GaussianScore, loss=unseeded)
breaks("loss-validates", GaussianScore, loss=needs_training)
breaks("phases-cover", GaussianScore, parameter_groups=lambda self, phase: [{"params": [self.mean]}])
breaks("encodes-shapes", Toy, encode=lambda self, x: x[:, :3])
breaks("potential-derivatives", Toy, grad=lambda self, x: x)
breaks(
    "tasks-as-asked",
    Toy,
    tasks=lambda self, m, support, query, generator: Toy.tasks(self, m, query, support, generator),
)

# Too little to be held to: no example of it says anything about its kind.
breaks("floor", Toy, {"provides": (), "examples": ()})
