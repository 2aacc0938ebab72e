"""Coupling layers and splines: one half of the coordinates moves the other, so both directions cost the same.

Vectors run through couplings with features first and the batch last, (D, B): halves and parameters are then contiguous
blocks, where halves of rows are strided and cost elementwise operations several times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_toolkit.nn.bijection import Bijection
from scorefold_toolkit.nn.networks import Conditioner

MIN_BIN = 0.1
"""The smallest width and height of a bin, as a share of what it would be were all bins equal.

A flat bin between steep knots has an inner derivative of about 2 s^2 / (s + d), s its mean slope and d theirs:
thinner bins (published code has 1e-3 of the whole interval) let it fall to 1e-6, and the inverse in float32 is then
noise.
"""
MIN_SLOPE = 1e-2
"""The smallest derivative at an inner knot."""


def spline_parameters(bins: int) -> int:
    """Number of parameters of a coordinate's spline: widths, heights, and derivatives at inner knots."""
    return 3 * bins - 1


def rational_quadratic_spline(
    x: Tensor, raw: Tensor, *, bound: float, dim: int = -1, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """An increasing map of each coordinate and the logarithm of its derivative, both of the shape of x.

    On [-bound, bound] it is a rational-quadratic spline (equations 4 to 9 of the paper), outside the identity; the
    derivative is 1 at both ends, so the map is continuously differentiable everywhere. ``raw`` has the shape of x
    with one more dimension ``dim``, of size 3K - 1 for K bins: K unnormalised widths, K heights and K - 1 inner
    derivatives. All of them 0 give the identity. ``inverse`` computes the inverse map and the logarithm of its own
    derivative, at the same cost. ``bound`` is in units of x and must be positive, K at least 2.

    The layout matters for speed: bins on a leading ``dim`` make every operation a long contiguous one.
    """
    dim = dim % raw.dim()
    bins = (raw.shape[dim] + 1) // 3
    inside = x.clamp(-bound, bound)
    shares = raw.narrow(dim, 0, 2 * bins).unflatten(dim, (2, bins)).softmax(dim + 1)
    smallest, spread = 2 * bound * MIN_BIN / bins, 2 * bound * (1 - MIN_BIN)

    # Which bin holds each point. Knots are needed for comparison only, so no gradient passes through a cumulative sum.
    searched = shares.detach().select(dim, 1 if inverse else 0).narrow(dim, 0, bins - 1)
    steps = torch.arange(1, bins, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (raw.dim() - dim - 1))
    knots = searched.cumsum(dim) * spread + (steps * smallest - bound)
    passed = (inside.detach().unsqueeze(dim) >= knots).to(x.dtype)
    count = passed.sum(dim, keepdim=True)
    index = count.long()

    pair = [-1] * raw.dim()
    pair.insert(dim, 2)
    chosen = shares.gather(dim + 1, index.unsqueeze(dim).expand(pair)).squeeze(dim + 1) * spread + smallest
    width, height = chosen.unbind(dim)
    before = (shares.narrow(dim + 1, 0, bins - 1) * passed.unsqueeze(dim)).sum(dim + 1) * spread
    left, bottom = (before + (count * smallest - bound)).unbind(dim)

    # Only the two derivatives in use go through softplus. The 0 at either end stands for a derivative of 1.
    end = torch.zeros_like(raw.narrow(dim, 0, 1))
    slopes = torch.cat([end, raw.narrow(dim, 2 * bins, bins - 1), end], dim)
    ends = slopes.gather(dim, torch.cat([index, index + 1], dim)) + math.log(math.expm1(1 - MIN_SLOPE))
    slope_left, slope_right = (functional.softplus(ends) + MIN_SLOPE).unbind(dim)

    mean_slope = height / width
    curvature = slope_left + slope_right - 2 * mean_slope
    if inverse:
        rise = inside - bottom
        a = height * (mean_slope - slope_left) + rise * curvature
        b = height * slope_left - rise * curvature
        c = -mean_slope * rise
        # This form of the root does not cancel; the discriminant is positive up to rounding.
        theta = 2 * c / (-b - (b * b - 4 * a * c).clamp_min(0).sqrt())
    else:
        theta = (inside - left) / width
    rest = 1 - theta
    mixed = theta * rest
    denominator = mean_slope + curvature * mixed
    numerator = slope_right * theta * theta + 2 * mean_slope * mixed + slope_left * rest * rest
    log_slope = (mean_slope * mean_slope * numerator / (denominator * denominator)).log()
    # With unit derivatives at the ends, adding what clamping took off is the linear tail.
    if inverse:
        return left + width * theta + (x - inside), -log_slope
    value = bottom + height * (mean_slope * theta * theta + slope_left * mixed) / denominator
    return value + (x - inside), log_slope


def coupling_halves(features: int, swap: bool) -> tuple[int, int]:
    """(kept, moved) sizes of the halves: the first half stays and the second moves, or with ``swap`` the other
    way."""
    first, second = features // 2, features - features // 2
    return (second, first) if swap and first else (first, second)


def bounded(raw: Tensor, bound: Tensor | float) -> Tensor:
    """bound tanh(raw): log-scales within the bound, a number ()."""
    if raw.dim() == 2:
        return raw.tanh() * bound
    # As tanh(r) = 2 sigmoid(2 r) - 1, which takes a fifth of the time on images and makes a strided half contiguous.
    return (raw + raw).sigmoid() * (2 * bound) - bound


class AffineCoupling(Bijection):
    """z = x exp(s) + t on one half of dimension 1, with s and t from the other half (Dinh et al. 2017).

    ``conditioner(kept, condition)`` gives (B, 2 moved, ...): raw log-scales, then shifts. Log-scales are s = bound
    tanh(raw): symmetric about 0, smooth, and |s| < bound, so that a chain of layers can neither collapse nor explode
    within float32. ``swap`` moves the first half. One coordinate alone is moved by the condition.

    >>> from scorefold_toolkit.nn import Conditioner
    >>> layer = AffineCoupling(4, Conditioner(2, 4))
    >>> z, log_det = layer(torch.ones(1, 4))
    >>> z.detach()[:, :2], torch.allclose(layer.inverse(z)[1], -log_det)  # the first half stays as it is
    (tensor([[1., 1.]]), True)
    """

    bound: Tensor

    def __init__(self, features: int, conditioner: nn.Module, *, swap: bool = False, bound: float = 2.0) -> None:
        super().__init__()
        self.kept, self.moved = coupling_halves(features, swap)
        self.swap = swap and features > 1
        # A tensor, since an operation on a Python number takes twice as long.
        self.register_buffer("bound", torch.tensor(bound), persistent=False)
        self.conditioner = conditioner

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return couple([self], x, condition, inverse=False)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return couple([self], z, condition, inverse=True)

    def move(self, kept: Tensor, moved: Tensor, condition: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """The moved half and the logarithms of its slopes, of its shape: (moved, B), of images (B, moved, H, W)."""
        parameters = _parameters(self.conditioner, kept, condition)
        raw, shift = parameters.split_with_sizes((self.moved, self.moved), _entries(kept))
        log_slope = bounded(raw, -self.bound if inverse else self.bound)
        if inverse:
            return (moved - shift) * log_slope.exp(), log_slope
        return moved * log_slope.exp() + shift, log_slope


class SplineCoupling(Bijection):
    """A rational-quadratic spline on each coordinate of one half of dimension 1, its parameters from the other half.

    ``conditioner(kept, condition)`` gives (B, (3 bins - 1) moved, ...), bins before coordinates. Outside [-bound,
    bound] the layer is the identity.

    >>> from scorefold_toolkit.nn import Conditioner
    >>> layer = SplineCoupling(2, Conditioner(1, 3 * 8 - 1), bins=8, bound=5.0)
    >>> layer(torch.tensor([[0.0, 9.0]]))[0].detach()  # beyond the bound a spline is the identity
    tensor([[0., 9.]])
    """

    def __init__(
        self, features: int, conditioner: nn.Module, *, bins: int = 8, bound: float = 5.0, swap: bool = False
    ) -> None:
        super().__init__()
        self.kept, self.moved = coupling_halves(features, swap)
        self.swap = swap and features > 1
        self.bins, self.bound = bins, bound
        self.conditioner = conditioner

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return couple([self], x, condition, inverse=False)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return couple([self], z, condition, inverse=True)

    def move(self, kept: Tensor, moved: Tensor, condition: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """The moved half and the logarithms of its slopes, of its shape: (moved, B), of images (B, moved, H, W)."""
        entries = _entries(kept)
        raw = _parameters(self.conditioner, kept, condition).unflatten(entries, (-1, self.moved))
        return rational_quadratic_spline(moved, raw, bound=self.bound, dim=entries, inverse=inverse)


Coupling = AffineCoupling | SplineCoupling


class Couplings(Bijection):
    """Couplings of the same features one after the other: a ``Chain`` of them that joins the halves only at its end.

    >>> from scorefold_toolkit.nn import Conditioner
    >>> layers = Couplings([AffineCoupling(4, Conditioner(2, 4), swap=swap) for swap in (False, True)])
    >>> torch.allclose(layers.inverse(layers(torch.ones(3, 4))[0])[0], torch.ones(3, 4))
    True
    """

    def __init__(self, layers: Iterable[Coupling]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return couple(self._couplings(), x, condition, inverse=False)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return couple(self._couplings(), z, condition, inverse=True)

    def _couplings(self) -> list[Coupling]:
        return cast("list[Coupling]", list(self.layers))


def couple(layers: Sequence[Coupling], x: Tensor, condition: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """x (B, D) or (B, C, H, W) through one or more couplings, the last first for the inverse, and log |det| (B,)."""
    entries = 0 if x.dim() == 2 else 1
    features = layers[0].kept + layers[0].moved
    x = x.T.contiguous() if x.dim() == 2 else x
    first, second = x.split_with_sizes(coupling_halves(features, False), entries)
    log_slopes = []
    for layer in reversed(layers) if inverse else layers:
        if layer.swap:
            first, log_slope = layer.move(second, first, condition, inverse=inverse)
        else:
            second, log_slope = layer.move(first, second, condition, inverse=inverse)
        log_slopes.append(log_slope)
    joined = torch.cat((first, second), entries)
    log_slope = torch.cat(log_slopes, entries) if len(log_slopes) > 1 else log_slopes[0]
    if x.dim() == 2:
        return joined.T, log_slope.sum(0)
    return joined, log_slope.sum((1, 2, 3))


def _entries(half: Tensor) -> int:
    """The dimension that a half's coordinates or channels are on."""
    return 0 if half.dim() == 2 else 1


def _parameters(conditioner: nn.Module, kept: Tensor, condition: Tensor | None) -> Tensor:
    """Output of a conditioner for a half, with coordinates or channels on the dimension of the input."""
    if isinstance(conditioner, Conditioner):
        return conditioner.columns(kept, condition)
    parameters: Tensor = conditioner(kept.T if kept.dim() == 2 else kept, condition)
    return parameters.T if kept.dim() == 2 else parameters
