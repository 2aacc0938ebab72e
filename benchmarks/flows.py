"""What a coupling flow costs beside the libraries that people use.

Every side has the same architecture and parameter count: 8 coupling layers with alternating halves, ReLU networks of
64 x 2, 8 bins; float32, fused Adam. ``scorefold`` is the flow of ``flow:affine-coupling`` and ``flow:spline-coupling``
without its activation normalisation and linear layers, which no peer has here; ``scorefold-full`` has them, and so does
more work. ``floor`` is the least that plain torch needs. Sides take turns in every round, so that a busy machine slows
all alike; ratios to Scorefold are taken within a round. CPU time is the process's, at one thread unless asked
otherwise. ``error`` is the median difference of log-densities from the same weights in float64, in nats.

Peers other than zuko run where they are installed. Run: python benchmarks/flows.py [--rounds 7] [--steps 20]
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import DataSpec
from scorefold_standard.flow_config import AffineCouplingConfig, SplineCouplingConfig
from scorefold_standard.flows.coupling import CouplingFlow

LAYERS, HIDDEN, BINS, BOUND = 8, 64, 8, 5.0


@dataclass(frozen=True)
class Case:
    """What is measured: ``train`` (a step) or ``sample`` (a batch of draws)."""

    transform: str
    dimension: int
    batch: int
    task: str

    def __str__(self) -> str:
        return f"{self.task}, {self.transform}, D {self.dimension}, batch {self.batch}"


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


def scorefold_side(case: Case, full: bool) -> Side:
    options: dict[str, Any] = {"layers": LAYERS, "hidden": (HIDDEN, HIDDEN), "activation": "relu"}
    if not full:
        options |= {"linear": "none", "actnorm": False}
    config = (
        AffineCouplingConfig(**options)
        if case.transform == "affine"
        else SplineCouplingConfig(**options, bins=BINS, bound=BOUND)
    )
    flow = CouplingFlow(config, data=DataSpec((case.dimension,)))
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


def zuko_side(case: Case) -> Side:
    from zuko.flows import NICE
    from zuko.transforms import MonotonicRQSTransform

    options: dict[str, Any] = {"transforms": LAYERS, "hidden_features": (HIDDEN, HIDDEN)}
    if case.transform == "spline":
        options |= {"univariate": MonotonicRQSTransform, "shapes": [(BINS,), (BINS,), (BINS - 1,)]}
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
        flow.append(GLOWCouplingBlock, subnet_constructor=Network)
    constant = 0.5 * math.log(2 * math.pi) * case.dimension

    def log_prob(m: Any, x: Tensor) -> Tensor:
        z, log_det = m(x)
        density: Tensor = log_det - 0.5 * z.square().sum(1) - constant
        return density

    return Side(flow, log_prob, lambda m, n: m(torch.randn(n, case.dimension), rev=True)[0])


def sides_of(case: Case) -> dict[str, Side]:
    """The sides that can run this case here, their parameters moved off the start by the same noise."""
    makers: dict[str, Callable[[], Side | None]] = {
        "scorefold": lambda: scorefold_side(case, full=False),
        "scorefold-full": lambda: scorefold_side(case, full=True),
        "floor": lambda: floor_side(case),
    }
    for name, maker in (("zuko", zuko_side), ("nflows", nflows_side), ("FrEIA", freia_side)):
        if find_spec(name) is not None:
            makers[name] = lambda maker=maker: maker(case)  # type: ignore[misc]
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


def work_of(case: Case, side: Side, compiled: bool) -> Callable[[], None]:
    """One training step, or one batch of draws."""
    if case.task == "sample":

        def draw() -> None:
            with torch.no_grad():
                side.sample(side.module, case.batch)

        return draw
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64 * case.batch, case.dimension, generator=generator)
    optimiser = torch.optim.Adam(side.module.parameters(), lr=1e-4, fused=True)
    log_prob = torch.compile(side.log_prob) if compiled else side.log_prob

    def step() -> None:
        batch = x[torch.randint(len(x), (case.batch,), generator=generator)]
        optimiser.zero_grad()
        (-log_prob(side.module, batch).mean()).backward()
        optimiser.step()

    return step


def error_of(case: Case, side: Side) -> float:
    """The median |log p in float32 - log p in float64|, in nats."""
    x = torch.randn(1000, case.dimension, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        exact = side.log_prob(copy.deepcopy(side.module).double(), x.double())
        return float((side.log_prob(side.module, x) - exact).abs().median())


def measure(case: Case, *, rounds: int, steps: int, compiled: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of one case: medians, and quartiles of the ratio to Scorefold within a round."""
    sides = sides_of(case)
    errors = {name: error_of(case, side) for name, side in sides.items()}
    work = {name: work_of(case, side, name in compiled) for name, side in sides.items()}
    for run in work.values():
        for _ in range(3):
            run()
    cpu: dict[str, list[float]] = {name: [] for name in work}
    wall: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for index in range(rounds):
        # The order turns with the rounds: what runs first after another side finds other caches.
        for name in names[index % len(names) :] + names[: index % len(names)]:
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            for _ in range(steps):
                work[name]()
            cpu[name].append((time.process_time() - cpu_start) / steps)
            wall[name].append((time.perf_counter() - wall_start) / steps)
    rows = []
    for name, side in sides.items():
        ratios = [a / b for a, b in zip(cpu[name], cpu["scorefold"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        rows.append(
            {
                "case": str(case),
                "side": name,
                "parameters": sum(p.numel() for p in side.module.parameters() if p.requires_grad),
                "compiled": name in compiled and case.task == "train",
                "cpu_ms": 1000 * statistics.median(cpu[name]),
                "wall_ms": 1000 * statistics.median(wall[name]),
                "ratio": middle,
                "quartiles": [low, high],
                "error": errors[name],
            }
        )
    return rows


CASES = (
    Case("affine", 2, 256, "train"),
    Case("affine", 20, 256, "train"),
    Case("spline", 2, 256, "train"),
    Case("spline", 20, 1024, "train"),
    Case("affine", 2, 256, "sample"),
    Case("affine", 100, 256, "sample"),
    Case("spline", 20, 256, "sample"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="steps or batches a side takes in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument(
        "--compile", default="", metavar="SIDES", help="sides to run under torch.compile, such as scorefold,zuko"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compiled = tuple(filter(None, options.compile.split(",")))
    rows = []
    for case in CASES:
        if options.only not in str(case):
            continue
        part = measure(case, rounds=options.rounds, steps=options.steps, compiled=compiled)
        rows.extend(part)
        if not options.json:
            print(f"\n{case}  ({options.threads} thread{'s' if options.threads > 1 else ''})")
            print(f"{'':16}{'parameters':>11}{'CPU ms':>9}{'wall ms':>9}{'ratio':>7}  quartiles      error")
            for row in part:
                name = row["side"] + ("*" if row["compiled"] else "")
                low, high = row["quartiles"]
                print(
                    f"{name:16}{row['parameters']:>11}{row['cpu_ms']:>9.2f}{row['wall_ms']:>9.2f}{row['ratio']:>7.2f}"
                    f"  {low:.2f} to {high:.2f}  {row['error']:.1e}"
                )
    if options.json:
        print(json.dumps({"rows": rows}))
    elif compiled:
        print("\n* under torch.compile")
    return 0


if __name__ == "__main__":
    sys.exit(main())
