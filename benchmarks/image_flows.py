"""What a multi-scale Glow of images costs beside the libraries that people use, and what CAFLOW costs itself.

Every side is the same flow in float32: at each scale a squeeze, then steps of actnorm, a 1x1 convolution by LU and a
one-sided affine coupling whose network is 3x3, 1x1, 3x3 convolutions with SiLU; half of the channels leave after a
scale. ``scorefold`` is ``flow:cinn`` without a condition. ``FrEIA`` is a ``GraphINN`` of its layers; it has no 1x1
convolution that trains, and is handed Scorefold's. ``normflows`` is its ``MultiscaleFlow`` of ``GlowBlock``, with SiLU
for its ReLU and log-scales without a bound; the triangles of its LU factors that it never uses are left out of its
parameters.

A training step is a batch, the loss, its gradient and a step of fused Adam. Sides take turns in every round, in an
order drawn anew; ratios to Scorefold are taken within a round, and medians are printed. Before that every side's map is
undone (``round trip``, the largest error in units of the data), and the peers' densities are held to ours with our
weights in them (``apart``, nats a dimension). For normflows the answers of our coupling networks are rewritten into its
convention, in this check alone.

Then, of our own: what k draws for one condition of ``flow:caflow`` cost, the conditions that its encoder sees counted;
what a forward pass keeps in memory and the highest of a training step, by ``recompute`` and depth; and a coupling's
network in both layouts of memory.

Exit status 1 where a peer is faster than Scorefold in training or sampling (LIMITS, ratios of CPU time), a check fails
or a condition is encoded more than once. TARGETS are printed beside. A peer that isn't installed counts as a failure.

Run: python benchmarks/image_flows.py [--rounds 15] [--only TEXT] [--json]
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import profile

from scorefold.data import DataSpec, TensorSpec
from scorefold.nn import ActNorm, ConvConditioner, LULinear
from scorefold_caflow.config import CAFLOWConfig, CINNConfig, EncoderConfig, StepsConfig
from scorefold_caflow.flow import ImageFlow
from scorefold_caflow.layers import channels_last
from scorefold_caflow.parts import TwoEncoders

BOUND = 1.0
LIMITS = {"train": 1.0, "sample": 1.0}
"""How many times Scorefold's CPU time the faster peer must take at least."""
TARGETS = {"train": 1.2, "sample": 1.4}
ROUND_TRIP, APART = 1e-4, 1e-5
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A multi-scale Glow of images (C, H, W), and a batch of them."""

    shape: tuple[int, int, int]
    scales: int
    steps: int
    hidden: int
    batch: int

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"{size}, {self.scales} scales of {self.steps} steps, width {self.hidden}, batch {self.batch}"


CASES = (Case((1, 8, 8), 2, 4, 32, 128), Case((3, 16, 16), 3, 4, 32, 64), Case((3, 32, 32), 3, 4, 64, 32))


@dataclass
class Side:
    """A flow under test: log-densities (B,) of images, n draws, and the images that it makes of latents of images."""

    module: nn.Module
    log_prob: Callable[[Any, Tensor], Tensor]
    sample: Callable[[Any, int], Tensor]
    back: Callable[[Any, Tensor], Tensor]
    parameters: int


def trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def scorefold_side(case: Case) -> Side:
    steps = StepsConfig(steps=case.steps, transitions=0, hidden=case.hidden, bound=BOUND)
    flow = ImageFlow(CINNConfig(scales=case.scales, flow=steps), data=DataSpec(case.shape))
    return Side(
        flow,
        lambda m, x: m.log_prob(x),
        lambda m, n: m.sample(n),
        lambda m, x: m.inverse(m(x)[0])[0],
        trainable(flow),
    )


def freia_side(case: Case) -> Side:
    from FrEIA.framework import GraphINN, InputNode, Node, OutputNode
    from FrEIA.modules import ActNorm as FrEIAActNorm
    from FrEIA.modules import AffineCouplingOneSided, InvertibleModule, IRevNetDownsampling, Split

    class Mixing(InvertibleModule):  # type: ignore[misc]
        """Scorefold's 1x1 convolution as FrEIA takes its layers."""

        def __init__(self, dims_in: Any, dims_c: Any = None) -> None:
            super().__init__(dims_in, dims_c)
            self.linear = LULinear(dims_in[0][0])

        def forward(self, x: Any, rev: bool = False, jac: bool = True) -> Any:
            z, log_det = self.linear.inverse(x[0]) if rev else self.linear(x[0])
            return (z,), log_det

        def output_dims(self, input_dims: Any) -> Any:
            return input_dims

    def network(channels: int, out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, case.hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(case.hidden, case.hidden, 1),
            nn.SiLU(),
            nn.Conv2d(case.hidden, out, 3, padding=1),
        )

    coupling = {"subnet_constructor": network, "clamp": BOUND, "clamp_activation": "TANH"}
    nodes: list[Any] = [InputNode(*case.shape)]
    ends, last = [], nodes[0]
    for scale in range(case.scales):
        layers = [(IRevNetDownsampling, {})]
        layers += case.steps * [(FrEIAActNorm, {}), (Mixing, {}), (AffineCouplingOneSided, coupling)]
        for kind, options in layers:
            last = Node(last, kind, options)
            nodes.append(last)
        if scale + 1 < case.scales:
            last = Node(last, Split, {})
            nodes.append(last)
            ends.append(OutputNode(last.out0))
            last = last.out1
    graph = GraphINN([*nodes, *ends, OutputNode(last)])
    for layer in graph.modules():
        if isinstance(layer, FrEIAActNorm):
            layer.init_on_next_batch = False
    constant = 0.5 * math.log(2 * math.pi) * math.prod(case.shape)

    def log_prob(m: Any, x: Tensor) -> Tensor:
        latents, log_det = m(x)
        density: Tensor = log_det - constant
        for z in latents:
            density = density - 0.5 * z.square().flatten(1).sum(1)
        return density

    def sample(m: Any, n: int) -> Tensor:
        drawn: Tensor = m([torch.randn(n, *shape) for shape in m.global_out_shapes], rev=True)[0]
        return drawn

    return Side(graph, log_prob, sample, lambda m, x: m(m(x)[0], rev=True)[0], trainable(graph))


