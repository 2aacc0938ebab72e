"""Mixtures whose parts share their variances: several modes, and every map of the geometry still exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scorefold.data import Condition
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold.random import draw_normal, draw_uniform
from scorefold_pullback.flows.config import MixtureConfig
from scorefold_toolkit.nn import Quadratic


class AnisotropicNormal(nn.Module, Quadratic):
    """N(0, diag(a)) with a = floor + exp(log_variances), on latents of one event shape.

    Where ``learned`` the log-variances are parameters. Otherwise they are a buffer that ``follow`` draws towards the
    mean of z^2, the likeliest variances for the latents as they are. The floor keeps noise-free data, whose likelihood
    has no bound, from variances of 0.
    """

    event_shape: tuple[int, ...]
    log_variances: Tensor

    def __init__(self, event_shape: tuple[int, ...], *, start: float, floor: float, learned: bool) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.floor = floor
        log_variances = torch.full(self.event_shape, math.log(start))
        if learned:
            self.log_variances = nn.Parameter(log_variances)
        else:
            self.register_buffer("log_variances", log_variances)

    @property
    def centre(self) -> float:
        """The mean."""
        return 0.0

    @property
    def variances(self) -> Tensor:
        """a, (*E)."""
        return self.floor + self.log_variances.exp()

    @torch.no_grad()
    def set_variances(self, variances: Tensor) -> None:
        """Starts from variances (*E); those at the floor or below start a little above it."""
        above = (variances - self.floor).clamp_min(1e-3 * self.floor + torch.finfo(torch.float32).tiny)
        self.log_variances.copy_(above.log())

    @torch.no_grad()
    def follow(self, z: Tensor, share: float = 0.05) -> None:
        """Moves the variances a ``share`` of the way to the mean squares of latents z (B, *E)."""
        self.set_variances(torch.lerp(self.variances, z.detach().square().mean(0), share))

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        variances = self.variances
        constant = 0.5 * variances.log().sum() + 0.5 * math.log(2 * math.pi) * variances.numel()
        return -0.5 * (z.square() / variances).flatten(1).sum(1) - constant

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        return self.unwhiten(draw_normal(shape, generator=generator, like=like))

    def whiten(self, z: Tensor) -> Tensor:
        return z * self.variances.rsqrt()

    def unwhiten(self, w: Tensor) -> Tensor:
        return w * self.variances.sqrt()

    def grad(self, x: Tensor) -> Tensor:
        return x / self.variances

    def grad_inverse(self, y: Tensor) -> Tensor:
        return y * self.variances

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return v / self.variances


class SharedMixture(nn.Module, Quadratic):
    """sum_k weights_k N(offsets_k, A), A = diag(variances), over latents of one event shape.

    As a potential it is the quadratic of A around the mean of the offsets: the metric of the mixture,
    diag((sum_k w_k(z) / a)^2) with w_k(z) the share of part k at z, is A^-2 everywhere, as all parts have the same A.

    ``normal`` gives A. Where ``learned`` the weights and the offsets, in multiples of ``unit``, are parameters.
    """

    event_shape: tuple[int, ...]
    places: Tensor
    logits: Tensor

    def __init__(self, normal: AnisotropicNormal, parts: int, *, unit: float = 1.0, learned: bool = False) -> None:
        super().__init__()
        self.event_shape = normal.event_shape
        self.normal = normal
        self.unit = unit
        for name, shape in (("places", (parts, *normal.event_shape)), ("logits", (parts,))):
            value = torch.zeros(shape)
            if learned:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    @classmethod
    def fixed(cls, event_shape: tuple[int, ...], offsets: Tensor, weights: Tensor, variances: Tensor) -> SharedMixture:
        """The mixture of offsets (K, D), weights (K,) up to a common factor and variances (D,), in float64."""
        normal = AnisotropicNormal(event_shape, start=1.0, floor=0.0, learned=False)
        mixture = cls(normal, len(offsets)).double()
        normal.set_variances(variances.reshape(event_shape))
        mixture.set_parts(offsets.reshape(-1, *event_shape), weights)
        return mixture

    @property
    def offsets(self) -> Tensor:
        """The mean of each part, (K, *E)."""
        return self.places * self.unit

    @property
    def log_weights(self) -> Tensor:
        """The logarithm of each part's share, (K,)."""
        return self.logits.log_softmax(0)

    @property
    def variances(self) -> Tensor:
        """a, (*E), of every part."""
        return self.normal.variances

    @torch.no_grad()
    def set_parts(self, offsets: Tensor, weights: Tensor) -> None:
        """Starts from offsets (K, *E) and weights (K,), up to a common factor."""
        self.places.copy_(offsets / self.unit)
        self.logits.copy_(weights.log())

    @property
    def centre(self) -> Tensor:
        """The mean, (*E)."""
        mean: Tensor = torch.tensordot(self.log_weights.exp(), self.offsets, dims=1)
        return mean

    def covariance(self) -> Tensor:
        """The covariance (D, D) of the mixture: A + the weighted covariance of the offsets."""
        apart = (self.offsets - self.centre).flatten(1)
        between = (self.log_weights.exp()[:, None] * apart).mT @ apart
        return self.variances.flatten().diag() + between

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        each = self.normal.log_prob((z[:, None] - self.offsets).flatten(0, 1)).reshape(len(z), len(self.logits))
        return torch.logsumexp(self.log_weights + each, dim=1)

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        shares = self.log_weights.exp().cumsum(0)[:-1]
        part = torch.searchsorted(shares, draw_uniform(shape[:1], generator=generator, like=like))
        return self.offsets[part] + self.normal.sample(shape, generator=generator, like=like)

    def whiten(self, z: Tensor) -> Tensor:
        return self.normal.whiten(z - self.centre)

    def unwhiten(self, w: Tensor) -> Tensor:
        return self.normal.unwhiten(w) + self.centre

    def grad(self, x: Tensor) -> Tensor:
        return self.normal.grad(x - self.centre)

    def grad_inverse(self, y: Tensor) -> Tensor:
        return self.normal.grad_inverse(y) + self.centre

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return self.normal.hessian_product(x, v)


class MixtureFlow(Flow):
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
        base = SharedMixture.fixed(
            flow.event_shape, offsets, weights, torch.tensor(config.variances, dtype=torch.float64)
        )
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
