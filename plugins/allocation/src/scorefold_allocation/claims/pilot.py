"""Claims of what is learnt from trials: bands that hold, and moments of a pilot. Functions of claims take a host, a
profile and a seed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from statistics import stdev
from typing import Any

import torch
from torch import Tensor

from scorefold.seeds import derive_generator
from scorefold_allocation.claims.calibration import draw_problem, judge_search, search_summary
from scorefold_allocation.claims.linear import problem
from scorefold_allocation.claims.optimum import frozen_size
from scorefold_allocation.meta.config import PilotConfig
from scorefold_allocation.search.pilot import estimate_moments

PROBLEMS = {"quick": 200, "long": 1000}
AX_PROBLEMS = {"quick": 20, "long": 200}
"""Choosing sizes by Ax takes longer than all else of a problem."""
PILOTS = 200
_WEIGHTS, _LABELS, _RATE = 20, 10, 0.4
_LEAST = 1e-6


def calibration(host: Any, profile: str, seed: int, *, figure: str) -> float:
    """A figure of ``calibration.summary``."""
    return _summary(profile, seed)[figure]


def ax_calibration(host: Any, profile: str, seed: int, *, figure: str) -> float | None:
    """A figure of the first problems beside Ax; None where Ax is not installed."""
    return None if find_spec("ax") is None else _with_ax(profile, seed)[figure]


def moment_size(host: Any, profile: str, seed: int, *, tasks: int, share: float) -> float:
    """A quantile over 200 pilots, of so many tasks of 10 labels, of the best labels per task of large budgets by the
    moments of each; p = 20, a = 0.4, and all moments are 1."""
    found = []
    for spread2, noise2, _ in _pilots(seed, tasks):
        case = problem(_WEIGHTS, _RATE, max(noise2, _LEAST), max(spread2, _LEAST))
        found.append(float(frozen_size(case)))
    return sorted(found)[min(PILOTS - 1, int(share * PILOTS))]


def moment_error(host: Any, profile: str, seed: int, *, tasks: int, moment: str) -> float:
    """The deviation of the estimate of a moment over 200 such pilots."""
    place = ("spread2", "noise2", "centre2").index(moment)
    return stdev(moments[place] for moments in _pilots(seed, tasks))


@cache
def _pilots(seed: int, tasks: int) -> tuple[tuple[float, float, float], ...]:
    """nu^2, sigma^2 and |w0|^2 as each pilot has them."""
    generator = derive_generator(seed, "pilots", tasks)
    return tuple(_estimated(tasks, generator) for _ in range(PILOTS))


def _estimated(tasks: int, generator: torch.Generator) -> tuple[float, float, float]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = (1 + normal(tasks, _WEIGHTS, 1)) / _WEIGHTS**0.5
    x = normal(tasks, _LABELS, _WEIGHTS)
    y = (x @ weights)[..., 0] + normal(tasks, _LABELS)
    found = estimate_moments(list(zip(x, y, strict=True)))
    return float(found.spread2), float(found.noise2), float(found.centre2)


@cache
def _summary(profile: str, seed: int) -> dict[str, float]:
    return _judged(seed, PROBLEMS[profile], ("uniform", "random"))


@cache
def _with_ax(profile: str, seed: int) -> dict[str, float]:
    return _judged(seed, AX_PROBLEMS[profile], ("ax",))


def _judged(seed: int, count: int, others: tuple[str, ...]) -> dict[str, float]:
    numbers = range(1000 * seed, 1000 * seed + count)
    return search_summary([judge_search(draw_problem(number), PilotConfig(), number, others) for number in numbers])
