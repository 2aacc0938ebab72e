"""The own cost of a sampler's step beside diffusers' schedulers, on a small MLP.

    python benchmarks/samplers.py [--rounds 11] [--steps 50]

Own cost is the CPU time of a step less the time of its network calls, which are timed alone in each round. diffusers
is measured as its own pipelines drive it: ``set_timesteps``, then the network's calls and one ``step`` a timestep. Its
schedulers are the nearest there are: the same solver for DDIM, Heun and DPM-Solver++(2M), its ancestral Euler and its
predictor-corrector of variance-exploding processes for the stochastic ones. The sides take turns in every round. Exit
status 1 where a step of ours costs more than 100 microseconds of its own in the median round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor, nn

from scorefold.config import VEConfig, VPConfig
from scorefold.diffusion import SAMPLERS, IsotropicProcess, build_schedule, time_grid

BATCH, DIMENSION, LIMIT = 64, 64, 100.0
PAIRS: dict[str, Callable[[], Any]] = {
    "ddim": diffusers.DDIMScheduler,
    "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "euler-maruyama": diffusers.EulerAncestralDiscreteScheduler,
    "predictor-corrector": diffusers.ScoreSdeVeScheduler,
}
"""Each sampler of ours and the scheduler of diffusers that does most nearly the same."""


class Network(nn.Module):
    """A small network of (x, t), the same for all sides; it counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(DIMENSION, 128), nn.SiLU(), nn.Linear(128, DIMENSION)).eval()
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        answer: Tensor = self.layers(x)
        return answer


class Side(NamedTuple):
    """What is timed: ``run`` takes ``steps`` steps."""

    name: str
    run: Callable[[], Any]


def ours(name: str, network: Network, x: Tensor, steps: int) -> Callable[[], Any]:
    process = IsotropicProcess(build_schedule(VEConfig() if name == "predictor-corrector" else VPConfig()))
    times = time_grid(process, steps)
    generator = torch.Generator().manual_seed(0)
    return lambda: SAMPLERS[name](network, process, x, times, generator=generator)


def theirs(scheduler: Any, network: Network, x: Tensor, steps: int) -> Callable[[], Any]:
    generator = torch.Generator().manual_seed(0)
    ancestral = isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler)
    scaled = ancestral or isinstance(scheduler, diffusers.HeunDiscreteScheduler)

    def sample() -> Tensor:
        scheduler.set_timesteps(steps)
        state = x
        for timestep in scheduler.timesteps:
            given = scheduler.scale_model_input(state, timestep) if scaled else state
            answer = network(given, timestep)
            more = {"generator": generator} if ancestral else {}
            state = scheduler.step(answer, timestep, state, **more).prev_sample
        return state

    return sample


def theirs_corrected(scheduler: Any, network: Network, x: Tensor, steps: int) -> Callable[[], Any]:
    """A corrector and a predictor step for each timestep, as ``ScoreSdeVePipeline`` drives them."""
    generator = torch.Generator().manual_seed(0)

    def sample() -> Tensor:
        scheduler.set_timesteps(steps)
        scheduler.set_sigmas(steps)
        state = x
        for index, timestep in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[index] * torch.ones(len(state))
            for _ in range(scheduler.config.correct_steps):
                answer = network(state, sigma)
                state = scheduler.step_correct(answer, state, generator=generator).prev_sample
            answer = network(state, sigma)
            state = scheduler.step_pred(answer, timestep, state, generator=generator).prev_sample
        return state

    return sample


def cpu_microseconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e6


def own_costs(sides: list[Side], network: Network, x: Tensor, rounds: int, steps: int) -> dict[str, list[float]]:
    """CPU microseconds of a step in each round, the network's calls taken off."""
    own: dict[str, list[float]] = {side.name: [] for side in sides}
    own["network's call"] = []
    t = torch.ones(BATCH)
    for number in range(rounds + 1):
        call = cpu_microseconds(lambda: [network(x, t) for _ in range(4 * steps)]) / (4 * steps)
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            network.calls = 0
            spent = cpu_microseconds(side.run)
            if number:  # the first round warms up
                own[side.name].append((spent - network.calls * call) / steps)
        if number:
            own["network's call"].append(call)
    return own


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = Network()
    x = torch.randn(BATCH, DIMENSION, generator=torch.Generator().manual_seed(0))
    sides = []
    for name, scheduler in PAIRS.items():
        drive = theirs_corrected if name == "predictor-corrector" else theirs
        sides.append(Side(name, ours(name, network, x, given.steps)))
        sides.append(Side(scheduler.__name__, drive(scheduler(), network, x, given.steps)))
    own = own_costs(sides, network, x, given.rounds, given.steps)
    call = statistics.median(own["network's call"])
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, 1 thread, batch {BATCH}, D {DIMENSION}")
    print(f"the network's call: {call:.0f} us; own cost of a step in {given.rounds} rounds:")
    worst = 0.0
    for name, scheduler in PAIRS.items():
        low, middle, high = statistics.quantiles(own[name], n=4)
        print(f"  {name:34}{middle:7.1f} us ({low:.1f} to {high:.1f})")
        pairs = zip(own[scheduler.__name__], own[name], strict=True)
        few, ratio, many = statistics.quantiles([peer / mine for peer, mine in pairs], n=4)
        cost = statistics.median(own[scheduler.__name__])
        print(f"  {scheduler.__name__:34}{cost:7.1f} us   {ratio:.1f} times ours ({few:.1f} to {many:.1f})")
        worst = max(worst, middle)
    print(f"at most {LIMIT:.0f} us a step: {'holds' if worst <= LIMIT else 'does not hold'} ({worst:.1f})")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
