"""Paths of least energy: preconditioned gradient steps and L-BFGS, all paths of a batch at once.

The first matrix of L-BFGS is the inverse of the metric's own model of the Hessian: of Gauss and Newton for chords, with
the metric held for midpoints. Without it the number of steps would grow with the square of the number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold_toolkit.geodesics.metric import Metric, State, put, rows

_SUFFICIENT = 1e-4
_HALVINGS = 30
_FEW_HALVINGS = 8
_FAR = 1e-2
_MEMORY = 8
_ROUNDING = 2e-15
_INEXACT = 1e-6
_PATIENCE = 8
_NEARLY = 1e-3
_CLOSER = 0.7


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
    metric: Metric,
    path: Tensor,
    known: State | None = None,
    *,
    tolerance: float = 1e-6,
    steps: int = 100,
    plain: int | None = None,
    longest: float = float("inf"),
) -> Minimum:
    """Moves the inner nodes of paths (B, N + 1, D) to a least energy.

    ``plain`` steps go along the preconditioned gradient, the others are L-BFGS. A step is halved until the energy falls
    enough (Armijo, by the true slope). A trial with a Euclidean step longer than ``longest`` times the mean step counts
    as a failure, unless the path had one before. Paths that are done leave the batch.

    >>> from scorefold_toolkit.geodesics import Field, GraphChord, straight
    >>> normal = GraphChord(Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1)), weight=1.0)
    >>> ends = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    >>> round(float(minimise(normal, straight(*ends, 10)).state["energy"]), 4)
    9.4386
    """
    known = {} if known is None else known
    plain = metric.plain_steps if plain is None else plain
    path, batch = path.clone(), len(path)
    state = metric.evaluate(path, known)
    slack = _ROUNDING if metric.exact else _INEXACT
    decrement = path.new_full((batch,), float("inf"))
    open_ = torch.ones(batch, dtype=torch.bool, device=path.device)
    calls, taken = torch.ones_like(open_, dtype=torch.long), torch.zeros_like(open_, dtype=torch.long)
    least, lowest, since = decrement.clone(), decrement.clone(), taken.clone()
    energies, memory = [state["energy"].clone()], _Memory(path[:, 1:-1])
    inner = slice(1, -1)
    for count in range(steps + 1):
        act = open_.nonzero()[:, 0]
        if len(act) == 0 or path.shape[1] <= 2:
            break
        here, now = path[act], rows(state, act)
        gradient = metric.gradient(here, now)[:, inner]
        inverse = metric.precondition(here, now)
        downhill = inverse(gradient)
        decrement[act] = _dot(gradient, downhill) / now["energy"].clamp_min(1e-300)
        bad = ~downhill.flatten(1).isfinite().all(1)
        fell = (decrement[act] < 0.5 * least[act]) | (now["energy"] < 0.99 * lowest[act])
        least[act] = torch.minimum(decrement[act], least[act])
        lowest[act] = torch.minimum(now["energy"], lowest[act])
        since[act] = torch.where(fell, 0, since[act] + 1)
        # A line integral's gradient is not that of the energy to the last digits: it stops falling there.
        stalled = (since[act] > _PATIENCE) if not metric.exact else torch.zeros_like(bad)
        over = (decrement[act] <= tolerance) | bad | stalled
        open_[act[over]] = False
        if count == steps:
            break
        memory.learn(act, gradient)
        direction = -downhill if count < plain else memory.direction(act, gradient, inverse, downhill)
        moved = _search(metric, here, now, known, act, direction, gradient, slack, longest, over, decrement[act])
        again = (~moved.done & ~over).nonzero()[:, 0]
        if count >= plain and len(again):
            # The remembered curvature misleads these: once more along the preconditioned gradient alone.
            memory.forget(act[again])
            held = torch.ones_like(over)
            held[again] = False
            second = _search(metric, here, now, known, act, -downhill, gradient, slack, longest, held, decrement[act])
            put(vars(moved), again, {name: value[again] for name, value in vars(second).items() if name != "state"})
            put(moved.state, again, rows(second.state, again))
        calls[act] += moved.tries
        good = moved.done & ~over
        taken[act[good]] += 1
        open_[act[~moved.done & ~over]] = False
        memory.move(act, moved.path[:, inner] - here[:, inner], good)
        path[act[good]] = moved.path[good]
        put(state, act[good], rows(moved.state, good.nonzero()[:, 0]))
        energies.append(state["energy"].clone())
    if path.shape[1] <= 2:
        decrement.zero_()
    converged = (decrement <= tolerance) & state["energy"].isfinite()
    return Minimum(path, state, decrement, converged, calls, taken, tuple(energies))


@dataclass
class _Moved:
    """What a line search found: paths, their states, where it ended well, and the evaluations it took."""

    path: Tensor
    state: State
    done: Tensor
    tries: Tensor


def _search(
    metric: Metric,
    path: Tensor,
    state: State,
    known: State,
    act: Tensor,
    direction: Tensor,
    gradient: Tensor,
    slack: float,
    longest: float,
    skip: Tensor,
    decrement: Tensor,
) -> _Moved:
    """Backtracks from a whole step, each path by itself. Paths that find no step keep their old points.

    Where the gradient is not quite that of the energy, a step that lowers the decrement by 0.7 will do too.
    """
    slope = _dot(gradient, direction)
    energy = state["energy"]
    found = _Moved(path.clone(), {name: value.clone() for name, value in state.items()}, skip.clone(), skip.long() * 0)
    limit = torch.maximum(_unevenness(path), path.new_tensor(longest))
    size = torch.ones_like(energy)
    # Near the end of an inexact search shorter steps bring nothing; far from it the first step can be far too long.
    patient = (decrement > _FAR) | metric.exact
    for count in range(_HALVINGS):
        left = (~found.done & (slope < 0) & (patient | (count < _FEW_HALVINGS))).nonzero()[:, 0]
        if len(left) == 0:
            break
        trial = path[left].clone()
        trial[:, 1:-1] += size[left, None, None] * direction[left]
        new = metric.evaluate(trial, rows(known, act[left]))
        found.tries[left] += 1
        allowed = energy[left] * (1 + slack) + _SUFFICIENT * size[left] * slope[left]
        good = (new["energy"] <= allowed) & new["energy"].isfinite() & (_unevenness(trial) <= limit[left])
        if not metric.exact:
            new_gradient = metric.gradient(trial, new)[:, 1:-1]
            share = _dot(new_gradient, metric.precondition(trial, new)(new_gradient)) / new["energy"].clamp_min(1e-300)
            near = new["energy"] <= (1 + _NEARLY) * energy[left]
            good |= near & (share <= _CLOSER * decrement[left]) & (_unevenness(trial) <= limit[left])
        found.path[left[good]] = trial[good]
        put(found.state, left[good], rows(new, good.nonzero()[:, 0]))
        found.done[left[good]] = True
        size[left] /= 2
    found.done &= ~skip | found.done
    return found


def _unevenness(path: Tensor) -> Tensor:
    """The longest Euclidean step of each path over its mean step, (B,)."""
    steps: Tensor = path.diff(dim=1).square().sum(2).sqrt()
    return steps.amax(1) / steps.mean(1).clamp_min(1e-300)


class _Memory:
    """The last moves of each path and the changes of its gradient, for the two loops of L-BFGS."""

    def __init__(self, like: Tensor) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self.gradient, self.step = torch.zeros_like(like), torch.zeros_like(like)
        self.moved = torch.zeros(len(like), dtype=torch.bool, device=like.device)

    def move(self, act: Tensor, step: Tensor, good: Tensor) -> None:
        """Notes the steps that active paths took."""
        self.moved[:] = False
        self.moved[act[good]] = True
        self.step[act] = step

    def learn(self, act: Tensor, gradient: Tensor) -> None:
        """Notes the gradients at the new points, and the pairs of steps and changes whose curvature is positive."""
        change = torch.zeros_like(self.gradient)
        change[act] = gradient - self.gradient[act]
        product, sizes = _dot(self.step, change), _dot(self.step, self.step) * _dot(change, change)
        valid = self.moved & (product > 1e-12 * sizes.sqrt())
        if bool(valid.any()):
            inverse = torch.where(valid, 1 / torch.where(valid, product, 1.0), 0.0)
            self.pairs = [*self.pairs[1 - _MEMORY :], (self.step.clone(), change, inverse)]
        self.gradient[act] = gradient

    def forget(self, index: Tensor) -> None:
        """Forgets the pairs of some paths."""
        for _, _, inverse in self.pairs:
            inverse[index] = 0.0

    def direction(self, act: Tensor, gradient: Tensor, inverse: object, downhill: Tensor) -> Tensor:
        """The two-loop recursion of active paths; the preconditioned gradient where it is no descent."""
        assert callable(inverse)
        pairs = [tuple(part[act] for part in pair) for pair in self.pairs]
        rest, sizes = gradient, []
        for step, change, scale in reversed(pairs):
            size = scale * _dot(step, rest)
            rest = rest - size[:, None, None] * change
            sizes.append(size)
        found: Tensor = inverse(rest)
        for (step, change, scale), size in zip(pairs, reversed(sizes), strict=True):
            found = found + (size - scale * _dot(change, found))[:, None, None] * step
        ascent = ~(_dot(found, gradient) > 0)
        return -torch.where(ascent[:, None, None], downhill, found)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2))
