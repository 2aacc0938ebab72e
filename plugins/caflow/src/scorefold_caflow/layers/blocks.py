"""Blocks of flows: a squeeze, and steps of normalisation, channel mixing and coupling, given a condition or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scorefold_caflow.flow.config import StepsConfig
from scorefold_caflow.layers.mixing import AffineInjector, HaarBands, Mixing, at_pixels, channels_last
from scorefold_caflow.layers.mixture import MixtureCoupling
from scorefold_caflow.layers.recompute import recomputed
from scorefold_toolkit.nn import (
    AffineCoupling,
    Bijection,
    Chain,
    ConvConditioner,
    Householder,
    LULinear,
    Squeeze,
    coupling_halves,
    lu_matrices,
)


class Steps(Chain):
    """A ``Chain`` whose mixings have one number of channels: making matrices layer by layer, in many small operations,
    takes an eighth of a training step and a fifth of a draw of small images. Its layers one by one give the same."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        maps, total = self._maps(x, inverse=False)
        for place, layer in enumerate(self):
            if place in maps:
                x = at_pixels(x, *maps[place])
            else:
                x, log_det = layer(x, condition)
                total = total + log_det
        return x, total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        maps, total = self._maps(z, inverse=True)
        for place, layer in reversed(list(enumerate(self))):
            if place in maps:
                z = at_pixels(z, *maps[place])
            else:
                z, log_det = layer.inverse(z, condition)
                total = total + log_det
        return z, total

    def _maps(self, x: Tensor, *, inverse: bool) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        """The matrix (C, C) and shift (C,) of each mixing by its place, and log |det| of all of them on images x."""
        mixings = {place: layer for place, layer in enumerate(self) if isinstance(layer, Mixing)}
        if not mixings:
            return {}, x.new_zeros(())
        scale = torch.stack([mixing.norm.log_scale for mixing in mixings.values()])
        shift = torch.stack([mixing.norm.shift for mixing in mixings.values()])
        linears = [mixing.linear for mixing in mixings.values()]
        log_det = scale.sum() + torch.stack([linear.log_abs_det() for linear in linears]).sum()
        matrix = _matrices(linears, inverse=inverse)
        if inverse:
            back = (-scale).exp()
            matrix, shift, log_det = back[:, :, None] * matrix, -back * shift, -log_det
        else:
            matrix, shift = matrix * scale.exp()[:, None], (matrix @ shift[:, :, None]).squeeze(2)
        maps = zip(matrix.unbind(), shift.unbind(), strict=True)
        return dict(zip(mixings, maps, strict=True)), log_det * (x.shape[2] * x.shape[3])


def _matrices(linears: Sequence[LULinear | Householder], *, inverse: bool) -> Tensor:
    lu = [linear for linear in linears if isinstance(linear, LULinear)]
    if lu:
        return lu_matrices(lu, inverse=inverse)
    return torch.stack([linear.inverse_matrix() if inverse else linear.matrix() for linear in linears])


class FlowBlock(Bijection):
    """A squeeze of (B, C, H, W) to (B, 4C, H/2, W/2), and steps on that, given a condition (B, K, H/2, W/2) or none.

    Every step is a normalisation, a mixing of channels, with ``injector`` an affine injector of the condition, and a
    coupling whose network sees the half that stays and the condition. ``adapter`` is the number of channels that one
    convolution brings the condition to for all steps.
    """

    def __init__(
        self,
        channels: int,
        config: StepsConfig,
        *,
        condition: int = 0,
        injector: bool = False,
        adapter: int | None = None,
        squeeze: str = "pixels",
        recompute: str = "no",
    ) -> None:
        super().__init__()
        self.squeeze: Bijection = HaarBands() if squeeze == "haar" else Squeeze()
        channels = 4 * channels
        self.recompute = recompute
        self.adapter = nn.Conv2d(condition, adapter, 3, padding=1) if adapter and condition else None
        seen = adapter if self.adapter is not None and adapter else condition
        layers: list[Bijection] = []
        for _ in range(config.transitions):
            layers.append(_mixing(channels, config))
        for _ in range(config.steps):
            layers.append(_mixing(channels, config))
            if injector and seen:
                layers.append(AffineInjector(_Injecting(seen, 2 * channels, config.hidden), bound=config.bound))
            layers.append(_coupling(channels, config, seen))
        self.steps = Steps(layers)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, condition = channels_last(self.squeeze(x)[0]), self._adapted(condition)
        if self.training and torch.is_grad_enabled() and len(self.steps.layers):
            if self.recompute == "checkpoint":
                answer = checkpoint(self.steps, x, condition, use_reentrant=False)
                return cast("tuple[Tensor, Tensor]", answer)
            if self.recompute == "inverse":
                return recomputed(self.steps, x, condition)
        z, log_det = self.steps(x, condition)
        return z, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self.steps.inverse(channels_last(z), self._adapted(condition))
        return self.squeeze.inverse(x)[0], log_det

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.steps.initialise(channels_last(self.squeeze(x)[0]), self._adapted(condition))

    def _adapted(self, condition: Tensor | None) -> Tensor | None:
        if condition is None:
            return None
        condition = channels_last(condition)
        return condition if self.adapter is None else self.adapter(condition)


class _Injecting(nn.Module):
    """A condition (B, K, H, W) to (B, out, H, W), 0 at the start."""

    def __init__(self, condition: int, out: int, hidden: int) -> None:
        super().__init__()
        self.network = ConvConditioner(condition, out, hidden)

    def forward(self, condition: Tensor) -> Tensor:
        answer: Tensor = self.network(condition)
        return answer


def _mixing(channels: int, config: StepsConfig) -> Mixing:
    return Mixing(channels, LULinear(channels) if config.linear == "lu" else Householder(channels))


def _coupling(channels: int, config: StepsConfig, condition: int) -> Bijection:
    kept, moved = coupling_halves(channels, False)
    if config.coupling == "mixture":
        out = (2 + 3 * config.components) * moved
        network = ConvConditioner(kept, out, config.hidden, condition=condition)
        return MixtureCoupling(channels, network, components=config.components, bound=config.bound)
    network = ConvConditioner(kept, 2 * moved, config.hidden, condition=condition)
    return AffineCoupling(channels, network, bound=config.bound)
