"""The plugin whose configs are checked, on the path as if it were installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold_registry.host import Host

sys.path.insert(0, str(Path(__file__).parent / "toys"))

from checked_configs import CONFIG, PLUGIN


@pytest.fixture
def host(install: Callable[..., Path]) -> Host:
    install("fake-one", PLUGIN, files={"config.py": CONFIG})
    return Host.discover()
