"""What discovery found."""

from __future__ import annotations

from scorefold_registry.plugins.discovery import Discovery
from scorefold_registry.plugins.records import PluginRecord


def record(found: Discovery, distribution: str) -> PluginRecord:
    return next(item for item in found.plugins if item.distribution == distribution)


def assert_unharmed(found: Discovery) -> None:
    unharmed = record(found, "fake-healthy")
    assert unharmed.state == "registered"
    assert [item.id for item in unharmed.components] == ["score:healthy"]
    assert found.manager.has_plugin("fake-healthy/healthy")
