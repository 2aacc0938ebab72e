"""An unexpected exception inside a stage, as an error that names the plugin and its line."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from scorefold.errors import PluginError
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.runfile.plan import PlannedStage


def plugin_error(
    plugins: Sequence[PluginRecord], planned: PlannedStage, error: BaseException, log: Path
) -> PluginError:
    """The error to show; ``log`` is the file that holds the whole traceback."""
    record, frame = _blame(plugins, planned, error)
    where = f" at {frame}" if frame else ""
    return PluginError(
        f"stage {planned.name!r} ({planned.registered.id}) failed in plugin {record.name!r} "
        f"({record.distribution} {record.version}){where}: {describe(error)}",
        hint=f"the whole traceback is in {log}",
    )


def _blame(
    plugins: Sequence[PluginRecord], planned: PlannedStage, error: BaseException
) -> tuple[PluginRecord, str | None]:
    """The plugin whose code is nearest to the failure, and the line; the component's own plugin where none is."""
    owners = {record.package: record for record in plugins}
    found: tuple[PluginRecord, str | None] = (planned.registered.record, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in owners:
            found = owners[package], f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return found
