"""A metric G on R^D: products at points, the equation of its geodesics, and the energy of discrete paths.

A path x_0..x_N is (B, N + 1, D) with steps u_i = x_(i+1) - x_i. Its energy is E = N sum_i pieces_i, with pieces_i the
squared length of step i. At a geodesic sqrt(E) is the length, and it is never less than the length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import DataError
from scorefold_toolkit.figures import EventGroups

State = dict[str, Tensor]
"""Tensors about each path of a batch, all with B rows: ``energy`` (B,), ``pieces`` (B, N), and a metric's own."""

_DENSE = 128
"""The most coordinates for which a linear system is solved by its matrix."""

_PRECISION = 1e-13
_PARALLEL = 1e-12


class GeodesicMetric(ABC):
    """Must: ``apply``, ``evaluate``, ``gradient``, ``precondition``. Given, override for speed: the others.

    Points and vectors are rows (R, D) in float64, paths (B, N + 1, D). Rows do not depend on one another.
    """

    exact = True
    """True if the gradient is the energy's gradient up to rounding; a line integral of the score errs by O(1/N^3)."""
    jumps = True
    """Whether a step of a path can be short because it jumps over a gap: steps far above the mean are then refused."""
    models = False
    """Whether the preconditioner models the Hessian, as Gauss and Newton's does: its steps are then tried plain."""

    @abstractmethod
    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """G(x) v, (R, D)."""

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """v^T G(x) w, (R,)."""
        return (v * self.apply(x, w)).sum(1)

    def matrix(self, x: Tensor) -> Tensor:
        """G(x), (R, D, D), by one product a coordinate."""
        rows, size = x.shape
        basis = torch.eye(size, dtype=x.dtype, device=x.device)
        columns = self.apply(x.repeat_interleave(size, 0), basis.repeat(rows, 1))
        return columns.reshape(rows, size, size).mT

    def solve(self, x: Tensor, v: Tensor) -> Tensor:
        """G(x)^-1 v, (R, D): by the matrix up to 128 coordinates, else by conjugate gradients."""
        if x.shape[1] <= _DENSE:
            found: Tensor = torch.linalg.solve(self.matrix(x), v)
            return found
        return conjugate_gradients(lambda w: self.apply(x, w), v)

    def acceleration(self, x: Tensor, v: Tensor) -> Tensor:
        """x'' of the geodesic through x with velocity v, (R, D).

        G x'' = grad_x [v^T G v / 2] - (dG[v]) v (do Carmo 1992, ch. 3).
        """
        forward_rules()
        slope = torch.func.grad(lambda at: 0.5 * (v * self.apply(at, v)).sum())(x)
        change = torch.func.jvp(lambda at: self.apply(at, v), (x,), (v,))[1]
        return self.solve(x, slope - change)

    def transport_rate(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """w' of a vector w carried in parallel along a curve through x with velocity v, (R, D).

        w' = -Gamma(v, w), and Gamma(v, v) = -acceleration gives it by polarisation.
        """
        both = self.acceleration(x, v + w)
        return (both - self.acceleration(x, v) - self.acceleration(x, w)) / 2

    def curvature(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """The sectional curvature of the plane of u and w at rows x, (R,); NaN for parallel vectors.

        <R(u, w) w, u> over the area, R(u, w) w = D_u Gamma(w, w) - D_w Gamma(u, w) + Gamma(u, Gamma(w, w)) -
        Gamma(w, Gamma(u, w)), differentiated by torch (do Carmo 1992, ch. 4).
        """

        def turn(at: Tensor, a: Tensor, b: Tensor) -> Tensor:
            return -self.transport_rate(at, a, b)

        forward_rules()
        ww, change = torch.func.jvp(lambda at: turn(at, w, w), (x,), (u,))[:2]
        uw, other = torch.func.jvp(lambda at: turn(at, u, w), (x,), (w,))[:2]
        bent = change - other + turn(x, u, ww) - turn(x, w, uw)
        area = area_of(self.inner(x, u, u), self.inner(x, w, w), self.inner(x, u, w))
        return self.inner(x, bent, u) / area

    def known(self, start: Tensor, end: Tensor) -> State:
        """Values computed once for pairs of ends (B, D) and passed to every ``evaluate`` of their paths."""
        return {}

    def sure(self) -> GeodesicMetric | None:
        """The same metric with an exact gradient on paths, for pairs that do not converge; None where it is exact."""
        return None

    def finer(self) -> GeodesicMetric | None:
        """This metric with more points per step, for paths that jump over gaps; None if there is none."""
        return None

    @abstractmethod
    def evaluate(self, path: Tensor, known: State) -> State:
        """The state of paths (B, N + 1, D)."""

    @abstractmethod
    def gradient(self, path: Tensor, state: State) -> Tensor:
        """dE/dx at all nodes, (B, N + 1, D), the ends included."""

    @abstractmethod
    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """A positive definite map from gradients at inner nodes (B, N - 1, D) to moves of them."""

    def length(self, path: Tensor, known: State) -> Tensor:
        """The length of polylines (B, N + 1, D) by their own pieces, (B,)."""
        return self.evaluate(path, known)["pieces"].clamp_min(0).sqrt().sum(1)


def area_of(uu: Tensor, ww: Tensor, uw: Tensor) -> Tensor:
    """The squared area of a parallelogram from the products of its sides, (R,); NaN for parallel ones."""
    area = uu * ww - uw.square()
    return torch.where(area > _PARALLEL * uu * ww, area, torch.nan)


def state_rows(state: State, index: Tensor) -> State:
    """Some rows of a state."""
    return {name: value[index] for name, value in state.items()}


def write_rows(state: State, index: Tensor, part: State) -> None:
    """Writes rows of a state, in place."""
    for name, value in part.items():
        state[name][index] = value


def from_pieces(pieces: Tensor, **others: Tensor) -> State:
    """A state with the energy of its pieces (B, N)."""
    return {"energy": pieces.shape[1] * pieces.sum(1), "pieces": pieces, **others}


def from_fluxes(fluxes: Tensor, slopes: Tensor | None = None) -> Tensor:
    """dE/dx at nodes (B, N + 1, D) from the derivatives by the steps u_i, (B, N, D), and by the midpoints m_i."""
    pad = torch.nn.functional.pad
    gradient = pad(fluxes, (0, 0, 1, 0)) - pad(fluxes, (0, 0, 0, 1))
    if slopes is not None:
        gradient = gradient + (pad(slopes, (0, 0, 1, 0)) + pad(slopes, (0, 0, 0, 1))) / 2
    return gradient


@lru_cache
def inverse_laplacian(steps: int) -> Tensor:
    """T^-1 (N - 1, N - 1) of T = tridiag(-1, 2, -1): min(j, k) (N - max(j, k)) / N."""
    k = torch.arange(1, steps, dtype=torch.float64)
    return torch.minimum(k[:, None], k) * (steps - torch.maximum(k[:, None], k)) / steps


@lru_cache
def subdivision_matrix(steps: int, parts: int) -> Tensor:
    """The matrix (N parts + 1, N + 1) from nodes to the ends of equal parts of the straight steps between them."""
    place = torch.arange(steps * parts + 1, dtype=torch.float64)[:, None] / parts
    return (1 - (place - torch.arange(steps + 1, dtype=torch.float64)).abs()).clamp_min(0)


def frozen_inverse(
    gradient: Tensor, inverse: Callable[[Tensor], Tensor], solve_sum: Callable[[Tensor], Tensor]
) -> Tensor:
    """H^-1 g with H = 2N Delta^T diag(G_i) Delta, the Hessian of the energy where the metric is held: (B, N - 1, D).

    ``inverse`` is G_i^-1 on (B, N, D), and ``solve_sum`` is (sum_i G_i^-1)^-1 on (B, D). A step x - H^-1 grad E is
    GEORCE's update (Rygaard and Hauberg 2025, arXiv 2505.05961).
    """
    steps = gradient.shape[1] + 1
    sums = torch.cat([torch.zeros_like(gradient[:, :1]), gradient.cumsum(1)], 1) / (2 * steps)
    constant = solve_sum(inverse(sums).sum(1))
    moves: Tensor = inverse(constant[:, None] - sums).cumsum(1)[:, :-1]
    return moves


def frozen_by_matrices(matrices: Tensor) -> Callable[[Tensor], Tensor]:
    """``frozen_inverse`` for metrics G_i by their matrices (B, N, D, D): not finite where one is singular."""
    inverses, failed = torch.linalg.inv_ex(matrices)
    inverses = torch.where((failed != 0)[..., None, None], torch.nan, inverses)
    total = torch.linalg.inv_ex(inverses.sum(1)).inverse
    return lambda g: frozen_inverse(
        g, lambda v: (inverses @ v[..., None])[..., 0], lambda v: (total @ v[..., None])[..., 0]
    )


def conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Solves A x = b for rows b (R, D) with A positive definite. Raises ``DataError`` where it does not converge."""
    x, residual = torch.zeros_like(b), b.clone()
    direction, square = residual.clone(), b.square().sum(1, keepdim=True)
    goal = _PRECISION**2 * square
    for _ in range(4 * b.shape[1]):
        if bool((square <= goal).all()):
            return x
        image = product(direction)
        step = square / (direction * image).sum(1, keepdim=True).clamp_min(1e-300)
        x, residual = x + step * direction, residual - step * image
        before, square = square, residual.square().sum(1, keepdim=True)
        direction = residual + square / before.clamp_min(1e-300) * direction
    raise DataError("a metric was not inverted by conjugate gradients: it is not positive definite, or too uneven")


_STEPS = 20
_MOVE = 1e-4
_SMALL = 1e-10


def least_eigenvalue(metric: GeodesicMetric, path: Tensor, *, steps: int = _STEPS) -> Tensor:
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


class Denoises(ABC):
    """A geometry that knows E[x_0 | x] at its noise level: paths of it stand beside denoised ones.

    ``straight_denoised`` is no geodesic, and the baseline to fear. It takes a call a point and no solver, and its
    pictures may be likelier than a geodesic's. The verb ``interpolate`` and the figures of a geometry show it.

    >>> class Normal(Denoises):
    ...     sigma = 1.0
    ...
    ...     def denoised(self, x):
    ...         return x / 2  # of N(0, I)
    >>> a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> Normal().straight_denoised(a, b, torch.tensor([0.0, 0.5]))
    tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000]]])
    """

    @property
    @abstractmethod
    def sigma(self) -> float:
        """The deviation of the noise, in units of the data; 0 where there is none, and nothing to denoise."""

    @abstractmethod
    def denoised(self, x: Tensor) -> Tensor:
        """E[x_0 | x] of points (B, *E), (B, *E)."""

    def straight_denoised(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The denoised points of straight lines from x to y (B, *E) at times s (T,), (B, T, *E), ends included."""
        line = _lines(x, y, s)
        answer: Tensor = self.denoised(line.flatten(0, 1)).unflatten(0, line.shape[:2])
        return answer


def pictured(geometry: object, paths: Tensor) -> EventGroups:
    """Paths (G, T, *E) in equal times as rows of a picture (R G, T, *E), path by path.

    A path stands above its straight line. Where the geometry denoises, each is followed by its denoised points.
    """
    times = torch.linspace(0, 1, paths.shape[1]).to(paths)
    x, y = paths[:, 0], paths[:, -1]
    line = _lines(x, y, times)
    if not isinstance(geometry, Denoises) or geometry.sigma == 0:
        pairs = torch.stack([paths, line], 1).flatten(0, 1)
        return EventGroups(pairs, "a geodesic, the straight line", path=True, rows=2)
    own = geometry.denoised(paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
    rows = torch.stack([paths, own, line, geometry.straight_denoised(x, y, times)], 1)
    names = "a geodesic, its points denoised, the straight line, its points denoised"
    return EventGroups(rows.flatten(0, 1), names, path=True, rows=4)


def _lines(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    share = s.to(x).reshape(1, -1, *[1] * (x.dim() - 1))
    return (1 - share) * x[:, None] + share * y[:, None]