def normflows_side(case: Case) -> Side:
    from normflows import MultiscaleFlow
    from normflows.distributions import DiagGaussian
    from normflows.flows import GlowBlock, Merge, Squeeze

    channels, height, width = case.shape
    bases, flows, merges = [], [], []
    for level in range(case.scales):  # from the coarsest
        halvings = case.scales - level
        inner = channels * 2 ** (halvings + 1)
        blocks = [GlowBlock(inner, case.hidden, scale_map="exp") for _ in range(case.steps)]
        flows.append([*blocks, Squeeze()])
        merges += [Merge("channel_inv")] if level else []
        shape = (inner // 2 if level else inner, height // 2**halvings, width // 2**halvings)
        bases.append(DiagGaussian(shape, trainable=False))
    flow = MultiscaleFlow(bases, flows, merges, class_cond=False)
    unused = 0
    for layer in flow.modules():
        if isinstance(layer, nn.Sequential):
            layer[1], layer[3] = nn.SiLU(), nn.SiLU()
        if hasattr(layer, "data_dep_init_done"):
            layer.data_dep_init_done = torch.tensor(1.0)
        if hasattr(layer, "log_S"):
            unused += layer.log_S.numel() * (layer.log_S.numel() + 1)
    return Side(
        flow,
        lambda m, x: m.log_prob(x, None),
        lambda m, n: m.sample(n)[0],
        lambda m, x: m.forward_and_log_det(m.inverse_and_log_det(x)[0])[0],
        trainable(flow) - unused,
    )


PEERS: dict[str, Callable[[Case], Side]] = {"FrEIA": freia_side, "normflows": normflows_side}


def sides_of(case: Case) -> dict[str, Side]:
    """The sides that can run here, their parameters moved off the start by the same noise."""
    makers = {"scorefold": scorefold_side} | {n: make for n, make in PEERS.items() if find_spec(n) is not None}
    sides = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        sides[name] = make(case)
        with torch.no_grad():
            for parameter in sides[name].module.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))
    return sides


def images(case: Case, count: int) -> Tensor:
    return torch.randn(count, *case.shape, generator=torch.Generator().manual_seed(1))


def ours_in(module: nn.Module) -> tuple[list[ActNorm], list[LULinear], list[ConvConditioner]]:
    """The layers of our flow, from the finest scale on."""
    found = list(module.modules())
    return (
        [layer for layer in found if isinstance(layer, ActNorm)],
        [layer for layer in found if isinstance(layer, LULinear)],
        [layer for layer in found if isinstance(layer, ConvConditioner)],
    )


