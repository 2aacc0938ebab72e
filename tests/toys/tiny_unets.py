"""The smallest U-Net of diffusers that tests of several plugins share."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DModel


def tiny_unet(**changes: Any) -> UNet2DModel:
    """A U-Net of two levels for images of 8 x 8 pixels, with weights of one seed."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 2,
        "out_channels": 2,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "add_attention": False,
    }
    return UNet2DModel(**{**settings, **changes}).eval()
