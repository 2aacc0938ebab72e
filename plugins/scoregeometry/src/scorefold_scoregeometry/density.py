"""The log-density of data under some noise, read off a score model; or off a flow, without noise."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor, nn

from scorefold.batching import in_calls
from scorefold.data import DataSpec, TensorSpec
from scorefold.diffusion.process import Isotropic
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold_scoregeometry.config import DensityConfig
from scorefold_toolkit.geodesics import Field, OfDensity
from scorefold_toolkit.geodesics.geometry import version
from scorefold_toolkit.numerics import pullback, pushforward

NOISE = 0.2
HELD_OUT = 256
NAT = 1.0
_CLIMBS = 60
_LEVEL = 1e-6
_FIRST = 0.1
_LONGEST_CLIMB = 100.0
_PANELS = 8
_ROUNDS = 40
_MOST = 1024
_NEAR = 1e-6
_REMEMBERED = 2**16
_NEAR_END = 1e-3
_INSIDE = (-math.sqrt(2 / 3), -1 / math.sqrt(5), 0.0, 1 / math.sqrt(5), math.sqrt(2 / 3))
_LOBATTO = torch.tensor([1.0, 0, 5, 0, 5, 0, 1], dtype=torch.float64) / 6
_KRONROD = torch.tensor([77.0, 432, 625, 672, 625, 432, 77], dtype=torch.float64) / 1470
"""Points inside [-1, 1], and weights of both ends and of these in Lobatto's rule of four points and Kronrod's extension
of it to seven (Gander and Gautschi 2000). The ends are among them, so that a score that flips beside the end of a panel
is seen, and panels share them."""


M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


def cached_until_changed(found: Callable[[M], R]) -> Callable[[M], R]:
    """A function of a module whose answer is kept until the module's parameters or buffers change."""
    name = f"_kept_{found.__name__}"

    @wraps(found)
    def read(module: M) -> R:
        now, last = version(module), module.__dict__.get(name)
        if last is None or last[0] != now:
            last = module.__dict__[name] = (now, found(module))
        answer: R = last[1]
        return answer

    return read


