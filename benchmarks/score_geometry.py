"""Speed and accuracy of geodesics of a score metric beside the solvers of other libraries.

Two problems, both of the metric I + s s^T with s = grad log p and log p in closed form, in float64:

- ``mixture``: two Gaussians in the plane, covariances [[1, .6], [.6, .5]] and [[1, -.6], [-.6, .5]]. The first pair
  goes from mean to mean, whose distance is known; 63 others lie around them.
- ``sphere``: uniform on the 9-sphere, noise of deviation 0.1, in R^50: quarter turns at the density's peak, all of one
  known length.

Every side gets the same score, and all pairs at once:

- ``scorefold``: ``scorefold_toolkit.geodesics.solve`` by its defaults, with both starts, the check of the length on a
  finer polyline and Richardson's rule. Its length is the returned number.
- ``georce``: the published update of GEORCE (Rygaard and Hauberg 2025, arXiv 2505.05961), written for this file: left
  rule, N = 50, and the published line search E(tau) <= E - 0.9 tau |grad E|^2 by halving, up to a gradient of 1e-4 or
  300 steps. Its inverses are by Woodbury's identity and pairs that are done leave the batch, both of which favour it.
- ``spline``: stochman's method, written for this file: a cubic spline of 5 nodes moved by Adam (rate 0.1, 150 steps) to
  a least energy on 20 points, to a gradient of 1e-4.
- ``stochman``: the library itself, by its defaults, where it is installed (``pip install stochman``). ``stochman+`` has
  20 nodes, 50 points and 1,000 steps: the most exact on the mixture of seven settings that were tried.

Lengths of the other sides are lengths of their curves by fine quadrature, which is not timed. Errors are medians over
the pairs; unknown lengths are Scorefold's on 128 steps. Sides take turns in every round; ratios are to
Scorefold, within a round, and medians are printed. Times are of one thread.

``passes`` are the costs that count where the score is a network: rows of the score a pair, a row that is differentiated
too counting 2.7. The second table counts calls a point of the path to a decrement of 1e-8 on 50 steps.

Exit status 1 where a limit does not hold: the limits of ``LIMITS``, an error of at most a tenth of the others', at most
1e-4 on the sphere, and at most 26 calls a point.

Run: python benchmarks/score_geometry.py [--rounds 3] [--pairs 1 64] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from scipy import interpolate
from torch import Tensor

from scorefold_toolkit.geodesics import Field, GraphChord, GraphMidpoint, SolverSettings, minimise, solve, straight

LIMITS = {
    ("mixture", 1, "georce"): (1.5, 10),
    ("mixture", 64, "georce"): (3, 10),
    ("mixture", 1, "stochman"): (4, 10),
    ("mixture", 1, "stochman+"): (20, 20),
    ("mixture", 64, "stochman"): (2.5, 6),
    ("sphere", 1, "georce"): (20, 50),
    ("sphere", 1, "stochman"): (4, 5),
    ("sphere", 64, "stochman"): (4, 5),
}
"""The least multiples of our CPU time and our passes that the others take."""

ERROR, CALLS = 1e-4, 26
STEPS, ROUNDS, SMALL = 50, 300, 1e-4
FINE = 2000
BACK = 1.7
Answer = tuple[Tensor, int]
Row = dict[str, Any]


class Counted(Field):
    """A field that counts its rows, those that are differentiated 1.7 times more."""

    def __init__(self, score: Callable[[Tensor], Tensor], log_prob: Callable[[Tensor], Tensor]) -> None:
        self.passes = 0.0

        def counted(x: Tensor) -> Tensor:
            inside = torch._C._functorch.maybe_current_level() is not None
            self.passes += len(x) * (1 + BACK * (inside or (x.requires_grad and torch.is_grad_enabled())))
            return score(x)

        super().__init__(counted, log_prob)


def normal() -> Counted:
    return Counted(lambda x: -x, lambda x: -0.5 * x.square().sum(1))


def mixture() -> Counted:
    means = torch.tensor([[-1.5, 0.0], [1.5, 0.0]])
    covariances = torch.tensor([[[1, 0.6], [0.6, 0.5]], [[1, -0.6], [-0.6, 0.5]]])
    precisions, offset = torch.linalg.inv(covariances), -0.5 * torch.logdet(covariances) - math.log(4 * math.pi)

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        apart = x - means[:, None]
        pulls = apart @ precisions
        return offset[:, None] - 0.5 * (pulls * apart).sum(2), pulls

    def score(x: Tensor) -> Tensor:
        densities, pulls = parts(x)
        return -(densities.softmax(0)[:, :, None] * pulls).sum(0)

    return Counted(score, lambda x: parts(x)[0].logsumexp(0))


def sphere(dimension: int, sigma: float, frame: Tensor) -> Counted:
    """Uniform on the unit sphere of so many coordinates, with noise, in the span of the frame's columns (D, d).

    The density of a radius r has the Bessel function I_order(r / sigma^2), order = d / 2 - 1; its ratios are by upward
    recurrence, which is stable for arguments far above the order.
    """
    order = dimension // 2 - 1

    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inside = x @ frame
        r = inside.norm(dim=1, keepdim=True)
        k = r / sigma**2
        ratio = torch.special.i1e(k) / torch.special.i0e(k)
        height = torch.special.i0e(k).log() + k
        for v in range(1, order + 1):
            height = height + ratio.log()
            ratio = 1 / ratio - 2 * v / k
        return inside, r, ratio, height - order * k.log()

    def score(x: Tensor) -> Tensor:
        inside, r, ratio, _ = parts(x)
        return ((ratio / r * inside) @ frame.T - x) / sigma**2

    def log_prob(x: Tensor) -> Tensor:
        return parts(x)[3][:, 0] - x.square().sum(1) / (2 * sigma**2)

    return Counted(score, log_prob)


@dataclass(frozen=True)
class Problem:
    """A density, the weight of its score metric, and ends (B, D) of geodesics, with their lengths (B,) if known."""

    name: str
    density: Counted
    weight: float
    start: Tensor
    end: Tensor
    lengths: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def metric(self) -> GraphChord:
        return GraphChord(self.density, self.weight)


def problems(pairs: int) -> list[Problem]:
    generator = torch.Generator().manual_seed(0)
    frame = torch.linalg.qr(torch.randn(50, 10, generator=generator))[0]
    moves = 0.2 * torch.randn(2, pairs, 2, generator=generator)
    moves[:, 0] = 0
    middle = torch.tensor([1.5, 0.0])
    flat = Problem("mixture", mixture(), 1.0, moves[0] - middle, moves[1] + middle)
    fine = solve(flat.metric, flat.start, flat.end, SolverSettings(points=128, tolerance=1e-8)).length
    fine[0] = 3.58882104
    turns = torch.linalg.qr(torch.randn(pairs, 10, 2, generator=generator))[0]
    start, end = (0.9536895031151787 * turns[:, :, k] @ frame.T for k in (0, 1))
    exact = torch.full((pairs,), 1.4649785674289495)
    return [replace(flat, lengths=fine), Problem("sphere", sphere(10, 0.1, frame), 1.0, start, end, exact)]


def counted() -> list[Problem]:
    """The problems whose calls are counted."""
    x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    flat, round_ = problems(1)
    found = [
        Problem("paraboloid, weight 1", normal(), 1.0, x, y),
        Problem("paraboloid, weight 100", normal(), 100.0, x, y),
        replace(flat, name="mixture, weight 1"),
        replace(flat, name="mixture, weight 10", weight=10.0),
        replace(round_, name="sphere in R^50"),
    ]
    for sigma, peak in ((0.1, 0.9949619262232045), (0.2, 0.9793608885616557)):
        ends = torch.tensor([[peak, 0.0]]), peak * torch.tensor([[math.cos(2.5), math.sin(2.5)]])
        found.append(Problem(f"circle, noise {sigma:g}", sphere(2, sigma, torch.eye(2)), 1.0, *ends))
    return found


def by_scorefold(problem: Problem) -> Answer:
    found = solve(problem.metric, problem.start, problem.end)
    return found.length, int(found.withheld.sum())


def by_georce(problem: Problem) -> Answer:
    """A step is x - tau H^-1 grad E with the metric held in H: GEORCE's update exactly, in the published units of E."""
    metric = GraphMidpoint(problem.density, problem.weight, "left")
    whole = straight(problem.start, problem.end, STEPS)
    act = torch.arange(len(whole))
    for _ in range(ROUNDS):
        path = whole[act]
        state = metric.evaluate(path, {})
        gradient = metric.gradient(path, state)[:, 1:-1]
        squares, energy = gradient.square().sum((1, 2)) / STEPS**2, state["energy"] / STEPS
        move, size = metric.precondition(path, state)(gradient), torch.ones_like(energy)
        left = torch.arange(len(act))
        while len(left) and float(size.min()) > 1e-6:
            trial = path[left].clone()
            trial[:, 1:-1] -= size[left, None, None] * move[left]
            after = metric.evaluate(trial, {})["energy"] / STEPS
            whole[act[left]] = trial
            left = left[~(after <= energy[left] - 0.9 * size[left] * squares[left])]
            size[left] /= 2
        act = act[squares.sqrt() > SMALL]
        if len(act) == 0:
            break
    return whole, len(act)


