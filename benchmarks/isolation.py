"""Cost of an environment of its own for a plugin, beside the same plugin in this process.

    python benchmarks/isolation.py [--rounds N]

The plugin has two estimators: an echo, which answers with the points it was given, and distances of 2,000 points. The
sides take turns in every round. Targets: 3 s of CPU from the start of a worker to its hello; a call 2 ms and its bytes
at 1 GB/s both ways; the estimate 1.05 of its time here; 300 MB of an idle worker; and 2 ms more of CPU for
``plugins list`` with ten environments. Exit status 1 where an answer differs from the one here in any bit, or where a
median is above twice its target (of the estimate 1.1, of the list 50 ms), since the machine may be crowded.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scorefold_registry.host import Host
from scorefold_registry.plugins.environments.environment import describe_environment
from scorefold_registry.plugins.environments.spec import environments_in
from scorefold_registry.plugins.environments.store import VARIABLE
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.plugins.settings import read_settings

PLUGIN = """
from scorefold.plugin import Component, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components():
    for name in ("echo", "work"):
        yield Component("estimator", name, f"bench_isolated.impl:{name.title()}", "scorefold.config:Config", name)
"""
IMPL = """
import torch

from scorefold.interfaces import Estimator
from scorefold.results import Estimate


class Echo(Estimator):
    def __init__(self, config):
        pass

    def estimate(self, data, *, generator=None):
        return Estimate("echo", 0.0, pointwise=data[:, 0])


class Work(Echo):
    def estimate(self, data, *, generator=None):
        near = [(torch.cdist(data, data) < radius).double().mean() for radius in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
        return Estimate("work", float(near[-1].log() - near[0].log()), pointwise=torch.cdist(data, data).mean(1))
"""
EVENTS = {"4 KiB": 2**10, "1 MiB": 2**18, "16 MiB": 2**22}
ENVIRONMENTS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[VARIABLE] = str(folder / "cache")
        settings = prepare(folder)
        sys.path.insert(0, str(folder / "site"))
        missed = measure_calls(settings, rounds)
        missed += measure_listing(folder, rounds)
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


def prepare(folder: Path) -> Path:
    """The plugin as if it were installed, and a settings file whose environments see it."""
    package = folder / "site" / "bench_isolated"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(textwrap.dedent(PLUGIN))
    (package / "impl.py").write_text(textwrap.dedent(IMPL))
    info = folder / "site" / "bench_isolated-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-isolated\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scorefold.plugins]\nbench = bench_isolated.plugin\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (packages / "bench.pth").write_text(f"{folder / 'site'}\n")
    lines = [f'[environments.bench]\ninterpreter = "{folder / "venv" / "bin" / "python"}"\n']
    (folder / "scorefold.toml").write_text("".join(lines))
    for spec in environments_in(read_settings(folder / "scorefold.toml")):
        describe_environment(spec)
    return folder / "scorefold.toml"


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure_calls(settings: Path, rounds: int) -> list[str]:
    """Starts, calls and an estimate, there and here; what missed its target."""
    host = Host.discover(toml=settings)
    (environment,) = environments_of(host.plugins)
    starts = []
    for _ in range(3):
        environment.close()
        wall = seconds(environment.session)
        starts.append((worker_cpu(environment.session().pid), wall))
    cpu, wall = (statistics.median(column) for column in zip(*starts, strict=True))
    memory = worker_memory(environment.session().pid)
    print(f"start to hello: {cpu:.2f} s of CPU, {wall:.2f} s of wall time; an idle worker holds {memory:.0f} MB")
    missed = [] if cpu < 6 else [f"{cpu:.1f} s of CPU to start"]
    missed += [] if memory < 600 else [f"{memory:.0f} MB of an idle worker"]
    pairs = {}
    for name in ("echo", "work"):
        pairs[name] = host.create(f"bench/estimator:{name}"), host.create(f"bench-isolated/estimator:{name}")
    for name, events in EVENTS.items():
        data = torch.randn(events, 1)
        there, here, _ = compare(pairs["echo"], data, rounds)
        target = 0.002 + 2 * data.nbytes / 1e9
        print(f"{name:>7} there and back: {1e3 * there:.2f} ms, here {1e3 * here:.3f} ms; target {1e3 * target:.1f} ms")
        missed += [] if there < 2 * target else [f"{name}: {1e3 * there:.1f} ms"]
    there, here, equal = compare(pairs["work"], torch.randn(2000, 10), rounds)
    print(f"an estimate: {1e3 * there:.0f} ms there, {1e3 * here:.0f} ms here, ratio {there / here:.3f}; target 1.05")
    missed += [] if there / here < 1.1 else [f"the ratio of an estimate, {there / here:.2f}"]
    missed += [] if equal else ["an answer that differs from the one here"]
    environment.close()
    return missed


def compare(pair: tuple[Any, Any], data: torch.Tensor, rounds: int) -> tuple[float, float, bool]:
    """Median seconds there and here, and whether the answers are equal to the bit."""
    times: list[tuple[float, float]] = []
    answers = [each.estimate(data) for each in pair]
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        found = {side: seconds(lambda side=side: pair[side].estimate(data)) for side in order}  # type: ignore[misc]
        times.append((found[0], found[1]))
    there, here = (statistics.median(column) for column in zip(*times, strict=True))
    first, second = answers
    return there, here, first.value == second.value and torch.equal(first.pointwise, second.pointwise)


def measure_listing(folder: Path, rounds: int) -> list[str]:
    """``plugins list`` with ten environments that are described, and without any."""
    text = (folder / "scorefold.toml").read_text()
    plain, many = folder / "plain", folder / "many"
    for place in (plain, many):
        place.mkdir()
    (plain / "scorefold.toml").touch()
    (many / "scorefold.toml").write_text(
        "".join(
            text.replace("[environments.bench]", f"[environments.bench-{number}]") for number in range(ENVIRONMENTS)
        )
    )
    for spec in environments_in(read_settings(many / "scorefold.toml")):
        describe_environment(spec)
    command = [sys.executable, "-m", "scorefold_registry.cli", "plugins", "list", "--no-import"]
    times: dict[Path, list[float]] = {plain: [], many: []}
    for number in range(rounds + 1):
        for place in (plain, many) if number % 2 else (many, plain):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if number:
                times[place].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    without, with_ten = statistics.median(times[plain]), statistics.median(times[many])
    more = 1e3 * (with_ten - without)
    print(f"plugins list: {1e3 * without:.0f} ms of CPU, with {ENVIRONMENTS} environments {more:+.0f} ms; target +2 ms")
    return [] if more < 50 else [f"{more:.0f} ms more for {ENVIRONMENTS} environments"]


def worker_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def worker_memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1.024e-3 * float(line.split()[1]) for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    sys.exit(main())
