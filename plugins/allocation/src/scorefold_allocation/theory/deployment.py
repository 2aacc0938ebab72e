"""The loss on tasks that are met after training, as deployment adapts to them."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_allocation.meta.config import MetaConfig
from scorefold_allocation.theory.linear_model import LinearProblem, Plans, adapted_loss, best_rate


def problem_of(config: MetaConfig) -> LinearProblem:
    """The linear model that a config describes."""
    spread = torch.tensor([kind.spread for kind in config.task_types], dtype=torch.float64)
    noise = torch.tensor([kind.noise for kind in config.task_types], dtype=torch.float64)
    linear = config.linear
    return LinearProblem(linear.dimension, linear.rate, linear.start_distance**2, spread**2, noise**2, config.weighting)


def expected_loss(config: MetaConfig, problem: LinearProblem, plans: Plans, excess: Tensor) -> Tensor:
    """The test loss (C,) of plans whose R is ``excess`` (C,): the mean over types by ``test_share``.

    Tied labels are as many as the support of that type's training tasks on average, of all tasks for a type without
    any. Raises ``ConfigError`` for a deployment that the linear model's loss is not known for.
    """
    deployment = config.deployment
    if deployment.steps > 1 and deployment.rate is None:
        raise ConfigError(
            f"the best rate is known for one adaptation step; steps is {deployment.steps} and deployment.rate is null",
            hint="deployment: {rate: training}",
        )
    shares = [kind.test_share for kind in config.task_types]
    loss = torch.zeros_like(excess)
    for place, share in enumerate(shares):
        if share == 0:
            continue
        spread2, noise2 = problem.spread2[place], problem.noise2[place]
        labels = _tied(plans, place) if deployment.labels == "tied" else torch.tensor(float(deployment.labels))
        if deployment.rate is None:
            rate: Tensor | float = best_rate(excess, spread2, noise2, problem.dimension, labels)
        else:
            rate = problem.rate if deployment.rate == "training" else deployment.rate
        own = adapted_loss(excess, spread2, noise2, problem.dimension, labels, rate, deployment.steps)
        loss += share / sum(shares) * own
    # An infinite R has no best rate, and comes out as no number.
    return torch.where(excess.isfinite(), loss, torch.inf)


def _tied(plans: Plans, place: int) -> Tensor:
    """Support labels of a task of a type, on average over each plan, (C,)."""
    tasks = plans.tasks * (plans.kinds == place)
    tasks = torch.where(tasks.sum(-1, keepdim=True) > 0, tasks, plans.tasks)
    return (tasks * plans.support).sum(-1) / tasks.sum(-1).clamp_min(1)
