"""Many networks of one form at once: G sets of weights, each with events of its own, by batched products.

Predictions of them for a query set from a support set are by gradient steps, or by prototypes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, max_pool2d, one_hot

from scorefold.errors import ConfigError
from scorefold_allocation.learners.config import StackedConvConfig, StackedMLPConfig

Weights = Sequence[Tensor]

HEAD = 2
"""The last layer's weights are the last two: matrix and bias."""


class Stack(ABC):
    """The form of a network. Its weights are a list of tensors, with a leading dimension G where there are many."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The most numbers that a layer gives for an event."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> list[Tensor]:
        """The weights of one network in float64, as torch starts its layers."""

    @abstractmethod
    def features(self, weights: Weights, x: Tensor) -> Tensor:
        """Input of the last layer, (G, n, F), of events x (G, n, *E); ``weights`` may leave out the last layer's."""

    def outputs(self, weights: Weights, x: Tensor) -> Tensor:
        """(G, n, outputs) of events x (G, n, *E)."""
        return affine(weights[-HEAD:], self.features(weights[:-HEAD], x))


@dataclass(frozen=True)
class StackedMLP(Stack):
    """Layers of these sizes, inputs and outputs included."""

    sizes: tuple[int, ...]

    @property
    def width(self) -> int:
        return max(self.sizes)

    def start(self, generator: torch.Generator) -> list[Tensor]:
        return [w for fan, out in pairwise(self.sizes) for w in _layer(fan, out, generator)]

    def features(self, weights: Weights, x: Tensor) -> Tensor:
        x = x.flatten(2)
        for place in range(0, 2 * (len(self.sizes) - 2), 2):
            x = affine(weights[place : place + 2], x).relu()
        return x


@dataclass(frozen=True)
class StackedConvNet(Stack):
    """Blocks of convolution, normalisation, ReLU and pooling on events (C, H, W), and a layer on what is left.

    Before them ``mean`` is taken off each channel, and what is left divided by ``std``; where both are empty, not.
    """

    event_shape: tuple[int, ...]
    channels: int
    blocks: int
    answers: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        return max(self.channels * math.prod(self.event_shape[1:]), self.answers)

    def start(self, generator: torch.Generator) -> list[Tensor]:
        weights: list[Tensor] = []
        into, height, width = self.event_shape
        for _ in range(self.blocks):
            bound = 1 / math.sqrt(9 * into)
            weights += [_uniform((self.channels, into, 3, 3), bound, generator), *self._scales()]
            into, height, width = self.channels, height // 2 or 1, width // 2 or 1
        return weights + _layer(self.channels * height * width, self.answers, generator)

    def _scales(self) -> list[Tensor]:
        return [torch.ones(self.channels, dtype=torch.float64), torch.zeros(self.channels, dtype=torch.float64)]

    def features(self, weights: Weights, x: Tensor) -> Tensor:
        groups, n = x.shape[:2]
        if self.mean:
            mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
            x = (x - mean) / std
        x = x.transpose(0, 1).flatten(1, 2)  # the networks side by side as groups of channels
        for block in range(self.blocks):
            kernel, scale, shift = (w.flatten(0, 1) for w in weights[3 * block : 3 * block + 3])
            x = conv2d(x, kernel, padding=1, groups=groups)
            # Not batch_norm of torch.nn.functional, which refuses a single pixel of a single image.
            x = torch.batch_norm(x, scale, shift, None, None, True, 0.0, 1e-5, False).relu()
            x = max_pool2d(x, [min(2, side) for side in x.shape[2:]])
        return x.reshape(n, groups, -1).transpose(0, 1)


def affine(weights: Weights, x: Tensor) -> Tensor:
    """x W + b, (G, n, o), for W (G, i, o), b (G, 1, o) and x (G, n, i)."""
    matrix, bias = weights
    return torch.baddbmm(bias, x, matrix)


def build_stack(config: StackedMLPConfig | StackedConvConfig, event_shape: tuple[int, ...], outputs: int) -> Stack:
    """The network of a config. Raises ``ConfigError`` for a convolution on events that aren't images."""
    if isinstance(config, StackedMLPConfig):
        return StackedMLP((math.prod(event_shape), *config.widths, outputs))
    if len(event_shape) != 3:
        raise ConfigError(
            f"network: conv takes images (C, H, W); the events of this source are {event_shape}",
            hint="network: {name: mlp} takes events of any shape; data:digit-rotations has images by flatten: false",
        )
    if config.mean and len(config.mean) != event_shape[0]:
        raise ConfigError(
            f"network: mean and std have {len(config.mean)} channels; the images of this source have {event_shape[0]}",
            hint="a number for each channel, or none",
        )
    return StackedConvNet(event_shape, config.channels, config.blocks, outputs, config.mean, config.std)


