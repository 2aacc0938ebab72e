"""Series that code makes: Lorenz's attractor, and beats as of an electrocardiogram."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from scorefold.errors import ConfigError
from scorefold.seeds import derive_generator
from scorefold_standard.config import LorenzConfig, PulsesConfig
from scorefold_standard.series.cutting import CutSeries, Series
from scorefold_toolkit.data.manifolds import seeded_normal
from scorefold_toolkit.data.splits import source_seed

Array = npt.NDArray[np.float64]
State = tuple[float, float, float]

_SETTLES, _LARGEST_STEP = 50.0, 0.005
"""Time until a start has come to the attractor, and the largest step of the integrator."""

_CHAOTIC = "the defaults sigma: 10, rho: 28, beta: 2.667 and step: 0.02 give a signal; others may come to rest"
_BEATS = "take a longer series, of several beats"


class Lorenz(CutSeries):
    """Coordinates of Lorenz's system on its attractor, by the classical Runge-Kutta method in float64.

    At the default settings the attractor's correlation dimension is 2.05 (Grassberger and Procaccia 1983), and its
    Kaplan-Yorke dimension is 2.06. The first 50 units of time are left out. See ``CutSeries`` for events and splits.

    >>> from scorefold_registry import Host
    >>> Host.discover().create("data:lorenz", {"columns": ["x"], "dimension": 3, "length": 1000}).load("train").x.shape
    torch.Size([...])
    """

    def __init__(self, config: LorenzConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        start = seeded_normal((3,), seed, "start").tolist()
        states = trajectory((start[0], start[1], config.rho + start[2]), config)
        chosen = states[:, ["xyz".index(name) for name in config.columns]]
        super().__init__(
            config, noisy_series(chosen, config.columns, "the Lorenz series", config.noise_std, seed, _CHAOTIC)
        )


def trajectory(state: State, config: LorenzConfig) -> Array:
    """The states (T, 3) of Lorenz's system, ``config.step`` apart, after it has come to its attractor.

    Raises ``ConfigError`` where a number is not finite, as for parameters that are too large for the integrator.
    """
    parts = math.ceil(config.step / _LARGEST_STEP)
    for _ in range(math.ceil(_SETTLES / _LARGEST_STEP)):
        state = runge_kutta_step(state, _LARGEST_STEP, config)
    states = np.empty((config.length, 3))
    for row in range(config.length):
        states[row] = state
        for _ in range(parts):
            state = runge_kutta_step(state, config.step / parts, config)
    if not np.isfinite(states).all():
        raise ConfigError(
            f"the integration of Lorenz's system diverged at sigma {config.sigma:g}, rho {config.rho:g} and beta "
            f"{config.beta:g}: it changes too fast for steps of {_LARGEST_STEP:g}",
            hint="take smaller values; the defaults are sigma: 10, rho: 28, beta: 2.667",
        )
    return states


def velocity(state: State, config: LorenzConfig) -> State:
    """(x', y', z'), equations (25) to (27) of Lorenz (1963)."""
    x, y, z = state
    return config.sigma * (y - x), x * (config.rho - z) - y, x * y - config.beta * z


def runge_kutta_step(state: State, step: float, config: LorenzConfig) -> State:
    """One step of the classical Runge-Kutta method, on plain numbers, with equal bits on every machine."""
    x, y, z = state
    a, b, c = velocity(state, config)
    d, e, f = velocity((x + step / 2 * a, y + step / 2 * b, z + step / 2 * c), config)
    g, h, i = velocity((x + step / 2 * d, y + step / 2 * e, z + step / 2 * f), config)
    j, k, m = velocity((x + step * g, y + step * h, z + step * i), config)
    sixth = step / 6
    return (
        x + sixth * (a + 2 * d + 2 * g + j),
        y + sixth * (b + 2 * e + 2 * h + k),
        z + sixth * (c + 2 * f + 2 * i + m),
    )


_WAVES = (
    (-0.21, 0.035, 0.15),
    (-0.035, 0.013, -0.12),
    (0.0, 0.015, 1.0),
    (0.04, 0.015, -0.25),
    (0.30, 0.055, 0.32),
)
"""Place and width of the waves P, Q, R, S and T as shares of a beat, about the peak of R, and their heights."""


class Pulses(CutSeries):
    """One column of beats, each the sum of five Gaussian bumps, as the waves P to T of an electrocardiogram.

    The length of each beat and the height of each bump vary, by ``variability`` and by a tenth. No patient's data are
    behind it. See ``CutSeries`` for events and splits.

    >>> from scorefold_registry import Host
    >>> Host.discover().create("data:pulses", {"length": 2000}).load("train")
    Dataset(369 of shape (1, 128), index)
    """

    def __init__(self, config: PulsesConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        values = beats(config, seed)[:, None]
        super().__init__(config, noisy_series(values, ("ecg",), "the series of pulses", config.noise_std, seed, _BEATS))


def beats(config: PulsesConfig, seed: int) -> Array:
    """The series (T,) without noise."""
    count = math.ceil(config.length / config.beat / 0.5) + 3  # enough even if all beats were half as long
    draws = derive_generator(seed, "beats")
    lengths = config.beat * (1 + config.variability * torch.randn(count, generator=draws).double()).clamp(0.5, 1.5)
    heights = 1 + 0.1 * torch.randn(count, len(_WAVES), generator=draws).double()
    peaks = lengths.cumsum(0) - 2 * config.beat * torch.rand((), generator=draws, dtype=torch.float64)
    rows = np.arange(config.length, dtype=np.float64)
    found = np.zeros(config.length)
    for peak, length, height in zip(peaks.tolist(), lengths.tolist(), heights.tolist(), strict=True):
        first, last = np.searchsorted(rows, [peak - length, peak + length])
        phase = (rows[first:last] - peak) / length
        for (place, width, size), own in zip(_WAVES, height, strict=True):
            found[first:last] += own * size * np.exp(-(((phase - place) / width) ** 2) / 2)
    return found


def noisy_series(values: Array, names: tuple[str, ...], what: str, noise_std: float, seed: int, fix: str) -> Series:
    """A series (T, C) without gaps, with Gaussian noise on every number."""
    noise = noise_std * seeded_normal(values.shape, seed, "noise").numpy() if noise_std else 0.0
    whole = np.ones(len(values), dtype=bool)
    return Series(values + noise, tuple(names), what, whole, whole[1:], fix)
