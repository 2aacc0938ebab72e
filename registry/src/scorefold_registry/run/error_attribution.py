"""An unexpected exception inside a stage, as an error that names what is at fault: the machine, or a plugin's line."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from pathlib import Path

from scorefold.errors import ArtefactError, PluginError, ScorefoldError
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.runfile.plan import PlannedStage

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_NO_MEMORY = ("can't allocate memory", "out of memory")


def stage_error(
    plugins: Sequence[PluginRecord],
    planned: PlannedStage,
    error: BaseException,
    log: Path,
    runners: Sequence[PluginRecord] = (),
) -> ScorefoldError:
    """The error to show for a stage; ``log`` is the file that holds the whole traceback, ``runners`` the plugins that
    implement ``scorefold_run_stage``."""
    if isinstance(error, OSError) and error.errno in _DISK:
        place = error.filename or "a file"
        return ArtefactError(
            f"stage {planned.name!r} can't read or write {place}: {error.strerror}",
            hint="check that the disk has room, and that the folder may be written; repeat the command to continue",
        )
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
    ):
        return ScorefoldError(
            f"stage {planned.name!r} ({planned.registered.id}) needs more memory than is available",
            hint="use fewer points (limit), smaller batches (training.batch_size, runtime.batch_size) or a smaller "
            f"network; the whole traceback is in {log}",
        )
    return _plugin_error(plugins, planned, error, log, runners)


def _plugin_error(
    plugins: Sequence[PluginRecord],
    planned: PlannedStage,
    error: BaseException,
    log: Path,
    runners: Sequence[PluginRecord],
) -> PluginError:
    own = planned.registered.record
    record, frame, called = _blame(plugins, own, error)
    if frame is None and (wrapper := _broken_wrapper(runners, error)):
        record = wrapper
    where = (f" at {frame}" if frame else "") + (f", called at {called}" if called else "")
    # Whoever was nearest may have got something that nobody could use.
    whose = "" if record is own or record in runners else f" of plugin {own.name!r}"
    return PluginError(
        f"stage {planned.name!r} ({planned.registered.id}{whose}) failed in plugin {record.name!r} "
        f"({record.distribution} {record.version}){where}: {describe(error)}",
        hint=f"the whole traceback is in {log}",
    )


def _broken_wrapper(runners: Sequence[PluginRecord], error: BaseException) -> PluginRecord | None:
    """The plugin whose wrapper of a stage breaks the rules of wrappers, such as by a second yield: pluggy names its
    file in the error."""
    frames = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or not frames[-1].startswith("pluggy"):
        return None
    return next((record for record in runners if record.file is not None and record.file in str(error)), None)


def _blame(
    plugins: Sequence[PluginRecord], own: PluginRecord, error: BaseException
) -> tuple[PluginRecord, str | None, str | None]:
    """The plugin whose code is nearest to the failure, with the line, and the line of ``own``, the component's plugin,
    that called it; ``own`` where no plugin's code is near."""
    owners = {record.package: record for record in plugins if record.state not in ("broken", "disabled")}
    found: tuple[PluginRecord, str | None] = (own, None)
    called = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in owners:
            found = owners[package], f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
            called = found[1] if found[0] is own else called
    return *found, None if found[0] is own else called
