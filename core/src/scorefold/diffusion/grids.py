"""Time grids, and what a sampler needs of a process at every step of one, computed for the whole grid at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.diffusion.process import DiffusionProcess
from scorefold.errors import ConfigError, ShapeError

Terms = Callable[[DiffusionProcess, Tensor, Tensor, Tensor], tuple[Any, ...]]
"""(process, like, t (S,), t_next (S,)) -> the factors of S steps; ``like`` lends its dimensions and dtype."""

_CHUNK = 2**22  # numbers in one table: per-component schedules of large events are tabulated some steps at a time


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
    ends = torch.tensor([process.t_max, *reversed(process.breakpoints), process.t_min], dtype=torch.float64)
    heights = ends if spacing == "uniform" else _height(_mean_log_snr(process, ends), spacing)
    counts = _share(steps, (heights[1:] - heights[:-1]).abs())
    parts = [ends[:1]]
    for start, end, low, high, count in zip(ends[:-1], ends[1:], heights[:-1], heights[1:], counts, strict=True):
        inner = low + (high - low) * torch.arange(1, count, dtype=torch.float64) / count
        if spacing == "karras":
            inner = -2 * _RHO * inner.log()
        if spacing != "uniform":
            inner = _invert_log_snr(process, inner, float(start), float(end))
        parts += [inner, end[None]]
    return torch.cat(parts)


def _mean_log_snr(process: DiffusionProcess, t: Tensor) -> Tensor:
    tensors = (*process.parameters(), *process.buffers())
    device = tensors[0].device if tensors else t.device
    value = process.log_snr(t.to(device)).to(t)
    return value.flatten(1).mean(1) if value.dim() > 1 else value


def _height(log_snr: Tensor, spacing: str) -> Tensor:
    """What the grid is uniform in, at these log-SNRs."""
    return (-log_snr / (2 * _RHO)).exp() if spacing == "karras" else log_snr


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


@dataclass(frozen=True)
class Grid:
    """A sampler's grid: ``times`` (S + 1,) in float64 on the CPU, and the same as ``labels`` where x is, for the score.

    ``lengths`` are the S steps' lengths; ``final`` says that the last time is t_min, which ends the run.
    """

    process: DiffusionProcess
    x: Tensor
    times: Tensor
    labels: Tensor
    lengths: list[float]
    final: bool

    @classmethod
    def of(cls, process: DiffusionProcess, x: Tensor, times: Tensor) -> Grid:
        """The grid of ``times``, with times that miss an end of the process by rounding put on it.

        Raises ``ShapeError`` unless times are (S + 1,), ``ConfigError`` unless they decrease within [t_min, t_max] and
        hold the process' breakpoints.
        """
        if times.dim() != 1 or len(times) < 2:
            raise ShapeError(f"times have shape {tuple(times.shape)}; expected (steps + 1,)")
        exact = times.detach().to("cpu", torch.float64)
        for mark in (process.t_min, *process.breakpoints, process.t_max):
            exact = torch.where((exact - mark).abs() <= 1e-6 * mark, mark, exact)
        lengths = (exact[:-1] - exact[1:]).tolist()
        first, last = float(exact[0]), float(exact[-1])
        if min(lengths) <= 0 or first > process.t_max or last < process.t_min:
            raise ConfigError(
                f"times run from {first:g} to {last:g}; expected decreasing times within "
                f"[{process.t_min:g}, {process.t_max:g}]",
                hint="time_grid(process, steps) gives such times",
            )
        missed = [mark for mark in process.breakpoints if last < mark < first and not bool((exact == mark).any())]
        if missed:
            raise ConfigError(
                f"a component of the process ends at t = {missed[0]:g}, which is not on the time grid",
                hint="time_grid(process, steps) puts such times on the grid",
            )
        return cls(process, x, exact, exact.to(x), lengths, last == process.t_min)

    def rows(self, terms: Terms) -> Iterator[tuple[Any, ...]]:
        """The factors of each step: floats for isotropic processes, else (*E) in the dtype of x, or linear maps."""
        # Differences of nearby noise levels lose digits in single precision; Apple's devices have no other.
        precision = torch.float32 if self.x.device.type == "mps" else torch.float64
        exact = self.times.to(self.x.device, precision)
        like = torch.ones((1,) * self.x.dim(), dtype=precision, device=self.x.device)
        if not isinstance(self.process.dispersion(like, exact[:1]), Tensor):
            for k in range(len(self.lengths)):
                yield terms(self.process, self.x[:1], self.labels[k : k + 1], self.labels[k + 1 : k + 2])
            return
        size = max(1, _CHUNK // max(1, self.x[:1].numel()))
        for t, t_next in zip(torch.split(exact[:-1], size), torch.split(exact[1:], size), strict=True):
            columns = [_as_rows(part, len(t), self.x) for part in terms(self.process, like, t, t_next)]
            yield from zip(*columns, strict=True)


def _as_rows(values: Tensor, count: int, x: Tensor) -> Sequence[float | Tensor]:
    if values.numel() == count:
        numbers: list[float] = values.reshape(-1).tolist()
        return numbers
    return list(values.to(x.dtype).unbind())
