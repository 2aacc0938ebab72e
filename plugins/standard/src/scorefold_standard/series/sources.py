"""Time series from files, and series that code makes: Lorenz's attractor, and beats as of an electrocardiogram."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scorefold.artefacts import digest_file, digest_folder
from scorefold.errors import ConfigError, DataError
from scorefold.seeds import derive_generator
from scorefold_standard.config import LorenzConfig, PulsesConfig, SeriesConfig
from scorefold_standard.data.config import ArrayConfig, TableConfig
from scorefold_standard.data.scaling import refuse_merged, scale_of_points, statistics_of
from scorefold_standard.data.stored import digest_files
from scorefold_standard.data.table_checks import kept_rows, shaped_points
from scorefold_standard.data.table_columns import NumberTable
from scorefold_standard.data.table_files import read_table
from scorefold_standard.data.table_summary import column_names
from scorefold_standard.series.cutting import CutSeries, Series, even_steps
from scorefold_toolkit.data.manifolds import seeded_normal
from scorefold_toolkit.data.splits import source_seed

_OF_ARRAYS = re.compile(r"(leave it out with columns: .*); names: (.+) names the rows by it, .*")
"""The hint about a column of text, with settings that data:array alone has."""


class SeriesFile(CutSeries):
    """A series from a file of numbers, one row a time step; see ``CutSeries`` for events and splits.

    Files are read as by ``data:array``; a npy file may also be (T,). ``rows`` are the rows of the file, named by the
    column of times. Raises ``DataError`` for times that do not rise in even steps, and as ``data:array`` does.

    >>> import tempfile
    >>> from scorefold_registry import Host
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/wave.npy", np.sin(np.arange(200.0)))
    ...     wave = Host.discover().create("data:series", {"path": f"{folder}/wave.npy", "window": 16})
    >>> wave.load("train"), wave.load("test").index.tolist()
    (Dataset(145 of shape (1, 16), index), [180, 181, 182, 183, 184])
    """

    def __init__(self, config: SeriesConfig) -> None:
        self._path = config.path.expanduser()
        shared = {name: getattr(config, name) for name in TableConfig.model_fields}
        reading = ArrayConfig(**shared, names=config.time)
        try:
            table = read_table(self._path, reading)
        except DataError as error:
            fix = r"\1" if config.time else r"time: \2, where it holds the times of the rows; else \1"
            error.hint = _OF_ARRAYS.sub(fix, error.hint or "") or None
            raise
        self._files, self._read_warnings = table.files, table.warnings
        shape = table.points.shape
        if len(shape) not in (1, 2):
            raise DataError(
                f"{self._path} holds an array of shape {shape}; expected a series (T,) or (T, C), one row a time step",
                hint="data:array reads events that are cut already, with event_shape: [C, L]"
                if shape
                else "save one number a time step",
            )
        values = np.asarray(table.points[:])
        points = np.asarray(shaped_points(values[:, None] if values.ndim == 1 else values, reading, self._path))
        kept = kept_rows(points, table, reading, self._path).rows
        whole = np.zeros(len(points), dtype=bool)
        whole[kept] = True
        if not len(kept):
            raise DataError(
                f"every row of {self._path} has a missing value", hint="leave out the columns that are empty"
            )
        joined = _joined(table, config, self._path)
        names = column_names(table.names, points.shape[1])
        scale = scale_of_points(statistics_of([points[kept]]), config.scale, vectors=True)
        refuse_merged(points, kept, scale, names, self._path)
        self.rows = table.rows
        exact = np.where(whole[:, None], points.astype(np.float64), np.nan)
        rounding = max(Series.rounding, 2 * float(np.finfo(points.dtype).eps)) if points.dtype.kind == "f" else 1e-9
        super().__init__(config, Series(exact, names, str(self._path), whole, joined, rounding=rounding))

    def data_warnings(self) -> tuple[str, ...]:
        return (*self._read_warnings, *super().data_warnings())

    def fingerprint(self) -> str:
        if not self._files:
            return digest_folder(self._path)
        return digest_file(self._files[0]) if len(self._files) == 1 else digest_files(self._files)


def _joined(table: NumberTable, config: SeriesConfig, path: Path) -> npt.NDArray[np.bool_]:
    """The mask (T - 1,) of rows that the next time step follows. Raises ``DataError`` for times that are none, do not
    rise, or rise in uneven steps where gaps are refused."""
    if config.time is None:
        return np.ones(max(0, len(table.points) - 1), dtype=bool)
    steps = np.diff(_times(table, config.time, path))
    back = np.flatnonzero(~(steps > 0))
    if len(back):
        first, second = table.rows[back[0]], table.rows[back[0] + 1]
        raise DataError(
            f"the times of {path} do not rise: row {back[0]} is at {first}, row {back[0] + 1} at {second}",
            hint=f"sort the rows by {config.time}, and keep one row of each time",
        )
    even = even_steps(steps)
    uneven = np.flatnonzero(~even)
    if len(uneven) and config.missing == "refuse":
        row = int(uneven[0])
        raise DataError(
            f"the times of {path} rise in uneven steps: {len(uneven)} of {len(steps)} differ from the usual one, the "
            f"first from row {row} at {table.rows[row]} to row {row + 1} at {table.rows[row + 1]}",
            hint="resample the series to even steps; or, if rows are missing, missing: drop leaves out the events that "
            "would bridge a gap",
        )
    return even


def _times(table: NumberTable, name: str, path: Path) -> npt.NDArray[np.float64]:
    """The times (T,) as numbers: the numbers of the column, or the seconds of its dates."""
    import pandas as pd

    column = pd.Series(table.others[name])
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.isna().any():
        return numbers.to_numpy(dtype=np.float64)
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    as_numbers = numbers.notna().sum() >= dates.notna().sum()  # what most times are
    missing = np.flatnonzero((numbers if as_numbers else dates).isna())
    if len(missing):
        raise DataError(
            f"row {missing[0]} of {path} has {column[missing[0]]!r} as its time; expected numbers or dates in column "
            f"{name!r}",
            hint="write times as numbers or as 2026-11-30 12:00:00, or leave time out for rows of even steps",
        )
    return np.asarray((dates - dates.iloc[0]).dt.total_seconds(), dtype=np.float64)


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
