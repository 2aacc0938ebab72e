"""A score looked at around points of a data set: what every estimator of this plugin shares.

It takes the points as the score wants them, finds the time of a noise level, and asks for the expected noise there in
calls of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, index_condition, map_condition
from scorefold.diffusion.process import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Flow, ScoreModel
from scorefold_iddiff.pointwise.plateaus import search_levels
from scorefold_iddiff.pointwise.spectra import Expectation
from scorefold_toolkit.nn import named_specs

COORDINATES_AT_ONCE = 2**18
"""Coordinates of noised points held at once, unless a config says how many points."""


@dataclass(frozen=True)
class ProbedPoints:
    """The points under study as the score takes them, x (N, *E), with their condition and their place in the
    data."""

    x: Tensor
    condition: Condition | None
    index: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @property
    def ambient(self) -> int:
        """D, the number of coordinates of an event."""
        return self.x[0].numel()

    def part(self, start: int, end: int) -> ProbedPoints:
        """The points from ``start`` up to ``end``."""
        rows = slice(start, end)
        return ProbedPoints(self.x[rows], map_condition(self.condition, lambda c: c[rows]), self.index[rows])


class ScoreProbe:
    """A score with an isotropic process (VE, VP, sub-VP), so that one noise-to-signal ratio sigma has one time.

    At sigma the score is asked around signal x, with noise of size scale, which makes VP agree with VE.
    Raises ``ConfigError`` for a score with another process.
    """

    def __init__(self, score: ScoreModel) -> None:
        if not isinstance(score.process, Isotropic):
            raise ConfigError(
                f"the score's process is {type(score.process).__name__}, which has no single noise level at a time; "
                "the dimension is read at one noise-to-signal ratio",
                hint="use a score with an isotropic process (ve, vp, subvp)",
            )
        self.score = score
        self.process: DiffusionProcess = score.process
        self._levels: Isotropic = score.process

    def order(self, dataset: Dataset, limit: int, generator: torch.Generator) -> Tensor:
        """The places of up to ``limit`` points at random. Raises ``DataError`` for fewer than 2 points."""
        return order(dataset, limit, generator)

    def take(self, dataset: Dataset, index: Tensor) -> ProbedPoints:
        """The points at places (N,), in the score's dtype and on its device.

        Raises ``DataError`` for values that aren't finite, ``ShapeError`` for events of another shape than the score's
        and for classes that it has not.
        """
        return take(self.score, dataset, index)

    def points(self, dataset: Dataset, limit: int, generator: torch.Generator) -> ProbedPoints:
        """Up to ``limit`` points at random: those at the places of ``order``. Raises as ``order`` and ``take``."""
        return self.take(dataset, self.order(dataset, limit, generator))

    def range(self) -> tuple[float, float]:
        """The noise-to-signal ratios that the process reaches."""
        times = torch.tensor([self.process.t_min, self.process.t_max], dtype=torch.float64, device=self._levels_on())
        low, high = self._levels.noise_to_signal(times).tolist()
        return low, high

    def _levels_on(self) -> torch.device:
        """Device of the process's times: its buffers' own, or the CPU without any, where reading them is free."""
        return next(self.process.buffers(), torch.empty(())).device

    def sigma(self, x: Tensor, wanted: float | None) -> tuple[float, str | None]:
        """The noise level, and where it is not the default because the process does not reach that, why.

        The default is 0.01 times the root-mean-square distance of x (N, *E) from its mean. Raises ``ConfigError`` for
        a ``wanted`` level outside the range, and ``DataError`` where the data's own rounding would swallow the noise.
        """
        low, high = self.range()
        check_reach(x, low)
        moved = None
        if wanted is None:
            spread = spread_of(x)
            sigma = min(max(0.01 * spread, low), high)
            if not 0.9 * sigma <= 0.01 * spread <= 1.1 * sigma:  # a smaller move is not worth a word
                end = "least" if sigma == low else "most"
                moved = f"the {end} noise of the score's process, where 0.01 of the data's spread is {spread / 100:.3g}"
        # The end of a process is reached to rounding and to t_min: sigma = sigma_min is asked for and meant.
        elif not low * (1 - 1e-3) <= wanted <= high * (1 + 1e-3):
            raise ConfigError(
                f"sigma is {wanted:g}; the noise-to-signal ratio of the score's process goes "
                f"from {low:.3g} to {high:.3g}",
                hint="choose sigma in that range, or train the score with a wider process",
            )
        else:
            sigma = min(max(wanted, low), high)
        check_resolution(x, sigma)
        return sigma, moved

    def search_levels(self, x: Tensor, count: int, *, least: float = 0.0) -> list[float]:
        """``count`` noise levels of at least ``least`` from 0.001 to 1 times the spread of x (N, *E), where the process
        reaches and x is not too coarse for them."""
        low, high = self.range()
        spread = spread_of(x)
        check_reach(x, low)
        low = min(max(low, 1e-3 * spread, finest(x), least), high)
        return search_levels(low, max(low, min(high, spread)), count)

    def rows(self, batch: int | None, ambient: int) -> int:
        """Noised points in one call of the score: see ``rows_a_call``."""
        return rows_a_call(self.score, batch, ambient)

    def coefficients(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        """(time (1,), signal (), scale ()) at a noise-to-signal ratio, in the dtype and on the device of x."""
        time = self._levels.time_at(torch.tensor([sigma], dtype=x.dtype, device=self._levels_on())).to(x.device)
        signal, scale = (value.reshape(()) for value in self.process.coefficients(x[:1], time))
        return time, signal, scale

    def expected_noise(self, points: ProbedPoints, sigma: float, rows: int) -> Expectation:
        """eps-hat around points at one noise level, with at most ``rows`` noised points a call of the score.

        Whoever calls it has to look whether the score is finite (``check_finite``), which waits for a device.
        """
        time, signal, scale = self.coefficients(points.x, sigma)

        def expectation(which: Tensor, noise: Tensor) -> Tensor:
            x = points.x[which]
            noised = signal * x[:, None] + scale * noise.reshape(*noise.shape[:2], *x.shape[1:])
            owner = which.repeat_interleave(noise.shape[1]).to(x.device)
            answers = [
                self.score.noise(y, time.expand(len(y)), index_condition(points.condition, whose))
                for y, whose in zip(noised.flatten(0, 1).split(rows), owner.split(rows), strict=True)
            ]
            return torch.cat(answers).reshape(noise.shape)

        return expectation

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The score in evaluation mode, without dropout and without gradients, and back."""
        was_training = self.score.training
        self.score.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.score.train(was_training)


