"""Trainings that take no step, so that what is claimed of a trained model can be seen to fail."""

from __future__ import annotations

import os
from pathlib import Path

from scorefold.config import UNTRAINED


def untrained(what: str) -> bool:
    """Whether trainings take no step, as under ``scorefold reproduce --null``; then a line says that one was due."""
    log = os.environ.get(UNTRAINED)
    if log is None:
        return False
    with Path(log).open("a") as file:
        file.write(f"{what}\n")
    return True
