"""What listing plugins costs, beside the listing commands of llm, datasette and kedro.

    python benchmarks/startup.py [--rounds N] [--distributions N]

Ours runs with 200 other distributions on the path. The peers run in an environment of their own that holds them and
what they need, made on the first call with pip, in the folder of this interpreter's environment. Bytecode is written
before the clock starts, as an installer does, and the sides take turns in every round. Figures are of CPU (user and
system) and wall time of whole processes. Exit status 1 where the median of ours is above 0.15 s of CPU, or less than
2.5 times faster than the fastest peer in the median round.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT, FASTER = 0.15, 2.5
OURS = "scorefold plugins list"
CASES = {
    "python": ["-c", "pass"],
    f"{OURS} --no-import": ["-m", "scorefold_registry.cli", "plugins", "list", "--no-import"],
    OURS: ["-m", "scorefold_registry.cli", "plugins", "list"],
    f"{OURS} --json": ["-m", "scorefold_registry.cli", "plugins", "list", "--json"],
}
PEERS = {"llm plugins": "llm", "datasette plugins": "datasette", "kedro info": "kedro"}
Times = dict[str, list[tuple[float, float]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--distributions", type=int, default=200)
    options = parser.parse_args()
    binaries = peers_installed()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), options.distributions)
        commands = {name: [sys.executable, *arguments] for name, arguments in CASES.items()}
        commands |= {name: [str(binaries / name.split()[0]), *name.split()[1:]] for name in PEERS}
        times: Times = {name: [] for name in commands}
        names = list(commands)
        for number in range(options.rounds + 1):
            # Each round starts with another side, so that none always runs behind the same one.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                spent = measure(commands[name], surroundings(Path(folder), name in PEERS))
                if number > 0:  # the first round warms up
                    times[name].append(spent)
    return print_times(times, options.distributions, options.rounds)


def peers_installed() -> Path:
    """The folder of the peers' commands, in an environment that is made once."""
    environment = Path(sys.prefix) / "benchmark-peers"
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    if not all((binaries / name.split()[0]).exists() for name in PEERS):
        print(f"installing {', '.join(PEERS.values())} into {environment}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEERS.values()], check=True)
    listing = [str(binaries / "python"), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    lines = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    print(", ".join(line.replace("==", " ") for line in lines if line.split("==")[0] in PEERS.values()))
    return binaries


def surroundings(folder: Path, peer: bool) -> dict[str, str]:
    """The environment variables of a process. Peers report home to nobody, which would cost them time."""
    given = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    if not peer:
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        return {**given, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    return {**given, "DO_NOT_TRACK": "1", "KEDRO_DISABLE_TELEMETRY": "1", "LLM_USER_PATH": str(folder / "llm")}


def fill(folder: Path, count: int) -> None:
    """``dist-info`` folders such as ordinary packages leave, half of them with commands of their own."""
    for number in range(count):
        info = folder / f"other_{number}-1.{number}.dist-info"
        info.mkdir()
        headers = f"Metadata-Version: 2.1\nName: other-{number}\nVersion: 1.{number}\n"
        (info / "METADATA").write_text(headers + "Requires-Dist: more\n" * 20 + "\nA long description.\n" * 200)
        if number % 2:
            (info / "entry_points.txt").write_text(f"[console_scripts]\nother-{number} = other:main\n")


def measure(command: list[str], variables: dict[str, str]) -> tuple[float, float]:
    """CPU (user and system) and wall seconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def print_times(times: Times, distributions: int, rounds: int) -> int:
    """Print the table and whether both limits hold; the exit status."""
    print(f"seconds, medians of {rounds} rounds; ours beside {distributions} other distributions")
    print(f"{'':34}{'CPU':>7}{'wall':>7}   CPU time, times the CPU time of '{OURS}': median (quartiles)")
    ratios: dict[str, list[float]] = {}
    for name, pairs in times.items():
        cpu, wall = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        ratios[name] = [mine[0] / base[0] for mine, base in zip(pairs, times[OURS], strict=True)]
        low, middle, high = statistics.quantiles(ratios[name], n=4)
        print(f"{name:34}{cpu:7.3f}{wall:7.3f}   {middle:.2f} ({low:.2f} to {high:.2f})")
    worst = max(statistics.median(cpu for cpu, _ in times[name]) for name in CASES)
    fastest = min(PEERS, key=lambda name: statistics.median(ratios[name]))
    faster = statistics.median(ratios[fastest])
    print(f"at most {LIMIT} s of CPU: {'holds' if worst <= LIMIT else 'does not hold'} ({worst:.3f})")
    print(f"{FASTER} times faster than '{fastest}': {'holds' if faster >= FASTER else 'does not hold'} ({faster:.2f})")
    return 0 if worst <= LIMIT and faster >= FASTER else 1


if __name__ == "__main__":
    sys.exit(main())