def by_spline(problem: Problem, nodes: int = 5, points: int = 20) -> Answer:
    def basis(count: int) -> Tensor:
        inner = torch.eye(nodes)[:, 1:-1]
        return torch.from_numpy(
            interpolate.CubicSpline(torch.linspace(0, 1, nodes), inner, bc_type="natural")(grid(count))
        )

    def grid(count: int) -> Tensor:
        return torch.linspace(0, 1, count)

    line, within = straight(problem.start, problem.end, points - 1), basis(points)
    moves = torch.zeros(len(line), nodes - 2, line.shape[2], requires_grad=True)
    descent, open_ = torch.optim.Adam([moves], lr=0.1), len(line)
    for _ in range(150):
        descent.zero_grad()
        curve = line + within @ moves
        u, s = curve.diff(dim=1), problem.density.score(curve[:, :-1].flatten(0, 1)).reshape(len(line), points - 1, -1)
        (u.square().sum() + problem.weight * (u * s).sum(2).square().sum()).backward()  # type: ignore[no-untyped-call]
        descent.step()
        if moves.grad is not None and float(moves.grad.abs().max()) < SMALL:
            open_ = 0
            break
    return straight(problem.start, problem.end, FINE) + basis(FINE + 1) @ moves.detach(), open_


def by_stochman(problem: Problem, thorough: bool = False) -> Answer:
    from stochman.curves import CubicSpline
    from stochman.geodesic import geodesic_minimizing_energy
    from stochman.manifold import Manifold

    class Scored(Manifold):  # type: ignore[misc]
        def metric(self, points: Tensor) -> Tensor:
            s = problem.density.score(points)
            return torch.eye(s.shape[1]) + problem.weight * s[:, :, None] * s[:, None]

        def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
            s = problem.density.score(base)
            return (u * v).sum(1) + problem.weight * (s * u).sum(1) * (s * v).sum(1)

    if thorough:
        curve = CubicSpline(problem.start, problem.end, num_nodes=20)
        done = geodesic_minimizing_energy(curve, Scored(), max_iter=1000, eval_grid=50)
    else:
        curve, done = Scored().connecting_geodesic(problem.start, problem.end)
    with torch.no_grad():
        path = curve(torch.linspace(0, 1, FINE + 1)).reshape(len(problem.start), FINE + 1, -1)
    return path, 0 if bool(done) else len(path)


