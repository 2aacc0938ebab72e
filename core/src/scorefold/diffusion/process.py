"""The contract of a diffusion process: dx = f(x, t) dt + G(t) dw with a linear drift f = F(t) x.

>>> from scorefold.diffusion import VP
>>> process, x, t = VP(), torch.ones(2, 3), torch.tensor([0.1, 0.9])
>>> isinstance(process, DiffusionProcess), isinstance(process, Isotropic)
(True, True)
>>> torch.equal(process.perturb(x, t, noise=torch.zeros(2, 3)), process.marginal(x, t)[0])
True
>>> isinstance(process.dispersion(x, t), LinearMap)  # of a matrix process it is one
False
>>> class Flipped(Orthonormal):
...     def forward(self, x):
...         return x.flip(1)
...     inverse = forward
>>> Flipped((2,))(torch.tensor([[1.0, 2.0]]))
tensor([[2., 1.]])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
"""(x (B, *E), t (B,)) -> the score (B, *E)."""


@runtime_checkable
class LinearMap(Protocol):
    """A linear map on events, for processes whose scale is a matrix. All maps take and return (B, *E)."""

    def apply(self, v: Tensor) -> Tensor:
        """The map applied to v."""

    def apply_transpose(self, v: Tensor) -> Tensor:
        """The transposed map applied to v."""

    def solve(self, v: Tensor) -> Tensor:
        """The inverse map applied to v."""

    def log_det(self) -> Tensor:
        """log |det|, (B,)."""


def expand(value: Tensor, x: Tensor) -> Tensor:
    """(B,) as (B, 1, ...) with the dimensions of x; what already has an event shape stays as it is."""
    return value.reshape(value.shape[0], *[1] * (x.dim() - 1)) if value.dim() == 1 else value


class Orthonormal(nn.Module, ABC):
    """An orthonormal change of basis of events: coefficients z = W x with W^T W = 1, both (B, *event_shape).

    Must: ``forward`` and ``inverse``. Lengths, densities and white noise are the same on both sides.
    """

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The coefficients W x of events x (B, *E): (B, *E)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """The events W^T z of coefficients z (B, *E): (B, *E)."""


class DiffusionProcess(nn.Module, ABC):
    """A linear diffusion: x_t = signal(t) x_0 + scale(t) z with z standard normal; t_min <= t <= t_max, t = 0 is data.

    Must: ``coefficients``, ``drift``, ``dispersion``, ``log_snr``, ``sample_prior``, ``prior_log_prob``. May:
    ``breakpoints``, ``basis`` with ``of_coefficients``. Times are (B,). Coefficients broadcast to (B, *E); a matrix
    process gives ``LinearMap`` objects instead and overrides what is given here: ``marginal``, ``perturb``,
    ``noise_from_score``, ``score_from_noise``, ``denoised_from_score``, ``transition``.
    """

    t_min: float
    t_max: float

    @abstractmethod
    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(signal, scale) at times t (B,), each broadcastable to x (B, *E)."""

    @abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x, t), (B, *E)."""

    @abstractmethod
    def dispersion(self, x: Tensor, t: Tensor) -> Tensor | LinearMap:
        """G(t): broadcastable to (B, *E), or a linear map."""

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(signal^2 / scale^2): (B,), or (B, *E) where components diffuse at several speeds."""

    @abstractmethod
    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws (B, *E) from the prior at t_max, on the device and in the dtype of ``like``."""

    @abstractmethod
    def prior_log_prob(self, x: Tensor) -> Tensor:
        """The log-density of the prior at x (B, *E): (B,)."""

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The times inside (t_min, t_max), increasing, at which a component stops: a time grid must hold them."""
        return ()

    @property
    def basis(self) -> Orthonormal | None:
        """The change of basis after which samplers take their steps; None where components are those of x itself."""
        return None

    def of_coefficients(self, score: ScoreFunction) -> tuple[ScoreFunction, DiffusionProcess]:
        """The score and the process of the coefficients ``basis(x)``; ``score`` and the process itself without one."""
        return score, self

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor | LinearMap]:
        """(mean, scale) of x_t given x_0 = x0 (B, *E)."""
        signal, scale = self.coefficients(x0, t)
        return signal * x0, scale

    def perturb(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = signal x0 + scale noise, (B, *E)."""
        signal, scale = self.coefficients(x0, t)
        return signal * x0 + scale * noise

    def noise_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """eps-hat = -scale^T score."""
        return -self.coefficients(x, t)[1] * score

    def score_from_noise(self, noise: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The score -scale^-T eps-hat."""
        return -noise / self.coefficients(x, t)[1]

    def denoised_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x] = (x + scale scale^T score) / signal."""
        signal, scale = self.coefficients(x, t)
        return (x + scale**2 * score) / signal

    def transition(self, x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor | LinearMap, Tensor | LinearMap]:
        """(a, q) of x_t = a x_s + q z for s <= t (B,), each as ``coefficients`` gives them; x lends its shape.

        a = signal_t / signal_s and q^2 = scale_t^2 - a^2 scale_s^2.
        """
        signal_s, scale_s = self.coefficients(x, s)
        signal_t, scale_t = self.coefficients(x, t)
        a = signal_t / signal_s
        return a, (scale_t**2 - (a * scale_s) ** 2).clamp_min(0).sqrt()


def couples(process: DiffusionProcess, x: Tensor, times: Tensor) -> bool:
    """True if components of events x (B, *E) drive one another, at the first of some times: G is then a map."""
    return not isinstance(process.dispersion(x[:1], times[:1].to(x)), Tensor)


class Isotropic(ABC):
    """A process whose signal and scale are one number a time, so that any noise-to-signal ratio has a time."""

    @abstractmethod
    def noise_to_signal(self, t: Tensor) -> Tensor:
        """scale / signal at times t (B,): (B,). Increasing in t."""

    @abstractmethod
    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        """The time (B,) at which scale / signal takes these values (B,)."""
