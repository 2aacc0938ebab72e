"""Spectra of score vectors around points, from Gram matrices that are summed as the scores come.

Notation: eps-hat = -scale score is the expected noise at y = signal x + scale z. Near the manifold eps-hat is the
normal part of z, so its covariance has eigenvalue 1 on normal and 0 on tangent directions, and regressing it on z
gives I - P with P the tangent projector. Sums are kept in float64, and the products too where they become squares
of singular values: in float32 these would have a floor of 3e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.seeds import derive_generator

NOISE_BLOCK = 256
"""Noises drawn from one seed: the noise of a point is the same however the calls of the score are cut."""

_SPLIT_ABOVE = 512
"""Coordinates from which computing only the blocks of a Gram matrix's lower triangle saves time."""

Expectation = Callable[[Tensor, Tensor], Tensor]
"""(rows (P,) of the points, noise (P, R, D)) -> eps-hat (P, R, D)."""


@dataclass
class Moments:
    """Sums over ``count`` noises z and expected noises e at P points, in float64.

    ``noise_sum``, ``response_sum`` (P, D); ``noise_gram`` sum z z^T and ``cross_gram`` sum z e^T, for the
    projector, and ``response_gram`` sum e e^T, for singular values: (P, D, D), or None where they were not asked
    for.
    """

    count: int
    noise_sum: Tensor
    response_sum: Tensor
    noise_gram: Tensor | None
    cross_gram: Tensor | None
    response_gram: Tensor | None

    @classmethod
    def zeros(cls, points: int, ambient: int, device: torch.device, *, projector: bool, singular: bool) -> Moments:
        def gram(wanted: bool) -> Tensor | None:
            return torch.zeros(points, ambient, ambient, dtype=torch.float64, device=device) if wanted else None

        line = torch.zeros(points, ambient, dtype=torch.float64, device=device)
        return cls(0, line, line.clone(), gram(projector), gram(projector), gram(singular))

    def add(self, noise: Tensor, response: Tensor) -> None:
        """Add R noises and responses, each (P, R, D)."""
        self.count += noise.shape[1]
        self.noise_sum += noise.sum(1, dtype=torch.float64)
        self.response_sum += response.sum(1, dtype=torch.float64)
        if self.noise_gram is not None and self.cross_gram is not None:
            # The eigenvalues of the projector are of order 1 and are held against 1/2, so products in the precision of
            # the scores do; squared singular values need more.
            self.noise_gram += _lower_gram(noise)
            self.cross_gram += noise.mT @ response
        if self.response_gram is not None:
            self.response_gram += _lower_gram(response.double())


def _lower_gram(x: Tensor) -> Tensor:
    """x^T x (P, D, D) in its lower triangle at least, which is all that the factorisations here read."""
    ambient = x.shape[-1]
    if ambient < _SPLIT_ABOVE:
        return x.mT @ x
    gram = x.new_zeros(len(x), ambient, ambient)
    width = -(-ambient // 4)
    for start in range(0, ambient, width):
        end = min(start + width, ambient)
        torch.matmul(x[..., start:end].mT, x[..., :end], out=gram[:, start:end, :end])
    return gram


def gather(
    expected_noise: Expectation,
    index: Tensor,
    noises: int,
    *,
    ambient: int,
    rows: int,
    seed: int,
    like: Tensor,
    projector: bool,
    singular: bool,
) -> Iterator[Moments]:
    """The moments at N points, a group of points at a time, with at most ``rows`` noised points a call.

    ``index`` (N,) numbers the points in their data: with ``seed`` it decides their noise, in whatever company they
    are. Where one point's noises alone exceed ``rows`` they are streamed, so that (noises, D) is never held.
    """
    group = max(1, rows // noises)
    blocks_at_once = max(1, rows // NOISE_BLOCK) if group == 1 else -(-noises // NOISE_BLOCK)
    blocks = range(-(-noises // NOISE_BLOCK))
    for points in torch.arange(len(index)).split(group):
        moments = Moments.zeros(len(points), ambient, like.device, projector=projector, singular=singular)
        for start in range(0, len(blocks), blocks_at_once):
            chosen = blocks[start : start + blocks_at_once]
            noise = torch.stack(
                [_noise(seed, number, chosen, noises, like, ambient) for number in index[points].tolist()]
            )
            moments.add(noise, expected_noise(points, noise))
        yield moments


def _noise(seed: int, number: int, blocks: range, noises: int, like: Tensor, ambient: int) -> Tensor:
    """The noise of one point in some blocks, (R, D); the last block is cut at ``noises``."""
    parts = []
    for block in blocks:
        generator = derive_generator(seed, number, block, device=like.device)
        count = min(NOISE_BLOCK, noises - block * NOISE_BLOCK)
        shape = (NOISE_BLOCK, ambient)
        parts.append(torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)[:count])
    return torch.cat(parts)


def singular_values(moments: Moments, *, centred: bool) -> Tensor:
    """Singular values of the K x D matrix of expected noises over sqrt(K), descending: (P, D) in float64.

    About 1 on normal directions and 0 on tangent ones; those of the score vectors are these over the noise's scale.
    ``centred`` takes the mean vector out first, as the published code does and the paper does not say.
    """
    assert moments.response_gram is not None
    gram = moments.response_gram / moments.count
    if centred:
        mean = moments.response_sum / moments.count
        gram = gram - mean[:, :, None] * mean[:, None, :]
    squares: Tensor = torch.linalg.eigvalsh(gram)
    return squares.clamp_min(0).sqrt().flip(-1)


def projector_eigenvalues(moments: Moments) -> Tensor:
    """Eigenvalues of the fitted tangent projector, descending: (P, D) in float64; about 1 on tangent directions, 0
    on normal.

    The fit is A = argmin ||(E - mean) - (Z - mean) A|| over D x D matrices and P = I - (A + A^T) / 2. By regression
    on the noise that was really drawn, sampling error of the noise's own covariance drops out.
    """
    assert moments.noise_gram is not None
    assert moments.cross_gram is not None
    noise_mean = moments.noise_sum / moments.count
    response_mean = moments.response_sum / moments.count
    noise = moments.noise_gram / moments.count - noise_mean[:, :, None] * noise_mean[:, None, :]
    cross = moments.cross_gram / moments.count - noise_mean[:, :, None] * response_mean[:, None, :]
    slope = torch.cholesky_solve(cross, torch.linalg.cholesky(noise))
    eye = torch.eye(slope.shape[-1], dtype=slope.dtype, device=slope.device)
    eigenvalues: Tensor = torch.linalg.eigvalsh(eye - (slope + slope.mT) / 2)
    return eigenvalues.flip(-1)
