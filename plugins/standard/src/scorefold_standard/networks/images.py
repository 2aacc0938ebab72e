"""Networks of images behind the network contract: any size, classes, vectors and images as conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_standard.networks.mlp import ConditionEmbedding
from scorefold_toolkit.nn import ModuleNetwork, named_parts, named_specs


class ImageNetwork(nn.Module, ABC):
    """x (B, *in_shape) to (B, *out_shape) by a network whose levels halve an image.

    Conditions with the height and width of the image are concatenated to it as channels; classes and other tensors are
    embedded and added to the embedding of the noise level. Sizes that the levels can't halve evenly are padded at the
    lower and right edge by repeating it, and cut again.
    """

    def __init__(
        self,
        config: Any,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.time = time
        self.spec = condition
        size = tuple(in_shape[-2:])
        specs = named_specs(condition)
        self.images = {name: spec for name, spec in specs.items() if _is_image(spec, size)}
        others = {name: spec for name, spec in specs.items() if name not in self.images}
        stride = 2 ** (len(config.channels) - 1)
        self.padding = (0, -size[1] % stride, 0, -size[0] % stride)
        given = _channels(in_shape) + sum(_channels(spec.shape) for spec in self.images.values())
        self.unet = self.core(config, given, _channels(out_shape), bool(others))
        self.embedding = ConditionEmbedding(others, 4 * config.channels[0]) if others else None

    @abstractmethod
    def core(self, config: Any, given: int, out: int, embedded: bool) -> nn.Module:
        """The network on ``given`` and ``out`` channels; ``embedded`` says that conditions come as vectors (B, 4 C)
        besides, with C the channels of the finest level."""

    @abstractmethod
    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Output of ``core`` for images (B, given, H, W), log noise levels (B,) and embedded conditions."""

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
        out = self.answer(padded, level, labels)
        return out[..., : size[0], : size[1]].reshape(-1, *self.out_shape)


def _is_image(spec: TensorSpec, size: tuple[int, ...]) -> bool:
    return spec.classes is None and len(spec.shape) in (2, 3) and tuple(spec.shape[-2:]) == size


def _channels(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 3 else 1


def _as_image(x: Tensor) -> Tensor:
    """(B, C, H, W), with one channel where x is (B, H, W)."""
    return x[:, None] if x.dim() == 3 else x


class OfImages(ModuleNetwork):
    """Builds modules for images (C, H, W) or (H, W) that keep their size."""

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
