"""Paths of least energy: preconditioned gradient steps and L-BFGS, all paths of a batch at once.

The first matrix of L-BFGS is the inverse of the metric's own model of the Hessian: of Gauss and Newton for chords, with
the metric held for midpoints. Without it the number of steps would grow with the square of the number of points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.stage import report
from scorefold_toolkit.geodesics.metric import GeodesicMetric, State, state_rows, write_rows

_SUFFICIENT = 1e-4
_HALVINGS = 30
_FEW_HALVINGS = 4
_FAR = 1e-2
_MEMORY = 8
_ROUNDING = 2e-15
_INEXACT = 1e-6
_PATIENCE = 8
_NEARLY = 1e-3
_CLOSER = 0.7
_AGREES = 0.2


@dataclass(frozen=True)
class Minimum:
    """Paths (B, N + 1, D) with their ``state``. ``decrement`` (B,) is g^T P g / E with P the preconditioner, a share of
    the energy that is still to gain. ``converged`` (B,) says whether it is at most the tolerance. ``calls`` (B,) counts
    evaluations of each path, and ``steps`` (B,) accepted steps; ``energies`` holds the energies after each step."""

    path: Tensor
    state: State
    decrement: Tensor
    converged: Tensor
    calls: Tensor
    steps: Tensor
    energies: tuple[Tensor, ...]


def minimise(
    metric: GeodesicMetric,
    path: Tensor,
    known: State | None = None,
    *,
    tolerance: float = 1e-6,
    steps: int = 100,
    plain: int | None = None,
    longest: float = float("inf"),
) -> Minimum:
    """Moves the inner nodes of paths (B, N + 1, D) to a least energy.

    ``plain`` steps go along the preconditioned gradient, the others are L-BFGS. By default, with a metric that models
    its Hessian, steps are plain while the energy falls as the model says, within 20 %. A step is halved until the
    energy falls enough (Armijo, by the true slope). A trial with a Euclidean step longer than ``longest`` times the
    mean step counts as a failure, unless the path had one before. Paths that are done leave the batch.

    >>> from scorefold_toolkit.geodesics import Field, GraphChord, straight
    >>> normal = GraphChord(Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1)), weight=1.0)
    >>> ends = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    >>> round(float(minimise(normal, straight(*ends, 10)).state["energy"]), 4)
    9.4386
    """
    known, total = {} if known is None else known, len(path)
    work = _Work(metric, path, known, plain is None and metric.models)
    path, state = path.clone(), {name: value.clone() for name, value in work.state.items()}
    decrement = path.new_full((total,), float("inf") if path.shape[1] > 2 else 0.0)
    calls, taken = torch.ones(total, dtype=torch.long), torch.zeros(total, dtype=torch.long)
    energies = [work.state["energy"]]
    for count in range(steps + 1 if path.shape[1] > 2 else 0):
        work.look()
        over = work.over(tolerance) | (count == steps)
        if bool(over.any()):
            index, done = work.rows[over], over.nonzero()[:, 0]
            path[index], decrement[index] = work.path[done], work.decrement[done]
            write_rows(state, index, state_rows(work.state, done))
            calls[index], taken[index] = work.calls[done], work.taken[done]
            if len(done) == len(over):
                break
            work.keep(~over)
        report(total - len(work.rows), total, f"geodesics on {path.shape[1] - 1} steps, iteration {count + 1}")
        work.move(count < (plain or 0), longest)
        energies.append(energies[-1].index_put((work.rows,), work.state["energy"]))
    converged = (decrement <= tolerance) & state["energy"].isfinite()
    return Minimum(path, state, decrement, converged, calls, taken, tuple(energies))


class _Work:
    """The paths that are not done, in the places ``rows`` of their batch, and what is known of each."""

    def __init__(self, metric: GeodesicMetric, path: Tensor, known: State, trusted: bool) -> None:
        self.metric, self.path, self.known, self.state = metric, path, known, metric.evaluate(path, known)
        self.rows = torch.arange(len(path))
        self.calls, self.taken = torch.ones_like(self.rows), torch.zeros_like(self.rows)
        self.since = torch.zeros_like(self.rows)
        self.trusted, self.stuck = torch.full_like(self.rows, trusted).bool(), torch.zeros_like(self.rows).bool()
        self.least = self.lowest = path.new_full((len(path),), float("inf"))
        self.gradient = self.downhill = path[:, 1:-1]
        self.decrement = self.least
        self.inverse: Callable[[Tensor], Tensor] = torch.clone
        self.memory = _Memory()

    def look(self) -> None:
        """Finds the gradient, and the share of the energy that is still to gain."""
        self.gradient = self.metric.gradient(self.path, self.state)[:, 1:-1]
        self.inverse = self.metric.precondition(self.path, self.state)
        self.downhill = self.inverse(self.gradient)
        self.decrement = _dot(self.gradient, self.downhill) / self.state["energy"].clamp_min(1e-300)

    def over(self, tolerance: float) -> Tensor:
        """Mask of finished paths, (B,)."""
        # A sum with a part that is not finite is not finite.
        over = (self.decrement <= tolerance) | ~self.downhill.sum((1, 2)).isfinite() | self.stuck
        if not self.metric.exact:
            # A line integral's gradient differs from the energy's gradient in the last digits: it stops falling there.
            fell = (self.decrement < 0.5 * self.least) | (self.state["energy"] < 0.99 * self.lowest)
            self.least = torch.minimum(self.decrement, self.least)
            self.lowest = torch.minimum(self.state["energy"], self.lowest)
            self.since = torch.where(fell, 0, self.since + 1)
            over |= self.since > _PATIENCE
        return over

    def keep(self, some: Tensor) -> None:
        """Leaves the other paths out."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[some])
        self.known, self.state = state_rows(self.known, some), state_rows(self.state, some)
        self.memory.keep(some)
        self.inverse = self.metric.precondition(self.path, self.state)

    def move(self, plain: bool, longest: float) -> None:
        """One step of all paths; a path that finds none is stuck."""
        self.memory.learn(self.gradient)
        simple = self.trusted | plain
        direction = -self.downhill
        if not bool(simple.all()):
            remembered = -self.memory.direction(self.gradient, self.inverse)
            descent = (_dot(remembered, self.gradient) < 0) & ~simple
            direction = torch.where(descent[:, None, None], remembered, direction)
        moved = self._search(direction, longest, torch.ones_like(simple))
        again = ~moved.done & ~simple
        if bool(again.any()):
            # The remembered curvature misleads these: once more along the preconditioned gradient alone.
            self.memory.forget(again)
            second, index = self._search(-self.downhill, longest, again), again.nonzero()[:, 0]
            moved.write(index, second.path[index], state_rows(second.state, index), second.done[index])
            moved.tries += second.tries
        if bool(self.trusted.any()):
            model = (-0.5 * _dot(self.gradient, direction)).clamp_min(1e-300)
            share = (self.state["energy"] - moved.state["energy"]) / model
            self.trusted &= (moved.tries == 1) & ((share - 1).abs() <= _AGREES)
        self.calls, self.taken = self.calls + moved.tries, self.taken + moved.done
        self.stuck = ~moved.done
        self.memory.move(moved.path[:, 1:-1] - self.path[:, 1:-1])
        self.path, self.state = moved.path, moved.state

    def _search(self, direction: Tensor, longest: float, wanted: Tensor) -> _Moved:
        """Backtracks from a whole step, each path by itself. Paths that find no step keep their old points.

        Where the gradient is not exactly the energy's gradient, a step that lowers the decrement by 0.7 is taken too.
        """
        metric, path, energy = self.metric, self.path, self.state["energy"]
        slope = _dot(self.gradient, direction)
        wanted = wanted & (slope < 0)
        found = _Moved(path, self.state, torch.zeros_like(wanted), torch.zeros_like(self.rows))
        limit = unevenness(path).clamp_min(longest)
        slack = _ROUNDING if metric.exact else _INEXACT
        # Short steps of an inexact search bring nothing. Far from the end the first step can be far too long.
        most = _HALVINGS if metric.exact else torch.where(self.decrement > _FAR, 2 * _FEW_HALVINGS, _FEW_HALVINGS)
        inside = torch.nn.functional.pad(direction, (0, 0, 1, 1))
        for count in range(_HALVINGS):
            act = wanted & ~found.done & (count < most)
            whole, left = bool(act.all()), act.nonzero()[:, 0]
            if not len(left):
                break
            some, size = slice(None) if whole else left, 0.5**count
            trial = path[some] + size * inside[some]
            before, known = energy[some], self.known if whole else state_rows(self.known, left)
            new = metric.evaluate(trial, known)
            found.tries += act
            allowed = before * (1 + slack) + _SUFFICIENT * size * slope[some]
            fair = new["energy"].isfinite() & (unevenness(trial) <= limit[some])
            good = (new["energy"] <= allowed) & fair
            if not metric.exact:
                near = (~good & fair & (new["energy"] <= (1 + _NEARLY) * before)).nonzero()[:, 0]
                if len(near):
                    good[near] = (
                        _share(metric, trial[near], state_rows(new, near)) <= _CLOSER * self.decrement[left[near]]
                    )
            if whole and bool(good.all()):
                return _Moved(trial, new, good, found.tries)
            if bool(good.any()):
                found.write(left[good], trial[good], state_rows(new, good.nonzero()[:, 0]), good[good])
        return found


