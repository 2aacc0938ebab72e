"""Orthonormal transforms of events, z = W x: wavelets, cosines, Fourier, principal axes, learned.

Coefficients are laid out like the event, coarse ones first: in the corner at (0, 0) of an image (Mallat 1989), at the
start of a flattened event.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import pywt
import torch
from torch import Tensor, nn

from scorefold.diffusion import Orthonormal
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_toolkit.nn.linear import reflections_product
from scorefold_toolkit.nn.reshape import check_divisible, haar_merge, haar_split

LARGEST = 8192
"""The largest number of coordinates for which a full matrix is kept: 512 MiB in double precision."""


class FromData(ABC):
    """A transform that is made from the training points."""

    @abstractmethod
    def prepare(self, x: Tensor) -> None:
        """Take what is needed from training points x (N, *E)."""


class Identity(Orthonormal):
    """The coefficients are the event's own coordinates."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def inverse(self, z: Tensor) -> Tensor:
        return z


class Wavelet(Orthonormal):
    """An orthogonal wavelet transform of images (C, H, W) or (H, W), periodic, ``levels`` times of the coarse part.

    Of each level, the coarse part is in the corner, changes along the width to its right, those along the height below,
    both on the diagonal; ``levels`` = 0 is the identity. ``wavelet`` is ``haar`` or a name of PyWavelets. Raises
    ``ConfigError`` for events that are no images, sizes that 2^levels does not divide, and wavelets that are unknown or
    not orthogonal.
    """

    def __init__(self, event_shape: Sequence[int], levels: int, wavelet: str = "haar") -> None:
        super().__init__(event_shape)
        check_image(self.event_shape, f"the wavelet {wavelet!r}", levels)
        self.levels, self.wavelet = levels, wavelet
        height, width = self.event_shape[-2:]
        for level in range(levels if wavelet != "haar" else 0):
            self._keep(f"rows{level}", wavelet_matrix(height >> level, wavelet))
            self._keep(f"columns{level}", wavelet_matrix(width >> level, wavelet))

    def forward(self, x: Tensor) -> Tensor:
        return self._level(x, 0)

    def inverse(self, z: Tensor) -> Tensor:
        return self._merge(z, 0)

    def _level(self, x: Tensor, level: int) -> Tensor:
        if level == self.levels:
            return x
        if self.wavelet == "haar":
            coarse, along_width, along_height, both = haar_split(x)
        else:
            z = _two_sided(self.get_buffer(f"rows{level}"), self.get_buffer(f"columns{level}"), x)
            coarse, along_width, along_height, both = _quarters(z)
        top = torch.cat([self._level(coarse, level + 1), along_width], -1)
        return torch.cat([top, torch.cat([along_height, both], -1)], -2)

    def _merge(self, z: Tensor, level: int) -> Tensor:
        if level == self.levels:
            return z
        coarse, along_width, along_height, both = _quarters(z)
        coarse = self._merge(coarse, level + 1)
        if self.wavelet == "haar":
            return haar_merge(coarse, along_width, along_height, both)
        z = torch.cat([torch.cat([coarse, along_width], -1), torch.cat([along_height, both], -1)], -2)
        return _two_sided(self.get_buffer(f"rows{level}").mT, self.get_buffer(f"columns{level}").mT, z)

    def _keep(self, name: str, matrix: Tensor) -> None:
        self.register_buffer(name, matrix, persistent=False)


