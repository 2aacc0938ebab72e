"""What a coupling flow costs beside the libraries that people use.

Every side has the same architecture and parameter count: 8 coupling layers with alternating halves, ReLU networks of
64 x 2, 8 bins, log-scales 2 tanh; float32. ``scorefold`` is the flow of ``flow:affine-coupling`` and
``flow:spline-coupling`` without its activation normalisation and linear layers, which no peer has here. FrEIA's are its
``GLOWCouplingBlock`` with the same clamp; zuko clamps log-scales by its own rule and takes every other coordinate for a
half. ``floor`` is affine couplings in sixty lines of plain torch. Sides named ``defaults`` are what each library makes
of no options: other architectures, shown for what a user gets and held to no limit.

A training step is a batch, the loss, its gradient and a step of Adam, by its ``fused`` and its plain implementation.
Sides take turns in every round, in an order drawn anew, so that a busy machine slows all alike; ratios to Scorefold are
taken within a round, and medians are printed. CPU time is the process's, at one thread unless asked otherwise.
``error`` is the median difference of log-densities from the same weights in float64, in nats.

``compiled`` is our step with ``training.compile: true``, beside zuko's as it is and under ``torch.compile``. Its first
call is timed with the compilers that it starts, from an empty cache; ``apart`` is how far the gradient is from the
gradient of the same step uncompiled, over its norm.

Exit status 1 where a limit does not hold, with fused Adam: LIMITS, as ratios of CPU time, and compiled gradients within
1e-4 of the others. Peers run where they are installed, and a limit against one that isn't does not hold.

Run: python benchmarks/flows.py [--rounds 31] [--only TEXT] [--no-compile] [--json]
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from _turns import turn_taken
from torch import Tensor, nn

from scorefold.data import Dataset, DataSpec
from scorefold.interfaces import Progress
from scorefold_standard.config import AffineCouplingConfig, SplineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_toolkit.training.loop import compiled
from scorefold_toolkit.training.phases import LossModule

LAYERS, HIDDEN, BINS, BOUND = 8, 64, 8, 5.0
APART = 1e-4
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is measured: ``train`` (a step), ``compile`` (the same, compiled) or ``sample`` (a batch of draws)."""

    task: str
    transform: str
    dimension: int
    batch: int

    def __str__(self) -> str:
        return f"{self.task}, {self.transform}, D {self.dimension}, batch {self.batch}"


LIMITS: dict[Case, dict[str, float]] = {
    Case("train", "affine", 2, 256): {"FrEIA": 1.1, "zuko": 1.4},
    Case("train", "affine", 20, 256): {"FrEIA": 1.1, "zuko": 1.4},
    Case("sample", "affine", 2, 256): {"FrEIA": 1.25, "zuko": 2.0},
    Case("sample", "affine", 20, 256): {"FrEIA": 1.25, "zuko": 2.0},
    Case("train", "spline", 2, 256): {"zuko": 1.35},
    Case("train", "spline", 20, 256): {"zuko": 1.0},
    Case("train", "spline", 100, 256): {"zuko": 1.0},
    Case("compile", "spline", 2, 1024): {"zuko": 2.0},
    Case("compile", "spline", 20, 1024): {"zuko": 2.0},
}
"""How many times Scorefold's time a peer must take at least."""


@dataclass
class Side:
    """A flow under test: log-densities (B,) of points (B, D), and draws (n, D)."""

    module: nn.Module
    log_prob: Callable[[Any, Tensor], Tensor]
    sample: Callable[[Any, int], Tensor]


