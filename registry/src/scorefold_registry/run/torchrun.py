"""Whether torchrun started this process, known without importing torch."""

from __future__ import annotations

import os


def torchrun_processes() -> int:
    """How many processes torchrun started together, this one among them; 1 where it started none."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if "RANK" in os.environ and size.isdecimal() else 1
