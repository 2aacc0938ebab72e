"""This process to the system: its CPU seconds, its memory, and how many torchrun started with it. No torch here."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def cpu_seconds() -> float:
    """CPU seconds of this process and of those it has waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


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
    """How many processes torchrun started together, this one among them; 1 where it started none."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if "RANK" in os.environ and size.isdecimal() else 1
