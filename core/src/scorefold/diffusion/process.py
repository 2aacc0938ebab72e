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

The steps of a sampler on a time grid, each with its factors: what the sampler's formula needs of the process there.

A factor is a number for isotropic processes, and a tensor (*E) in the dtype of x for processes of several speeds. It
is a map where a matrix couples the components. Numbers and tensors are computed for the whole grid at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from scorefold.diffusion.schedules import Value
from scorefold.errors import ConfigError, ShapeError
from scorefold.stage import reported

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
        """The change of basis after which samplers take their steps; None where x itself has the components."""
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


_CHUNK = 2**22  # numbers in one table: per-component schedules of large events are tabulated some steps at a time


class Step(NamedTuple):
    """A step from t down to t_next = t - h, both (B,) for the score.

    Only the step that ends the whole run is ``last``, and adds no noise: dropping noise at the end of every piece of a
    grid leaves the components that go on with too little variance.
    """

    t: Tensor
    t_next: Tensor
    h: float
    last: bool


@dataclass(frozen=True)
class Drift:
    """F(t) of a matrix process as a map."""

    process: DiffusionProcess
    t: Tensor

    def apply(self, v: Tensor) -> Tensor:
        return self.process.drift(v, self.t.expand(len(v)))


class SdeStep(NamedTuple):
    """F and G of dx = F x dt + G dw at t."""

    drift: Value | Drift
    dispersion: Value | LinearMap

    @classmethod
    def of(cls, process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> SdeStep:
        dispersion = process.dispersion(like, t)
        # The drift is linear: at 1 it is its own factor.
        return cls(process.drift(like, t) if isinstance(dispersion, Tensor) else Drift(process, t), dispersion)


class ProbabilityFlowStep(NamedTuple):
    """F and G at t and at t_next, 0 for components that this step does not move: one that ends at t_next already runs
    there, and would take half a step."""

    drift: Value | Drift
    dispersion: Value | LinearMap
    drift_next: Value | Drift
    dispersion_next: Value | LinearMap

    @classmethod
    def of(cls, process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> ProbabilityFlowStep:
        ends = (*SdeStep.of(process, like, t, t_next), *SdeStep.of(process, like, t_next, t))
        if not isinstance(ends[1], Tensor):
            return cls(*ends)
        moving = _moving(process, like, t, t_next)
        return cls(*(apply(factor, moving) for factor in ends))


class TransitionStep(NamedTuple):
    """a and q of x_t = a x_t_next + q z, and the scale at t, 0 for components that this step does not move."""

    a: Value | LinearMap
    q: Value | LinearMap
    scale: Value | LinearMap

    @classmethod
    def of(cls, process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> TransitionStep:
        a, q = process.transition(like, t_next, t)
        scale: Tensor | LinearMap = process.coefficients(like, t)[1]
        return cls(a, q, scale * _moving(process, like, t, t_next) if isinstance(scale, Tensor) else scale)


class SigmaStep(NamedTuple):
    """signal' / signal, signal' (sigma' - sigma), scale and scale': the second is 0 for components at rest."""

    ratio: Value
    gain: Value
    scale: Value
    scale_next: Value

    @classmethod
    def of(cls, process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> SigmaStep:
        signal, scale = process.coefficients(like, t)
        signal_next, scale_next = process.coefficients(like, t_next)
        return cls(signal_next / signal, scale_next - signal_next * scale / signal, scale, scale_next)


class ExponentialStep(NamedTuple):
    """signal and scale at t; scale' / scale, -signal' (e^-h - 1) and h of the step, 0 for components at rest."""

    signal: Value
    scale: Value
    ratio: Value
    gain: Value
    length: Value

    @classmethod
    def of(cls, process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> ExponentialStep:
        signal, scale = process.coefficients(like, t)
        signal_next, scale_next = process.coefficients(like, t_next)
        h = expand(process.log_snr(t_next) - process.log_snr(t), like) / 2
        return cls(signal, scale, scale_next / scale, -signal_next * torch.expm1(-h), h)


Factors = TypeVar("Factors", bound=NamedTuple)
FactorsOf = Callable[[DiffusionProcess, Tensor, Tensor, Tensor], Factors]
"""(process, like, t (S,), t_next (S,)) -> the factors of S steps; ``like`` lends its dimensions and dtype."""


def each_step(
    process: DiffusionProcess, x: Tensor, times: Tensor, factors_of: FactorsOf[Factors]
) -> Iterator[tuple[Step, Factors]]:
    """The S steps of x (B, *E) between ``times`` (S + 1,), with the factors of each. Raises ``ShapeError`` unless times
    are (S + 1,), ``ConfigError`` unless they decrease within [t_min, t_max] and hold the process' breakpoints.
    """
    exact = _on_marks(process, times)
    lengths: list[float] = (exact[:-1] - exact[1:]).tolist()
    grid, tables = exact.to(x), dict[Any, Any]()
    labels = [t.expand(len(x)) for t in grid.unbind()]
    for place, label in enumerate(labels):
        vars(label)["table"] = grid, tables, place  # for ``tabulated``
    taken = [Step(t, t_next, h, False) for (t, t_next), h in zip(pairwise(labels), lengths, strict=True)]
    taken[-1] = taken[-1]._replace(last=float(exact[-1]) == process.t_min)
    steps = reported(taken, len(taken), "steps of the sampler")
    # Differences of nearby noise levels lose digits in single precision; Apple's devices have no other.
    precise = exact.to(x.device, torch.float32 if x.device.type == "mps" else torch.float64)
    like = torch.ones((1,) * x.dim(), dtype=precise.dtype, device=x.device)
    if couples(process, like, precise):
        for step, (t, t_next) in zip(steps, pairwise(exact.to(x).split(1)), strict=True):
            yield step, factors_of(process, x[:1], t, t_next)
        return
    size = max(1, _CHUNK // max(1, x[:1].numel()))
    for first in range(0, len(taken), size):
        some = slice(first, first + size)
        table = factors_of(process, like, precise[:-1][some], precise[1:][some])
        columns = [c.flatten().tolist() if c.numel() == len(c) else c.to(x.dtype).unbind() for c in table]
        for factors in map(table._make, zip(*columns, strict=True)):
            yield next(steps), factors


def tabulated(t: Tensor, owner: Any, table_of: Callable[[Tensor], Sequence[Any]]) -> Any:
    """The entry for t (B,) of ``table_of(times)``, which has one for each time of a sampler's run and is computed once
    a run; None where no sampler gave t. ``owner`` names the table: the model, for example."""
    times, tables, place = vars(t).get("table", (t, None, 0))
    if tables is not None and owner not in tables:
        tables[owner] = table_of(times)
    return None if tables is None else tables[owner][place]


def _on_marks(process: DiffusionProcess, times: Tensor) -> Tensor:
    """The times in float64 on the CPU, with those that miss an end by rounding put on it. Raises as ``each_step``."""
    if times.dim() != 1 or len(times) < 2:
        raise ShapeError(f"times have shape {tuple(times.shape)}; expected (steps + 1,)")
    exact = times.detach().to("cpu", torch.float64)
    for mark in (process.t_min, *process.breakpoints, process.t_max):
        exact = torch.where((exact - mark).abs() <= 1e-6 * mark, mark, exact)
    points: list[float] = exact.tolist()
    first, last = points[0], points[-1]
    if any(t <= t_next for t, t_next in pairwise(points)) or first > process.t_max or last < process.t_min:
        raise ConfigError(
            f"times run from {first:g} to {last:g}; expected decreasing times within "
            f"[{process.t_min:g}, {process.t_max:g}]",
            hint="time_grid(process, steps) gives such times",
        )
    missed = [mark for mark in process.breakpoints if last < mark < first and mark not in points]
    if missed:
        raise ConfigError(
            f"a component of the process ends at t = {missed[0]:g}, which is not on the time grid",
            hint="time_grid(process, steps) puts such times on the grid",
        )
    return exact


def _moving(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    return expand(process.log_snr(t_next) != process.log_snr(t), like)


def add(x: Tensor, factor: Value | LinearMap, v: Tensor) -> Tensor:
    """x + factor v, (B, *E): one operator for a number, and none for 0."""
    if isinstance(factor, int | float):
        return torch.add(x, v, alpha=factor) if factor else x
    return x + apply(factor, v)


def moved(x: Tensor, h: float, equation: Sequence[Any], at: Tensor, score: Tensor, share: float = 0.5) -> Tensor:
    """x + h (F at - share G G^T score) with F and G of ``equation``: by default x after a time h along the probability
    flow of an event ``at`` (B, *E) that has this score."""
    drift, dispersion = equation
    if isinstance(dispersion, Value):
        return add(add(x, h * drift, at), -h * share * dispersion**2, score)
    return x + h * (apply(drift, at) - share * square(dispersion, score))


def apply(factor: Value | LinearMap | Drift, v: Tensor) -> Tensor:
    """factor v, (B, *E)."""
    return factor * v if isinstance(factor, Value) else factor.apply(v)


def square(factor: Value | LinearMap, v: Tensor) -> Tensor:
    """factor factor^T v, (B, *E)."""
    return factor**2 * v if isinstance(factor, Value) else factor.apply(factor.apply_transpose(v))


def apply_inverse(factor: Value | LinearMap, v: Tensor) -> Tensor:
    """factor^-1 v, (B, *E)."""
    return v / factor if isinstance(factor, Value) else factor.solve(v)
