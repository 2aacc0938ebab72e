"""Linear operators on events, with adjoints: what degrades an image, and what an inverse problem needs.

Operators hold no state of a device or a dtype: results follow the input. Matrices are kept in float64.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from scorefold.errors import ConfigError, ShapeError
from scorefold.nn.reshape import check_divisible, haar_merge, haar_split
from scorefold.operator_config import (
    BicubicDownsampleConfig,
    BoxDownsampleConfig,
    ComposeConfig,
    GaussianBlurConfig,
    GreyConfig,
    HaarConfig,
    MaskConfig,
    OperatorConfig,
)

Shape = tuple[int, ...]


class LinearOperator(ABC):
    """A linear map A from events of ``in_shape`` to events of ``out_shape``, applied to batches (B, *in_shape).

    Must: ``_apply``, ``_adjoint``, ``_pseudo_inverse``. Given: ``__call__``, ``adjoint`` and ``pseudo_inverse``,
    which check shapes and raise ``ShapeError``.
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        self.in_shape: Shape = tuple(in_shape)
        self.out_shape: Shape = tuple(out_shape)

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor:
        """A x, (B, *in_shape) to (B, *out_shape)."""

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """A^T y, (B, *out_shape) to (B, *in_shape)."""

    @abstractmethod
    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        """The shortest x among those that bring A x closest to y: (B, *out_shape) to (B, *in_shape)."""

    def __call__(self, x: Tensor) -> Tensor:
        """A x for x (B, *in_shape): (B, *out_shape)."""
        return self._apply(self._checked(x, self.in_shape))

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for y (B, *out_shape), so that <A x, y> = <x, A^T y>: (B, *in_shape)."""
        return self._adjoint(self._checked(y, self.out_shape))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A^+ y for y (B, *out_shape): (B, *in_shape). Box means are replicated, grey becomes equal channels."""
        return self._pseudo_inverse(self._checked(y, self.out_shape))

    def _checked(self, value: Tensor, shape: Shape) -> Tensor:
        if tuple(value.shape[1:]) != shape:
            raise ShapeError(
                f"{type(self).__name__} was given a tensor of shape {tuple(value.shape)}; expected (B, "
                f"{', '.join(map(str, shape))})"
            )
        return value


