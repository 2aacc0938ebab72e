"""Parts of flows: the contract of an invertible layer, layers in sequence, and base distributions.

A normal distribution is also the quadratic potential psi of a geometry: psi = -log p up to a constant.

>>> import torch
>>> from scorefold_toolkit.nn import AffineCoupling, Conditioner, Permutation
>>> flow = Chain([AffineCoupling(4, Conditioner(2, 4)), Permutation(torch.arange(3, -1, -1))])
>>> z, log_det = flow(torch.ones(5, 4))
>>> torch.allclose(flow.inverse(z)[0], torch.ones(5, 4)), log_det.shape, isinstance(flow, Bijection)
(True, torch.Size([5]), True)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError
from scorefold.random import draw_normal
from scorefold_toolkit.potential import Potential


class Bijection(nn.Module, ABC):
    """An invertible layer x -> z on vectors (B, D) or images (B, C, H, W), given a condition tensor or none.

    Must: ``forward`` and ``inverse``, each returning its result and the log-determinant of the direction computed,
    (B,) or one number () for all of the batch. Both work under ``torch.func.jvp``, ``vmap`` and
    twice-differentiated. May: ``initialise``, for layers that start from data.
    """

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z and log |det dz/dx|."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and log |det dx/dz|."""

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Set what starts from data by a batch x, and return z. Done once: later calls change nothing."""
        z: Tensor = self(x, condition)[0]
        return z


class Chain(Bijection):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def __iter__(self) -> Iterator[Bijection]:
        for layer in self.layers:
            assert isinstance(layer, Bijection)
            yield layer

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(())
        for layer in self.layers:
            x, log_det = layer(x, condition)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(())
        for layer in reversed(list(self)):
            z, log_det = layer.inverse(z, condition)
            total = total + log_det
        return z, total

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer.initialise(x, condition)
        return x


class Quadratic(Potential):
    """psi(z) = |whiten(z)|^2 / 2 with ``whiten(z)`` = L^-1 (z - m) and A = L L^T: the potential of N(m, A).

    Must, beside what a ``Potential`` must: ``whiten`` and ``unwhiten``.

    >>> z = torch.tensor([[3.0, 4.0]])
    >>> isinstance(StandardNormal(), Quadratic), StandardNormal().value(z)
    (True, tensor([12.5000]))
    """

    @abstractmethod
    def whiten(self, z: Tensor) -> Tensor:
        """L^-1 (z - m), (B, *E)."""

    @abstractmethod
    def unwhiten(self, w: Tensor) -> Tensor:
        """L w + m, (B, *E)."""

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * self.whiten(x).flatten(1).square().sum(1)


class StandardNormal(nn.Module, Quadratic):
    """N(0, I) on latents of any shape.

    >>> StandardNormal().log_prob(torch.zeros(2, 1))
    tensor([-0.9189, -0.9189])
    """

    centre: float = 0.0

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        flat = z.flatten(1)
        # A product, since the derivative of a square goes through a power.
        return -0.5 * (flat * flat).sum(1) - 0.5 * math.log(2 * math.pi) * flat.shape[1]

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        return draw_normal(shape, generator=generator, like=like)

    def whiten(self, z: Tensor) -> Tensor:
        return z

    def unwhiten(self, w: Tensor) -> Tensor:
        return w

    def grad(self, x: Tensor) -> Tensor:
        return x

    def grad_inverse(self, y: Tensor) -> Tensor:
        return y

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return v


class DiagonalNormal(nn.Module, Quadratic):
    """N(mean, diag(exp(2 log_std))) with a learned mean and log-deviation for each coordinate of one event
    shape.

    It starts at mean 0 and variance 1, or at ``variances`` (*E). Raises ``ConfigError`` for variances of another shape
    or not above 0.

    >>> base = DiagonalNormal((2,), variances=torch.tensor([1.0, 4.0]))
    >>> base.whiten(torch.tensor([[1.0, 4.0]])).detach().round(decimals=3)
    tensor([[1., 2.]])
    """

    def __init__(self, event_shape: tuple[int, ...], variances: Tensor | None = None) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        if variances is None:
            variances = torch.ones(event_shape)
        if tuple(variances.shape) != self.event_shape or not bool((variances > 0).all()):
            raise ConfigError(
                f"variances of shape {tuple(variances.shape)}, the least {float(variances.min()):g}, were given; "
                f"expected {self.event_shape}, all above 0: a variance of 0 makes psi singular"
            )
        self.mean = nn.Parameter(torch.zeros_like(variances))
        self.log_std = nn.Parameter(0.5 * variances.log())

    @property
    def centre(self) -> Tensor:
        """The mean, which a temperature draws samples towards."""
        return self.mean

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        constant = self.log_std.sum() + 0.5 * math.log(2 * math.pi) * self.log_std.numel()
        return -self.value(z) - constant

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        return self.unwhiten(draw_normal(shape, generator=generator, like=like))

    def whiten(self, z: Tensor) -> Tensor:
        return (z - self.mean) * (-self.log_std).exp()

    def unwhiten(self, w: Tensor) -> Tensor:
        return w * self.log_std.exp() + self.mean

    def grad(self, x: Tensor) -> Tensor:
        return (x - self.mean) * (-2 * self.log_std).exp()

    def grad_inverse(self, y: Tensor) -> Tensor:
        return y * (2 * self.log_std).exp() + self.mean

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return v * (-2 * self.log_std).exp()
