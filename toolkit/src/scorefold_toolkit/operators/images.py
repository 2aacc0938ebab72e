"""Linear degradations of images: masks, downsampling, blur, grey; and the orthonormal Haar transform."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from scorefold.errors import ConfigError, ShapeError
from scorefold_toolkit.libraries import library
from scorefold_toolkit.nn.reshape import haar_merge, haar_split
from scorefold_toolkit.operators.base import LinearOperator, Operator


class Mask(LinearOperator):
    """y = m x with a mask m broadcastable to the event, 1 where a coordinate is kept and 0 where it is hidden.

    A mask of one dimension more, (C, *event), is another one for each of C events, and repeats in turn for k C of them,
    as conditions do.

    >>> Mask(torch.tensor([1.0, 0.0, 1.0]), (3,))(torch.tensor([[5.0, 6.0, 7.0]]))
    tensor([[5., 0., 7.]])
    """

    def __init__(self, mask: Tensor, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, in_shape)
        lead = mask.shape[:1] if mask.dim() > len(self.in_shape) else ()
        self.mask = mask.double().expand(*lead, *self.in_shape)

    def _apply(self, x: Tensor) -> Tensor:
        return x * self._rows(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self._rows(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return y * self._rows(y)

    def _rows(self, x: Tensor) -> Tensor:
        if self.mask.dim() == len(self.in_shape) or len(self.mask) == len(x):
            return self.mask.to(x)
        if len(self.mask) == 0 or len(x) % len(self.mask):
            raise ShapeError(
                f"{len(x)} events were given to a mask of {len(self.mask)} rows; expected a multiple of that"
            )
        return self.mask.to(x).repeat(len(x) // len(self.mask), *[1] * len(self.in_shape))


class RandomMask(LinearOperator):
    """Another mask for every point, drawn from the point's index alone: ``at(index)`` is the ``Mask`` of some points.

    ``draw`` gives the mask of an index, broadcastable to the event. Applied without ``at`` it raises ``ConfigError``.

    >>> half = RandomMask(lambda index: torch.tensor([index % 2, 1 - index % 2]).float(), (2,))
    >>> half.at(torch.tensor([0, 1]))(torch.ones(2, 2))
    tensor([[0., 1.],
            [1., 0.]])
    """

    def __init__(self, draw: Callable[[int], Tensor], in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, in_shape)
        self._draw = draw

    def at(self, index: Tensor | None) -> Mask:
        if index is None:
            raise ConfigError("a mask of each point needs data whose points are numbered, and these have no index")
        masks = [self._draw(i).expand(self.in_shape) for i in index.tolist()]
        return Mask(torch.stack(masks) if masks else torch.ones(0, *self.in_shape), self.in_shape)

    def _apply(self, x: Tensor) -> Tensor:
        raise ConfigError(
            "this mask is another one for every point, so it takes the points' index",
            hint="operator.at(dataset.index)(x), or set the mask's each to false",
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._apply(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._apply(y)


class Separable(LinearOperator):
    """y = R x K^T on every channel of an image (C, H, W), with matrices R (H', H) and K (W', W).

    A signal (C, L) has one such product, with R (C', C) and K (L', L).

    >>> mean = torch.full((1, 2), 0.5)
    >>> Separable(mean, mean, (1, 2, 2))(torch.arange(4.0).reshape(1, 1, 2, 2)).item()
    1.5
    """

    def __init__(self, rows: Tensor, columns: Tensor, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, (*in_shape[:-2], rows.shape[0], columns.shape[0]))
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
    """One channel sum_c w_c x_c of an image (C, H, W), with weights (C,).

    >>> Grey(torch.tensor([0.5, 0.25, 0.25]), (3, 1, 1))(torch.tensor([4.0, 8.0, 0.0]).reshape(1, 3, 1, 1)).item()
    4.0
    """

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

    >>> Haar(1, (1, 2, 2))(torch.ones(1, 1, 2, 2)).flatten()  # flat: all in the coarse band
    tensor([2., 0., 0., 0.])
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

    def out_range(self, data_range: float) -> float:
        return data_range * float(2**self.levels)  # the range of the coarse band


def box_matrix(size: int, factor: int) -> Tensor:
    """The mean of every ``factor`` entries, (size / factor, size)."""
    return torch.eye(size // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


def bicubic_matrix(size: int, factor: int) -> Tensor:
    """Antialiased bicubic downsampling, (size / factor, size): torch's own, applied to unit vectors."""
    unit = torch.eye(size, dtype=torch.float64)[None, None]
    shape = (size // factor, size)
    return torch.nn.functional.interpolate(unit, shape, mode="bicubic", antialias=True, align_corners=False)[0, 0]


def upsample_matrix(size: int, factor: int, kernel: str) -> Tensor:
    """Larger images, (size * factor, size): ``nearest`` repeats, ``bicubic`` is torch's own of unit vectors."""
    unit = torch.eye(size, dtype=torch.float64)
    if kernel == "nearest":
        return unit.repeat_interleave(factor, 0)
    shape = (size * factor, size)
    # With antialiasing, which does nothing where images grow, torch has Keys' a of -1/2, and -3/4 without.
    grown = torch.nn.functional.interpolate(
        unit[None, None], shape, mode="bicubic", antialias=True, align_corners=False
    )
    return grown[0, 0]


def blur_matrix(size: int, sigma: float) -> Tensor:
    """Convolution with a sampled Gaussian cut at 4 sigma, the signal reflected about its ends, (size, size)."""
    radius = max(1, math.ceil(4 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    position = (torch.arange(size)[:, None] + offsets) % (2 * size)
    position = torch.where(position < size, position, 2 * size - 1 - position)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, position, weights.expand(size, -1))


_LUMA = (0.299, 0.587, 0.114)


class Edges(Operator):
    """Canny's edge map (1986) of an image (C, H, W), 1 on edges and 0 elsewhere: (1, H, W).

    The image is brought from [low, high] to [0, 1], made grey (Rec. 601 luma of three channels, else their mean), and
    blurred by a Gaussian of ``sigma`` pixels; ``low_threshold`` and ``high_threshold`` are for its Sobel gradient
    with 255 for white, as the conditional score papers state them. No gradient passes. Needs scikit-image: raises
    ``ScorefoldError`` where it is missing.

    >>> image = torch.zeros(1, 1, 8, 8)
    >>> image[..., 3], image[..., 4:] = 0.5, 1.0
    >>> Edges((1, 8, 8))(image)[0, 0, 3]
    tensor([0., 0., 0., 1., 0., 0., 0., 0.])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        *,
        sigma: float = 0.5,
        low_threshold: float = 10.0,
        high_threshold: float = 100.0,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(in_shape, (1, *in_shape[1:]))
        self.sigma, self.thresholds = sigma, (low_threshold / 255, high_threshold / 255)
        self.low, self.high = low, high
        with library("an operator of edges", "scorefold-toolkit[images]"):
            from skimage.feature import canny
        self._canny = canny

    def _apply(self, x: Tensor) -> Tensor:
        channels = self.in_shape[0]
        weights = torch.tensor(_LUMA if channels == 3 else [1 / channels] * channels, dtype=torch.float64)
        unit = (x.detach().cpu().double() - self.low) / (self.high - self.low)
        grey = (unit * weights[:, None, None]).sum(1).clamp(0, 1)
        low, high = self.thresholds
        maps = [
            torch.from_numpy(self._canny(image.numpy(), sigma=self.sigma, low_threshold=low, high_threshold=high))
            for image in grey
        ]
        return torch.stack(maps)[:, None].to(x) if maps else x.new_zeros(0, *self.out_shape)

    def out_range(self, data_range: float) -> float:
        return 1.0