@dataclass
class _Moved:
    """Result of a line search: paths, their states, a mask of successes, and the number of evaluations."""

    path: Tensor
    state: State
    done: Tensor
    tries: Tensor

    def write(self, index: Tensor, path: Tensor, state: State, done: Tensor) -> None:
        """Writes some paths; what was passed in at first is left as it was."""
        self.path, self.state = self.path.clone(), {name: value.clone() for name, value in self.state.items()}
        self.path[index], self.done[index] = path, done
        write_rows(self.state, index, state)


class _Memory:
    """The last moves of each path and the changes of its gradient, for the two loops of L-BFGS."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self.last: tuple[Tensor, Tensor] | None = None
        self.gradient: Tensor | None = None

    def move(self, step: Tensor) -> None:
        """Notes the steps that paths took, 0 for those that took none."""
        assert self.gradient is not None
        self.last = step, self.gradient

    def learn(self, gradient: Tensor) -> None:
        """Notes the gradients at the new points, and the pairs of steps and changes whose curvature is positive."""
        if self.last is not None:
            step, change = self.last[0], gradient - self.last[1]
            product = _dot(step, change)
            valid = product > 1e-12 * (_dot(step, step) * _dot(change, change)).sqrt()
            inverse = torch.where(valid, 1 / product, 0.0)[:, None, None]
            self.pairs = [*self.pairs[1 - _MEMORY :], (step, change, inverse)]
        self.gradient = gradient

    def forget(self, some: Tensor) -> None:
        """Forgets the pairs of some paths."""
        self.pairs = [(step, change, inverse.where(~some[:, None, None], 0.0)) for step, change, inverse in self.pairs]

    def keep(self, some: Tensor) -> None:
        """Leaves the other paths out."""
        self.pairs = [(step[some], change[some], inverse[some]) for step, change, inverse in self.pairs]
        if self.last is not None:
            self.last = self.last[0][some], self.last[1][some]

    def direction(self, gradient: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
        """The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4)."""
        rest, sizes = gradient, []
        for step, change, scale in reversed(self.pairs):
            size = scale * (step * rest).sum((1, 2), keepdim=True)
            rest = torch.addcmul(rest, size, change, value=-1)
            sizes.append(size)
        found = inverse(rest)
        for (step, change, scale), size in zip(self.pairs, reversed(sizes), strict=True):
            size = size - scale * (change * found).sum((1, 2), keepdim=True)
            found = torch.addcmul(found, size, step)
        return found


def unevenness(path: Tensor) -> Tensor:
    """The longest Euclidean step of each path over its mean step, (B,)."""
    steps: Tensor = path.diff(dim=1).norm(dim=2)
    return steps.amax(1) / steps.mean(1).clamp_min(1e-300)


def _share(metric: GeodesicMetric, path: Tensor, state: State) -> Tensor:
    """The decrement at paths."""
    gradient = metric.gradient(path, state)[:, 1:-1]
    downhill = metric.precondition(path, state)(gradient)
    return _dot(gradient, downhill) / state["energy"].clamp_min(1e-300)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2))
