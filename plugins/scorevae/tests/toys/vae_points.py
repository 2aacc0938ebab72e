"""Data of two points, -1 and 1 alike, with the code z = x + N(0, 1/4): a distribution that is not Gaussian, in closed
form."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.diffusion import VP, DiffusionProcess
from scorefold.interfaces import ScoreModel

VARIANCE = 0.25
"""Of z given x."""


class TwoPoints(ScoreModel):
    """(a tanh(a x / s^2) - x) / s^2, the score of -1 and 1 noised by the process with beta 0.1 to 20."""

    def __init__(self, t_min: float = 1e-3) -> None:
        super().__init__(VP(t_min=t_min), (1,))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t)
        signal, scale = self.process.coefficients(x, t)
        return (signal * torch.tanh(signal * x / scale**2) - x) / scale**2


def score_given_code(process: DiffusionProcess, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """The score (B, 1) of x_t given z, whose odds of 1 against -1 are the odds of x_t times e^(2 z / VARIANCE)."""
    signal, scale = process.coefficients(x, t)
    return (signal * torch.tanh(signal * x / scale**2 + z / VARIANCE) - x) / scale**2


class MatchedMoments:
    """The normal distribution with the mean w = tanh(a x / s^2) and the variance 1/4 + 1 - w^2 of z given x_t."""

    def __init__(self, process: DiffusionProcess) -> None:
        self.process = process

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, scale = self.process.coefficients(x, t)
        # In data, at t_min, signs decide; 1 - w^2 as a square of the hyperbolic secant keeps its digits.
        slope = signal * x / scale**2
        return torch.tanh(slope), torch.log(VARIANCE + 1 / torch.cosh(slope.clamp(-300, 300)) ** 2)
