"""Tasks a CPU second of MAML's meta-gradient beside the ways in which people compute it.

An update is 25 sinusoid tasks of 10 points, 5 support and 5 query, and a perceptron of 1-40-40-1 units, with 1 and with
5 inner steps of second order. ``scorefold`` is all tasks at once by batched products (``learner:maml``); ``higher``
patches a module for each task in turn; ``clone-and-update`` is the loop that learn2learn's MAML stands for, written out
below: a module is cloned task by task, and its parameters are updated so that gradients pass; ``torch.func`` maps a
task's loss over all tasks by vmap. Sides take turns in every round, in an order drawn anew; ratios to Scorefold are
taken within a round, and medians are printed. Before that, all sides must have the same meta-gradient (``apart``, the
largest difference over the largest entry).

Exit status 1 where a peer is less than LIMITS times slower, a check fails or a peer isn't installed.

Run: python benchmarks/meta_learning.py [--rounds 15] [--json]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from _turns import Row, finish, parse_options, race
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from scorefold_allocation.data.config import SinusoidTasksConfig
from scorefold_allocation.data.regression import SinusoidTasks
from scorefold_allocation.learners.episodes import Episode, query_losses
from scorefold_allocation.learners.networks import GradientSteps, StackedMLP

TASKS, POINTS, RATE = 25, 10, 0.01
SIZES = (1, 40, 40, 1)
LIMITS = {
    "higher": {1: 9.0, 5: 6.0},
    "clone-and-update": {1: 6.0, 5: 6.0},
    "torch.func": {1: 1.0, 5: 1.0},
}
"""How many times Scorefold's CPU time each peer must take at least, by the number of inner steps."""
APART = 1e-4

Side = Callable[[], Sequence[Tensor]]
"""Computes the meta-gradient: matrices (out, in) and biases (out,), layer by layer."""


def drawn_tasks() -> Episode:
    batch = SinusoidTasks(SinusoidTasksConfig()).batch(TASKS, POINTS, torch.Generator().manual_seed(0))
    x, y = (part.float()[None] for part in batch.tensors())
    half = POINTS // 2
    return Episode(x[:, :, :half], y[:, :, :half], x[:, :, half:], y[:, :, half:])


def ours(given: Episode, steps: int) -> Side:
    network, answer = StackedMLP(SIZES), GradientSteps(steps, RATE)
    weights = [w[None].float().requires_grad_() for w in network.start(torch.Generator().manual_seed(1))]

    def update() -> Sequence[Tensor]:
        slopes = torch.autograd.grad(query_losses(network, answer, weights, given).mean(1).sum(), weights)
        return [slope[0].T if place % 2 == 0 else slope[0, 0] for place, slope in enumerate(slopes)]

    return update


def module() -> nn.Module:
    """The same network, with the same weights, as a module."""
    layers: list[nn.Module] = []
    for into, out in pairwise(SIZES):
        layers += [nn.Linear(into, out), nn.ReLU()]
    made = nn.Sequential(*layers[:-1])
    start = StackedMLP(SIZES).start(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter, w in zip(made.parameters(), start, strict=True):
            parameter.copy_(w.T if parameter.dim() == 2 else w[0])
    return made


def tasks_in_turn(given: Episode) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for number in range(TASKS):
        x, y, query, target = (part[0, number] for part in given)
        yield x, y[:, None], query, target[:, None]


def by_higher(given: Episode, steps: int) -> Side:
    import higher

    net = module()
    inner = torch.optim.SGD(net.parameters(), lr=RATE)

    def update() -> Sequence[Tensor]:
        net.zero_grad()
        for x, y, query, target in tasks_in_turn(given):
            with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (patched, optimiser):
                for _ in range(steps):
                    optimiser.step(mse_loss(patched(x), y))
                (mse_loss(patched(query), target) / TASKS).backward()
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]

    return update


def by_clones(given: Episode, steps: int) -> Side:
    net = module()

    def update() -> Sequence[Tensor]:
        net.zero_grad()
        total = torch.zeros(())
        for x, y, query, target in tasks_in_turn(given):
            learner = cloned(net)
            for _ in range(steps):
                owned = list(owned_tensors(learner))
                slopes = torch.autograd.grad(
                    mse_loss(learner(x), y), [holder[name] for holder, name in owned], create_graph=True
                )
                for (holder, name), slope in zip(owned, slopes, strict=True):
                    holder[name] = holder[name] - RATE * slope
            total = total + mse_loss(learner(query), target)
        (total / TASKS).backward()
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]

    return update