def _layer(into: int, out: int, generator: torch.Generator) -> list[Tensor]:
    bound = 1 / math.sqrt(into)
    return [_uniform((into, out), bound, generator), _uniform((1, out), bound, generator)]


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return bound * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


class QueryAnswer(Protocol):
    """Outputs (G, q, o) for query events of G tasks, each with weights and a support set of its own.

    Weights are (G, ...), support x (G, k, *E) and y (G, k), query x (G, q, *E). In training the outputs can be
    differentiated by the weights; under ``torch.no_grad`` they have no graph.
    """

    def __call__(self, network: Stack, weights: Weights, x: Tensor, y: Tensor, query: Tensor) -> Tensor: ...


Measure = Callable[[Tensor, Tensor], Tensor]
"""A number for each task (G,), from outputs (G, n, o) for its targets (G, n)."""


def task_losses(outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of each task (G,): the mean squared error of numbers y (G, n), outputs (G, n, 1), or the mean
    cross-entropy of classes y, outputs (G, n, ways)."""
    if y.is_floating_point():
        return (outputs[..., 0] - y).square().mean(1)
    return _cross_entropies(outputs, y).mean(1)


def known_class_losses(outputs: Tensor, y: Tensor) -> Tensor:
    """``task_losses`` of classes without the points of those whose logit is minus infinity; 0 where none are left."""
    each = _cross_entropies(outputs, y)
    known = each != torch.inf
    return torch.where(known, each, 0).sum(1) / known.sum(1).clamp_min(1)


def task_accuracies(outputs: Tensor, y: Tensor) -> Tensor:
    """The share of classes y (G, n) that outputs (G, n, ways) rank first, (G,); nan where outputs are nan or inf."""
    right = (outputs.argmax(-1) == y).double()
    ranked = (outputs < torch.inf).all(-1)
    return torch.where(ranked, right, torch.nan).mean(1)


def _cross_entropies(outputs: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none").reshape(y.shape)


@dataclass(frozen=True)
class GradientSteps:
    """Steps of gradient descent on the support loss (Finn, Abbeel and Levine, "Model-agnostic meta-learning", ICML
    2017), of all weights or of the last layer's (Raghu et al., "Rapid learning or feature reuse?", ICLR 2020).

    In training outputs are differentiated through the steps where ``order`` is 2; where it is 1 the gradients of the
    steps count as constants.
    """

    steps: int
    rate: float
    order: int = 2
    head_only: bool = False

    def __call__(self, network: Stack, weights: Weights, x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        if not self.head_only:
            return network.outputs(self.adapted(weights, lambda moved: network.outputs(moved, x), y), query)
        body, head = weights[:-HEAD], weights[-HEAD:]
        seen = network.features(body, x)
        return affine(self.adapted(head, lambda moved: affine(moved, seen), y), network.features(body, query))

    def adapted(self, weights: Weights, answer: Callable[[Weights], Tensor], y: Tensor) -> Weights:
        """The weights (G, ...) after the steps on the loss of ``answer``, outputs (G, k, o) for targets y (G, k)."""
        differentiated = torch.is_grad_enabled()
        for _ in range(self.steps):
            if not differentiated:
                weights = [w.detach().requires_grad_() for w in weights]
            with torch.enable_grad():
                loss = task_losses(answer(weights), y).sum()
            slopes = torch.autograd.grad(loss, weights, create_graph=differentiated and self.order == 2)
            weights = [torch.add(w, slope, alpha=-self.rate) for w, slope in zip(weights, slopes, strict=True)]
        return weights


def prototypes(network: Stack, weights: Weights, x: Tensor, y: Tensor, query: Tensor, ways: int) -> Tensor:
    """Logits (G, q, ways): minus the squared distance to the mean embedding of each class of the support set (Snell,
    Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017); -inf for a class that is not in it,
    and for no other: a distance that is infinite gives nan."""
    belongs = one_hot(y, ways).to(x)
    counts = belongs.sum(1)[..., None]
    means = belongs.mT @ network.outputs(weights, x) / counts.clamp_min(1)
    distances = (network.outputs(weights, query)[:, :, None] - means[:, None]).square().sum(-1)
    return torch.where(distances.isinf(), torch.nan, -distances).masked_fill((counts == 0).mT, -torch.inf)
