"""Learning rates of trainings by episodes that fall, and trainings that end, where nothing is gained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.stage import StageContext
from scorefold_allocation.data.classes import DigitRotations
from scorefold_allocation.data.config import DigitRotationsConfig, SinusoidTasksConfig
from scorefold_allocation.data.regression import SinusoidTasks
from scorefold_allocation.learners.config import EpisodesConfig, EvaluateOptions, MAMLConfig
from scorefold_allocation.learners.episodes import Course, Rule, SeedGroup, tasks_as, train_episodes
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.learners.methods import EpisodicLearner
from scorefold_allocation.learners.networks import GradientSteps, StackedMLP
from scorefold_allocation.learners.trainer import evaluate_learner

SINUSOID = SinusoidTasks(SinusoidTasksConfig())
DIGITS = DigitRotations(DigitRotationsConfig())
CELL = AllocationCell(4, 5, 5)
PUBLISHED = {"factor": 0.5, "patience": 10, "watch": "accuracy", "most_falls": 4}
"""The plateau of the paper's images, whose trainings also end by a patience of 2,000 updates."""


def of_torch(accuracies: Sequence[float], losses: Sequence[float]) -> list[float]:
    """The learning rates of updates as the paper's settings have them, written out with torch's own scheduler: a look
    every 50 updates, an end after more than 4 falls or 2,000 updates after the lowest loss."""
    weight = torch.zeros(1)
    optimiser = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="max", factor=0.5, patience=10)
    rates, least, gained = [1.0], torch.inf, 0
    update = 0
    while len(set(rates)) <= 5 and update + 1 - gained <= 2000:
        update += 1
        if update % 50 == 0:
            look = update // 50 - 1
            scheduler.step(accuracies[look])
            if losses[look] < least:
                least, gained = losses[look], update
        rates.append(optimiser.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("case", ["falls", "gains", "flat"])
def test_the_course_of_the_paper_is_that_of_torch_s_scheduler(case: str) -> None:
    looks = torch.rand(2, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if case == "falls":  # a loss that gains to the end, and an accuracy that does not
        looks[1] = torch.arange(200, 0, -1)
    elif case == "gains":
        looks[0] = torch.arange(1, 201).clamp_max(120) / 200
        looks[1] = torch.arange(200, 0, -1).clamp_min(90)
    else:
        looks[:] = 0.5
    accuracies, losses = looks.tolist()
    config = EpisodesConfig(learning_rate=1.0, plateau=PUBLISHED, patience=2000)
    course = Course(config)
    rates, update = [course.rate], 0
    while not course.ended:
        update += 1
        look = update // 50 - 1
        course.train(update, 1.0)
        if update % 50 == 0:
            course.look(losses[look], -accuracies[look])
        rates.append(course.rate)
    assert rates == of_torch(accuracies, losses)
    # One is ended by its falls, the others by 2,000 updates after the last gain.
    assert update == {"falls": update, "gains": 50 * 111 + 2000, "flat": 50 + 2000}[case]
    assert (rates[-1] == 0.5**5) == (case == "falls")


def test_an_update_goes_by_the_rate_of_its_course() -> None:
    """The first look is the best, so that the rate falls after each later one, until the last fall ends it."""
    network = StackedMLP((1, 8, 1))
    start = [w[None] for w in network.start(torch.Generator().manual_seed(0))]
    rule = Rule(network, GradientSteps(1, 0.01), GradientSteps(1, 0.01))
    groups = [SeedGroup([tasks_as(torch.float64, SINUSOID.batch(4, 10, torch.Generator().manual_seed(0)))], CELL)]
    losses = iter(range(1, 100))
    seen: list[Tensor] = []

    def held_out(weights: Sequence[Tensor]) -> Tensor:
        seen.append(weights[0].detach().clone())
        return torch.tensor([next(losses)], dtype=torch.float64)

    settings: dict[str, Any] = {"updates": 30, "validation": {"every": 3}, "dtype": "float64"}
    plateau = {"factor": 0.05, "patience": 0, "most_falls": 2}
    kept, last, updates = train_episodes(
        EpisodesConfig(**settings, plateau=plateau), rule, start, groups, [0], held_out
    )
    assert updates == 12, "looks at 3, 6, 9 and 12 updates, of which the fourth makes the third fall"
    assert torch.equal(kept[0], seen[0])
    assert torch.equal(last[0], seen[-1])
    steps = [float((later - earlier).norm()) for earlier, later in pairwise(seen)]
    assert steps[0] > 10 * steps[1] > 0
    assert steps[1] > 10 * steps[2] > 0
    assert train_episodes(EpisodesConfig(**settings), rule, start, groups, [0], held_out)[2] == 30
    patient = EpisodesConfig(**settings, patience=7)
    assert train_episodes(patient, rule, start, groups, [0], held_out)[2] == 3 + 7


def maml(**settings: Any) -> EpisodicLearner:
    few = {"tasks": 6, "support": 10, "query": 10}
    return EpisodicLearner(
        MAMLConfig(**{"updates": 12, "validation": {"tasks": 6, "every": 3}, "new_tasks": few} | settings)
    )


def test_a_course_without_a_fall_or_an_end_changes_nothing() -> None:
    plain = maml(dtype="float64")
    held = maml(dtype="float64", plateau={"patience": 100, "watch": "accuracy"}, patience=100)
    for one, other in zip(*(learner.evaluate_seeds(DIGITS, [CELL], [0, 1]) for learner in (plain, held)), strict=True):
        torch.testing.assert_close(one.test, other.test, rtol=1e-9, atol=1e-12)
        assert one.updates is None
        assert other.updates is not None
        assert other.updates.tolist() == [12]


def test_each_seed_ends_by_itself_and_the_verb_says_when() -> None:
    """Digits, whose accuracy on few tasks rises and falls."""
    learner = maml(
        updates=60, learning_rate=0.01, rate=0.1, plateau={"patience": 1, "watch": "accuracy", "most_falls": 1}
    )
    options = EvaluateOptions(cells=({"tasks": 4, "support": 5, "query": 5},), seeds=4)
    outcome = evaluate_learner(learner, {"data": DIGITS}, options, StageContext("try"))
    updates = outcome.arrays["updates"][:, 0]
    assert len(updates.unique()) > 1
    assert (updates % 3 == 0).all()
    assert float(updates.min()) < 60
    assert outcome.result["metrics"]["updates, 4 tasks of 5 + 5"] == float(updates.mean())
    header, row = outcome.texts["cells.csv"].splitlines()
    assert header == "tasks,support,query,loss,deviation,training_loss,updates"
    assert row.endswith(f",{float(updates.mean())}")
    alone = learner.evaluate_seeds(DIGITS, [CELL], [3])[0].updates
    assert alone is not None
    assert torch.equal(alone, learner.evaluate_seeds(DIGITS, [CELL], [1, 3])[1].updates)


def test_a_training_loss_is_watched_at_every_update_without_validation() -> None:
    learner = maml(validation={"tasks": 0}, plateau={"watch": "training", "patience": 0, "gain": 0.9, "most_falls": 3})
    (losses,) = learner.evaluate_seeds(SINUSOID, [CELL], [0])
    assert losses.updates is not None
    assert losses.updates.tolist() == [5], "the first update is the best; the fifth makes the fourth fall"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"plateau": {"watch": "accuracy"}}, "plateau.watch: accuracy was asked for, and these tasks have numbers"),
        ({"plateau": {}, "validation": {"tasks": 0}}, "plateau needs validation tasks, and there are none"),
        ({"patience": 3, "validation": {"tasks": 0}}, "patience needs validation tasks, and there are none"),
    ],
)
def test_a_course_that_nothing_is_known_for_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        maml(**settings).evaluate(SINUSOID, [CELL], 0)