def sides() -> dict[str, Callable[[Problem], Answer]]:
    found: dict[str, Callable[[Problem], Answer]] = {
        "scorefold": by_scorefold,
        "georce": by_georce,
        "spline": by_spline,
    }
    if find_spec("stochman"):
        found |= {"stochman": by_stochman, "stochman+": partial(by_stochman, thorough=True)}
    return found


def lengths_of(problem: Problem, answer: Tensor) -> Tensor:
    """Lengths, or lengths of curves by their nodes, each step cut in as many as make 2,000 and more."""
    if answer.dim() == 1:
        return answer
    parts = math.ceil(FINE / (answer.shape[1] - 1))
    share = torch.arange(parts)[None, None, :, None] / parts
    inside = answer[:, :-1, None] + share * answer.diff(dim=1)[:, :, None]
    return problem.metric.length(torch.cat([inside.flatten(1, 2), answer[:, -1:]], 1), {})


@dataclass
class Timed:
    """A side's answer to a problem, its passes a pair, and its seconds in each round."""

    side: str
    call: Callable[[Problem], Answer]
    answer: Answer
    passes: float
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def measure(problem: Problem, rounds: int) -> list[Row]:
    timed, pairs = [], len(problem.start)
    for name, call in sides().items():
        if pairs > 1 and (name == "stochman+" or (name == "georce" and problem.name == "sphere")):
            continue  # it takes a minute and more, the latter without an end
        problem.density.passes = 0
        timed.append(Timed(name, call, call(problem), problem.density.passes / pairs))
    for _ in range(rounds):
        for each in timed:
            wall, cpu = time.perf_counter(), time.process_time()
            each.call(problem)
            each.cpu.append(time.process_time() - cpu)
            each.wall.append(time.perf_counter() - wall)
    ours = timed[0]
    return [
        {
            "problem": problem.name,
            "pairs": pairs,
            "side": each.side,
            "cpu_ms": 1000 * statistics.median(each.cpu),
            "wall_ms": 1000 * statistics.median(each.wall),
            "slower": statistics.median(theirs / own for theirs, own in zip(each.cpu, ours.cpu, strict=True)),
            "passes": each.passes,
            "more": each.passes / ours.passes,
            "error": float((lengths_of(problem, each.answer[0]) - problem.lengths).abs().median()),
            "open": each.answer[1],
        }
        for each in timed
    ]


