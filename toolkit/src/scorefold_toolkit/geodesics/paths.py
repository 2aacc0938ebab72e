"""Discrete paths (B, N + 1, D): straight and bent lines, points between nodes, and other spacings."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold_toolkit.geodesics.metric import GeodesicMetric, State

_BEND = 1e-3
_ALIKE = 0.05
_GOLDEN = (5**0.5 - 1) / 2
_RULER, _ROUNDS = 256, 4


def straight(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Straight lines between ends (B, D) in equal steps, (B, N + 1, D), with both ends to the bit."""
    share = torch.linspace(0, 1, steps + 1, dtype=start.dtype, device=start.device)[None, :, None]
    return (1 - share) * start[:, None] + share * end[:, None]


def interpolated(path: Tensor, times: Tensor) -> Tensor:
    """Points of paths (..., N + 1, D) of equal times at times (T,): a cubic through four nodes near, (..., T, D)."""
    steps = path.shape[-2] - 1
    width = min(4, steps + 1)
    place = times.to(path) * steps
    first = (place.floor().long() - 1).clamp(0, steps + 1 - width)
    found = path.new_zeros(*path.shape[:-2], len(times), path.shape[-1])
    for k in range(width):
        weight = torch.ones_like(place)
        for other in range(width):
            if other != k:
                weight = weight * (place - first - other) / (k - other)
        found = found + weight[:, None] * path[..., first + k, :]
    return found


def extrapolated(fine: Tensor, coarse: Tensor) -> Tensor:
    """Paths (B, N + 1, D) by Richardson's rule, from paths on N and on N / 2 steps, whose errors are as 1 to 4.

    The rule is used where the two are the same path within 5 % of its length. Else the fine path is returned.
    """
    times = torch.linspace(0, 1, fine.shape[1], dtype=fine.dtype, device=fine.device)
    change = interpolated(fine[:, ::2] - coarse, times) / 3
    span = fine.diff(dim=1).norm(dim=2).sum(1)
    alike = change.norm(dim=2).amax(1) <= _ALIKE * span
    return torch.where(alike[:, None, None], fine + change, fine)


def respaced(path: Tensor, steps: int, lengths: Tensor | None = None) -> Tensor:
    """Paths (B, M + 1, D) cut into so many steps of equal length, (B, steps + 1, D): by lengths of their steps (B, M),
    else Euclidean ones."""
    lengths = path.diff(dim=1).square().sum(2).sqrt() if lengths is None else lengths
    reached = torch.cat([torch.zeros_like(lengths[:, :1]), lengths.cumsum(1)], 1)
    share = torch.linspace(0, 1, steps + 1, dtype=path.dtype, device=path.device)
    goals = share * reached[:, -1:]
    piece = (torch.searchsorted(reached.contiguous(), goals.contiguous(), right=True) - 1).clamp(0, path.shape[1] - 2)
    size = lengths.gather(1, piece)
    part = ((goals - reached.gather(1, piece)) / size.clamp_min(1e-300)).clamp(0, 1)[..., None]
    wide = piece[..., None].expand(-1, -1, path.shape[2])
    found = torch.lerp(path.gather(1, wide), path.gather(1, wide + 1), part)
    found[:, 0], found[:, -1] = path[:, 0], path[:, -1]
    return found


def subdivided(path: Tensor, parts: int) -> Tensor:
    """The polylines themselves on ``parts`` times as many points, at uneven shares of each step: what repeats with the
    period of the steps is seen."""
    inside = path[:, :-1, None] + _uneven(path, parts)[None, :, :, None] * path.diff(dim=1)[:, :, None]
    return torch.cat([inside.flatten(1, 2), path[:, -1:]], 1)


def densified(path: Tensor, parts: int) -> Tensor:
    """The curves through the nodes of paths (B, N + 1, D), by cubics, on ``parts`` times as many points."""
    steps = path.shape[1] - 1
    times = (torch.arange(steps, dtype=path.dtype, device=path.device)[:, None] + _uneven(path, parts)) / steps
    return interpolated(path, torch.cat([times.flatten(), times.new_ones(1)]))


def _uneven(path: Tensor, parts: int) -> Tensor:
    """Shares of each step (N, parts), 0 first, the others moved on by multiples of the golden section."""
    index = torch.arange((path.shape[1] - 1) * parts, dtype=path.dtype, device=path.device).reshape(-1, parts)
    moved = index * _GOLDEN % 1
    moved[:, 0] = 0
    return (torch.arange(parts, dtype=path.dtype, device=path.device) + moved) / parts


def bent_lines(line: Tensor, sign: float) -> Tensor:
    """Straight lines moved aside by 1e-3 of their length in the middle, in one fixed direction across them."""
    span = line[:, -1] - line[:, 0]
    size = span.shape[1]
    if size == 1:
        return line
    fixed = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(line)
    length = span.norm(dim=1, keepdim=True)
    unit = span / length.clamp_min(1e-300)
    across: Tensor = fixed - (unit @ fixed)[:, None] * unit
    across = across / across.norm(dim=1, keepdim=True) * length
    share = torch.linspace(0, 1, line.shape[1], dtype=line.dtype, device=line.device)
    bend: Tensor = _BEND * (torch.pi * share).sin()[None, :, None] * across[:, None]
    return line + sign * bend


def evenly_spaced(metric: GeodesicMetric, path: Tensor, known: State, steps: int) -> Tensor:
    """Paths cut into so many steps of equal length in the metric, (B, steps + 1, D): fine where it is large."""
    found = respaced(path, _RULER)
    for turn in range(_ROUNDS):
        sizes = metric.evaluate(found, known)["pieces"].clamp_min(0).sqrt()
        sizes = torch.where(sizes.isfinite().all(1, keepdim=True), sizes, torch.ones_like(sizes))
        found = respaced(found, steps if turn == _ROUNDS - 1 else _RULER, sizes)
    return found