def order(dataset: Dataset, limit: int, generator: torch.Generator) -> Tensor:
    """The places of up to ``limit`` points at random. Raises ``DataError`` for fewer than 2 points."""
    if len(dataset) < 2:
        raise DataError(
            f"the split has {len(dataset)} point{'s' * (len(dataset) != 1)}; at least 2 are needed for an interval "
            "over points",
            hint="give more points, or a larger fraction of them to this split",
        )
    return torch.randperm(len(dataset), generator=generator, device=generator.device).cpu()[:limit]


def take(model: ScoreModel | Flow, dataset: Dataset, index: Tensor) -> ProbedPoints:
    """The points at places (N,), in the model's dtype and on its device.

    Raises ``DataError`` for values that aren't finite, ``ShapeError`` for events of another shape than the model's and
    for classes that it has not.
    """
    taken = dataset.take(index)
    tensors = (*model.parameters(), *model.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), taken.x)
    taken = taken.to(dtype=like.dtype)
    x = taken.x.to(like.device)
    model.check_events(x)
    refuse_not_finite(
        taken.x, index if taken.index is None else taken.index
    )  # where the data are: on the CPU no device is waited for
    condition = taken.condition if model.condition_spec is not None else None
    if condition is not None:
        _check_classes(model, condition)
    return ProbedPoints(x, map_condition(condition, lambda c: c.to(like.device)), index)


