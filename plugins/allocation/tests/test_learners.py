"""Learners in use: deployment, checkpoints, what is drawn at an update, the user's function, the verb, refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from small_learners import CELL, FEW, Fixed, generator, maml
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, TrainingError
from scorefold.stage import StageContext
from scorefold_allocation.data.batch import TaskBatch, TaskSource
from scorefold_allocation.data.classes import DigitRotations
from scorefold_allocation.data.config import DigitRotationsConfig, LinearTasksConfig, SinusoidTasksConfig
from scorefold_allocation.data.regression import LinearTasks, SinusoidTasks
from scorefold_allocation.learners.config import (
    CallableLearnerConfig,
    EpisodesConfig,
    EvaluateOptions,
    LinearLearnerConfig,
    NewTasksConfig,
    PrototypesConfig,
    ValidationConfig,
)
from scorefold_allocation.learners.episodes import Rule, SeedGroup, episodes, mean_measure, tasks_as, train_episodes
from scorefold_allocation.learners.function import CallableLearner
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.methods import EpisodicLearner, LinearMAML
from scorefold_allocation.learners.networks import (
    GradientSteps,
    StackedConvNet,
    StackedMLP,
    known_class_losses,
    task_accuracies,
    task_losses,
)
from scorefold_allocation.learners.trainer import adaptation_labels, evaluate_learner
from scorefold_toolkit.checks import VARIABLE

SINUSOID = SinusoidTasks(SinusoidTasksConfig())
DIGITS = DigitRotations(DigitRotationsConfig())
LINEAR = LinearTasks(LinearTasksConfig(dimension=3))


def numbered(cell: AllocationCell) -> TaskBatch:
    """Tasks whose targets number their labels: 100 task + place."""
    batch = SINUSOID.batch(cell.tasks, cell.size, generator())
    places = 100 * torch.arange(cell.tasks)[:, None] + torch.arange(cell.size)
    return replace(batch, target=places.double())


@pytest.mark.parametrize("split", ["fixed", "reshuffled"])
def test_an_update_deals_labels_as_its_settings_say(split: str) -> None:
    cell = AllocationCell(7, 6, 4)
    config = EpisodesConfig(split=split, tasks_per_update=3, labels_per_update=5)
    drawn = episodes(config, SeedGroup([numbered(cell)], cell), 1.0, [generator()], torch.device("cpu"))
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
    cell = AllocationCell(3, 4, 2)
    config = EpisodesConfig(split="fixed", tasks_per_update=None)
    drawn = episodes(config, SeedGroup([numbered(cell)], cell), 1.0, [generator()], torch.device("cpu"))
    first, second = next(drawn), next(drawn)
    assert first.y is second.y
    assert torch.equal(first.y[0, 1], torch.arange(100, 104).double())


@pytest.mark.parametrize(("support", "query", "limit"), [(1, 9, 2), (9, 1, 3), (5, 5, 7), (2, 1, 2)])
def test_few_labels_leave_both_parts_one_at_least(support: int, query: int, limit: int) -> None:
    cell = AllocationCell(2, support, query)
    for split in ("fixed", "reshuffled"):
        config = EpisodesConfig(split=split, labels_per_update=limit)
        dealt = next(episodes(config, SeedGroup([numbered(cell)], cell), 1.0, [generator()], torch.device("cpu")))
        assert dealt.y.shape[2] >= 1
        assert dealt.target.shape[2] >= 1
        assert dealt.y.shape[2] + dealt.target.shape[2] == limit


def test_the_weights_with_the_least_held_out_loss_are_kept() -> None:
    network = StackedMLP((1, 8, 1))
    start = [w[None] for w in network.start(generator())]
    losses = iter([3.0, 1.0, 2.0, float("nan"), 5.0])
    looked: list[Tensor] = []

    def held_out(weights: Sequence[Tensor]) -> Tensor:
        looked.append(weights[0].detach().clone())
        return torch.tensor([next(losses)], dtype=torch.float64)

    rule = Rule(network, GradientSteps(1, 0.01), GradientSteps(1, 0.01))
    config = EpisodesConfig(updates=9, validation=ValidationConfig(every=2), learning_rate=0.05, dtype="float64")
    groups = [SeedGroup([tasks_as(torch.float64, SINUSOID.batch(4, 10, generator()))], CELL)]
    kept, last, _ = train_episodes(config, rule, start, groups, [0], held_out)
    assert len(looked) == 5, "at 2, 4, 6, 8 and the last update"
    assert torch.equal(kept[0], looked[1])
    assert torch.equal(last[0], looked[-1])
    blind = torch.tensor([torch.nan], dtype=torch.float64)
    never, end, _ = train_episodes(config, rule, start, groups, [0], lambda weights: blind)
    assert torch.equal(never[0], end[0])


def test_training_makes_new_tasks_easier() -> None:
    settings = {"rate": 0.05, "learning_rate": 5e-3, "new_tasks": {**FEW, "tasks": 30}}
    untrained, trained = (
        maml(updates=updates, **settings).evaluate(SINUSOID, [AllocationCell(60, 5, 5)], 0) for updates in (0, 300)
    )
    assert float(trained.test[0]) < 0.8 * float(untrained.test[0])
    assert trained.train is not None
    assert untrained.train is not None
    assert float(trained.train[0]) < 0.8 * float(untrained.train[0])


def test_images_are_separated_after_training() -> None:
    learner = EpisodicLearner(PrototypesConfig(updates=60, new_tasks=NewTasksConfig(tasks=40)))
    assert float(learner.evaluate(DIGITS, [AllocationCell(30, 10, 10)], 0).test[0]) > 0.5, (
        "five classes by chance give 0.2"
    )


def test_deployment_is_the_same_for_all_allocations_unless_it_is_tied() -> None:
    fixed, tied = NewTasksConfig(support=7), NewTasksConfig(support="tied")
    assert [adaptation_labels(fixed, AllocationCell(2, size, 3)) for size in (1, 9)] == [7, 7]
    assert [adaptation_labels(tied, AllocationCell(2, size, 3)) for size in (1, 9)] == [1, 9]


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
    network = StackedMLP((1, 8, 1))
    weights = [torch.stack([w, 2 * w]) for w in network.start(generator())]
    batches = [SINUSOID.batch(9, 12, generator(seed)) for seed in range(2)]
    whole = mean_measure(network, GradientSteps(2, 0.01), weights, batches, 5)
    monkeypatch.setattr("scorefold_allocation.learners.episodes._NUMBERS_AT_ONCE", 60 * network.width)
    torch.testing.assert_close(mean_measure(network, GradientSteps(2, 0.01), weights, batches, 5), whole)


def test_new_tasks_of_large_images_are_answered_a_few_at_a_time() -> None:
    """All at once, the tasks of an ordinary test hold tens of gigabytes in a convolutional network's layers."""
    network, points = StackedConvNet((3, 84, 84), 32, 1, 5), []

    def answer(net: Any, weights: Any, x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        points.append(x.shape[0] * (x.shape[1] + query.shape[1]))
        return torch.zeros(*query.shape[:2], 5)

    image = Dataset(x=torch.zeros(1, 3, 84, 84))
    batch = TaskBatch(image, torch.zeros(20, 10, dtype=torch.long), torch.zeros(20, 10, dtype=torch.long), 5)
    mean_measure(network, answer, [torch.zeros(1, 1)], [batch], 5)
    assert sum(points) == 200
    assert max(points) * network.width * 4 < 2**27


def test_a_network_takes_each_channel_s_mean_and_deviation_out() -> None:
    x = torch.rand(2, 5, 3, 8, 8, generator=generator(), dtype=torch.float64)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain, scaled = StackedConvNet((3, 8, 8), 4, 2, 5), StackedConvNet((3, 8, 8), 4, 2, 5, mean, std)
    weights = [torch.stack([w, w]) for w in plain.start(generator())]
    by_hand = torch.stack([(x[:, :, c] - mean[c]) / std[c] for c in range(3)], 2)
    torch.testing.assert_close(scaled.outputs(weights, x), plain.outputs(weights, by_hand))
    assert not torch.allclose(scaled.outputs(weights, x), plain.outputs(weights, x))
    grey = DigitRotations(DigitRotationsConfig(flatten=False))
    learner = maml(network={"name": "conv", "channels": 2, "mean": mean, "std": std})
    with pytest.raises(ConfigError, match="mean and std have 3 channels; the images of this source have 1"):
        learner.evaluate(grey, [CELL], 0)
    with pytest.raises(ValueError, match="mean has 3 channels and std 0; expected as many"):
        maml(network={"name": "conv", "mean": mean})


def test_accuracy_counts_what_ranks_first() -> None:
    outputs = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0]]])
    assert task_accuracies(outputs, torch.tensor([[0, 0, 1, 1]])).tolist() == [0.5]
    assert task_losses(outputs[..., :1], torch.zeros(1, 4)).tolist() == [3.5]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_outputs_that_are_no_numbers_are_no_accuracy(broken: float) -> None:
    outputs = torch.zeros(2, 3, 4)
    outputs[1, 2, 0] = broken
    assert task_accuracies(outputs, torch.zeros(2, 3)).isfinite().tolist() == [True, False]


