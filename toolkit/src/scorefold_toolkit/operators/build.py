"""Operators from their configs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.errors import ConfigError
from scorefold.seeds import derive_generator
from scorefold_toolkit.config.operators import (
    BicubicDownsampleConfig,
    BoxDownsampleConfig,
    ComposeConfig,
    DeepinvConfig,
    EdgesConfig,
    GaussianBlurConfig,
    GreyConfig,
    HaarConfig,
    MaskConfig,
    MatrixConfig,
    OperatorConfig,
    RadonConfig,
    UpsampleConfig,
)
from scorefold_toolkit.nn.reshape import check_divisible, is_signal
from scorefold_toolkit.operators.base import LinearOperator, Matrix, Operator, Shape, compose
from scorefold_toolkit.operators.images import (
    Edges,
    Grey,
    Haar,
    Mask,
    RandomMask,
    Separable,
    bicubic_matrix,
    blur_matrix,
    box_matrix,
    upsample_matrix,
)
from scorefold_toolkit.operators.physics import Radon, build_physics

_UNIT = EventScale(low=0.0, high=1.0)


def build_operator(config: OperatorConfig, in_shape: Sequence[int], *, scale: EventScale = _UNIT) -> Operator:
    """The operator of a config, on events of ``in_shape`` in units of ``scale`` (which ``edges`` alone needs).

    Masks, downsampling, upsampling and blur serve images (C, H, W) and signals (C, L), along the time of a signal.
    Others but ``matrix``, ``deepinv`` and ``mask`` with region ``pixels`` need images. Raises ``ConfigError`` for an
    event that the operator can't serve, with the nearest sizes where a size is the trouble.
    """
    shape = tuple(in_shape)
    if isinstance(config, ComposeConfig):
        operators: list[Operator] = []
        for part in config.operators:
            operators.append(build_operator(part, shape, scale=scale))
            shape = operators[-1].out_shape
        return compose(operators)
    if isinstance(config, MatrixConfig):
        return _matrix(config, shape)
    if isinstance(config, DeepinvConfig):
        return build_physics(config.physics, config.options, config.seed, shape)
    signal = is_signal(shape)
    of_signals = MaskConfig | BoxDownsampleConfig | BicubicDownsampleConfig | UpsampleConfig | GaussianBlurConfig
    served = len(shape) == 3 or (signal and isinstance(config, of_signals))
    if not served and not (isinstance(config, MaskConfig) and config.region == "pixels"):
        also = " or signals (C, L)" if isinstance(config, of_signals) else ""
        long = bool(also) and len(shape) == 1 and is_signal((1, *shape))
        signals = f"event_shape: [1, {shape[0]}] of data:array makes signals of these numbers; " if long else ""
        raise ConfigError(
            f"the operator {config.name!r} needs images (C, H, W){also}; events have shape {shape}",
            hint=f"{signals}{{name: matrix, rows: [...]}} is an operator for events of any shape",
        )

    def separable(matrix: Callable[[int], Tensor]) -> Separable:
        """The matrix along height and width, or along the time of a signal."""
        rows = torch.eye(shape[0], dtype=torch.float64) if signal else matrix(shape[1])
        return Separable(rows, matrix(shape[-1]), shape)

    match config:
        case MaskConfig():
            return _mask(config, shape)
        case BoxDownsampleConfig():
            check_divisible(shape, config.factor, config.name)
            return separable(lambda size: box_matrix(size, config.factor))
        case BicubicDownsampleConfig():
            check_divisible(shape, config.factor, config.name)
            return separable(lambda size: bicubic_matrix(size, config.factor))
        case UpsampleConfig():
            return separable(lambda size: upsample_matrix(size, config.factor, config.kernel))
        case GaussianBlurConfig():
            return separable(lambda size: blur_matrix(size, config.sigma))
        case GreyConfig():
            return Grey(_grey_weights(config, shape[0]), shape)
        case HaarConfig():
            check_divisible(shape, 2**config.levels, config.name)
            return Haar(config.levels, shape)
        case RadonConfig():
            return Radon(_angles(config), shape, config.bins)
        case EdgesConfig():
            return _edges(config, shape, scale)


def _matrix(config: MatrixConfig, shape: Shape) -> Matrix:
    matrix = torch.tensor(config.rows, dtype=torch.float64)
    if matrix.shape[1] != math.prod(shape):
        raise ConfigError(
            f"the rows of the operator 'matrix' have {matrix.shape[1]} numbers, and events have {math.prod(shape)}",
            hint="give each row one number for each number of an event, in the order of the columns",
        )
    return Matrix(matrix, shape)


def _mask(config: MaskConfig, shape: Shape) -> LinearOperator:
    if config.each:
        return RandomMask(lambda index: _kept(config, shape, derive_generator(config.seed, "mask", index)), shape)
    return Mask(_kept(config, shape, torch.Generator().manual_seed(config.seed)), shape)


def _kept(config: MaskConfig, shape: Shape, generator: torch.Generator) -> Tensor:
    """1 where a pixel or a coordinate is kept and 0 where it is hidden, in float64. Raises ``ConfigError`` for a share
    that rounds to none of them or to all."""
    keep = _drawn(config, shape, generator)
    hidden = int((keep == 0).sum())
    if hidden in (0, keep.numel()):
        raise ConfigError(
            f"a mask of region {config.region} and fraction {config.fraction:g} hides {hidden} of {keep.numel()} "
            "coordinates, which leaves nothing to find or nothing to go by",
            hint=f"choose a fraction {'further from 0' if hidden == 0 else 'further from 1'}, such as 0.25",
        )
    return keep


def _drawn(config: MaskConfig, shape: Shape, generator: torch.Generator) -> Tensor:
    if config.region == "pixels":
        channels = len(shape) == 3 or is_signal(shape)  # which have one mask, so that it can be shown as one channel
        places = shape[1:] if channels else shape
        count = math.prod(places)
        keep = torch.ones(count, dtype=torch.float64)
        keep[torch.randperm(count, generator=generator)[: round(config.fraction * count)]] = 0
        return keep.reshape(places)
    height, width = (1, shape[-1]) if len(shape) == 2 else shape[1:]
    keep = torch.ones(height, width, dtype=torch.float64)
    if config.region == "right":
        keep[:, width - round(config.fraction * width) :] = 0
        return keep
    side = config.fraction if len(shape) == 2 else math.sqrt(config.fraction)
    rows, columns = max(1, round(side * height)), max(1, round(side * width))
    top, left = (height - rows) // 2, (width - columns) // 2
    if config.region == "square":
        top = int(torch.randint(height - rows + 1, (), generator=generator))
        left = int(torch.randint(width - columns + 1, (), generator=generator))
    keep[top : top + rows, left : left + columns] = 0
    return keep


def _grey_weights(config: GreyConfig, channels: int) -> Tensor:
    if config.weights == "mean":
        return torch.full((channels,), 1 / channels, dtype=torch.float64)
    if channels != 3:
        raise ConfigError(f"luma weights are for 3 channels; images have {channels}", hint="weights: mean")
    return torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def _angles(config: RadonConfig) -> Tensor:
    """In degrees."""
    if isinstance(config.angles, int):
        return 180 * torch.arange(config.angles, dtype=torch.float64) / config.angles
    return torch.tensor(config.angles, dtype=torch.float64)


def _edges(config: EdgesConfig, shape: Shape, scale: EventScale) -> Edges:
    if scale.low is None or scale.high is None:
        raise ConfigError(
            "edges need images between two bounds, of which their thresholds are shares; these have none",
            hint="take images of a source with a range",
        )
    thresholds = {"low_threshold": config.low_threshold, "high_threshold": config.high_threshold}
    return Edges(shape, sigma=config.sigma, low=scale.low, high=scale.high, **thresholds)
