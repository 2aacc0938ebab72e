"""Small networks: conditioners of couplings, pieces of larger ones, and the loss at a noise level.

All are smooth unless ``relu`` is asked for, since geometries differentiate flows twice. The last layer of a
conditioner starts at 0, so that a coupling starts as the identity.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import ConditionSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Network
from scorefold_toolkit.config.common import WeightingConfig

Activation = Literal["silu", "relu", "tanh", "gelu", "elu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "elu": functional.elu,
}
_OVERWRITING: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}
"""Those whose derivative is known from their result: they may overwrite their argument, which saves memory and time."""
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    **_OVERWRITING,
    "silu": partial(functional.silu, inplace=True),
    "elu": partial(functional.elu, inplace=True),
}
"""Those that can overwrite their argument where no gradient is recorded."""


class ModuleNetwork(Network):
    """A network that builds modules of one class, ``module``, made from its config, the shapes, and what enters beside.

    >>> class Line(nn.Linear):
    ...     def __init__(self, config, in_shape, out_shape, *, time, condition):
    ...         super().__init__(*in_shape, *out_shape)
    >>> class Lines(ModuleNetwork):
    ...     module = Line
    >>> Lines(None).build((3,), (2,))
    Line(in_features=3, out_features=2, bias=True)
    """

    module: ClassVar[Callable[..., nn.Module]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        self.check(in_shape, out_shape, condition)
        return type(self).module(self.config, in_shape, out_shape, time=time, condition=condition)

    def check(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], condition: ConditionSpec | None) -> None:
        """Raises ``ConfigError`` for what the module can't serve; nothing by default."""


class ColumnLinear(nn.Linear):
    """A linear layer that also takes columns, (features, B)."""

    def columns(self, x: Tensor) -> Tensor:
        """W x + b, (out, B)."""
        # Straight from the dictionary, since looking up a module's attribute takes as long as a small operation.
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        assert weight is not None
        assert bias is not None
        return torch.addmm(bias.unsqueeze(1), weight, x)


class Conditioner(nn.Module):
    """A multilayer perceptron (B, features) to (B, out), given a condition (B, condition) or none.

    The condition enters the first layer by weights of its own. ``features`` may be 0: the result then depends on
    the condition alone, or is constant.

    >>> Conditioner(3, 5, hidden=(16,), condition=2)(torch.zeros(4, 3), torch.zeros(4, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        features: int,
        out: int,
        hidden: Sequence[int] = (64, 64),
        *,
        condition: int = 0,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.features = features
        self.activation = _OVERWRITING.get(activation, ACTIVATIONS[activation])
        sizes = [max(features, 1), *hidden, out]
        self.layers = nn.ModuleList(ColumnLinear(a, b) for a, b in itertools.pairwise(sizes))
        self.from_condition = nn.Linear(condition, sizes[1], bias=False) if condition else None
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.columns(x.T, condition).T

    def columns(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The same, with the batch last: (features, B) to (out, B). The condition is (B, condition), or none."""
        first, *others = cast("list[ColumnLinear]", self.layers)
        h = first.columns(x if self.features else x.new_zeros(1, x.shape[1]))
        if condition is not None and self.from_condition is not None:
            h = h + self.from_condition(condition).T
        for layer in others:
            h = layer.columns(self.activation(h))
        return h


