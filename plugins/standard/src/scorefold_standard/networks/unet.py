"""diffusers' U-Net behind the network contract."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from scorefold_standard.config.networks import UNetConfig
from scorefold_standard.networks.images import ImageNetwork, OfImages
from scorefold_toolkit.libraries import library


class ImageUNet(ImageNetwork):
    """x (B, *in_shape) to (B, *out_shape) by ``UNet2DModel``; see ``ImageNetwork`` for sizes and conditions."""

    def core(self, config: UNetConfig, given: int, out: int, embedded: bool) -> nn.Module:
        with library("network:unet", "scorefold-standard[images]"):
            from diffusers import UNet2DModel  # five seconds to import, so only where one is built

        attends = [level in config.attention for level in range(len(config.channels))]
        unet = UNet2DModel(
            in_channels=given,
            out_channels=out,
            block_out_channels=config.channels,
            down_block_types=tuple("AttnDownBlock2D" if attended else "DownBlock2D" for attended in attends),
            up_block_types=tuple("AttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(attends)),
            layers_per_block=config.blocks,
            norm_num_groups=config.groups,
            dropout=config.dropout,
            attention_head_dim=config.groups,
            add_attention=bool(config.attention),
            class_embed_type="identity" if embedded else None,
        )
        # A zero output to begin with: training starts from what the caller adds it to.
        nn.init.zeros_(unet.conv_out.weight)
        nn.init.zeros_(unet.conv_out.bias)
        return cast(nn.Module, unet)

    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        return cast(Tensor, self.unet(x, _timestep(level), class_labels=labels, return_dict=False)[0])


def _timestep(level: Tensor) -> Tensor:
    """A log noise level of -10 to 10 on the scale 0 to 1000 that the U-Net's sinusoidal embedding is made for."""
    return 50 * (level + 10)


class UNet(OfImages):
    """Builds ``ImageUNet`` modules for images (C, H, W) or (H, W).

    >>> import torch
    >>> from scorefold_registry import Host
    >>> unet = Host.discover().create("network:unet", {"channels": [8, 8], "groups": 4})
    >>> network = unet.build((1, 8, 8), (2, 8, 8), time=True)
    >>> network(torch.zeros(4, 1, 8, 8), torch.zeros(4)).shape
    torch.Size([4, 2, 8, 8])
    """

    module = ImageUNet
