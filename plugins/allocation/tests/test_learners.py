"""Learners in use: deployment, checkpoints, what is drawn at an update, the user's function, the verb, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, TrainingError
from scorefold.interfaces import TaskSource
from scorefold.stage import StageContext
from scorefold_allocation.learner import Cell, Learner, Losses
from scorefold_allocation.learner_config import (
    CallableLearnerConfig,
    EpisodesConfig,
    EvaluateOptions,
    LinearLearnerConfig,
    MAMLConfig,
    NewTasksConfig,
    PrototypesConfig,
    ValidationConfig,
)
from scorefold_allocation.learners.adaptation import GradientSteps, task_accuracies, task_losses
from scorefold_allocation.learners.episodes import Group, Rule, episodes, measured, tasks_as, train
from scorefold_allocation.learners.function import CallableLearner
from scorefold_allocation.learners.learners import MAML, Prototypes
from scorefold_allocation.learners.linear import LinearMAML
from scorefold_allocation.learners.networks import MLP
from scorefold_allocation.learners.trainer import adaptation_labels
from scorefold_allocation.task_config import DigitRotationsConfig, LinearTasksConfig, SinusoidTasksConfig
from scorefold_allocation.tasks.batch import TaskBatch
from scorefold_allocation.tasks.digits import DigitRotations
from scorefold_allocation.tasks.regression import LinearTasks, SinusoidTasks
from scorefold_allocation.verbs import evaluate

SINUSOID = SinusoidTasks(SinusoidTasksConfig())
DIGITS = DigitRotations(DigitRotationsConfig())
LINEAR = LinearTasks(LinearTasksConfig(dimension=3))
FEW = {"tasks": 6, "support": 5, "query": 10}
CELL = Cell(4, 5, 5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maml(**settings: Any) -> MAML:
    return MAML(MAMLConfig(**{"updates": 10, "new_tasks": FEW, **settings}))


def numbered(cell: Cell) -> TaskBatch:
    """Tasks whose targets number their labels: 100 task + place."""
    batch = SINUSOID.batch(cell.tasks, cell.size, generator())
    places = 100 * torch.arange(cell.tasks)[:, None] + torch.arange(cell.size)
    return replace(batch, target=places.double())


@pytest.mark.parametrize("split", ["fixed", "reshuffled"])
def test_an_update_deals_labels_as_its_settings_say(split: str) -> None:
    cell = Cell(7, 6, 4)
    config = EpisodesConfig(split=split, tasks_per_update=3, labels_per_update=5)
    drawn = episodes(config, Group([numbered(cell)], cell), 1.0, [generator()])
    seen: list[Tensor] = []
    for _ in range(40):
        _, y, _, target = next(drawn)
        assert (y.shape, target.shape) == ((1, 3, 3), (1, 3, 2))
        both = torch.cat([y, target], 2)[0]
        assert all(len(row.unique()) == 5 for row in both), "no label is dealt twice"
        assert len((both // 100).unique()) == 3
        assert all(len((row // 100).unique()) == 1 for row in both)
        seen.append(both)
    parts = torch.stack(seen) % 100
    assert len((torch.stack(seen) // 100).unique()) == 7
    if split == "fixed":
        assert float(parts[..., :3].max()) == 5 < 6 == float(parts[..., 3:].min())
    else:
        assert float(parts[..., :3].max()) == float(parts[..., 3:].max()) == 9


def test_a_fixed_split_without_limits_is_one_and_the_same() -> None:
    cell = Cell(3, 4, 2)
    drawn = episodes(
        EpisodesConfig(split="fixed", tasks_per_update=None), Group([numbered(cell)], cell), 1.0, [generator()]
    )
    first, second = next(drawn), next(drawn)
    assert first.y is second.y
    assert torch.equal(first.y[0, 1], torch.arange(100, 104).double())


@pytest.mark.parametrize(("support", "query", "limit"), [(1, 9, 2), (9, 1, 3), (5, 5, 7), (2, 1, 2)])
def test_few_labels_leave_both_parts_one_at_least(support: int, query: int, limit: int) -> None:
    cell = Cell(2, support, query)
    for split in ("fixed", "reshuffled"):
        config = EpisodesConfig(split=split, labels_per_update=limit)
        dealt = next(episodes(config, Group([numbered(cell)], cell), 1.0, [generator()]))
        assert dealt.y.shape[2] >= 1
        assert dealt.target.shape[2] >= 1
        assert dealt.y.shape[2] + dealt.target.shape[2] == limit


def test_the_weights_with_the_least_held_out_loss_are_kept() -> None:
    network = MLP((1, 8, 1))
    start = [w[None] for w in network.start(generator())]
    losses = iter([3.0, 1.0, 2.0, float("nan"), 5.0])
    looked: list[Tensor] = []

    def held_out(weights: Sequence[Tensor]) -> Tensor:
        looked.append(weights[0].detach().clone())
        return torch.tensor([next(losses)], dtype=torch.float64)

    rule = Rule(network, GradientSteps(1, 0.01), GradientSteps(1, 0.01))
    config = EpisodesConfig(updates=9, validation=ValidationConfig(every=2), learning_rate=0.05, dtype="float64")
    groups = [Group([tasks_as(torch.float64, SINUSOID.batch(4, 10, generator()))], CELL)]
    kept, last = train(config, rule, start, groups, [0], held_out)
    assert len(looked) == 5, "at 2, 4, 6, 8 and the last update"
    assert torch.equal(kept[0], looked[1])
    assert torch.equal(last[0], looked[-1])
    blind = torch.tensor([torch.nan], dtype=torch.float64)
    never, end = train(config, rule, start, groups, [0], lambda weights: blind)
    assert torch.equal(never[0], end[0])


def test_training_makes_new_tasks_easier() -> None:
    settings = {"rate": 0.05, "learning_rate": 5e-3, "new_tasks": {**FEW, "tasks": 30}}
    untrained, trained = (
        maml(updates=updates, **settings).evaluate(SINUSOID, [Cell(60, 5, 5)], 0) for updates in (0, 300)
    )
    assert float(trained.test[0]) < 0.8 * float(untrained.test[0])
    assert trained.train is not None
    assert untrained.train is not None
    assert float(trained.train[0]) < 0.8 * float(untrained.train[0])


def test_images_are_told_apart_after_training() -> None:
    learner = Prototypes(PrototypesConfig(updates=60, new_tasks=NewTasksConfig(tasks=40)))
    assert float(learner.evaluate(DIGITS, [Cell(30, 10, 10)], 0).test[0]) > 0.5, "five classes by chance give 0.2"


def test_deployment_is_the_same_for_all_allocations_unless_it_is_tied() -> None:
    fixed, tied = NewTasksConfig(support=7), NewTasksConfig(support="tied")
    assert [adaptation_labels(fixed, Cell(2, size, 3)) for size in (1, 9)] == [7, 7]
    assert [adaptation_labels(tied, Cell(2, size, 3)) for size in (1, 9)] == [1, 9]


@pytest.mark.parametrize("support", [0, -2, "tide"])
def test_an_adaptation_without_labels_is_refused(support: Any) -> None:
    with pytest.raises(ValueError, match="support"):
        NewTasksConfig(support=support)


def test_steps_and_rate_of_new_tasks_are_their_own() -> None:
    learners = [
        maml(steps=2, rate=0.02),
        maml(steps=2, rate=0.02, new_tasks={**FEW, "steps": 2, "rate": 0.02}),
        maml(steps=2, rate=0.02, new_tasks={**FEW, "steps": 5}),
        maml(steps=2, rate=0.02, new_tasks={**FEW, "rate": 0.001}),
    ]
    same, again, more, slower = (learner.evaluate(SINUSOID, [CELL], 0) for learner in learners)
    assert torch.equal(same.test, again.test)
    assert not torch.equal(same.test, more.test)
    assert not torch.equal(same.test, slower.test)
    assert same.train is not None
    assert slower.train is not None
    assert torch.equal(same.train, slower.train), "what training comes to does not hang on the new tasks"


def test_many_tasks_are_measured_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MLP((1, 8, 1))
    weights = [torch.stack([w, 2 * w]) for w in network.start(generator())]
    batches = [SINUSOID.batch(9, 12, generator(seed)) for seed in range(2)]
    whole = measured(network, GradientSteps(2, 0.01), weights, batches, 5)
    monkeypatch.setattr("scorefold_allocation.learners.episodes._POINTS_AT_ONCE", 60)
    torch.testing.assert_close(measured(network, GradientSteps(2, 0.01), weights, batches, 5), whole)


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
    network = MLP((3, 4, 1))
    start = [w[None] for w in network.start(generator())]
    rule = Rule(network, GradientSteps(1, 0.01), GradientSteps(1, 0.01))
    config = EpisodesConfig(updates=5, split="fixed", tasks_per_update=None, dtype="float64")
    whole = source.batch(9, 10, generator())
    parts = [replace(whole, index=whole.index[rows], target=whole.target[rows]) for rows in (range(3), range(3, 9))]
    groups = [Group([part], Cell(len(part), 5, 5)) for part in parts]
    together, _ = train(config, rule, start, [Group([whole], Cell(9, 5, 5))], [0], None)
    apart, _ = train(config, rule, start, groups, [0], None)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_mixtures_take_sizes_of_their_own_and_a_deployment_for_all() -> None:
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    mixture = {"easy": Cell(3, 10, 10), "hard": Cell(3, 5, 5)}
    learner = maml(tasks_per_update=4, new_tasks={**FEW, "support": 10})
    assert [losses.test.shape for losses in learner.evaluate_mixtures(source, [mixture], [0, 1])] == [(1,)] * 2
    with pytest.raises(ConfigError, match=r"support is tied, and the training tasks of one plan have \[5, 10\]"):
        maml(new_tasks={**FEW, "support": "tied"}).evaluate_mixtures(source, [mixture], [0])
    with pytest.raises(DataError, match="no type of task called 'odd'"):
        learner.evaluate_mixtures(source, [{"odd": CELL}], [0])


def test_accuracy_counts_what_ranks_first() -> None:
    outputs = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0]]])
    assert task_accuracies(outputs, torch.tensor([[0, 0, 1, 1]])).tolist() == [0.5]
    assert task_losses(outputs[..., :1], torch.zeros(1, 4)).tolist() == [3.5]


def test_tasks_that_a_learner_is_not_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="prototypes tells classes apart; these tasks have numbers"):
        Prototypes(PrototypesConfig(updates=1, measure="loss")).evaluate(SINUSOID, [CELL], 0)
    with pytest.raises(ConfigError, match="measure: accuracy was asked for, and these tasks have numbers"):
        maml(measure="accuracy").evaluate(SINUSOID, [CELL], 0)
    with pytest.raises(ConfigError, match="learner:linear predicts numbers; these tasks have classes"):
        LinearMAML(LinearLearnerConfig()).evaluate(DIGITS, [CELL], 0)
    with pytest.raises(
        ConfigError, match=r"network: conv takes images \(C, H, W\); the events of this source are \(1,\)"
    ):
        maml(network={"name": "conv"}).evaluate(SINUSOID, [CELL], 0)


def test_a_source_without_a_validation_split_keeps_the_last_weights() -> None:
    source = DigitRotations(DigitRotationsConfig(validation=()))
    none = maml(validation={"tasks": 0}, new_tasks={**FEW, "support": 10})
    assert torch.equal(
        maml(new_tasks={**FEW, "support": 10}).evaluate(source, [CELL], 0).test,
        none.evaluate(source, [CELL], 0).test,
    )


MINE = """
from scorefold_allocation.learner import Losses
import torch
number = 3
def doubled(source, cells, seed, factor=2.0):
    return [factor * cell.size for cell in cells]
