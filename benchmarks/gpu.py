"""What an accelerator can show: the checks of all components on it, a resumed training, mixed precision, and speed.

    make gpu
    python benchmarks/gpu.py [--device auto] [--only checks,resume,precision,speed] [--steps 300] [--rounds 5]
        [--no-compile] [--components NAME]

Without an accelerator it prints that there is none, and checks nothing. ``--device cpu`` runs the same code on the CPU,
which says nothing of an accelerator. Exit status 1 where a check fails. Speeds are absolute, in milliseconds a call,
each beside a loop in plain torch around the same network; they are shown and decide nothing. Our estimate does more
than the spectra beside it: it chooses points and says what supports its answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.seeds import derive_generator
from scorefold_registry import Host
from scorefold_toolkit.training import fit

HOST = Host.discover()
SIZE, POINTS = 20, 2000
APART = {"cpu": 0.0, "cuda": 1e-4, "mps": 1e-4}
"""Largest distance of the weights of a resumed training from the weights of an uninterrupted one, over their size.
Devices other than the CPU may sum in another order."""
HALF = 0.1
"""How far the loss under mixed precision may be from that without, over it."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", default="checks,resume,precision,speed")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--components", help="check these only: a plugin or kind:name")
    given = parser.parse_args()
    device = given.device if given.device != "auto" else accelerator()
    if device is None:
        print("no accelerator")
        return 0
    print(f"torch {torch.__version__} on {device}: {name_of(device)}")
    parts: Mapping[str, Callable[[], bool]] = {
        "checks": lambda: checks(device, given.components),
        "resume": lambda: resume(device, given.steps),
        "precision": lambda: precision(device, given.steps),
        "speed": lambda: speed(device, given.steps, given.rounds, not given.no_compile),
    }
    held = [parts[name]() for name in given.only.split(",")]
    return 0 if all(held) else 1


def accelerator() -> str | None:
    """The accelerator of this machine by torch's name of it, or None."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def name_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"


def checks(device: str, name: str | None) -> bool:
    """What every component computes on the device is what it computes on the CPU, to 1e-3."""
    command = ["plugins", "check", *([name] if name else []), "--level", "device", "--device", device, "--json"]
    made = subprocess.run(
        [sys.executable, "-m", "scorefold_registry.cli", *command], capture_output=True, text=True, check=False
    )
    if not made.stdout.startswith("{"):
        print(f"checks: {made.stdout}{made.stderr}")
        return False
    found = [check for check in json.loads(made.stdout)["checks"] if check["check"].startswith("accelerator-kept")]
    failed = [check for check in found if check["result"] == "failed"]
    for check in failed:
        print(f"checks: failed: {check['component']} {check['check']}: {check['detail']}")
    skipped = sum(check["result"] == "skipped" for check in found)
    passed = len(found) - len(failed) - skipped
    print(f"checks: {passed} answers agree with the CPU, {len(failed)} fail, {skipped} skipped")
    return made.returncode == 0 and len(found) > skipped


def score(device: str, training: Mapping[str, Any], network: Mapping[str, Any] | None = None) -> Any:
    """A score of points on a sphere and their source."""
    data = HOST.create("data:sphere", {"dimension": 2, "ambient": SIZE, "points": POINTS, "seed": 0})
    settings = {
        "network": network or {"use": "network:mlp", "config": {"width": 64, "blocks": 2}},
        "training": training,
    }
    made = HOST.create("score:denoising", settings, generator=derive_generator(0, "weights"), device=device, data=data)
    return made, data.load("train")


class StoppedError(Exception):
    """Ends a training in its middle."""


def resume(device: str, steps: int) -> bool:
    """A training that is stopped and goes on from its checkpoint has the weights of one that was not stopped."""
    training = {"steps": steps, "checkpoint_every": max(1, steps // 4), "log_every": 1, "validate_every": 10**6}
    ends, seen = [], list[int]()

    def stop(step: int, values: Mapping[str, float]) -> None:
        if step > steps // 2:
            raise StoppedError

    with tempfile.TemporaryDirectory() as folder:
        for part, watch in (("whole", None), ("stopped", stop), ("resumed", lambda step, values: seen.append(step))):
            model, train = score(device, training)
            place = None if part == "whole" else Path(folder)
            try:
                fit(model, train, model.training_config, seed=0, checkpoint_dir=place, metrics=watch)
            except StoppedError:
                continue
            ends.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    apart = float((ends[0] - ends[1]).norm() / ends[0].norm())
    held = seen[0] > steps // 4 and apart <= APART[torch.device(device).type]
    print(f"resume: {'holds' if held else 'fails'}: went on at step {seen[0]} of {steps}, weights {apart:.2g} apart")
    return held


def precision(device: str, steps: int) -> bool:
    """Training under mixed precision comes to the loss of training without."""
    losses, kinds = dict[str, float](), ["no", "bf16"] + ([] if device == "cpu" else ["fp16"])
    for kind in kinds:
        model, train = score(device, {"steps": steps, "log_every": 1, "validate_every": 10**6})
        report = fit(model, train, model.training_config, seed=0, precision=kind)
        late = [row["loss"] for row in report.history[-max(1, steps // 4) :]]
        losses[kind] = sum(late) / len(late)
    held = all(abs(loss / losses["no"] - 1) <= HALF for loss in losses.values())
    said = ", ".join(f"{kind} {loss:.6f}" for kind, loss in losses.items())
    print(f"precision: {'holds' if held else 'fails'}: loss over the last quarter of {steps} steps: {said}")
    return held


def speed(device: str, steps: int, rounds: int, compiles: bool) -> bool:
    """Prints milliseconds a call of ours and of plain torch, eager and compiled."""
    print(f"{'milliseconds':<40}{'ours':>10}{'plain torch':>14}{'ours, comp.':>14}{'plain, comp.':>14}")
    for name, sides in (("training step, batch 256", train_sides(device, steps)), *network_sides(device).items()):
        ours, plain = (timed(side, device, rounds) for side in sides)
        row = f"{name:<40}{ours:>10.3f}{plain:>14.3f}"
        if compiles:
            row += "".join(
                f"{compiled(side, device, rounds, name == 'training step, batch 256'):>14}" for side in sides
            )
        print(row, flush=True)
    return True


def train_sides(device: str, steps: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Training by ``fit``, and the same steps by hand: noise, loss, clipping, Adam, averaged weights."""
    steps = min(steps, 100)

    def ours(compile: bool = False) -> float:
        model, train = score(device, {"steps": steps, "validate_every": 10**6, "compile": compile})
        report = fit(model, train, model.training_config, seed=0)
        return report.seconds / report.steps

    def plain(compile: bool = False) -> float:
        model, train = score(device, {})
        x = train.x.to(device)
        net = torch.compile(model.network) if compile else model.network
        parameters = list(model.network.parameters())
        averaged = [parameter.detach().clone() for parameter in parameters]
        adam = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        generator = torch.Generator(device).manual_seed(0)
        started = clock(device)
        for _ in range(steps):
            rows = torch.randint(len(x), (256,), generator=generator, device=device)
            level = torch.randn(256, generator=generator, device=device)
            noise = torch.randn(256, SIZE, generator=generator, device=device)
            answer = net((x[rows] + level.exp()[:, None] * noise) / (1 + level.exp()[:, None]), level)
            adam.zero_grad()
            (answer - noise).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step()
            torch._foreach_lerp_(averaged, [parameter.detach() for parameter in parameters], 0.001)
        return (clock(device) - started) / steps

    return ours, plain


