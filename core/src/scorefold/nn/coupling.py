"""Coupling layers: one half of the coordinates moves the other, so both directions cost the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefold.nn.bijection import Bijection
from scorefold.nn.splines import rational_quadratic_spline


def coupling_halves(features: int, swap: bool) -> tuple[int, int]:
    """(kept, moved) sizes of the halves: the first half stays and the second moves, or with ``swap`` the other
    way."""
    first, second = features // 2, features - features // 2
    return (second, first) if swap and first else (first, second)


class AffineCoupling(Bijection):
    """z = x exp(s) + t on one half of dimension 1, with s and t from the other half (Dinh et al. 2017).

    ``conditioner(kept, condition)`` gives (B, 2 moved, ...): raw log-scales, then shifts. Log-scales are s = bound
    tanh(raw): symmetric about 0, smooth, and |s| < bound, so that a chain of layers can neither collapse nor explode
    within float32. ``swap`` moves the first half. One coordinate alone is moved by the condition.
    """

    def __init__(self, features: int, conditioner: nn.Module, *, swap: bool = False, bound: float = 2.0) -> None:
        super().__init__()
        self.kept, self.moved = coupling_halves(features, swap)
        self.swap = swap and features > 1
        self.bound = bound
        self.conditioner = conditioner

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = _split(x, self.kept, self.moved, self.swap)
        log_scale, shift = self._scale_and_shift(kept, condition)
        moved = torch.addcmul(shift, moved, log_scale.exp())
        return _join(kept, moved, self.swap), log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = _split(z, self.kept, self.moved, self.swap)
        log_scale, shift = self._scale_and_shift(kept, condition)
        moved = (moved - shift) * (-log_scale).exp()
        return _join(kept, moved, self.swap), -log_scale.flatten(1).sum(1)

    def _scale_and_shift(self, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = self.conditioner(kept, condition).chunk(2, 1)
        return raw.tanh() * self.bound, shift


class SplineCoupling(Bijection):
    """A rational-quadratic spline on each coordinate of one half of dimension 1, its parameters from the other half.

    ``conditioner(kept, condition)`` gives (B, (3 bins - 1) moved, ...), bins before coordinates. Outside [-bound,
    bound] the layer is the identity.
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
        return self._move(x, condition, inverse=False)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._move(z, condition, inverse=True)

    def _move(self, x: Tensor, condition: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        kept, moved = _split(x, self.kept, self.moved, self.swap)
        raw = self.conditioner(kept, condition)
        if x.dim() == 2:
            # Bins first and the batch last: the spline then works on long contiguous rows.
            raw = raw.T.contiguous().unflatten(0, (-1, self.moved))
            moved, log_slope = rational_quadratic_spline(
                moved.T.contiguous(), raw, bound=self.bound, dim=0, inverse=inverse
            )
            return _join(kept, moved.T, self.swap), log_slope.sum(0)
        raw = raw.unflatten(1, (-1, self.moved))
        moved, log_slope = rational_quadratic_spline(moved, raw, bound=self.bound, dim=1, inverse=inverse)
        return _join(kept, moved, self.swap), log_slope.flatten(1).sum(1)


def _split(x: Tensor, kept: int, moved: int, swap: bool) -> tuple[Tensor, Tensor]:
    if swap:
        second, first = x.split_with_sizes((moved, kept), 1)
        return first, second
    first, second = x.split_with_sizes((kept, moved), 1)
    return first, second


def _join(kept: Tensor, moved: Tensor, swap: bool) -> Tensor:
    return torch.cat((moved, kept) if swap else (kept, moved), 1)
