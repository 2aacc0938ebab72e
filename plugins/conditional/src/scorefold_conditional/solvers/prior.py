"""Requirements of the baselines on their prior and operator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Condition, ConditionSpec, EventScale, TensorSpec
from scorefold.diffusion.process import Isotropic
from scorefold.errors import ConfigError, DataError, ScorefoldError, ShapeError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_conditional.inverse import check_masks, check_observation, largest_singular, solve_semidefinite
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.config.operators import OperatorConfig
from scorefold_toolkit.nn.conditions import check_condition_finite
from scorefold_toolkit.operators import (
    HasOperator,
    LinearOperator,
    Mask,
    Matrix,
    Operator,
    RandomMask,
    as_linear,
    build_operator,
)
from scorefold_toolkit.operators.base import least_squares


def check_prior(prior: ScoreModel, name: str) -> None:
    """Raises ``ConfigError`` for a prior that can't be called without a condition, and for one that should have been
    trained and wasn't. One that can, such as ``score:scorevae`` without a code, serves as it is then."""
    check_trained(prior, "prior", name)
    if prior.condition_spec is None:
        return
    x = prior._reference().new_zeros((1, *prior.event_shape))
    try:
        with torch.no_grad():
            prior.score(x, x.new_full((1,), prior.process.t_max))
    except ScorefoldError as error:
        raise ConfigError(
            f"the prior of {name}, a {type(prior).__name__}, takes a condition; expected an unconditional score, or "
            f"one that can be called without: {error.message}",
            hint="train it with unconditional: true, or on data without a condition; guidance brings the observation",
        ) from error


