"""Rates of a schedule against its own kernel, which tests of several plugins ask for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def check_rates(schedule: Any, t: Tensor) -> None:
    """The drift and the dispersion at times t (N,) in float64 are derivatives of signal and scale, and times and
    log-SNRs undo each other."""
    t = t.detach().requires_grad_()
    signal, scale = schedule.signal_scale(t)
    (of_signal,) = torch.autograd.grad(signal.log().sum(), t, retain_graph=True)
    (of_variance,) = torch.autograd.grad((scale**2).sum(), t)
    rate, dispersion = schedule.rates(t)
    torch.testing.assert_close(rate, of_signal)
    torch.testing.assert_close(dispersion**2, of_variance - 2 * of_signal * scale**2)
    torch.testing.assert_close(schedule.log_snr(t), 2 * (signal / scale).log())
    torch.testing.assert_close(schedule.time_at(scale / signal), t)
