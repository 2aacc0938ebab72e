"""How the error of a Riemannian auto-encoder falls with the coordinates that it keeps, and that of a PCA beside it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scorefold.data import shuffled
from scorefold.interfaces import Flow
from scorefold_pullback.autoencoder.axes import PrincipalAxes
from scorefold_toolkit.numerics import gram_spectrum

_ALL_UP_TO = 16


def kept_counts(size: int, *needed: int) -> list[int]:
    """The numbers of coordinates that the curve is measured at: 0..D, or for more than 16 about as many, closer
    together where they are small, with those that are ``needed``.
    """
    if size <= _ALL_UP_TO:
        return list(range(size + 1))
    few = range(_ALL_UP_TO // 2)
    spread = torch.logspace(0, 1, _ALL_UP_TO // 2, base=size / len(few), dtype=torch.float64)
    return sorted({*few, *(len(few) * spread).round().int().tolist(), *needed, size})


@torch.no_grad()
def reconstruction_curve(
    flow: Flow,
    axes: PrincipalAxes,
    x: Tensor,
    counts: list[int],
    *,
    batch_size: int = 256,
    generator: torch.Generator | None = None,
) -> Mapping[str, list[float]]:
    """Mean squared error a coordinate of points x (N, *E) from m coordinates, for each m of ``counts``.

    By order: the widest m (``decreasing``), the narrowest (``increasing``), or ``random`` ones, a generator's or else
    always the same.
    """
    size = flow.dimension
    by_width = torch.arange(size)
    chosen = torch.Generator().manual_seed(0) if generator is None else generator
    orders = {"decreasing": by_width, "increasing": by_width.flip(0), "random": shuffled(size, chosen)}
    codes = torch.cat([axes.coordinates(flow(part)[0]) for part in x.split(batch_size)])

    def error(chosen: Tensor) -> Tensor:
        total = x.new_zeros((), dtype=torch.float64)
        for p, part in zip(codes.split(batch_size), x.split(batch_size), strict=True):
            only = torch.zeros_like(p).index_copy(1, chosen, p[:, chosen])
            back = flow.inverse(axes.latents(only, flow.event_shape))[0]
            total += (back - part).double().square().sum()
        return total / x.numel()

    errors = {name: [error(order[:count].to(x.device)) for count in counts] for name, order in orders.items()}
    return {name: torch.stack(found).tolist() for name, found in errors.items()}


def unseen_pca_curve(x: Tensor) -> Tensor:
    """What a PCA leaves a coordinate of points x (N, *E), 2 or more, that it was not fitted on, from 0..D components.

    Half of the points are read in the components of the other half, and the other way round: in its own components a
    few points seem to vary along fewer directions than they do. So do neighbours in the order that are alike, such as
    frames: of every second point and of the first half of them, the larger remainder counts.

    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 0.1])
    >>> [round(float(left), 1) for left in unseen_pca_curve(x)]
    [4.4, 1.4, 0.0, 0.0]
    """
    points = x.flatten(1).double()
    middle = (len(x) + 1) // 2
    halves = ((points[::2], points[1::2]), (points[:middle], points[middle:]))
    return torch.maximum(*(_crossed(*each) for each in halves)) / x.numel()


def _crossed(first: Tensor, second: Tensor) -> Tensor:
    """What components of either half leave of the other, in all."""
    left = first.new_zeros(first.shape[1] + 1)
    for fitted, read in ((first, second), (second, first)):
        centred = read - fitted.mean(0)
        _, sizes, axes = torch.linalg.svd(fitted - fitted.mean(0), full_matrices=False)
        # Points that repeat each other have fewer directions than rows; what the decomposition adds is arbitrary.
        axes = axes[sizes > sizes[0] * max(fitted.shape) * torch.finfo(sizes.dtype).eps]
        found = (centred @ axes.T).square().sum(0)
        beyond = (centred.square().sum() - found.sum()).clamp_min(0)  # across all components of few points
        tails = torch.cat([found.flip(0).cumsum(0).flip(0), found.new_zeros(len(left) - len(found))])
        left += tails + (beyond if len(found) < len(left) - 1 else 0)
    return left


def pca_curve(x: Tensor, counts: list[int]) -> list[float]:
    """What a PCA of points x (N, *E) leaves of them a coordinate, from m components, for each m of ``counts``."""
    flat = x.flatten(1).double()
    narrowest = gram_spectrum(flat - flat.mean(0)).square().flip(0)
    tails = torch.cat([narrowest.new_zeros(1), narrowest.cumsum(0)]) / x.numel()
    left: list[float] = tails[[flat.shape[1] - count for count in counts]].tolist()
    return left
