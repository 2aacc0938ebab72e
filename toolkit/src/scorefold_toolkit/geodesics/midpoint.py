"""Metrics whose paths are measured at the midpoints of their steps: E = N sum_i u_i^T G(m_i) u_i.

The rule is symmetric and of second order. The left-end rule of published codes (``rule="left"``) measures at x_i: it is
of first order, and a path and its reverse get two lengths. It is kept for comparisons with those codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from scorefold_toolkit.geodesics.field import Field, Rows
from scorefold_toolkit.geodesics.metric import (
    GeodesicMetric,
    State,
    area_of,
    from_fluxes,
    from_pieces,
    frozen_by_matrices,
    frozen_inverse,
)

Rule = Literal["midpoint", "left"]


class Measured(GeodesicMetric):
    """A metric by its values at the points where steps are measured. Must besides: ``parts``, ``times``, ``slopes``."""

    def __init__(self, rule: Rule = "midpoint") -> None:
        self.rule = rule

    def parts(self, places: Tensor, path: Tensor, known: State) -> State:
        """Parts of the metric at places (B, N, D), each (B, N, ...)."""
        raise NotImplementedError

    def times(self, parts: State, u: Tensor) -> Tensor:
        """G_i u_i, (B, N, D)."""
        raise NotImplementedError

    def slopes(self, places: Tensor, u: Tensor, parts: State) -> Tensor:
        """The gradient of u_i^T G(m) u_i by m at each place, (B, N, D)."""
        raise NotImplementedError

    def evaluate(self, path: Tensor, known: State) -> State:
        """See ``GeodesicMetric.evaluate``."""
        u = path.diff(dim=1)
        parts = self.parts(self._places(path), path, known)
        return from_pieces((u * self.times(parts, u)).sum(2), **parts)

    def gradient(self, path: Tensor, state: State) -> Tensor:
        """N [2 (G_(k-1) u_(k-1) - G_k u_k) + (q_(k-1) + q_k) / 2], with q_i the slopes."""
        u, places = path.diff(dim=1), self._places(path)
        steps, slopes = u.shape[1], self.slopes(places, u, state)
        fluxes = 2 * steps * self.times(state, u)
        if self.rule == "midpoint":
            return from_fluxes(fluxes, steps * slopes)
        at_nodes = torch.cat([steps * slopes, torch.zeros_like(slopes[:, :1])], 1)
        return from_fluxes(fluxes) + at_nodes

    def _places(self, path: Tensor) -> Tensor:
        return path[:, :-1] if self.rule == "left" else (path[:, 1:] + path[:, :-1]) / 2


class GraphMidpoint(Measured):
    """G = I + weight s s^T for any vector field s, also one that is no gradient. ``weight`` is in squared units of x.

    Its gradient takes one product J^T u a step. For gradients of a log-density ``GraphChord`` takes none.
    """

    def __init__(self, field: Field, weight: float, rule: Rule = "midpoint") -> None:
        super().__init__(rule)
        self.field, self.weight = field, weight

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """v + weight s (s.v)."""
        s = self.field.score(x)
        return v + self.weight * (s * v).sum(1, keepdim=True) * s

    def acceleration(self, x: Tensor, v: Tensor) -> Tensor:
        """G x'' = -weight [(v^T J v) s + (s.v) (J - J^T) v]."""
        s, along = self.field.push(x, v)
        back = self.field.pull(x, v)[1]
        force = (v * along).sum(1, keepdim=True) * s + (s * v).sum(1, keepdim=True) * (along - back)
        shrunk = self.weight * (s * force).sum(1, keepdim=True) / (1 + self.weight * s.square().sum(1, keepdim=True))
        return -self.weight * (force - shrunk * s)

    def parts(self, places: Tensor, path: Tensor, known: State) -> State:
        """The field at the places."""
        return {"score": self.field.score(places.flatten(0, 1)).unflatten(0, places.shape[:2])}

    def times(self, parts: State, u: Tensor) -> Tensor:
        """u + weight s (s.u)."""
        s = parts["score"]
        return u + self.weight * (s * u).sum(2, keepdim=True) * s

    def slopes(self, places: Tensor, u: Tensor, parts: State) -> Tensor:
        """2 weight (s.u) J^T u."""
        back = self.field.pull(places.flatten(0, 1), u.flatten(0, 1))[1].unflatten(0, u.shape[:2])
        answer: Tensor = 2 * self.weight * (parts["score"] * u).sum(2, keepdim=True) * back
        return answer

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """Preconditioner by Woodbury's identity in the scores: O(N^2 D + N^3) a path."""
        s = state["score"]
        squares = 1 / self.weight + s.square().sum(2)
        steps = s.shape[1]
        gram = torch.diag_embed(squares) - s @ s.mT / steps

        def inverse(v: Tensor) -> Tensor:
            return v - (s * v).sum(2, keepdim=True) / squares[..., None] * s

        def solve_sum(v: Tensor) -> Tensor:
            inside = torch.linalg.solve(gram, s @ v[:, :, None])
            answer: Tensor = (v + (s.mT @ inside)[:, :, 0] / steps) / steps
            return answer

        return lambda g: frozen_inverse(g, inverse, solve_sum)


