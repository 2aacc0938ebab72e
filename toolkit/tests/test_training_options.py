"""Options of training: parts of a batch, mirrored images, minutes in place of steps, Adam's averages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from training_toys import Quadratic, TwoPhase, config, differing, points

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss
from scorefold_toolkit.training import fit, validation
from scorefold_toolkit.training.validation import batch_parts, mirrored, replanned


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(parts: int) -> None:
    """Its loss draws no noise, so that only rounding differs; 16 points in 3 parts are 6, 5 and 5."""
    whole, split = Quadratic(), Quadratic()
    fit(whole, points(), config(steps=30, batch_size=16))
    fit(split, points(), config(steps=30, batch_size=16, accumulate=parts))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_parts_hold_every_point_once() -> None:
    parts = batch_parts(points(10), 3)
    assert [len(part) for part in parts] == [4, 3, 3]
    assert torch.equal(torch.cat([part.x for part in parts]), points(10).x)


def test_images_are_mirrored_with_their_conditions(generator: torch.Generator) -> None:
    x = torch.randn(400, 1, 4, 6)
    condition = {"image": 2 * x[:, 0], "vector": x[:, 0, 0, :3], "class": torch.zeros(400, dtype=torch.long)}
    batch = mirrored(Dataset(x=x, condition=condition), 0.25, generator)
    flipped = (batch.x == x.flip(-1)).flatten(1).all(1)
    kept = (batch.x == x).flatten(1).all(1)
    assert bool((flipped ^ kept).all())
    assert 0.18 < float(flipped.double().mean()) < 0.32
    assert isinstance(batch.condition, dict)
    assert torch.equal(batch.condition["image"], 2 * batch.x[:, 0])
    assert torch.equal(batch.condition["vector"], condition["vector"])


def test_vectors_are_not_mirrored() -> None:
    with pytest.raises(TrainingError, match=r"training\.flip mirrors images .* shape \(4,\)"):
        fit(Quadratic(), points(), config(steps=2, flip=0.5))


@pytest.fixture
def _as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_toolkit.training.loop.replanned", lambda step, steps, **timed: steps)


@pytest.mark.usefixtures("_as_planned")
def test_minutes_are_timed_first_and_kept(tmp_path: Path) -> None:
    """Phases share the steps, which are those that were timed when the training goes on, on a machine of any speed."""
    settings = TrainingConfig(minutes=0.002, batch_size=16)
    report = fit(TwoPhase(), points(), settings, checkpoint_dir=tmp_path)
    kept = json.loads((tmp_path / "steps.json").read_text())
    assert kept == {"steps": report.steps, "minutes": 0.002, "batch_size": 16}
    assert report.steps >= 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "steps.json").write_text(json.dumps({"steps": 31}))
    assert fit(TwoPhase(), points(), settings, checkpoint_dir=other).steps == 31


@pytest.mark.usefixtures("_as_planned")
def test_few_steps_take_smaller_batches_where_nobody_chose_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each point of a step takes a tenth of a millisecond: 44 steps of 256 points fit into 1.14 s, or 356 of 32."""

    def timed(model: Any, place: int, train: Any, config: TrainingConfig, limit: float) -> float:
        return 1e-4 * config.batch_size

    monkeypatch.setattr("scorefold_toolkit.training.validation._seconds_a_step", timed)

    def batch(minutes: float, folder: Path | None = None, **settings: Any) -> tuple[int, int | None]:
        report = fit(
            Quadratic(), points(400), TrainingConfig(minutes=minutes, ema=None, **settings), checkpoint_dir=folder
        )
        return report.steps, report.summary()["metrics"].get("batch size")

    assert batch(0.02, tmp_path) == (356, 32)
    assert json.loads((tmp_path / "steps.json").read_text())["batch_size"] == 32
    assert batch(0.02, tmp_path) == (356, 32), "it is kept with the plan"
    assert batch(0.02, accumulate=64) == (178, 64), "a part needs a point"
    assert batch(0.02, batch_size=256) == (44, None), "it was chosen"
    assert batch(0.2) == (1781, 64), "of 128 points there would be 890"
    assert batch(0.5) == (1113, None), "a thousand fit"


