"""Layers of image flows: blocks of a squeeze and steps of normalisation, channel mixing and coupling, given a condition
or none.

Couplings are mixtures of logistics (Ho et al. 2019). Training may keep no activations and compute them back from the
output by the inverses (Gomez et al. 2017); the memory of a block is then the same at any depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scorefold_caflow.config import StepsConfig
from scorefold_toolkit.nn import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    ConvConditioner,
    Householder,
    LULinear,
    Squeeze,
    coupling_halves,
    haar_merge,
    haar_split,
    lu_matrices,
)
from scorefold_toolkit.nn.coupling import bounded


class Mixing(Bijection):
    """z = A (exp(s) x + b) at every pixel: a normalisation and a mixing of channels, as one matrix and one shift."""

    def __init__(self, channels: int, linear: LULinear | Householder) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.linear = linear

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        matrix = self.linear.matrix()
        z = at_pixels(x, matrix * self.norm.log_scale.exp(), matrix @ self.norm.shift)
        return z, self._log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        back = (-self.norm.log_scale).exp()
        x = at_pixels(z, back[:, None] * self.linear.inverse_matrix(), -back * self.norm.shift)
        return x, -self._log_det(z)

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        self.norm.initialise(x)
        return super().initialise(x, condition)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.norm.log_scale.sum() + self.linear.log_abs_det()) * (x.shape[2] * x.shape[3])


def channels_last(x: Tensor) -> Tensor:
    """Images (B, C, H, W) with a pixel's channels side by side in memory, which convolutions and products are faster
    on."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def at_pixels(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """matrix (K, C) times the channels of x (B, C, H, W), plus shift (K,)."""
    return functional.linear(x.permute(0, 2, 3, 1), matrix, shift).permute(0, 3, 1, 2)


class AffineInjector(Bijection):
    """z = x exp(s) + t on all channels, with s and t from the condition alone (Lugmayr et al. 2020).

    ``conditioner(condition)`` gives (B, 2 C, H, W): raw log-scales, then shifts. Log-scales are s = bound tanh(raw).
    """

    bound: Tensor

    def __init__(self, conditioner: nn.Module, *, bound: float = 1.0) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.register_buffer("bound", torch.tensor(bound), persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(condition)
        return x * log_scale.exp() + shift, log_scale.sum((1, 2, 3))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(condition)
        return (z - shift) * (-log_scale).exp(), -log_scale.sum((1, 2, 3))

    def _scale_and_shift(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = self.conditioner(condition).chunk(2, 1)
        return bounded(raw, self.bound), shift


class HaarBands(Bijection):
    """Images (B, C, H, W) to (B, 4C, H/2, W/2): the four Haar bands, each of C channels, the finest first.

    The first half of the channels is detail and the last quarter the coarse picture, so that what a scale finishes
    first is the detail. Orthonormal.
    """

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.cat(haar_split(x)[::-1], 1), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        both, along_height, along_width, coarse = z.chunk(4, 1)
        return haar_merge(coarse, along_width, along_height, both), z.new_zeros(())


_BISECTIONS = 60
_NEWTON = 2  # enough for second derivatives
_PARTS = 3  # raw weights, means, log-deviations of a component


class MixtureCoupling(Bijection):
    """The second half of the channels moved by z = exp(s) logit(F(x)) + t, parameters from the first half.

    F is the distribution function of a mixture of ``components`` logistics. ``conditioner(kept, condition)`` gives
    (B, (2 + 3 components) moved, H, W). At parameters 0 the components are equal but for their means, which are spread
    over [-1, 1] so that training can separate them. The inverse is searched for by bisection, and finished by
    Newton's steps, which carry its derivatives.
    """

    offsets: Tensor

    def __init__(self, features: int, conditioner: nn.Module, *, components: int = 4, bound: float = 1.0) -> None:
        super().__init__()
        self.kept, self.moved = coupling_halves(features, False)
        self.components, self.bound, self.conditioner = components, bound, conditioner
        offsets = torch.linspace(-1, 1, components) if components > 1 else torch.zeros(1)
        self.register_buffer("offsets", offsets.reshape(-1, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = x.split((self.kept, self.moved), 1)
        log_scale, shift, mixture = self._mixture(kept, condition)
        value, log_slope = _logit_of_mixture(moved, *mixture)
        z = torch.cat((kept, torch.addcmul(shift, value, log_scale.exp())), 1)
        return z, (log_slope + log_scale).flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = z.split((self.kept, self.moved), 1)
        log_scale, shift, mixture = self._mixture(kept, condition)
        target = (moved - shift) * (-log_scale).exp()
        x, log_slope = _invert(target, *mixture)
        return torch.cat((kept, x), 1), -(log_slope + log_scale).flatten(1).sum(1)

    def _mixture(self, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        raw = self.conditioner(kept, condition)
        log_scale, shift, mixture = raw.split((self.moved, self.moved, _PARTS * self.components * self.moved), 1)
        weights, means, deviations = mixture.unflatten(1, (_PARTS, self.components, self.moved)).unbind(1)
        return (
            bounded(log_scale, self.bound),
            shift,
            (weights.log_softmax(1), means + self.offsets, bounded(deviations, self.bound)),
        )


def _logit_of_mixture(x: Tensor, log_weights: Tensor, means: Tensor, log_deviations: Tensor) -> tuple[Tensor, Tensor]:
    """logit(F(x)) and the logarithm of its slope, of the shape of x (B, C, H, W); parameters (B, K, C, H, W)."""
    scaled = (x[:, None] - means) * (-log_deviations).exp()
    below, above = functional.logsigmoid(scaled), functional.logsigmoid(-scaled)
    log_cdf = torch.logsumexp(log_weights + below, 1)
    log_rest = torch.logsumexp(log_weights + above, 1)
    log_density = torch.logsumexp(log_weights + below + above - log_deviations, 1)
    return log_cdf - log_rest, log_density - log_cdf - log_rest


def _invert(target: Tensor, *mixture: Tensor) -> tuple[Tensor, Tensor]:
    """The x with logit(F(x)) = target, and the logarithm of the slope there."""
    _, means, log_deviations = mixture
    with torch.no_grad():
        # logit(F) lies between the components' logits, so x lies between the components' solutions.
        answers = means + log_deviations.exp() * target[:, None]
        low, high = answers.amin(1), answers.amax(1)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            above = _logit_of_mixture(middle, *mixture)[0] > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    x = (low + high) / 2
    for _ in range(_NEWTON):
        value, log_slope = _logit_of_mixture(x, *mixture)
        x = x + (target - value) * (-log_slope).exp()
    return x, _logit_of_mixture(x, *mixture)[1]


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


def recomputed(chain: Chain, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
    """chain(x, condition), its gradient by inversion. It can be differentiated once."""
    parameters = [parameter for parameter in chain.parameters() if parameter.requires_grad]
    z, log_det = _Recomputed.apply(chain, x, condition, *parameters)  # type: ignore[no-untyped-call]
    return z, log_det


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chain: Chain, x: Tensor, condition: Tensor | None, *parameters: Tensor) -> Any:
        z, log_det = chain(x, condition)
        ctx.chain, ctx.parameters, ctx.conditioned = chain, parameters, condition is not None
        ctx.save_for_backward(z, *([] if condition is None else [condition]))
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> Any:
        z, *rest = ctx.saved_tensors
        condition = rest[0].detach().requires_grad_() if ctx.conditioned else None
        totals = {id(parameter): torch.zeros_like(parameter) for parameter in ctx.parameters}
        of_condition = None if condition is None else torch.zeros_like(condition)
        for layer in reversed(list(ctx.chain)):
            z, grad_z, gained = _back(layer, z.detach(), condition, grad_z, grad_log_det)
            for parameter, gradient in gained:
                if parameter is condition:
                    assert of_condition is not None
                    of_condition += gradient
                else:
                    totals[id(parameter)] += gradient
        return None, grad_z, of_condition, *(totals[id(parameter)] for parameter in ctx.parameters)


def _back(
    layer: Bijection, z: Tensor, condition: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """A layer's input, the gradient there, and what its parameters and the condition gain."""
    with torch.no_grad():
        x = layer.inverse(z, condition)[0]
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        answer, log_det = layer(point, condition)
        wanted = [point, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
        if condition is not None:
            wanted.append(condition)
        values, grads = [answer], [grad_z]
        if log_det.requires_grad:
            values.append(log_det)
            grads.append(grad_log_det if log_det.shape == grad_log_det.shape else grad_log_det.sum())
        found = torch.autograd.grad(values, wanted, grads, allow_unused=True)
    gained = [(tensor, gradient) for tensor, gradient in zip(wanted, found, strict=True) if gradient is not None]
    own = found[0]
    assert own is not None
    return x, own, gained[1:]
