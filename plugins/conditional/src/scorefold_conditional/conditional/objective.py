"""The joint denoising loss of an event and its condition, each diffused at its own speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from scorefold.diffusion import Schedule, expand
from scorefold_toolkit.config.common import WeightingConfig
from scorefold_toolkit.score_matching.losses import as_weighting, noise_weight


@dataclass(frozen=True)
class Block:
    """One diffused tensor: the residual eps-hat - z (B, *shape) of its noise at times t (B,), and its schedule.

    ``spread`` is the standard deviation of its clean coordinates. ``weight`` (B,) scales the rows of the block, 0 for
    those that were not shown.
    """

    residual: Tensor
    schedule: Schedule
    spread: float | Tensor = 1.0
    weight: Tensor | None = None


def joint_loss(blocks: Mapping[str, Block], t: Tensor, weighting: WeightingConfig | str) -> dict[str, Tensor]:
    """The loss of each point by block, (B,): the loss is their sum.

    With s - s* = -(eps-hat - z) / b for each block,

    - ``likelihood``: 1/2 g^2 ||s - s*||^2, each block with its own dispersion g, which is 1/2 ||G^T (s - s*)||^2 for
      the joint diffusion with G = diag(g_x, g_y); its integral over time bounds the joint negative log-likelihood up
      to a constant (Batzolis et al. 2021, theorem 2).
    - ``sigma2``: ||eps-hat - z||^2.
    - all others: the same, times ``noise_weight`` at the block's own noise over its spread, over the number of
      coordinates of all blocks together, so that the sum is a mean.
    """
    weighting = as_weighting(weighting)
    coordinates = sum(block.residual[:1].numel() for block in blocks.values())
    losses = {}
    for name, block in blocks.items():
        signal, scale = block.schedule.signal_scale(t)
        if weighting.name == "likelihood":
            factor = (block.schedule.rates(t)[1] / scale) ** 2 / 2
        else:
            factor = noise_weight(weighting, scale / (signal * block.spread))
        squares = (expand(factor, block.residual) * block.residual**2)[..., None].flatten(1).sum(1)
        loss = squares if weighting.sums else squares / max(1, coordinates)
        losses[name] = loss if block.weight is None else block.weight * loss
    return losses