def cloned(net: nn.Module) -> nn.Module:
    """A module whose parameters are differentiable copies of another's."""
    clone = copy.copy(net)
    clone.__dict__ = dict(net.__dict__)
    vars(clone)["_parameters"] = {name: p if p is None else p.clone() for name, p in net._parameters.items()}
    clone._modules = {name: part if part is None else cloned(part) for name, part in net._modules.items()}
    return clone


def owned_tensors(net: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """Where each parameter of a module stands: the mapping that holds it, and its name there."""
    for part in net.modules():
        for name in part._parameters:
            yield part._parameters, name


def by_vmap(given: Episode, steps: int) -> Side:
    from torch.func import functional_call, grad, vmap

    net = module()
    weights: dict[str, Tensor] = {**dict(net.named_parameters())}
    tasks = [part[0] if part.dim() == 4 else part[0, :, :, None] for part in given]

    def loss(own: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(functional_call(net, own, (x,)), y)

    def adapted_loss(meta: dict[str, Tensor], x: Tensor, y: Tensor, query: Tensor, target: Tensor) -> Tensor:
        own = meta
        for _ in range(steps):
            slopes = grad(loss)(own, x, y)
            own = {name: w - RATE * slopes[name] for name, w in own.items()}
        return loss(own, query, target)

    def outer(meta: dict[str, Tensor]) -> Tensor:
        return vmap(adapted_loss, in_dims=(None, 0, 0, 0, 0))(meta, *tasks).mean()

    return lambda: list(grad(outer)(weights).values())


PEERS: dict[str, Callable[[Episode, int], Side]] = {
    "higher": by_higher,
    "clone-and-update": by_clones,
    "torch.func": by_vmap,
}


def measure(steps: int, *, rounds: int) -> tuple[list[Row], list[str]]:
    """Rows for a number of inner steps, and what fails in it."""
    given = drawn_tasks()
    sides, failures = {"scorefold": ours(given, steps)}, []
    for name, make in PEERS.items():
        try:
            sides[name] = make(given, steps)
        except ImportError:
            failures.append(f"{name} is not installed")
    expected = [slope.clone() for slope in sides["scorefold"]()]
    scale = max(float(slope.abs().max()) for slope in expected)
    apart = {
        name: max(float((a.detach() - b).abs().max()) for a, b in zip(side(), expected, strict=True)) / scale
        for name, side in sides.items()
    }
    rows = []
    for row in race(dict(sides), rounds=rounds):
        name = row["side"]
        rows.append({"steps": steps, **row, "apart": apart[name], "tasks_per_second": 1000 * TASKS / row["cpu_ms"]})
        if apart[name] > APART:
            failures.append(f"{name}, {steps} steps: its gradient is {apart[name]:.0e} apart, expected {APART:.0e}")
        limit = LIMITS.get(name, {}).get(steps, 0.0)
        if row["ratio"] < limit:
            failures.append(f"{name}, {steps} steps: it takes {row['ratio']:.1f} times our time, expected {limit:g}")
    return rows, failures


def show(rows: Sequence[Row]) -> None:
    print(f"\n{rows[0]['steps']} inner steps, {TASKS} tasks of {POINTS} points")
    print(f"  {'':20}{'tasks/s':>9}{'CPU ms':>9}{'wall ms':>9}{'ratio':>7}  {'quartiles':14}{'apart':>9}")
    for row in rows:
        low, high = row["quartiles"]
        print(
            f"  {row['side']:20}{row['tasks_per_second']:>9,.0f}{row['cpu_ms']:>9.2f}{row['wall_ms']:>9.2f}"
            f"{row['ratio']:>7.1f}  {f'{low:.1f} to {high:.1f}':14}{row['apart']:>9.0e}",
            flush=True,
        )


def main() -> int:
    options = parse_options(__doc__)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    failures: list[str] = []
    for steps in (1, 5):
        part, failed = measure(steps, rounds=options.rounds)
        rows, failures = rows + part, failures + failed
        if not options.json:
            show(part)
    return finish(rows, failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
