"""The condition of an image flow: one image of all its image parts, and a vector of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold_toolkit.nn import named_parts, named_specs
from scorefold_toolkit.nn.conditions import as_vector, vector_width


class SplitCondition(nn.Module):
    """A condition (B rows) as an image (B, C, H, W) and a vector (B, width), None where there is no such part.

    Parts of three dimensions are images, joined by their channels; a map of classes among them has a channel for each
    class. They keep their size where all have the same and ``size`` is None; otherwise each is brought to ``size``, or
    to the largest of them, by ``fitted``. Other classes become one-hot codes. The image is centred and brought to unit
    size by ``mean`` and ``std``, which ``measure`` takes from data, once: the buffer ``measured`` is part of the state.
    """

    mean: Tensor
    std: Tensor
    measured: Tensor

    def __init__(self, spec: ConditionSpec | None, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.spec = spec
        specs = named_specs(spec)
        self.images = {name: one for name, one in specs.items() if _is_image(one)}
        self.vectors = {name: one for name, one in specs.items() if name not in self.images}
        sizes = {one.shape[1:] for one in self.images.values()}
        largest = (max((s[0] for s in sizes), default=0), max((s[1] for s in sizes), default=0))
        self.size = size if size is not None else largest
        channels = sum(resized_channels(one.shape, self.size) * (one.classes or 1) for one in self.images.values())
        self.image_shape = (channels, *self.size) if self.images else None
        self.width = sum(vector_width(one) for one in self.vectors.values())
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.register_buffer("measured", torch.tensor(False))

    def forward(self, condition: Condition | None, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The two, on the device and in the dtype of ``like``. Raises ``ShapeError`` where the condition does not
        fit."""
        parts = named_parts(self.spec, condition)
        image = self._image(parts, like)
        vectors = [as_vector(parts[name], one, like) for name, one in self.vectors.items()]
        if image is not None:
            image = (image - self.mean) / self.std
        return image, torch.cat(vectors, 1) if vectors else None

    @torch.no_grad()
    def measure(self, condition: Condition | None, like: Tensor) -> None:
        """Takes mean and deviation of each channel from some conditions; a channel that never changes keeps 1, whatever
        its units. Done once: later calls change nothing, so that a model that is trained on keeps what it computes."""
        image = self._image(named_parts(self.spec, condition), like)
        if image is None or not len(image) or bool(self.measured):
            return
        std, mean = torch.std_mean(image.double(), (0, 2, 3), correction=0)
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0)[:, None, None])
        self.measured.fill_(True)

    def _image(self, parts: dict[str, Tensor], like: Tensor) -> Tensor | None:
        images = [resized_condition(_as_image(parts[name], one, like), self.size) for name, one in self.images.items()]
        return torch.cat(images, 1) if images else None


def resized_condition(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) at another size (h, w), as little lost as can be: where h and w divide H and W, the pixels of
    a cell become channels, (B, C H/h W/w, h, w); otherwise the nearest pixel, (B, C, h, w)."""
    cell = _cell(tuple(x.shape[-2:]), size)
    if cell is None:
        return functional.interpolate(x, size, mode="nearest")
    return rearrange(x, "b c (h dy) (w dx) -> b (c dy dx) h w", dy=cell[0], dx=cell[1])


def resized_channels(shape: Sequence[int], size: tuple[int, int]) -> int:
    """The channels of ``fitted`` for images (C, H, W)."""
    channels, *of = shape
    return channels * math.prod(_cell(tuple(of), size) or (1,))


def _cell(of: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int] | None:
    if any(mine % new for mine, new in zip(of, size, strict=True)):
        return None
    return of[0] // size[0], of[1] // size[1]


def _is_image(spec: TensorSpec) -> bool:
    return len(spec.shape) == 3


def _as_image(part: Tensor, spec: TensorSpec, like: Tensor) -> Tensor:
    """An image (B, C, H, W), or a map of classes as one-hot codes (B, C classes, H, W)."""
    if spec.classes is None:
        return part.to(like)
    codes = part[:, :, None] == torch.arange(spec.classes, device=part.device)[:, None, None]
    return codes.flatten(1, 2).to(like)
