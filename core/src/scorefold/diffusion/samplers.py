"""Samplers: from noise to data, as functions of a score, a process and a time grid.

Each takes ``(score, process, x (B, *E), times (S + 1,), *, generator=None, state=None)`` and returns (x at the last
time, state). ``score`` maps (x, t (B,)) to the score; times decrease. All work component by component in processes of
several speeds: a component whose time has run out stands still, one that becomes active starts with a first-order step.
Where the components are coefficients in another basis (``Rotated``), steps are taken, and states kept, in that basis.
The state carries a multistep history across calls, so a grid may be walked in pieces with another score for each.
Raises ``ConfigError`` and ``ShapeError`` for times that do not fit the process (see ``grids.Grid.of``).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from scorefold.diffusion.grids import Grid
from scorefold.diffusion.process import DiffusionProcess, LinearMap, expand
from scorefold.diffusion.rotated import Rotated, in_coefficients
from scorefold.errors import ConfigError
from scorefold.random import draw_normal

__all__ = [
    "SAMPLERS",
    "History",
    "Sampler",
    "by_components",
    "ddim",
    "default_sampler",
    "default_steps",
    "dpm_solver_pp_2m",
    "edm",
    "euler_maruyama",
    "heun",
    "invert_heun",
    "predictor_corrector",
    "resolve_sampler",
]

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


class Sampler(Protocol):
    """What every sampler is: see the module's docstring for shapes."""

    def __call__(
        self,
        score: ScoreFunction,
        process: DiffusionProcess,
        x: Tensor,
        times: Tensor,
        *,
        generator: torch.Generator | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]: ...


def by_components(sampler: Sampler) -> Sampler:
    """A sampler that turns events into coefficients first where the process is ``Rotated``, and back at the end."""

    @wraps(sampler)
    def in_its_basis(
        score: ScoreFunction, process: DiffusionProcess, x: Tensor, times: Tensor, **options: Any
    ) -> tuple[Tensor, Any]:
        if not isinstance(process, Rotated):
            return sampler(score, process, x, times, **options)
        z, state = sampler(in_coefficients(score, process), process.inner, process.transform(x), times, **options)
        return process.transform.inverse(z), state

    return in_its_basis


@by_components
def euler_maruyama(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: None = None,
) -> tuple[Tensor, None]:
    """Euler-Maruyama on the reverse SDE dx = (f - G G^T score) dt + G dw (Anderson 1982; Song et al. 2021, eq. 6).

    Weak order 1. The step that ends at t_min returns its mean.
    """
    grid = Grid.of(process, x, times)
    for k, (drift, dispersion) in enumerate(grid.rows(_sde)):
        h, t = grid.lengths[k], grid.labels[k].expand(len(x))
        x = x - h * (_apply(drift, x) - _square(dispersion, score(x, t)))
        if not _drops_noise(grid, k):
            x = x + math.sqrt(h) * _apply(dispersion, _noise(x, generator))
    return x, None


@by_components
def predictor_corrector(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: None = None,
    snr: float = 0.16,
    corrector_steps: int = 1,
) -> tuple[Tensor, None]:
    """Langevin corrections at each time, then an ancestral step (Song et al. 2021, algorithms 2 and 3).

    With x_t = a x_t' + q z the transition from t' to t, the predictor is x' = a^-1 (x + q q^T score) + q xi: its mean
    is E[x_t' | x_t] for the exact score. The corrector x + 2 snr^2 scale scale^T score + 2 snr scale xi is
    preconditioned by each component's own noise level, since one step length for all is set by the noisiest component.
    Takes ``corrector_steps`` + 1 network calls a step; the predictor that ends at t_min returns its mean.
    """
    grid = Grid.of(process, x, times)
    for k, (a, q, scale) in enumerate(grid.rows(_kernels)):
        t = grid.labels[k].expand(len(x))
        for _ in range(corrector_steps):
            langevin = snr * _square(scale, score(x, t)) + _apply(scale, _noise(x, generator))
            x = x + 2 * snr * langevin
        x = _solve(a, x + _square(q, score(x, t)))
        if not _drops_noise(grid, k):
            x = x + _apply(q, _noise(x, generator))
    return x, None


@by_components
def heun(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: None = None,
) -> tuple[Tensor, None]:
    """Heun's method on the probability flow dx/dt = f - 1/2 G G^T score (Song et al. 2021, eq. 13). Order 2.

    Takes two network calls a step; deterministic.
    """
    grid = Grid.of(process, x, times)
    for k, (drift, dispersion, drift_end, dispersion_end) in enumerate(grid.rows(_flow)):
        here, there = (drift, dispersion, grid.labels[k]), (drift_end, dispersion_end, grid.labels[k + 1])
        x = _heun_step(score, x, -grid.lengths[k], here, there)
    return x, None