def test_a_logit_of_minus_infinity_is_left_out_for_prototypes_alone() -> None:
    """By gradient steps it is an overflow, and its loss is infinite."""
    outputs, y = torch.tensor([[[0.0, -torch.inf], [1.0, 1.0]]]), torch.tensor([[1, 0]])
    assert task_losses(outputs, y).tolist() == [torch.inf]
    torch.testing.assert_close(known_class_losses(outputs, y), torch.tensor([2.0]).log())


def test_classes_without_support_do_not_make_a_new_task_easy() -> None:
    """Tied to one support label, all query points but its class's have no prototype."""
    settings: dict[str, Any] = {"updates": 2, "new_tasks": {"tasks": 5, "support": "tied", "query": 10}}
    cells = [AllocationCell(4, 1, 5), AllocationCell(4, 5, 5)]
    losses, shares = (
        EpisodicLearner(PrototypesConfig(measure=measure, **settings)).evaluate(DIGITS, cells, 0).test
        for measure in ("loss", "accuracy")
    )
    assert losses.isfinite().tolist() == [False, True]
    assert float(shares[0]) <= 0.2


def test_a_network_has_an_output_for_each_class_of_a_task_however_few_labels_show_them() -> None:
    chance = maml(updates=0, new_tasks={"tasks": 60, "support": 1, "query": 1}, rate=0.0)
    assert float(chance.evaluate(DIGITS, [AllocationCell(3, 1, 1)], 0).test[0]) > 1.4, (
        "log 5 by chance, log 2 for two outputs"
    )


