"""Which plugins may be used: lists that allow and deny, applied before anything is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scorefold_registry.plugins.known import not_installed
from scorefold_registry.plugins.names import did_you_mean, normalise
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.plugins.settings import PluginList, Settings, environment_list, plugin_list

CALLER = "the caller of discover"


def chosen_list(allow: Sequence[str] | None, deny: Sequence[str], settings: Settings) -> PluginList:
    """The one list that counts: the caller's, before the command line's or the environment's, before the file's."""
    if allow is not None or deny:
        return PluginList(None if allow is None else tuple(allow), tuple(deny), CALLER)
    return environment_list() or plugin_list(settings.plugins, str(settings.file))


def apply_list(listed: PluginList, records: Sequence[PluginRecord]) -> list[str]:
    """Switches off the plugins that a list leaves out; notes on entries of it that name no plugin."""
    for record in records:
        cause = f"switched off by {listed.source}"
        if denied := [entry for entry in listed.deny if _matches(record, entry)]:
            record.fail("disabled", cause, fix=f"to use it again, take -{denied[0]} out of {listed.source}")
        elif listed.allow is not None and not any(_matches(record, entry) for entry in listed.allow):
            record.fail("disabled", cause, fix=f"to use it again, add {record.name} to {listed.source}")
    return _unknown_entries(listed, records)


def _names_of(record: PluginRecord) -> set[str]:
    distribution = normalise(record.distribution)
    return {record.name, distribution, f"{distribution}/{record.name}"}


def _entry(text: str) -> str:
    """An entry of a list, with the distribution in it as packaging compares it."""
    distribution, slash, name = text.rpartition("/")
    return f"{normalise(distribution)}/{name}" if slash else text


def _matches(record: PluginRecord, entry: str) -> bool:
    names = _names_of(record)
    return _entry(entry) in names or normalise(entry) in names


def _unknown_entries(listed: PluginList, records: Sequence[PluginRecord]) -> list[str]:
    """Notes on entries of a list that name no installed plugin: most are spelling mistakes."""
    known = {name: plugin for plugin in not_installed(records) for name in (plugin.name, plugin.distribution)}
    notes = []
    for entry in (*(listed.allow or ()), *listed.deny):
        if not any(_matches(record, entry) for record in records):
            names = [record.name for record in records]
            near = known[entry].install if entry in known else _near(entry, records)
            near = near or f"installed: {', '.join(names) or 'none'}"
            notes.append(f"{listed.source} names {entry!r}, which no installed plugin is called; {near}")
    return notes


def _near(entry: str, records: Iterable[PluginRecord]) -> str:
    return did_you_mean(entry, [name for record in records for name in (record.name, record.distribution)])
