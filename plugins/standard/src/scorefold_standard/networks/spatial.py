"""Networks of images and signals behind the network contract: any size, and classes, vectors and maps as conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_standard.networks.mlp import ConditionEmbedding
from scorefold_toolkit.nn import ModuleNetwork, named_parts, named_specs


class SpatialNetwork(nn.Module, ABC):
    """x (B, *in_shape) to (B, *out_shape) by a network along the last axes of an event: two of images, one of signals.

    Conditions with the size of the event are concatenated to it as channels; classes and other tensors are embedded and
    added to the embedding of the noise level. Sizes that are no multiples of ``multiple`` are padded at the end of each
    axis by repeating its last value, and cut again.
    """

    axes: ClassVar[int] = 2
    """Number of axes behind the channels: 2 of images (C, H, W), 1 of signals (C, L)."""

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
        size = tuple(in_shape[-self.axes :])
        specs = named_specs(condition)
        self.maps = {name: spec for name, spec in specs.items() if self._is_map(spec, size)}
        others = {name: spec for name, spec in specs.items() if name not in self.maps}
        multiple = self.multiple(config)
        self.padding = [end for length in reversed(size) for end in (0, -length % multiple)]
        given = self._channels(in_shape) + sum(self._channels(spec.shape) for spec in self.maps.values())
        self.unet = self.core(config, given, self._channels(out_shape), bool(others))
        self.embedding = ConditionEmbedding(others, self.width(config)) if others else None

    def multiple(self, config: Any) -> int:
        """The number that the size of an event has to be a multiple of: each level but the finest halves it."""
        return int(2 ** (len(config.channels) - 1))

    def width(self, config: Any) -> int:
        """Length of the embedding of noise levels and conditions."""
        return int(4 * config.channels[0])

    @abstractmethod
    def core(self, config: Any, given: int, out: int, embedded: bool) -> nn.Module:
        """The network on ``given`` and ``out`` channels; ``embedded`` says that conditions come as vectors (B, width)
        besides."""

    @abstractmethod
    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Output of ``core`` for padded events (B, given, *size), log noise levels (B,) and embedded conditions."""

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        if self.time and t is None:
            raise ConfigError("the network was built with a time and got none")
        tensors = named_parts(self.spec, condition)
        event = self._with_channels(x)
        channels = [event, *(self._with_channels(tensors[name]).to(event.dtype) for name in self.maps)]
        padded = functional.pad(torch.cat(channels, dim=1), self.padding, mode="replicate")
        labels = None if self.embedding is None else self.embedding(tensors)
        level = x.new_zeros(x.shape[0]) if t is None else t.expand(x.shape[0])
        out = self.answer(padded, level, labels)
        for axis, length in enumerate(event.shape[2:], start=2):
            out = out.narrow(axis, 0, length)
        return out.reshape(-1, *self.out_shape)

    def _is_map(self, spec: TensorSpec, size: tuple[int, ...]) -> bool:
        shaped = len(spec.shape) in (self.axes, self.axes + 1)
        return spec.classes is None and shaped and tuple(spec.shape[-self.axes :]) == size

    def _channels(self, shape: tuple[int, ...]) -> int:
        return shape[0] if len(shape) > self.axes else 1

    def _with_channels(self, x: Tensor) -> Tensor:
        """(B, C, *size), with one channel where x is (B, *size)."""
        return x[:, None] if x.dim() == 1 + self.axes else x


class OfMaps(ModuleNetwork):
    """Builds modules for events that keep their size: images (C, H, W) or (H, W), signals (C, L) or (L,)."""

    takes: ClassVar[str] = "images (C, H, W) or (H, W)"

    def check(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], condition: ConditionSpec | None) -> None:
        axes = type(self).module.axes  # type: ignore[attr-defined]
        for name, shape in (("in", in_shape), ("out", out_shape)):
            if len(shape) not in (axes, axes + 1):
                raise ConfigError(
                    f"this network takes {self.takes}; the shape of what goes {name} is {tuple(shape)}",
                    hint="leave network out, which chooses one by the shape, or use network:mlp for vectors",
                )
        if in_shape[-axes:] != out_shape[-axes:]:
            raise ConfigError(
                f"this network keeps the size of an event; asked for {in_shape[-axes:]} in and {out_shape[-axes:]} out"
            )
