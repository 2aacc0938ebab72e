"""Samplers: from noise to data, as functions of a score, a process and a time grid.

Each takes ``(score, process, x (B, *E), times (S + 1,), *, generator=None, state=None)`` and returns (x at the last
time, state). ``score`` maps (x, t (B,)) to the score; times decrease. All work component by component in processes of
several speeds: a component whose time has run out stands still, one that becomes active starts with a first-order step.
In a process with a ``basis``, steps are taken, and states kept, in that basis.
The state carries a multistep history across calls, so a grid may be walked in pieces with another score for each.
Raises ``ConfigError`` and ``ShapeError`` for times that do not fit the process (see ``process.each_step``). In bodies
``add(x, G, z)`` is x + G z, ``square(G, s)`` G G^T s and ``apply_inverse(a, x)`` a^-1 x, for numbers and for matrices.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from scorefold.diffusion.process import (
    DiffusionProcess,
    ExponentialStep,
    ProbabilityFlowStep,
    ScoreFunction,
    SdeStep,
    SigmaStep,
    TransitionStep,
    add,
    apply_inverse,
    couples,
    each_step,
    moved,
    square,
)
from scorefold.diffusion.schedules import Value
from scorefold.errors import ConfigError
from scorefold.random import draw_normal

SPACINGS = ("uniform", "log-snr", "karras")

_RHO = 7  # of Karras et al. (2022, eq. 5)


def time_grid(process: DiffusionProcess, steps: int | Sequence[int], spacing: str = "uniform") -> Tensor:
    """Decreasing times from t_max to t_min, (steps + 1,), float64 on the CPU.

    ``spacing`` is ``uniform`` in t, ``log-snr``, uniform in the (mean) log signal-to-noise ratio, or ``karras``,
    uniform in (scale / signal)^(1/7), between the two (Karras et al. 2022, eq. 5, for any process). The process'
    ``breakpoints`` lie on the grid: ``steps`` is a total, shared out in proportion to the length of each interval
    between them, or one number for each interval from t_max down. Raises ``ConfigError`` for an unknown spacing, and
    for fewer steps than intervals.
    """
    if spacing not in SPACINGS:
        close = difflib.get_close_matches(str(spacing), SPACINGS, n=1)
        raise ConfigError(
            f"a time grid with spacing {spacing!r} was asked for; expected {', '.join(SPACINGS)}",
            hint=f"did you mean {close[0]}?" if close else None,
        )
    marks = [process.t_max, *reversed(process.breakpoints), process.t_min]
    tensors = (*process.parameters(), *process.buffers())
    device = tensors[0].device if tensors and spacing != "uniform" else "cpu"
    ends = torch.tensor(marks, dtype=torch.float64, device=device)
    heights = ends if spacing == "uniform" else _mean_log_snr(process, ends)
    if spacing == "karras":
        heights = (-heights / (2 * _RHO)).exp()
    counts = _share(steps, (heights[1:] - heights[:-1]).abs().cpu())
    parts = [ends[:1]]
    for place, (count, low, high) in enumerate(zip(counts, heights[:-1], heights[1:], strict=True)):
        inner = low + (high - low) * torch.arange(1, count, dtype=torch.float64, device=device) / count
        if spacing == "karras":
            inner = -2 * _RHO * inner.log()
        if spacing != "uniform":
            inner = _invert_log_snr(process, inner, *marks[place : place + 2])
        parts += [inner, ends[place + 1, None]]
    return torch.cat(parts).cpu()


def _mean_log_snr(process: DiffusionProcess, t: Tensor) -> Tensor:
    value = process.log_snr(t).to(t)
    return value.flatten(1).mean(1) if value.dim() > 1 else value


def _invert_log_snr(process: DiffusionProcess, values: Tensor, late: float, early: float) -> Tensor:
    """The times in [early, late] with these mean log-SNRs, by bisection: it serves any process."""
    low, high = torch.full_like(values, early), torch.full_like(values, late)
    for _ in range(60):
        middle = (low + high) / 2
        too_clean = _mean_log_snr(process, middle) > values
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    return (low + high) / 2


def _share(steps: int | Sequence[int], lengths: Tensor) -> list[int]:
    """Steps for each interval, at least one each, in proportion to the lengths (largest remainders first)."""
    count = len(lengths)
    if not isinstance(steps, int):
        if not (isinstance(steps, list | tuple) and all(isinstance(number, int) for number in steps)):
            raise ConfigError(f"steps = {steps!r}; expected a whole number, or a list with one for each interval")
        if len(steps) != count or any(number < 1 for number in steps):
            raise ConfigError(f"steps = {list(steps)}; this process has {count} intervals, each of at least one step")
        return list(steps)
    if steps < count:
        reason = "at least 1 is needed" if count == 1 else f"{count} intervals end at different times and need one each"
        raise ConfigError(f"{steps} steps were asked for; {reason}", hint=f"set steps to {count} or more")
    shares = lengths / lengths.sum() * (steps - count)
    counts = shares.floor().long() + 1
    # The remainders are rounded so that equal intervals, whose shares differ in the last digit, tie in grid order.
    order = torch.argsort((shares - shares.floor()).mul(1e9).round(), descending=True, stable=True)
    counts[order[: steps - int(counts.sum())]] += 1
    numbers: list[int] = counts.tolist()
    return numbers


class Sampler(Protocol):
    """Signature of all samplers; the module's docstring has the shapes.

    >>> from scorefold.diffusion import VE, time_grid
    >>> standard = lambda x, t: -x / (1 + VE().coefficients(x, t)[1] ** 2)  # the score of N(0, 1) with noise
    >>> x, _ = SAMPLERS["dpmpp-2m"](standard, VE(), 50 * torch.randn(4000, 1), time_grid(VE(), 50, "karras"))
    >>> 0.9 < float(x.std()) < 1.1
    True
    """

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


def by_components(sampler: Callable[..., tuple[Tensor, Any]]) -> Sampler:
    """A sampler that turns events into coefficients first where the process has a ``basis``, and back at the end."""

    @wraps(sampler)
    def in_its_basis(
        score: ScoreFunction, process: DiffusionProcess, x: Tensor, times: Tensor, **options: Any
    ) -> tuple[Tensor, Any]:
        if process.basis is None:
            return sampler(score, process, x, times, **options)
        z, state = sampler(*process.of_coefficients(score), process.basis(x), times, **options)
        return process.basis.inverse(z), state

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
    for step, equation in each_step(process, x, times, SdeStep.of):
        x = moved(x, -step.h, equation, x, score(x, step.t), share=1.0)
        if not step.last:
            x = add(x, equation.dispersion, step.h**0.5 * draw_normal(tuple(x.shape), generator=generator, like=x))
    return x, None


def noiseless(walk: Callable[[ScoreFunction, DiffusionProcess, Tensor, Tensor], Tensor]) -> Sampler:
    """A sampler that draws nothing and has no state, from the events that it ends at."""

    @wraps(walk)
    def sampler(*given: Any, generator: Any = None, state: None = None, **named: Any) -> tuple[Tensor, None]:
        return walk(*given, **named), None

    sampler.__signature__ = inspect.signature(euler_maruyama)  # type: ignore[attr-defined]
    return by_components(sampler)


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
    for step, (a, q, scale) in each_step(process, x, times, TransitionStep.of):
        for _ in range(corrector_steps):
            towards = square(scale, score(x, step.t))
            xi = draw_normal(tuple(x.shape), generator=generator, like=x)
            x = add(x + 2 * snr**2 * towards, scale, 2 * snr * xi)
        x = apply_inverse(a, x + square(q, score(x, step.t)))
        if not step.last:
            x = add(x, q, draw_normal(tuple(x.shape), generator=generator, like=x))
    return x, None


@noiseless
def heun(score: ScoreFunction, process: DiffusionProcess, x: Tensor, times: Tensor) -> Tensor:
    """Heun's method on the probability flow dx/dt = f - 1/2 G G^T score (Song et al. 2021, eq. 13). Order 2.

    Takes two network calls a step; deterministic.
    """
    for step, flow in each_step(process, x, times, ProbabilityFlowStep.of):
        here, there, towards = flow[:2], flow[2:], score(x, step.t)
        half = moved(x, -step.h / 2, here, x, towards)
        guess = moved(half, -step.h / 2, here, x, towards)
        x = moved(half, -step.h / 2, there, guess, score(guess, step.t_next))
    return x


@noiseless
def edm(score: ScoreFunction, process: DiffusionProcess, x: Tensor, times: Tensor) -> Tensor:
    """Heun's method on the probability flow in sigma = scale / signal (Karras et al. 2022, algorithm 1 without churn).

    With y = x / signal the flow is dy / dsigma = eps-hat, the expected noise. Order 2, and deterministic, as ``heun``,
    with the smaller error where noise grows geometrically; two network calls a step. Raises ``ConfigError`` for matrix
    processes.
    """
    _refuse_maps(process, x, times, "edm")
    for step, (ratio, gain, scale, scale_next) in each_step(process, x, times, SigmaStep.of):
        towards = score(x, step.t)
        half = add(ratio * x, -gain / 2 * scale, towards)
        guess = add(half, -gain / 2 * scale, towards)
        x = add(half, -gain / 2 * scale_next, score(guess, step.t_next))
    return x


@noiseless
def ddim(score: ScoreFunction, process: DiffusionProcess, x: Tensor, times: Tensor) -> Tensor:
    """DDIM without noise (Song, Meng and Ermon 2021, eq. 12 at eta = 0): x' = signal' x0-hat + scale' eps-hat. Order 1.

    Raises ``ConfigError`` for matrix processes, whose components have no signal-to-noise ratio of their own.
    """
    _refuse_maps(process, x, times, "ddim")
    for step, (ratio, gain, scale, _) in each_step(process, x, times, SigmaStep.of):
        x = add(ratio * x, -gain * scale, score(x, step.t))
    return x


@by_components
def dpm_solver_pp_2m(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    state: tuple[Tensor, Value] | None = None,
) -> tuple[Tensor, tuple[Tensor, Value] | None]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): one network call a step. Order 2.

    With lam = ln(signal / scale), h = lam' - lam and r = h_before / h, x' = (scale' / scale) x - signal' (e^-h - 1) D
    where D = (1 + 1 / 2r) x0-hat - (1 / 2r) x0-hat_before. A component takes a first-order step (D = x0-hat) where it
    has no history, and where h > 2 h_before: extrapolating so far would amplify the history's errors. The state is
    x0-hat and h of the last step. Raises ``ConfigError`` for matrix processes.
    """
    _refuse_maps(process, x, times, "dpmpp-2m")
    for step, (signal, scale, ratio, gain, length) in each_step(process, x, times, ExponentialStep.of):
        target = denoised = add(x, scale**2, score(x, step.t)) / signal
        if state is not None:
            target = add(denoised, _extrapolation(length, state[1]), denoised - state[0])
        x = add(ratio * x, gain, target)
        state = denoised, length
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
    if process.basis is not None:
        return "dpmpp-2m"
    return "heun" if couples(process, x, x.new_tensor([process.t_max])) else "edm"


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


def _extrapolation(length: Value, before: Value) -> Value:
    """1 / 2r = h / (2 h_before), or 0 where the step must be of first order."""
    if isinstance(length, Tensor) or isinstance(before, Tensor):
        length, before = torch.as_tensor(length), torch.as_tensor(before)
        usable = (before > 0) & (length <= 2 * before)
        return torch.where(usable, length / (2 * before.where(usable, torch.ones_like(before))), 0)
    return length / (2 * before) if 0 < length <= 2 * before else 0.0


def _refuse_maps(process: DiffusionProcess, x: Tensor, times: Tensor, name: str) -> None:
    if times.dim() == 1 and couples(process, x, times):
        raise ConfigError(
            f"the sampler {name} works component by component; {type(process).__name__} couples the components",
            hint="use euler-maruyama, predictor-corrector or heun",
        )
