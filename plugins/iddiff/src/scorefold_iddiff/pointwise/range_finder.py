"""Tangent spaces in high dimensions, from few calls: an adaptive block sketch of the range of P = I + sigma^2 J.

P has rank k, about, so b > k random directions put through it span its range (Halko, Martinsson and Tropp 2011). P v
comes from central differences of the expected noise, two calls a direction. All points go through the rounds together
and those that are done drop out, so that the calls of the score stay large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.seeds import derive_generator
from scorefold_iddiff.pointwise.spectra import Expectation, responses

BLOCK = 16
"""Directions a round. One round does where they exceed the dimension by ``SPARE``."""

STEP = 3.0
"""The size of the difference in units of the noise: tangent steps of sqrt(D), the size of the noise itself, would leave
a curved manifold."""

SPARE = 3
"""Directions beyond the tangent ones that a last round must have: a block that these fill to the brim mixes them with
what a learned score leaves on normal directions, and misses the last."""

_REFINEMENTS = 4
"""Further applications of P to a block, at most, until the count above 1/2 stays."""


@dataclass(frozen=True)
class Range:
    """Result at one point: Ritz values (m,), descending, of the projector on the directions looked at, their
    orthonormal vectors (D, m), and the calls of the score.
    """

    values: Tensor
    vectors: Tensor
    calls: int


def find_ranges(
    expected_noise: Expectation,
    points: Tensor,
    *,
    ambient: int,
    floor: float,
    seed: int,
    like: Tensor,
    block: int = BLOCK,
) -> Iterator[Range]:
    """The range of the projector at points (P,), one after another.

    Each round takes ``block`` random directions orthogonal to what was found, from ``seed`` alone and the same for all
    points, and applies P twice. Where ``SPARE`` Ritz values (the projector's eigenvalues on the block's span) are
    below ``floor``, the range is used up and the point is done; if others are between ``floor`` and 1 - ``floor``, P is
    first applied further, until the number of values above 1/2 stays. A floor above the values that a learned score
    leaves on normal directions ends the search in time.
    """
    sketch = _Sketch(expected_noise, ambient, seed, like)
    done: dict[int, Range] = {}
    active, basis = points, like.new_zeros(len(points), ambient, 0, dtype=_real(like))
    images, calls, number = basis, torch.zeros(len(points), dtype=torch.long), 0
    while len(active):
        width = min(block, ambient - basis.shape[2])
        directions, image = sketch.block(active, basis, number, width)
        calls += 4 * width
        values = _ritz(directions, image)
        all_seen = basis.shape[2] + width == ambient
        ended = (values < floor).sum(1) >= (0 if all_seen else min(SPARE, width))
        unclear = ended & ((values > floor) & (values < 1 - floor)).any(1)
        if bool(unclear.any()):
            rows = unclear.nonzero()[:, 0]
            refined = sketch.refine(active[rows.cpu()], basis[rows], directions[rows], image[rows])
            directions[rows], image[rows] = refined[:2]
            calls[rows.cpu()] += refined[2]
            ended[rows] = (_ritz(*refined[:2]) < floor).sum(1) >= (0 if all_seen else min(SPARE, width))
        basis, images = torch.cat([basis, directions], 2), torch.cat([images, image], 2)
        for row in ended.nonzero()[:, 0].tolist():
            done[int(active[row])] = _combine(basis[row], images[row], int(calls[row]))
        left = (~ended).nonzero()[:, 0]
        active, calls = active[left.cpu()], calls[left.cpu()]
        basis, images, number = basis[left], images[left], number + 1
    for point in points.tolist():
        yield done[point]


class _Sketch:
    """P around points, applied to blocks of directions."""

    def __init__(self, expected_noise: Expectation, ambient: int, seed: int, like: Tensor) -> None:
        self.expected_noise, self.ambient, self.seed, self.like = expected_noise, ambient, seed, like

    def apply(self, points: Tensor, directions: Tensor) -> Tensor:
        """P V for orthonormal V (P, D, b), in at least float32."""
        noise = (STEP * directions.mT).to(self.like.dtype)
        odd, _ = responses(self.expected_noise, points, noise, paired=True)
        return directions - odd.mT.to(directions.dtype) / STEP

    def block(self, points: Tensor, basis: Tensor, number: int, width: int) -> tuple[Tensor, Tensor]:
        """An orthonormal block (P, D, width) in the range of P, orthogonal to the basis, and its image under P."""
        generator = derive_generator(self.seed, "range", number, device=self.like.device)
        shape = (self.ambient, width)
        random = torch.randn(shape, generator=generator, dtype=basis.dtype, device=basis.device)
        start = _orthonormal(random.expand(len(points), -1, -1), basis)
        block = _orthonormal(self.apply(points, start), basis)
        return block, self.apply(points, block)

    def refine(self, points: Tensor, basis: Tensor, block: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The block after further powers of P, its image, and the calls at each point."""
        calls = torch.zeros(len(points), dtype=torch.long)
        unsure = torch.arange(len(points))
        for _ in range(_REFINEMENTS):
            counts = (_ritz(block[unsure], image[unsure]) > 0.5).sum(1)
            block[unsure] = _orthonormal(image[unsure], basis[unsure])
            image[unsure] = self.apply(points[unsure], block[unsure])
            calls[unsure] += 2 * block.shape[2]
            stays = (_ritz(block[unsure], image[unsure]) > 0.5).sum(1) == counts
            unsure = unsure[~stays.cpu()]
            if not len(unsure):
                break
        return block, image, calls


def _real(like: Tensor) -> torch.dtype:
    """The dtype of decompositions: half precision has none."""
    return torch.promote_types(like.dtype, torch.float32)


def _orthonormal(directions: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of directions (P, D, b) after taking out what lies in ``basis`` (P, D, m); twice, as one
    pass leaves rounding behind."""
    for _ in range(2):
        directions = torch.linalg.qr(directions - basis @ (basis.mT @ directions)).Q
    return directions


def _ritz(block: Tensor, image: Tensor) -> Tensor:
    """The eigenvalues of the symmetric part of B^T P B, descending: (P, b)."""
    product = block.mT @ image
    values: Tensor = torch.linalg.eigvalsh((product + product.mT) / 2)
    return values.flip(-1)


def _combine(basis: Tensor, images: Tensor, calls: int) -> Range:
    product = basis.mT @ images
    values, vectors = torch.linalg.eigh((product + product.mT) / 2)
    return Range(values.flip(0).double().cpu(), basis @ vectors.flip(1), calls)