class Network(nn.Sequential):
    """The conditioner of the floor and of the peers that are handed one; nflows adds a context, which is None."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__(
            nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out)
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def scorefold_side(case: Case, defaults: bool = False) -> Side:
    bare: dict[str, Any] = {"layers": LAYERS, "hidden": (HIDDEN, HIDDEN), "activation": "relu"}
    bare |= {"linear": "none", "actnorm": False}
    bare |= {} if case.transform == "affine" else {"bins": BINS, "bound": BOUND}
    kind = AffineCouplingConfig if case.transform == "affine" else SplineCouplingConfig
    flow = CouplingFlow(kind(**({} if defaults else bare)), data=DataSpec((case.dimension,)))
    return Side(flow, lambda m, x: m.log_prob(x), lambda m, n: m.sample(n))


class Floor(nn.Module):
    """Affine couplings in plain torch, with nothing that training does not need."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.first = dimension // 2
        kept = [self.first if i % 2 == 0 else dimension - self.first for i in range(LAYERS)]
        self.networks = nn.ModuleList(Network(k, 2 * (dimension - k)) for k in kept)

    def log_prob(self, x: Tensor) -> Tensor:
        first, second = x[:, : self.first], x[:, self.first :]
        total = x.new_zeros(())
        for i, net in enumerate(self.networks):
            kept, moved = (first, second) if i % 2 == 0 else (second, first)
            scale, shift = net(kept).chunk(2, 1)
            scale = torch.tanh(scale)
            moved = moved * scale.exp() + shift
            total = total + scale.sum(1)
            first, second = (kept, moved) if i % 2 == 0 else (moved, kept)
        squares = first.square().sum(1) + second.square().sum(1)
        return total - 0.5 * squares - 0.5 * math.log(2 * math.pi) * x.shape[1]

    @torch.no_grad()
    def sample(self, n: int, dimension: int) -> Tensor:
        z = torch.randn(n, dimension)
        first, second = z[:, : self.first], z[:, self.first :]
        for i in reversed(range(LAYERS)):
            kept, moved = (first, second) if i % 2 == 0 else (second, first)
            scale, shift = self.networks[i](kept).chunk(2, 1)
            moved = (moved - shift) * torch.exp(-torch.tanh(scale))
            first, second = (kept, moved) if i % 2 == 0 else (moved, kept)
        return torch.cat([first, second], 1)


def floor_side(case: Case) -> Side | None:
    if case.transform != "affine":
        return None
    return Side(Floor(case.dimension), lambda m, x: m.log_prob(x), lambda m, n: m.sample(n, case.dimension))


def zuko_side(case: Case, defaults: bool = False) -> Side:
    from zuko.flows import NICE, NSF
    from zuko.transforms import MonotonicRQSTransform

    options: dict[str, Any] = {"transforms": LAYERS, "hidden_features": (HIDDEN, HIDDEN)}
    if case.transform == "spline":
        options |= {"univariate": MonotonicRQSTransform, "shapes": [(BINS,), (BINS,), (BINS - 1,)]}
    if defaults:
        flow = NICE(case.dimension) if case.transform == "affine" else NSF(case.dimension)
    else:
        flow = NICE(case.dimension, **options)
    return Side(flow, lambda m, x: m().log_prob(x), lambda m, n: m().sample((n,)))


def nflows_side(case: Case) -> Side:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.transforms import CompositeTransform
    from nflows.transforms.coupling import AffineCouplingTransform, PiecewiseRationalQuadraticCouplingTransform

    layers = []
    for index in range(LAYERS):
        mask = torch.arange(case.dimension) % 2 == index % 2
        if case.transform == "affine":
            layers.append(AffineCouplingTransform(mask, Network))
        else:
            layers.append(
                PiecewiseRationalQuadraticCouplingTransform(
                    mask, Network, num_bins=BINS, tails="linear", tail_bound=BOUND
                )
            )
    flow = Flow(CompositeTransform(layers), StandardNormal([case.dimension]))
    return Side(flow, lambda m, x: m.log_prob(x), lambda m, n: m.sample(n))


