"""The joint denoising loss of an event and its condition, each diffused at its own speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from scorefold.diffusion import Schedule, Weighting, expand


@dataclass(frozen=True)
class Block:
    """One diffused tensor: the residual eps-hat - z (B, *shape) of its noise at times t (B,), and its schedule.

    ``weight`` (B,) scales the rows of the block, 0 for those that were not shown.
    """

    residual: Tensor
    schedule: Schedule
    weight: Tensor | None = None


def joint_loss(blocks: Mapping[str, Block], t: Tensor, weighting: Weighting) -> dict[str, Tensor]:
    """The loss of each point by block, (B,): the loss is their sum.

    With s - s* = -(eps-hat - z) / b for each block,

    - ``likelihood``: 1/2 g^2 ||s - s*||^2, each block with its own dispersion g, which is 1/2 ||G^T (s - s*)||^2 for
      the joint diffusion with G = diag(g_x, g_y); its integral over time bounds the joint negative log-likelihood up
      to a constant (Batzolis et al. 2021, theorem 2).
    - ``sigma2``: ||eps-hat - z||^2.
    - ``simple``: the same over the number of coordinates of all blocks together, so that the sum is a mean.
    """
    coordinates = sum(block.residual[:1].numel() for block in blocks.values())
    losses = {}
    for name, block in blocks.items():
        factor = None
        if weighting == "likelihood":
            factor = block.schedule.rates(t)[1] / block.schedule.signal_scale(t)[1]
        weighted = block.residual if factor is None else expand(factor, block.residual) * block.residual
        square = (weighted**2)[..., None].flatten(1).sum(1)
        if weighting == "likelihood":
            square = square / 2
        elif weighting == "simple":
            square = square / max(1, coordinates)
        losses[name] = square if block.weight is None else block.weight * square
    return losses
