"""Textured blobs: images whose distribution has a closed form, of a content that two numbers hold and a texture that
none do."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ShapeError
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.seeds import derive_generator
from scorefold_scorevae.config import TexturedBlobsConfig
from scorefold_toolkit.data.manifolds import seeded_normal
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed, split_positions
from scorefold_toolkit.distributions import SharedGaussians, shared_exponents


class TexturedBlobs(DataSource, KnowsDistribution):
    """Images (1, n, n), x = 2 exp(-|p - c|^2 / (2 width^2)) - 1 + texture at pixels p.

    The centre c is uniform on a grid; the texture is Gaussian with independent coefficients in the orthonormal
    two-dimensional cosine transform, of variance ``texture`` where sqrt(i^2 + j^2) > ``cutoff``, else ``smooth``.
    ``truth`` holds ``centre`` (N, 2), row and column in pixels.

    >>> from scorefold_registry import Host
    >>> Host.discover().create("data:textured-blobs", {"points": 200}).event_shape
    (1, 8, 8)
    """

    def __init__(self, config: TexturedBlobsConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        size = config.size
        self.centres = blob_centres(config)
        basis = torch.kron(cosines(size), cosines(size)).mT
        variances = texture_variances(config).flatten()
        self._distribution = SharedGaussians(blob_images(config, self.centres).flatten(1), basis, variances)
        which = torch.randint(len(self.centres), (config.points,), generator=derive_generator(seed, "centres"))
        texture = seeded_normal((config.points, size**2), seed, "texture") * variances.sqrt() @ basis.mT
        x = (self._distribution.means[which] + texture).reshape(-1, 1, size, size)
        whole = Dataset(x=x.float(), index=torch.arange(config.points), truth={"centre": self.centres[which].float()})
        positions = split_positions(config.points, config.fractions, seed)
        self._splits = {name: whole.take(position) for name, position in positions.items()}
        self.event_shape = (1, size, size)
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def distribution(self) -> SharedGaussians:
        return self._distribution

    def residual_variance(self) -> float:
        """The summed variance of an image around its blob."""
        return float(self._distribution.variances.sum())

    def find_centres(self, x: Tensor) -> Tensor:
        """The likeliest centre of each image (B, 1, n, n) in pixels, (B, 2). Raises ``ShapeError`` for others."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(
                f"images have shape {tuple(x.shape)}; expected (B, {', '.join(map(str, self.event_shape))})"
            )
        return self.centres[shared_exponents(self._distribution, x.detach().double().flatten(1)).argmax(1)]


def blob_centres(config: TexturedBlobsConfig) -> Tensor:
    """The centres (centres^2, 2), row and column in pixels, in float64."""
    line = torch.linspace(1, config.size - 2, config.centres, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def blob_images(config: TexturedBlobsConfig, centres: Tensor) -> Tensor:
    """2 exp(-|p - c|^2 / (2 width^2)) - 1 for centres (C, 2): (C, n, n)."""
    pixels = torch.arange(config.size, dtype=torch.float64)
    rows, columns = (torch.exp(-((pixels - c[:, None]) ** 2) / (2 * config.width**2)) for c in centres.T)
    return 2 * rows[:, :, None] * columns[:, None, :] - 1


def texture_variances(config: TexturedBlobsConfig) -> Tensor:
    """The variance of each cosine of the texture, (n, n)."""
    k = torch.arange(config.size, dtype=torch.float64)
    fine = (k[:, None] ** 2 + k**2).sqrt() > config.cutoff
    return torch.where(fine, k.new_tensor(config.texture), k.new_tensor(config.smooth))


def cosines(size: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (size, size): row k is a cosine of k / 2 cycles."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * k[:, None] * (k + 0.5) / size)
    matrix[0] /= math.sqrt(2)
    return matrix
