"""``data:sbibm``: priors and simulators of Lueckmann et al. (AISTATS 2021), with parameters as events and simulations
as conditions."""

from __future__ import annotations

import bz2
import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold.random import draw_normal
from scorefold.seeds import derive_generator
from scorefold_conditional.config import SbibmConfig
from scorefold_toolkit.data.splits import hold_out, pick, plain_scale, source_seed


@dataclass(frozen=True)
class SbibmTask:
    """A simulator of ``observed`` numbers given ``parameters`` numbers, and its prior.

    ``prior(n, generator)`` draws parameters (n, P) and ``simulate(theta, generator)`` an observation (n, X) for each,
    in float64. ``bound`` is b of a prior that is uniform on [-b, b]^P, None for a normal prior.
    """

    parameters: int
    observed: int
    prior: Callable[[int, torch.Generator], Tensor]
    simulate: Callable[[Tensor, torch.Generator], Tensor]
    bound: float | None = None


def _uniform(bound: float, size: int, n: int, generator: torch.Generator) -> Tensor:
    return bound * (2 * torch.rand(n, size, generator=generator, dtype=torch.float64) - 1)


def _box(bound: float, size: int) -> Callable[[int, torch.Generator], Tensor]:
    return partial(_uniform, bound, size)


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return draw_normal((rows, columns), generator=generator, like=torch.empty(0, dtype=torch.float64))


def two_moons(theta: Tensor, generator: torch.Generator) -> Tensor:
    """(r cos a + 1/4 - |t1 + t2| / sqrt 2, r sin a + (t2 - t1) / sqrt 2) with a uniform on [-pi/2, pi/2] and
    r ~ N(0.1, 0.01^2)."""
    angle = math.pi * (torch.rand(len(theta), generator=generator, dtype=torch.float64) - 0.5)
    radius = 0.1 + 0.01 * _normal(len(theta), 1, generator)[:, 0]
    first, second = theta.T
    across = radius * angle.cos() + 0.25 - (first + second).abs() / math.sqrt(2)
    return torch.stack([across, radius * angle.sin() + (second - first) / math.sqrt(2)], 1)


def gaussian_mixture(theta: Tensor, generator: torch.Generator) -> Tensor:
    """theta + s z, with one s for both coordinates of a point: 1 or 0.1, with equal chance."""
    wide = torch.rand(len(theta), 1, generator=generator, dtype=torch.float64) < 0.5
    return theta + torch.where(wide, 1.0, 0.1) * _normal(len(theta), theta.shape[1], generator)


def gaussian_linear(theta: Tensor, generator: torch.Generator) -> Tensor:
    """theta + sqrt(0.1) z: 0.1 is the variance."""
    return theta + math.sqrt(0.1) * _normal(len(theta), theta.shape[1], generator)


def _linear_prior(n: int, generator: torch.Generator) -> Tensor:
    return math.sqrt(0.1) * _normal(n, 10, generator)


