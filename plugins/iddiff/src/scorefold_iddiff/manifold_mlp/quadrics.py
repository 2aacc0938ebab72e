"""Quadrics that data lie on, as nearly as any do, and the distances from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEADING = 64
"""Principal directions that quadrics are sought in, at most: one has (l + 1) (l + 2) / 2 coefficients."""

_VISIBLE = 0.01
_FLOOR = 1e-3
"""Directions in which the data deviate by less than _VISIBLE of their spread are left out; a quadric is taken to be
known to _FLOOR of it."""

_POINTS = 3
_HELD = 10_000
"""Points fitted for each coefficient, and points to measure distances on, at most."""


class Quadrics(nn.Module):
    """Surfaces q_j(u) = u^T Q_j u + b_j u + c_j = 0 in the first l coordinates of u (B, m), and distances from them.

    With q of mean squared gradient 1 over the data and L half their spread, the signed distance from a surface and its
    normal are

        d = q / r,  n = grad q / r,  r^2 = |grad q|^2 + (q / L)^2,

    to first order those of its nearest point (Sampson 1982; Taubin 1991), and bounded far from it. Before ``fit`` all
    are 0.
    """

    forms: Tensor
    linear: Tensor
    constant: Tensor
    reach: Tensor
    distances: Tensor

    def __init__(self, coordinates: int, count: int) -> None:
        super().__init__()
        leading = min(coordinates, LEADING)
        self.register_buffer("forms", torch.zeros(count, leading, leading))
        self.register_buffer("linear", torch.zeros(count, leading))
        self.register_buffer("constant", torch.zeros(count))
        self.register_buffer("reach", torch.ones(()))
        self.register_buffer("distances", torch.ones(count))

    def fit(self, u: Tensor, variances: Tensor) -> None:
        """Quadrics near points u (N, m) of mean 0, whose coordinates are uncorrelated, of falling ``variances`` (m,).

        The first is the one of least mean square of q when c = -1, and of several such the smallest, as the sphere is
        for points on it; the others, orthogonal to it, have the least mean squared distance (Taubin 1991). The last
        half of the points is not fitted: their root-mean-square d are the ``distances``, which show a quadric from too
        few points.

        They are sought in the directions before the widest gap of the variances too, where those behind it may hold
        noise: there a plane is as near as any quadric and says nothing new. Kept are those of which the first is
        thinner, d^2 over the variance along its normals.
        """
        leading = self.linear.shape[1]
        spread = variances.sum().sqrt()
        variances = variances[:leading]
        variances = variances[variances > (_VISIBLE * spread) ** 2]
        if len(variances) == 0:  # none stands out of very many
            for buffer in (self.forms, self.linear, self.constant):
                buffer.zero_()
            return
        self.reach.copy_(spread / 2)
        before = variances[: before_gap(variances)]
        thin = self._fit(u, before, spread)
        if len(before) < len(variances) and self._fit(u, variances, spread) > thin:
            self._fit(u, before, spread)

    def _fit(self, u: Tensor, variances: Tensor, spread: Tensor) -> float:
        """Quadrics in the first coordinates of u, with the given ``variances``; the mean squared distance from the
        first, of points that were not fitted, over the variance along its normals."""
        for buffer in (self.forms, self.linear, self.constant):
            buffer.zero_()
        w = u[:, : len(variances)] / variances.sqrt()
        half = (len(w) + 1) // 2
        coefficients, constants = fitted(w[:half], variances, len(self.constant))
        found, rank = len(constants), len(variances)
        forms, linear = symmetric(coefficients, variances)
        self.forms[:found, :rank, :rank] = forms.to(self.forms)
        self.linear[:found, :rank] = linear.to(self.linear)
        self.constant[:found] = constants.to(self.constant)
        d, normals = self(u[len(u) // 2 :][:_HELD].to(self.forms))
        squares = d.double().square().mean(0)
        self.distances.copy_(squares.sqrt().clamp_min(_FLOOR * spread))
        width = normals[:, 0, :rank].double().square() @ variances
        return float(squares[0] / width.mean())

    def forward(self, u: Tensor, shrink: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """d (B, count) and n (B, count, l) of the surfaces that ``shrink`` u, elementwise with (B, m), is on: of noised
        points, the best linear guess of the point without noise."""
        leading = self.linear.shape[1]
        if isinstance(shrink, Tensor):
            shrink = shrink[:, :leading]
        u = shrink * u[:, :leading]
        turned = (u @ self.forms.permute(1, 0, 2).flatten(1)).reshape(len(u), *self.linear.shape)
        q = (turned * u[:, None]).sum(2) + u @ self.linear.mT + self.constant
        gradient = 2 * turned + self.linear
        if isinstance(shrink, Tensor):
            gradient = gradient * shrink[:, None]
        size = (gradient.square().sum(2) + (q / self.reach).square()).sqrt()
        size = size.clamp_min(torch.finfo(size.dtype).tiny)
        return q / size, gradient / size[..., None]


def before_gap(variances: Tensor) -> int:
    """The number of falling variances (l,) before the widest gap of their logarithms; 1 where there is one.

    >>> before_gap(torch.tensor([1.0, 0.9, 0.01, 0.009]))
    2
    """
    return int((variances[:-1] / variances[1:]).argmax()) + 1 if len(variances) > 1 else 1


def fitted(w: Tensor, variances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Up to ``count`` quadrics near w (N, l), coordinates u over their deviations: the coefficients (count, n) of
    ``monomials`` and the constants (count,), of mean squared gradient 1 in u."""
    n = w.shape[1] * (w.shape[1] + 3) // 2
    values = monomials(w[: _POINTS * n])
    mean, moments = values.mean(0), values.mT @ values / len(values)
    slopes = squared_gradients(variances)
    ridge = 1e-9 * moments.diagonal().mean() * torch.eye(n).to(moments)
    level = torch.linalg.solve(moments + ridge, mean)
    steepness = (level.square() * slopes).sum().sqrt()
    first = level / steepness
    distances = (moments - mean[:, None] * mean) / (slopes[:, None] * slopes).sqrt()
    taken = first * slopes.sqrt()
    _, vectors = torch.linalg.eigh(distances + distances.trace() * taken[:, None] * taken)
    others = vectors[:, : min(count, n) - 1].mT / slopes.sqrt()
    return torch.cat([first[None], others]), torch.cat([-1 / steepness[None], -(others @ mean)])


