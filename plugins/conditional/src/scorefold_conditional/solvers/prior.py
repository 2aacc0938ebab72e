"""Requirements of the baselines on their prior and operator."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold_conditional.inverse import check_masks, check_observation
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.config.operators import OperatorConfig
from scorefold_toolkit.operators import (
    HasOperator,
    LinearOperator,
    Mask,
    Operator,
    RandomMask,
    as_linear,
    build_operator,
)


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


class InverseSolver:
    """A score of an unconditional prior that is asked for events given observations of them."""

    observations: Observations


class Observations:
    """Observations of events of a prior: an operator, and the form of its observations as a condition.

    The operator comes from ``config``, or from the data where ``config`` is None. One operator for all events takes
    y (B, *out_shape). A mask of each event (``each: true``) takes y as ``image`` with the masks as ``mask``, as
    ``data:paired`` gives them with ``mask: true``. ``noise`` describes the noise of the data, "" without. Raises
    ``ConfigError`` without an operator, for an operator that is not linear, for events that it can't serve, and for
    data in another range than the prior's.
    """

    def __init__(
        self, config: OperatorConfig | None, prior: ScoreModel, name: str, data: DataSource | None = None
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
        if data is not None:
            _check_range(data, prior, name)
        self._name, self._std = name, float(getattr(data, "noise_std", 0.0))
        self._counts = getattr(data, "poisson_peak", None) is not None
        kinds = {"Poisson counts": self._counts, f"Gaussian of deviation {self._std:g}": self._std > 0}
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
        where the data's noise has another distribution and none is given."""
        if given is None and self._counts:
            raise ConfigError(
                f"the data have the noise of photons (poisson_peak), and {self._name} takes Gaussian noise alone",
                hint="set noise_std to a deviation that is near, such as the root of mean pixel / poisson_peak in "
                "images from 0 to 1",
            )
        return self._std if given is None else given

    def example(self) -> LinearOperator:
        """The operator; where it varies by event, the operator of the first event."""
        return self.operator.at(torch.zeros(1, dtype=torch.long)) if self.varies else self.operator

    def read(self, condition: Condition) -> tuple[LinearOperator, Tensor]:
        """The operator of these events and their observations y. Raises ``ShapeError`` for others than the spec's."""
        if not self.varies:
            return self.operator, check_observation(self.operator, condition)
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
        return Mask(mask, self.operator.in_shape), check_observation(self.operator, y)


def _check_range(data: DataSource, prior: ScoreModel, name: str) -> None:
    """Raises ``ConfigError`` where data and prior have different bounds."""
    ours, given = ((scale.low, scale.high) for scale in (prior.event_scale, data.event_scale))
    if None not in (*ours, *given) and ours != given:
        raise ConfigError(
            f"the data lie between {given[0]:g} and {given[1]:g}, and the events of the prior of {name} between "
            f"{ours[0]:g} and {ours[1]:g}",
            hint=f"read the data in the range of the prior: range: [{ours[0]:g}, {ours[1]:g}]",
        )
