"""Whether a discrete geodesic is a shortest path: the least eigenvalue of the Hessian of its energy."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold_toolkit.geodesics.metric import Metric

_STEPS = 20
_MOVE = 1e-4
_SMALL = 1e-10


def least_eigenvalue(metric: Metric, path: Tensor, *, steps: int = _STEPS) -> Tensor:
    """The least eigenvalue of the Hessian of the energy at paths (B, N + 1, D), (B,), relative to the preconditioner.

    Below 0 the path is a saddle of the energy, and no shortest path. It is 1 where the preconditioner is the Hessian's
    inverse, and infinite for a path of one step. Lanczos's method in the preconditioner's inner product, with products
    by central differences of the gradient; its value is an upper bound.

    >>> import torch
    >>> from scorefold_toolkit.geodesics import Field, GraphChord, straight
    >>> normal = GraphChord(Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1)), weight=1.0)
    >>> line = straight(torch.tensor([[-2.0, 0.0]]).double(), torch.tensor([[2.0, 0.0]]).double(), 16)
    >>> bool(least_eigenvalue(normal, line) < 0)  # over the top of the hill: the way round is shorter
    True
    """
    batch, nodes, size = path.shape
    if nodes <= 2:
        return path.new_full((batch,), float("inf"))
    known = metric.known(path[:, 0], path[:, -1])
    inverse = metric.precondition(path, metric.evaluate(path, known))
    reach = path.diff(dim=1).norm(dim=2).mean(1)

    def product(move: Tensor) -> Tensor:
        """The Hessian on moves of the inner nodes (B, N - 1, D)."""
        scale = _MOVE * reach / move.norm(dim=2).amax(1).clamp_min(1e-300)
        whole = torch.nn.functional.pad(scale[:, None, None] * move, (0, 0, 1, 1))
        ahead, behind = (metric.gradient(at, metric.evaluate(at, known)) for at in (path + whole, path - whole))
        answer: Tensor = (ahead - behind)[:, 1:-1] / (2 * scale)[:, None, None]
        return answer

    draws = torch.randn(nodes - 2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rest = draws.to(path).expand(batch, -1, -1)
    duals: list[Tensor] = []
    primals: list[Tensor] = []
    count = min(steps, (nodes - 2) * size)
    matrix = path.new_zeros(batch, count, count)
    matrix.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    alive = torch.ones(batch, dtype=torch.bool)
    first = path.new_ones(batch)
    for k in range(count):
        for _ in range(2):  # the second time takes away what rounding left
            for dual, primal in zip(duals, primals, strict=True):
                rest = rest - (rest * primal).sum((1, 2), keepdim=True) * dual
        moved = inverse(rest)
        square = (rest * moved).sum((1, 2))
        first = square if k == 0 else first
        alive = alive & (square > _SMALL**2 * first) & square.isfinite()
        norm = torch.where(alive, square, 1.0).sqrt()[:, None, None]
        duals.append(torch.where(alive[:, None, None], rest / norm, 0.0))
        primals.append(torch.where(alive[:, None, None], moved / norm, 0.0))
        rest = product(primals[-1])
        for j, primal in enumerate(primals):
            value = (rest * primal).sum((1, 2))
            matrix[:, k, j] = matrix[:, j, k] = torch.where(alive, value, matrix[:, k, j])
    # Rows after the end of a path's Krylov space hold nothing.
    large = 1e6 * (1 + torch.where(matrix.isfinite(), matrix, 0.0).abs().amax((1, 2)))
    filled = torch.where(matrix.isfinite(), matrix, large[:, None, None])
    least: Tensor = torch.linalg.eigvalsh(filled)[:, 0]
    return least
