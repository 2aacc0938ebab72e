"""What learners must hold to, in float64 and without long training: gradients, invariances, seeds that don't mix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian
from torch.nn.functional import cross_entropy, mse_loss

from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.data.classes import DigitRotations
from scorefold_allocation.data.config import DigitRotationsConfig, LinearTasksConfig, SinusoidTasksConfig
from scorefold_allocation.data.regression import LinearTasks, SinusoidTasks
from scorefold_allocation.learners.config import (
    ANILConfig,
    LinearLearnerConfig,
    MAMLConfig,
    PrototypesConfig,
    StackedConvConfig,
    StackedMLPConfig,
)
from scorefold_allocation.learners.episodes import Episode, query_losses
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.learners.methods import EpisodicLearner, LinearMAML
from scorefold_allocation.learners.networks import (
    GradientSteps,
    Stack,
    StackedConvNet,
    StackedMLP,
    known_class_losses,
    prototypes,
    task_losses,
)
from scorefold_allocation.learners.trainer import tasks_of

NETWORK = StackedMLP((3, 7, 5, 1))
RATE = 0.1


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights_of(network: Stack, seeds: int = 1) -> list[Tensor]:
    """The weights of some seeds, moved off their start."""
    drawn = [network.start(torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    stacked = [torch.stack(each) for each in zip(*drawn, strict=True)]
    return [(w + 0.1 * normal(*w.shape, seed=w.numel())).requires_grad_() for w in stacked]


def episode(seeds: int = 1, tasks: int = 4) -> Episode:
    x, query = normal(seeds, tasks, 6, 3, seed=1), normal(seeds, tasks, 5, 3, seed=2)
    return Episode(x, normal(seeds, tasks, 6, seed=3), query, normal(seeds, tasks, 5, seed=4))


def meta_gradient(answer: GradientSteps, weights: list[Tensor], given: Episode) -> list[Tensor]:
    loss = query_losses(NETWORK, answer, weights, given).mean(1).sum()
    return list(torch.autograd.grad(loss, weights))


def mlp(weights: list[Tensor], x: Tensor) -> Tensor:
    """The network for one task, written out."""
    for place in range(0, len(weights) - 2, 2):
        x = (x @ weights[place] + weights[place + 1]).relu()
    return x @ weights[-2] + weights[-1]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_the_meta_gradient_is_that_of_torch_func(steps: int, order: int) -> None:
    weights, given = weights_of(NETWORK), episode()

    def loss(own: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(mlp(own, x)[..., 0], y)

    def of_task(meta: list[Tensor], x: Tensor, y: Tensor, query: Tensor, target: Tensor) -> Tensor:
        own = meta
        for _ in range(steps):
            slopes = grad(loss)(own if order == 2 else [w.detach() for w in own], x, y)
            slopes = slopes if order == 2 else [s.detach() for s in slopes]
            own = [w - RATE * s for w, s in zip(own, slopes, strict=True)]
        return loss(own, query, target)

    def outer(meta: list[Tensor]) -> Tensor:
        return torch.stack([of_task(meta, *(part[0, i] for part in given)) for i in range(4)]).mean()

    expected = grad(outer)([w[0].detach() for w in weights])
    found = meta_gradient(GradientSteps(steps, RATE, order), weights, given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[0], other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("head_only", [False, True])
def test_the_meta_gradient_is_that_of_finite_differences(head_only: bool) -> None:
    weights, given = weights_of(NETWORK), episode()
    answer = GradientSteps(2, RATE, 2, head_only)
    for place, slope in enumerate(meta_gradient(answer, weights, given)):
        way, step = normal(*slope.shape, seed=9), 1e-6
        ends = []
        for sign in (1, -1):
            moved = [w.detach().clone().requires_grad_() for w in weights]
            moved[place] = (moved[place] + sign * step * way).detach().requires_grad_()
            with torch.no_grad():
                ends.append(float(query_losses(NETWORK, answer, moved, given).mean()))
        assert abs((ends[0] - ends[1]) / (2 * step) - float((slope * way).sum())) < 1e-7


def test_first_order_lacks_the_hessian_alone() -> None:
    """For one inner step the gradients of second and first order differ by the factor I - a H of the support loss."""
    weights, given = weights_of(NETWORK), episode(tasks=1)
    flat = torch.cat([w.detach().flatten() for w in weights])

    def unflattened(values: Tensor) -> list[Tensor]:
        parts = values.split([w.numel() for w in weights])
        return [part.reshape(w.shape[1:]) for part, w in zip(parts, weights, strict=True)]

    H = hessian(lambda v: mse_loss(mlp(unflattened(v), given.x[0, 0])[..., 0], given.y[0, 0]))(flat)
    first, second = (
        torch.cat([s.flatten() for s in meta_gradient(GradientSteps(1, RATE, order), weights, given)])
        for order in (1, 2)
    )
    torch.testing.assert_close(second, first - RATE * H @ first, rtol=1e-9, atol=1e-12)
    assert float((second - first).norm()) > 1e-3


def test_the_last_layer_alone_adapts_by_anil() -> None:
    weights, given = weights_of(NETWORK), episode(tasks=1)
    x, y, query, _ = (part[0] for part in given)
    body, head = [w.detach()[0] for w in weights[:-2]], [w.detach()[0].clone() for w in weights[-2:]]
    for _ in range(3):
        slopes = grad(lambda own: mse_loss(mlp([*body, *own], x[0])[..., 0], y[0]))(head)
        head = [w - RATE * s for w, s in zip(head, slopes, strict=True)]
    found = GradientSteps(3, RATE, head_only=True)(NETWORK, weights, x, y, query)
    torch.testing.assert_close(found[0], mlp([*body, *head], query[0]), rtol=1e-10, atol=1e-12)
    every = GradientSteps(3, RATE)(NETWORK, weights, x, y, query)
    assert float((found - every).detach().abs().max()) > 1e-3


def test_no_steps_are_the_network_as_it_is() -> None:
    weights, given = weights_of(NETWORK), episode(tasks=1)
    x, y, query, _ = (part[0] for part in given)
    assert torch.equal(GradientSteps(0, RATE)(NETWORK, weights, x, y, query), NETWORK.outputs(weights, query))


def test_answers_without_a_graph_are_the_same() -> None:
    weights, given = weights_of(NETWORK), episode()
    for head_only in (False, True):
        answer = GradientSteps(3, RATE, head_only=head_only)
        expected = query_losses(NETWORK, answer, weights, given)
        with torch.no_grad():
            found = query_losses(NETWORK, answer, weights, given)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("network", "shape"), [(StackedMLP((64, 9, 3)), (1, 8, 8)), (StackedConvNet((2, 9, 8), 4, 4, 3), (2, 9, 8))]
)
def test_many_networks_at_once_are_each_its_own(network: Stack, shape: tuple[int, ...]) -> None:
    weights = weights_of(network, 3)
    x = normal(3, 5, *shape)
    together = network.outputs(weights, x)
    assert together.shape == (3, 5, 3)
    for number in range(3):
        alone = network.outputs([w[number : number + 1] for w in weights], x[number : number + 1])
        torch.testing.assert_close(together[number], alone[0], rtol=1e-12, atol=1e-12)


def test_the_conv_net_is_that_of_torch() -> None:
    network = StackedConvNet((2, 9, 8), 4, 2, 3)
    weights = [w.detach() for w in weights_of(network)]
    layers: list[torch.nn.Module] = []
    for into in (2, 4):
        layers += [torch.nn.Conv2d(into, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU()]
        layers.append(torch.nn.MaxPool2d(2))
    plain = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4 * 2 * 2, 3)).double()
    names = [name for name, _ in plain.named_parameters()]
    own = {name: w[0] for name, w in zip(names, weights, strict=True)}
    own[names[-2]], own[names[-1]] = weights[-2][0].T, weights[-1][0, 0]
    x = normal(1, 6, 2, 9, 8)
    expected: Tensor = functional_call(plain, own, (x[0],))
    torch.testing.assert_close(network.outputs(weights, x)[0], expected, rtol=1e-10, atol=1e-12)


def test_the_conv_net_takes_a_single_image_down_to_a_pixel() -> None:
    network = StackedConvNet((1, 8, 8), 4, 4, 3)
    assert network.outputs(weights_of(network), normal(1, 1, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize("order", [1, 2])
def test_the_conv_net_adapts_with_a_right_gradient(order: int) -> None:
    network = StackedConvNet((1, 4, 4), 3, 2, 2)
    weights, x = weights_of(network), normal(1, 6, 1, 4, 4)
    y = (torch.arange(6) % 2)[None]
    loss = task_losses(GradientSteps(1, RATE, order)(network, weights, x, y, x), y).sum()
    slopes = torch.autograd.grad(loss, weights)
    assert all(bool(slope.isfinite().all()) for slope in slopes)


def test_losses_of_tasks_are_torch_s() -> None:
    outputs, y = normal(3, 6, 4), torch.arange(18).reshape(3, 6) % 4
    expected = torch.stack([cross_entropy(o, t) for o, t in zip(outputs, y, strict=True)])
    torch.testing.assert_close(task_losses(outputs, y), expected)
    assert task_losses(outputs.masked_fill(torch.tensor([False, False, True, False]), torch.nan), y).isnan().all()


@pytest.fixture
def few_shot() -> tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]:
    network = StackedMLP((3, 8, 6))
    answer = partial(prototypes, network, weights_of(network), ways=3)
    return answer, normal(1, 7, 3), (torch.arange(7) % 3)[None], normal(1, 5, 3, seed=1)


def test_prototypes_are_means_of_embeddings(few_shot: tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]) -> None:
    answer, x, y, query = few_shot
    network = StackedMLP((3, 8, 6))
    embedded, asked = (network.outputs(weights_of(network), part)[0] for part in (x, query))
    centres = torch.stack([embedded[y[0] == number].mean(0) for number in range(3)])
    torch.testing.assert_close(answer(x, y, query)[0], -torch.cdist(asked, centres).square(), rtol=1e-9, atol=1e-9)


def test_prototypes_do_not_see_orders(few_shot: tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]) -> None:
    """The order of support points changes nothing; renamed classes rename the logits; queries stand alone."""
    answer, x, y, query = few_shot
    logits = answer(x, y, query)
    order = torch.tensor([4, 2, 6, 0, 1, 3, 5])
    torch.testing.assert_close(answer(x[:, order], y[:, order], query), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(answer(x, (y + 1) % 3, query), logits.roll(1, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(answer(x, y, query[:, 2:3]), logits[:, 2:3], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(answer(x.repeat(1, 2, 1), y.repeat(1, 2), query), logits, rtol=1e-12, atol=1e-12)


def test_a_class_without_support_is_never_predicted(
    few_shot: tuple[Callable[..., Tensor], Tensor, Tensor, Tensor],
) -> None:
    answer, x, _, query = few_shot
    y = (torch.arange(7) % 2)[None]
    logits = answer(x, y, query)
    assert bool((logits[..., 2] == -torch.inf).all())
    target = torch.tensor([[0, 1, 2, 0, 1]])
    known = torch.tensor([0, 1, 3, 4])
    expected = cross_entropy(logits[0, known, :2], target[0, known])
    torch.testing.assert_close(known_class_losses(logits, target)[0], expected)


def small(**settings: Any) -> dict[str, Any]:
    new = {"tasks": 7, "support": 5, "query": 10}
    validation = {"tasks": 5, "every": 4}
    return {"updates": 12, "dtype": "float64", "new_tasks": new, "validation": validation, **settings}


SINUSOID = SinusoidTasks(SinusoidTasksConfig())
DIGITS = DigitRotations(DigitRotationsConfig(flatten=False))
CONV = StackedConvConfig(channels=4, blocks=2)


@pytest.mark.parametrize(
    ("learner", "source"),
    [
        (EpisodicLearner(MAMLConfig(**small(steps=2))), SINUSOID),
        (EpisodicLearner(MAMLConfig(**small(order="first", split="fixed", tasks_per_update=None))), SINUSOID),
        (EpisodicLearner(MAMLConfig(**small(network=CONV, measure="accuracy", labels_per_update=6))), DIGITS),
        (
            EpisodicLearner(
                ANILConfig(**small(network=StackedMLPConfig(widths=(16,)), split="fixed", labels_per_update=5))
            ),
            DIGITS,
        ),
        (EpisodicLearner(PrototypesConfig(**small(dimension=8))), DIGITS),
    ],
)
def test_a_seed_comes_out_as_alone(learner: EpisodicLearner, source: TaskSource) -> None:
    cells = [AllocationCell(6, 5, 5), AllocationCell(3, 8, 7)]
    together = learner.evaluate_seeds(source, cells, [3, 4, 5])
    for seed, found in zip((3, 4, 5), together, strict=True):
        alone = learner.evaluate(source, cells, seed)
        assert found.test.dtype == found.test.dtype == torch.float64
        torch.testing.assert_close(found.test, alone.test, rtol=0, atol=1e-10)
        assert found.train is not None
        torch.testing.assert_close(found.train, alone.train, rtol=0, atol=1e-10)
    again = learner.evaluate_seeds(source, cells, [3, 4, 5])
    assert all(torch.equal(one.test, other.test) for one, other in zip(together, again, strict=True))
    assert not torch.equal(together[0].test, together[1].test)


def test_what_is_tried_beside_an_allocation_does_not_change_it() -> None:
    learner = EpisodicLearner(MAMLConfig(**small()))
    alone = learner.evaluate(SINUSOID, [AllocationCell(6, 5, 5)], 1).test
    assert torch.equal(
        learner.evaluate(SINUSOID, [AllocationCell(3, 8, 7), AllocationCell(6, 5, 5)], 1).test[1:], alone
    )


LINEAR = LinearTasks(LinearTasksConfig(dimension=4))


def test_the_exact_learner_is_where_maml_ends() -> None:
    """T18: full-batch gradient descent on MAML's loss by autograd comes to the closed form, whose gradient is 0.

    The theory's rate is on half the mean squared error, so the rate on the mean squared error is half of it.
    """
    cell = AllocationCell(6, 5, 4)
    exact = LinearMAML(LinearLearnerConfig(rate=0.4)).solution(LINEAR, cell, 0)
    x, y = tasks_of(LINEAR, "train", *cell, [0])[0].tensors()
    given = Episode(*(part[None] for part in (x[:, :5], y[:, :5], x[:, 5:], y[:, 5:])))
    network = Line()
    steps = GradientSteps(1, 0.2)

    def slope(w: Tensor) -> Tensor:
        w = w.detach().requires_grad_()
        return torch.autograd.grad(query_losses(network, steps, [w], given).mean(), [w])[0]

    assert float(slope(exact[None, :, None]).abs().max()) < 1e-9
    w = torch.zeros(1, 4, 1, dtype=torch.float64)
    for _ in range(800):
        w = w - 0.25 * slope(w)
    torch.testing.assert_close(w[0, :, 0], exact, rtol=0, atol=1e-5)


class Line(Stack):
    """x . w, without a bias."""

    width = 4

    def start(self, generator: torch.Generator) -> list[Tensor]:
        return [torch.zeros(4, 1, dtype=torch.float64)]

    def features(self, weights: Any, x: Tensor) -> Tensor:
        return x

    def outputs(self, weights: Any, x: Tensor) -> Tensor:
        return x @ weights[0]


def test_the_exact_learner_interpolates_below_the_threshold_and_not_above() -> None:
    learner = LinearMAML(LinearLearnerConfig(rate=0.3))
    below, above = AllocationCell(1, 3, 3), AllocationCell(4, 3, 3)
    losses = learner.evaluate(LINEAR, [below, above], 0)
    assert losses.train is not None
    assert float(losses.train[0]) < 1e-20 < 1e-3 < float(losses.train[1])


def test_without_noise_and_spread_the_exact_learner_finds_the_centre() -> None:
    source = LinearTasks(LinearTasksConfig(dimension=4, distance=2.0, types=({"spread": 0.0, "noise": 0.0},)))
    found = LinearMAML(LinearLearnerConfig()).solution(source, AllocationCell(3, 3, 3), 0)
    torch.testing.assert_close(found, source.centre, rtol=0, atol=1e-10)
    assert float(LinearMAML(LinearLearnerConfig()).evaluate(source, [AllocationCell(3, 3, 3)], 0).test[0]) < 1e-18
