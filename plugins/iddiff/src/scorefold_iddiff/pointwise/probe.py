"""A score looked at around points of a data set: what every estimator of this plugin shares.

It takes the points as the score wants them, finds the time of a noise level, and asks for the expected noise there in
calls of bounded size.

The expected noise at clean points and its derivatives there.

At a point x the score is read at signal x, without noise. With e = -scale score the expected noise, the Jacobian of the
denoiser is P = I - scale grad e = I + scale^2 grad score: near the data the projector on the tangent space. VE and VP
agree in it at equal noise-to-signal ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, index_condition, map_condition
from scorefold.diffusion.divergence import divergence
from scorefold.diffusion.process import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.stage import reported
from scorefold_iddiff.pointwise.plateaus import search_levels
from scorefold_iddiff.pointwise.spectra import Expectation
from scorefold_toolkit.nn import named_specs
from scorefold_toolkit.numerics import pushforward

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
                hint="choose sigma in that range, or use a score with a wider process",
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
            hint=f"use a process with a least noise of about {0.01 * spread:.1g}; sigma_min of ve or edm sets it",
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
            hint="use data in the score's units, or dtype: float32; a trained score may need a lower learning rate",
        )


Field = Callable[[Tensor], Tensor]

_NO_FORWARD_MODE = ("forward AD", "forward-mode", "forward mode", "jvp", "vmap")


def noise_field(probe: ScoreProbe, points: ProbedPoints, sigma: float, which: Tensor) -> tuple[Field, Tensor, Tensor]:
    """(e, signal x, scale) at one noise level, with e: (R, *E) -> (R, *E) for the rows ``which`` (R,) of the points."""
    time, signal, scale = probe.coefficients(points.x, sigma)
    condition = index_condition(points.condition, which)

    def field(y: Tensor) -> Tensor:
        return probe.score.noise(y, time.expand(len(y)), condition)

    return field, signal * points.x[which.to(points.x.device)], scale


def noise_and_trace(
    probe: ScoreProbe,
    points: ProbedPoints,
    sigma: float,
    *,
    vectors: Tensor | None,
    rows: int,
    mode: Literal["forward", "reverse"],
) -> tuple[Tensor, Tensor]:
    """|e|^2 and tr P at each point, (N,) each, with about ``rows`` derivatives held at once.

    ``vectors`` (N, n, D) make it a Hutchinson trace, the mean of v^T P v; without them it is exact, by D derivatives.
    Raises ``DataError`` where the score isn't finite, and ``ConfigError`` where the network can't be differentiated.
    """
    width = points.ambient if vectors is None else vectors.shape[1]
    squares, traces = [], []
    each = max(1, rows // width)
    for which in reported(torch.arange(len(points)).split(each), len(points), "points", each):
        field, clean, scale = noise_field(probe, points, sigma, which)
        given, size = None, torch.full((len(which),), float(points.ambient), dtype=clean.dtype, device=clean.device)
        if vectors is not None:
            chosen = vectors[which.to(vectors.device)].transpose(0, 1)
            given = chosen.unflatten(2, clean.shape[1:])
            # v^T P v is |v|^2 - scale v^T grad e v, and |v|^2 is not replaced with D. So the variance over Gaussian
            # vectors comes from the k tangent directions, and not from the D - k normal directions.
            size = chosen.square().sum(2).mean(0)
        with differentiable(mode):
            noise, trace = divergence(
                field,
                clean,
                trace="exact" if given is None else "hutchinson",
                noise=given,
                mode=mode,
                chunk=None if width <= rows else rows,
            )
        squares.append(noise.flatten(1).square().sum(1))
        traces.append(size - scale * trace)
    square, total = torch.cat(squares), torch.cat(traces)
    check_finite(sigma, square, total)
    return square, total


def squared_noise(probe: ScoreProbe, points: ProbedPoints, sigma: float, rows: int) -> Tensor:
    """|e|^2 at each point, (N,) in float64 on the CPU, ``rows`` points a call: 0 where the data are flat and the score
    is exact. Raises ``DataError`` where the score isn't finite."""
    found = []
    for which in reported(torch.arange(len(points)).split(rows), len(points), "points", rows):
        field, clean, _ = noise_field(probe, points, sigma, which)
        found.append(field(clean).double().flatten(1).square().sum(1))
    squares = torch.cat(found).cpu()
    check_finite(sigma, squares)
    return squares


def projected(
    field: Field, clean: Tensor, scale: Tensor, v: Tensor, *, product: Literal["forward", "differences"]
) -> Tensor:
    """P v at clean points (R, *E) for vectors (R, D): (R, D), by a forward-mode derivative or by central differences.

    Differences step by the noise itself, over which e is smooth: (e(x + scale v/|v|) - e(x - scale v/|v|)) |v| / 2 is
    scale grad e v up to the curvature of e over one deviation of the noise.
    """
    direction = v.reshape(clean.shape)
    if product == "forward":
        with differentiable("forward"):
            _, change = pushforward(field, clean, direction)
        return v - scale * change.flatten(1)
    size = v.norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    step = scale * direction / size.reshape(-1, *[1] * (direction.dim() - 1))
    ahead, behind = field(torch.cat([clean + step, clean - step])).chunk(2)
    image: Tensor = v - (ahead - behind).flatten(1) * size[:, None] / 2
    return image


@contextmanager
def differentiable(mode: str) -> Iterator[None]:
    """Replace torch's error for operations without forward-mode derivatives with a ``ConfigError`` and its fix."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        if mode != "forward" or not any(words in text for words in _NO_FORWARD_MODE):
            raise
        raise ConfigError(
            f"the score's network can't be differentiated in forward mode: {text}",
            hint="set derivatives: reverse (estimator:flipd) or product: differences (estimator:spectral-lanczos)",
        ) from error