def test_a_patience_that_ends_before_the_first_look_is_refused() -> None:
    with pytest.raises(ValueError, match="patience is 10, and validation tasks are looked at every 50 updates"):
        EpisodesConfig(patience=10, validation={"tasks": 5, "every": 50})
    assert EpisodesConfig(patience=50, validation={"tasks": 5, "every": 50}).has_course


def test_falls_that_end_a_training_must_be_possible() -> None:
    plateau = {"factor": 0.5, "most_falls": 4, "least": 5e-4}
    with pytest.raises(
        ValueError, match=r"4 falls from 0\.001 come to 6\.25e-05; expected more than plateau\.least, 0\.0005"
    ):
        EpisodesConfig(learning_rate=1e-3, plateau=plateau)
    assert EpisodesConfig(learning_rate=1e-3, plateau={**plateau, "least": 1e-5}).has_course


def test_the_last_weights_are_looked_at_where_a_course_ends_between_looks() -> None:
    """By the training loss, which here gains nothing: two falls, and the second ends it."""
    looks: list[int] = []
    plateau = {"factor": 0.5, "patience": 2, "watch": "training", "most_falls": 1, "gain": 1e9}
    config = MAMLConfig(updates=200, plateau=plateau, validation={"tasks": 2, "every": 50})
    network = StackedMLP((1, 4, 1))
    rule = Rule(network, GradientSteps(1, 0.01), GradientSteps(1, 0.01))
    group = SeedGroup([tasks_as(torch.float32, SINUSOID.batch(4, 10, torch.Generator().manual_seed(0)))], CELL)
    start = [w[None].float() for w in network.start(torch.Generator().manual_seed(0))]

    def held_out(weights: Sequence[Tensor]) -> Tensor:
        looks.append(len(looks))
        return torch.tensor([float(-len(looks))], dtype=torch.float64)

    kept, last, updates = train_episodes(config, rule, start, [group], [0], held_out)
    assert updates < 50
    assert len(looks) == 1
    for one, other in zip(kept, last, strict=True):
        assert torch.equal(one, other)