def slcp(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Four points of N((t1, t2), S), S of deviations t3^2 and t4^2 and correlation tanh t5, with 1e-6 on its
    diagonal: x1, y1, x2, y2, ..."""
    first, second, rho = theta[:, 2] ** 2, theta[:, 3] ** 2, theta[:, 4].tanh()
    across = rho * first * second
    covariance = torch.stack([first**2 + 1e-6, across, across, second**2 + 1e-6], 1).reshape(-1, 2, 2)
    z = _normal(len(theta), 8, generator).reshape(-1, 4, 2)
    points: Tensor = theta[:, None, :2] + z @ torch.linalg.cholesky(covariance).transpose(1, 2)
    return points.flatten(1)


_LAGS = 9


def stimulus() -> Tensor:
    """The 100 numbers that drive the neuron of ``bernoulli-glm``, (100,)."""
    drawn = np.random.RandomState(42).randn(100).astype(np.float32)
    return torch.from_numpy(drawn).double()


def _design() -> Tensor:
    """Ones, and the stimulus delayed by 0 to 8 steps with zeros before: (100, 10)."""
    drive = stimulus()
    columns = [torch.ones_like(drive)]
    columns += [torch.cat([drive.new_zeros(lag), drive[: len(drive) - lag]]) for lag in range(_LAGS)]
    return torch.stack(columns, 1)


def _filter_prior(n: int, generator: torch.Generator) -> Tensor:
    """N(0, P^-1), P = blockdiag(1/2, F^T F), F = D D + diag(sqrt(i / 9)), D the identity less its first
    subdiagonal: a smooth filter."""
    difference = torch.eye(_LAGS, dtype=torch.float64) - torch.diag(torch.ones(_LAGS - 1, dtype=torch.float64), -1)
    ramp = torch.diag((torch.arange(_LAGS, dtype=torch.float64) / _LAGS).sqrt())
    root = difference @ difference + ramp
    z = _normal(n, 1 + _LAGS, generator)
    # F theta = z has the covariance (F^T F)^-1.
    return torch.cat([math.sqrt(2) * z[:, :1], torch.linalg.solve(root, z[:, 1:].T).T], 1)


def bernoulli_glm(theta: Tensor, generator: torch.Generator) -> Tensor:
    """The number of spikes, and for lags 0 to 8 the sum of the stimulus at times with a spike so much later."""
    chance = (theta @ _design().T).sigmoid()
    spikes = (torch.rand(chance.shape, generator=generator, dtype=torch.float64) < chance).double()
    return summary_of(spikes)


def summary_of(spikes: Tensor) -> Tensor:
    """The observation of spikes (n, 100): their number and nine sums, (n, 10)."""
    return spikes @ _design()


_EPIDEMIC, _SPECIES = 1e6, (30.0, 1.0)


def _log_normal(middle: tuple[float, ...], spread: tuple[float, ...], n: int, generator: torch.Generator) -> Tensor:
    """Parameters (n, P) whose logarithms have these means and deviations."""
    moments = torch.tensor([middle, spread], dtype=torch.float64)
    return (moments[0] + moments[1] * _normal(n, len(middle), generator)).exp()


def _solved(rates: Callable[[Tensor, Tensor], Tensor], theta: Tensor, start: tuple[float, float], gap: float) -> Tensor:
    """Two states of an equation at ten times ``gap`` apart, as logs: (n, 10, 2).

    ``rates`` gives the derivatives of the logs. Runge and Kutta's fourth order takes equal steps. Their number is
    doubled for the rows whose logs change by more than 1e-4 with it. Raises ``DataError`` where that is not enough.
    """
    first = torch.tensor(start, dtype=torch.float64).log().expand(len(theta), 2)
    open_rows, steps = torch.arange(len(theta)), 16
    found = _stepped(rates, theta, first, gap, steps)
    while len(open_rows) and steps < _MOST_STEPS:
        steps *= 2
        finer = _stepped(rates, theta[open_rows], first[open_rows], gap, steps)
        settled = (finer - found[open_rows]).abs().flatten(1).amax(1) <= 1e-4
        found[open_rows] = finer
        open_rows = open_rows[~settled]
    if len(open_rows):
        raise DataError(
            f"{steps} steps of {gap / steps:.1g} days do not solve the equation of {len(open_rows)} of {len(theta)} "
            f"parameters, such as {theta[open_rows[0]].tolist()}",
            hint="take another seed, or fewer simulations",
        )
    return found


_MOST_STEPS = 2**14


def _stepped(rates: Callable[[Tensor, Tensor], Tensor], theta: Tensor, first: Tensor, gap: float, steps: int) -> Tensor:
    h, at, states = gap / steps, first, [first]
    for _ in range(9):
        for _ in range(steps):
            one = rates(theta, at)
            two = rates(theta, at + h / 2 * one)
            three = rates(theta, at + h / 2 * two)
            at = at + h / 6 * (one + 2 * two + 2 * three + rates(theta, at + h * three))
        states.append(at)
    # Beyond these ends the simulators see no difference.
    return torch.stack(states, 1).clamp(math.log(1e-10), math.log(1e6))


def _epidemic(theta: Tensor, logs: Tensor) -> Tensor:
    """Rates of log S and log I for (beta, gamma): -beta I / N and beta S / N - gamma."""
    healthy, ill = (logs - math.log(_EPIDEMIC)).exp().unbind(1)
    return torch.stack([-theta[:, 0] * ill, theta[:, 0] * healthy - theta[:, 1]], 1)


def _hunted(theta: Tensor, logs: Tensor) -> Tensor:
    """Rates of log X and log Y for (alpha, beta, gamma, delta): alpha - beta Y and delta X - gamma."""
    prey, hunters = logs.exp().unbind(1)
    return torch.stack([theta[:, 0] - theta[:, 1] * hunters, theta[:, 3] * prey - theta[:, 2]], 1)


def sir(theta: Tensor, generator: torch.Generator) -> Tensor:
    """The number of 1,000 people who are ill on days 0, 17, ..., 153. The epidemic begins with one of a million."""
    ill = _solved(_epidemic, theta, (_EPIDEMIC - 1, 1.0), 17.0)[..., 1]
    share = (ill.exp() / _EPIDEMIC).clamp(0, 1)
    return torch.binomial(torch.full_like(share, 1000.0), share, generator=generator)


def lotka_volterra(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Ten counts of prey, then ten of hunters, on days 0, 2.1, ..., 18.9, with log-normal noise of deviation 0.1."""
    logs = _solved(_hunted, theta, _SPECIES, 2.1).clamp(max=math.log(1e4)).transpose(1, 2).flatten(1)
    return (logs + 0.1 * _normal(len(theta), 20, generator)).exp()


TASKS = {
    "two-moons": SbibmTask(2, 2, _box(1.0, 2), two_moons, 1.0),
    "gaussian-mixture": SbibmTask(2, 2, _box(10.0, 2), gaussian_mixture, 10.0),
    "gaussian-linear": SbibmTask(10, 10, _linear_prior, gaussian_linear),
    "gaussian-linear-uniform": SbibmTask(10, 10, _box(1.0, 10), gaussian_linear, 1.0),
    "slcp": SbibmTask(5, 8, _box(3.0, 5), slcp, 3.0),
    "bernoulli-glm": SbibmTask(10, 10, _filter_prior, bernoulli_glm),
    "sir": SbibmTask(2, 10, partial(_log_normal, (math.log(0.4), math.log(0.125)), (0.5, 0.2)), sir),
    "lotka-volterra": SbibmTask(4, 20, partial(_log_normal, (-0.125, -3, -0.125, -3), (0.5,) * 4), lotka_volterra),
}


OBSERVATIONS = 10
DRAWS = 10_000
_FETCH = "pip download --no-deps sbibm==1.1.0"


def published(wheel: Path, task: str, parameters: int, observed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ten published observations of a task: (true parameters (10, P), observations (10, X), reference draws
    (10, 10000, P)), in float32.

    Raises ``DataError`` for a missing file, another file than the wheel, and tables of other sizes.
    """
    if not wheel.exists():
        raise DataError(f"there is no file {wheel}; expected the wheel of sbibm", hint=_FETCH)
    try:
        # A folder with the content serves as well as the zip.
        root = wheel if wheel.is_dir() else zipfile.Path(wheel)
        parts = [_observation(root, wheel, task, number) for number in range(1, OBSERVATIONS + 1)]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{wheel} can't be read as the wheel of sbibm: {error}", hint=_FETCH) from error
    expected = ((1, parameters), (1, observed), (DRAWS, parameters))
    for number, found in enumerate(parts, 1):
        shapes = tuple(tuple(part.shape) for part in found)
        if shapes != expected:
            raise DataError(
                f"observation {number} of {task} in {wheel} holds tables of shapes {shapes}; expected {expected}",
                hint=_FETCH,
            )
    theta, x, draws = zip(*parts, strict=True)
    return torch.cat(theta), torch.cat(x), torch.stack(draws)


def _observation(root: Path | zipfile.Path, wheel: Path, task: str, number: int) -> tuple[Tensor, Tensor, Tensor]:
    folder = root / "sbibm" / "tasks" / task.replace("-", "_") / "files" / f"num_observation_{number}"
    names = ("true_parameters.csv", "observation.csv", "reference_posterior_samples.csv.bz2")
    found = []
    for name in names:
        file = folder / name
        if not file.is_file():
            raise DataError(f"{wheel} has no {name} of observation {number} of {task}", hint=_FETCH)
        text = file.read_bytes()
        text = bz2.decompress(text) if name.endswith(".bz2") else text
        try:
            rows = np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, ndmin=2, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{name} of observation {number} of {task} in {wheel} is no table: {error}") from error
        found.append(torch.from_numpy(rows))
    return found[0], found[1], found[2]


FURTHER = 1000
"""Simulations of the test split where there is no wheel."""


class SbibmSource(DataSource):
    """Parameters (P,) of a task of sbibm, drawn from its prior, with a simulated observation (X,) as the condition
    (Lueckmann et al. 2021), or with n ``observations`` (n, X).

    ``train`` and ``validation`` share the simulations. ``test`` is the ten published observations with their true
    parameters, and the truth ``posterior`` (10, 10000, P) holds reference draws, which ``metric:c2st`` reads. Without
    a wheel it is further simulations. Raises ``DataError`` for a file other than the
    wheel of sbibm.

    >>> from scorefold_registry import Host
    >>> moons = Host.discover().create("data:sbibm", {"task": "two-moons", "simulations": 100})
    >>> moons.load("train")
    Dataset(90 of shape (2,), condition, index)
    """

    def __init__(self, config: SbibmConfig, *, generator: torch.Generator | None = None) -> None:
        task = TASKS[config.task]
        seed = source_seed(config.seed, generator)
        total = config.simulations + (FURTHER if config.wheel is None else 0)
        theta = task.prior(total, derive_generator(seed, "parameters"))
        x = task.simulate(theta.repeat_interleave(config.observations, 0), derive_generator(seed, "simulations"))
        observed = (task.observed,) if config.observations == 1 else (config.observations, task.observed)
        x = x.reshape(total, *observed)
        whole = Dataset(x=theta.float(), condition=x.float(), index=torch.arange(total))
        train, validation = hold_out(
            torch.randperm(config.simulations, generator=derive_generator(seed, "split")), config.validation
        )
        self._splits = {"train": whole.take(train), "validation": whole.take(validation)}
        if config.wheel is None:
            self._splits["test"] = whole.take(torch.arange(config.simulations, total))
        else:
            truth, seen, draws = published(config.wheel, config.task, task.parameters, task.observed)
            rows = torch.arange(total, total + len(truth))
            self._splits["test"] = Dataset(x=truth, condition=seen, index=rows, truth={"posterior": draws})
        self.event_shape = (task.parameters,)
        self.condition_spec = TensorSpec(observed)
        self.event_scale = plain_scale(self._splits["train"].x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)
