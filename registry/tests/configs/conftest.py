"""The plugin whose configs are checked, on the path as if it were installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from checked_configs import CONFIG, PLUGIN

from scorefold_registry.host import Host


@pytest.fixture(scope="module")
def host(install_once: Callable[..., Path]) -> Host:
    install_once("fake-one", PLUGIN, files={"config.py": CONFIG})
    return Host.discover()