class InverseSolver(ScoreModel):
    """A score of an unconditional prior that is asked for events given observations of them."""

    noise_std: float = 0.0

    def __init__(self, prior: ScoreModel, observations: Observations) -> None:
        super().__init__(prior.process, prior.event_shape, observations.spec, prior.event_scale)
        self.prior, self.observations = prior, observations
        self.remarks = observations.remarks

    def sample(self, n: int, condition: Any = None, **options: Any) -> Tensor:
        """As ``ScoreModel.sample``; y may be an array of numpy too."""
        return super().sample(n, self.as_tensors(condition), **options)

    def as_tensors(self, condition: Any) -> Any:
        """A condition with its arrays of numpy as tensors in the dtype and on the device of the model."""
        if isinstance(condition, Mapping):
            return {name: self.as_tensors(value) for name, value in condition.items()}
        if isinstance(condition, Tensor) or not hasattr(condition, "__array__"):
            return condition
        given = np.asarray(condition)
        if given.dtype.kind not in "biuf":
            raise DataError(
                f"the condition is an array of {given.dtype}; expected real numbers",
                hint="convert it with astype(float)",
            )
        return torch.from_numpy(np.array(given, dtype="float64", order="C")).to(self._reference())

    def bind(self, condition: Condition | None = None, **options: Any) -> BoundScore:
        """As ``ScoreModel.bind``; raises ``DataError`` for an observation that is not finite."""
        check_condition_finite(condition)
        return super().bind(condition, **options)

    @torch.no_grad()
    def outside(self, condition: Condition) -> Tensor:
        """Observations that are unlike observations of the prior's events, (C,).

        They lie farther from A m than five times their expected distance under the prior, at most, and ``_unexplained``
        says that no rare event of the prior gives them. m is the prior's denoised estimate at t_max. With events of
        deviation std in each of D numbers and M observed numbers, |y - A m|^2 is at most |A|^2 D std^2 + M noise_std^2
        in the mean. Each of few numbers is compared too, with its row of A in place of A, and M = 1: their units may
        differ.
        """
        operator, y = self.observations.read(self.as_tensors(condition))
        scale, example = self.event_scale, self.observations.example()
        if scale == EventScale() or not len(y):
            return torch.zeros(len(y), dtype=torch.bool)
        x = self._reference().new_zeros((1, *self.event_shape))
        t = x.new_full((1,), self.process.t_max)
        middle = self.prior.denoise(self.process.perturb(x + scale.middle(x), t, x), t)
        gap = (y - operator(middle.expand(len(y), *self.event_shape))).flatten(1).cpu().double()
        spread, count = scale.spread(self.event_shape), gap.shape[1]
        noise = max(self.noise_std, self.observations.noise_std)
        limit = math.hypot(largest_singular(example) * spread, noise * math.sqrt(count))
        found: Tensor = gap.norm(dim=1, keepdim=True) > _FAR * limit  # all numbers together
        if self.observations.varies:
            return found[:, 0]
        if count <= _FEW:
            one_hot = torch.eye(count, dtype=torch.float64, device="cpu").reshape(count, *example.out_shape)
            sizes = example.adjoint(one_hot).flatten(1).norm(dim=1)
            limits = (spread * sizes).hypot(torch.full_like(sizes, noise))
            alone = (gap.abs() > _FAR * limits) & (sizes > 0)  # a hidden number has size 0
            found = torch.cat([found, alone], 1)
        rows = found.any(1).nonzero()[:_TRIED, 0]
        small = max(count, math.prod(self.event_shape)) <= _FEW  # many tries of images would take minutes
        if len(rows) and small and isinstance(self.process, Isotropic):
            found[rows] &= self._unexplained(operator, y[rows.to(y.device)], middle, noise)[:, : found.shape[1]]
        far: Tensor = found.any(1)
        return far

    def _unexplained(self, operator: LinearOperator, y: Tensor, middle: Tensor, noise: float) -> Tensor:
        """True for all numbers together and for each alone, (C, 1 + M), where no event of the prior gives y (C, M).

        Noise falls from t_max in steps to a quarter of the distance of m from the nearest x that gives y, and the
        denoised estimate x there takes the place of m. A mode of weight w is this estimate if w is well above exp(-8).
        Then noise falls to a quarter of the distance of a number from y. The mode explains y if both levels halve
        |y - A x|, which for a normal mode is 4 deviations. The best of a few tries counts.
        """
        process, std, count = self.process, self.event_scale.std, math.prod(y.shape[1:])
        assert isinstance(process, Isotropic)
        cautious = max((noise / std) ** 2, 1e-12 * largest_singular(self.observations.example()) ** 2)

        def towards(wanted: Tensor) -> Tensor:
            """The shift of events of deviation std by which A moves as ``wanted`` (B, *out_shape)."""

            def observed(v: Tensor) -> Tensor:
                return operator(operator.adjoint(v)) + cautious * v

            return operator.adjoint(solve_semidefinite(observed, wanted.double(), count)).to(middle)

        def denoised(x: Tensor, level: Tensor) -> Tensor:
            """The denoised estimate at an event that gives y, with noise of a ``level`` (B,) where y leaves it open."""
            t = process.time_at(level.clamp(*ends)).clamp(process.t_min, process.t_max)
            hidden = torch.randn(x.shape, generator=generator, device="cpu").to(x)
            moved = x + towards(y - operator(x))
            return self.prior.denoise(process.perturb(moved, t, hidden - towards(operator(hidden))), t)

        def gaps(x: Tensor) -> Tensor:
            gap = (y - operator(x)).flatten(1).cpu().double()
            return torch.cat([gap.norm(dim=1, keepdim=True), gap.abs()], 1)

        generator = torch.Generator("cpu").manual_seed(0)
        ends = process.noise_to_signal(middle.new_tensor([process.t_min, process.t_max]))
        y = y.repeat(_TRIES, *[1] * (y.dim() - 1))
        start = middle.expand(len(y), *self.event_shape)
        last = towards(y - operator(start)).flatten(1).norm(dim=1) / 4
        rare = start
        for share in torch.linspace(0, 1, _LEVELS).tolist():
            rare = denoised(rare, ends[1] ** (1 - share) * last**share)
        near = denoised(rare, towards(y - operator(rare)).flatten(1).norm(dim=1) / (4 * math.sqrt(count)))
        sizes = torch.tensor([math.sqrt(count)] + [1.0] * count, dtype=torch.float64, device="cpu")
        # A prior that is NaN explains nothing.
        near_enough = (gaps(rare) <= 0.5 * gaps(start)) & (
            gaps(near) <= (0.5 * gaps(rare)).maximum(_FAR * noise * sizes)
        )
        near_enough &= (last <= ends[1]).cpu()[:, None]  # within the noise of the prior
        near_enough &= near_enough[:, :1]  # a number alone is of an event that gives all of them
        explained: Tensor = near_enough.unflatten(0, (_TRIES, -1)).any(0)
        return ~explained


