"""Couplings by mixtures of logistics (Ho et al. 2019, Flow++): z = scale * logit(F(x)) + shift, F a mixture's
distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_toolkit.nn import Bijection, coupling_halves
from scorefold_toolkit.nn.coupling import bounded

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
        # logit(F) lies between those of the components, so x lies between their own answers.
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
