"""What handing out jobs costs: local processes and a Dask cluster of this machine, beside bare ones of each.

    python benchmarks/executors.py [--rounds N] [--jobs N] [--workers N]

A job does nothing, or takes and gives back a tensor of 1 MB. The bare sides are a ``ProcessPoolExecutor`` and a Dask
client given the same items. Figures are wall and CPU time a job (CPU of this process and of those it has started),
medians over rounds in which the sides take turns. What starting costs, torch's import in the workers included, stands
apart.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

import psutil
import torch
from distributed import Client, LocalCluster

from scorefold_dask.config import DaskConfig
from scorefold_dask.executor import DaskExecutor
from scorefold_registry.run.executor import LocalExecutor

Side = Callable[[list[Any]], list[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    items: dict[str, list[Any]] = {
        "nothing": list(range(options.jobs)),
        "1 MB": [torch.zeros(250_000)] * (options.jobs // 5),
    }
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, start in SIDES.items():
            began = time.perf_counter()
            sides[name] = start(options.workers, stack)
            sides[name](items["nothing"][: 2 * options.workers])
            print(f"{name:32} starts and does its first jobs in {time.perf_counter() - began:.2f} s", flush=True)
        for what, given in items.items():
            table(what, given, sides, options.rounds)


def table(what: str, given: list[Any], sides: dict[str, Side], rounds: int) -> None:
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began, spent = time.perf_counter(), cpu_seconds()
            sides[name](given)
            if number > 0:  # the first round warms up
                wall[name].append((time.perf_counter() - began) / len(given))
                cpu[name].append((cpu_seconds() - spent) / len(given))
    print(f"\n{len(given)} jobs that take {what}, milliseconds a job")
    for name in names:
        print(
            f"{name:32} wall {1e3 * statistics.median(wall[name]):7.3f}   CPU {1e3 * statistics.median(cpu[name]):7.3f}"
        )


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has started and that go on."""
    own = psutil.Process()
    spent = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return float(sum(times.user + times.system for times in spent))


def local(workers: int, stack: ExitStack) -> Side:
    executor = LocalExecutor(workers, threads=1)
    stack.callback(executor.close)
    return lambda items: executor.map("copy:copy", items, key="copies")


def pool(workers: int, stack: ExitStack) -> Side:
    bare = stack.enter_context(ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")))
    return lambda items: list(bare.map(keep, items))


def dask_executor(workers: int, stack: ExitStack) -> Side:
    executor = DaskExecutor(DaskConfig(workers=workers), threads=1)
    stack.callback(executor.close)
    return lambda items: executor.map("copy:copy", items, key="copies")


def dask_client(workers: int, stack: ExitStack) -> Side:
    options = {"processes": True, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, **options))
    client = stack.enter_context(Client(cluster, set_as_default=False))
    return lambda items: client.gather([client.submit(keep, item, pure=False) for item in items])


def keep(item: Any) -> Any:
    return item


SIDES: dict[str, Callable[[int, ExitStack], Side]] = {
    "local processes": local,
    "a bare ProcessPoolExecutor": pool,
    "scorefold-dask": dask_executor,
    "a bare Dask client": dask_client,
}


if __name__ == "__main__":
    main()
