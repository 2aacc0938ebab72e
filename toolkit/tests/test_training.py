"""Training: what ``fit`` does to weights, against loops written by hand and answers in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import nn
from training_toys import Denoiser, Quadratic, TwoPhase, config, differing, points, state_of, streamed

from scorefold.artefacts import json_text
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss, Phase, Progress
from scorefold.seeds import derive_generator
from scorefold_toolkit.training import fit


def shuffles(count: int, size: int, seed: int, phase: str) -> Iterator[torch.Tensor]:
    """The batches that the documentation promises, written down a second time."""
    epoch = 0
    while True:
        order = torch.randperm(count, generator=derive_generator(seed, "batches", phase, epoch))
        yield from (order[start : start + size] for start in range(0, count - size + 1, size))
        epoch += 1


def test_fit_is_the_loop_one_would_write_by_hand() -> None:
    data, settings = points(), config(steps=60, ema=0.9, clip=0.5, weight_decay=0.01)
    model, twin = Denoiser(dropout=0.0), Denoiser(dropout=0.0)
    fit(model, data, settings, seed=3)

    optimiser = torch.optim.Adam(twin.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    average = [parameter.detach().clone() for parameter in twin.parameters()]
    noise = derive_generator(3, "noise", 0)
    batches = shuffles(100, 16, 3, "fit")
    for step in range(60):
        factor = (step + 1) / 5 if step < 5 else (1 + math.cos(math.pi * (step - 5) / 55)) / 2
        optimiser.param_groups[0]["lr"] = 1e-3 * factor
        optimiser.zero_grad()
        loss = twin.loss(data.take(next(batches)), progress=Progress(step, 60, "fit"), generator=noise)
        loss.value.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimiser.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for mean, parameter in zip(average, twin.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1 - decay)
    with torch.no_grad():
        for mean, parameter in zip(average, twin.parameters(), strict=True):
            parameter.copy_(mean)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-6, atol=1e-8)
    assert not model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_it_finds_a_minimum_known_in_closed_form(optimiser: str) -> None:
    data = points(64)
    model = Quadratic()
    settings = config(steps=400, batch_size=64, learning_rate=0.05, optimiser=optimiser, ema=0.9)
    report = fit(model, data, settings)
    torch.testing.assert_close(model.centre.detach(), data.x.mean(0), rtol=0, atol=2e-3)
    variance = float(data.x.var(0, correction=0).sum())
    assert report.history[-1]["loss"] == pytest.approx(variance, rel=1e-3)
    assert report.steps == 400


def test_the_order_of_points_is_each_once_a_pass() -> None:
    seen: list[int] = []

    class Watcher(Quadratic):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            assert batch.index is not None
            seen.extend(batch.index.tolist())
            return super().loss(batch, progress=progress, generator=generator)

    fit(Watcher(), points(48), config(steps=6))
    first, second = seen[:48], seen[48:]
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second


def test_fewer_points_than_a_batch() -> None:
    data = points(5)
    model = Quadratic()
    fit(model, data, config(steps=300, batch_size=256, learning_rate=0.05, ema=0.9))
    torch.testing.assert_close(model.centre.detach(), data.x.mean(0), rtol=0, atol=2e-3)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_data_train_the_same_to_the_bit(workers: int) -> None:
    plain, other = Denoiser(), Denoiser()
    fit(plain, points(), config(), validation=points(20))
    fit(other, streamed(points(), workers), config(), validation=streamed(points(20), workers))
    assert differing(plain, other) == []


def test_a_seed_decides_everything_and_nothing_global_is_touched() -> None:
    models = [Denoiser(), Denoiser(), Denoiser()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        before = torch.get_rng_state()
        fit(model, points(), config(), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        torch.randn(3)  # the state that the program leaves to the next training must not matter
    assert differing(models[0], models[1]) == []
    assert differing(models[0], models[2]) != []


def test_no_other_device_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.manual_seed`` seeds every device, and only the states of the training's own are put back."""
    model = Denoiser()

    def everywhere(seed: int) -> torch.Generator:
        raise AssertionError("the random state of every device was set")

    monkeypatch.setattr(torch, "manual_seed", everywhere)
    fit(model, points(), config())


def test_validation_and_reports_change_nothing() -> None:
    plain, watched = Denoiser(), Denoiser()
    fit(plain, points(), config())
    fit(
        watched,
        points(),
        config(validate_every=7, log_every=3),
        validation=points(30, seed=1),
        metrics=lambda step, values: None,
        progress=lambda done, total, text: None,
    )
    assert differing(plain, watched) == []


def test_validation_measures_the_averaged_weights() -> None:
    held_out = points(37, seed=1)
    model = Denoiser()
    report = fit(model, points(), config(ema=0.95), validation=held_out)
    total = 0.0
    with torch.no_grad():
        for number, batch in enumerate(held_out.batches(16)):
            generator = derive_generator(0, "validation", number)
            loss = model.loss(batch, progress=Progress(39, 40, "fit"), generator=generator)
            total += float(loss.value) * len(batch)
    # The model now holds the averaged weights, so the last validation must have measured just these.
    assert report.history[-1]["validation"] == pytest.approx(total / 37, rel=1e-6)
    assert report.best_validation == min(row["validation"] for row in report.history if "validation" in row)
    assert report.held_out == report.history[-1]["validation"]