def calls() -> list[Row]:
    """Calls of the score a point, by ``minimise`` from a straight line."""
    found = []
    for problem in counted():
        least = minimise(problem.metric, straight(problem.start, problem.end, STEPS), tolerance=1e-8)
        found.append({"problem": problem.name, "calls": int(least.calls), "converged": bool(least.converged)})
    return found


def broken(rows: list[Row], counts: list[Row]) -> list[str]:
    """The limits that do not hold."""
    found = [
        f"{row['problem']}: {row['calls']} calls" for row in counts if row["calls"] > CALLS or not row["converged"]
    ]
    errors = {(row["problem"], row["pairs"]): row["error"] for row in rows if row["side"] == "scorefold"}
    for row in rows:
        slower, more = LIMITS.get((row["problem"], row["pairs"], row["side"]), (0, 0))
        name, own = f"{row['problem']}, {row['pairs']} pairs, {row['side']}", errors[row["problem"], row["pairs"]]
        if row["slower"] < slower or row["more"] < more:
            found.append(f"{name}: {row['slower']:.1f} times our time and {row['more']:.1f} times our passes")
        if row["side"] != "scorefold" and own > row["error"] / 10:
            found.append(f"{name}: our error {own:.1e} is above a tenth of {row['error']:.1e}")
        if row["side"] == "scorefold" and (row["open"] or (row["problem"] == "sphere" and own > ERROR)):
            found.append(f"{name}: an error of {own:.1e}, {row['open']} withheld")
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time geodesics of a score metric beside other solvers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if not find_spec("stochman"):
        print("absent: stochman (pip install stochman)", file=sys.stderr)
    rows = [row for pairs in options.pairs for problem in problems(pairs) for row in measure(problem, options.rounds)]
    counts = calls()
    if options.json:
        print(json.dumps({"times": rows, "calls": counts}))
    else:
        heads = f"{'problem':<8}{'pairs':>6} {'side':<10}{'CPU ms':>8} {'wall ms':>8} {'times ours':>11}"
        print(f"{heads} {'passes':>8} {'times ours':>11} {'error':>8} {'not converged':>14}")
        for row in rows:
            cell = f"{row['problem']:<8}{row['pairs']:>6} {row['side']:<10}{row['cpu_ms']:>8.1f} {row['wall_ms']:>8.1f}"
            passes = f"{row['slower']:>11.1f} {row['passes']:>8.0f} {row['more']:>11.1f}"
            print(f"{cell} {passes} {row['error']:>8.1e} {row['open']:>14}")
        print("\ncalls a point")
        for row in counts:
            print(f"{row['problem']:<24}{row['calls']:>5}{'' if row['converged'] else '  not converged'}")
    failures = broken(rows, counts)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
