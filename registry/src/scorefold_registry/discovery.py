"""Finding plugins: entry points first, lists before imports, and one broken plugin never harms another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pluggy

from scorefold import hookspecs
from scorefold.errors import PluginError, ScorefoldError
from scorefold.plugin import ENTRY_POINT_GROUP, PLUGIN_API, Claim, Component, Kind, check_target
from scorefold_registry.guard import watch_imports
from scorefold_registry.loading import describe, mend, own_frame
from scorefold_registry.names import did_you_mean, normalise
from scorefold_registry.records import Command, PluginRecord
from scorefold_registry.settings import (
    PluginList,
    Settings,
    environment_list,
    find_settings,
    plugin_list,
    read_settings,
)

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("scorefold_"))


@dataclass
class Discovery:
    """What was found: plugins in the order (distribution, name), pluggy's manager, and notes for a person.

    The manager calls hooks in that order too, but for ``tryfirst`` and ``trylast``.
    """

    plugins: list[PluginRecord]
    manager: pluggy.PluginManager
    settings: Settings = field(default_factory=Settings)
    notes: list[str] = field(default_factory=list)


def discover(
    *,
    allow: Sequence[str] | None = None,
    deny: Sequence[str] = (),
    toml: Path | None = None,
    import_plugins: bool = True,
    extra_plugins: Sequence[ModuleType] = (),
) -> Discovery:
    """Finds the installed plugins and registers those that may be used.

    ``allow`` and ``deny`` come before ``SCOREFOLD_PLUGINS``, which comes before the settings file: ``toml``, or the
    nearest ``scorefold.toml`` upward. The lists act before anything is imported. ``extra_plugins`` are modules to
    register without an installation, as if of a distribution ``local``; lists do not apply to them. Without
    ``import_plugins`` no plugin code runs. A plugin that fails is recorded, never raised.
    """
    settings = read_settings(Path(toml)) if toml is not None else find_settings()
    listed = _chosen_list(allow, deny, settings)
    records = sorted(_entry_points(), key=lambda record: (normalise(record.distribution), record.name))
    notes = _unknown_entries(listed, records)
    for record in records:
        if not _allowed(record, listed):
            record.fail("disabled", f"switched off by {listed.source}")
    manager = pluggy.PluginManager("scorefold")
    manager.add_hookspecs(hookspecs)
    if import_plugins:
        for module in extra_plugins:
            name = module.__name__.rpartition(".")[2].replace("_", "-")
            records.append(PluginRecord(name, "local", "0", module.__name__, module=module))
        _register_all([record for record in records if record.state == "found"], manager)
    return Discovery(records, manager, settings, notes)


def _entry_points() -> Iterator[PluginRecord]:
    """The plugins of all distributions on ``sys.path``; of one that is there twice, the first.

    Only a distribution whose entry points mention the group is parsed.
    """
    import importlib_metadata

    seen: set[str] = set()
    for distribution in importlib_metadata.distributions():
        if ENTRY_POINT_GROUP not in (distribution.read_text("entry_points.txt") or ""):
            continue
        try:
            name = distribution.metadata["Name"]
            if normalise(name) in seen:
                continue
            seen.add(normalise(name))
            # What an import takes is the first on the path, which may be one that declares no plugin.
            first = importlib_metadata.distribution(name)
            found = [
                # An entry point may name extras after its module, in brackets.
                PluginRecord(entry.name, name, first.version, entry.value.partition("[")[0].strip())
                for entry in first.entry_points.select(group=ENTRY_POINT_GROUP)
            ]
        except Exception as error:
            cause = f"the metadata of its distribution can't be read: {describe(error)}"
            found = [
                PluginRecord(entry.name, "unknown", "unknown", entry.value, state="broken", cause=cause)
                for entry in distribution.entry_points.select(group=ENTRY_POINT_GROUP)
            ]
        yield from found


def _chosen_list(allow: Sequence[str] | None, deny: Sequence[str], settings: Settings) -> PluginList:
    if allow is not None or deny:
        return PluginList(None if allow is None else tuple(allow), tuple(deny), "the command line or the caller")
    return environment_list() or plugin_list(settings.plugins, str(settings.file))


def _names_of(record: PluginRecord) -> set[str]:
    distribution = normalise(record.distribution)
    return {record.name, distribution, f"{distribution}/{record.name}"}


def _entry(text: str) -> str:
    """An entry of a list, with the distribution in it as packaging compares it."""
    distribution, slash, name = text.rpartition("/")
    return f"{normalise(distribution)}/{name}" if slash else text


def _matches(record: PluginRecord, entries: Iterable[str]) -> bool:
    names = _names_of(record)
    return any(_entry(entry) in names or normalise(entry) in names for entry in entries)


def _allowed(record: PluginRecord, listed: PluginList) -> bool:
    if _matches(record, listed.deny):
        return False
    return listed.allow is None or _matches(record, listed.allow)


def _unknown_entries(listed: PluginList, records: Sequence[PluginRecord]) -> list[str]:
    """Notes on entries of a list that name no installed plugin: most are spelling mistakes."""
    notes = []
    for entry in (*(listed.allow or ()), *listed.deny):
        if not any(_matches(record, [entry]) for record in records):
            names = [record.name for record in records]
            near = did_you_mean(entry, [*names, *(record.distribution for record in records)])
            near = near or f"installed: {', '.join(names) or 'none'}"
            notes.append(f"{listed.source} names {entry!r}, which no installed plugin is called; {near}")
    return notes


def _register_all(records: Sequence[PluginRecord], manager: pluggy.PluginManager) -> None:
    for record in records:
        with _recording_failure(record):
            _import(record)
            if _speaks_our_api(record) and (fault := _hook_fault(record, records)):
                record.fail("broken", fault)
    # pluggy calls the last registered first, so registering backwards makes it call in our order.
    for record in reversed(records):
        if record.state == "found":
            with _recording_failure(record):
                manager.register(record.module, name=record.key)
    for record in records:
        if record.state == "found":
            with _recording_failure(record):
                _ask(record)
                record.state = "registered"
            if record.state == "broken":
                manager.unregister(name=record.key)


@contextmanager
def _recording_failure(record: PluginRecord) -> Iterator[None]:
    """Runs a plugin's code. Whatever goes wrong ends in its record, and so do its heavy imports."""
    with watch_imports(record.package) as heavy:
        try:
            yield
        except KeyboardInterrupt:
            raise
        except ScorefoldError as error:
            record.fail("broken", error.message, own_frame(error, {record.package}), error.hint)
        except pluggy.PluginValidationError as error:
            record.fail("broken", " ".join(str(error).split()))
        except BaseException as error:
            # A plugin may raise anything at all while it is imported, SystemExit included.
            frame = own_frame(error, {record.package})
            record.fail("broken", describe(error), frame, mend(error, record))
    record.warnings += [str(report) for report in heavy]


