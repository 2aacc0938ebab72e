"""Many Jacobian-vector products of a coupling map in one pass, for the isometry penalty.

The tangents pass each layer beside the points, by hand: activations and scales are computed once a point and not once a
direction, and the gradient of the result needs three matrix products a layer and direction, where that of a
vector-Jacobian product needs six.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_pullback.maps.checkerboard import AffineMove, Checkerboard, ResidualNetwork, interleave
from scorefold_pullback.maps.reshape import Flattened
from scorefold_pullback.maps.rotation import Rotation
from scorefold_toolkit.nn import Bijection, Chain, Permutation, ResidualBlock


def can_push(phi: Bijection) -> bool:
    """True if ``push`` takes this map: affine couplings with residual networks, and rotations between them."""
    if isinstance(phi, Flattened):
        return can_push(phi.inner)
    if isinstance(phi, Chain):
        return all(can_push(layer) for layer in phi)
    if isinstance(phi, Checkerboard):
        return all(isinstance(m, AffineMove) and isinstance(m.conditioner, ResidualNetwork) for m in phi.moves)
    return isinstance(phi, Rotation | Permutation)


def push(phi: Bijection, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """phi(x) (B, *E), log |det J| and J t (K, B, *E) for tangents t (K, B, *E); all can be differentiated."""
    if isinstance(phi, Flattened):
        z, log_det, moved = push(phi.inner, x.flatten(1), tangents.flatten(2))
        return z.reshape(x.shape), log_det, moved.reshape(tangents.shape)
    if isinstance(phi, Chain):
        total = x.new_zeros(())
        for layer in phi:
            x, log_det, tangents = push(layer, x, tangents)
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
    halves, turned = [x[:, 0::2], x[:, 1::2]], [tangents[..., 0::2], tangents[..., 1::2]]
    total = x.new_zeros(())
    for index, move in enumerate(phi.moves):
        assert isinstance(move, AffineMove)
        half = index % 2
        out, d_out = _push_network(move.conditioner, halves[1 - half], turned[1 - half])
        (shift, s), (d_shift, d_s) = out.chunk(2, 1), d_out.chunk(2, 2)
        log_scale, slope = _log_scale(move, s)
        scale = log_scale.exp()
        scaled = halves[half] * scale
        halves[half] = scaled + shift
        turned[half] = torch.addcmul(torch.addcmul(d_shift, turned[half], scale), d_s, scaled * slope)
        total = total + log_scale.sum(1)
    return interleave(*halves), total, interleave(*(t.flatten(0, 1) for t in turned)).unflatten(0, tangents.shape[:2])


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
