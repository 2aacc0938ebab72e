"""What the tests of this plugin share: exact scores of Gaussian pairs, and samplers' exact means and variances."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Condition, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import predictor_corrector
from scorefold_conditional.conditional.model import Conditional
from scorefold_conditional.config import ConditionalConfig
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP

Build = Callable[..., Conditional]


def build_model(
    event_shape: tuple[int, ...] = (1,), spec: Any = None, *, units: EventScale | None = None, **config: Any
) -> Conditional:
    network = config.pop("network", None) or MLP(MLPConfig(width=8, blocks=1))
    data = DataSpec(event_shape, units or EventScale(), TensorSpec((1,)) if spec is None else spec)
    return Conditional(ConditionalConfig(network=network, **config), data=data)  # type: ignore[arg-type]


class ExactGaussian(nn.Module):
    """The network that is right for (x, y) ~ N(0, [[A, C], [C^T, B]]), shown what ``Conditional`` shows, giving eps.

    It undoes the preconditioning for data of mean 0 and deviation 1, so that all of the model around it is in play.
    """

    def __init__(self, model: Conditional, a: Tensor, b: Tensor, c: Tensor) -> None:
        super().__init__()
        self.event, self.joint = model.event_schedule, bool(model.predicted)
        self.slow = model.schedule_of() if model.layout.diffusing else None
        self.a, self.b, self.c = a, b, c

    def forward(self, shown: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        t = self.event.time_at(level.exp())
        n = len(self.a)
        ax, sx = (value[:, None, None] for value in self.event.signal_scale(t))
        if self.slow is None:
            ay, sy = torch.ones_like(ax), torch.zeros_like(ax)
        else:
            ay, sy = (value[:, None, None] for value in self.slow.signal_scale(t))
        x = shown[:, :n, None] * (ax**2 + sx**2).sqrt()
        y = shown[:, n:, None] * (ay**2 + sy**2).sqrt()
        yy = ay**2 * self.b + sy**2 * torch.eye(len(self.b)).to(x)
        cross = ax * ay * self.c
        gain = torch.linalg.solve(yy, cross.mT).mT
        v = ax**2 * self.a + sx**2 * torch.eye(n).to(x) - gain @ cross.mT
        eps_x = sx * torch.linalg.solve(v, x - gain @ y)
        if not self.joint:
            return eps_x[..., 0]
        xx = ax**2 * self.a + sx**2 * torch.eye(n).to(x)
        back = torch.linalg.solve(xx, cross).mT
        eps_y = sy * torch.linalg.solve(yy - back @ cross, y - back @ x)
        return torch.cat([eps_x, eps_y], dim=1)[..., 0]


def exact_model(rho: float | tuple[Tensor, Tensor, Tensor], **config: Any) -> Conditional:
    """A model whose network knows the Gaussian pair: of unit variances with correlation rho, or (A, B, C)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    a, b, c = rho if isinstance(rho, tuple) else (one, one, rho * one)
    model = build_model((len(a),), TensorSpec((len(b),)), prediction="eps", **config).double()
    model.network = ExactGaussian(model, a, b, c)
    return model.eval()


class Impulses:
    """Draws of a linear sampler replaced by unit impulses: draw number j is 1 in row j and 0 elsewhere.

    What a linear map makes of independent standard normal draws has, as its variance, the sum of the squares of what
    it makes of one impulse each.
    """

    def __init__(self) -> None:
        self.count = 0

    def draw(self, shape: tuple[int, ...], *, generator: Any = None, like: Tensor) -> Tensor:
        out = torch.zeros(shape, dtype=like.dtype)
        out[self.count] = 1
        self.count += 1
        return out


@pytest.fixture
def build() -> Build:
    return build_model


@pytest.fixture
def exact() -> Build:
    return exact_model


@pytest.fixture
def impulses(monkeypatch: pytest.MonkeyPatch) -> Impulses:
    made = Impulses()
    for module in (
        "scorefold.diffusion.samplers",
        "scorefold.diffusion.processes",
        "scorefold_conditional.conditional.objective",
    ):
        monkeypatch.setattr(f"{module}.draw_normal", made.draw)
    return made


@pytest.fixture
def posterior_of(impulses: Impulses) -> Callable[..., tuple[float, float]]:
    """(gain, variance) of what a model of scalars samples at a condition: its mean is the gain times the condition."""

    def run(model: Conditional, steps: int, sampler: Any = None, **options: Any) -> tuple[float, float]:
        rows = 3 * steps + 3
        y = torch.zeros(rows, 1, dtype=torch.float64)
        y[-1] = 1
        impulses.count = 0
        draw = sampler or partial(predictor_corrector, corrector_steps=0)
        options = {"spacing": "uniform", "to_zero": False, **options}
        out = model.sample(1, y, steps=steps, sampler=draw, **options)[0, :, 0]
        assert impulses.count < rows
        return float(out[-1]), float(out[:-1].square().sum())

    return run
