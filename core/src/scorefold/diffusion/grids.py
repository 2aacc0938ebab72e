"""Time grids."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold.diffusion.process import DiffusionProcess
from scorefold.errors import ConfigError

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