@by_components
def edm(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: None = None,
) -> tuple[Tensor, None]:
    """Heun's method on the probability flow in sigma = scale / signal (Karras et al. 2022, algorithm 1 without churn).

    With y = x / signal the flow is dy / dsigma = eps-hat, the expected noise. Order 2, and deterministic, as ``heun``,
    with the smaller error where noise grows geometrically; two network calls a step. Raises ``ConfigError`` for matrix
    processes.
    """
    _refuse_maps(process, x, times, "edm")
    grid = Grid.of(process, x, times)
    for k, (ratio, gain, scale, scale_next) in enumerate(grid.rows(_in_sigma)):
        t, t_next = grid.labels[k].expand(len(x)), grid.labels[k + 1].expand(len(x))
        noise = -scale * score(x, t)
        noise_next = -scale_next * score(ratio * x + gain * noise, t_next)
        x = ratio * x + gain * (noise + noise_next) / 2
    return x, None


@by_components
def invert_heun(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: None = None,
) -> tuple[Tensor, None]:
    """From data to noise: Heun's method along the probability flow the other way. Order 2, as ``heun``.

    ``times`` decrease as for every sampler; x is an event at the last of them, and comes back as it stands at the
    first. ``heun`` with the same score and times brings it back, up to the error of the steps.
    """
    grid = Grid.of(process, x, times)
    for k, (drift_end, dispersion_end, drift, dispersion) in reversed(list(enumerate(grid.rows(_flow)))):
        here, there = (drift, dispersion, grid.labels[k + 1]), (drift_end, dispersion_end, grid.labels[k])
        x = _heun_step(score, x, grid.lengths[k], here, there)
    return x, None


@by_components
def ddim(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: None = None,
) -> tuple[Tensor, None]:
    """DDIM without noise (Song, Meng and Ermon 2021, eq. 12 at eta = 0): x' = signal' x0-hat + scale' eps-hat. Order 1.

    Raises ``ConfigError`` for matrix processes, whose components have no signal-to-noise ratio of their own.
    """
    _refuse_maps(process, x, times, "ddim")
    grid = Grid.of(process, x, times)
    for k, (signal, scale, ratio, gain, _) in enumerate(grid.rows(_exponential)):
        denoised = (x + _square(scale, score(x, grid.labels[k].expand(len(x))))) / signal
        x = ratio * x + gain * denoised
    return x, None


@dataclass(frozen=True)
class History:
    """What DPM-Solver++(2M) remembers of its last step: x0-hat, and the step's length in ln(signal / scale)."""

    denoised: Tensor
    length: float | Tensor