class Rewritten(nn.Module):
    """Our coupling's answers in normflows' convention: its density's direction takes (x - shift) exp(-scale)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        raw, shift = self.network(x).chunk(2, 1)
        log_scale = BOUND * raw.tanh()
        return torch.stack((-shift * (-log_scale).exp(), -log_scale), 2).flatten(1, 2)


def copy_convolutions(network: ConvConditioner, convolutions: Sequence[nn.Module]) -> None:
    for source, target in zip((network.first, network.middle, network.last), convolutions, strict=True):
        target.load_state_dict(source.state_dict())


@torch.no_grad()
def with_our_weights(name: str, peer: nn.Module, ours: nn.Module) -> nn.Module:
    """A copy of a peer's flow that has the weights of ours."""
    norms, mixings, networks = ours_in(ours)
    peer = copy.deepcopy(peer)
    layers = list(peer.modules())

    def named(kind: str) -> list[Any]:
        return [layer for layer in layers if type(layer).__name__ == kind]

    sequences = [layer for layer in layers if isinstance(layer, nn.Sequential)]
    if name == "FrEIA":
        for source, target in zip(norms, named("ActNorm"), strict=True):
            target.scale.copy_(source.log_scale.view(1, -1, 1, 1))
            target.bias.copy_(source.shift.view(1, -1, 1, 1))
        for mixing, twin in zip(mixings, named("LULinear"), strict=True):
            twin.load_state_dict(mixing.state_dict())
    else:  # its levels and its blocks are in the order of sampling
        for source, target in zip(reversed(norms), named("ActNorm"), strict=True):
            target.s.copy_(-source.log_scale.view(1, -1, 1, 1))
            target.t.copy_((-source.shift * (-source.log_scale).exp()).view(1, -1, 1, 1))
        for mixing, twin in zip(reversed(mixings), named("Invertible1x1Conv"), strict=True):
            twin.L.copy_(mixing.factors)
            twin.U.copy_(mixing.factors)
            twin.log_S.copy_(mixing.factors.diagonal())
            twin.sign_S.copy_(mixing.signs)
            twin.P.copy_(torch.eye(len(mixing.order))[mixing.order])
        networks = networks[::-1]
    for network, sequence in zip(networks, sequences, strict=True):
        copy_convolutions(network, [layer for layer in sequence if isinstance(layer, nn.Conv2d)])
    if name == "normflows":
        for coupling in named("AffineCoupling"):
            coupling.param_map = Rewritten(coupling.param_map)
    return peer


def checks(case: Case, sides: dict[str, Side]) -> dict[str, Row]:
    """What each side computes: the largest error of a round trip, and how far a peer's density is from ours."""
    x = images(case, 16)
    found: dict[str, Row] = {}
    with torch.no_grad():
        ours = sides["scorefold"]
        truth = ours.log_prob(copy.deepcopy(ours.module).double(), x.double())
        for name, side in sides.items():
            trip = float((side.back(side.module, x) - x).abs().max())
            module = side.module if name == "scorefold" else with_our_weights(name, side.module, ours.module)
            apart = (side.log_prob(module, x).double() - truth).abs().max()
            found[name] = {"round_trip": trip, "apart": float(apart) / math.prod(case.shape)}
    return found


@dataclass
class Runner:
    """What is done in a turn, and the seconds that the turns took."""

    turn: Callable[[], object]
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def take(self, turns: int) -> None:
        """Some turns, timed; one more before them finds the caches as others left them."""
        self.turn()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(turns):
            self.turn()
        self.cpu.append((time.process_time() - cpu) / turns)
        self.wall.append((time.perf_counter() - wall) / turns)


