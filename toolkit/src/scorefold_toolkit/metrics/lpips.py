"""LPIPS: the distance of two images in the features of a network (Zhang, Isola, Efros, Shechtman and Wang 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.errors import ShapeError
from scorefold_toolkit.metrics.weights import read_weights

NetworkName = Literal["AlexNet", "VGG-16"]


@dataclass(frozen=True)
class _Layers:
    """``convolutions`` are (position in torchvision's ``features``, in, out, kernel, stride, padding); a max-pool
    (kernel, stride) precedes those at ``pooled``; ``read`` are those whose rectified features count."""

    convolutions: tuple[tuple[int, int, int, int, int, int], ...]
    pooled: tuple[int, ...]
    pool: tuple[int, int]
    read: tuple[int, ...]
    smallest: int
    backbone: str
    heads: str


_VGG_WIDTHS = (
    (0, 3, 64),
    (2, 64, 64),
    (5, 64, 128),
    (7, 128, 128),
    (10, 128, 256),
    (12, 256, 256),
    (14, 256, 256),
    (17, 256, 512),
    (19, 512, 512),
    (21, 512, 512),
    (24, 512, 512),
    (26, 512, 512),
    (28, 512, 512),
)
_NETWORKS: dict[NetworkName, _Layers] = {
    "AlexNet": _Layers(
        (
            (0, 3, 64, 11, 4, 2),
            (3, 64, 192, 5, 1, 2),
            (6, 192, 384, 3, 1, 1),
            (8, 384, 256, 3, 1, 1),
            (10, 256, 256, 3, 1, 1),
        ),
        pooled=(3, 6),
        pool=(3, 2),
        read=(0, 3, 6, 8, 10),
        smallest=31,
        backbone="torchvision's state dict of AlexNet, alexnet-owt-7be5be79.pth",
        heads="the linear heads of the lpips package, weights/v0.1/alex.pth",
    ),
    "VGG-16": _Layers(
        tuple((place, inside, outside, 3, 1, 1) for place, inside, outside in _VGG_WIDTHS),
        pooled=(5, 10, 17, 24),
        pool=(2, 2),
        read=(2, 7, 14, 21, 28),
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
    that are something else, ``ShapeError`` for images of fewer than 31 (VGG-16: 16) pixels a side.

    >>> LPIPS("alexnet.pth", "alex.pth")  # raises, where the published weights are not at hand
    Traceback (most recent call last):
    scorefold.errors.DataError: there is no file alexnet.pth; expected torchvision's state dict of AlexN...
      weights are read from files, never fetched
    """

    def __init__(self, backbone: str | Path, heads: str | Path, network: NetworkName = "AlexNet") -> None:
        super().__init__()
        self.network = network
        self._layers = layers = _NETWORKS[network]
        shapes: dict[str, tuple[int, ...]] = {}
        for place, inside, outside, kernel, _, _ in layers.convolutions:
            shapes[f"features.{place}.weight"] = (outside, inside, kernel, kernel)
            shapes[f"features.{place}.bias"] = (outside,)
        weights = read_weights(backbone, shapes, layers.backbone)
        read = [row[2] for row in layers.convolutions if row[0] in layers.read]
        widths = {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(read)}
        linear = read_weights(heads, widths, layers.heads)
        self.convolutions = nn.ModuleList()
        for place, inside, outside, kernel, stride, padding in layers.convolutions:
            layer = nn.Conv2d(inside, outside, kernel, stride, padding, device="meta")
            own = {name: weights[f"features.{place}.{name}"] for name in ("weight", "bias")}
            layer.load_state_dict(own, assign=True)
            self.convolutions.append(layer)
        self.heads = nn.ParameterList([linear[name].reshape(-1) for name in widths])
        self.requires_grad_(False).eval()

    def features(self, x: Tensor) -> list[Tensor]:
        """The five maps of images (B, 3, H, W) in [0, 1], each normalised over its channels."""
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x = (2 * x - 1 - shift) / scale
        maps = []
        for (place, *_), layer in zip(self._layers.convolutions, self.convolutions, strict=True):
            x = functional.relu(
                layer(functional.max_pool2d(x, *self._layers.pool) if place in self._layers.pooled else x)
            )
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