@by_components
def dpm_solver_pp_2m(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: History | None = None,
) -> tuple[Tensor, History | None]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): one network call a step. Order 2.

    With lam = ln(signal / scale), h = lam' - lam and r = h_before / h, x' = (scale' / scale) x - signal' (e^-h - 1) D
    where D = (1 + 1 / 2r) x0-hat - (1 / 2r) x0-hat_before. A component takes a first-order step (D = x0-hat) where it
    has no history, and where h > 2 h_before: extrapolating so far would amplify the history's errors. Raises
    ``ConfigError`` for matrix processes.
    """
    _refuse_maps(process, x, times, "dpmpp-2m")
    grid = Grid.of(process, x, times)
    for k, (signal, scale, ratio, gain, length) in enumerate(grid.rows(_exponential)):
        denoised = (x + _square(scale, score(x, grid.labels[k].expand(len(x))))) / signal
        target = denoised
        if state is not None:
            target = denoised + _extrapolation(length, state.length) * (denoised - state.denoised)
        x = ratio * x + gain * target
        state = History(denoised, length)
    return x, state


CALLS = 36
"""Network calls of a sampler by default, without the one that takes the last noise away (Karras et al. 2022: 35)."""

SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "euler-maruyama": euler_maruyama,
        "predictor-corrector": predictor_corrector,
        "heun": heun,
        "edm": edm,
        "ddim": ddim,
        "dpmpp-2m": dpm_solver_pp_2m,
    }
)
"""The samplers by the name that a run file uses."""


def default_sampler(process: DiffusionProcess, x: Tensor) -> str:
    """``edm``; ``heun`` for matrix processes, which it doesn't serve; and ``dpmpp-2m`` for coefficients in another
    basis, which differ in noise: at 37 calls a multi-scale model of images had half the Frechet distance of Heun's."""
    if isinstance(process, Rotated):
        return "dpmpp-2m"
    return "heun" if _is_map(process, x, x.new_tensor([process.t_max])) else "edm"


def default_steps(sampler: str | Sampler) -> int:
    """The steps that take 36 network calls: 18 for our samplers of two calls a step, by name or as functions; 36 for
    the others, and for functions of others."""
    return CALLS // 2 if resolve_sampler(sampler) in (edm, heun, predictor_corrector) else CALLS


def resolve_sampler(sampler: str | Sampler) -> Sampler:
    """A sampler from its name, or the function itself. Raises ``ConfigError`` with near misses for an unknown name."""
    if callable(sampler):
        return sampler
    if sampler in SAMPLERS:
        return SAMPLERS[sampler]
    close = difflib.get_close_matches(str(sampler).lower().replace("_", "-"), SAMPLERS, n=2, cutoff=0.5)
    raise ConfigError(
        f"there is no sampler {sampler!r}; there is {', '.join(SAMPLERS)}",
        hint=f"did you mean {' or '.join(close)}?" if close else None,
    )


def _heun_step(
    score: ScoreFunction, x: Tensor, h: float, here: tuple[Any, Any, Tensor], there: tuple[Any, Any, Tensor]
) -> Tensor:
    """Heun's step of length h along the probability flow, forward in time where h > 0, between two (F, G, time)."""

    def velocity(x: Tensor, drift: Any, dispersion: Any, t: Tensor) -> Tensor:
        return _apply(drift, x) - _square(dispersion, score(x, t.expand(len(x)))) / 2

    start = velocity(x, *here)
    return x + (h / 2) * (start + velocity(x + h * start, *there))


def _drops_noise(grid: Grid, k: int) -> bool:
    """Only the step that ends the whole run is noiseless: dropping noise at the end of every piece of a grid leaves the
    components that go on with too little variance."""
    return grid.final and k == len(grid.lengths) - 1


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return draw_normal(tuple(x.shape), generator=generator, like=x)


@dataclass(frozen=True)
class _Drift:
    """f(., t) of a matrix process as a map."""

    process: DiffusionProcess
    t: Tensor

    def apply(self, v: Tensor) -> Tensor:
        return self.process.drift(v, self.t.expand(len(v)))


def _sde(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> tuple[Any, ...]:
    """(F, G) at t. The drift is linear: at 1 it is its own factor."""
    dispersion = process.dispersion(like, t)
    return (process.drift(like, t) if isinstance(dispersion, Tensor) else _Drift(process, t)), dispersion


def _flow(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> tuple[Any, ...]:
    """(F, G) at t and at t_next, 0 for components that this step does not move.

    A component that ends at t_next already runs there, and would take half a step.
    """
    terms = (*_sde(process, like, t, t_next), *_sde(process, like, t_next, t))
    if not isinstance(terms[1], Tensor):
        return terms
    moving = _moving(process, like, t, t_next)
    return tuple(moving * term for term in terms)


def _in_sigma(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> tuple[Any, ...]:
    """signal' / signal, signal' (sigma' - sigma), scale and scale': the second is 0 for components at rest."""
    signal, scale = process.coefficients(like, t)
    signal_next, scale_next = process.coefficients(like, t_next)
    return signal_next / signal, scale_next - signal_next * scale / signal, scale, scale_next


def _kernels(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> tuple[Any, ...]:
    """(a, q) of the transition from t_next to t, and the scale at t, 0 for components that this step does not move."""
    a, q = process.transition(like, t_next, t)
    scale = process.coefficients(like, t)[1]
    return a, q, scale * _moving(process, like, t, t_next) if isinstance(scale, Tensor) else scale


def _exponential(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> tuple[Any, ...]:
    """(signal, scale) at t; scale' / scale, -signal' (e^-h - 1) and h of the step, 0 for components at rest."""
    signal, scale = process.coefficients(like, t)
    signal_next, scale_next = process.coefficients(like, t_next)
    h = expand(process.log_snr(t_next) - process.log_snr(t), like) / 2
    return signal, scale, scale_next / scale, -signal_next * torch.expm1(-h), h


def _moving(process: DiffusionProcess, like: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    return expand(process.log_snr(t_next) != process.log_snr(t), like)


def _extrapolation(length: Any, before: Any) -> Any:
    """1 / 2r = h / (2 h_before), or 0 where the step must be of first order."""
    if isinstance(length, Tensor) or isinstance(before, Tensor):
        length, before = torch.as_tensor(length), torch.as_tensor(before)
        usable = (before > 0) & (length <= 2 * before)
        return torch.where(usable, length / (2 * before.where(usable, torch.ones_like(before))), 0)
    return length / (2 * before) if 0 < length <= 2 * before else 0.0


def _apply(factor: Any, v: Tensor) -> Tensor:
    result: Tensor = factor * v if isinstance(factor, float | Tensor) else factor.apply(v)
    return result


def _square(factor: Any, v: Tensor) -> Tensor:
    """factor factor^T v."""
    result: Tensor = factor**2 * v if isinstance(factor, float | Tensor) else factor.apply(factor.apply_transpose(v))
    return result


def _solve(factor: Any, v: Tensor) -> Tensor:
    result: Tensor = v / factor if isinstance(factor, float | Tensor) else factor.solve(v)
    return result


def _is_map(process: DiffusionProcess, x: Tensor, times: Tensor) -> bool:
    return times.dim() == 1 and isinstance(process.dispersion(x[:1], times[:1].to(x)), LinearMap)


def _refuse_maps(process: DiffusionProcess, x: Tensor, times: Tensor, name: str) -> None:
    if _is_map(process, x, times):
        raise ConfigError(
            f"the sampler {name} works component by component; {type(process).__name__} couples the components",
            hint="use euler-maruyama, predictor-corrector or heun",
        )