def race(turns: dict[str, Callable[[], object]], *, rounds: int) -> list[Row]:
    """Rows of sides that take turns: medians, and quartiles of the ratio to the first within a round."""
    runners = {name: Runner(turn) for name, turn in turns.items()}
    first = next(iter(runners.values()))
    for runner in runners.values():
        runner.turn()
    start = time.process_time()
    first.turn()
    count = max(1, round(0.03 / (time.process_time() - start)))
    order = list(runners.values())
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for runner in order:
            runner.take(count)
    rows = []
    for name, runner in runners.items():
        ratios = [a / b for a, b in zip(runner.cpu, first.cpu, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        row: Row = {"side": name, "ratio": middle, "quartiles": [low, high]}
        row |= {"cpu_ms": 1000 * statistics.median(runner.cpu), "wall_ms": 1000 * statistics.median(runner.wall)}
        rows.append(row)
    return rows


def trainer(case: Case, side: Side) -> Callable[[], object]:
    """A training step, of a copy of the side's flow."""
    module = copy.deepcopy(side.module).train()
    x = images(case, 16 * case.batch)
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(2)

    def step() -> None:
        batch = x[torch.randint(len(x), (case.batch,), generator=generator)]
        optimiser.zero_grad()
        (-side.log_prob(module, batch).mean()).backward()
        optimiser.step()

    return step


def sampler(case: Case, side: Side) -> Callable[[], object]:
    module = copy.deepcopy(side.module).eval()

    def draw() -> None:
        with torch.no_grad():
            side.sample(module, case.batch)

    return draw


def measure(case: Case, *, rounds: int) -> tuple[list[Row], list[str]]:
    """Rows of a case, and what fails in it."""
    sides = sides_of(case)
    checked = checks(case, sides)
    rows: list[Row] = []
    failures = [f"{case}: {name} is not installed" for name in PEERS if name not in sides]
    for name, row in checked.items():
        if row["round_trip"] > ROUND_TRIP or row["apart"] > APART:
            failures.append(f"{case}: {name} has a round trip of {row['round_trip']:.0e}, is {row['apart']:.0e} apart")
    counts = {side.parameters for side in sides.values()}
    if len(counts) > 1:
        failures.append(f"{case}: the sides have {sorted(counts)} parameters")
    makers: dict[str, Callable[[Case, Side], Callable[[], object]]] = {"train": trainer, "sample": sampler}
    for task, maker in makers.items():
        for row in race({name: maker(case, side) for name, side in sides.items()}, rounds=rounds):
            name = row["side"]
            rows.append({"case": str(case), "task": task, **row, **checked[name], "parameters": sides[name].parameters})
            if name != "scorefold" and row["ratio"] < LIMITS[task]:
                failures.append(
                    f"{case}, {task}: {name} takes {row['ratio']:.2f} times our time, expected {LIMITS[task]}"
                )
    return rows, failures


def show(rows: Sequence[Row]) -> None:
    print(f"\n{rows[0]['case']}, {rows[0]['parameters']:,} parameters")
    print(f"  {'':20}{'CPU ms':>9}{'wall ms':>9}{'ratio':>7}  {'quartiles':14}{'round trip':>11}{'apart':>9}")
    for row in rows:
        low, high = row["quartiles"]
        print(
            f"  {row['task']:8}{row['side']:12}{row['cpu_ms']:>9.2f}{row['wall_ms']:>9.2f}{row['ratio']:>7.2f}"
            f"  {low:.2f} to {high:.2f}  {row['round_trip']:>11.0e}{row['apart']:>9.0e}"
        )
    for task, target in TARGETS.items():
        peers = [row["ratio"] for row in rows if row["task"] == task and row["side"] != "scorefold"]
        if peers:
            print(f"  {task}: the faster peer takes {min(peers):.2f} times our time (target {target})", flush=True)


IMAGE = (1, 16, 16)
DRAWS = (1, 8, 32)
DEPTHS, TIMED = (1, 2, 4, 8), 4


def conditional_flow(steps: int, recompute: str = "no") -> ImageFlow:
    """flow:caflow of images given images, with so many steps a block, moved off its start."""
    torch.manual_seed(0)
    encoder, translation = EncoderConfig(steps=steps, hidden=32), StepsConfig(steps=steps, hidden=32)
    config = CAFLOWConfig.model_validate(
        {"scales": 3, "encoder": encoder, "translation": translation, "recompute": recompute}
    )
    flow = ImageFlow(config, data=DataSpec(IMAGE, condition_spec=TensorSpec(IMAGE)))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return flow


def draws(*, rounds: int) -> tuple[list[Row], list[str]]:
    """What k draws for one condition cost, and how many conditions are encoded for them."""
    flow = conditional_flow(4).eval()
    assert isinstance(flow.parts, TwoEncoders)
    assert flow.parts.condition_encoder is not None
    y = torch.randn(1, *IMAGE, generator=torch.Generator().manual_seed(1))
    encoded: list[int] = []
    hook = flow.parts.condition_encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    with torch.no_grad():
        for k in DRAWS:
            flow.sample(k, y)
    hook.remove()
    turns: dict[str, Callable[[], object]] = {"encoding alone": lambda: flow.parts.given(y, None)}
    turns |= {f"{k} draws": lambda k=k: flow.sample(k, y) for k in DRAWS}  # type: ignore[misc]
    with torch.no_grad():
        rows = race(turns, rounds=rounds)
    failures = [] if encoded == [1] * len(DRAWS) else [f"{DRAWS} draws for one condition encoded {encoded} of them"]
    return [{"case": "flow:caflow, 1 x 16 x 16, 3 scales of 4 steps, one condition", **row} for row in rows], failures


def allocated(run: Callable[[], object]) -> tuple[int, int]:
    """The bytes that a call has taken and not given back: at its end, its result being alive, and at the highest."""
    with profile(profile_memory=True) as profiler:
        kept = run()

    def allocations(events: Sequence[Any]) -> Iterator[tuple[int, int]]:
        for event in events:
            if event.tag.name == "Allocation":
                yield event.start_time_ns, event.extra_fields.alloc_size
            yield from allocations(event.children)

    found = allocations(profiler.profiler.kineto_results.experimental_event_tree())
    running = list(itertools.accumulate(size for _, size in sorted(found, key=lambda pair: pair[0])))
    del kept
    return running[-1], max(running)


def memory(*, rounds: int) -> list[Row]:
    """What a forward pass keeps, and the highest of forward and backward, beside weights and their gradients; by
    ``recompute`` and steps a block, for some also the time."""
    x, y = torch.randn(2, 32, *IMAGE, generator=torch.Generator().manual_seed(1)).unbind()
    rows = []
    for steps in DEPTHS:
        flows = {way: conditional_flow(steps, way).train() for way in ("no", "checkpoint", "inverse")}

        def loss(flow: ImageFlow) -> Tensor:
            return -flow.log_prob(x, y).mean()

        def turn(flow: ImageFlow) -> None:
            flow.zero_grad(set_to_none=False)
            loss(flow).backward()

        turns: dict[str, Callable[[], object]] = {way: functools.partial(turn, flow) for way, flow in flows.items()}
        for run in turns.values():
            run()  # the gradients are there from now on
        timed = race(turns, rounds=rounds) if steps == TIMED else [{"side": way} for way in turns]
        for row in timed:
            kept, _ = allocated(functools.partial(loss, flows[row["side"]]))
            _, highest = allocated(turns[row["side"]])
            case = f"flow:caflow, 1 x 16 x 16, 3 scales of {steps} steps, batch 32, forward and backward"
            rows.append({"case": case, **row, "kept_bytes": kept, "highest_bytes": highest})
    return rows


def layouts(*, rounds: int) -> list[Row]:
    """A coupling's network, forward and backward, with channels last in memory (as image flows have it) and first."""
    rows = []
    for channels, size, hidden, batch in ((4, 4, 32, 128), (12, 8, 32, 64), (12, 16, 64, 32), (12, 32, 64, 8)):
        network = ConvConditioner(channels // 2, channels, hidden)
        first = torch.randn(batch, channels, size, size, requires_grad=True)
        last = channels_last(first.detach()).requires_grad_()

        def turn(x: Tensor, network: ConvConditioner = network) -> None:
            network(x.chunk(2, 1)[0]).square().sum().backward()

        turns: dict[str, Callable[[], object]] = {}
        turns |= {"channels last": functools.partial(turn, last), "channels first": functools.partial(turn, first)}
        case = f"a network of {channels // 2} to {channels} channels, width {hidden}, {size} x {size}, batch {batch}"
        rows += [{"case": case, **row} for row in race(turns, rounds=rounds)]
    return rows


def show_own(rows: Sequence[Row]) -> None:
    for case, group in itertools.groupby(rows, lambda row: row["case"]):
        print(f"\n{case}")
        for row in group:
            text = f"  {row['side']:16}"
            if "cpu_ms" in row:
                low, high = row["quartiles"]
                text += f"{row['cpu_ms']:>9.2f} CPU ms, {row['wall_ms']:.2f} wall ms, "
                text += f"{row['ratio']:.2f} times the first ({low:.2f} to {high:.2f})"
            if "kept_bytes" in row:
                text += f"{row['kept_bytes'] / 1e6:>9.1f} MB kept, {row['highest_bytes'] / 1e6:.1f} MB at the highest"
            print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="run the parts whose name holds this text: images, draws, ...")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    failures: list[str] = []
    for case in CASES:
        if options.only in str(case):
            part, failed = measure(case, rounds=options.rounds)
            rows, failures = rows + part, failures + failed
            if not options.json:
                show(part)
    if options.only in "draws":
        part, failed = draws(rounds=options.rounds)
        rows, failures = rows + part, failures + failed
        if not options.json:
            show_own(part)
    for name, own in {"memory": memory, "layouts": layouts}.items():
        if options.only in name:
            part = own(rounds=options.rounds)
            rows += part
            if not options.json:
                show_own(part)
    if options.json:
        print(json.dumps(rows))
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