def test_without_averaging_the_last_weights_stay() -> None:
    plain, averaged = Quadratic(), Quadratic()
    fit(plain, points(), config(ema=None))
    fit(averaged, points(), config(ema=0.99))
    assert differing(plain, averaged) == ["centre"]
    assert plain.centre.norm() > averaged.centre.norm() > 0


def test_early_stopping_keeps_the_best_weights() -> None:
    # Held-out points around zero: the start is best, and each step towards the training points' mean is worse.
    far = Dataset(x=points(64).x + 5)
    near = Dataset(x=points(64, seed=1).x + 0.3)
    model = Quadratic()
    settings = config(
        steps=400, learning_rate=0.05, warmup=0, schedule="constant", ema=None, validate_every=2, patience=3
    )
    report = fit(model, far, settings, validation=near)
    losses = [row["validation"] for row in report.history if "validation" in row]
    best = losses.index(min(losses))
    assert report.stopped_early
    assert len(losses) == best + 4
    assert report.steps == 2 * (len(losses) - 1)  # the first is of the start
    assert report.best_validation == report.held_out == losses[best]
    with torch.no_grad():
        kept = model.loss(near, progress=Progress(0, 1, "fit"), generator=torch.Generator()).value
    assert float(kept) == pytest.approx(losses[best], rel=1e-6)
    assert losses[-1] > losses[best]


def test_a_training_that_is_never_better_than_its_start_is_reported_or_refused() -> None:
    near = points(64, seed=1)
    far, near = Dataset(x=points(64).x + 5), Dataset(x=near.x - near.x.mean(0))
    settings = {"steps": 400, "warmup": 0, "schedule": "constant", "ema": None, "validate_every": 2, "patience": 3}
    model = Quadratic()
    report = fit(model, far, config(learning_rate=0.01, **settings), validation=near)
    assert report.steps == 6
    assert "before the training" in report.warnings[0]
    assert report.warnings[0].endswith("so the model is as it was before the training")
    assert all(torch.equal(value, state_of(Quadratic())[name]) for name, value in state_of(model).items())
    with pytest.raises(TrainingError, match=r"the loss on held-out points was .* the training diverged") as caught:
        fit(Quadratic(), far, config(learning_rate=5.0, **settings), validation=near)
    assert "lower training.learning_rate (now 5)" in str(caught.value)


def test_the_learning_rate_falls_where_validation_stands_still() -> None:
    # As above: the first validation is the best, and each later one is a fall until the least rate.
    far, near = Dataset(x=points(64).x + 5), Dataset(x=points(64, seed=1).x + 0.3)
    plateau = {"factor": 0.5, "patience": 0, "least": 0.01}
    settings = config(
        learning_rate=0.05, warmup=0, schedule="constant", ema=None, validate_every=10, log_every=10, plateau=plateau
    )
    report = fit(Quadratic(), far, settings, validation=near)
    losses = [row["validation"] for row in report.history if "validation" in row]
    assert losses == sorted(losses)
    rates = [row["learning_rate"] for row in report.history if "learning_rate" in row]
    assert rates == [0.05, 0.05, 0.025, 0.0125]
    # A phase begins at its own peak: the second one's is its group's.
    settings = config(**{**settings.model_dump(), "plateau": {**plateau, "gain": 0.9}})
    rows = fit(TwoPhase(), points(), settings, validation=near).history
    rates = {
        name: [row["learning_rate"] for row in rows if row["phase"] == name and "loss" in row]
        for name in ("body", "head")
    }
    assert rates == {"body": [0.05, 0.05, 0.025], "head": [0.1, 0.1]}


def test_without_patience_nothing_stops() -> None:
    far, near = Dataset(x=points(64).x + 5), points(64, seed=1)
    report = fit(Quadratic(), far, config(learning_rate=0.05, validate_every=2), validation=near)
    assert (report.steps, report.stopped_early) == (40, False)


