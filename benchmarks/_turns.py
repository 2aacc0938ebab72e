"""What benchmarks share: options, sides that take turns so that a busy machine slows all alike, and the end."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]


class Spent(NamedTuple):
    """CPU and wall seconds."""

    cpu: float
    wall: float


def spent(run: Callable[[], object], times: int = 1) -> Spent:
    """What a run takes, the mean of some."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        run()
    return Spent((time.process_time() - cpu) / times, (time.perf_counter() - wall) / times)


def turn_taken(run: Callable[[], object], times: int) -> Spent:
    """The same, after one that finds the caches as others left them."""
    run()
    return spent(run, times)


def race(turns: dict[str, Callable[[], object]], *, rounds: int) -> list[Row]:
    """Rows of sides that take turns: medians, and quartiles of the ratio to the first within a round."""
    for turn in turns.values():
        turn()
    names = list(turns)
    start = time.process_time()
    turns[names[0]]()
    count = max(1, round(0.03 / (time.process_time() - start)))
    taken: dict[str, list[Spent]] = {name: [] for name in names}
    shuffle, order = random.Random(0).shuffle, list(names)
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            taken[name].append(turn_taken(turns[name], count))
    rows = []
    first = [cpu for cpu, _ in taken[names[0]]]
    for name in names:
        cpu, wall = zip(*taken[name], strict=True)
        ratios = [a / b for a, b in zip(cpu, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        row: Row = {"side": name, "ratio": middle, "quartiles": [low, high]}
        rows.append(row | {"cpu_ms": 1000 * statistics.median(cpu), "wall_ms": 1000 * statistics.median(wall)})
    return rows


def parse_options(doc: str | None, *, only: str | None = None) -> argparse.Namespace:
    """Read the options of a benchmark: rounds, threads, json, and only where its help text is given."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    if only is not None:
        parser.add_argument("--only", default="", help=only)
    return parser.parse_args()


def finish(rows: Sequence[Row], failures: Sequence[str], *, as_json: bool) -> int:
    """Print the rows as JSON if requested, print the failures, and return the exit status."""
    if as_json:
        print(json.dumps(rows))
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)
