"""The broken fakes of estimators, allocators and data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from broken_fakes import breaks, calls, changed
from good_fakes import Neighbours, Pixels, Points, Searching, Tens
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset, TensorSpec
from scorefold.results import Estimate

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
breaks("right-on-torus", Neighbours, estimate=answering(lambda found, x: {"value": found.value + (rank(x) == 4)}))
breaks("right-over-range", Neighbours, {"ranges": {"dimension": (1, 60)}})
breaks(
    "rotation-invariant",
    Neighbours,
    estimate=answering(lambda found, x: {"value": found.value + float(10 * x[:, 0].abs().mean())}),
)
breaks(
    "translation-invariant", Neighbours, estimate=answering(lambda found, x: {"value": found.value + float(x.mean())})
)
breaks("scale-invariant", Neighbours, estimate=answering(lambda found, x: {"value": found.value + float(x.std())}))
breaks("rows-in-any-order", Neighbours, estimate=answering(lambda found, x: {"value": found.value + float(x[0, 0])}))
breaks(
    "rows-in-any-order", Neighbours, estimate=answering(lambda found, x: {"pointwise": found.pointwise.sort().values})
)


def of_half(self: Any, data: Any, *, generator: Any = None) -> Any:
    return Neighbours.estimate(self, data[len(data) // 2 :])


breaks("reads-both-halves", Neighbours, estimate=of_half)


def by_batch(what: str) -> Any:
    """An answer that depends on the size of batches."""

    def estimate(self: Any, data: Any, *, generator: Any = None) -> Any:
        found = Neighbours.estimate(self, data)
        return replace(found, **{what: getattr(found, what) + 1 / self.config.batch})

    return estimate


breaks("chunks-agree", Neighbours, estimate=by_batch("value"))
breaks("chunks-agree", Neighbours, estimate=by_batch("pointwise"))


def accepts_few(self: Any, data: Any, *, generator: Any = None) -> Any:
    return Estimate("intrinsic dimension", 0.0) if len(data) < 12 else Neighbours.estimate(self, data)


def vague(self: Any, data: Any, *, generator: Any = None) -> Any:
    from scorefold.errors import DataError

    if len(data) < 12:
        raise DataError("too few points")
    return Neighbours.estimate(self, data)


breaks("refuses-too-few-points", Neighbours, estimate=accepts_few)
breaks("refuses-too-few-points", Neighbours, estimate=vague)
breaks("estimate-shapes", Neighbours, estimate=answering(lambda found, x: {"pointwise": found.pointwise[:-1]}))
breaks("estimate-shapes", Neighbours, estimate=answering(lambda found, x: {"spectrum": found.spectrum[:, :3]}))
breaks("interval-holds-value", Neighbours, estimate=answering(lambda found, x: {"level": 95.0}))
breaks("interval-holds-value", Neighbours, estimate=answering(lambda found, x: {"interval": (0.0, found.value / 2)}))
breaks("estimate-told", Neighbours, estimate=answering(lambda found, x: {"value": math.nan}))
breaks(
    "estimate-told",
    Neighbours,
    estimate=answering(lambda found, x: {"value": None, "interval": None, "headline": "none"}),
)
breaks(
    "tensor-or-dataset",
    Neighbours,
    estimate=answering(lambda found, x: {"value": found.value + isinstance(x, Dataset)}),
)
breaks(
    "tensor-or-dataset",
    Neighbours,
    estimate=answering(lambda found, x: {"value": found.value + isinstance(x, StreamedDataset)}),
)

# Allocators.


def planning(base: type, change: Any) -> Any:
    """``allocate`` with some of the answer changed by ``change(answer, budget)``."""
    return changed(base, "allocate", lambda found, budget: replace(found, **change(found, budget)))


def rows(change: Any) -> Any:
    """The rows of a plan, each changed by ``change(row)``."""
    return lambda found, budget: {"plan": tuple(replace(row, **change(row)) for row in found.plan)}


breaks("within-budget", Tens, allocate=planning(Tens, lambda found, b: {"leftover": found.leftover + 1}))
breaks("whole-numbers", Tens, allocate=planning(Tens, rows(lambda row: {"tasks": float(row.tasks)})))
breaks("infeasible-budget", Tens, allocate=planning(Tens, lambda found, b: {"status": "feasible"}))
breaks("infeasible-budget", Tens, allocate=planning(Tens, lambda found, b: {"plan": found.plan or (None,)}))
breaks("infeasible-budget", Tens, allocate=planning(Tens, lambda found, b: {"status": "fine" if b else found.status}))
breaks("refuses-bad-budgets", Tens, allocate=lambda self, budget, **options: Tens.allocate(self, abs(budget)))
breaks(
    "refuses-bad-budgets",
    Tens,
    allocate=lambda self, budget, constraints=None, **options: Tens.allocate(self, budget, **options),
)


class Silent:
    """An allocation that says nothing."""

    def text(self) -> str:
        return " "


breaks("allocation-told", Tens, allocate=lambda self, budget, **options: Silent())
breaks("loss-predicted", Searching, allocate=planning(Searching, lambda found, b: {"interval": (1e3, 2e3)}))
breaks(
    "loss-predicted",
    Searching,
    allocate=planning(Searching, lambda found, b: {"predicted_loss": float(b), "interval": None}),
)
breaks("near-optimum", Tens, {"summary": "the best there is"})


def asks(self: Any, budget: int, *, pilot: Any = None, **options: Any) -> Any:
    found = Tens.allocate(self, budget, **options)
    return found if pilot is None else replace(found, predicted_loss=pilot(640, 5, 5))


breaks("near-optimum", Tens, allocate=asks)
breaks("near-optimum", Searching, allocate=planning(Searching, lambda found, b: {"plan": ()}))

# Data.


def loading(change: Any) -> Any:
    """``load`` with some of the data set changed by ``change(dataset, source)``."""

    def load(self: Any, split: str) -> Any:
        found = Points.load(self, split)
        return replace(found, **change(found, self))

    return load


def scaled(**more: Any) -> Any:
    """A constructor whose source has another scale."""

    def start(self: Any, config: Any, *, generator: Any = None) -> None:
        Pixels.__init__(self, config, generator=generator)
        self.event_scale = replace(self.event_scale, **more)

    return start


class Sized(Dataset):
    """A data set that is wrong about its events."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (7,)