class SeparableTransform(Orthonormal):
    """z = A_H x A_W^T of images (C, H, W) or (H, W), with A_n = ``matrix(n)`` orthonormal (n, n)."""

    rows: Tensor
    columns: Tensor

    def __init__(self, event_shape: Sequence[int], matrix: Callable[[int], Tensor]) -> None:
        super().__init__(event_shape)
        check_image(self.event_shape, "a transform of rows and columns")
        height, width = self.event_shape[-2:]
        self.register_buffer("rows", matrix(height), persistent=False)
        self.register_buffer("columns", matrix(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return _two_sided(self.rows, self.columns, x)

    def inverse(self, z: Tensor) -> Tensor:
        return _two_sided(self.rows.mT, self.columns.mT, z)


class PCA(Orthonormal, FromData):
    """Coefficients along the principal axes of the training points, the largest variance first.

    ``variances`` (D,) holds the variances of the training points along the axes. The mean is not subtracted: the
    transform is linear. Until ``prepare`` has seen points the axes are the coordinate axes of the event. Raises
    ``ConfigError`` for events of more than ``LARGEST`` coordinates.
    """

    axes: Tensor
    variances: Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        size = _matrix_size(self.event_shape, "principal axes")
        self.register_buffer("axes", torch.eye(size))
        self.register_buffer("variances", torch.ones(size))

    def prepare(self, x: Tensor) -> None:
        """The axes of points x (N, *E), by the eigenvectors of their covariance; each with its largest entry positive.

        Raises ``DataError`` for fewer than two points, ``ShapeError`` for another event shape.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(f"points of shape {tuple(x.shape[1:])} were given; expected {self.event_shape}")
        if len(x) < 2:
            raise DataError(f"{len(x)} points have no principal axes; expected at least 2")
        centred = x.flatten(1).double()
        centred = centred - centred.mean(0)
        variances, vectors = torch.linalg.eigh(centred.mT @ centred / len(x))
        axes = vectors.mT.flip(0)
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        self.axes.copy_(axes * largest.sign())
        self.variances.copy_(variances.flip(0).clamp_min(0))

    def forward(self, x: Tensor) -> Tensor:
        return _on_vectors(self.axes, x)

    def inverse(self, z: Tensor) -> Tensor:
        return _on_vectors(self.axes.mT, z)


class Learned(Orthonormal, FromData):
    """z = Q W_0 x with W_0 = ``start`` and Q a product of ``reflections`` reflections whose vectors are parameters.

    Reflections come in equal pairs, so Q starts as the identity; D of them reach every rotation. Raises ``ConfigError``
    for an odd number, and for events of more than ``LARGEST`` coordinates.
    """

    def __init__(self, start: Orthonormal, reflections: int = 16) -> None:
        super().__init__(start.event_shape)
        size = _matrix_size(self.event_shape, "a learned orthogonal matrix")
        if reflections < 2 or reflections % 2:
            raise ConfigError(f"reflections is {reflections}; expected an even number of at least 2")
        self.start = start
        self.vectors = nn.Parameter(torch.randn(size, reflections // 2).repeat_interleave(2, dim=1))

    def prepare(self, x: Tensor) -> None:
        if isinstance(self.start, FromData):
            self.start.prepare(x)

    def forward(self, x: Tensor) -> Tensor:
        return _on_vectors(reflections_product(self.vectors), self.start(x))

    def inverse(self, z: Tensor) -> Tensor:
        return self.start.inverse(_on_vectors(reflections_product(self.vectors).mT, z))


def wavelet_matrix(size: int, wavelet: str) -> Tensor:
    """One level of a periodic orthogonal wavelet transform of signals of even length, (size, size): coarse rows first.

    Raises ``ConfigError`` for a wavelet that PyWavelets does not know or that is not orthogonal to 1e-9.
    """
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known:
        raise ConfigError(
            f"there is no discrete wavelet {wavelet!r} in PyWavelets",
            hint="pywt.wavelist(kind='discrete') lists them; db2, sym4 and coif1 are orthogonal",
        )
    parts = pywt.dwt(np.eye(size), wavelet, mode="periodization", axis=0)
    matrix = torch.from_numpy(np.concatenate(parts))
    error = float((matrix @ matrix.mT - torch.eye(size, dtype=matrix.dtype)).abs().max())
    if not pywt.Wavelet(wavelet).orthogonal or error > 1e-9:
        raise ConfigError(
            f"the wavelet {wavelet!r} is not orthogonal (its matrix misses by {error:.1e})",
            hint="take a wavelet of the families haar, db, sym or coif",
        )
    return matrix


def dct_matrix(size: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (size, size): row k is a cosine of k / 2 cycles."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * k[:, None] * (k + 0.5) / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def fourier_matrix(size: int) -> Tensor:
    """The real orthonormal Fourier basis, (size, size): rows 1, cos x, sin x, cos 2x, sin 2x, ... of x = 2 pi j / n.

    For an even size the last row is the alternating cosine alone. ``fourier_frequencies`` numbers the rows.
    """
    k = fourier_frequencies(size)
    phase = 2 * math.pi * k[:, None] * torch.arange(size, dtype=torch.float64) / size
    sine = (torch.arange(size) % 2 == 0)[:, None]
    matrix = torch.where(sine, phase.sin(), phase.cos())
    matrix[0] = 1
    basis: Tensor = matrix / matrix.norm(dim=1, keepdim=True)
    return basis


def fourier_frequencies(size: int) -> Tensor:
    """The frequency of each row of ``fourier_matrix`` in cycles a signal, (size,): 0, 1, 1, 2, 2, ..."""
    return torch.div(torch.arange(size) + 1, 2, rounding_mode="floor").double()


def check_image(event_shape: tuple[int, ...], what: str, levels: int = 0) -> None:
    """Raises ``ConfigError`` unless events are images (C, H, W) or (H, W) of sizes that 2^levels divides."""
    if len(event_shape) not in (2, 3):
        raise ConfigError(
            f"{what} is for images (C, H, W) or (H, W); events have shape {event_shape}",
            hint="take bands by pca, learned or pixels for events that are no images",
        )
    check_divisible((1, *event_shape[-2:]), 2**levels, f"{what} of {levels} levels")


def _matrix_size(event_shape: tuple[int, ...], what: str) -> int:
    size = math.prod(event_shape)
    if size > LARGEST:
        raise ConfigError(
            f"{what} of events of shape {event_shape} takes a {size} x {size} matrix; at most {LARGEST} is kept",
            hint="take bands by haar, wavelet, dct or fourier, which need no such matrix",
        )
    return size


def _two_sided(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """rows x columns^T over the last two dimensions."""
    return rows.to(x) @ x @ columns.to(x).mT


def _on_vectors(matrix: Tensor, x: Tensor) -> Tensor:
    return (x.flatten(1) @ matrix.to(x).mT).reshape(x.shape)


def _quarters(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coarse part, changes along the width, along the height, and both, of one level."""
    top, bottom = z.chunk(2, -2)
    (coarse, along_width), (along_height, both) = top.chunk(2, -1), bottom.chunk(2, -1)
    return coarse, along_width, along_height, both
