"""LPIPS: the distance of two images in the features of a network (Zhang, Isola, Efros, Shechtman and Wang 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from scorefold.errors import ShapeError
from scorefold_toolkit.libraries import library
from scorefold_toolkit.metrics.features import read_weights

NetworkName = Literal["AlexNet", "VGG-16"]


@dataclass(frozen=True)
class _Layers:
    """A network of torchvision by its name there: ``read`` are the rectifiers of its ``features`` whose values count,
    of so many channels, for images of ``smallest`` pixels a side and more."""

    name: str
    read: Mapping[int, int]
    smallest: int
    backbone: str
    heads: str


_NETWORKS: dict[NetworkName, _Layers] = {
    "AlexNet": _Layers(
        "alexnet",
        read={1: 64, 4: 192, 7: 384, 9: 256, 11: 256},
        smallest=31,
        backbone="torchvision's state dict of AlexNet, alexnet-owt-7be5be79.pth",
        heads="the linear heads of the lpips package, weights/v0.1/alex.pth",
    ),
    "VGG-16": _Layers(
        "vgg16",
        read={3: 64, 8: 128, 15: 256, 22: 512, 29: 512},
        smallest=16,
        backbone="torchvision's state dict of VGG-16, vgg16-397923af.pth",
        heads="the linear heads of the lpips package, weights/v0.1/vgg.pth",
    ),
}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """The perceptual distance of images x and y (B, 1 or 3, H, W) in [0, 1]: (B,), 0 for equal ones.

    Rectified features of AlexNet's five convolutions, or of the last convolution of each of VGG-16's five blocks, are
    normalised over channels, and their squared differences weighted by the linear heads and averaged over pixels
    (version 0.1, equation 1 of the paper). Grey images count as three equal channels. ``backbone`` is a state dict as
    torchvision publishes it (alexnet-owt-7be5be79.pth, vgg16-397923af.pth), ``heads`` that of the lpips package
    (weights/v0.1/alex.pth, vgg.pth); both are files at hand, for nothing is downloaded. Raises ``DataError`` for files
    that are something else, ``ScorefoldError`` without torchvision, ``ShapeError`` for images of fewer than 31 (VGG-16:
    16) pixels a side.

    >>> LPIPS("alexnet.pth", "alex.pth")  # raises, where the published weights are not at hand
    Traceback (most recent call last):
    scorefold.errors.DataError: there is no file alexnet.pth; expected torchvision's state dict of AlexN...
      weights are read from files, never fetched
    """

    def __init__(self, backbone: str | Path, heads: str | Path, network: NetworkName = "AlexNet") -> None:
        super().__init__()
        self.network = network
        self._layers = layers = _NETWORKS[network]
        with library("lpips", "scorefold-toolkit[images]"):
            from torchvision import models
        with torch.device("meta"):  # nothing is drawn for weights that are about to be replaced
            whole = getattr(models, layers.name)(weights=None)
        shapes = {f"features.{name}": tuple(tensor.shape) for name, tensor in whole.features.state_dict().items()}
        weights = read_weights(backbone, shapes, layers.backbone)
        found = whole.features
        found.load_state_dict({name.removeprefix("features."): weights[name] for name in shapes}, assign=True)
        self.layers = found[: max(layers.read) + 1]
        widths = {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(layers.read.values())}
        linear = read_weights(heads, widths, layers.heads)
        self.heads = nn.ParameterList([linear[name].reshape(-1) for name in widths])
        self.requires_grad_(False).eval()

    def features(self, x: Tensor) -> list[Tensor]:
        """The five maps of images (B, 3, H, W) in [0, 1], each normalised over its channels."""
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x = (2 * x - 1 - shift) / scale
        maps = []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if place in self._layers.read:
                maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape or x.dim() != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < self._layers.smallest:
            raise ShapeError(
                f"images of shapes {tuple(x.shape)} and {tuple(y.shape)} were compared by LPIPS; expected the same "
                f"(B, 1 or 3, H, W) with H and W at least {self._layers.smallest}"
            )
        dtype = self.heads[0].dtype
        pairs = zip(*(self.features(one.to(dtype).expand(-1, 3, -1, -1)) for one in (x, y)), self.heads, strict=True)
        parts = [((a - b).square() * head[:, None, None]).sum(1).mean((1, 2)) for a, b, head in pairs]
        return torch.stack(parts).sum(0)
