"""What the maps of a pullback geometry cost beside the libraries that have them, and how exact they are.

One fixed smooth flow phi in D coordinates (8 affine couplings, networks of 64 x 2, float64, its parameters moved off
their start) and the metric ``score`` of its base: F = A^-1 (phi - m). Every side is handed the same F:

- ``scorefold``: ``geometry:pullback``, closed form, tangents through the flow by products with its Jacobian.
- ``diffeo``: geomstats' ``PullbackDiffeoMetric`` with its ``AutodiffDiffeo``: the same closed form, dense Jacobians by
  autograd, one pair after the other.
- ``diffeo+jvp``: the same metric with a ``Diffeo`` whose tangents a user wrote by ``torch.func.jvp``, of all pairs at
  once.
- ``immersion``: geomstats' ``PullbackMetric``: exp by 100 Euler steps through Christoffel symbols, log by shooting. Its
  loops over pairs are spared it: it is given Jacobians and Hessians that serve all pairs at once, and gradients.
- ``stochman``: an ``EmbeddedManifold``: splines of least energy by Adam, of all pairs at once, run at constant speed;
  logarithm and distance are such a curve's. Its exponential calls ``torch.solve``, which torch no longer has.

A peer's cell that would take longer than ``--cell`` seconds is timed on fewer pairs, scaled up in proportion and
marked with how many; it has one round. ``error`` is the largest relative difference from the closed form by dense
Jacobians and linear solves, on up to 4 pairs.

Sides take turns in every round; ratios are to Scorefold, within a round, and medians are printed. CPU time is the
process's, at one thread. Peers that are not installed are named. Exit status 1 where a limit does not hold, all against
``diffeo``: on 64 and 10,000 pairs exp, log and transport at least 15 times faster at D = 2 and 50 times at D = 20;
distance and geodesic no slower (0.9 and more, for noise) at every D, on 1 pair too; errors no worse than ten times its.

geomstats needs numpy < 2.4, so peers are best given an environment of their own, with
``pip install scorefold-pullback[geomstats] scorefold-standard stochman``.

Run: python benchmarks/geodesics.py [--rounds 5] [--cell 2] [--dimensions 2 20 784] [--pairs 1 64 10000] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from scorefold.data import DataSpec
from scorefold.interfaces import Flow
from scorefold_pullback.config import PullbackConfig
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_toolkit.numerics import jacobian

TASKS = ("exp", "log", "distance", "geodesic", "transport")
TIMES = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
FASTER = {2: 15.0, 20: 50.0}
PARITY = 0.9
CHECKED = 4
HESSIANS = 100
"""Coordinates up to which a Hessian of F, D^3 numbers a point, is asked for."""
Call = Callable[[Tensor, Tensor, Tensor], Tensor]
Given = tuple[Tensor, Tensor, Tensor]
Row = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """What one library answers, as calls of points x, y and tangent vectors v, each (B, D), and why not the rest."""

    name: str
    calls: dict[str, Call]
    missing: dict[str, str] = field(default_factory=dict)


def stirred_flow(dimension: int) -> Flow:
    torch.manual_seed(dimension)
    config = AffineCouplingConfig(layers=8, hidden=(64, 64), base="diagonal-normal", linear="none")
    flow = CouplingFlow(config, data=DataSpec((dimension,))).double().eval().requires_grad_(False)
    for parameter in flow.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return flow


def scorefold_side(space: Pullback) -> Side:
    return Side(
        "scorefold",
        {
            "exp": lambda x, y, v: space.exp(x, v),
            "log": lambda x, y, v: space.log(x, y),
            "distance": lambda x, y, v: space.distance(x, y),
            "geodesic": lambda x, y, v: space.geodesic(x, y, TIMES),
            "transport": lambda x, y, v: space.transport(x, y, v),
        },
    )


def diffeo_side(space: Pullback, *, by_hand: bool) -> Side:
    from geomstats.geometry.diffeo import AutodiffDiffeo, Diffeo
    from geomstats.geometry.euclidean import Euclidean
    from geomstats.geometry.pullback_metric import PullbackDiffeoMetric

    size = space.event_shape[0]

    def into(x: Tensor) -> Tensor:
        return space.chart(x.reshape(-1, size)).reshape(x.shape)

    def back(w: Tensor) -> Tensor:
        return space.chart_inverse(w.reshape(-1, size)).reshape(w.shape)

    class Autodiff(AutodiffDiffeo):  # type: ignore[misc]
        def __call__(self, base_point: Tensor) -> Tensor:
            return into(base_point)

        def inverse(self, image_point: Tensor) -> Tensor:
            return back(image_point)

    class ByHand(Diffeo):  # type: ignore[misc]
        def __call__(self, base_point: Tensor) -> Tensor:
            return into(base_point)

        def inverse(self, image_point: Tensor) -> Tensor:
            return back(image_point)

        def tangent(self, tangent_vec: Tensor, base_point: Any = None, image_point: Any = None) -> Any:
            return torch.func.jvp(into, (base_point,), (tangent_vec,))[1]

        def inverse_tangent(self, image_tangent_vec: Tensor, image_point: Any = None, base_point: Any = None) -> Any:
            return torch.func.jvp(back, (image_point,), (image_tangent_vec,))[1]

    diffeo = ByHand() if by_hand else Autodiff((size,))
    metric = PullbackDiffeoMetric(Euclidean(size, equip=False), diffeo, Euclidean(size))
    return Side("diffeo+jvp" if by_hand else "diffeo", geomstats_calls(metric))


def immersion_side(space: Pullback) -> Side:
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean

    size = space.event_shape[0]

    def flat(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
        """A function of rows (B, D) at points (..., D)."""
        answer = function(point.reshape(-1, size))
        return answer.reshape(*point.shape[:-1], *answer.shape[1:])

    def slopes(x: Tensor) -> Tensor:
        return jacobian(space.chart, x, mode="reverse")

    def bends(x: Tensor) -> Tensor:
        return jacobian(lambda at: slopes(at).flatten(1), x, mode="reverse").reshape(-1, size, size, size)

    class Immersed(ImmersedSet):  # type: ignore[misc]
        def _define_embedding_space(self) -> Any:
            return Euclidean(size)

        def immersion(self, point: Tensor) -> Tensor:
            return flat(space.chart, point)

        def jacobian_immersion(self, base_point: Tensor) -> Tensor:
            return flat(slopes, base_point)

        def hessian_immersion(self, base_point: Tensor) -> Tensor:
            return flat(bends, base_point)

    missing = {"transport": "none in closed form"}
    if size > HESSIANS:
        gigabytes = 8 * size**3 / 1e9
        return Side("immersion", {}, dict.fromkeys(TASKS, f"its Christoffel symbols take {gigabytes:.1f} GB a point"))
    calls = geomstats_calls(Immersed(size).metric)
    shooting = {name: torch.enable_grad()(calls[name]) for name in ("log", "distance", "geodesic")}
    return Side("immersion", {"exp": calls["exp"], **shooting}, missing)


def geomstats_calls(metric: Any) -> dict[str, Call]:
    def single(call: Call) -> Call:
        """One pair is handed over as points (D,): as a batch of one it takes their longer way."""

        def of_rows(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
            return call(x[0], y[0], v[0])[None] if len(x) == 1 else call(x, y, v)

        return of_rows

    calls: dict[str, Call] = {
        "exp": lambda x, y, v: metric.exp(v, x),
        "log": lambda x, y, v: metric.log(y, x),
        "distance": lambda x, y, v: metric.dist(x, y),
        "geodesic": lambda x, y, v: metric.geodesic(x, y)(TIMES),
        "transport": lambda x, y, v: metric.parallel_transport(v, x, end_point=y),
    }
    return {name: single(call) for name, call in calls.items()}


def stochman_side(space: Pullback) -> Side:
    from stochman.manifold import EmbeddedManifold

    size = space.event_shape[0]

    class Embedded(EmbeddedManifold):  # type: ignore[misc]
        def embed(self, points: Tensor, jacobian: bool = False) -> Any:
            flat = points.reshape(-1, size)
            image = space.chart(flat).reshape(points.shape)
            return (image, slopes(flat)) if jacobian else image

    def slopes(x: Tensor) -> Tensor:
        return jacobian(space.chart, x, mode="reverse", chunk=None if size <= HESSIANS else 16)

    manifold = Embedded()

    def geodesic(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        curve, _ = manifold.connecting_geodesic(x, y)
        curve.constant_speed(manifold)
        points: Tensor = curve(TIMES).reshape(len(x), len(TIMES), size)
        return points

    calls: dict[str, Call] = {
        "log": lambda x, y, v: manifold.logmap(x, y),
        "distance": lambda x, y, v: manifold.dist2(x, y).sqrt(),
        "geodesic": geodesic,
    }
    missing = {"transport": "it has none", "exp": "it calls torch.solve, which torch no longer has"}
    return Side("stochman", {name: torch.enable_grad()(call) for name, call in calls.items()}, missing)


def sides_of(space: Pullback) -> list[Side]:
    found = [scorefold_side(space)]
    if find_spec("geomstats"):
        found += [diffeo_side(space, by_hand=False), diffeo_side(space, by_hand=True), immersion_side(space)]
    if find_spec("stochman"):
        found.append(stochman_side(space))
    return found


def truths(space: Pullback, x: Tensor, y: Tensor, v: Tensor) -> dict[str, Tensor]:
    """The answers on some rows by dense Jacobians, one row at a time, and linear solves."""
    w, target = space.chart(x), space.chart(y)

    def dense(rows: Tensor) -> Tensor:
        one = partial(torch.autograd.functional.jacobian, lambda at: space.chart(at[None])[0])
        return torch.stack([one(row) for row in rows])

    at_x, at_y = dense(x), dense(y)
    pushed = (at_x @ v[..., None])[..., 0]
    return {
        "exp": space.chart_inverse(w + pushed),
        "log": torch.linalg.solve(at_x, target - w),
        "distance": (target - w).norm(dim=1),
        "geodesic": torch.stack([space.chart_inverse(torch.lerp(w, target, s)) for s in TIMES], dim=1),
        "transport": torch.linalg.solve(at_y, pushed),
    }


def seconds(call: Call, given: Given, repeats: int = 1) -> tuple[float, float, Tensor]:
    """CPU and wall seconds of one call, and its answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        answer = call(*given)
    return (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats, answer.detach()


@dataclass
class Timed:
    """A side in one cell: how many pairs it is timed on, how often in a row, its answer, and seconds a round."""

    side: Side
    call: Call
    pairs: int
    repeats: int
    answer: Tensor
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def prepared(side: Side, task: str, given: Given, limit: float) -> Timed:
    """The largest number of pairs that ends within the limit, found by growing it eightfold; warm by then.

    What more pairs will cost is foreseen by what the last step cost, for some sides take all of them at once.
    """
    call, total = side.calls[task], len(given[0])
    if side.name == "scorefold":
        cpu, _, answer = seconds(call, given)
        cpu, _, answer = seconds(call, given) if cpu < 1 else (cpu, 0.0, answer)
        return Timed(side, call, total, max(1, math.ceil(0.02 / cpu)), answer)
    pairs, growth = 1, 1.0
    cpu, wall, answer = seconds(call, some(given, 1))
    if cpu < limit:
        cpu, wall, answer = seconds(call, some(given, 1))
    while pairs < total and growth * cpu <= limit:
        pairs, before = min(8 * pairs, total), cpu
        cpu, wall, answer = seconds(call, some(given, pairs))
        growth = max(cpu / before, 1.0)
    timed = Timed(side, call, pairs, max(1, math.ceil(0.02 / cpu)), answer)
    if cpu > limit / 2:
        timed.cpu.append(cpu * total / pairs)
        timed.wall.append(wall * total / pairs)
    return timed


def some(given: Given, pairs: int) -> Given:
    x, y, v = given
    return x[:pairs], y[:pairs], v[:pairs]


def measure(sides: list[Side], task: str, given: Given, options: argparse.Namespace, truth: Tensor) -> list[Row]:
    total, size = given[0].shape
    tried = [side for side in sides if task in side.calls and not skipped(side, task, size, total)]
    timed = [prepared(side, task, given, options.cell) for side in tried]
    long = {id(entry) for entry in timed if entry.cpu}
    for _ in range(options.rounds):
        for entry in timed:
            if id(entry) not in long:
                cpu, wall, _ = seconds(entry.call, some(given, entry.pairs), entry.repeats)
                entry.cpu.append(cpu * total / entry.pairs)
                entry.wall.append(wall * total / entry.pairs)
                if cpu * entry.repeats > options.cell / 2:
                    long.add(id(entry))
    ours = timed[0]
    return [
        {
            "dimension": size,
            "pairs": total,
            "task": task,
            "side": entry.side.name,
            "cpu_ms": 1000 * statistics.median(entry.cpu),
            "wall_ms": 1000 * statistics.median(entry.wall),
            "ratio": statistics.median(theirs / own for theirs, own in zip(entry.cpu, ours.cpu, strict=False)),
            "timed_on": entry.pairs,
            "error": relative_error(entry.answer, truth),
        }
        for entry in timed
    ]


def skipped(side: Side, task: str, size: int, pairs: int) -> str | None:
    """Why a task of a side is not tried in a cell."""
    if task in side.missing or side.name != "immersion":
        return side.missing.get(task)
    if task in ("distance", "geodesic"):
        return "as its log, which it begins with"
    if task == "log" and (size > 2 or pairs > 1):
        return "its log takes tens of its exp, each with gradients: tried on one pair at D = 2"
    return "its exp of one pair takes 40 s" if size > 2 and pairs > 1 else None


def relative_error(answer: Tensor, truth: Tensor) -> float:
    rows = min(len(answer), len(truth))
    found, expected = answer[:rows].reshape(rows, -1), truth[:rows].reshape(rows, -1)
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def broken(rows: list[Row]) -> list[str]:
    """The limits that don't hold."""
    found = []
    errors = {(row["dimension"], row["pairs"], row["task"]): row["error"] for row in rows if row["side"] == "scorefold"}
    for row in (row for row in rows if row["side"] == "diffeo"):
        size, pairs, task = row["dimension"], row["pairs"], row["task"]
        least = PARITY if task in ("distance", "geodesic") else FASTER.get(size, 0.0) if pairs > 1 else 0.0
        if row["ratio"] < least:
            found.append(f"{task}, D {size}, {pairs} pairs: {row['ratio']:.2f} times faster than diffeo, not {least:g}")
        if errors[size, pairs, task] > 10 * row["error"] + 1e-12:
            found.append(f"{task}, D {size}, {pairs} pairs: an error of {errors[size, pairs, task]:.1e}")
    return found


def show(row: Row) -> str:
    cell = f"{row['task']:<10}{row['dimension']:>4} {row['pairs']:>6}  {row['side']:<11}"
    if "not" in row:
        return f"{cell} not run: {row['not']}"
    note = f"  timed on {row['timed_on']}" if row["timed_on"] < row["pairs"] else ""
    return f"{cell}{row['cpu_ms']:>12.2f} {row['wall_ms']:>12.2f} {row['ratio']:>10.2f} {row['error']:>9.0e}{note}"


@torch.no_grad()
def cells(size: int, options: argparse.Namespace) -> Iterator[list[Row]]:
    """The rows of each cell of one dimension, those that were not tried among them."""
    space = Pullback(PullbackConfig(), flow=stirred_flow(size))
    sides = sides_of(space)
    x, y, v = torch.randn(3, max(options.pairs), size, generator=torch.Generator().manual_seed(0))
    given = x, y, 0.3 * v
    truth = truths(space, *some(given, CHECKED))
    for pairs in options.pairs:
        for task in options.tasks:
            found = measure(sides, task, some(given, pairs), options, truth[task])
            for side in sides:
                if reason := skipped(side, task, size, pairs):
                    found.append({"dimension": size, "pairs": pairs, "task": task, "side": side.name, "not": reason})
            yield found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time the maps of a pullback geometry beside other libraries")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cell", type=float, default=2.0, help="seconds from which a peer has fewer pairs")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 20, 784])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 64, 10000])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    os.environ["GEOMSTATS_BACKEND"] = "pytorch"
    for peer in ("geomstats", "stochman"):
        if not find_spec(peer):
            print(f"absent: {peer} (pip install {peer})", file=sys.stderr)
    rows: list[Row] = []
    if not options.json:
        heads = f"{'map':<10}{'D':>4} {'pairs':>6}  {'side':<11}{'CPU ms':>12} {'wall ms':>12}"
        print(f"{heads} {'times ours':>10} {'error':>9}")
    for size in options.dimensions:
        for found in cells(size, options):
            rows += found
            if not options.json:
                print(*map(show, found), sep="\n", flush=True)
    if options.json:
        print(json.dumps(rows))
    failures = broken(rows)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