def test_phases_run_in_order_with_everything_else_still() -> None:
    model = TwoPhase()
    before = state_of(model)
    seen: list[dict[str, torch.Tensor]] = []

    def watch(step: int, values: Mapping[str, float]) -> None:
        if step in (25, 40):
            seen.append(state_of(model))

    report = fit(model, points(), config(log_every=5, ema=None), metrics=watch)
    assert model.modes == [("body", True, False, True, False)] * 25 + [("head", False, True, False, True)] * 15
    assert [(row["step"], row["phase"]) for row in report.history] == [
        *((step, "body") for step in range(5, 26, 5)),
        *((step, "head") for step in range(30, 41, 5)),
    ]
    after_body, after_head = seen
    assert torch.equal(after_body["head.weight"], before["head.weight"])
    assert not torch.equal(after_body["inner.weight"], before["inner.weight"])
    assert torch.equal(after_head["inner.weight"], after_body["inner.weight"])
    # Batch statistics are part of the phase that trains them.
    assert torch.equal(after_head["statistics.running_mean"], after_body["statistics.running_mean"])
    weight = (after_head["head.weight"] - before["head.weight"]).abs().max()
    bias = (after_head["head.bias"] - before["head.bias"]).abs().max()
    assert weight > 0.1
    assert 0 < bias < 15e-6
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_next_phase_starts_from_averaged_weights() -> None:
    model = TwoPhase()
    averaged: list[torch.Tensor] = []

    class Watcher(TwoPhase):
        def parameter_groups(self, phase: Phase) -> list[dict[str, object]]:
            averaged.append(self.inner.weight.detach().clone())
            return super().parameter_groups(phase)

    watcher = Watcher()
    fit(model, points(), config(steps=25, ema=0.9))
    fit(watcher, points(), config(steps=40, ema=0.9))
    fit(other := TwoPhase(), points(), config(steps=40, ema=None))
    assert torch.equal(averaged[-1], watcher.inner.weight)
    assert not torch.equal(averaged[-1], other.inner.weight)


def test_frozen_parameters_stay_frozen() -> None:
    model = Denoiser()
    model.head.weight.requires_grad_(False)
    before = model.head.weight.clone()
    fit(model, points(), config(weight_decay=0.1))
    assert torch.equal(model.head.weight, before)
    assert not model.head.weight.requires_grad
    assert model.head.bias.requires_grad


def test_prepare_comes_once_and_before_optimiser_and_average() -> None:
    class Prepared(Quadratic):
        calls = 0

        def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
            self.calls += 1
            with torch.no_grad():
                self.centre.copy_(dataset.x.mean(0))

    data = Dataset(x=points(64).x + 5)
    model = Prepared()
    fit(model, data, config(steps=1, batch_size=64, learning_rate=1e-6, ema=0.999))
    assert model.calls == 1
    # Had the average started before, it would still be near zero after a step.
    torch.testing.assert_close(model.centre.detach(), data.x.mean(0), rtol=0, atol=1e-5)


def test_no_steps_are_legal() -> None:
    model = Denoiser()
    before = state_of(model)
    for settings in (config(steps=0), config(steps=0, patience=2)):
        report = fit(model, points(), settings, validation=points(8))
        assert (report.steps, report.history, report.best_validation) == (0, [], None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert fit(TwoPhase(), points(), config(steps=0)).steps == 0


def test_tied_weights_are_trained_once() -> None:
    class Tied(Quadratic):
        def __init__(self) -> None:
            super().__init__()
            self.twin = nn.Module()
            self.twin.centre = self.centre

    plain, tied = Quadratic(), Tied()
    fit(plain, points(), config())
    fit(tied, points(), config())
    assert torch.equal(plain.centre, tied.centre)
    assert tied.twin.centre is tied.centre


def test_what_is_reported() -> None:
    rows: list[tuple[int, Mapping[str, float]]] = []
    bars: list[tuple[int, int, str]] = []
    model = Denoiser()
    report = fit(
        model,
        points(),
        config(steps=45, validate_every=20),
        validation=points(20),
        metrics=lambda step, values: rows.append((step, values)),
        progress=lambda done, total, text: bars.append((done, total, text)),
    )
    assert [step for step, values in rows if "loss" in values] == [10, 20, 30, 40, 45]
    assert [step for step, values in rows if "validation" in values] == [20, 40, 45]
    assert [bar[:2] for bar in bars] == [(10, 45), (20, 45), (30, 45), (40, 45), (45, 45)]
    assert "loss" in bars[0][2]
    assert "steps/s" in bars[0][2]
    for _, values in rows:
        if "loss" in values:
            assert set(values) == {"loss", "fit", "size", "learning_rate", "steps_per_second"}
            assert values["loss"] == pytest.approx(values["fit"] + 0.01 * values["size"], rel=1e-5)
            assert values["steps_per_second"] > 0
    assert len(report.history) == len(rows)
    assert report.final_learning_rate == report.history[-2]["learning_rate"] < 1e-4
    summary = report.summary()
    assert json_text(summary)
    assert summary["metrics"]["steps"] == 45
    assert summary["metrics"]["loss"] == report.history[-2]["loss"]
    assert summary["metrics"]["best validation"] == report.best_validation
    names = {"steps", "loss", "best validation", "final learning rate", "seconds", "CPU seconds"}
    assert set(summary["metrics"]) == names
    assert 0 < report.cpu_seconds <= report.seconds * 4


def test_the_reported_loss_is_the_mean_of_its_steps() -> None:
    values: list[float] = []

    class Watcher(Denoiser):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            loss = super().loss(batch, progress=progress, generator=generator)
            values.append(float(loss.value.detach()))
            return loss

    report = fit(Watcher(), points(), config(steps=20))
    means = [math.fsum(values[:10]) / 10, math.fsum(values[10:]) / 10]
    assert [row["loss"] for row in report.history] == pytest.approx(means, rel=1e-6)