def network_sides(device: str) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Pairs of ours and plain torch by name, each one call."""
    model, train = score(device, {})
    model.requires_grad_(False).eval()
    flow = HOST.create("flow:affine-coupling", device=device, data=HOST.create("data:sphere", {"ambient": SIZE}))
    flow.requires_grad_(False).eval()
    space = HOST.create("geometry:pullback", flow=flow, device=device)
    x = train.x[:64].to(device)
    v = torch.randn_like(x)
    levels = torch.logspace(1, -2, 18, device=device)
    reading = {"sigma": 0.05, "sweep": [], "points": 16, "shown": 1, "resamples": 0}
    estimator = HOST.create("estimator:iddiff", reading, score=model)

    def noise(at: Tensor, sigma: Tensor) -> Tensor:
        answer: Tensor = model.network(at / (1 + sigma), sigma.log().expand(len(at)))
        return answer

    def heun() -> Tensor:
        at = levels[0] * torch.randn(64, SIZE, device=device)
        for sigma, lower in pairwise(levels):
            slope = noise(at, sigma)
            ahead = at + (lower - sigma) * slope
            at = at + (lower - sigma) * (slope + noise(ahead, lower)) / 2
        return at

    def spectra() -> Tensor:
        sigma = torch.tensor(0.05, device=device)
        noised = x[:16, None] + sigma * torch.randn(16, 2 * SIZE, SIZE, device=device)
        values: Tensor = torch.linalg.svdvals(noise(noised.flatten(0, 1), sigma).reshape(16, 2 * SIZE, SIZE))
        return values

    def into(at: Tensor) -> Tensor:
        coordinates: Tensor = flow(at)[0]
        return coordinates

    def exp() -> Tensor:
        at, along = torch.func.jvp(into, (x,), (v,))[:2]
        back: Tensor = flow.inverse(at + along)[0]
        return back

    def log() -> Tensor:
        at, pull = torch.func.vjp(into, x)[:2]
        pulled: Tensor = pull(into(x + v) - at)[0]
        return pulled

    generator = torch.Generator().manual_seed(0)
    return {
        "64 samples, Heun, 18 levels": (lambda: model.sample(64, sampler="heun", steps=17, generator=generator), heun),
        "spectra of 16 points": (lambda: estimator.estimate(train.x, generator=generator), spectra),
        "exp of 64 vectors": (lambda: space.exp(x, v), exp),
        "log of 64 points": (lambda: space.log(x, x + v), log),
    }


def clock(device: str) -> float:
    """Seconds, when all work on the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(call: Callable[[], Any], device: str, rounds: int) -> float:
    """Milliseconds of a call, the median of ``rounds`` after one; a call that gives a number has timed itself."""
    found = []
    for _ in range(rounds + 1):
        started = clock(device)
        answer = call()
        found.append(answer if isinstance(answer, float) else clock(device) - started)
    return 1e3 * sorted(found[1:])[rounds // 2]


def compiled(call: Callable[..., Any], device: str, rounds: int, itself: bool) -> str:
    """Milliseconds of a call through torch.compile, or why there are none; a training compiles itself."""
    try:
        fast = (lambda: call(compile=True)) if itself else torch.compile(call)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, of what it leaves as it is
            return f"{timed(fast, device, rounds):.3f}"
    except Exception as error:
        return type(error).__name__[:13]


if __name__ == "__main__":
    sys.exit(main())
