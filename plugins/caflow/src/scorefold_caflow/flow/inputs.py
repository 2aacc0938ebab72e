"""Events and conditions as an image flow reads them: units and bounds of events, images and vectors of conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, EventScale, TensorSpec
from scorefold.errors import ConfigError
from scorefold.random import draw_normal
from scorefold_toolkit.nn import (
    AffineCoupling,
    Bijection,
    Chain,
    ConvConditioner,
    LULinear,
    Squeeze,
    StandardNormal,
    coupling_halves,
    named_parts,
    named_specs,
)
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


class Standardise(Bijection):
    """(x - mean) / std. Raises ``ConfigError`` unless the deviation is a finite number above 0."""

    def __init__(self, scale: EventScale) -> None:
        super().__init__()
        if not 0 < scale.std < math.inf:
            raise ConfigError(
                f"the events' deviation is {scale.std:g}; expected a finite number above 0",
                hint="look for values in the data that are not finite, or for events that are all the same",
            )
        self.scale, self.std = scale, scale.std

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.scale.middle(x)) / self.std, x.new_tensor(-x[:1].numel() * math.log(self.std))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.std + self.scale.middle(z), z.new_tensor(z[:1].numel() * math.log(self.std))


class Logit(Bijection):
    """logit((1 - margin) u + margin / 2) with u = (x - low) / (high - low), over the range of dequantised data.

    With levels, that range is half a level wider at either end. Beyond it the map goes on along its tangent, so that
    it is invertible everywhere: draws may leave the range, and what lies there has a density. Raises ``ConfigError``
    for data without bounds, or whose bounds are one number.
    """

    def __init__(self, scale: EventScale, margin: float) -> None:
        super().__init__()
        if scale.low is None or scale.high is None:
            raise ConfigError(
                "preprocess: logit takes data with bounds, and these have none", hint="preprocess: standardise"
            )
        if not scale.low < scale.high:
            raise ConfigError(
                f"preprocess: logit takes data with low below high; these lie between {scale.low:g} and {scale.high:g}",
                hint="preprocess: standardise",
            )
        half = 0.0 if scale.levels is None else (scale.high - scale.low) / (scale.levels - 1) / 2
        self.low, self.range, self.margin = scale.low - half, scale.high - scale.low + 2 * half, margin
        self.end = math.log((1 - margin / 2) / (margin / 2))
        self.slope = (1 - margin) / (margin / 2 * (1 - margin / 2))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = (x - self.low) / self.range
        within = u.clamp(0, 1)
        # Each end from its own side: 1 minus a number close to 1 has no digits left in float32.
        below, above = (((1 - self.margin) * share + self.margin / 2).log() for share in (within, 1 - within))
        constant = x[:1].numel() * math.log((1 - self.margin) / self.range)
        return below - above + self.slope * (u - within), constant - (below + above).flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        within = z.clamp(-self.end, self.end)
        below, above = functional.logsigmoid(within), functional.logsigmoid(-within)
        u = (within.sigmoid() - self.margin / 2) / (1 - self.margin) + (z - within) / self.slope
        constant = z[:1].numel() * math.log(self.range / (1 - self.margin))
        return self.low + self.range * u, constant + (below + above).flatten(1).sum(1)


def preprocessing(name: str, scale: EventScale, margin: float) -> Bijection:
    """The layer by the name that a config uses."""
    return Logit(scale, margin) if name == "logit" else Standardise(scale)


_STEPS = 4


class Dequantiser(nn.Module):
    """The distribution q(u | x) of noise u in (0, 1) for images x (B, C, H, W) brought to unit size: u = sigmoid(f(e;
    x)), e normal.

    It starts as sigmoid of a normal distribution mixed over the pixels of a cell.
    """

    def __init__(self, shape: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        channels = 4 * shape[0]
        self.squeeze = Squeeze()
        kept, moved = coupling_halves(channels, False)
        self.steps = Chain(
            layer
            for _ in range(_STEPS)
            for layer in (
                LULinear(channels),
                AffineCoupling(channels, ConvConditioner(kept, 2 * moved, hidden, condition=channels), bound=1.0),
            )
        )
        self.base = StandardNormal()

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """u (B, C, H, W), and log q(u | x) (B,)."""
        noise = draw_normal(tuple(x.shape), generator=generator, like=x)
        raw, log_det = self.steps(self.squeeze(noise)[0], self.squeeze(x)[0])
        raw = self.squeeze.inverse(raw)[0]
        return raw.sigmoid(), self.base.log_prob(noise) - log_det - _log_slope(raw)

    def log_prob(self, u: Tensor, x: Tensor) -> Tensor:
        """log q(u | x), (B,), of noise u (B, C, H, W) in (0, 1)."""
        raw = u.log() - torch.log1p(-u)
        noise, log_det = self.steps.inverse(self.squeeze(raw)[0], self.squeeze(x)[0])
        return self.base.log_prob(noise) + log_det - _log_slope(raw)


def _log_slope(raw: Tensor) -> Tensor:
    """log |det d sigmoid(raw) / d raw|, (B,)."""
    slope: Tensor = functional.logsigmoid(raw) + functional.logsigmoid(-raw)
    return slope.flatten(1).sum(1)
