"""The log of trials: whose lines are read, what is tried again, and what a trial's failure comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from known_pilots import Known, Nothing, constant, root

from scorefold.errors import ConfigError, DataError, TrainingError
from scorefold_allocation.data.classes import DigitRotations
from scorefold_allocation.data.config import DigitRotationsConfig, LinearTasksConfig
from scorefold_allocation.data.regression import LinearTasks
from scorefold_allocation.learners.config import LinearLearnerConfig
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.methods import LinearMAML
from scorefold_allocation.search.trials import LOG, Trainee, Trials, Tried, trial_digest

CELL = AllocationCell(4, 2, 2)


def trials(tried: Tried, folder: Path | None = None) -> Trials:
    return Trials(tried, 0, None if folder is None else folder / LOG)


def linear(rate: float = 0.4, dimension: int = 3) -> Trainee:
    source = LinearTasks(LinearTasksConfig(dimension=dimension, tasks=2), generator=torch.Generator())
    return Trainee(LinearMAML(LinearLearnerConfig(rate=rate)), source)


def test_a_log_is_read_for_the_same_learner_settings_and_source_alone(tmp_path: Path) -> None:
    values = []
    for tried in (linear(), linear(rate=0.1), linear(dimension=5), Trainee(Known(constant), Nothing())):
        (found,) = trials(tried, tmp_path).run([CELL], range(2))
        assert found.test == trials(tried).run([CELL], range(2))[0].test
        values.append(found.test)
    assert len(set(values)) == 4
    lines = (tmp_path / LOG).read_text().splitlines()
    assert len({json.loads(line)["tried"] for line in lines}) == len(lines) == 4
    again = trials(linear(), tmp_path)
    assert again.run([CELL], range(2))[0].test == values[0]
    assert len((tmp_path / LOG).read_text().splitlines()) == 4


def one(tasks: int, support: int, query: int) -> float:
    return root(support + query, tasks)


def other(tasks: int, support: int, query: int) -> float:
    return constant(support + query, tasks)


def scaled(scale: float, tasks: int, support: int, query: int) -> float:
    return scale * tasks


def test_pilots_differ_by_name_code_and_arguments() -> None:
    pilots: list[Tried] = [one, other, partial(scaled, 1.0), partial(scaled, 2.0), lambda *c: 1.0, lambda *c: 2.0]
    assert len({trial_digest(pilot) for pilot in pilots}) == len(pilots)
    assert trial_digest(partial(scaled, 1.0)) == trial_digest(pilots[2])
    digits = [Trainee(Known(root), DigitRotations(DigitRotationsConfig(ways=ways))) for ways in (2, 5)]
    assert len({trial_digest(each) for each in digits}) == 2


class Counting(Known):
    """Fails the first ``failures`` times, for want of tasks or in training."""

    failures = 0
    error: Exception = TrainingError("it diverged")

    def evaluate(self, source: Any, cells: Sequence[AllocationCell], seed: int) -> Losses:
        if self.asked < self.failures:
            self.asked += 1
            raise self.error
        return super().evaluate(source, cells, seed)


@pytest.mark.parametrize("error", [TrainingError("it diverged"), DataError("a class has 3 points")])
def test_a_trial_that_gave_up_is_reported_and_tried_again_when_it_goes_on(tmp_path: Path, error: Exception) -> None:
    learner = Counting(constant)
    learner.failures, learner.error = 1, error
    first = trials(Trainee(learner, Nothing()), tmp_path)
    (found,) = first.run([CELL], range(1))
    assert math.isnan(found.test[0])
    assert first.failures == (f"4 tasks of 4 labels: {error}",)
    (found,) = trials(Trainee(learner, Nothing()), tmp_path).run([CELL], range(1))
    assert math.isfinite(found.test[0])


def test_a_pilot_may_give_up_a_cell_too() -> None:
    def pilot(tasks: int, support: int, query: int) -> float:
        raise TrainingError("it diverged")

    assert trials(pilot).run([CELL], range(2))[0].failure == "it diverged"


@pytest.mark.parametrize("answer", ["much", None, [1.0, 2.0]])
def test_a_pilot_that_gives_no_number_is_refused(answer: Any) -> None:
    with pytest.raises(ConfigError, match="the pilot gave"):
        trials(lambda tasks, support, query: answer).run([CELL], range(1))


class PerCent(Learner):
    measure = "accuracy"

    def __init__(self, value: float) -> None:
        self.value = value

    def evaluate(self, source: Any, cells: Sequence[AllocationCell], seed: int) -> Losses:
        return Losses(torch.full((len(cells),), self.value).double())


@pytest.mark.parametrize("value", [75, 1.01, -0.01])
def test_accuracies_in_per_cent_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=f"gave the accuracy {value}; expected 0 to 1"):
        trials(Trainee(PerCent(value), Nothing())).run([CELL], range(1))


def test_what_is_counted_is_what_was_asked_for_and_not_what_else_the_log_holds(tmp_path: Path) -> None:
    tried = Trainee(Known(constant), Nothing())
    trials(tried, tmp_path).run([CELL, AllocationCell(100, 5, 5)], range(2))
    later = trials(tried, tmp_path)
    later.run([CELL], range(2))
    assert later.label_runs == 2 * 16


@pytest.mark.parametrize(
    "rubbish", [b'{"cell": [3, 1', b"\xff\xfe\x00\n", b"[1, 2]\n5\nnull\n", b"\n\n", b'{"tried": 1}']
)
def test_rubbish_in_a_log_is_passed_over(tmp_path: Path, rubbish: bytes) -> None:
    tried = Trainee(Known(constant), Nothing())
    trials(tried, tmp_path).run([CELL], range(1))
    with (tmp_path / LOG).open("ab") as log:
        log.write(rubbish)
    trials(tried, tmp_path).run([AllocationCell(8, 2, 2)], range(1))
    done = Known(constant)
    again = trials(Trainee(done, Nothing()), tmp_path)
    again.run([CELL, AllocationCell(8, 2, 2)], range(1))
    assert done.asked == 0


def test_a_folder_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    trials(Trainee(Known(constant), Nothing()), tmp_path / "new" / "pilot").run([CELL], range(1))
    assert (tmp_path / "new" / "pilot" / LOG).exists()
