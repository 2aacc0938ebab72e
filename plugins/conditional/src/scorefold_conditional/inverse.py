"""The operator behind a condition: its mask as a channel, and the part of the condition that it made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from scorefold.data import TensorSpec
from scorefold.errors import ConfigError
from scorefold_conditional.conditional.config import ConditionalConfig
from scorefold_conditional.conditional.layout import spatial_axes
from scorefold_toolkit.operators import LinearOperator, Mask, RandomMask, as_linear, build_operator

Shape = tuple[int, ...]
Measured = Callable[[Mapping[str, Tensor]], tuple[LinearOperator, Tensor]]
"""The parts of a condition, each (C, *shape), to the operator of its rows and what it measured, (C, *out_shape)."""


def mask_of(config: ConditionalConfig, event_shape: Shape) -> Tensor | None:
    """The mask as the network sees it, (1, 1, H, W), (1, 1, L) or (1, D): 1 where a coordinate is known.

    None where it is not asked for. Raises ``ConfigError`` for a mask that differs from point to point, which only the
    data know.
    """
    if not config.mask or config.operator is None:
        return None
    operator = build_operator(config.operator, event_shape)
    if not isinstance(operator, Mask):
        raise ConfigError(
            "the mask of the operator is another one for every point, so the data must give it",
            hint="leave mask out, set mask: true in data:paired, and clean: [mask] here",
        )
    if spatial_axes(event_shape):
        return operator.mask[None, :1].float()
    return operator.mask.reshape(1, math.prod(event_shape)).float()


def measured_by(config: ConditionalConfig, event_shape: Shape, specs: Mapping[str, TensorSpec]) -> Measured | None:
    """Finds the part of the condition that the operator made; None for a model without an operator.

    A mask of every point's own is read from the part that ``clean`` names. Raises ``ConfigError`` for an operator that
    is not linear, and where no part of the condition, or more than one, can be what it made.
    """
    if config.operator is None:
        return None
    operator = as_linear(build_operator(config.operator, event_shape), "score:conditional")
    made = [
        name
        for name, spec in specs.items()
        if spec.classes is None and name not in config.clean and spec.shape == operator.out_shape
    ]
    if len(made) != 1:
        shapes = ", ".join(f"{name or 'a tensor'} {spec.shape}" for name, spec in specs.items())
        raise ConfigError(
            f"the operator gives events of shape {operator.out_shape}; the condition has {shapes}: {len(made)} parts "
            "of that shape, expected one",
            hint="set operator to the one that made the condition, and name other parts of that shape under clean",
        )
    check_masks(operator, "score:conditional")
    if not isinstance(operator, RandomMask):
        return lambda parts: (operator, parts[made[0]])
    masks = [name for name in config.clean if name in specs]
    if len(masks) != 1:
        raise ConfigError(
            "the operator is a mask of every point's own, and the data must give it",
            hint="set mask: true in data:paired, and clean: [mask] here",
        )
    return lambda parts: (Mask(_widened(parts[masks[0]], event_shape), event_shape), parts[made[0]])


def check_masks(operator: LinearOperator, who: str) -> None:
    """Raises ``ConfigError`` for a mask of each event among several steps, which conditions can't show."""
    if any(isinstance(part, RandomMask) for part in getattr(operator, "operators", ())):
        raise ConfigError(
            f"the operator of {who} has a mask of each event as one step of several; expected it alone",
            hint="set the mask's each to false, or take the mask alone",
        )


def _widened(mask: Tensor, event_shape: Shape) -> Tensor:
    return torch.broadcast_to(mask, (len(mask), *event_shape))