class Mask(LinearOperator):
    """y = m x with a mask m broadcastable to the event, 1 where a coordinate is kept and 0 where it is hidden."""

    def __init__(self, mask: Tensor, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, in_shape)
        self.mask = mask.double().expand(self.in_shape)

    def _apply(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.mask.to(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return y * self.mask.to(y)


class Separable(LinearOperator):
    """y = R x K^T on every channel of an image (C, H, W), with matrices R (H', H) and K (W', W)."""

    def __init__(self, rows: Tensor, columns: Tensor, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, (in_shape[0], rows.shape[0], columns.shape[0]))
        self.rows, self.columns = rows.double(), columns.double()

    @cached_property
    def _inverses(self) -> tuple[Tensor, Tensor]:
        # The pseudo-inverse of a Kronecker product is the Kronecker product of the pseudo-inverses.
        return torch.linalg.pinv(self.rows), torch.linalg.pinv(self.columns)

    def _apply(self, x: Tensor) -> Tensor:
        y: Tensor = self.rows.to(x) @ x @ self.columns.to(x).T
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.rows.to(y).T @ y @ self.columns.to(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        rows, columns = self._inverses
        x: Tensor = rows.to(y) @ y @ columns.to(y).T
        return x


class Grey(LinearOperator):
    """One channel sum_c w_c x_c of an image (C, H, W), with weights (C,)."""

    def __init__(self, weights: Tensor, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, (1, *in_shape[1:]))
        self.weights = weights.double().reshape(-1, 1, 1)

    def _apply(self, x: Tensor) -> Tensor:
        return (x * self.weights.to(x)).sum(1, keepdim=True)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.weights.to(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return y * (self.weights / self.weights.square().sum()).to(y)


class Haar(LinearOperator):
    """The orthonormal Haar transform of images (C, H, W), ``levels`` times, each time of the coarse band alone.

    Coefficients are laid out as an image of the same shape (Mallat 1989): the coarse band (C, H/2, W/2) in the
    corner at (0, 0), the differences along the width to its right, those along the height below it, both on the
    diagonal.
    """

    def __init__(self, levels: int, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, in_shape)
        self.levels = levels

    def _apply(self, x: Tensor) -> Tensor:
        return self._level(x, self.levels)

    def _level(self, x: Tensor, levels: int) -> Tensor:
        coarse, along_width, along_height, both = haar_split(x)
        if levels > 1:
            coarse = self._level(coarse, levels - 1)
        top = torch.cat([coarse, along_width], -1)
        return torch.cat([top, torch.cat([along_height, both], -1)], -2)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._merge(y, self.levels)

    def _merge(self, y: Tensor, levels: int) -> Tensor:
        top, bottom = y.chunk(2, -2)
        (coarse, along_width), (along_height, both) = top.chunk(2, -1), bottom.chunk(2, -1)
        if levels > 1:
            coarse = self._merge(coarse, levels - 1)
        return haar_merge(coarse, along_width, along_height, both)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._adjoint(y)


class Composition(LinearOperator):
    """Operators one after the other, the first applied first.

    Its ``pseudo_inverse`` undoes them one by one, last first. That is a generalised inverse; it is the shortest
    solution only where each step's pseudo-inverse keeps to the range of the next one's adjoint, as for orthonormal
    or commuting steps. Raises ``ShapeError`` where neighbours do not fit.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        for first, second in itertools.pairwise(operators):
            if first.out_shape != second.in_shape:
                raise ShapeError(
                    f"{type(first).__name__} gives events of shape {first.out_shape} but "
                    f"{type(second).__name__} takes {second.in_shape}"
                )
        super().__init__(operators[0].in_shape, operators[-1].out_shape)
        self.operators = tuple(operators)

    def _apply(self, x: Tensor) -> Tensor:
        for operator in self.operators:
            x = operator(x)
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            y = operator.pseudo_inverse(y)
        return y


def box_matrix(size: int, factor: int) -> Tensor:
    """The mean of every ``factor`` entries, (size / factor, size)."""
    return torch.eye(size // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


def bicubic_matrix(size: int, factor: int) -> Tensor:
    """Antialiased bicubic downsampling, (size / factor, size): torch's own, applied to unit vectors."""
    unit = torch.eye(size, dtype=torch.float64)[None, None]
    shape = (size // factor, size)
    return torch.nn.functional.interpolate(unit, shape, mode="bicubic", antialias=True, align_corners=False)[0, 0]


def blur_matrix(size: int, sigma: float) -> Tensor:
    """Convolution with a sampled Gaussian cut at 4 sigma, the signal reflected about its ends, (size, size)."""
    radius = max(1, math.ceil(4 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    position = (torch.arange(size)[:, None] + offsets) % (2 * size)
    position = torch.where(position < size, position, 2 * size - 1 - position)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, position, weights.expand(size, -1))


def build_operator(config: OperatorConfig, in_shape: Sequence[int]) -> LinearOperator:
    """The operator of a config, on events of ``in_shape``.

    All but ``mask`` with region ``pixels`` need images (C, H, W). Raises ``ConfigError`` for an event that the
    operator can't serve, with the nearest sizes where a size is the trouble.
    """
    shape = tuple(in_shape)
    if isinstance(config, ComposeConfig):
        operators: list[LinearOperator] = []
        for part in config.operators:
            operators.append(build_operator(part, shape))
            shape = operators[-1].out_shape
        return Composition(operators)
    if len(shape) != 3 and not (isinstance(config, MaskConfig) and config.region == "pixels"):
        raise ConfigError(f"the operator {config.name!r} needs images (C, H, W); events have shape {shape}")
    match config:
        case MaskConfig():
            return Mask(_mask(config, shape), shape)
        case BoxDownsampleConfig():
            check_divisible(shape, config.factor, config.name)
            return Separable(box_matrix(shape[1], config.factor), box_matrix(shape[2], config.factor), shape)
        case BicubicDownsampleConfig():
            check_divisible(shape, config.factor, config.name)
            return Separable(bicubic_matrix(shape[1], config.factor), bicubic_matrix(shape[2], config.factor), shape)
        case GaussianBlurConfig():
            return Separable(blur_matrix(shape[1], config.sigma), blur_matrix(shape[2], config.sigma), shape)
        case GreyConfig():
            return Grey(_grey_weights(config, shape[0]), shape)
        case HaarConfig():
            check_divisible(shape, 2**config.levels, config.name)
            return Haar(config.levels, shape)


def _mask(config: MaskConfig, shape: Shape) -> Tensor:
    generator = torch.Generator().manual_seed(config.seed)
    if config.region == "pixels":
        places = shape[-2:] if len(shape) == 3 else shape
        count = math.prod(places)
        keep = torch.ones(count, dtype=torch.float64)
        keep[torch.randperm(count, generator=generator)[: round(config.fraction * count)]] = 0
        return keep.reshape(places)
    height, width = shape[1:]
    keep = torch.ones(height, width, dtype=torch.float64)
    if config.region == "right":
        keep[:, width - round(config.fraction * width) :] = 0
        return keep
    side = math.sqrt(config.fraction)
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
