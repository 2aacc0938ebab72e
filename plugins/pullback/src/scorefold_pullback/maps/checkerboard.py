"""Couplings on alternate features: the flow of the published code for vectors, and the same with splines.

Many Jacobian-vector products of a coupling map in one pass, for the isometry penalty.

The tangents pass each layer with the points, by hand. So activations and scales are computed once per point, and not
once per direction. The gradient of the result needs three matrix products per layer and direction. The gradient of a
vector-Jacobian product needs six.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_pullback.maps.config import CheckerboardConfig, CouplingMapConfig, Scale, SplineMapConfig
from scorefold_pullback.maps.glow import Flattened
from scorefold_pullback.maps.regular import Rotation
from scorefold_toolkit.nn import (
    Bijection,
    Chain,
    Permutation,
    ResidualBlock,
    rational_quadratic_spline,
    spline_parameters,
)
from scorefold_toolkit.nn.networks import Activation


class Move(nn.Module, ABC):
    """Map of one coupling layer on the features that it changes."""

    @abstractmethod
    def forward(self, moved: Tensor, kept: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """``moved`` (B, M), mapped coordinate by coordinate as ``kept`` (B, K) says, and the log-derivatives (B, M)."""


class AffineMove(Move):
    """z = scale x + shift.

    ``conditioner`` returns (B, 2 M): shifts, then s. The scale is exp(bound tanh(s)), or sigmoid(s + 2) + 0.001 as in
    the published code. Without scales it returns the shifts alone, (B, M).
    """

    def __init__(self, conditioner: nn.Module, scale: Scale, bound: float) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.published = scale == "published"
        self.shifts_alone = scale == "none"
        self.bound = bound

    def forward(self, moved: Tensor, kept: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        if self.shifts_alone:
            shift = self.conditioner(kept)
            return moved - shift if inverse else moved + shift, torch.zeros_like(moved)
        shift, s = self.conditioner(kept).chunk(2, 1)
        log_scale = ((s + 2).sigmoid() + 1e-3).log() if self.published else s.tanh() * self.bound
        if inverse:
            return (moved - shift) * (-log_scale).exp(), -log_scale
        return torch.addcmul(shift, moved, log_scale.exp()), log_scale


class SplineMove(Move):
    """A rational-quadratic spline on [-bound, bound], the identity outside.

    ``conditioner`` gives (B, (3 bins - 1) M), bins before coordinates.
    """

    def __init__(self, conditioner: nn.Module, bound: float) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.bound = bound

    def forward(self, moved: Tensor, kept: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        # The batch last: the spline then works on long contiguous rows.
        raw = self.conditioner(kept).T.contiguous().unflatten(0, (-1, moved.shape[1]))
        value, log_slope = rational_quadratic_spline(
            moved.T.contiguous(), raw, bound=self.bound, dim=0, inverse=inverse
        )
        return value.T, log_slope.T


class Checkerboard(Bijection):
    """Moves on alternate features of vectors (B, D).

    Even moves map features 0, 2, 4, ... given features 1, 3, 5, ..., and odd moves the other way round. With D = 1 all
    moves map the one feature. With ``first`` = k even moves map the features from k on, given the first k features.
    The two parts are separated once and joined once, for any number of moves.
    """

    def __init__(self, moves: Sequence[Move], first: int | None = None) -> None:
        super().__init__()
        self.moves = nn.ModuleList(moves)
        self.first = first

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(x, inverse=False)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(z, inverse=True)

    def _run(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        halves = self.taken_apart(x)
        slopes: list[Tensor | float] = [0.0, 0.0]
        order = list(enumerate(self.moves))
        for index, move in reversed(order) if inverse else order:
            half = index % min(x.shape[1], 2)
            halves[half], slope = move(halves[half], halves[1 - half], inverse=inverse)
            slopes[half] = slopes[half] + slope
        log_det = sum((slope.sum(1) for slope in slopes if isinstance(slope, Tensor)), x.new_zeros(()))
        return self.joined(halves), log_det

    def taken_apart(self, x: Tensor) -> list[Tensor]:
        """Both parts of features (..., D)."""
        if self.first is None:
            return [x[..., 0::2], x[..., 1::2]]
        return [x[..., self.first :], x[..., : self.first]]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Features (..., D) from both parts."""
        return interleave(*parts) if self.first is None else torch.cat(parts[::-1], -1)


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """(..., D) from its even and its odd features."""
    paired = odd.shape[-1]
    joined = torch.stack((even[..., :paired], odd), -1).flatten(-2)
    return joined if even.shape[-1] == paired else torch.cat((joined, even[..., paired:]), -1)


