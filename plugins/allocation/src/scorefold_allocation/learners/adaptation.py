"""Predictions of a learner for a query set from a support set: by gradient steps, or by prototypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from scorefold_allocation.learners.networks import HEAD, Stack, Weights, affine


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