def sized(self: Any, split: str) -> Dataset:
    found = Points.load(self, split)
    return Sized(x=found.x, index=found.index)


NAMED = {"left": TensorSpec((), classes=3), "right": TensorSpec((2,))}

breaks("splits-disjoint", Points, load=loading(lambda found, source: {"x": found.x[:0], "index": None}))
breaks("splits-disjoint", Points, load=loading(lambda found, source: {"index": 0 * found.index}))
breaks("splits-disjoint", Points, load=lambda self, split: Points.load(self, "train" if split == "test" else split))
breaks("load-repeats", Points, load=loading(lambda found, source: {"x": found.x + next(calls)}))
breaks("load-repeats", Points, load=lambda self, split: Points.load(self, split).take(torch.arange(next(calls) % 7)))
breaks("event-shape", Points, load=loading(lambda found, source: {"x": found.x[:, :3]}))
breaks("event-shape", Points, load=sized)
breaks("event-shape", Points, load=loading(lambda found, source: {"x": found.x.long()}))
breaks("event-shape", Points, load=loading(lambda found, source: {"x": found.x / 0}))
breaks("event-scale", Pixels, load=loading(lambda found, source: {"x": 2 * found.x}))
breaks("event-scale", Pixels, __init__=scaled(mean=0.6))
breaks("event-scale", Pixels, __init__=scaled(std=0.5))
breaks("levels-on-grid", Pixels, load=loading(lambda found, source: {"x": 0.99 * found.x}))
breaks("levels-on-grid", Pixels, __init__=scaled(low=None, high=None))
breaks("unknown-split-refused", Points, load=lambda self, split: self.all)
breaks("conditions-fit", Pixels, load=loading(lambda found, source: {"condition": found.condition + 1}))
breaks("conditions-fit", Pixels, load=loading(lambda found, source: {"condition": found.condition[:, None]}))
breaks("conditions-fit", Pixels, load=loading(lambda found, source: {"condition": None}))
breaks("conditions-fit", Pixels, load=loading(lambda found, source: {"condition": {"class": found.condition}}))
breaks("conditions-fit", Pixels, condition_spec=NAMED)


class Batched(Dataset):
    """A data set whose batches are not its points."""

    how = ""

    def batches(self, size: int, generator: Any = None, *, drop_last: bool = False) -> Any:
        if self.how == "short" and generator is not None:
            return super().batches(size - 1, generator, drop_last=True)
        if self.how == "restless" and generator is not None:
            return super().batches(size, torch.Generator().manual_seed(next(calls)))
        changes = {"first": generator is None, "shuffled": generator is not None}.get(self.how, False)
        return (replace(batch, x=batch.x + changes) for batch in super().batches(size, generator))


def batched(how: str) -> Any:
    kind = type(f"Batched{how.capitalize()}", (Batched,), {"how": how})

    def load(self: Any, split: str) -> Dataset:
        found = Points.load(self, split)
        made: Dataset = kind(x=found.x, index=found.index)
        return made

    return load


breaks("batches-cover", Points, load=batched("first"))
breaks("batches-cover", Points, load=batched("short"))
breaks("batches-cover", Points, load=batched("shuffled"))
breaks("batches-cover", Points, load=batched("restless"))
breaks("truth-fits", Points, load=loading(lambda found, source: {"truth": {"dimension": 5}}))
breaks("truth-fits", Points, load=loading(lambda found, source: {"truth": {"centre": torch.zeros(7)}}))
