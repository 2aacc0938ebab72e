"""Mixtures whose parts share their variances: several modes, and every map of the geometry still exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scorefold.data import Condition
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold.random import draw_normal, draw_uniform
from scorefold_pullback.config.flows import MixtureConfig
from scorefold_toolkit.nn import Quadratic


class SharedMixture(nn.Module, Quadratic):
    """sum_k weights_k N(offsets_k, A), A = diag(variances), over latents of one event shape.

    As a potential it is the quadratic of A around the mean of the offsets: the metric of the mixture,
    diag((sum_k w_k(z) / a)^2) with w_k(z) the share of part k at z, is A^-2 everywhere, as all parts have the same A.
    """

    offsets: Tensor
    log_weights: Tensor
    std: Tensor

    def __init__(self, event_shape: tuple[int, ...], offsets: Tensor, weights: Tensor, variances: Tensor) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.register_buffer("offsets", offsets.reshape(-1, *event_shape))
        self.register_buffer("log_weights", (weights / weights.sum()).log())
        self.register_buffer("std", variances.sqrt().reshape(event_shape))

    @property
    def centre(self) -> Tensor:
        """The mean, (*E)."""
        mean: Tensor = torch.tensordot(self.log_weights.exp(), self.offsets, dims=1)
        return mean

    def covariance(self) -> Tensor:
        """B = A + the weighted covariance of the offsets, (D, D): that of the mixture."""
        apart = (self.offsets - self.centre).flatten(1)
        between = (self.log_weights.exp()[:, None] * apart).mT @ apart
        return self.std.flatten().square().diag() + between

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        standard = ((z[:, None] - self.offsets) / self.std).flatten(2).square().sum(2)
        constant = self.std.log().sum() + 0.5 * math.log(2 * math.pi) * self.std.numel()
        return torch.logsumexp(self.log_weights - 0.5 * standard, dim=1) - constant

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        shares = self.log_weights.exp().cumsum(0)[:-1]
        part = torch.searchsorted(shares, draw_uniform(shape[:1], generator=generator, like=like))
        return self.offsets[part] + self.std * draw_normal(shape, generator=generator, like=like)

    def whiten(self, z: Tensor) -> Tensor:
        return (z - self.centre) / self.std

    def unwhiten(self, w: Tensor) -> Tensor:
        return w * self.std + self.centre

    def grad(self, x: Tensor) -> Tensor:
        return self.whiten(x) / self.std

    def grad_inverse(self, y: Tensor) -> Tensor:
        return self.unwhiten(y * self.std)

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return v / self.std.square()


class Mixture(Flow):
    """The map of another flow with a mixture of normal distributions that share their variances as its base.

    Nothing is trained here. Raises ``ConfigError`` for offsets or variances of another size than the flow's events, and
    for a flow with conditions.

    >>> from scorefold_registry import Host
    >>> line = {"use": "flow:identity", "config": {"event_shape": [1]}}
    >>> two = Host.discover().create("flow:mixture", {"offsets": [[-5.0], [5.0]], "variances": [1.0]}, flow=line)
    >>> two.log_prob(torch.tensor([[-5.0], [0.0], [5.0]])).exp().detach().round(decimals=3)
    tensor([0.1990, 0.0000, 0.1990])
    """

    def __init__(self, config: MixtureConfig, *, flow: Flow, dtype: torch.dtype | None = None) -> None:
        size = math.prod(flow.event_shape)
        if len(config.variances) != size:
            raise ConfigError(
                f"variances has {len(config.variances)} numbers and offsets rows of as many; the flow has events "
                f"{flow.event_shape}, {size} coordinates"
            )
        if flow.condition_spec is not None:
            raise ConfigError("a mixture takes no conditions, and this flow does", hint="plug in a flow without")
        offsets = torch.tensor(config.offsets, dtype=torch.float64)
        weights = torch.tensor(config.weights or (1.0,) * len(offsets), dtype=torch.float64)
        base = SharedMixture(flow.event_shape, offsets, weights, torch.tensor(config.variances, dtype=torch.float64))
        super().__init__(flow.event_shape, base.to(dtype or torch.get_default_dtype()), event_scale=flow.event_scale)
        self.flow = flow

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        z, log_det = self.flow(x)
        return z, log_det

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        return self.flow.inverse(z)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.flow.latent_shapes
