"""Claims of mixtures: equal tasks of different sizes, and tasks that are easy or hard. Functions of claims take a host,
a profile and a seed."""

from __future__ import annotations

from typing import Any

import torch

from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.claims.linear import plan, problem, simulated
from scorefold_allocation.config.allocator import LinearConfig, MetaConfig, TaskTypeConfig
from scorefold_allocation.theory.formula import risk, task_variance
from scorefold_allocation.theory.linear_model import LinearProblem, Plans
from scorefold_allocation.theory.moments import shrinkage

CASES = {
    "over": (80, 0.2, (0.1, 4.0), 3, 20),
    "under": (10, 0.2, (0.1, 4.0), 30, 20),
    "flipped": (50, 0.4, (0.1, 4.0), 3000, 20),
    "closed": (30, 0.0, (0.2, 1.0), 3000, 120),
}
"""Weights, inner rate, noise variances of easy and hard tasks, tasks of each, and labels of an easy and a hard one."""


def least_mix(host: Any, profile: str, seed: int, *, weighting: str) -> float:
    """b R of the best of 3,000 random mixes of up to four sizes, over that of the best single size; leading order."""
    p, rate, noise2 = 20, 0.4, 0.7
    half = torch.arange(1.0, 61.0, dtype=torch.float64)
    phi = torch.stack(task_variance(half, half, p, rate, 1.0, noise2)).sum(0)
    least = float((2 * half * phi / shrinkage(half, p, rate) ** 2).min())
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(60, (3000, 4), generator=generator)
    tasks = torch.randint(1, 40, (3000, 4), generator=generator).double()
    plans = Plans(torch.zeros(4, dtype=torch.long), tasks, half[place], half[place])
    budget = (tasks * 2 * half[place]).sum(-1)
    found = risk(problem(p, rate, noise2, weighting=weighting), plans, leading=True).value
    return float((budget * found).min()) / least


def split_risk(host: Any, profile: str, seed: int, *, smaller: int, weighting: str) -> float:
    """R of 40 equal tasks, half of them with ``smaller`` labels and half with 16 less that; p = 8, a = 0.4."""
    plans = plan((20, smaller / 2, smaller / 2), (20, 8 - smaller / 2, 8 - smaller / 2))
    return float(simulated(problem(8, 0.4, weighting=weighting), plans, profile, seed, 0.004))


def easy_risk(host: Any, profile: str, seed: int, *, case: str, easy: int, weighting: str = "pooled") -> float:
    """R where easy tasks have ``easy`` labels."""
    linear, tasks, both = _case(case, weighting)
    return float(simulated(linear, _easy_hard(tasks, easy, both), profile, seed, 0.004))


def best_easy(host: Any, profile: str, seed: int, *, case: str, weighting: str) -> float:
    """The labels of an easy task where R is least: at leading order, or by simulation for few tasks."""
    linear, tasks, both = _case(case, weighting)
    sizes = range(2, both - 1, 2)
    if tasks > 100:
        found = [float(risk(linear, _easy_hard(tasks, size, both), leading=True).value) for size in sizes]
    else:
        found = [easy_risk(host, profile, seed, case=case, easy=size, weighting=weighting) for size in sizes]
    return float(sizes[min(range(len(found)), key=found.__getitem__)])


def overhead_size(host: Any, profile: str, seed: int, *, task_cost: float) -> float:
    """The best labels per task by the allocator, where a task costs so much besides its labels; p = 20, a = 0."""
    kind = TaskTypeConfig(task_cost=task_cost)
    config = MetaConfig(task_types=(kind,), linear=LinearConfig(rate=0.0), leftovers="keep")
    return float(MetaAllocator(config).allocate(10_000_000).diagnostics["n"])


def _case(name: str, weighting: str) -> tuple[LinearProblem, int, int]:
    p, rate, noise2, tasks, both = CASES[name]
    return problem(p, rate, noise2, weighting=weighting), tasks, both


def _easy_hard(tasks: int, easy: float, both: int) -> Plans:
    sizes = (easy / 2, (both - easy) / 2)
    return plan(*((tasks, half, half) for half in sizes), kinds=(0, 1))
