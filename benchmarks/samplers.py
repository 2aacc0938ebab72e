"""The own cost of a sampler's step beside diffusers' schedulers: the same network, steps and solver on both sides.

    python benchmarks/samplers.py [--rounds 11] [--steps 50]

Rounds alternate the sides; each figure is the median over rounds of CPU microseconds a step, the network's call taken
off, with the ratio to ours. diffusers is measured as its own pipelines drive it: ``set_timesteps``, then one network
call and one ``step`` a timestep.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from scorefold.config import VPConfig
from scorefold.diffusion import SAMPLERS, build_process, time_grid

BATCH, DIMENSION = 64, 64


def make_network() -> nn.Module:
    """A small network of (x, t), the same for both sides."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(DIMENSION, 128), nn.SiLU(), nn.Linear(128, DIMENSION)).eval()


def ours(name: str, network: nn.Module, x: Tensor, steps: int) -> Callable[[], Tensor]:
    process = build_process(VPConfig())
    times = time_grid(process, steps)

    def score(x: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = network(x)
        return answer

    return lambda: SAMPLERS[name](score, process, x, times)[0]


def theirs(scheduler: Any, network: nn.Module, x: Tensor, steps: int) -> Callable[[], Tensor]:
    def sample() -> Tensor:
        scheduler.set_timesteps(steps)
        state = x
        for timestep in scheduler.timesteps:
            state = scheduler.step(network(state), timestep, state).prev_sample
        return state

    return sample


def calls_alone(network: nn.Module, x: Tensor, steps: int) -> Callable[[], Tensor]:
    def call() -> Tensor:
        for _ in range(steps):
            answer: Tensor = network(x)
        return answer

    return call


def cpu_microseconds(run: Callable[[], Tensor], steps: int) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e6 / steps


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = make_network()
    x = torch.randn(BATCH, DIMENSION, generator=torch.Generator().manual_seed(0))
    make = partial(theirs, network=network, x=x, steps=given.steps)
    sides = {
        "network alone": calls_alone(network, x, given.steps),
        "scorefold ddim": ours("ddim", network, x, given.steps),
        "diffusers DDIMScheduler": make(DDIMScheduler()),
        "scorefold dpmpp-2m": ours("dpmpp-2m", network, x, given.steps),
        "diffusers DPMSolverMultistepScheduler": make(DPMSolverMultistepScheduler()),
    }
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(given.rounds + 1):
        for name, run in sides.items():
            figure = cpu_microseconds(run, given.steps)
            if number:  # the first round warms up
                figures[name].append(figure)
    network_cost = statistics.median(figures["network alone"])
    print(f"torch {torch.__version__}, 1 thread, batch {BATCH}, D {DIMENSION}; {given.rounds} x {given.steps} steps")
    print(f"the network's call: {network_cost:.0f} microseconds; own cost of a step:")
    for solver in (("scorefold ddim", "diffusers DDIMScheduler"), tuple(sides)[3:]):
        base = statistics.median(figures[solver[0]]) - network_cost
        for name in solver:
            own = statistics.median(figures[name]) - network_cost
            print(f"  {name:<40} {own:7.1f} us   {own / base:5.1f}x")


if __name__ == "__main__":
    main()
