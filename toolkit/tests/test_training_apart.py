"""Phases that need no other: the same weights alone, together, in any order, in jobs, and after an interruption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import TrainingError
from scorefold.interfaces import Loss, Phase, Progress, TensorSource, Trainable
from scorefold.stage import Executor, StageContext, job_function, pack, unpack
from scorefold_toolkit.training import can_train_apart, fit, fit_apart
from scorefold_verbs.fit import fit as verb_fit

CONFIG = TrainingConfig(steps=24, batch_size=8, warmup=2, log_every=4, checkpoint_every=5, validate_every=8)


class Pair(nn.Module, Trainable):
    """Two noisy linear fits that share nothing but a mean, which ``prepare`` takes."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.training_config = CONFIG
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.parts = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2)) for _ in range(2))
        self.register_buffer("mean", torch.zeros(3))

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        self.mean.copy_(dataset.tensor().mean(0))

    def phases(self) -> Sequence[Phase]:
        return [Phase(f"part-{i}", (part,), independent=True) for i, part in enumerate(self.parts)]

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        part = self.parts[int(progress.phase[-1])]
        noise = torch.randn(batch.x.shape, generator=generator)
        return Loss((part(batch.x - self.mean + noise) - noise).square().mean())


class Chained(Pair):
    def phases(self) -> Sequence[Phase]:
        return [Phase("part-0", (self.parts[0],), independent=True), Phase("part-1", (self.parts[1],), after="part-0")]


class Parcels(Executor):
    """Does jobs here, last first, each on what was sent and not on the caller's objects."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        self.keys.append(key)
        sent = [pack(item, "an item") for item in items]
        return [unpack(pack(job_function(target)(unpack(each)), "an answer")) for each in reversed(sent)][::-1]


def points(seed: int = 0) -> Dataset:
    return Dataset(torch.randn(60, 3, generator=torch.Generator().manual_seed(seed)))


def same(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def whole() -> Pair:
    model = Pair()
    fit(model, points(), CONFIG, seed=3)
    return model


def test_alone_and_in_any_order_as_together() -> None:
    together, alone = whole(), Pair()
    fit(alone, points(), CONFIG, seed=3, only="part-1")
    same(alone.parts[1], together.parts[1])
    fit(alone, points(), CONFIG, seed=3, only="part-0")
    same(alone, together)


def test_jobs_give_the_same_weights_and_one_report() -> None:
    together, shown = whole(), list[tuple[int, int, str]]()
    model, executor = Pair(), Parcels()
    report = fit_apart(
        model, points(), CONFIG, executor, validation=points(1), seed=3, progress=lambda *step: shown.append(step)
    )
    same(model, together)
    reference = fit(Pair(), points(), CONFIG, validation=points(1), seed=3)
    steps = [(row["step"], row["phase"]) for row in report.history]
    assert steps == [(row["step"], row["phase"]) for row in reference.history]
    assert report.steps == 24
    assert report.best_validation == reference.best_validation
    assert shown == [(1, 2, "part-0 trained"), (2, 2, "part-1 trained")]
    assert not model.training


class Tied(Pair):
    """Its first part has a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.parts[0]


def test_jobs_leave_tied_modules_as_trained() -> None:
    model = Tied()
    fit_apart(model, points(), CONFIG, Parcels(), seed=3)
    same(whole(), model)


def test_the_verb_trains_apart_where_jobs_run_beside_one_another() -> None:
    source = TensorSource({"train": points(), "test": points(1)})
    for parallel in (True, False):
        executor = Parcels()
        executor.parallel = parallel
        model = Pair()
        context = StageContext("score", executor=executor)
        verb_fit(model, {"data": source}, None, context)
        assert executor.keys == (["phases of training"] if parallel else [])
        reference = Pair()
        fit(reference, points(), CONFIG, seed=context.seed("fit"))
        same(model, reference)


def test_the_verb_trains_streamed_data_here() -> None:
    """They are read by this process, and can't be sent."""
    train = points()
    streamed = StreamedDataset(x=train.x[:0], fetch=lambda rows: train.take(rows), size=len(train))
    model, executor = Pair(), Parcels()
    context = StageContext("score", executor=executor)
    verb_fit(model, {"data": TensorSource({"test": points(1), "train": streamed})}, None, context)
    reference = Pair()
    fit(reference, train, CONFIG, seed=context.seed("fit"))
    same(model, reference)
    assert executor.keys == []


def test_what_jobs_left_is_gone_on_from(tmp_path: Path) -> None:
    """Checkpoints of jobs know their own phase: restoring one does not undo the other."""
    for name in ("part-1", "part-0"):
        fit(Pair(), points(), CONFIG, seed=3, checkpoint_dir=tmp_path, only=name)
    resumed = Pair()
    report = fit(resumed, points(), CONFIG, seed=3, checkpoint_dir=tmp_path)
    same(resumed, whole())
    assert report.steps == 24
    assert [row["step"] for row in report.history if "loss" in row] == [4, 8, 12, 16, 20, 24]


class Whole(Pair):
    """The whole model is its one phase, which calls itself independent."""

    def phases(self) -> Sequence[Phase]:
        return [Phase("part-0", (self,), independent=True)]


def test_a_phase_of_the_whole_model_is_gone_on_from(tmp_path: Path) -> None:
    first, again = Whole(), Whole()
    fit(first, points(), CONFIG, seed=3, checkpoint_dir=tmp_path)
    fit(again, points(), CONFIG, seed=3, checkpoint_dir=tmp_path)
    same(again, first)


def test_an_interrupted_phase_goes_on(tmp_path: Path) -> None:
    def stop(step: int, values: Any) -> None:
        if step >= 16:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fit(Pair(), points(), CONFIG, seed=3, checkpoint_dir=tmp_path, metrics=stop)
    resumed = Pair()
    fit(resumed, points(), CONFIG, seed=3, checkpoint_dir=tmp_path)
    same(resumed, whole())


def test_what_can_be_trained_apart() -> None:
    assert can_train_apart(Pair())
    assert not can_train_apart(Chained())
    assert not can_train_apart(nn.Linear(2, 2))
    with pytest.raises(TrainingError, match="phase 'part-1' was to be trained alone; independent phases are part-0"):
        fit(Chained(), points(), CONFIG, only="part-1")
