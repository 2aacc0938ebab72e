"""One multi-scale Glow of images in Scorefold, FrEIA and normflows, and what holds their densities to each other.

In float32: at each scale a squeeze, then steps of actnorm, a 1x1 convolution by LU and a one-sided affine coupling
whose network is 3x3, 1x1, 3x3 convolutions with SiLU; half of the channels leave after a scale. ``scorefold`` is
``flow:cinn`` without a condition. ``FrEIA`` is a ``GraphINN`` of its layers; it has no 1x1 convolution that trains,
and is handed Scorefold's. ``normflows`` is its ``MultiscaleFlow`` of ``GlowBlock``, with SiLU for its ReLU and
log-scales without a bound; the triangles of its LU factors that it never uses are left out of its parameters. For its
density the answers of our coupling networks are rewritten into its convention.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from _turns import Row
from torch import Tensor, nn

from scorefold.data import DataSpec
from scorefold_caflow.config import CINNConfig, StepsConfig
from scorefold_caflow.flow.model import ImageFlow
from scorefold_toolkit.nn import ActNorm, ConvConditioner, LULinear

BOUND = 1.0


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
    data: Any = DataSpec(case.shape)
    flow = ImageFlow(CINNConfig(scales=case.scales, flow=steps), data=data)
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
        layers: list[tuple[Any, dict[str, Any]]] = [(IRevNetDownsampling, {})]
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