def monomials(w: Tensor) -> Tensor:
    """Coordinates and products w_i w_k, i <= k, of points w (N, l): (N, l (l + 3) / 2)."""
    i, k = torch.triu_indices(w.shape[1], w.shape[1])
    return torch.cat([w, w[:, i] * w[:, k]], 1)


def squared_gradients(variances: Tensor) -> Tensor:
    """The mean squared gradient of each of the ``monomials`` with respect to u = w sqrt(variances), for uncorrelated w
    of mean 0 and variance 1: (l (l + 3) / 2,). Those of two of them are orthogonal in the mean."""
    i, k = torch.triu_indices(len(variances), len(variances))
    of_products = (1 / variances[i] + 1 / variances[k]) * torch.where(i == k, 2.0, 1.0).to(variances)
    return torch.cat([1 / variances, of_products])


def symmetric(coefficients: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """The forms (count, l, l) and linear terms (count, l) in u of coefficients (count, n) of the ``monomials``."""
    rank, scale = len(variances), variances.rsqrt()
    i, k = torch.triu_indices(rank, rank)
    forms = coefficients.new_zeros(len(coefficients), rank, rank)
    forms[:, i, k] = coefficients[:, rank:] / 2
    return scale[:, None] * (forms + forms.mT) * scale, coefficients[:, :rank] * scale
