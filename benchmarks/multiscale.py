"""Sampling by a network a scale beside a uniform network of the same size, ours and diffusers'.

    python benchmarks/multiscale.py [--rounds 5] [--sizes 32 64 128]

The networks come from ``scorefold reproduce nonuniform``: U-Nets, untrained, with as many parameters together as the
uniform one. Every side takes the same number of steps of DDIM, in each round in turns: ``diffusers`` its own loop of
``DDIMScheduler`` around the same uniform network, ``uniform`` score:denoising and ``multiscale`` score:multiscale, both
by ``sample``, and ``networks alone`` nothing but the calls of the multi-scale networks. Then a step of
``NonUniformScheduler`` beside the schedulers of diffusers. Exit status 1 where the multi-scale side is less than 4.4
times cheaper than diffusers' at 128 pixels, or its saving does not rise with the resolution (medians of CPU time).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import diffusers
import torch
from _turns import Spent, spent
from torch import Tensor

from scorefold.interfaces import TensorSource
from scorefold_nonuniform.claims.cost import uniform_and_multiscale
from scorefold_nonuniform.cost import resolution_scales, scales_of
from scorefold_nonuniform.diffusers.scheduler import NonUniformScheduler
from scorefold_registry import Host

LIMIT = 4.4
STEPS = {32: 8, 64: 4, 128: 1}
"""Steps a scale."""
SIDES = ("diffusers", "uniform", "multiscale", "networks alone")
OWN_SHAPE, OWN_STEPS = (8, 3, 32, 32), 50


def in_turns(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Spent]]:
    """What each run took in every round, after one that is not counted; who begins changes with the round."""
    names = list(runs)
    found: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken = spent(runs[name])
            if number:
                found[name].append(taken)
    return found


def sides(host: Host, size: int) -> dict[str, Callable[[], Any]]:
    """A run of each side at a resolution, of one image."""
    each, count = STEPS[size], len(resolution_scales(size))
    steps = each * count
    data = TensorSource(torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)))
    uniform, several = uniform_and_multiscale(host, data)
    unet: Any = uniform.get_submodule("network.unet")
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    calls = [scale.call(1) for scale in scales_of(several) for _ in range(each)]

    def theirs() -> Tensor:
        scheduler.set_timesteps(steps)
        x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, return_dict=False)[0], t, x).prev_sample
        return x

    def ours(model: Any) -> Callable[[], Any]:
        return lambda: model.sample(
            1, steps=steps, sampler="ddim", to_zero=False, generator=torch.Generator().manual_seed(0)
        )

    return dict(zip(SIDES, (theirs, ours(uniform), ours(several), lambda: [call() for call in calls]), strict=True))


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def report(size: int, found: dict[str, list[Spent]]) -> float:
    """Prints a table of one resolution; the median saving against diffusers."""
    count = len(resolution_scales(size))
    print(f"{size} pixels, {count} scales, {STEPS[size] * count} steps:")
    print(f"  {'side':16}{'CPU, ms':>10}{'wall, ms':>10}   times cheaper than diffusers, CPU")
    for name in SIDES:
        cpu, wall = (1e3 * statistics.median(getattr(one, kind) for one in found[name]) for kind in ("cpu", "wall"))
        ratios = [peer.cpu / own.cpu for peer, own in zip(found["diffusers"], found[name], strict=True)]
        print(f"  {name:16}{cpu:10.0f}{wall:10.0f}   {quartiles(ratios)}", flush=True)
    pairs = zip(found["diffusers"], found["multiscale"], strict=True)
    return statistics.median(peer.cpu / own.cpu for peer, own in pairs)


def own_steps(rounds: int) -> None:
    """Prints what ``step`` of the schedulers costs, without a network."""
    bands: dict[str, Any] = {"bands": {"name": "haar", "levels": 2}, "event_shape": OWN_SHAPE[1:]}
    schedulers = {
        "DDIMScheduler": diffusers.DDIMScheduler(clip_sample=False),
        "DPMSolverMultistepScheduler": diffusers.DPMSolverMultistepScheduler(),
        "NonUniformScheduler, ddim": NonUniformScheduler("vp", sampler="ddim"),
        "NonUniformScheduler, dpmpp-2m": NonUniformScheduler("vp"),
        "the same, three Haar bands": NonUniformScheduler("log-snr", **bands),
    }
    x, answer = torch.randn(2, *OWN_SHAPE, generator=torch.Generator().manual_seed(0))

    def drive(scheduler: Any) -> Callable[[], Any]:
        def run() -> Tensor:
            scheduler.set_timesteps(OWN_STEPS)
            state: Tensor = x
            for t in scheduler.timesteps:
                state = scheduler.step(answer, t, state).prev_sample
            return state

        return run

    found = in_turns({name: drive(scheduler) for name, scheduler in schedulers.items()}, rounds)
    print(f"a step of the scheduler alone, batch {OWN_SHAPE[0]} of {OWN_SHAPE[1:]}, CPU microseconds:")
    for name, times in found.items():
        print(f"  {name:32}{1e6 * statistics.median(one.cpu for one in times) / OWN_STEPS:8.0f}")


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128], choices=sorted(STEPS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    host = Host.discover()
    own_steps(given.rounds)
    savings = {size: report(size, in_turns(sides(host, size), given.rounds)) for size in sorted(given.sizes)}
    rises = all(before < after for before, after in pairwise(savings.values()))
    enough = savings.get(128, LIMIT) >= LIMIT
    print(f"at least {LIMIT} times cheaper at 128 pixels: {'holds' if enough else 'does not hold'}")
    print(f"rises with the resolution: {'holds' if rises else 'does not hold'}")
    return 0 if rises and enough else 1


if __name__ == "__main__":
    sys.exit(main())
