"""Parts of flows: the contract of an invertible layer, layers in sequence, base distributions, and the map from
events inside limits to all real numbers.

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
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import EventScale
from scorefold.errors import ConfigError, DataError
from scorefold.random import draw_normal
from scorefold_toolkit.config.common import Limits
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


_HALF_LOG_TAU = math.log(2 * math.pi) / 2


def box_ends(within: Limits, scale: EventScale, size: int) -> tuple[Tensor, Tensor]:
    """Lower and upper ends (size,) in the units of events, from ends in the units of the file; -inf and inf for none.

    Raises ``ConfigError`` for another number of pairs than of coordinates.

    >>> box_ends(((0.0, 10.0), (None, 3.0)), EventScale(shift=1.0, factor=2.0), 2)
    (tensor([-0.5000,    -inf]), tensor([4.5000, 1.0000]))
    """
    one = not isinstance(within[0], tuple)
    pairs: Any = [within] * size if one else within
    if len(pairs) != size:
        raise ConfigError(
            f"'within' has {len(pairs)} pairs of ends, and an event has {size} numbers",
            hint="give one pair a number, in the order of the columns, or one pair for all",
        )
    given = [[-math.inf if low is None else low, math.inf if high is None else high] for low, high in pairs]
    ends = scale.from_raw(torch.tensor(given, dtype=torch.float64).T).float()
    if not bool((ends[0] < ends[1]).all()):
        raise ConfigError(
            f"the ends {within} are equal in single precision",
            hint="read the data with scale: columns, or widen 'within'",
        )
    return ends[0], ends[1]


def inside(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Events x (..., D) between ends (D,), or on them: (...)."""
    return ((x >= low) & (x <= high)).all(-1)


class Box(nn.Module):
    """A map from events (B, D) inside limits to all of R^D, coordinate by coordinate, each with its z-scores.

    Between two ends y = Phi^-1((x - low) / (high - low)), so a uniform x has a standard normal y. With one end
    y = log |x - end|, and without ends y = x. The z-scores are of training points; see ``prepare``. Outside, the log
    determinant is -inf. Points within a few roundings of two ends are taken as that far from them.

    >>> box = Box(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, math.inf]))
    >>> z, log_det = box(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    >>> z[0].abs(), [round(each, 3) for each in log_det.tolist()]
    (tensor([0., 0.]), [0.226, -inf])
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("mean", torch.zeros_like(low))
        self.register_buffer("std", torch.ones_like(low))

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Takes the z-scores from training points x (N, D), which lie inside; see ``check``."""
        y = self._stretched(x)[0].double()
        self.mean.copy_(y.mean(0))
        std = y.std(0, correction=0)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def check(self, x: Tensor) -> None:
        """Raises ``DataError`` for points x (N, D) outside, and for points on an end without another one."""
        _, half, sign, _, *ends = self._kinds()
        out = ~((x >= self.low) & (x <= self.high)) | half & (x == torch.where(sign > 0, *ends))
        if bool(out.any()):
            worst = int(out.sum(0).argmax())
            value, low, high = (float(each) for each in (x[out[:, worst], worst][0], self.low[worst], self.high[worst]))
            raise DataError(
                f"{int(out.any(1).sum()):,} of {len(x):,} points are outside 'within', or on a lone end: "
                f"number {worst + 1} is {value:g} in units of the model, for limits of {low:g} and {high:g}",
                hint="widen 'within', such as [-0.01, null] for values from 0, or leave these rows out",
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, D) and log |det dz/dx| (B,) of x (B, D)."""
        y, slopes = self._stretched(x)
        log_det = (slopes - self.std.log()).sum(-1)
        return (y - self.mean) / self.std, torch.where(inside(x, self.low, self.high), log_det, -math.inf)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) and log |det dx/dz| (B,) of z (B, D)."""
        y = z * self.std + self.mean
        two, half, sign, width, low, high = self._kinds()
        tail = width * torch.special.ndtr(-y.abs())
        between = torch.where(y < 0, low + tail, high - tail)
        gap = torch.where(half, sign * y, 0.0)
        beyond = torch.where(sign > 0, low, high) + sign * gap.exp()
        x = torch.where(two, between, torch.where(half, beyond, y))
        slopes = torch.where(two, width.log() - y.square() / 2 - _HALF_LOG_TAU, gap)
        return x, (slopes + self.std.log()).sum(-1)

    def _stretched(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, D) before z-scores, and log |dy/dx| (B, D)."""
        two, half, sign, width, low, high = self._kinds()
        rounding = torch.finfo(x.dtype)
        # From the nearer end, which loses no digits there.
        nearer = torch.where(x - low < high - x, x - low, high - x) / width
        tail = torch.special.ndtri(torch.where(two, nearer, 0.5).clamp_min(8 * rounding.eps))
        between = torch.where(x - low < high - x, tail, -tail)
        gap = torch.where(half, torch.where(sign > 0, x - low, high - x), 1.0).clamp_min(rounding.tiny)
        y = torch.where(two, between, torch.where(half, sign * gap.log(), x))
        slopes = torch.where(two, tail.square() / 2 + _HALF_LOG_TAU - width.log(), -gap.log())
        return y, slopes

    def _kinds(self) -> tuple[Tensor, ...]:
        """Coordinates with two ends, and with one; 1 for a lower end and -1 for an upper one alone; the distance of two
        ends, or 1; the ends, or 0."""
        below, above = self.low.isfinite(), self.high.isfinite()
        two, low, high = below & above, torch.where(below, self.low, 0.0), torch.where(above, self.high, 0.0)
        return two, below ^ above, 2 * below.to(low) - 1, torch.where(two, high - low, 1.0), low, high
