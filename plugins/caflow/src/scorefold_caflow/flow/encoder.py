"""The multi-scale flow that turns an image into its latents: f_Y of the condition, f_W of the event."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scorefold_caflow.config.flows import EncoderConfig
from scorefold_caflow.layers.blocks import Block

Latents = list[Tensor]
"""The latents of an image, the coarsest first: entry i is (B, C_i, H_i, W_i)."""


class Encoder(nn.Module):
    """An image (B, C, H, W) to its latents, the coarsest first, and log |det|.

    At each scale a block halves the image; the first half of its channels is the scale's latent and the second half
    goes on, all of it at the last scale. Scale s = 1 .. n, from the finest, has the latent (2^s C, H / 2^s, W / 2^s),
    the last one twice as many channels.
    """

    def __init__(
        self, shape: tuple[int, ...], scales: int, config: EncoderConfig, *, squeeze: str, recompute: str
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(shape[0] * 2**scale, config, squeeze=squeeze, recompute=recompute) for scale in range(scales)
        )

    def forward(self, x: Tensor) -> tuple[Latents, Tensor]:
        latents: Latents = []
        total = x.new_zeros(())
        for block in self.blocks:
            x, log_det = block(x)
            total = total + log_det
            if len(latents) + 1 < len(self.blocks):
                latent, x = x.chunk(2, 1)
                latents.append(latent)
        return [x, *reversed(latents)], total

    def inverse(self, latents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The image of its latents, and log |det| of this direction."""
        x, *finer = latents
        total = x.new_zeros(())
        for scale, block in enumerate(reversed(self._blocks())):
            if scale:
                x = torch.cat((finer[scale - 1], x), 1)
            x, log_det = block.inverse(x)
            total = total + log_det
        return x, total

    def initialise(self, x: Tensor) -> Latents:
        """The latents, with what starts from data set by a batch of images."""
        latents: Latents = []
        for block in self._blocks():
            x = block.initialise(x)
            if len(latents) + 1 < len(self.blocks):
                latent, x = x.chunk(2, 1)
                latents.append(latent)
        return [x, *reversed(latents)]

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


def latent_shapes(shape: tuple[int, ...], scales: int) -> tuple[tuple[int, int, int], ...]:
    """The shapes of the latents of an image (C, H, W), the coarsest first."""
    channels, height, width = shape
    each = [(channels * 2**s, height // 2**s, width // 2**s) for s in range(1, scales + 1)]
    coarsest, *finer = reversed(each)
    return ((2 * coarsest[0], *coarsest[1:]), *finer)
