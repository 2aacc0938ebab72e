"""diffusers' U-Net behind the network contract: images of any size, classes, vectors and images as conditions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_standard.config.networks import UNetConfig
from scorefold_standard.networks.embedding import ConditionEmbedding
from scorefold_toolkit.libraries import library
from scorefold_toolkit.nn import ModuleNetwork, named_parts, named_specs


class ImageUNet(nn.Module):
    """x (B, *in_shape) to (B, *out_shape) by ``UNet2DModel``.

    Conditions with the height and width of the image are concatenated to it as channels; classes and other tensors are
    embedded and added to the embedding of the noise level. Sizes that the levels can't halve evenly are padded at the
    lower and right edge by repeating it, and cut again.
    """

    def __init__(
        self,
        config: UNetConfig,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> None:
        super().__init__()
        with library("network:unet", "scorefold-standard[images]"):
            from diffusers import UNet2DModel  # five seconds to import, so only where one is built

        self.out_shape = tuple(out_shape)
        self.time = time
        self.spec = condition
        size = tuple(in_shape[-2:])
        specs = named_specs(condition)
        self.images = {name: spec for name, spec in specs.items() if _is_image(spec, size)}
        others = {name: spec for name, spec in specs.items() if name not in self.images}
        stride = 2 ** (len(config.channels) - 1)
        self.padding = (0, -size[1] % stride, 0, -size[0] % stride)
        attends = [level in config.attention for level in range(len(config.channels))]
        self.unet = UNet2DModel(
            in_channels=_channels(in_shape) + sum(_channels(spec.shape) for spec in self.images.values()),
            out_channels=_channels(out_shape),
            block_out_channels=config.channels,
            down_block_types=tuple("AttnDownBlock2D" if attended else "DownBlock2D" for attended in attends),
            up_block_types=tuple("AttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(attends)),
            layers_per_block=config.blocks,
            norm_num_groups=config.groups,
            dropout=config.dropout,
            attention_head_dim=config.groups,
            add_attention=bool(config.attention),
            class_embed_type="identity" if others else None,
        )
        # A zero output to begin with: training starts from what the caller adds it to.
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)
        self.embedding = ConditionEmbedding(others, 4 * config.channels[0]) if others else None

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        if self.time and t is None:
            raise ConfigError("the network was built with a time and got none")
        tensors = named_parts(self.spec, condition)
        image = _as_image(x)
        size = image.shape[-2:]
        channels = [image, *(_as_image(tensors[name]).to(image.dtype) for name in self.images)]
        padded = functional.pad(torch.cat(channels, dim=1), self.padding, mode="replicate")
        labels = None if self.embedding is None else self.embedding(tensors)
        level = x.new_zeros(x.shape[0]) if t is None else t.expand(x.shape[0])
        out = self.unet(padded, _timestep(level), class_labels=labels, return_dict=False)[0]
        return cast(Tensor, out[..., : size[0], : size[1]].reshape(-1, *self.out_shape))


def _timestep(level: Tensor) -> Tensor:
    """A log noise level of -10 to 10 on the scale 0 to 1000 that the U-Net's sinusoidal embedding is made for."""
    return 50 * (level + 10)


def _is_image(spec: TensorSpec, size: tuple[int, ...]) -> bool:
    return spec.classes is None and len(spec.shape) in (2, 3) and tuple(spec.shape[-2:]) == size


def _channels(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 3 else 1


def _as_image(x: Tensor) -> Tensor:
    """(B, C, H, W), with one channel where x is (B, H, W)."""
    return x[:, None] if x.dim() == 3 else x


class UNet(ModuleNetwork):
    """Builds ``ImageUNet`` modules for images (C, H, W) or (H, W).

    >>> from scorefold_registry import Host
    >>> unet = Host.discover().create("network:unet", {"channels": [8, 8], "groups": 4})
    >>> network = unet.build((1, 8, 8), (2, 8, 8), time=True)
    >>> network(torch.zeros(4, 1, 8, 8), torch.zeros(4)).shape
    torch.Size([4, 2, 8, 8])
    """

    module = ImageUNet

    def check(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], condition: ConditionSpec | None) -> None:
        for name, shape in (("in", in_shape), ("out", out_shape)):
            if len(shape) not in (2, 3):
                raise ConfigError(
                    f"a U-Net takes images (C, H, W) or (H, W); the shape of what goes {name} is {tuple(shape)}",
                    hint="use network:mlp for vectors",
                )
        if in_shape[-2:] != out_shape[-2:]:
            raise ConfigError(
                f"a U-Net keeps the size of an image; asked for {in_shape[-2:]} in and {out_shape[-2:]} out"
            )
