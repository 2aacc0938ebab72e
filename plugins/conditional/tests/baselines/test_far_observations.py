"""Observations far from those that the prior of a solver gives, and fair ones that look far."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import VE
from scorefold.interfaces import ScoreModel
from scorefold_conditional.config import MMPSConfig
from scorefold_conditional.solvers.dps import DPS


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_one_number_far_from_those_of_the_prior_is_warned_of_in_any_unit(gaussian: Any, prior_of: Any) -> None:
    """Numbers of other size do not hide it, and numbers that a mask hides are not compared."""
    prior = prior_of(gaussian(3), VE(0.01, 20.0), (3,))
    prior.event_scale = EventScale(std=1.5)
    rows = [[2e3, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
    model = DPS(MMPSConfig.model_validate({"operator": rows, "noise_std": 0.1}), prior=prior)
    y = torch.tensor([[2e3, 2.0, 9.0], [2e3, 160.0, 9.0], [1e6, 2.0, 9.0]], dtype=torch.float64)
    assert model.outside(y).tolist() == [False, True, True]
    assert model.outside(y.numpy()).tolist() == [False, True, True]


class TwoModes(ScoreModel):
    """The exact score of normal modes at 0 and 20 in each of some numbers, of weights 1 - ``rare`` and ``rare``."""

    def __init__(self, size: int, rare: float) -> None:
        scale = EventScale(mean=20 * rare, std=(1 + 400 * rare * (1 - rare)) ** 0.5)
        super().__init__(VE(0.05, 500.0), (size,), None, scale)
        self.rare = rare
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        variance = 1 + self.process.coefficients(x, t)[1] ** 2
        logits = ((x**2 - (x - 20) ** 2) / (2 * variance)).sum(1, keepdim=True) + math.log(self.rare / (1 - self.rare))
        return (20 * logits.sigmoid() - x) / variance


@pytest.mark.parametrize(("size", "rare"), [(1, 0.03), (4, 0.03), (4, 0.01)])
def test_a_rare_mode_of_the_prior_is_not_far(size: int, rare: float) -> None:
    """Modes of 97 and 3 %, all numbers or two of four observed. Apart from them and in other units y is far."""
    seen = torch.eye(size, dtype=torch.float64)[:2]
    config = MMPSConfig.model_validate({"operator": seen.tolist(), "noise_std": 0.2})
    model = DPS(config, prior=TwoModes(size, rare))
    modes = 20 * (torch.rand(2000, 1, generator=torch.Generator().manual_seed(1)) < rare)
    y = modes + 1.02 * normal(2000, len(seen), seed=2)
    assert model.outside(y).sum() <= 2
    for wrong in (y[:99] + 60, 1000 * y[:99] + 3000, y[:99] - 60):
        assert model.outside(wrong).all()


def test_an_observation_between_modes_or_of_a_prior_without_an_answer_is_far() -> None:
    class Limited(TwoModes):
        """NaN for numbers above 500, as networks can be far from their data."""

        def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            return super().score(x, t).where(x.abs() < 500, math.nan)

    config = MMPSConfig.model_validate({"operator": torch.eye(4, dtype=torch.float64)[:2].tolist(), "noise_std": 0.2})
    apart = torch.tensor([[20.0, 0.0], [0.0, 20.0], [20.0, 20.0]], dtype=torch.float64)
    assert DPS(config, prior=TwoModes(4, 0.003)).outside(apart).tolist() == [True, True, False]
    y = torch.tensor([[60.0, 60.0], [400.0, 400.0]], dtype=torch.float64)
    assert DPS(config, prior=Limited(4, 0.01)).outside(y).all()