def freia_side(case: Case) -> Side | None:
    if case.transform != "affine":
        return None
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import GLOWCouplingBlock

    flow = SequenceINN(case.dimension, force_tuple_output=False)
    for _ in range(LAYERS // 2):  # a block is a coupling each way
        flow.append(GLOWCouplingBlock, subnet_constructor=Network, clamp=2.0, clamp_activation="TANH")
    constant = 0.5 * math.log(2 * math.pi) * case.dimension

    def log_prob(m: Any, x: Tensor) -> Tensor:
        z, log_det = m(x)
        density: Tensor = log_det - 0.5 * z.square().sum(1) - constant
        return density

    return Side(flow, log_prob, lambda m, n: m(torch.randn(n, case.dimension), rev=True)[0])


def sides_of(case: Case) -> dict[str, Side]:
    """The sides that can run this case here, their parameters moved off the start by the same noise."""
    makers: dict[str, Callable[[], Side | None]] = {"scorefold": lambda: scorefold_side(case)}
    peers = {"zuko": zuko_side, "nflows": nflows_side, "FrEIA": freia_side}
    for name, maker in peers.items():
        if find_spec(name) is not None:
            makers[name] = lambda maker=maker: maker(case)  # type: ignore[misc]
    if case.task != "compile":
        makers["floor"] = lambda: floor_side(case)
        makers["scorefold, defaults"] = lambda: scorefold_side(case, defaults=True)
        if find_spec("zuko") is not None:
            makers["zuko, defaults"] = lambda: zuko_side(case, defaults=True)
    sides = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        side = make()
        if side is not None:
            with torch.no_grad():
                for parameter in side.module.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
            sides[name] = side
    return sides


@dataclass
class Runner:
    """One line of a table: a side with what it does in a turn, and the seconds that its turns took."""

    side: Side
    turn: Callable[[], object]
    adam: str = ""
    more: Row = field(default_factory=dict)
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def take(self, turns: int) -> None:
        cpu, wall = turn_taken(self.turn, turns)
        self.cpu.append(cpu)
        self.wall.append(wall)


def sampler(case: Case, side: Side) -> Callable[[], object]:
    def draw() -> object:
        with torch.no_grad():
            return side.sample(side.module, case.batch)

    return draw


def trainer(case: Case, side: Side, adam: str, loss: Callable[[Tensor], Tensor] | None = None) -> Callable[[], object]:
    """One training step; the loss is the mean of -log p unless one is given."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64 * case.batch, case.dimension, generator=generator)
    optimiser = torch.optim.Adam(side.module.parameters(), lr=1e-4, fused=adam == "fused")

    def step() -> None:
        batch = x[torch.randint(len(x), (case.batch,), generator=generator)]
        optimiser.zero_grad()
        value = -side.log_prob(side.module, batch).mean() if loss is None else loss(batch)
        value.backward()
        optimiser.step()

    return step


def training_loss(side: Side, *, compiles: bool) -> Callable[[Tensor], Tensor]:
    """The loss as ``scorefold_toolkit.training`` calls it, with ``training.compile`` on or off."""
    loss, generator = LossModule(side.module), torch.Generator()  # type: ignore[arg-type]
    call = compiled(loss) if compiles else loss

    def value(x: Tensor) -> Tensor:
        result: Tensor = call(Dataset(x), Progress(0, 1, "fit"), generator)[0]
        return result

    return value


def peer_loss(side: Side, *, compiles: bool) -> Callable[[Tensor], Tensor]:
    log_prob = torch.compile(side.log_prob) if compiles else side.log_prob
    return lambda x: -log_prob(side.module, x).mean()


def gradient(case: Case, side: Side, loss: Callable[[Tensor], Tensor]) -> Tensor:
    x = torch.randn(case.batch, case.dimension, generator=torch.Generator().manual_seed(3))
    parameters = [p for p in side.module.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(x), parameters)])


def seconds_with_children() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def compiled_runner(case: Case, side: Side, make: Callable[..., Callable[[Tensor], Tensor]]) -> Runner:
    """A side under torch.compile, its first call timed and its gradient held to the one without."""
    plain, fast = make(side, compiles=False), make(side, compiles=True)
    cpu, wall = seconds_with_children(), time.perf_counter()
    found = gradient(case, side, fast)
    more = {"first_cpu_s": seconds_with_children() - cpu, "first_wall_s": time.perf_counter() - wall}
    exact = gradient(case, side, plain)
    more["apart"] = float((found - exact).norm() / exact.norm())
    return Runner(side, trainer(case, side, "fused", fast), "fused", more)


def runners_of(case: Case) -> dict[str, Runner]:
    sides = sides_of(case)
    if case.task == "sample":
        return {name: Runner(side, sampler(case, side)) for name, side in sides.items()}
    if case.task == "compile":
        ours = sides["scorefold"]
        runners = {"scorefold": compiled_runner(case, ours, training_loss)}
        for name, side in sides.items():
            again = copy.deepcopy(side.module)
            if name != "scorefold":
                runners[f"{name}, compiled"] = compiled_runner(case, Side(again, side.log_prob, side.sample), peer_loss)
            label = "scorefold, uncompiled" if name == "scorefold" else name
            runners[label] = Runner(side, trainer(case, side, "fused"), "fused")
        return runners
    runners = {}
    for adam in ("fused", "plain"):
        for name, side in sides.items():
            if adam == "plain" and "defaults" in name:
                continue
            own = Side(copy.deepcopy(side.module), side.log_prob, side.sample)
            runners[name if adam == "fused" else f"{name}, plain Adam"] = Runner(own, trainer(case, own, adam), adam)
    return runners


def error_of(case: Case, side: Side) -> float:
    """The median |log p in float32 - log p in float64|, in nats."""
    x = torch.randn(1000, case.dimension, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        exact = side.log_prob(copy.deepcopy(side.module).double(), x.double())
        return float((side.log_prob(side.module, x) - exact).abs().median())


def measure(case: Case, *, rounds: int) -> list[Row]:
    """Rows of one case: medians, and quartiles of the ratio to Scorefold with the same Adam within a round."""
    runners = runners_of(case)
    errors = {name: error_of(case, runner.side) for name, runner in runners.items()}
    for runner in runners.values():
        runner.turn()
        runner.turn()
    start = time.perf_counter()
    runners["scorefold"].turn()
    turns = max(1, round(0.02 / (time.perf_counter() - start)))
    order = list(runners.values())
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for runner in order:
            runner.take(turns)
    rows = []
    for name, runner in runners.items():
        ours = runners["scorefold, plain Adam" if runner.adam == "plain" else "scorefold"]
        ratios = [a / b for a, b in zip(runner.cpu, ours.cpu, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        row: Row = {"case": str(case), "side": name, "adam": runner.adam}
        row |= {"parameters": sum(p.numel() for p in runner.side.module.parameters() if p.requires_grad)}
        row |= {"cpu_ms": 1000 * statistics.median(runner.cpu), "wall_ms": 1000 * statistics.median(runner.wall)}
        row |= {"ratio": middle, "quartiles": [low, high], "error": errors[name], **runner.more}
        rows.append(row)
    return rows


def broken(case: Case, rows: Sequence[Row]) -> list[str]:
    """The limits that don't hold."""
    ratios = {row["side"]: row["ratio"] for row in rows}
    found = []
    for peer, least in LIMITS[case].items():
        if ratios.get(peer, 0.0) < least:
            given = f"takes {ratios[peer]:.2f} times our time" if peer in ratios else "is not installed"
            found.append(f"{case}: {peer} {given}, expected {least}")
    ours = next(row for row in rows if row["side"] == "scorefold")
    if ours.get("apart", 0.0) > APART:
        found.append(f"{case}: the compiled gradient is {ours['apart']:.1e} from the other, expected {APART:.0e}")
    return found


def show(case: Case, rows: Sequence[Row]) -> None:
    print(f"\n{case}")
    print(f"{'':32}{'parameters':>11}{'CPU ms':>9}{'wall ms':>9}{'ratio':>7}  {'quartiles':13} error")
    for row in rows:
        low, high = row["quartiles"]
        first = (
            f"  first call {row['first_cpu_s']:.0f} s CPU, {row['first_wall_s']:.0f} s wall; apart {row['apart']:.0e}"
            if "apart" in row
            else ""
        )
        print(
            f"{row['side']:32}{row['parameters']:>11}{row['cpu_ms']:>9.2f}{row['wall_ms']:>9.2f}{row['ratio']:>7.2f}"
            f"  {low:.2f} to {high:.2f}  {row['error']:.0e}{first}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled, a minute or two")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, failures = [], []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # an empty one, so that the first call compiles
        for case in LIMITS:
            if options.only not in str(case) or (case.task == "compile" and options.no_compile):
                continue
            part = measure(case, rounds=options.rounds)
            rows += part
            failures += broken(case, part)
            if not options.json:
                show(case, part)
    if options.json:
        print(json.dumps(rows))
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
