"""Gaussian priors with exact scores under any linear process, their exact posteriors, and exact moments of draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.diffusion import DiffusionProcess
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold_toolkit.operators import LinearOperator


def matrices(process: DiffusionProcess, shape: tuple[int, ...], t: Tensor) -> tuple[Tensor, Tensor]:
    """(S, B B^T) of a process at times t (B,), dense: (B, D, D) each."""
    size = math.prod(shape)
    units = torch.eye(size, dtype=torch.float64).reshape(size, *shape).repeat(len(t), *[1] * len(shape))
    times = t.repeat_interleave(size)
    signal, scale = process.coefficients(units, times)
    if isinstance(scale, Tensor):
        columns = (signal * units, scale**2 * units)
    else:
        columns = (signal.apply(units), scale.apply(scale.apply_transpose(units)))
    first, second = (part.reshape(len(t), size, size).mT for part in columns)
    return first, second


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance) over flattened events, and what observing A x + noise makes of it."""

    mean: Tensor
    covariance: Tensor

    def given(self, operator: LinearOperator, y: Tensor, noise_std: float = 0.0) -> Gaussian:
        size = len(self.mean)
        a = operator(torch.eye(size, dtype=torch.float64).reshape(size, *operator.in_shape)).flatten(1).mT
        seen = a @ self.covariance @ a.mT + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
        gain = self.covariance @ a.mT @ torch.linalg.pinv(seen, hermitian=True)
        return Gaussian(self.mean + gain @ (y.flatten() - a @ self.mean), self.covariance - gain @ a @ self.covariance)

    def score(self, process: DiffusionProcess, x: Tensor, t: Tensor) -> Tensor:
        signal, noise = matrices(process, tuple(x.shape[1:]), t[:1] if t.stride(0) == 0 else t)
        gap = x.flatten(1)[..., None] - (signal @ self.mean)[..., None]
        solved = torch.linalg.solve(signal @ self.covariance @ signal.mT + noise, gap)
        return -solved[..., 0].reshape(x.shape)


class GaussianPrior(ScoreModel):
    """The exact score of a Gaussian under any linear process."""

    def __init__(
        self, distribution: Gaussian, process: DiffusionProcess, shape: tuple[int, ...], spec: Any = None
    ) -> None:
        std = float(distribution.covariance.diagonal().mean().sqrt())
        super().__init__(process, shape, spec, EventScale(std=std))
        self.distribution = distribution
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))
        self.calls = 0

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        if self.condition_spec is not None and condition is None:
            raise ConfigError("a class is missing")
        x, t, _ = self.match_inputs(x, t, condition)
        self.calls += 1
        return self.distribution.score(self.process, x, t)


def random_gaussian(size: int, seed: int = 0, mean: float = 1.0) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size)
    shift = mean * torch.randn(size, generator=generator, dtype=torch.float64)
    return Gaussian(shift, factor @ factor.mT + 0.05 * torch.eye(size, dtype=torch.float64))


class Impulses:
    """Standard normal draws replaced by unit impulses: coordinate i of draw j is 1 in row j D + i, and 0 elsewhere.

    What a linear map makes of independent draws has, as its covariance, the sum over rows of the outer products of
    what it makes of each impulse.
    """

    def __init__(self) -> None:
        self.count = 0

    def draw(self, shape: tuple[int, ...], *, generator: Any = None, like: Tensor) -> Tensor:
        out = torch.zeros(shape, dtype=like.dtype)
        size = math.prod(shape[1:])
        out.reshape(shape[0], size)[self.count : self.count + size] = torch.eye(size, dtype=like.dtype)
        self.count += size
        return out


@pytest.fixture
def moments_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Tensor, Tensor]]:
    """(mean, covariance) of what a model draws given y (*out_shape), exactly; for priors of mean 0, that draw linearly.

    ``draws`` is how many normal events the sampler draws, at most.
    """
    impulses = Impulses()
    for module in ("diffusion.samplers", "diffusion.processes"):
        monkeypatch.setattr(f"scorefold.{module}.draw_normal", impulses.draw)
    for module in ("repaint", "daps"):
        monkeypatch.setattr(f"scorefold_conditional.solvers.{module}.draw_normal", impulses.draw)

    def run(model: ScoreModel, y: Tensor, draws: int, **options: Any) -> tuple[Tensor, Tensor]:
        size = math.prod(model.event_shape)
        rows = draws * size + 1
        condition = torch.zeros(rows, *y.shape, dtype=y.dtype)
        condition[-1] = y
        impulses.count = 0
        options = {"spacing": "uniform", "to_zero": False, **options}
        out = model.sample(1, condition, **options)[0].flatten(1)
        assert impulses.count < rows
        return out[-1], out[:-1].mT @ out[:-1]

    return run


@pytest.fixture
def gaussian() -> Callable[..., Gaussian]:
    return random_gaussian


@pytest.fixture
def distribution() -> type[Gaussian]:
    return Gaussian


@pytest.fixture
def prior_of() -> Callable[..., GaussianPrior]:
    """(distribution, process, shape) -> the exact score; ``spec`` makes it one that takes a condition."""

    def make(
        distribution: Gaussian, process: DiffusionProcess, shape: tuple[int, ...], classes: int | None = None
    ) -> Any:
        return GaussianPrior(distribution, process, shape, None if classes is None else TensorSpec((), classes))

    return make
