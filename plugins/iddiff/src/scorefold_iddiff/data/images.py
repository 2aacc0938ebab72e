"""The paper's images of known dimension: squares, which fill a plane, and Gaussian blobs, which fill a curved set."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ConfigError
from scorefold_iddiff.config.data import BlobsConfig, SquaresConfig
from scorefold_toolkit.data.manifolds import Draw, uniform

SIDES = (3, 5)
_AT_ONCE = 2**22


def squares(config: SquaresConfig, seed: int) -> Draw:
    """Image = sum_i c_i 1_i with c_i uniform on [0, 1] and 1_i the indicator of the i-th square; overlaps add up.

    The dimension is the rank of the indicators: squares that coincide count once. Stanczuk et al. 2024, the squares.
    """
    indicators = torch.zeros(config.squares, config.size, config.size, dtype=torch.float64)
    for image, (side, row, column) in zip(indicators, places(config), strict=True):
        image[row : row + side, column : column + side] = 1
    flat = indicators.flatten(1)
    left, values, _ = torch.linalg.svd(flat.mT, full_matrices=False)
    rank = int((values > 1e-9 * values[0]).sum())
    x = uniform((config.points, config.squares), seed, "points") @ flat
    tangent = left[:, :rank].expand(config.points, -1, -1) if config.tangents else None
    return Draw(_shaped(x, config), rank, tangent)


def places(config: SquaresConfig) -> list[tuple[int, int, int]]:
    """(side, top row, left column) of each square, drawn as published: side 3 or 5, then the two centres.

    A centre keeps (side + 1) / 2 pixels from the first row and one more from the last. Raises ``ConfigError`` for more
    distinct squares than there are.
    """
    centres = {side: range((side + 1) // 2, config.size - (side + 1) // 2) for side in SIDES}
    most = sum(len(choices) ** 2 for choices in centres.values())
    if config.distinct and config.squares > most:
        raise ConfigError(
            f"{config.squares} distinct squares were asked for; an image of {config.size} pixels has {most}",
            hint="set fewer squares, a larger size, or distinct: false",
        )
    generator = random.Random(config.placement_seed)
    found: list[tuple[int, int, int]] = []
    while len(found) < config.squares:
        side = generator.choice(SIDES)
        row, column = (generator.choice(centres[side]) - ((side + 1) // 2 - 1) for _ in range(2))
        if not (config.distinct and (side, row, column) in found):
            found.append((side, row, column))
    return found


def blobs(config: BlobsConfig, seed: int) -> Draw:
    """Images of ``blob_image``, each width uniform over the widths. Stanczuk et al. 2024, the Gaussian blobs."""
    image = blob_image(config)
    low, high = config.widths
    width = low + (high - low) * uniform((config.points, config.blobs), seed, "points")
    at_once = max(1, _AT_ONCE // (config.size**2 * config.blobs))
    x = torch.func.vmap(image, chunk_size=at_once)(width)
    tangent = None
    if config.tangents:
        forward_rules()
        jacobian = torch.func.vmap(torch.func.jacfwd(image), chunk_size=max(1, at_once // config.blobs))(width)
        tangent = torch.linalg.qr(jacobian).Q
    return Draw(_shaped(x, config), config.blobs, tangent)


def blob_image(config: BlobsConfig) -> Callable[[Tensor], Tensor]:
    """The function from widths s (k,) to an image (D,): sum_i exp(-r_i^2 / 2 s_i^2) / (sqrt(2 pi) s_i) in [0, 1].

    r_i is the distance in pixels from the i-th centre; centres are distinct pixels. The normaliser is that of one
    dimension, as published, and each image is shifted and scaled so that its darkest pixel is 0 and its brightest 1.
    """
    centres = random.Random(config.placement_seed).sample(range(config.size**2), config.blobs)
    rows = torch.arange(config.size, dtype=torch.float64)
    grid = torch.cartesian_prod(rows, rows)
    squared_distance = ((grid[:, None] - grid[centres]) ** 2).sum(2)

    def image(width: Tensor) -> Tensor:
        bell = torch.exp(-squared_distance / (2 * width**2))
        raw = (bell / (math.sqrt(2 * math.pi) * width)).sum(1)
        return (raw - raw.amin()) / (raw.amax() - raw.amin())

    return image


def _shaped(x: Tensor, config: SquaresConfig | BlobsConfig) -> Tensor:
    return x if config.flatten else x.reshape(-1, 1, config.size, config.size)
