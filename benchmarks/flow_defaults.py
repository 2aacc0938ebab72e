"""Defaults of flows after equal CPU time: ours, variations of it, and zuko's.

    python benchmarks/flow_defaults.py [--seconds S] [--seeds N] [--only TEXT]

Every flow is trained alike: Adam, batches of 256, warm-up and a cosine over as many steps as fit into S CPU seconds.
Printed are held-out nats a dimension (less is better) at the end, and the least of ten looks on the way, which early
stopping gives. Steps are timed before each training. There are no limits, since the numbers depend on the time.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from scorefold.data import DataSpec, as_dataset
from scorefold_standard.config import SplineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_toolkit.nn import LULinear

BATCH, WARMUP, LOOKS, TIMED = 256, 50, 10, 20


def digits(generator: torch.Generator) -> Tensor:
    """1,797 digits of 8 x 8 pixels with uniform noise of one grey level."""
    x = torch.tensor(load_digits().data, dtype=torch.float32)
    return x + torch.rand(x.shape, generator=generator)


def table(generator: torch.Generator) -> Tensor:
    """30,000 rows in the manner of a household's electricity: a season, its harmonics, a product, and heavy tails."""
    hour, day = (2 * math.pi * torch.rand(30_000, generator=generator) for _ in range(2))
    a, b, c = torch.randn(3, 30_000, generator=generator)
    active = torch.exp(0.6 * torch.sin(hour) + 0.3 * torch.cos(day) + 0.4 * a)
    voltage = 240 - 2 * active.sqrt() + 0.8 * b
    current = active / voltage * 230 * (1 + 0.03 * c)
    kitchen = active * torch.sigmoid(3 * torch.sin(hour) + b)
    return torch.stack([hour + 0.05 * a.abs(), active, voltage, current, kitchen, day], 1)


def mixtures(generator: torch.Generator) -> Tensor:
    """The table's columns in one deviation each, turned by a random rotation."""
    x = table(generator)
    rotation: Tensor = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator))[0]
    return (x - x.mean(0)) / x.std(0) @ rotation


def crescents(generator: torch.Generator) -> Tensor:
    """5,000 points of two crescents in the plane, as posteriors of few parameters are."""
    angle = math.pi * (torch.rand(5_000, generator=generator) - 0.5)
    radius = 1 + 0.05 * torch.randn(5_000, generator=generator)
    side = torch.where(torch.rand(5_000, generator=generator) < 0.5, -1.0, 1.0)
    return torch.stack([side * (0.4 + radius * angle.cos()), radius * angle.sin()], 1)


def sides(dimension: int) -> dict[str, Callable[[], nn.Module]]:
    """The flows, by name. Each gives log p by ``log_densities``."""
    from zuko.flows import NSF

    def ours(**config: Any) -> Callable[[], nn.Module]:
        return lambda: CouplingFlow(SplineCouplingConfig(**config), data=DataSpec((dimension,)))

    def rotated(**config: Any) -> nn.Module:
        flow = ours(**config)()
        for layers in [module for module in flow.modules() if isinstance(module, nn.ModuleList)]:
            for index, layer in enumerate(layers):
                if isinstance(layer, LULinear):
                    layers[index] = LULinear(dimension)
        return flow

    return {
        "ours, default": ours(),
        "ours, rotations at first": rotated,
        "ours, 4 layers": ours(layers=4),
        "ours, 4 layers of 128": ours(layers=4, hidden=(128, 128)),
        "ours, no linear layers": ours(linear="none"),
        "zuko NSF, default": lambda: NSF(dimension),
        "zuko NSF, 128": lambda: NSF(dimension, hidden_features=(128, 128)),
    }


def log_densities(flow: nn.Module, x: Tensor) -> Tensor:
    """log p of points x (n, D), shape (n,)."""
    return flow.log_prob(x) if hasattr(flow, "log_prob") else flow().log_prob(x)  # type: ignore[no-any-return,operator]


def trained(
    make: Callable[[], nn.Module], train: Tensor, held_out: Tensor, seconds: float, seed: int
) -> dict[str, Any]:
    """Held-out nats a dimension at the end and at best, with steps and CPU seconds."""
    torch.manual_seed(seed)
    flow = make()
    if isinstance(flow, CouplingFlow):
        flow.prepare(as_dataset(train), torch.Generator().manual_seed(seed))
    start = {name: value.clone() for name, value in flow.state_dict().items()}
    parts = [parameter for parameter in flow.parameters() if parameter.requires_grad]

    def steps(count: int, looks: int) -> list[float]:
        optimiser = torch.optim.Adam(parts, lr=1e-3)
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda k: min(1.0, (k + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * k / count))
        )
        found: list[float] = []
        for k in range(count):
            loss = -log_densities(flow, train[torch.randint(len(train), (BATCH,))]).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parts, 1.0)
            optimiser.step()
            rate.step()
            if looks and (k + 1) * looks // count > k * looks // count:
                with torch.no_grad():
                    found.append(-float(log_densities(flow, held_out).mean()) / train.shape[1])
        return found

    steps(WARMUP // 10, 0)
    before = time.process_time()
    steps(TIMED, 0)
    each = (time.process_time() - before) / TIMED
    flow.load_state_dict(start)
    before = time.process_time()
    count = max(LOOKS, int(seconds / each))
    found = steps(count, LOOKS)
    return {"end": found[-1], "best": min(found), "steps": count, "cpu": time.process_time() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    print("| data | flow | seed | end | best | steps | CPU s |\n|---|---|---|---|---|---|---|")
    for name, draw in (("digits", digits), ("table", table), ("mixtures", mixtures), ("crescents", crescents)):
        for seed in range(given.seeds):
            generator = torch.Generator().manual_seed(seed)
            x = draw(generator)
            x = x[torch.randperm(len(x), generator=generator)]
            cut = len(x) * 9 // 10
            # Every column in its own deviation, as the data of a run file are.
            x = (x - x[:cut].mean(0)) / x[:cut].std(0)
            for side, make in sides(x.shape[1]).items():
                if given.only in f"{name} {side}":
                    row = trained(make, x[:cut], x[cut:], given.seconds, seed)
                    numbers = f"{row['end']:.3f} | {row['best']:.3f} | {row['steps']:,} | {row['cpu']:.1f}"
                    print(f"| {name} | {side} | {seed} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
