"""What a network call costs an event, by the number of events in it, and whether the chosen number is a good one.

    python benchmarks/batches.py [--rounds 5] [--threads 1] [--only unet]

Each network is called with 1, 16, 64, ... events, in turns within a round, on as many events in all; ``automatic`` is
the number that ``scorefold.batching`` chooses. Printed are medians of CPU time an event, its ratio to the automatic
number's within a round, and page faults an event: memory that the allocator fetched from the system. Exit status 1
where another number is more than a seventh cheaper in the median round.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _turns import Row, finish, parse_options

from scorefold.data import DataSpec, EventScale
from scorefold.interfaces import ScoreModel
from scorefold_registry import Host

LIMIT = 1 - 1 / 7
SIZES = (1, 16, 64, 128, 256, 512, 1024, 4096)
NETWORKS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "unet 16 x 16": ("network:unet", (1, 16, 16), 1024),
    "unet 28 x 28": ("network:unet", (1, 28, 28), 512),
    "unet 3 x 64 x 64": ("network:unet", (3, 64, 64), 64),
    "mlp 64": ("network:mlp", (64,), 16384),
    "mlp 784": ("network:mlp", (784,), 8192),
}
"""A network by name, the shape of its events, and the largest number of events that is timed."""


def model(network: str, shape: tuple[int, ...]) -> ScoreModel:
    made: Any = Host.discover().create(
        "score:denoising", {"network": {"use": network}}, data=DataSpec(shape, EventScale(std=0.5))
    )
    score: ScoreModel = made.eval()
    return score


def calls(score: ScoreModel, size: int, total: int) -> Callable[[], int]:
    """Calls of ``size`` events on about ``total`` of them; they give how many there were."""
    x, t = torch.randn(size, *score.event_shape), torch.full((size,), 0.5)
    times = max(1, total // size)

    def run() -> int:
        with torch.no_grad():
            for _ in range(times):
                score.score(x, t)
        return times * size

    return run


def costs(run: Callable[[], int]) -> tuple[float, float]:
    """CPU microseconds and page faults an event."""
    faults, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
    events = run()
    cpu = time.process_time() - cpu
    return 1e6 * cpu / events, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / events


def measure(name: str, rounds: int) -> list[Row]:
    network, shape, largest = NETWORKS[name]
    score = model(network, shape)
    automatic = score.call_rows()
    sizes = sorted({size for size in SIZES if size <= largest} | {min(automatic, largest)})
    # Few calls of one event are enough to time it.
    turns = {size: calls(score, size, largest if size >= 16 else 32) for size in sizes}
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for run in turns.values():
        run()
    for _ in range(rounds):
        for size, run in turns.items():
            found[size].append(costs(run))
    chosen = [cpu for cpu, _ in found[min(automatic, largest)]]
    rows = []
    for size in sizes:
        cpu, faults = zip(*found[size], strict=True)
        ratio = statistics.median(a / b for a, b in zip(cpu, chosen, strict=True))
        row: Row = {"network": name, "events": size, "automatic": size == min(automatic, largest)}
        rows.append(row | {"cpu_us": statistics.median(cpu), "ratio": ratio, "faults": statistics.median(faults)})
    return rows


def main() -> int:
    options = parse_options(__doc__, only="the networks whose name begins so")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows, failures = [], []
    for name in (name for name in NETWORKS if name.startswith(options.only)):
        found = measure(name, min(options.rounds, 5))
        rows += found
        if not options.json:
            print(f"\n{name}\n  events   CPU us an event   ratio   faults an event")
            for row in found:
                mark = "  automatic" if row["automatic"] else ""
                print(f"{row['events']:8d} {row['cpu_us']:17.1f} {row['ratio']:7.2f} {row['faults']:17.1f}{mark}")
        best = min(found, key=lambda row: row["ratio"])
        if best["ratio"] < LIMIT:
            failures.append(f"{name}: {best['events']} events cost {best['ratio']:.2f} of the automatic number's")
    return finish(rows, failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