def whole(source, cells, seed):
    return Losses(torch.ones(len(cells), dtype=torch.float64), torch.zeros(len(cells), dtype=torch.float64))
def short(source, cells, seed):
    return [1.0]
def words(source, cells, seed):
    return ["good", "bad"]
"""


def test_a_function_of_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_learner_.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(name: str, **settings: Any) -> CallableLearner:
        return CallableLearner(CallableLearnerConfig(target=f"my_learner_:{name}", **settings))

    cells = [Cell(2, 1, 1), Cell(2, 2, 2)]
    assert made("doubled", options={"factor": 3.0}).evaluate(LINEAR, cells, 0).test.tolist() == [6.0, 12.0]
    assert made("whole").evaluate(LINEAR, cells, 0).train is not None
    for name, said in (
        ("short", r"gave numbers of shape \(1,\) for 2 cells; expected one number a cell"),
        ("words", "gave a list; expected one number a cell, or Losses"),
    ):
        with pytest.raises(ConfigError, match=said):
            made(name).evaluate(LINEAR, cells, 0)
    for name, said in (("absent", "has no absent"), ("number", "is a int; expected a function")):
        with pytest.raises(ConfigError, match=said):
            made(name)
    with pytest.raises(ConfigError, match="no_such_module_:f can't be imported"):
        CallableLearner(CallableLearnerConfig(target="no_such_module_:f"))


class Fixed(Learner):
    """Losses by the size of a cell and the seed's parity."""

    def __init__(self, worst: float = 3.0) -> None:
        self.worst = worst

    def evaluate(self, source: TaskSource, cells: Sequence[Cell], seed: int) -> Losses:
        test = torch.tensor([min(float(cell.size), self.worst) for cell in cells], dtype=torch.float64)
        return Losses(test, 2 * test)


