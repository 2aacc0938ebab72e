"""A host of the toy plugin and of all its copies with a planted bug, in this process and in others."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from scorefold_registry import Host

FOLDER = "SCOREFOLD_PLANTED"


def make_host() -> Host:
    """The host of the copies that stand in the folder which the environment names; none of what is installed."""
    names = sorted(path.stem for path in Path(os.environ[FOLDER]).glob("toy_*.py"))
    return Host.discover(allow=["verbs"], extra_plugins=[import_module(name) for name in names])
