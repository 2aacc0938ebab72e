"""Calls of networks, and the noise from their outputs: one small function per convention.

A noised event is x = a x_0 + b z, with signal a, scale b and z standard normal. Whatever a network answers, F, the
expected noise eps-hat follows from it, and the score is -eps-hat / b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from scorefold.data import Condition, EventScale
from scorefold.diffusion import DiffusionProcess, Schedule

Noise = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(F (B, *E), x (B, *E), a, b) -> eps-hat (B, *E); a and b broadcast to events."""

Network = Callable[[Tensor, Tensor, Condition | None], Tensor]
"""(what is shown (B, *E), its time (B,), the condition) -> F (B, *E)."""


def from_epsilon(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is the noise (Ho et al. 2020)."""
    return F


def from_x0(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is the datum; diffusers calls it ``sample``."""
    return (x - a * F) / b


def from_v(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is a z - b x_0 (Salimans and Ho 2022)."""
    return (b * x + a * F) / (a**2 + b**2)


def from_score(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is the score."""
    return -b * F


def from_velocity(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is z - x_0, the velocity of straight paths (Liu et al. 2023): with a = 1 - t, b = t it is x + (1 - t) F."""
    return (x + a * F) / (a + b)


PARAMETRISATIONS: dict[str, Noise] = {
    "epsilon": from_epsilon,
    "x0": from_x0,
    "v": from_v,
    "score": from_score,
    "velocity": from_velocity,
}


def from_edm(deviation: float, sign: float) -> Noise:
    """F corrects the best linear guess of the datum of data with this deviation s (Karras et al. 2022, eq. 7):
    x_0 = (s^2 x + sign b s sqrt(b^2 + s^2) F) / (b^2 + s^2)."""

    def noise(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        spread = b**2 + deviation**2
        return b * x / spread - sign * deviation * F / spread.sqrt()

    return noise


def from_trigflow(deviation: float) -> Noise:
    """F is cos(t) z - sin(t) x_0 / s for data with the deviation s: sin(t) x / s + cos(t) F, with b = s sin(t)."""

    def noise(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return b * x / deviation**2 + a * F

    return noise


def as_it_is(x: Tensor, b: Tensor) -> Tensor:
    return x


def own_time(t: Tensor, sigma: Tensor) -> Tensor:
    return t


@dataclass(frozen=True)
class Family:
    """A schedule, and how networks that were trained on it are asked.

    ``noise`` reads the answer; ``time`` makes what the network is given from t (B,) and b / a (B,); ``shown`` makes its
    input from x (B, *E) and b; ``scale`` has the units of the events.
    """

    schedule: Schedule
    noise: Noise
    time: Callable[[Tensor, Tensor], Tensor] = own_time
    shown: Callable[[Tensor, Tensor], Tensor] = as_it_is
    scale: EventScale = field(default_factory=lambda: EventScale(low=-1.0, high=1.0))

    def expected_noise(
        self, network: Network, process: DiffusionProcess, x: Tensor, t: Tensor, condition: Condition | None
    ) -> Tensor:
        """eps-hat (B, *E) at x (B, *E), t (B,)."""
        a, b = process.coefficients(x, t)
        answer = network(self.shown(x, b), self.time(t, (b / a).reshape(-1)), condition)
        return self.noise(answer, x, a, b)