class ConvConditioner(nn.Module):
    """Convolutions 3x3, 1x1, 3x3 from (B, channels, H, W) to (B, out, H, W) (Glow, Kingma and Dhariwal 2018).

    The condition is (B, condition, H, W), or (B, condition, 1, 1) where it is the same everywhere.

    >>> ConvConditioner(1, 2, hidden=8)(torch.zeros(4, 1, 6, 6)).shape
    torch.Size([4, 2, 6, 6])
    """

    def __init__(
        self,
        channels: int,
        out: int,
        hidden: int = 64,
        *,
        condition: int = 0,
        condition_kernel: int = 3,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.activation = _OVERWRITING.get(activation, ACTIVATIONS[activation])
        self.in_place = _IN_PLACE.get(activation, ACTIVATIONS[activation])
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, out, 3, padding=1)
        kernel = condition_kernel
        self.from_condition = (
            nn.Conv2d(condition, hidden, kernel, padding=kernel // 2, bias=False) if condition else None
        )
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = _convolved(self.first, x)
        if self.from_condition is not None and condition is not None:
            h = h + _convolved(self.from_condition, condition)
        # Nothing else reads what the activations take, and fresh memory for large images costs more than they do.
        activation = self.activation if torch.is_grad_enabled() else self.in_place
        return _convolved(self.last, activation(_convolved(self.middle, activation(h))))


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """layer(x), a product of matrices where that takes about half the time: of images of one pixel, which only a
    kernel's centre meets, and on a CPU of many images of 2 x 2, by the matrix from all their pixels to all."""
    weight, bias = layer.weight, layer.bias
    size, kernel = x.shape[-2:], weight.shape[-2:]
    if size == (1, 1):
        centre = weight[:, :, kernel[0] // 2, kernel[1] // 2]
        return functional.linear(x.flatten(1), centre, bias)[:, :, None, None]
    if size == (2, 2) and x.is_cpu and len(x) >= _MANY and kernel in ((1, 1), (3, 3)):
        pixels = x.permute(0, 2, 3, 1)
        if kernel == (1, 1):
            return functional.linear(pixels, weight.flatten(1), bias).permute(0, 3, 1, 2)
        taps = weight.flatten(2).permute(2, 0, 1)[_TAPS]  # pixels out, pixels in, channels out, channels in
        matrix = taps.transpose(1, 2).flatten(2).flatten(0, 1)
        z = functional.linear(pixels.flatten(1), matrix, None if bias is None else bias.repeat(4))
        return z.reshape(len(x), 2, 2, -1).permute(0, 3, 1, 2)
    answer: Tensor = layer(x)
    return answer


_MANY = 32
"""Images that are worth the making of a matrix."""
_TAPS = torch.tensor([[4, 5, 7, 8], [3, 4, 6, 7], [1, 2, 4, 5], [0, 1, 3, 4]])
"""Entry of a 3x3 kernel that maps a pixel of a 2 x 2 image (column) to a pixel of the result (row)."""


class FourierEmbedding(nn.Module):
    """Numbers t (B,) as (B, width): sines, then cosines, of 2 pi f t at width / 2 fixed frequencies f.

    The frequencies run geometrically from ``lowest`` to ``highest``. The defaults suit noise levels on a log scale, of
    order -10 to 10: over a period of 40 no two levels look alike, and a period of 1 is a factor e of noise. Raises
    ``ConfigError`` for an odd width.

    >>> FourierEmbedding(4)(torch.tensor([0.0, 1.0])).shape
    torch.Size([2, 4])
    """

    frequencies: Tensor

    def __init__(self, width: int, lowest: float = 1 / 40, highest: float = 1.0) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ConfigError(f"an embedding of width {width} was asked for; expected an even number, 2 or more")
        self.width = width
        ends = math.log10(lowest), math.log10(highest)
        frequencies = torch.logspace(*ends, width // 2, dtype=torch.float64)
        self.register_buffer("frequencies", (2 * math.pi * frequencies).to(torch.get_default_dtype()), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)


class ResidualBlock(nn.Module):
    """h + W2 a(W1 a(h) + V c) on (B, width), with a context c (B, context) or none.

    W2 starts at 0, so a stack of blocks starts as the identity. ``dropout`` is the share of units that training drops
    before W2.

    >>> ResidualBlock(8, context=3)(torch.zeros(2, 8), torch.zeros(2, 3)).shape
    torch.Size([2, 8])
    """

    def __init__(self, width: int, *, context: int = 0, activation: Activation = "silu", dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.first = nn.Linear(width, width)
        self.from_context = nn.Linear(context, width, bias=False) if context else None
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        inner = self.first(self.activation(h))
        if self.from_context is not None and context is not None:
            inner = inner + self.from_context(context)
        change: Tensor = self.second(self.dropout(self.activation(inner)))
        return h + change


class LossUncertainty(nn.Module):
    """v(u), the logarithm of the expected loss at levels u = ln(sigma / s) (B,), as (B,): 0 at the start.

    Losses L are trained as L e^-v + v, whose least v is ln E[L | u], so that every level pulls alike (Karras et al.
    2024, EDM2).

    >>> import torch
    >>> LossUncertainty()(torch.tensor([-2.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = FourierEmbedding(32, highest=0.25)
        self.last = nn.Linear(32, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, level: Tensor) -> Tensor:
        v: Tensor = self.last(self.embedding(level.to(self.last.weight)))
        return v[:, 0]


def loss_uncertainty(weighting: WeightingConfig) -> LossUncertainty | None:
    """Module that the weighting ``uncertainty`` trains; None for other weightings."""
    return LossUncertainty() if weighting.name == "uncertainty" else None