class Conformal(Measured):
    """G = e^(2 phi) I with phi a function of log p, f: ``shape(f)`` gives phi and dphi/df, each (R,).

    Where the field has no log-density, ``at_ends`` gives log p at rows (R, D): it is called once for the ends of a
    path, and in between log p is the line integral of the score, made to end where ``at_ends`` says.
    """

    def __init__(
        self,
        field: Field,
        shape: Callable[[Tensor], tuple[Tensor, Tensor]],
        rule: Rule = "midpoint",
        at_ends: Rows | None = None,
    ) -> None:
        super().__init__(rule)
        self.field, self.shape, self.at_ends = field, shape, at_ends
        self.exact = field.log_prob is not None

    def log_prob(self, x: Tensor) -> Tensor:
        """log p at rows (R,)."""
        known = self.field.log_prob or self.at_ends
        assert known is not None
        return known(x)

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """e^(2 phi) v."""
        return (2 * self.shape(self.log_prob(x))[0]).exp()[:, None] * v

    def solve(self, x: Tensor, v: Tensor) -> Tensor:
        """e^(-2 phi) v."""
        return (-2 * self.shape(self.log_prob(x))[0]).exp()[:, None] * v

    def acceleration(self, x: Tensor, v: Tensor) -> Tensor:
        """-2 (v.g) v + |v|^2 g with g = grad phi."""
        g = self.slope(x)
        return -2 * (v * g).sum(1, keepdim=True) * v + v.square().sum(1, keepdim=True) * g

    def transport_rate(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """-(g.v) w - (g.w) v + (v.w) g."""
        g = self.slope(x)
        along, across = (g * v).sum(1, keepdim=True), (g * w).sum(1, keepdim=True)
        return -along * w - across * v + (v * w).sum(1, keepdim=True) * g

    def curvature(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """See ``GeodesicMetric.curvature``.

        It is -e^(-2 phi) [H(u, u) + H(w, w) + |g|^2 - (g.u)^2 - (g.w)^2] for orthonormal u and w,
        with g the gradient and H the Hessian of phi (Besse 1987)."""
        with torch.enable_grad():
            f = self.log_prob(x).detach().requires_grad_()
            phi, rate = self.shape(f)
            (bend,) = torch.autograd.grad(rate.sum(), f) if rate.requires_grad else (torch.zeros_like(f),)
        phi, rate, g = phi.detach(), rate.detach(), self.slope(x)
        area = area_of(u.square().sum(1), w.square().sum(1), (u * w).sum(1))
        first = u / u.norm(dim=1, keepdim=True)
        across = w - (first * w).sum(1, keepdim=True) * first
        total = g.square().sum(1)
        for unit in (first, across / across.norm(dim=1, keepdim=True)):
            s, along = self.field.push(x, unit)
            total = total + rate * (unit * along).sum(1) + bend * (s * unit).sum(1) ** 2 - (g * unit).sum(1) ** 2
        return torch.where(area.isnan(), area, -(-2 * phi).exp() * total)

    def slope(self, x: Tensor) -> Tensor:
        """grad phi at rows, (R, D)."""
        return self.shape(self.log_prob(x))[1][:, None] * self.field.score(x)

    def known(self, start: Tensor, end: Tensor) -> State:
        """log p and the score at the ends, where the field does not know log p."""
        if self.field.log_prob is not None or self.at_ends is None:
            return {}
        both = torch.cat([start, end])
        found = {"ends": self.at_ends(both), "end scores": self.field.score(both)}
        return {name: torch.stack(each.chunk(2), 1) for name, each in found.items()}

    def parts(self, places: Tensor, path: Tensor, known: State) -> State:
        """phi, its derivative by log p, and the score, at the places."""
        flat, lead = places.flatten(0, 1), places.shape[:2]
        if self.field.log_prob is not None:
            s, f = (each.unflatten(0, lead) for each in self.field.both(flat))
        else:
            s = self.field.score(flat).unflatten(0, lead)
            f = integrated(places, s, path, known["ends"], known.get("end scores", s[:, [0, -1]]))
        phi, rate = self.shape(f.flatten())
        return {"phi": phi.unflatten(0, lead), "rate": rate.unflatten(0, lead), "score": s}

    def times(self, parts: State, u: Tensor) -> Tensor:
        """e^(2 phi) u."""
        return (2 * parts["phi"]).exp()[..., None] * u

    def slopes(self, places: Tensor, u: Tensor, parts: State) -> Tensor:
        """2 e^(2 phi) |u|^2 grad phi."""
        factor = 2 * (2 * parts["phi"]).exp() * u.square().sum(2) * parts["rate"]
        return factor[..., None] * parts["score"]

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """O(N D) a path."""
        shrink = (-2 * state["phi"]).exp()[..., None]
        total = shrink.sum(1)
        return lambda g: frozen_inverse(g, lambda v: shrink * v, lambda v: v / total)


class Diagonal(Measured):
    """G = diag(h(x)) for a function h of rows (R, D) to positive numbers (R, D), differentiated by autograd."""

    def __init__(self, values: Rows, rule: Rule = "midpoint") -> None:
        super().__init__(rule)
        self.values = values

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """h(x) v."""
        return self.values(x) * v

    def solve(self, x: Tensor, v: Tensor) -> Tensor:
        """v / h(x)."""
        return v / self.values(x)

    def parts(self, places: Tensor, path: Tensor, known: State) -> State:
        """h at the places."""
        return {"values": self.values(places.flatten(0, 1)).unflatten(0, places.shape[:2])}

    def times(self, parts: State, u: Tensor) -> Tensor:
        """h u."""
        return parts["values"] * u

    def slopes(self, places: Tensor, u: Tensor, parts: State) -> Tensor:
        """Slopes by autograd."""
        return _by_autograd(self, places, u)

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """O(N D) a path."""
        shrink = 1 / state["values"]
        total = shrink.sum(1)
        return lambda g: frozen_inverse(g, lambda v: shrink * v, lambda v: v / total)


class Matrices(Measured):
    """Any G by a function of rows (R, D) to symmetric positive definite matrices (R, D, D): O(N D^3) a path."""

    def __init__(self, matrices: Rows, rule: Rule = "midpoint") -> None:
        super().__init__(rule)
        self.matrices = matrices

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """G(x) v."""
        return (self.matrices(x) @ v[:, :, None])[:, :, 0]

    def matrix(self, x: Tensor) -> Tensor:
        """G(x)."""
        return self.matrices(x)

    def parts(self, places: Tensor, path: Tensor, known: State) -> State:
        """G at the places."""
        return {"matrices": self.matrices(places.flatten(0, 1)).unflatten(0, places.shape[:2])}

    def times(self, parts: State, u: Tensor) -> Tensor:
        """G u."""
        return (parts["matrices"] @ u[..., None])[..., 0]

    def slopes(self, places: Tensor, u: Tensor, parts: State) -> Tensor:
        """Slopes by autograd."""
        return _by_autograd(self, places, u)

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """Preconditioner by the inverses of all G_i."""
        return frozen_by_matrices(state["matrices"])


def integrated(places: Tensor, s: Tensor, path: Tensor, ends: Tensor, at_ends: Tensor) -> Tensor:
    """log p at places (B, N, D) of paths, (B, N): the line integral of the score s there.

    The trapezoidal rule is corrected by second differences, so its error falls with the fourth power of the steps. The
    integral starts and ends at the values ``ends`` (B, 2) with the scores ``at_ends`` (B, 2, D). What it misses the
    values by is spread along the path.
    """
    points = torch.cat([path[:, :1], places, path[:, -1:]], 1)
    steps, turns = points.diff(dim=1), torch.cat([at_ends[:, :1], s, at_ends[:, 1:]], 1)
    rises = (steps * (turns[:, 1:] + turns[:, :-1])).sum(2) / 2
    if places.shape[1] > 2:
        inside, bent = places.diff(dim=1), _second_differences(places)
        rises[:, 1:-1] -= ((_second_differences(s) * inside).sum(2) - (s.diff(dim=1) * bent).sum(2)) / 12
    reached = rises.cumsum(1)
    lengths = steps.square().sum(2).sqrt().cumsum(1)
    share = lengths / lengths[:, -1:].clamp_min(1e-300)
    missed = ends[:, 1:] - ends[:, :1] - reached[:, -1:]
    found: Tensor = (ends[:, :1] + reached + share * missed)[:, :-1]
    return found


def _second_differences(values: Tensor) -> Tensor:
    """Second differences of values (B, N, D) at the middles of their steps, (B, N - 1, D)."""
    bent = values.diff(n=2, dim=1)
    bent = torch.cat([bent[:, :1], bent, bent[:, -1:]], 1)
    return (bent[:, 1:] + bent[:, :-1]) / 2


def _by_autograd(metric: GeodesicMetric, places: Tensor, u: Tensor) -> Tensor:
    """The gradient of u^T G(m) u by m, (B, N, D)."""
    with torch.enable_grad():
        m = places.detach().flatten(0, 1).requires_grad_()
        flat = u.detach().flatten(0, 1)
        value = (flat * metric.apply(m, flat)).sum()
        if not value.requires_grad:
            return torch.zeros_like(u)
        (found,) = torch.autograd.grad(value, m, materialize_grads=True)
    answer: Tensor = found.unflatten(0, u.shape[:2]).detach()
    return answer
