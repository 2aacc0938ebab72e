"""Metrics whose paths are measured by chords: squared differences of a map between the nodes of a path.

The graph metric I + weight s s^T of a score s = grad f is the metric induced on the graph of sqrt(weight) f in R^(D+1).
So its energy is N sum_i |u_i|^2 + weight (f_(i+1) - f_i)^2, a sum of squares, and no Jacobian of s enters it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.geodesics.field import Differences, Field
from scorefold_toolkit.geodesics.metric import (
    GeodesicMetric,
    State,
    area_of,
    from_fluxes,
    from_pieces,
    frozen_by_matrices,
    inverse_laplacian,
    subdivision_matrix,
)
from scorefold_toolkit.geodesics.midpoint import GraphMidpoint

_PARTS = 4


class GraphChord(GeodesicMetric):
    """G = I + weight s s^T of a log-density: s its gradient. ``weight`` is in squared units of x.

    Without a log-density in the field, differences of it along a path are line integrals of the score, by the
    trapezoidal rule. Each step is measured in so many ``parts``, with the sum of the squares of their rises: a step
    across a gap between two modes, whose ends are at one level, is free in one part and is not in two.
    """

    models = True

    def __init__(self, field: Field, weight: float, parts: int = 1) -> None:
        self.field, self.weight, self.parts = field, weight, parts
        self.jumps = parts == 1
        self.exact = field.log_prob is not None

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """v + weight s (s.v)."""
        s = self.field.score(x)
        return v + self.weight * (s * v).sum(1, keepdim=True) * s

    def solve(self, x: Tensor, v: Tensor) -> Tensor:
        """v - c s (s.v), c = weight / (1 + weight |s|^2)."""
        s = self.field.score(x)
        return v - self._shrink(s) * (s * v).sum(1, keepdim=True) * s

    def acceleration(self, x: Tensor, v: Tensor) -> Tensor:
        """-c (v^T J v) s."""
        s, along = self.field.push(x, v)
        return -self._shrink(s) * (v * along).sum(1, keepdim=True) * s

    def transport_rate(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """-c (v^T J w) s."""
        s, along = self.field.push(x, v)
        return -self._shrink(s) * (w * along).sum(1, keepdim=True) * s

    def curvature(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """See ``GeodesicMetric.curvature``: by the second fundamental form of the graph."""
        s, of_u = self.field.push(x, u)
        of_w = self.field.push(x, w)[1]
        bent = (u * of_u).sum(1) * (w * of_w).sum(1) - (u * of_w).sum(1) ** 2

        def inner(a: Tensor, b: Tensor) -> Tensor:
            return (a * b).sum(1) + self.weight * (s * a).sum(1) * (s * b).sum(1)

        area = area_of(inner(u, u), inner(w, w), inner(u, w))
        return self.weight * bent / ((1 + self.weight * s.square().sum(1)) * area)

    def sure(self) -> GeodesicMetric | None:
        """Measured at midpoints, with one product J^T u a step."""
        return None if self.exact else GraphMidpoint(self.field, self.weight)

    def finer(self) -> GeodesicMetric | None:
        """With each step in four parts, or eight where log p is a line integral, whose errors they keep small."""
        parts = _PARTS if self.exact else 2 * _PARTS
        return GraphChord(self.field, self.weight, parts) if self.parts == 1 else None

    def evaluate(self, path: Tensor, known: State) -> State:
        """The scores at the ends of all parts and the rises of log p along them, with the energy."""
        cut = path if self.parts == 1 else subdivision_matrix(path.shape[1] - 1, self.parts).to(path) @ path
        flat, lead = cut.flatten(0, 1), cut.shape[:2]
        u = path.diff(dim=1)
        if self.field.log_prob is not None:
            s, heights = (each.unflatten(0, lead) for each in self.field.both(flat))
            rises = heights.diff(dim=1)
        else:
            s = self.field.score(flat).unflatten(0, lead)
            rises = (cut.diff(dim=1) * (s[:, 1:] + s[:, :-1])).sum(2) / 2
        squares = self.parts * rises.square().unflatten(1, (-1, self.parts)).sum(2)
        return from_pieces(u.square().sum(2) + self.weight * squares, score=s, rises=rises)

    def length(self, path: Tensor, known: State) -> Tensor:
        """The length of polylines by all parts of their steps, (B,)."""
        if self.parts == 1:
            return super().length(path, known)
        cut = subdivision_matrix(path.shape[1] - 1, self.parts).to(path) @ path
        return GraphChord(self.field, self.weight).length(cut, known)

    def gradient(self, path: Tensor, state: State) -> Tensor:
        """2N [u_(k-1) - u_k + weight (df_(k-1) - df_k) s_k], for steps of one part."""
        u, pulls = path.diff(dim=1), from_fluxes(state["rises"][..., None]) * state["score"]
        if self.parts > 1:
            pulls = self.parts * subdivision_matrix(u.shape[1], self.parts).to(path).T @ pulls
        return 2 * u.shape[1] * (from_fluxes(u) + self.weight * pulls)

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """The inverse of the normal matrix of Gauss and Newton, 2N (T x I + weight V V^T): O(N^2 D + N^3) a path.

        In one part, column i of V holds s_(i+1) at node i + 1 and -s_i at node i.
        """
        s, steps, parts = state["score"], path.shape[1] - 1, self.parts
        laplacian, inner = inverse_laplacian(steps).to(path), subdivision_matrix(steps, parts).to(path)[:, 1:-1]
        inside = ((inner @ laplacian @ inner.T) * (s @ s.mT)).diff(dim=1).diff(dim=2)
        inside.diagonal(dim1=1, dim2=2).add_(1 / (self.weight * parts))
        factors = torch.linalg.lu_factor_ex(inside)[:2]

        def inverse(g: Tensor) -> Tensor:
            smooth = laplacian @ g
            found = torch.linalg.lu_solve(*factors, (s * (inner @ smooth)).sum(2, keepdim=True).diff(dim=1))
            back = laplacian @ (inner.T @ (s * from_fluxes(found)))
            answer: Tensor = (smooth - back) / (2 * steps)
            return answer

        return inverse

    def _shrink(self, s: Tensor) -> Tensor:
        return self.weight / (1 + self.weight * s.square().sum(1, keepdim=True))


class MapChord(GeodesicMetric):
    """G = identity I + weight J^T J of a map r with Jacobian J, here a field's ``score``: chords |r_(i+1) - r_i|.

    One product J^T w a node gives the gradient, and two products with J the inner product. Each step is measured in so
    many ``parts``, as by ``GraphChord``: a map that comes back to its value would let one step jump. A map in float32
    is not ``exact``: its rounding is a change of energy.
    """

    def __init__(self, field: Field, weight: float, identity: float = 1.0, parts: int = 1, exact: bool = True) -> None:
        self.field, self.weight, self.identity, self.parts = field, weight, identity, parts
        self.jumps, self.exact = parts == 1, exact

    def sure(self) -> GeodesicMetric | None:
        """With a line search that is as patient as in float64."""
        return None if self.exact else type(self)(self.field, self.weight, self.identity, self.parts)

    def finer(self) -> GeodesicMetric | None:
        """With each step in eight parts."""
        parts = 2 * _PARTS
        return MapChord(self.field, self.weight, self.identity, parts, self.exact) if self.parts == 1 else None

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """identity v + weight J^T J v."""
        return self.identity * v + self.weight * self.field.pull(x, self.field.push(x, v)[1])[1]

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """identity v.w + weight (J v).(J w)."""
        of_v, of_w = self.field.push(x, v)[1], self.field.push(x, w)[1]
        return self.identity * (v * w).sum(1) + self.weight * (of_v * of_w).sum(1)

    def acceleration(self, x: Tensor, v: Tensor) -> Tensor:
        """G x'' = -weight J^T d^2 r[v, v]: the map's graph bends across itself alone."""
        return self.solve(x, -self.weight * self.field.pull(x, self.field.bend(x, v))[1])

    def curvature(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """See ``GeodesicMetric.curvature``: by the equation of Gauss, in the second derivatives of the map."""
        uu, ww = self.field.bend(x, u), self.field.bend(x, w)
        uw = (self.field.bend(x, u + w) - uu - ww) / 2

        def across(a: Tensor, b: Tensor) -> Tensor:
            """The product of the parts of a and b, each (R, D), that are normal to the graph of the map."""
            along, other = (self.weight * self.field.pull(x, each)[1] for each in (a, b))
            return self.weight * (a * b).sum(1) - (along * self.solve(x, other)).sum(1)

        area = area_of(self.inner(x, u, u), self.inner(x, w, w), self.inner(x, u, w))
        return (across(uu, ww) - across(uw, uw)) / area

    def evaluate(self, path: Tensor, known: State) -> State:
        """The map at the ends of all parts, with the energy."""
        cut = self._cut(path)
        image = self.field.score(cut.flatten(0, 1)).unflatten(0, cut.shape[:2])
        across = self.weight * self.parts * image.diff(dim=1).square().sum(2).unflatten(1, (-1, self.parts)).sum(2)
        return from_pieces(self.identity * path.diff(dim=1).square().sum(2) + across, image=image)

    def length(self, path: Tensor, known: State) -> Tensor:
        """The length of polylines by all parts of their steps, (B,)."""
        if self.parts == 1:
            return super().length(path, known)
        return MapChord(self.field, self.weight, self.identity).length(self._cut(path), known)

    def _cut(self, path: Tensor) -> Tensor:
        """The ends of all parts of the steps, (B, N parts + 1, D)."""
        return path if self.parts == 1 else subdivision_matrix(path.shape[1] - 1, self.parts).to(path) @ path

    def gradient(self, path: Tensor, state: State) -> Tensor:
        """2N [identity (u_(k-1) - u_k) + weight J_k^T (dr_(k-1) - dr_k)]."""
        u, changes, cut = path.diff(dim=1), from_fluxes(state["image"].diff(dim=1)), self._cut(path)
        back = self.field.pull(cut.flatten(0, 1), changes.flatten(0, 1))[1].unflatten(0, cut.shape[:2])
        if self.parts > 1:
            back = self.parts * subdivision_matrix(u.shape[1], self.parts).to(path).T @ back
        answer: Tensor = 2 * u.shape[1] * (self.identity * from_fluxes(u) + self.weight * back)
        return answer

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """The inverse Hessian of a flat path, over the mean stretch of the path's own steps."""
        return _flat_inverse(path, state)


class FisherChord(MapChord):
    """G = weight J of a denoiser D with Jacobian J, here a field's ``score``, plus ``identity`` times I.

    J / sig^2 is the covariance of the datum given its noised value over sig^4, so it is symmetric and positive. Pieces
    are identity |u|^2 + weight u.dD.
    """

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """The metric by its symmetric part."""
        along, back = self.field.push(x, v)[1], self.field.pull(x, v)[1]
        return self.identity * v + self.weight * (along + back) / 2

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """v.(G w), symmetric in v and w."""
        of_v, of_w = self.field.push(x, v)[1], self.field.push(x, w)[1]
        return self.identity * (v * w).sum(1) + self.weight * ((v * of_w).sum(1) + (w * of_v).sum(1)) / 2

    def acceleration(self, x: Tensor, v: Tensor) -> Tensor:
        """Acceleration by autograd, as for any metric."""
        return GeodesicMetric.acceleration(self, x, v)

    def curvature(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """Curvature by autograd, as for any metric."""
        return GeodesicMetric.curvature(self, x, u, w)

    def finer(self) -> GeodesicMetric | None:
        """None: u.dD is a sum over the parts of a step, so parts change nothing."""
        return None

    def evaluate(self, path: Tensor, known: State) -> State:
        """The denoised nodes, with the energy."""
        image, u = self.field.score(path.flatten(0, 1)).unflatten(0, path.shape[:2]), path.diff(dim=1)
        pieces = self.identity * u.square().sum(2) + self.weight * (u * image.diff(dim=1)).sum(2)
        return from_pieces(pieces, image=image)

    def gradient(self, path: Tensor, state: State) -> Tensor:
        """N [2 identity (u_(k-1) - u_k) + weight (dD_(k-1) - dD_k + J_k^T (u_(k-1) - u_k))]."""
        u = path.diff(dim=1)
        bends, changes = from_fluxes(u), from_fluxes(state["image"].diff(dim=1))
        back = self.field.pull(path.flatten(0, 1), bends.flatten(0, 1))[1].unflatten(0, path.shape[:2])
        answer: Tensor = u.shape[1] * (2 * self.identity * bends + self.weight * (changes + back))
        return answer


class PullbackChord(MapChord):
    """G = J^T J of a map of few coordinates, such as the codes of a decoder: lengths are measured between images.

    Its Jacobian at each node gives the gradient and, with the metric held on each step, the preconditioner.
    """

    field: Differences

    def __init__(self, field: Differences) -> None:
        super().__init__(field, weight=1.0, identity=0.0)
        self._seen: tuple[Tensor, Tensor] | None = None

    def finer(self) -> GeodesicMetric | None:
        """None: its images lie on a surface, and their chords are no shortcuts of energy."""
        return None

    def matrix(self, x: Tensor) -> Tensor:
        """J^T J."""
        jacobian = self.field.jacobian(x)
        return jacobian.mT @ jacobian

    def solve(self, x: Tensor, v: Tensor) -> Tensor:
        """Solution by Cholesky's factors. Raises ``DataError`` where J has no full rank."""
        factor, failed = torch.linalg.cholesky_ex(self.matrix(x))
        if bool(failed.any()):
            raise DataError(
                f"the metric is singular at {int((failed > 0).sum())} of {len(x)} points: some direction changes "
                "nothing there",
                hint="take fewer coordinates, or points nearer to the data",
            )
        return torch.cholesky_solve(v[:, :, None], factor)[:, :, 0]

    def gradient(self, path: Tensor, state: State) -> Tensor:
        """2N J_k^T (dr_(k-1) - dr_k)."""
        changes = from_fluxes(state["image"].diff(dim=1))
        return 2 * (path.shape[1] - 1) * (self._jacobians(path).mT @ changes[..., None])[..., 0]

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """Preconditioner by the inverses of the means of J^T J at the two ends of each step: O(N k^3) a path."""
        jacobians = self._jacobians(path)
        matrices = jacobians.mT @ jacobians
        return frozen_by_matrices((matrices[:, 1:] + matrices[:, :-1]) / 2)

    def _jacobians(self, path: Tensor) -> Tensor:
        """J at the nodes, (B, N + 1, D, k), kept for the path that was asked last."""
        if self._seen is None or not torch.equal(self._seen[0], path):
            self._seen = path.clone(), self.field.jacobian(path.flatten(0, 1)).unflatten(0, path.shape[:2])
        return self._seen[1]


def _flat_inverse(path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
    u = path.diff(dim=1)
    stretch = (state["pieces"].sum(1) / u.square().sum((1, 2)).clamp_min(1e-300)).clamp_min(1e-12)
    laplacian = inverse_laplacian(u.shape[1]).to(path)
    return lambda g: laplacian @ g / (2 * u.shape[1] * stretch[:, None, None])
