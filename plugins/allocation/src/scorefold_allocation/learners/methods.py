"""The learners: MAML, ANIL and prototypical networks, trained by episodes, and one-step MAML on linear regression,
solved exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_allocation.data.batch import TaskBatch, TaskSource
from scorefold_allocation.learners.config import ANILConfig, LinearLearnerConfig, MAMLConfig, PrototypesConfig
from scorefold_allocation.learners.episodes import Rule
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.networks import GradientSteps, build_stack, known_class_losses, prototypes
from scorefold_allocation.learners.trainer import Plan, adaptation_labels, by_type, tasks_of, try_allocations
from scorefold_allocation.theory.linear_model import meta_solution, outer_rows


class LinearMAML(Learner):
    """The weights where gradient flow from 0 on one-step MAML's loss ends, by least squares in float64.

    Losses are half the mean squared error, as in the theory (Bernacchia, "Meta-learning with negative learning rates",
    ICLR 2021). ``Losses.train`` is the loss on the training tasks' query sets after the inner step. It is 0 where there
    are fewer query labels than weights. Events of any shape are flattened. Raises ``ConfigError`` for tasks with
    classes.

    >>> from scorefold_allocation.learners.interface import AllocationCell
    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> tasks, learner = host.create("data:linear-tasks", {"dimension": 3}), host.create("learner:linear")
    >>> losses = learner.evaluate(tasks, [AllocationCell(10, 5, 5), AllocationCell(200, 5, 5)], seed=0)
    >>> bool(losses.test[1] < losses.test[0])  # more tasks, a smaller loss on new ones
    True
    """

    def __init__(self, config: LinearLearnerConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        found = [self._one(source, cell, seed) for cell in cells]
        test, training = zip(*found, strict=True)
        return Losses(torch.stack(test), torch.stack(training))

    def solution(self, source: TaskSource, cell: AllocationCell, seed: int) -> Tensor:
        """The meta-trained weights (p,) in float64."""
        return self._solve(*self._tensors(tasks_of(source, "train", *cell, [seed])[0]), cell.support)

    def _one(self, source: TaskSource, cell: AllocationCell, seed: int) -> tuple[Tensor, Tensor]:
        new = self.config.new_tasks
        x, y = self._tensors(tasks_of(source, "train", *cell, [seed])[0])
        weights = self._solve(x, y, cell.support)
        support = adaptation_labels(new, cell)
        fresh = self._tensors(tasks_of(source, "test", new.tasks, support, new.query, [seed])[0])
        steps = 1 if new.steps is None else new.steps
        rate = self.config.rate if new.rate is None else new.rate
        return _loss(weights, *fresh, support, steps, rate), _loss(weights, x, y, cell.support, 1, self.config.rate)

    def _solve(self, x: Tensor, y: Tensor, support: int) -> Tensor:
        rows = [
            outer_rows(X[:support], t[:support], X[support:], t[support:], self.config.rate)
            for X, t in zip(x, y, strict=True)
        ]
        return meta_solution(rows, x.new_zeros(x.shape[-1]))

    def _tensors(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Inputs (m, n, p) and targets (m, n) in float64."""
        if batch.classifies:
            raise ConfigError(
                "learner:linear predicts numbers; these tasks have classes",
                hint="use learner:maml, or a source of numbers such as data:linear-tasks",
            )
        x, y = batch.tensors()
        return x.double().flatten(2), y.double()


def _loss(weights: Tensor, x: Tensor, y: Tensor, support: int, steps: int, rate: float) -> Tensor:
    """Half the mean squared error on query sets after some steps on support sets; x (m, n, p), y (m, n)."""
    own = weights.expand(len(x), 1, -1).mT
    inputs, targets = x[:, :support], y[:, :support, None]
    for _ in range(steps):
        own = own - rate / support * inputs.mT @ (inputs @ own - targets)
    return (x[:, support:] @ own - y[:, support:, None]).square().mean() / 2


class EpisodicLearner(Learner):
    """MAML and ANIL by ``gradient_rule``, prototypical networks by ``prototype_rule``, as the config is one of theirs.

    The loss of numbers is the mean squared error, without a half, and of classes the cross-entropy; so is
    ``Losses.train``, on the tasks' own split, as in training.

    >>> from scorefold_allocation.learners.interface import AllocationCell
    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> maml = host.create("learner:maml", {"updates": 8, "new_tasks": {"tasks": 10}})
    >>> maml.evaluate(host.create("data:sinusoid-tasks"), [AllocationCell(10, 5, 5)], seed=0).test.shape
    torch.Size([1])
    """

    def __init__(
        self,
        config: ANILConfig | PrototypesConfig,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.config = config
        self.measure = config.measure
        # Measures are in float64, which Apple's devices do not have.
        self.device = torch.device("cpu" if device is None or torch.device(device).type == "mps" else device)

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        return self.evaluate_seeds(source, cells, [seed])[0]

    def evaluate_seeds(self, source: TaskSource, cells: Sequence[AllocationCell], seeds: Sequence[int]) -> list[Losses]:
        return self._evaluate(source, [[(source, cell)] for cell in cells], seeds)

    def evaluate_mixtures(
        self, source: TaskSource, mixtures: Sequence[Mapping[str, AllocationCell]], seeds: Sequence[int]
    ) -> list[Losses]:
        return self._evaluate(source, [by_type(source, mixture) for mixture in mixtures], seeds)

    def _evaluate(self, source: TaskSource, plans: Sequence[Plan], seeds: Sequence[int]) -> list[Losses]:
        return try_allocations(self.config, self.config.new_tasks, self._rule, source, plans, seeds, self.device)

    def _rule(self, event_shape: tuple[int, ...], ways: int | None) -> Rule:
        if isinstance(self.config, PrototypesConfig):
            return prototype_rule(self.config, event_shape, ways)
        return gradient_rule(self.config, event_shape, ways)


def gradient_rule(config: ANILConfig, event_shape: tuple[int, ...], ways: int | None) -> Rule:
    """Weights from which a few gradient steps on a task's support set do well on its query set.

    Finn, Abbeel and Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017: of second
    order, or of first order. By an ``ANILConfig`` only the last layer adapts (Raghu, Raghu, Bengio and Vinyals, "Rapid
    learning or feature reuse?", ICLR 2020).
    """
    new = config.new_tasks
    order, head_only = 2 if config.order == "second" else 1, not isinstance(config, MAMLConfig)
    steps = partial(GradientSteps, order=order, head_only=head_only)
    return Rule(
        build_stack(config.network, event_shape, ways or 1),
        training=steps(config.steps, config.rate),
        new=steps(config.steps if new.steps is None else new.steps, config.rate if new.rate is None else new.rate),
    )


def prototype_rule(config: PrototypesConfig, event_shape: tuple[int, ...], ways: int | None) -> Rule:
    """Classes by the nearest mean of their support points in an embedding that is trained for it.

    Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017, with squared distances. Query
    points of a class that is not in the support set count for nothing in training; on new tasks they make the loss
    infinite, and are wrong in the accuracy. Raises ``ConfigError`` for tasks with numbers to predict.
    """
    if ways is None:
        raise ConfigError(
            "learner:prototypes separates classes; these tasks have numbers to predict",
            hint="use learner:maml, or a source of classes such as data:digit-rotations",
        )
    answer = partial(prototypes, ways=ways)
    return Rule(build_stack(config.network, event_shape, config.dimension), answer, answer, known_class_losses)