def test_tasks_that_a_learner_is_not_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="prototypes separates classes; these tasks have numbers"):
        EpisodicLearner(PrototypesConfig(updates=1)).evaluate(SINUSOID, [CELL], 0)
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
from scorefold_allocation.learners.interface import Losses
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
def nothing(source, cells, seed):
    pass
def holes(source, cells, seed):
    return [None, 1.0]
def negative(source, cells, seed):
    return [0.5, -1.0]
def blind(source, cells, seed):
    return [float("nan"), 0.5]
def listed(source, cells, seed):
    return Losses([1, 2], [3, 4])
def broken(source, cells, seed):
    return [1 / 0 for cell in cells]
def other(tasks, labels):
    return [1.0]
"""


def test_a_function_of_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_learner_.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(name: str, **settings: Any) -> CallableLearner:
        return CallableLearner(CallableLearnerConfig(target=f"my_learner_:{name}", **settings))

    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="only with your permission"):
        made("doubled")
    monkeypatch.setenv(VARIABLE, "my_learner_, half_written_, no_such_module_")

    cells = [AllocationCell(2, 1, 1), AllocationCell(2, 2, 2)]
    assert made("doubled", options={"factor": 3.0}).evaluate(LINEAR, cells, 0).test.tolist() == [6.0, 12.0]
    assert made("whole").evaluate(LINEAR, cells, 0).train is not None
    assert made("listed").evaluate(LINEAR, cells, 0).test.tolist() == [1.0, 2.0]
    assert made("blind", measure="accuracy").evaluate(LINEAR, cells, 0).test.isnan().tolist() == [True, False]
    with pytest.raises(TrainingError, match="my_learner_:broken raised ZeroDivisionError: division by zero"):
        made("broken").evaluate(LINEAR, cells, 0)
    with pytest.raises(ConfigError, match="gave the accuracy 6; expected 0 to 1"):
        made("doubled", options={"factor": 3.0}, measure="accuracy").evaluate(LINEAR, cells, 0)
    for name, said in (
        ("short", r"gave numbers of shape \(1,\) for 2 cells; expected one number a cell"),
        ("words", "gave a list; expected one number a cell, or Losses"),
        ("nothing", "gave None; expected one number a cell, or Losses"),
        ("holes", "gave a list; expected one number a cell"),
        ("negative", "gave the loss -1; expected 0 or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            made(name).evaluate(LINEAR, cells, 0)
    for name, said in (
        ("absent", "has no absent"),
        ("number", "is a int; expected a function"),
        ("other", r"takes \(tasks, labels\) and would be called with \(source, cells, seed\): too many"),
    ):
        with pytest.raises(ConfigError, match=said):
            made(name)
    with pytest.raises(ConfigError, match=r"called with \(source, cells, seed, scale=3\): got an unexpected keyword"):
        made("doubled", options={"scale": 3})
    (tmp_path / "half_written_.py").write_text("def f(:")
    with pytest.raises(ConfigError, match="half_written_ fails as it is imported: SyntaxError"):
        CallableLearner(CallableLearnerConfig(target="half_written_:f"))
    with pytest.raises(ConfigError, match="no_such_module_:f can't be imported"):
        CallableLearner(CallableLearnerConfig(target="no_such_module_:f"))


def test_the_verb_reports_each_allocation_and_the_best() -> None:
    options = EvaluateOptions(cells=({"tasks": 9, "support": 2, "query": 2}, {"tasks": 18, "support": 1, "query": 1}))
    outcome = evaluate_learner(Fixed(), {"data": LINEAR}, options, StageContext("try"))
    assert outcome.result["best"] == {"tasks": 18, "support": 1, "query": 1}
    assert outcome.result["answer"] == {"quantity": "test loss of the best allocation", "value": 2.0}
    assert outcome.result["metrics"]["test loss, 9 tasks of 2 + 2"] == 3.0
    assert outcome.result["metrics"]["training loss, 18 tasks of 1 + 1"] == 4.0
    assert outcome.arrays["test"].shape == outcome.arrays["train"].shape == (3, 2)
    lines = outcome.texts["cells.csv"].splitlines()
    assert lines == ["tasks,support,query,loss,deviation,training_loss", "9,2,2,3.0,0.0,6.0", "18,1,1,2.0,0.0,4.0"]


class Diverging(Learner):
    """Losses by the size of a cell; large cells diverge."""

    def __init__(self, measure: Literal["loss", "accuracy"]) -> None:
        self.measure = measure

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        test = torch.tensor([cell.size / 8 if cell.size <= 4 else torch.nan for cell in cells], dtype=torch.float64)
        return Losses(test, torch.full_like(test, torch.inf))


@pytest.mark.parametrize(("measure", "best"), [("loss", 1), ("accuracy", 2)])
def test_the_verb_goes_on_without_what_diverged(measure: Literal["loss", "accuracy"], best: int) -> None:
    sizes: tuple[Any, ...] = tuple({"tasks": 9, "support": size, "query": size} for size in (3, 1, 2))
    outcome = evaluate_learner(Diverging(measure), {"data": LINEAR}, EvaluateOptions(cells=sizes), StageContext("try"))
    assert outcome.result["best"]["support"] == best
    assert outcome.result["warnings"][0] == f"9 tasks of 3 + 3: the test {measure} of 3 of 3 seeds is not finite"
    assert len(outcome.result["warnings"]) == 4
    json.dumps(outcome.result, allow_nan=False)
    assert outcome.texts["cells.csv"].splitlines()[1] == "9,3,3,nan,nan,inf"
    with pytest.raises(TrainingError, match=rf"the test {measure} is not finite for any allocation: 9 tasks of 3 \+ 3"):
        evaluate_learner(Diverging(measure), {"data": LINEAR}, EvaluateOptions(cells=sizes[:1]), StageContext("try"))


@pytest.mark.parametrize(("name", "source"), [("loss", SINUSOID), ("loss", DIGITS), ("accuracy", DIGITS)])
def test_a_diverging_training_is_reported_and_not_hidden(name: str, source: TaskSource) -> None:
    settings: dict[str, Any] = {"updates": 8, "validation": {"every": 4}, "measure": name}
    assert not bool(maml(rate=1e20, **settings).evaluate(source, [CELL], 0).test.isfinite().any())


def test_prototypes_that_overflow_are_reported_and_not_hidden() -> None:
    settings: dict[str, Any] = {"updates": 8, "learning_rate": 1e20, "validation": {"every": 4}, "new_tasks": FEW}
    for measure in ("loss", "accuracy"):
        learner = EpisodicLearner(PrototypesConfig(measure=measure, **settings))
        assert not bool(learner.evaluate(DIGITS, [CELL], 0).test.isfinite().any())
