"""Linear problems and plans of one line."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold_allocation.theory.engines import design_risks
from scorefold_allocation.theory.linear_model import LinearProblem, Plans


def problem(
    p: int,
    rate: float,
    noise2: float | list[float] = 1.0,
    spread2: float | list[float] = 1.0,
    start2: float = 1.0,
    weighting: str = "pooled",
) -> LinearProblem:
    """sigma^2 and nu^2 are of all types, or of each."""
    noise, spread = (torch.atleast_1d(torch.tensor(value, dtype=torch.float64)) for value in (noise2, spread2))
    noise, spread = torch.broadcast_tensors(noise, spread)
    return LinearProblem(p, rate, start2, spread, noise, weighting)


def plan(*groups: tuple[int, int, int], kinds: tuple[int, ...] | None = None) -> Plans:
    """One plan of groups (tasks, support, query), all of type 0 unless ``kinds`` says otherwise."""
    columns = torch.tensor(groups, dtype=torch.float64).T[:, None]
    return Plans(torch.tensor(kinds or (0,) * len(groups)), *columns)


def even(tasks: Tensor | int, labels: Tensor | int) -> Plans:
    """Plans (C,) of one group at an even split."""
    m, n = torch.broadcast_tensors(torch.as_tensor(tasks).double(), torch.as_tensor(labels).double())
    m, n = torch.atleast_1d(m)[:, None], torch.atleast_1d(n)[:, None]
    return Plans(torch.tensor([0]), m, n / 2, n / 2)


def simulated(case: LinearProblem, plans: Plans, designs: int, seed: int = 0) -> tuple[float, float]:
    """R of one plan by simulation, and its standard error."""
    values = design_risks(case, plans, designs, torch.Generator().manual_seed(seed))
    return float(values.mean()), float(values.std() / designs**0.5)
