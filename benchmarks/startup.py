"""What listing plugins costs: CPU seconds of ``scorefold plugins list`` with 200 other distributions installed.

    python benchmarks/startup.py [--rounds N] [--distributions N]

Bytecode is written once before the clock starts, as an installer does. Exit status 1 where the median is above the
limit of 0.15 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 0.15
CASES = {
    "python": ["-c", "pass"],
    "plugins list --no-import": ["-m", "scorefold_registry.cli", "plugins", "list", "--no-import"],
    "plugins list": ["-m", "scorefold_registry.cli", "plugins", "list"],
    "plugins list --json": ["-m", "scorefold_registry.cli", "plugins", "list", "--json"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--distributions", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), options.distributions)
        surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        surroundings["PYTHONPATH"] = folder
        seconds: dict[str, list[float]] = {name: [] for name in CASES}
        for number in range(options.rounds + 1):
            for name, arguments in CASES.items():
                spent = cpu_seconds([sys.executable, *arguments], surroundings)
                if number > 0:
                    seconds[name].append(spent)
    print(f"CPU seconds beside {options.distributions} distributions, median (quartiles) of {options.rounds} rounds")
    for name, values in seconds.items():
        low, median, high = statistics.quantiles(values, n=4)
        print(f"  {name:<26} {median:.3f} ({low:.3f} to {high:.3f})")
    worst = max(statistics.median(values) for values in seconds.values())
    print(f"limit {LIMIT} s: {'holds' if worst < LIMIT else 'does not hold'}")
    return 0 if worst < LIMIT else 1


def fill(folder: Path, count: int) -> None:
    """``dist-info`` folders such as ordinary packages leave, half of them with commands of their own."""
    for number in range(count):
        info = folder / f"other_{number}-1.{number}.dist-info"
        info.mkdir()
        headers = f"Metadata-Version: 2.1\nName: other-{number}\nVersion: 1.{number}\n"
        (info / "METADATA").write_text(headers + "Requires-Dist: more\n" * 20 + "\nA long description.\n" * 200)
        if number % 2:
            (info / "entry_points.txt").write_text(f"[console_scripts]\nother-{number} = other:main\n")


def cpu_seconds(command: list[str], surroundings: dict[str, str]) -> float:
    """User and system seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=surroundings, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