class ResidualNetwork(nn.Module):
    """(B, features) to (B, out): a linear layer, pre-activation residual blocks, a linear layer that starts at 0."""

    def __init__(self, features: int, out: int, width: int, blocks: int, activation: Activation) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, activation=activation) for _ in range(blocks))
        self.last = nn.Linear(width, out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        result: Tensor = self.last(h)
        return result


class Constant(nn.Module):
    """(B, anything) to the same learned numbers (B, out), which start at 0: what a lone feature is moved by."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(x.shape[0], -1)


def coupling_map(config: CouplingMapConfig, features: int) -> Bijection:
    """The affine couplings of a configuration on vectors (B, features)."""
    numbers = 1 if config.scale == "none" else 2
    return _checkered(config, features, numbers, lambda network: AffineMove(network, config.scale, config.scale_bound))


def spline_map(config: SplineMapConfig, features: int) -> Bijection:
    """The spline couplings of a configuration on vectors (B, features)."""
    return _checkered(
        config, features, spline_parameters(config.bins), lambda network: SplineMove(network, config.bound)
    )


def _checkered(
    config: CheckerboardConfig, features: int, parameters: int, make: Callable[[nn.Module], Move]
) -> Bijection:
    """``parameters`` is how many numbers move a feature, and ``make`` a move from a network that gives them."""

    def network(kept: int, out: int) -> nn.Module:
        return ResidualNetwork(kept, out, config.width, config.blocks, config.activation)

    if config.masks == "nested" and features > 1:
        kept_first = nested_parts(config.layers, features)
        return Chain(
            Checkerboard([make(network(first, parameters * (features - first)))], first) for first in kept_first
        )
    moves: list[Move] = []
    for layer in range(config.layers):
        odd = features // 2
        moved, kept = (odd, features - odd) if layer % 2 and odd else (features - odd, odd)
        out = parameters * moved
        moves.append(make(network(kept, out) if kept else Constant(out)))
    halved = config.masks == "mixed" and features > 2 and len(moves) > 2
    if not config.rotations and not halved:
        return Checkerboard(moves)
    layers: list[Bijection] = []
    for start in range(0, len(moves), 2):
        board = Checkerboard(moves[start : start + 2])
        layers += [Rotation(features)] if config.rotations else []
        layers += _halved(board, features) if halved and start % 4 else [board]
    return Chain(layers)


def nested_parts(layers: int, features: int) -> list[int]:
    """Number of features that each nested layer keeps: a geometric series that falls from a quarter of all."""
    return [max(1, round((features / 4) ** ((layers - layer) / layers))) for layer in range(layers)]


def _halved(board: Checkerboard, features: int) -> list[Bijection]:
    """A checkerboard whose even features are the first half of all, and its odd ones the second."""
    order, first = torch.empty(features, dtype=torch.long), (features + 1) // 2
    order[0::2], order[1::2] = torch.arange(first), torch.arange(first, features)
    return [Permutation(order), board, Permutation(order.argsort())]


def can_push(phi: Bijection) -> bool:
    """True if ``push`` takes this map: affine couplings with residual networks, and rotations between them."""
    if isinstance(phi, Flattened):
        return can_push(phi.inner)
    if isinstance(phi, Chain):
        return all(can_push(layer) for layer in phi)
    if isinstance(phi, Checkerboard):
        return all(isinstance(m, AffineMove) and isinstance(m.conditioner, ResidualNetwork) for m in phi.moves)
    return isinstance(phi, Rotation | Permutation)


def push_tangents(phi: Bijection, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """phi(x) (B, *E), log |det J| and J t (K, B, *E) for tangents t (K, B, *E); all can be differentiated."""
    if isinstance(phi, Flattened):
        z, log_det, moved = push_tangents(phi.inner, x.flatten(1), tangents.flatten(2))
        return z.reshape(x.shape), log_det, moved.reshape(tangents.shape)
    if isinstance(phi, Chain):
        total = x.new_zeros(())
        for layer in phi:
            x, log_det, tangents = push_tangents(layer, x, tangents)
            total = total + log_det
        return x, total, tangents
    if isinstance(phi, Permutation):
        return x.index_select(1, phi.order), x.new_zeros(()), tangents.index_select(2, phi.order)
    if isinstance(phi, Rotation):
        q = phi.matrix()
        return x @ q.T, x.new_zeros(()), tangents @ q.T
    assert isinstance(phi, Checkerboard)
    return _push_couplings(phi, x, tangents)


def _push_couplings(phi: Checkerboard, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    halves, turned = phi.taken_apart(x), phi.taken_apart(tangents)
    total = x.new_zeros(len(x))
    for index, move in enumerate(phi.moves):
        assert isinstance(move, AffineMove)
        half = index % 2
        out, d_out = _push_network(move.conditioner, halves[1 - half], turned[1 - half])
        if move.shifts_alone:
            halves[half], turned[half] = halves[half] + out, turned[half] + d_out
            continue
        (shift, s), (d_shift, d_s) = out.chunk(2, 1), d_out.chunk(2, 2)
        log_scale, slope = _log_scale(move, s)
        scale = log_scale.exp()
        scaled = halves[half] * scale
        halves[half] = scaled + shift
        turned[half] = torch.addcmul(torch.addcmul(d_shift, turned[half], scale), d_s, scaled * slope)
        total = total + log_scale.sum(1)
    return phi.joined(halves), total, phi.joined(turned)


def _log_scale(move: AffineMove, s: Tensor) -> tuple[Tensor, Tensor]:
    """The log-scale of a move and its derivative by s."""
    if move.published:
        gate = (s + 2).sigmoid()
        scale = gate + 1e-3
        return scale.log(), gate * (1 - gate) / scale
    t = s.tanh()
    return t * move.bound, move.bound * (1 - t * t)


def _push_network(network: nn.Module, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(network, ResidualNetwork)
    h, d_h = network.first(x), functional.linear(tangents, network.first.weight)
    for block in network.blocks:
        assert isinstance(block, ResidualBlock)
        a, slope = _with_slope(block.activation, h)
        inner, d_inner = block.first(a), functional.linear(d_h * slope, block.first.weight)
        a, slope = _with_slope(block.activation, inner)
        h, d_h = h + block.second(a), d_h + functional.linear(d_inner * slope, block.second.weight)
    return network.last(h), functional.linear(d_h, network.last.weight)


def _with_slope(activation: object, h: Tensor) -> tuple[Tensor, Tensor]:
    """a(h) and a'(h)."""
    if activation is functional.silu:
        gate = h.sigmoid()
        a = h * gate
        return a, torch.addcmul(gate, a, 1 - gate)
    if activation is torch.tanh:
        a = h.tanh()
        return a, 1 - a * a
    assert callable(activation)
    a, slope = torch.func.jvp(activation, (h,), (torch.ones_like(h),))[:2]
    return a, slope
