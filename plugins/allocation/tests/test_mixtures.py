"""Types of task: mixtures of them, tests on each alone, labels that are flipped, and the options of the verb."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_learners import CELL, FEW, Fixed, generator, maml

from scorefold.errors import ConfigError, DataError
from scorefold.interfaces.data import SPLITS
from scorefold.stage import StageContext
from scorefold_allocation.data.classes import DigitRotations
from scorefold_allocation.data.config import DigitRotationsConfig, LinearTasksConfig, SinusoidTasksConfig
from scorefold_allocation.data.regression import LinearTasks, SinusoidTasks
from scorefold_allocation.learners.config import EpisodesConfig, EvaluateOptions
from scorefold_allocation.learners.episodes import Rule, SeedGroup, episodes, train_episodes
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.learners.networks import GradientSteps, StackedMLP
from scorefold_allocation.learners.trainer import evaluate_learner

NOISY = ({"name": "easy"}, {"name": "hard", "label_noise": 0.4})


def test_a_mixture_of_one_type_is_that_type_alone() -> None:
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    learner = maml(new_tasks={**FEW, "support": 10}, dtype="float64")
    (mixed,) = learner.evaluate_mixtures(source, [{"easy": CELL}], [0])
    easy = learner.evaluate(source.only("easy"), [CELL], 0)
    assert mixed.train is not None
    assert easy.train is not None
    assert torch.equal(mixed.train, easy.train)


def test_all_tasks_of_a_mixture_weigh_alike() -> None:
    """Two groups of one type and size have the training loss and the updates of both together, on a fixed split."""
    source = LinearTasks(LinearTasksConfig(dimension=3, types=({"name": "one"}, {"name": "two"})))
    network = StackedMLP((3, 4, 1))
    start = [w[None] for w in network.start(generator())]
    rule = Rule(network, GradientSteps(1, 0.01), GradientSteps(1, 0.01))
    config = EpisodesConfig(updates=5, split="fixed", tasks_per_update=None, dtype="float64")
    whole = source.batch(9, 10, generator())
    parts = [replace(whole, index=whole.index[rows], target=whole.target[rows]) for rows in (range(3), range(3, 9))]
    groups = [SeedGroup([part], AllocationCell(len(part), 5, 5)) for part in parts]
    together, _, _ = train_episodes(config, rule, start, [SeedGroup([whole], AllocationCell(9, 5, 5))], [0], None)
    apart, _, _ = train_episodes(config, rule, start, groups, [0], None)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_mixtures_take_sizes_of_their_own_and_a_deployment_for_all() -> None:
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    mixture = {"easy": AllocationCell(3, 10, 10), "hard": AllocationCell(3, 5, 5)}
    learner = maml(tasks_per_update=4, new_tasks={**FEW, "support": 10})
    assert [losses.test.shape for losses in learner.evaluate_mixtures(source, [mixture], [0, 1])] == [(1,)] * 2
    with pytest.raises(ConfigError, match=r"support is tied, and the training tasks of one plan have \[5, 10\]"):
        maml(new_tasks={**FEW, "support": "tied"}).evaluate_mixtures(source, [mixture], [0])
    with pytest.raises(DataError, match="no type of task called 'odd'"):
        learner.evaluate_mixtures(source, [{"odd": CELL}], [0])


def test_the_verb_tries_mixtures_by_type() -> None:
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    few, many = {"tasks": 3, "support": 5, "query": 5}, {"tasks": 3, "support": 10, "query": 10}
    options = EvaluateOptions(mixtures=({"easy": many, "hard": few}, {"easy": few, "hard": many}), seeds=2)
    learner = maml(new_tasks={**FEW, "support": 10}, validation={"tasks": 0})
    outcome = evaluate_learner(learner, {"data": source}, options, StageContext("try"))
    assert outcome.arrays["test"].shape == (2, 2)
    assert outcome.result["best"] in ({"easy": many, "hard": few}, {"easy": few, "hard": many})
    assert "test loss, 3 easy tasks of 10 + 10, 3 hard tasks of 5 + 5" in outcome.result["metrics"]
    rows = [line.split(",")[:3] for line in outcome.texts["cells.csv"].splitlines()]
    assert rows[:2] == [["tasks", "support", "query"], ["3 easy + 3 hard", "10 easy + 5 hard", "10 easy + 5 hard"]]
    with pytest.raises(ConfigError, match="Fixed trains on tasks of one size, and was given sizes by type of task"):
        evaluate_learner(Fixed(), {"data": source}, options, StageContext("try"))
    with pytest.raises(ValueError, match="1 cells and 1 mixtures; expected one of them"):
        EvaluateOptions(cells=(few,), mixtures=({"easy": few},))


def test_types_are_tested_on_by_themselves_too() -> None:
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    settings: dict[str, Any] = {"new_tasks": {**FEW, "support": 10}, "validation": {"tasks": 0}, "dtype": "float64"}
    learner = maml(types_alone=("hard", "easy"), **settings)
    options = EvaluateOptions(cells=({"tasks": 4, "support": 5, "query": 5},), seeds=2)
    outcome = evaluate_learner(learner, {"data": source}, options, StageContext("try"))
    header, row = (line.split(",") for line in outcome.texts["cells.csv"].splitlines())
    assert header[-2:] == ["test_loss_of_hard", "test_loss_of_easy"]
    assert row[-1] == str(float(outcome.arrays["test of easy"].mean()))
    assert outcome.result["metrics"]["test loss of hard, 4 tasks of 5 + 5"] == float(row[-2])
    # What is learned does not change, and a type that is all there is, is tested on twice.
    whole, plain = (made.evaluate(source, [CELL], 0) for made in (learner, maml(**settings)))
    assert torch.equal(whole.test, plain.test)
    assert plain.alone == {}
    one = maml(types_alone=("easy",), **settings).evaluate(source.only("easy"), [CELL], 0)
    assert torch.equal(one.alone["easy"], one.test)
    with pytest.raises(DataError, match="no type of task called 'odd'"):
        maml(types_alone=("odd",), **settings).evaluate(source, [CELL], 0)


def test_a_reading_with_redrawn_labels_is_never_repeated() -> None:
    cell = AllocationCell(3, 5, 5)
    kinds = ({"name": "hard", "label_noise": 0.5, "redrawn": True},)
    batch = DigitRotations(DigitRotationsConfig(types=kinds)).batch(*cell[:1], cell.size, generator())
    config = EpisodesConfig(split="fixed", tasks_per_update=None)
    drawn = episodes(config, SeedGroup([batch], cell), 1.0, [generator()], torch.device("cpu"))
    first, second = next(drawn), next(drawn)
    assert sorted(first.x.flatten().tolist()) == sorted(second.x.flatten().tolist())
    assert not torch.equal(first.y.sort().values, second.y.sort().values)


def test_what_redrawn_labels_give_a_seed_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other seeds there are, and in how many pieces new tasks are read."""
    kinds = ({"name": "hard", "label_noise": 0.5, "redrawn": True},)
    source = DigitRotations(DigitRotationsConfig(types=kinds))
    learner = maml(new_tasks={**FEW, "support": 10}, validation={"tasks": 0}, dtype="float64")
    alone = learner.evaluate_seeds(source, [CELL], [0])[0]
    with_others = learner.evaluate_seeds(source, [CELL], [0, 1, 2])[0]
    monkeypatch.setattr("scorefold_allocation.learners.episodes._NUMBERS_AT_ONCE", 1)
    in_pieces = learner.evaluate_seeds(source, [CELL], [0])[0]
    for other in (with_others, in_pieces):
        torch.testing.assert_close(other.test, alone.test, rtol=1e-9, atol=0)
        assert other.train is not None
        assert alone.train is not None
        torch.testing.assert_close(other.train, alone.train, rtol=1e-9, atol=0)


@pytest.mark.parametrize("given", [{}, {"mixtures": [{"easy": {"tasks": 3, "support": 5, "query": 5}}]}])
def test_options_as_a_run_resolves_them_are_options_again(given: dict[str, Any]) -> None:
    options = EvaluateOptions.model_validate(given)
    assert EvaluateOptions.model_validate(options.model_dump()) == options


def test_a_wrong_type_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "scorefold_allocation.learners.trainer.train_episodes", lambda *given: pytest.fail("it was trained")
    )
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    with pytest.raises(DataError, match="no type of task called 'esay'"):
        maml(types_alone=("esay",)).evaluate(source, [CELL], 0)


def test_the_points_of_a_pool_are_counted_through_the_splits() -> None:
    source = SinusoidTasks(SinusoidTasksConfig(tasks=3, labels=4))
    assert [source.load(split).index.tolist() for split in SPLITS] == [
        list(range(start, start + 12)) for start in (0, 12, 24)
    ]
