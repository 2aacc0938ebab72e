"""This process to the system: its CPU seconds, its memory, and how many torchrun started with it. No torch here."""

from __future__ import annotations

import math
import os
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from scorefold_registry.plugins.environments import running

SPINS = "1000"
"""Number of times that a thread of torch looks for work before it sleeps. Without a limit threads take other programs'
time and wait for one another: with two threads on two crowded cores a small convolution took 26 times the CPU time of
one thread. With 1,000 it took 4 times, and with none 4 times too, but then threads fall asleep on a quiet machine.
"""


def settle_threads(
    variables: MutableMapping[str, str] = os.environ, groups: Path = Path("/sys/fs/cgroup"), cores: int | None = None
) -> None:
    """Say how many threads torch has, and how they wait, unless the user says so.

    It holds for a torch that is imported later. torch takes a thread for each core of ``cores`` that the process may
    use. A container may get less time than these have, which its control ``groups`` say.

    >>> variables = {}
    >>> settle_threads(variables, Path("nowhere"), cores=2)
    >>> variables
    {'GOMP_SPINCOUNT': '1000'}
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & variables.keys():
        variables["GOMP_SPINCOUNT"] = SPINS
    cores = cores or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    share = _share_of_cores(groups)
    if share is not None and share < cores:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, math.floor(share))))


def _share_of_cores(groups: Path) -> float | None:
    """Number of cores that the control groups give to a container; None without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):
            quota, period = " ".join((groups / file).read_text() for file in files).split()
            # "max" and -1 are no limit.
            return int(quota) / int(period) if int(quota) > 0 else None
    return None


def cpu_seconds() -> float:
    """CPU seconds of this process, of those it has waited for, and of workers of environments."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system + sum(list(running.values()))


def restart_peak() -> None:
    """Have ``peak_memory`` count from now on. Linux does; elsewhere it counts from the start of the process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float | None:
    """The most memory of this process since ``restart_peak``, in MB (10^6 bytes); None where the system doesn't say."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((1.024e-3 * float(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    return None


def torchrun_processes() -> int:
    """Number of processes that torchrun started together, with this one; 1 without torchrun."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if "RANK" in os.environ and size.isdecimal() else 1