def _import(record: PluginRecord) -> None:
    if record.module is None:
        module_name, colon, attribute = record.value.partition(":")
        module = import_module(module_name)
        record.module = getattr(module, attribute) if colon else module


def _speaks_our_api(record: PluginRecord) -> bool:
    """Whether the plugin was written for this contract: the same major version, and no later minor one."""
    stated = getattr(record.module, "__plugin_api__", None)
    if stated is None:
        line = f'add to {record.value}: __plugin_api__ = "{PLUGIN_API}"'
        record.fail("broken", f"{record.value} states no __plugin_api__", mend=line)
        return False
    parts = str(stated).split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        record.fail("broken", f'__plugin_api__ is {stated!r}; expected "major.minor", such as "{PLUGIN_API}"')
        return False
    (major, minor), (our_major, our_minor) = map(int, parts), map(int, PLUGIN_API.split("."))
    if major == our_major and minor <= our_minor:
        return True
    upgrade = "scorefold-core" if (major, minor) > (our_major, our_minor) else record.distribution
    cause = f"it was written for plugin API {stated}; this is {PLUGIN_API}"
    record.fail("incompatible", cause, mend=f"pip install --upgrade {upgrade}")
    return False


def _implementations(module: ModuleType | None) -> dict[str, list[Callable[..., Any]]]:
    """The functions marked as hook implementations, by the name of the hook."""
    found: dict[str, list[Callable[..., Any]]] = {}
    for name, value in vars(module).items():
        options = getattr(value, "scorefold_impl", None) if isinstance(value, FunctionType) else None
        if isinstance(options, dict):
            found.setdefault(options.get("specname") or name, []).append(value)
    return found


def _hook_fault(record: PluginRecord, records: Sequence[PluginRecord]) -> str | None:
    """What is wrong with a plugin's hooks, or None: an unknown name, one implemented twice, one without its mark."""
    twin = next(other for other in records if other.module is record.module)
    if twin is not record:
        return f"its module {record.value} is the {twin.label} already"
    for name, functions in _implementations(record.module).items():
        if name not in HOOKS:
            near = did_you_mean(name, HOOKS) or f"the hooks are {', '.join(HOOKS)}"
            return f"there is no hook {name!r}; {near}"
        if len(functions) > 1:
            return f"it implements {name} twice, as {' and '.join(function.__name__ for function in functions)}"
    for name, value in vars(record.module).items():
        if name.startswith("scorefold_") and isinstance(value, FunctionType) and not hasattr(value, "scorefold_impl"):
            return f"{name} is not marked as a hook; put @hookimpl of scorefold.plugin above it"
    return None


def _ask(record: PluginRecord) -> None:
    """Asks a plugin what it offers."""
    implementations = _implementations(record.module)
    record.components = _offers(implementations, "scorefold_components", Component)
    record.kinds = _offers(implementations, "scorefold_kinds", Kind)
    record.claims = _offers(implementations, "scorefold_claims", Claim)
    if "scorefold_settings" in implementations:
        record.settings = implementations["scorefold_settings"][0]()
        check_target("what scorefold_settings returned", record.settings)
    if "scorefold_commands" in implementations:

        def register(name: str, target: str, summary: str) -> None:
            if not (isinstance(target, str) and all(target.partition(":"))):
                raise PluginError(f"the target of command {name!r} is {target!r}; expected 'package.module:function'")
            record.commands.append(Command(name, target, summary))

        implementations["scorefold_commands"][0](register=register)


def _offers(implementations: dict[str, list[Callable[..., Any]]], hook: str, expected: type) -> list[Any]:
    """What a registration hook offers. Raises ``TypeError`` for anything but declarations of the expected type."""
    if hook not in implementations:
        return []
    offered = implementations[hook][0]()
    if isinstance(offered, (str, bytes, expected)) or not isinstance(offered, Iterable):
        raise TypeError(f"{hook} returned {offered!r}; expected an iterable of {expected.__name__}")
    items = list(offered)
    for item in items:
        if not isinstance(item, expected):
            raise TypeError(f"{hook} offers {item!r}; expected a {expected.__name__} of scorefold.plugin")
    return items