def test_the_verb_tells_of_each_allocation_and_of_the_best() -> None:
    options = EvaluateOptions(cells=({"tasks": 9, "support": 2, "query": 2}, {"tasks": 18, "support": 1, "query": 1}))
    outcome = evaluate(Fixed(), {"data": LINEAR}, options, StageContext("try"))
    assert outcome.result["best"] == {"tasks": 18, "support": 1, "query": 1}
    assert outcome.result["answer"] == {"quantity": "test loss of the best allocation", "value": 2.0}
    assert outcome.result["metrics"]["test loss, 9 tasks of 2 + 2"] == 3.0
    assert outcome.result["metrics"]["training loss, 18 tasks of 1 + 1"] == 4.0
    assert outcome.arrays["test"].shape == outcome.arrays["train"].shape == (3, 2)
    lines = outcome.texts["cells.csv"].splitlines()
    assert lines == ["tasks,support,query,loss,deviation,training_loss", "9,2,2,3.0,0.0,6.0", "18,1,1,2.0,0.0,4.0"]


def test_the_verb_refuses_losses_that_are_not_finite() -> None:
    options = EvaluateOptions(cells=({"tasks": 9, "support": 2, "query": 2},), seeds=1)
    with pytest.raises(TrainingError, match=r"the test loss of 9 tasks of 2 \+ 2 labels is not finite"):
        evaluate(Fixed(float("-inf")), {"data": LINEAR}, options, StageContext("try"))


def test_a_diverging_training_is_told_and_not_hidden() -> None:
    found = maml(rate=1e20, updates=20, validation={"every": 5}).evaluate(SINUSOID, [CELL], 0)
    assert not bool(found.test.isfinite().all())