class _OfScaled(LinearOperator):
    """A (factors x), for a linear operator A and a factor of each number of an event.

    Its pseudo-inverse is by least squares: A^+ y / factors solves A (factors x) = y, and is not the shortest such x.
    """

    def __init__(self, operator: LinearOperator, factors: Tensor) -> None:
        super().__init__(operator.in_shape, operator.out_shape)
        self.operator, self.factors = operator, factors

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator(self.factors.to(x) * x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.factors.to(y) * self.operator.adjoint(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return least_squares(self, y)


class Observations:
    """Observations of events of a prior: an operator, and the form of its observations as a condition.

    The operator comes from ``config``, or from the data where ``config`` is None. One operator for all events takes
    y (B, *out_shape). A mask of each event (``each: true``) takes y as ``image`` with the masks as ``mask``, as
    ``data:paired`` gives them with ``mask: true``. ``noise`` describes the noise of the data, "" without.

    With the prior's data scaled, x_file = factor x + shift, an observation in the ``units`` of the ``file`` is
    A x_file + noise, and A shift is taken off. Raises ``ConfigError`` without an operator, for an operator that is not
    linear, for events that it can't serve, for data in another range than the prior's, and for scaled data where
    neither ``units`` nor data say the units of y.
    """

    def __init__(
        self,
        config: OperatorConfig | None,
        prior: ScoreModel,
        name: str,
        data: DataSource | None = None,
        units: Literal["file", "model"] | None = None,
    ) -> None:
        built = data.operator if config is None and isinstance(data, HasOperator) else None
        if config is None and not isinstance(built, Operator):
            raise ConfigError(
                f"{name} has no operator, and no data with one are plugged in",
                hint="set operator in its config, such as {name: mask}, or plug data:paired into 'data'",
            )
        if config is not None:
            built = build_operator(config, prior.event_shape, scale=prior.event_scale)
        elif built.in_shape != prior.event_shape:
            raise ConfigError(
                f"the operator of the data takes events of shape {built.in_shape}; the prior of {name} has "
                f"{tuple(prior.event_shape)}",
                hint="plug in the data that the observations come from",
            )
        self.remarks = () if data is None else _check_range(data, prior, name)
        scale = prior.event_scale
        scaled = not scale.bounded and (scale.shift, scale.factor) != (0.0, 1.0)
        if scaled and data is None and units is None:
            raise ConfigError(
                f"the data of the prior of {name} were scaled, so y = A x can be in two units",
                hint="set y_units: file where x is in the numbers of the file, or y_units: model where x is scaled",
            )
        fixed = scale.bounded and (scale.shift, scale.factor) != (0.0, 1.0)
        if units == "file" and (fixed or (scaled and isinstance(data, HasOperator))):
            whose = "events of the prior have bounds" if fixed else "data plugged in hold observations of scaled events"
            raise ConfigError(
                f"y_units: file was set for {name}, and the {whose}, so y = A x is in units of the model",
                hint="remove y_units, and give y and noise_std in the units of the model",
            )
        self._scale = scale if scaled and units == "file" else None
        self._name, self.noise_std = name, float(getattr(data, "noise_std", 0.0))
        self._counts = getattr(data, "poisson_peak", None) is not None
        kinds = {"Poisson counts": self._counts, f"Gaussian of deviation {self.noise_std:g}": self.noise_std > 0}
        self.noise = " and ".join(kind for kind, there in kinds.items() if there)
        self.operator = as_linear(built, name)
        self.varies = isinstance(self.operator, RandomMask)
        check_masks(self.operator, name)
        shape = prior.event_shape
        self.mask_shape = (1, *shape[1:]) if len(shape) == 3 else shape
        image = TensorSpec(self.operator.out_shape)
        self.spec: ConditionSpec = {"image": image, "mask": TensorSpec(self.mask_shape)} if self.varies else image

    def deviation(self, given: float | None) -> float:
        """The deviation of Gaussian noise that is given, else of the data's, and 0 without. Raises ``ConfigError``
        where the data's noise has another distribution and none is given. A given one is in the units of y."""
        if given is None and self._counts:
            raise ConfigError(
                f"the data have the noise of photons (poisson_peak), and {self._name} takes Gaussian noise alone",
                hint="set noise_std to a deviation that is near, such as the root of mean pixel / poisson_peak in "
                "images from 0 to 1",
            )
        return self.noise_std if given is None else given / self._unit()

    def example(self) -> LinearOperator:
        """The operator on scaled events; where it varies by event, the operator of the first event."""
        return self._scaled(self.operator.at(torch.zeros(1, dtype=torch.long)) if self.varies else self.operator)

    def _unit(self) -> float:
        """The unit of y: the factor of all numbers of an event where they have one, else 1."""
        factor = 1.0 if self._scale is None else self._scale.factor
        return 1.0 if isinstance(factor, tuple) else factor

    def _scaled(self, operator: LinearOperator) -> LinearOperator:
        """The operator on scaled events that gives y less A shift, in its ``_unit``."""
        if self._scale is None or not isinstance(self._scale.factor, tuple):
            return operator
        ones = torch.ones(1, *operator.in_shape, dtype=torch.float64, device="cpu")
        factors = replace(self._scale, shift=0.0).to_raw(ones)[0]
        if isinstance(operator, Matrix):
            return Matrix(operator.matrix * factors.flatten().to(operator.matrix), operator.in_shape)
        return _OfScaled(operator, factors)

    def _shifted(self, operator: LinearOperator, y: Tensor) -> tuple[LinearOperator, Tensor]:
        """The operator on scaled events and y as it gives it."""
        if self._scale is None:
            return operator, y
        zero = self._scale.to_raw(torch.zeros(1, *operator.in_shape, dtype=torch.float64, device=y.device))
        return self._scaled(operator), (
            (y.double() - operator(zero.expand(len(y), *zero.shape[1:]))) / self._unit()
        ).to(y)

    def read(self, condition: Condition) -> tuple[LinearOperator, Tensor]:
        """The operator of these events and their observations y. Raises ``ShapeError`` for others than the spec's."""
        if not self.varies:
            return self._shifted(self.operator, check_observation(self.operator, condition))
        if isinstance(condition, Tensor) or set(condition) != {"image", "mask"}:
            found = "a tensor" if isinstance(condition, Tensor) else ", ".join(sorted(condition)) or "nothing"
            raise ShapeError(
                f"{found} was observed; a mask of each event needs image and mask",
                hint="data:paired with mask: true gives both",
            )
        y, mask = condition["image"], condition["mask"]
        if mask.shape[1:] != self.mask_shape:
            expected = ", ".join(["C", *map(str, self.mask_shape)])
            raise ShapeError(f"the masks have shape {tuple(mask.shape)}; expected ({expected})")
        return self._shifted(Mask(mask, self.operator.in_shape), check_observation(self.operator, y))


def _check_range(data: DataSource, prior: ScoreModel, name: str) -> tuple[str, ...]:
    """The warning that data lie apart from the prior's, if any. Raises ``ConfigError`` for other bounds or units."""
    scale, other = prior.event_scale, data.event_scale
    ours, given = ((each.low, each.high) for each in (scale, other))
    if None not in (*ours, *given) and ours != given:
        raise ConfigError(
            f"the data lie between {given[0]:g} and {given[1]:g}, and the events of the prior of {name} between "
            f"{ours[0]:g} and {ours[1]:g}",
            hint=f"read the data in the range of the prior: range: [{ours[0]:g}, {ours[1]:g}]",
        )
    if scale == EventScale() or scale.bounded or other.bounded or data.event_shape != prior.event_shape:
        return ()
    ends = scale.std * torch.tensor([0.0, 1.0], dtype=torch.float64)
    events = ends.reshape(2, *[1] * len(prior.event_shape)).expand(2, *prior.event_shape)
    apart = float((other.from_raw(scale.to_raw(events)) - events).abs().max())
    if apart > _ROUNDED * scale.std:
        raise ConfigError(
            f"the data of {name} are scaled with shift {_first(other.shift):.4g} and factor "
            f"{_first(other.factor):.4g}. The data of its prior have {_first(scale.shift):.4g} and "
            f"{_first(scale.factor):.4g}",
            hint="plug in the data that the prior was trained on, or scale neither",
        )
    gap = float((other.middle(events) - scale.middle(events) + 0 * events).abs().max()) / scale.std
    ratio = other.std / scale.std
    if gap <= APART and 1 / APART <= ratio <= APART:
        return ()
    return (
        f"the data of {name} lie {gap:.3g} deviations from the data of its prior, and spread {ratio:.3g} times as far: "
        "the prior does not know such events, so samples are wrong. Plug in data like the prior's",
    )


_FAR = 5.0
"""Expected distances from which on an observation is unlike observations of the prior's events."""

_TRIED, _TRIES, _LEVELS = 256, 16, 12
"""Observations that are tried, how often each, and the levels of noise of a try."""

_FEW = 64
"""The most numbers of an observation that are compared one by one."""

APART = 3.0
"""Deviations, and the ratio of deviations, from which on data are unlike the prior's."""

_ROUNDED = 0.01
"""Deviations by which the units of data and prior may differ."""


def _first(value: float | tuple[float, ...]) -> float:
    return value[0] if isinstance(value, tuple) else value