class Density(nn.Module):
    """log p of smoothed data and its gradient s, as functions of rows (R, D) in float64.

    A score model knows the density p_t of x_t = signal x_0 + scale z. In units of the data it is the density of data
    with noise of deviation sig = scale / signal: s(x) = signal score(signal x, t). ``sigma`` is sig, ``spread`` the
    deviation s0 of a coordinate, and ``time`` t; they are found at the first use. A flow has the density of the data
    themselves, and sigma 0.

    With ``lift: noise`` both are read at x + ``shift``, one draw of this noise.

    The model is called in its own dtype, in calls of ``call_rows``. Raises ``ConfigError`` for both or neither of score
    and flow, for a process without one noise level a time, and for a condition that is missing or can't be one.
    """

    def __init__(self, config: DensityConfig, score: ScoreModel | None, flow: Flow | None, data: object) -> None:
        super().__init__()
        if (score is None) == (flow is None):
            raise ConfigError(
                f"this geometry got {'neither a score nor a flow' if score is None else 'both a score and a flow'}",
                hint="plug one model into inputs: score, or flow",
            )
        self.model: ScoreModel | Flow = score if score is not None else flow  # type: ignore[assignment]
        self.event_shape = tuple(self.model.event_shape)
        self.spread = float(self.model.event_scale.std)
        shape = tuple(data.event_shape) if isinstance(data, DataSource | DataSpec) else self.event_shape
        if shape != self.event_shape:
            raise ConfigError(
                f"the data have events {shape}; the model's are {self.event_shape}",
                hint="plug the data that the model was trained on into inputs: data",
            )
        self.condition = _condition(config, self.model)
        self.noise, self.lift = config.noise or NOISE, config.lift
        if flow is not None and (config.noise is not None or config.lift != "none"):
            given = "lift is noise" if config.noise is None else f"noise is {config.noise:g}"
            raise ConfigError(
                f"{given}, and a flow has the density of the data without noise",
                hint=f"leave {given.split()[0]} out, or plug in a score",
            )
        if score is not None and not isinstance(score.process, Isotropic):
            raise ConfigError(
                f"{type(score).__name__} has no single noise level a time but one for each band or coordinate, so "
                "noise says nothing",
                hint="take a score with one level for all coordinates, such as score:denoising",
            )
        self.source = data
        self.field: Field = _CalledInParts(self)

    @property
    def time(self) -> float:
        """t of a score."""
        return self._level[0]

    @property
    def signal(self) -> float:
        """The factor of the data at t."""
        return self._level[1]

    @property
    def sigma(self) -> float:
        """sig = scale / signal at t, in units of the data; 0 for a flow."""
        return self._level[2]

    @property
    @cached_until_changed
    def shift(self) -> Tensor:
        """The noise that is added to all points, (D,); zeros where nothing is lifted."""
        draw = torch.randn(self.dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return (self.sigma if self.lift == "noise" else 0.0) * draw

    @property
    @cached_until_changed
    def anchor(self) -> Tensor:
        """The held-out point nearest to their mean, (D,)."""
        assert isinstance(self.source, DataSource)
        points = held_out(self.source)
        return points[int((points - points.mean(0)).square().sum(1).argmin())]

    @property
    @cached_until_changed
    def levels(self) -> Tensor:
        """log p at held-out points, (N,)."""
        assert isinstance(self.source, DataSource)
        return self.log_prob(held_out(self.source))

    @property
    def floor(self) -> float:
        """log p below which a point is outside the support: a nat below the 1 % quantile of held-out points."""
        return float(torch.quantile(self.levels, 0.01)) - NAT

    @property
    def dimension(self) -> int:
        """D."""
        return math.prod(self.event_shape)

    @property
    def exact(self) -> bool:
        """True if log p is known, and not only its gradient."""
        return isinstance(self.model, Flow) or hasattr(self.model, "noised_log_prob")

    def score(self, x: Tensor) -> Tensor:
        """s at rows (R, D), (R, D)."""
        with torch.no_grad():
            return self.field.score(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p at rows (R, D), (R,).

        Where the model has no density, log p is relative to log p at ``anchor``. It is then the line integral of the
        score from ``anchor``, by panels that are halved where two rules differ. It is found once for each of
        the last points. Raises ``DataError`` where the rules still differ after halving.
        """
        if self.exact:
            return self.known_log_prob(x)
        known, keys = self._integrals, [hashlib.blake2b(row.numpy().tobytes()).digest() for row in x.detach().cpu()]
        if len(known) > _REMEMBERED:
            known.clear()
        new = [place for place, key in enumerate(keys) if key not in known]
        if new:
            known.update(zip([keys[place] for place in new], self._integral(x[new]).tolist(), strict=True))
        return x.new_tensor([known[key] for key in keys])

    @property
    @cached_until_changed
    def _integrals(self) -> dict[bytes, float]:
        """Line integrals by the hash of their point."""
        return {}

    def _integral(self, x: Tensor) -> Tensor:
        """The line integral of the score from ``anchor`` to rows (R, D), (R,)."""
        anchor = self.anchor
        span, found = x - anchor, x.new_zeros(len(x))

        def rises(rows: Tensor, share: Tensor) -> Tensor:
            along = span[rows]
            return (self.score(anchor + share[:, None] * along) * along).sum(1)

        row = torch.arange(len(x)).repeat_interleave(_PANELS)
        start = torch.arange(_PANELS).to(x).repeat(len(x)) / _PANELS
        left = rises(row, start)
        last = rises(torch.arange(len(x)), torch.ones_like(found))
        right = torch.cat([left.unflatten(0, (-1, _PANELS))[:, 1:], last[:, None]], 1).flatten()
        width, allowed = 1 / _PANELS, found
        for turn in range(_ROUNDS):
            if len(row) == 0:
                return found
            inside = [rises(row, start + (1 + node) / 2 * width) for node in _INSIDE]
            values = width / 2 * torch.stack([left, *inside, right], 1)
            fine, coarse = values @ _KRONROD.to(x), values @ _LOBATTO.to(x)
            if turn == 0:
                rounding = torch.finfo(self.model._reference(x).dtype).eps
                allowed = _NEAR + 8 * rounding * found.index_add(0, row, values.abs() @ _KRONROD.to(x))
            good = (fine - coarse).abs() <= allowed[row]
            found.index_add_(0, row[good], fine[good])
            row, start, left, middle, right = (each[~good] for each in (row, start, left, inside[2], right))
            width /= 2
            if len(row) > _MOST * len(x):
                break
            row, start = row.repeat(2), torch.cat([start, start + width])
            left, right = torch.cat([left, middle]), torch.cat([middle, right])
        raise DataError(
            f"log p was not found at {len(row.unique())} of {len(x)} points: the line integral of the score from a "
            "held-out point does not converge, so the score is not finite or too rough on the way",
            hint="set a higher noise, or plug in a model with a density, such as a flow",
        )

    def known_log_prob(self, x: Tensor) -> Tensor:
        """log p at rows (R,), by the model."""
        return self.parts(self._log_prob, x)

    def denoised(self, x: Tensor) -> Tensor:
        """E[x_0 | x] = x + sig^2 s at rows (R, D), of lifted rows where they are lifted."""
        return x + self.shift.to(x) + self.sigma**2 * self.score(x)

    def noised(self, x: Tensor) -> Tensor:
        """Rows (R, D) that are read with noise of deviation sig, always the same: for data, draws of the density."""
        draws = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        return x + self.sigma * draws.to(x.device) - self.shift.to(x)

    def conditions(self, rows: int, like: Tensor) -> Tensor | None:
        """The condition of so many rows, or None."""
        return _repeated(self.condition, rows, like)

    def check_ready(self) -> None:
        """Raises ``ConfigError`` for a model in training mode whose answers are drawn at random or change by calls."""
        for name, part in self.model.named_modules():
            if part.training and isinstance(part, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
                raise ConfigError(
                    f"{name}, a {type(part).__name__}, is in training mode, so two calls of the model differ",
                    hint="call model.eval() first",
                )

    @property
    @cached_until_changed
    def _level(self) -> tuple[float, float, float]:
        """t, signal and sig. A noise below what the score knows is replaced with the least that it knows, with a
        warning. Raises ``ConfigError`` for a noise above."""
        if isinstance(self.model, Flow):
            return 0.0, 1.0, 0.0
        process, like = self.model.process, self.model._reference()
        assert isinstance(process, Isotropic)
        ends = process.noise_to_signal(like.new_tensor([process.t_min, process.t_max]))
        low, high = (float(end) / self.spread for end in ends)
        if self.noise > high * (1 + _NEAR_END):
            raise ConfigError(
                f"noise is {self.noise:g}, times a coordinate's deviation in the data; {type(self.model).__name__} "
                f"knows noise from {low:.3g} to {high:.3g}",
                hint=f"set noise: {0.95 * high:.3g} or less",
            )
        t = process.time_at(like.new_tensor([self.noise * self.spread]).clamp(ends[0], ends[1]))
        signal = process.coefficients(like.new_zeros(1, *self.event_shape), t)[0]
        sigma = float(process.noise_to_signal(t))
        if self.noise < low * (1 - _NEAR_END):
            text = f"noise {self.noise:g} is below what the score knows; {sigma / self.spread:.3g} is taken"
            warnings.warn(text, stacklevel=2)
        return float(t), float(torch.as_tensor(signal).flatten()[0]), sigma

    def _native(self, x: Tensor) -> Tensor:
        like = self.model._reference(x)
        x = x if self.lift == "none" else x + self.shift.to(x)
        answer: Tensor = (self.signal * x).to(dtype=like.dtype, device=like.device).unflatten(1, self.event_shape)
        return answer

    def _score(self, x: Tensor) -> Tensor:
        """s of rows (R, D), which may be differentiated: one call."""
        if isinstance(self.model, Flow):
            answer: Tensor = torch.func.grad(lambda at: self._log_prob(at).sum())(x)
            return answer
        y = self._native(x)
        t = y.new_full((len(y),), self.time)
        found = self.model.score(y, t, _repeated(self.condition, len(y), y))
        return self.signal * found.flatten(1).to(x)

    def _log_prob(self, x: Tensor) -> Tensor:
        y = self._native(x)
        if isinstance(self.model, Flow):
            z, volume = self.model(y, _repeated(self.condition, len(y), y))
            density: Tensor = self.model.base.log_prob(z) + volume
            return density.to(x)
        t = y.new_full((len(y),), self.time)
        noised: Callable[[Tensor, Tensor], Tensor] = self.model.noised_log_prob  # type: ignore[assignment]
        return noised(y, t).to(x) + self.dimension * math.log(self.signal)

    def parts(self, function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
        """A function of rows, in calls of a bounded size."""
        if len(x) == 0:
            return function(x, *others)
        rows = self.model.call_rows()
        found: Tensor = in_calls(rows, lambda *given: function(*given[:-1]), x, *others, condition=None)
        return found


class _CalledInParts(Field):
    """The field of a ``Density``: every call of the model gets a bounded number of rows."""

    def __init__(self, density: Density) -> None:
        # In float32 a density of large size has noise above what a line search compares; its score has not.
        exact = density.exact and density.model._reference().dtype == torch.float64
        log_prob = density.known_log_prob if exact else None
        # Reverse mode serves scores that are gradients themselves, and is the faster on few rows.
        super().__init__(lambda x: density.parts(density._score, x), log_prob, "reverse")
        self._density = density

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.both``: one pass of a flow gives both."""
        density = self._density
        if not isinstance(density.model, Flow):
            return super().both(x)
        one = OfDensity(density._log_prob)

        def joined(at: Tensor) -> Tensor:
            score, height = one.both(at)
            return torch.cat([score, height[:, None]], 1)

        found = density.parts(joined, x)
        return found[:, :-1], found[:, -1]

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.push``."""
        inside = self._density._score
        both = self._density.parts(lambda *at: torch.stack(pushforward(inside, *at, mode=self.mode), 1), x, v)
        return both[:, 0], both[:, 1]

    def pull(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.pull``."""
        both = self._density.parts(lambda *at: torch.stack(pullback(self._density._score, *at), 1), x, w)
        return both[:, 0], both[:, 1]


@torch.no_grad()
def climbed(density: Density, x: Tensor, middle: Tensor, radius: float) -> Tensor:
    """Rows x (R, D) moved up the score to modes of the density, and no further than a radius from ``middle``, (R, D).

    Steps are Barzilai's and Borwein's (1988), from sig^2 s on, which leads to the denoised point, or from a hundredth
    of the data's variance where that is more. A step is taken where the line integral of the score along it rises, and
    is else made shorter. At most 60 steps are tried.
    """
    s = density.score(x)
    step = x.new_full((len(x), 1), max(density.sigma, _FIRST * density.spread) ** 2)
    for turn in range(_CLIMBS):
        if turn and bool((step[:, 0] * s.square().sum(1) <= _LEVEL).all()):
            break
        move = step * s
        there = x + move
        ahead = density.score(there)
        up = ((s + ahead) * move).sum(1) > 0  # False for NaN
        up &= (there - middle).norm(dim=1) <= radius
        bend = ((s - ahead) * move).sum(1, keepdim=True)
        longer = torch.where(bend > 0, move.square().sum(1, keepdim=True) / bend.clamp_min(1e-300), 2 * step)
        step = torch.where(up[:, None], longer.clamp_max(_LONGEST_CLIMB * density.spread**2), step / 4)
        x, s = torch.where(up[:, None], there, x), torch.where(up[:, None], ahead, s)
    return x


def held_out(data: DataSource, count: int = HELD_OUT) -> Tensor:
    """At most so many points that a model was not trained on, in float64, (N, D): of the test split, else of the
    validation split, else of the training split. Raises ``DataError`` where there are none."""
    for split in ("test", "validation", "train"):
        try:
            points = data.load(split).tensor(count)
        except SplitError:
            continue
        if len(points):
            return points.flatten(1).double()
    raise DataError("this geometry reads held-out points, and the data have none", hint="give data with a test split")


def training_rows(data: DataSource, count: int) -> Tensor:
    """At most so many training points, in float64, (N, D); held-out ones where there is no training split."""
    try:
        points = data.load("train").tensor(count).flatten(1).double()
    except SplitError:
        return held_out(data, count)
    return points if len(points) else held_out(data, count)


def _condition(config: DensityConfig, model: ScoreModel | Flow) -> Tensor | None:
    """The condition (1, *shape) of both ends. Raises ``ConfigError`` for a missing one, and one that does not fit."""
    spec, given = model.condition_spec, config.condition
    name = type(model).__name__
    if spec is None:
        if given is not None:
            raise ConfigError(f"condition is {given}, and {name} takes none", hint="leave condition out")
        return None
    if not isinstance(spec, TensorSpec) or len(spec.shape) > 1:
        raise ConfigError(
            f"{name} is guided by an observation, so its score is no gradient of a density: distances would depend on "
            "the way between the points",
            hint="plug in the unconditional prior, or a model whose condition is a class or a vector",
        )
    if given is None:
        kind = f"a class below {spec.classes}" if spec.classes else f"a vector of {math.prod(spec.shape)} numbers"
        raise ConfigError(
            f"{name} takes conditions, and this geometry got none: both ends have one, {kind}",
            hint=f"set condition: {0 if spec.classes else [0.0] * min(4, math.prod(spec.shape))}",
        )
    if spec.classes is not None:
        if not isinstance(given, int) or not 0 <= given < spec.classes:
            raise ConfigError(f"condition is {given}; expected a class from 0 to {spec.classes - 1}")
        return torch.full((1, *spec.shape), given, dtype=torch.long)
    values = [float(given)] if isinstance(given, int) else list(given)
    if len(values) != math.prod(spec.shape):
        raise ConfigError(f"condition has {len(values)} numbers; {name} takes {math.prod(spec.shape)}")
    return torch.tensor(values, dtype=torch.float64).reshape(1, *spec.shape)


def _repeated(condition: Tensor | None, rows: int, like: Tensor) -> Tensor | None:
    if condition is None:
        return None
    condition = condition.to(like) if condition.is_floating_point() else condition.to(like.device)
    return condition.expand(rows, *condition.shape[1:])