class Clock:
    """Stands in for the machine's clock: time passes by what losses take, and nothing else takes any."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


class Timed(Quadratic):
    """A loss that takes as many seconds as ``seconds`` says of its next call."""

    def __init__(self, clock: Clock, seconds: Iterator[float]) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def loss(self, *given: Any, **named: Any) -> Loss:
        self.clock.now += next(self.seconds)
        return super().loss(*given, **named)


@pytest.mark.parametrize("kept", [50_000, 12])
def test_steps_are_timed_again(tmp_path: Path, clock: Clock, kept: int) -> None:
    """Steps of 5 ms of which 50,000 or 12 were planned: 120 fit into the .6 s."""
    settings = TrainingConfig(minutes=0.01, batch_size=16)
    (tmp_path / "steps.json").write_text(json.dumps({"steps": kept}))

    def steps() -> int:
        return fit(Timed(clock, itertools.repeat(0.005)), points(), settings, checkpoint_dir=tmp_path).steps

    taken = steps()
    assert taken == pytest.approx(120, rel=0.1)
    # What is complete is not trained again, whatever the plan was.
    spent = clock.now
    assert steps() == taken
    assert clock.now == spent


def test_a_slow_first_step_says_nothing_of_the_others(tmp_path: Path, clock: Clock) -> None:
    """Half a second, then 3 ms a step: 233 of them fit into the .7 s that are left of 1.2."""
    (tmp_path / "steps.json").write_text(json.dumps({"steps": 5000}))
    model = Timed(clock, itertools.chain([0.5], itertools.repeat(0.003)))
    report = fit(model, points(), TrainingConfig(minutes=0.02, batch_size=16), checkpoint_dir=tmp_path)
    assert report.steps == pytest.approx(234, rel=0.1)
    assert report.last("loss") is not None


def test_a_stopped_training_keeps_its_changed_plan(tmp_path: Path, clock: Clock) -> None:
    """Steps of 10 ms, of which 120 fit; the 40th is not ended, and the training goes on from the 35th."""

    class StoppedError(Exception):
        pass

    def stopping() -> Iterator[float]:
        yield from itertools.repeat(0.01, 39)
        raise StoppedError

    (tmp_path / "steps.json").write_text(json.dumps({"steps": 50_000}))
    settings = TrainingConfig(minutes=0.02, batch_size=16, checkpoint_every=5)
    with pytest.raises(StoppedError):
        fit(Timed(clock, stopping()), points(), settings, checkpoint_dir=tmp_path)
    seen: list[tuple[int, int]] = []

    def show(done: int, total: int, text: str) -> None:
        seen.append((done, total))

    model = Timed(clock, itertools.repeat(0.01))
    report = fit(model, points(), settings, checkpoint_dir=tmp_path, progress=show)
    assert report.steps == pytest.approx(120, rel=0.1)
    assert all(done <= total < 1000 for done, total in seen)


@pytest.mark.parametrize(
    ("step", "left", "each", "expected"),
    [
        (50, 10.0, 0.2, 100),
        (50, 10.5, 0.2, 100),
        (50, 10.0, 1.0, 60),
        (50, 10.0, 0.01, 300),
        (99, 0.0, 1.0, 100),
        (100, 0.0, 1.0, 100),
        (100, 50.0, 1.0, 150),
    ],
)
def test_a_plan_is_changed_where_it_is_off_by_a_tenth(step: int, left: float, each: float, expected: int) -> None:
    assert replanned(step, 100, left=left, each=each) == expected


def test_a_plan_never_ends_before_the_next_step() -> None:
    assert replanned(40, 100, left=-5.0, each=1.0) == 41


@pytest.mark.usefixtures("_as_planned")
def test_timing_changes_nothing_that_is_drawn(tmp_path: Path) -> None:
    timed, given = TwoPhase(), TwoPhase()
    report = fit(timed, points(), TrainingConfig(minutes=0.002, batch_size=16, ema=None))
    fit(given, points(), TrainingConfig(steps=report.steps, batch_size=16, ema=None))
    assert differing(timed, given) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 100, "minutes": 5}, "set one of them"),
        ({"minutes": 0}, "greater than 0"),
        ({"batch_size": 4, "accumulate": 8}, "a part needs a point"),
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"betas": [0.9, 1.0]}, "less than 1"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingConfig.model_validate(given)


def test_adam_takes_its_averages_from_the_config() -> None:
    plain, fast = Quadratic(), Quadratic()
    fit(plain, points(), config(steps=20))
    fit(fast, points(), config(steps=20, betas=(0.5, 0.9)))
    assert differing(plain, fast) != []


def test_timing_stops_after_the_first_steps_where_there_is_no_time_left() -> None:
    calls = itertools.count()

    class Counted(Quadratic):
        def loss(self, *given: Any, **named: Any) -> Loss:
            next(calls)
            return super().loss(*given, **named)

    assert validation._seconds_a_step(Counted(), 0, points(), TrainingConfig(steps=9), 0.0) > 0
    assert next(calls) == validation._WARM_UP + 1
    assert validation._seconds_a_step(Counted(), 0, points(), TrainingConfig(steps=9), 60.0) > 0
    assert next(calls) == 2 * validation._WARM_UP + validation._TIMED + 2
