"""LPIPS: the distance of two images in the features of AlexNet (Zhang, Isola, Efros, Shechtman and Wang 2018)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.errors import ShapeError
from scorefold_toolkit.metrics.weights import read_weights

# (position in torchvision's `features`, in, out, kernel, stride, padding); a max-pool precedes the second and third.
_CONVOLUTIONS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
_POOLED = (3, 6)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 31
"""The least height and width that AlexNet's layers leave a pixel of."""


class LPIPS(nn.Module):
    """The perceptual distance of images x and y (B, 1 or 3, H, W) in [0, 1]: (B,), 0 for equal ones.

    Features after each of AlexNet's five rectified convolutions are normalised over channels, and their squared
    differences weighted by the linear heads and averaged over pixels (version 0.1, equation 1 of the paper). Grey
    images count as three equal channels. ``alexnet`` is a state dict as torchvision publishes it
    (alexnet-owt-7be5be79.pth), ``heads`` that of the lpips package (weights/v0.1/alex.pth); both are files at hand,
    for nothing is downloaded. Raises ``DataError`` for files that are something else, ``ShapeError`` for images of
    fewer than 31 pixels a side.

    >>> LPIPS("alexnet.pth", "alex.pth")  # raises, where the published weights are not at hand
    Traceback (most recent call last):
    scorefold.errors.DataError: there is no file alexnet.pth; expected torchvision's state dict of AlexN...
      weights are read from files, never fetched
    """

    def __init__(self, alexnet: str | Path, heads: str | Path) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {}
        for place, inside, outside, kernel, _, _ in _CONVOLUTIONS:
            shapes[f"features.{place}.weight"] = (outside, inside, kernel, kernel)
            shapes[f"features.{place}.bias"] = (outside,)
        backbone = read_weights(alexnet, shapes, "torchvision's state dict of AlexNet, alexnet-owt-7be5be79.pth")
        widths = {f"lin{i}.model.1.weight": (1, row[2], 1, 1) for i, row in enumerate(_CONVOLUTIONS)}
        linear = read_weights(heads, widths, "the linear heads of the lpips package, weights/v0.1/alex.pth")
        self.convolutions = nn.ModuleList()
        for place, inside, outside, kernel, stride, padding in _CONVOLUTIONS:
            layer = nn.Conv2d(inside, outside, kernel, stride, padding, device="meta")
            weights = {name: backbone[f"features.{place}.{name}"] for name in ("weight", "bias")}
            layer.load_state_dict(weights, assign=True)
            self.convolutions.append(layer)
        self.heads = nn.ParameterList([linear[name].reshape(-1) for name in widths])
        self.requires_grad_(False).eval()

    def features(self, x: Tensor) -> list[Tensor]:
        """The five maps of images (B, 3, H, W) in [0, 1], each normalised over its channels."""
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x = (2 * x - 1 - shift) / scale
        maps = []
        for (place, *_), layer in zip(_CONVOLUTIONS, self.convolutions, strict=True):
            x = functional.relu(layer(functional.max_pool2d(x, 3, 2) if place in _POOLED else x))
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape or x.dim() != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < SMALLEST:
            raise ShapeError(
                f"images of shapes {tuple(x.shape)} and {tuple(y.shape)} were compared by LPIPS; expected the same "
                f"(B, 1 or 3, H, W) with H and W at least {SMALLEST}"
            )
        dtype = self.heads[0].dtype
        pairs = zip(*(self.features(one.to(dtype).expand(-1, 3, -1, -1)) for one in (x, y)), self.heads, strict=True)
        parts = [((a - b).square() * head[:, None, None]).sum(1).mean((1, 2)) for a, b, head in pairs]
        return torch.stack(parts).sum(0)
