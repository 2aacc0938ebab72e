"""Networks of images by name: features for Frechet distances, and LPIPS."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.artefacts import load_arrays
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_toolkit.checks import require_finite
from scorefold_toolkit.libraries import library


def read_weights(path: str | Path, shapes: Mapping[str, tuple[int, ...]], what: str) -> dict[str, Tensor]:
    """The tensors of these names and shapes from a state dict, a ``.safetensors`` file or one that torch wrote.

    Other tensors in the file are left alone, and no code in it is run. ``what`` says what the file should be. Raises
    ``DataError`` for a file that is missing, can't be read, or lacks a tensor, and ``ArtefactError`` for tensors that
    are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}; expected {what}", hint="weights are read from files, never fetched")
    try:
        state = (
            load_arrays(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise DataError(f"{path} can't be read as a state dict: {error}", hint=f"it should be {what}") from error
    if not isinstance(state, Mapping):
        raise DataError(f"{path} holds a {type(state).__name__}; expected a state dict", hint=f"it should be {what}")
    for name, shape in shapes.items():
        found = state.get(name)
        if not isinstance(found, Tensor) or tuple(found.shape) != tuple(shape):
            have = f"of shape {tuple(found.shape)}" if isinstance(found, Tensor) else "missing"
            raise DataError(f"{path}: {name} is {have}; expected {tuple(shape)}", hint=f"it should be {what}")
    found = {name: state[name] for name in shapes}
    require_finite(found, path)
    return found


FeatureName = Literal["pixels", "random-conv", "inception", "published-inception"]

LARGEST = 4096
"""The largest number of features that ``pixels`` gives."""

_SEED = 20210713

_CACHED = 2**15
"""Pixels of images that ``RandomConv`` looks at together on a CPU."""


class Pixels(nn.Module):
    """The numbers of an event themselves, (B, *E) to (B, D). Raises ``ConfigError`` for more than 4096 of them."""

    def forward(self, x: Tensor) -> Tensor:
        if x[0:1].numel() > LARGEST:
            raise ConfigError(
                f"{x[0:1].numel()} pixels are too many for features; their covariance is too large from {LARGEST} on",
                hint="features: random-conv",
            )
        return x.reshape(len(x), -1)


class RandomConv(nn.Module):
    """A small convolutional network whose weights are random and always the same: images (B, C, H, W) to (B, 64).

    Three 3 x 3 convolutions (32, 64 and 16 channels, leaky rectifiers, the mean of 2 x 2 pixels between them where
    there are as many), then the means over the four quarters of the image. Nothing was learned: it separates textures,
    edges and where they lie, and knows no objects. Its distances compare models on small images with each other,
    at equal sample sizes, and with no number of any paper.
    """

    width = 64

    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        for number, (inside, outside) in enumerate(itertools.pairwise((channels, 32, 64, 16))):
            weight = torch.randn(outside, inside, 3, 3, generator=generator) * (2 / (9 * inside)) ** 0.5
            self.register_buffer(f"weight{number}", weight)
            self.register_buffer(f"bias{number}", 0.1 * torch.randn(outside, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        # A processor takes half the time for parts whose values stay in its cache.
        most = max(1, _CACHED // x.shape[2:].numel()) if x.device.type == "cpu" else max(1, len(x))
        return torch.cat([self._features(part) for part in x.split(most)])

    def _features(self, x: Tensor) -> Tensor:
        x = 2 * x.to(self.get_buffer("weight0")) - 1
        for number in range(3):
            if number and min(x.shape[2:]) >= 4:
                x = _halved(x)
            weight, bias = self.get_buffer(f"weight{number}"), self.get_buffer(f"bias{number}")
            x = functional.leaky_relu(functional.conv2d(x, weight, bias, padding=1), 0.2)
        return functional.adaptive_avg_pool2d(x, 2).flatten(1)


def _halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels of images (N, C, H, W), in less time than ``avg_pool2d`` takes on a CPU."""
    height, width = (size // 2 * 2 for size in x.shape[2:])
    rows = x[:, :, :height:2, :width] + x[:, :, 1:height:2, :width]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


class Inception(nn.Module):
    """The 2048 features of Inception-v3's last pooling, images (B, 1 or 3, H, W) in [0, 1] to (B, 2048).

    ``weights`` is torchvision's state dict (inception_v3_google-0cc3c7bd.pth), a file at hand. Images are brought to
    299 x 299 pixels bilinearly with antialiasing. Published FIDs use another set of weights of the same network and
    other resizing, so these distances compare with each other, not with them. Raises ``DataError`` for a file that is
    something else, ``ScorefoldError`` without torchvision.
    """

    width = 2048

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        with library("inception", "scorefold-toolkit[images]"):
            from torchvision.models import inception_v3
        with torch.device("meta"):  # nothing is drawn for weights that are about to be replaced
            network = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False)
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        what = "torchvision's state dict of Inception-v3, inception_v3_google-0cc3c7bd.pth"
        network.load_state_dict(read_weights(weights, shapes, what), assign=True)
        network.fc = nn.Identity()
        self.network = network.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(next(self.network.parameters()).dtype).expand(-1, 3, -1, -1)
        x = functional.interpolate(x, (299, 299), mode="bilinear", antialias=True, align_corners=False)
        found: Tensor = self.network(2 * x - 1)
        return found


class PublishedInception(nn.Module):
    """The 2048 features of published FIDs, images (B, 1 or 3, H, W) in [0, 1] to (B, 2048).

    ``weights`` is the state dict of pytorch-fid, pt_inception-2015-12-05-6726825d.pth, a file at hand. The network is
    Inception-v3 with 1008 classes as it was first trained: its average pools of 3 x 3 do not count the padding, and the
    last block takes the largest of 3 x 3 in its place. Images are brought to 299 x 299 pixels bilinearly without
    antialiasing. Raises ``DataError`` for a file that is something else, ``ScorefoldError`` without torchvision.
    """

    width = 2048

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        with library("published-inception", "scorefold-toolkit[images]"):
            from torchvision.models import inception_v3
        with torch.device("meta"):  # nothing is drawn for weights that are about to be replaced
            network = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008)
        network.transform_input = False
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        what = "pytorch-fid's state dict of Inception-v3, pt_inception-2015-12-05-6726825d.pth"
        network.load_state_dict(read_weights(weights, shapes, what), assign=True)
        network.fc = nn.Identity()
        for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c"):
            block = getattr(network, f"Mixed_{name}")
            block.branch_pool = _Pooled(block.branch_pool, largest=name == "7c")
            block.register_forward_pre_hook(block.branch_pool.keep)
        self.network = network.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(next(self.network.parameters()).dtype).expand(-1, 3, -1, -1)
        x = functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        found: Tensor = self.network(2 * x - 1)
        return found


class _Pooled(nn.Module):
    """The last branch of a block of torchvision's network, which gets the block's input pooled, with another pool."""

    def __init__(self, branch: nn.Module, *, largest: bool) -> None:
        super().__init__()
        self.branch, self.largest = branch, largest
        self._kept: Tensor | None = None

    def keep(self, block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keeps what the block gets, before it runs."""
        self._kept = inputs[0]

    def forward(self, pooled: Tensor) -> Tensor:
        x, self._kept = self._kept, None
        assert x is not None
        if self.largest:
            x = functional.max_pool2d(x, 3, stride=1, padding=1)
        else:
            x = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        found: Tensor = self.branch(x)
        return found


def feature_network(name: FeatureName, channels: int, *, weights: str | Path | None = None) -> nn.Module:
    """A feature network by name, for events in [0, 1]; ``weights`` is the file that ``inception`` or
    ``published-inception`` reads.

    Raises ``ConfigError`` for an unknown name and for these two without a file.
    """
    if name == "pixels":
        return Pixels()
    if name == "random-conv":
        return RandomConv(channels)
    if name in ("inception", "published-inception"):
        if weights is None:
            file = "torchvision's inception_v3_google-0cc3c7bd.pth"
            raise ConfigError(
                f"{name} reads its weights from a file at hand, and none was named",
                hint="give the path of "
                + (file if name == "inception" else "pytorch-fid's pt_inception-2015-12-05-6726825d.pth"),
            )
        return Inception(weights) if name == "inception" else PublishedInception(weights)
    raise ConfigError(f"there are no features {name!r}; expected pixels, random-conv, inception or published-inception")


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
    torchvision publishes it (alexnet-owt-7be5be79.pth, vgg16-397923af.pth), ``heads`` a state dict of the lpips
    package (weights/v0.1/alex.pth, vgg.pth). Both are files at hand: nothing is downloaded. Raises ``DataError`` for
    files that are something else, ``ScorefoldError`` without torchvision, ``ShapeError`` for images of fewer than 31
    (VGG-16: 16) pixels a side.

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