def refuse_not_finite(x: Tensor, index: Tensor) -> None:
    """Raises ``DataError`` where points x (N, *E), of the rows ``index`` (N,) of their data, aren't finite."""
    bad = ~x.flatten(1).isfinite()
    if bool(bad.any()):
        rows, count = index[bad.any(1).to(index.device)], int(bad.sum())
        raise DataError(
            f"{count} coordinate{'s' * (count > 1)} of the data {'are' if count > 1 else 'is'} not finite, the first "
            f"in row {int(rows.min())}",
            hint="remove such rows or fill them in: x[x.flatten(1).isfinite().all(1)]",
        )


def _check_classes(model: ScoreModel | Flow, condition: Condition) -> None:
    for name, spec in named_specs(model.condition_spec).items():
        given = condition.get(name) if isinstance(condition, Mapping) else condition
        if spec.classes is None or given is None or given.is_floating_point() or not given.numel():
            continue
        least, most = int(given.min()), int(given.max())
        if least < 0 or most >= spec.classes:
            raise ShapeError(
                f"the condition{' ' + name if name else ''} holds classes from {least} to {most}; this model knows 0 "
                f"to {spec.classes - 1}"
            )


def rows_at_once(batch: int | None, ambient: int) -> int:
    """Noised points held at once: ``batch``, or what bounds their coordinates."""
    return batch or max(1, COORDINATES_AT_ONCE // ambient)


def rows_a_call(model: ScoreModel | Flow, batch: int | None, ambient: int) -> int:
    """Noised points in one call of a model: ``batch``, or as many as are held and as its network is fast with."""
    return batch or min(rows_at_once(None, ambient), model.call_rows())


def spread_of(x: Tensor) -> float:
    """The root-mean-square distance of points (N, *E) from their mean."""
    flat = x.flatten(1).double()
    return float((flat - flat.mean(0)).square().sum(1).mean().sqrt())


def finest(x: Tensor) -> float:
    """The least sigma of noise that adding it to x does not mostly round away."""
    return 16 * torch.finfo(x.dtype).eps * float(x.abs().max())


def check_reach(x: Tensor, least: float) -> None:
    """Raises ``ConfigError`` where the least noise of a process is above the whole spread of points x (N, *E) that are
    not one and the same up to rounding: each reading would be 0."""
    spread = spread_of(x)
    if least > spread > finest(x):
        raise ConfigError(
            f"the least noise of the score's process is {least:.3g}, and the whole spread of the data {spread:.3g}: at "
            "such noise the data are one point, and their dimension reads 0",
            hint=f"set sigma_min of the process to about {0.01 * spread:.1g}",
        )


def check_resolution(x: Tensor, sigma: float) -> None:
    """Raises ``DataError`` where adding noise of size sigma to x would mostly round it away."""
    if sigma < finest(x):
        finer = "float32" if torch.finfo(x.dtype).bits < 32 else "float64"
        raise DataError(
            f"the data reach {float(x.abs().max()):.3g}, where {x.dtype} numbers are too coarse for noise of sigma "
            f"{sigma:.3g}",
            hint=f"centre the data (data:array has scale: columns), take a larger sigma, or use dtype: {finer}",
        )


def check_finite(sigma: float, *values: Tensor) -> None:
    """Raises ``DataError`` where what was read of a score isn't finite."""
    if not bool(torch.stack([value.isfinite().all() for value in values]).all()):
        raise DataError(
            f"the score at sigma {sigma:.3g} is not finite: its training diverged, the data lie far outside what it "
            "was trained on, or its numbers leave the range of its dtype",
            hint="train it again with a lower learning rate and on data with these units, or use dtype: float32",
        )
