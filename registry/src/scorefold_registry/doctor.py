"""What is wrong with the installed plugins, and the command or the line that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scorefold.errors import PluginError
from scorefold_registry.catalogue import Catalogue
from scorefold_registry.discovery import Discovery
from scorefold_registry.records import PluginRecord, Registered


@dataclass(frozen=True)
class Finding:
    """One thing about a plugin. ``fault`` is False for what somebody has chosen: a plugin denied, a name given away.

    ``what`` says it, ``at`` the line of the plugin's own code, ``mend`` the command or the line that mends it.
    """

    what: str
    mend: str
    at: str | None = None
    fault: bool = True

    def as_json(self) -> dict[str, Any]:
        return {"fault": self.fault, "what": self.what, "at": self.at, "mend": self.mend}


@dataclass(frozen=True)
class Examination:
    """All plugins with what was found about each, and ``notes`` on lists that name no plugin."""

    plugins: tuple[tuple[PluginRecord, tuple[Finding, ...]], ...]
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> int:
        """How many things are to be mended."""
        found = [finding for _, findings in self.plugins for finding in findings if finding.fault]
        return len(found) + len(self.notes)

    @property
    def well(self) -> bool:
        return self.faults == 0

    def as_json(self) -> dict[str, Any]:
        """What ``plugins doctor --json`` prints."""
        return {
            "well": self.well,
            "plugins": [
                {
                    "name": record.name,
                    "distribution": record.distribution,
                    "version": record.version,
                    "state": record.state,
                    "findings": [finding.as_json() for finding in findings],
                }
                for record, findings in self.plugins
            ],
            "notes": list(self.notes),
        }


def examine(discovery: Discovery, catalogue: Catalogue, *, load: bool = False) -> Examination:
    """What discovery and the catalogue have recorded of each plugin; with ``load``, after importing all its code."""
    if load:
        for item in catalogue.components:
            _load(item)
    plugins = tuple((record, tuple(_findings(record, catalogue))) for record in discovery.plugins)
    return Examination(plugins, tuple(discovery.notes))


def _load(item: Registered) -> None:
    from scorefold_registry.configs import config_model
    from scorefold_registry.loading import load_target

    try:
        config_model(item)
        load_target(item, item.component.target)
    except PluginError as error:
        item.record.warn(str(error))


def _findings(record: PluginRecord, catalogue: Catalogue) -> Iterator[Finding]:
    if record.state == "disabled":
        again = "to use it again, take it out of the list"
        yield Finding(str(record.cause), record.mend or again, fault=False)
    elif record.state in ("broken", "incompatible") or (record.state == "ambiguous" and not record.components):
        # A kind that two declare leaves a plugin without components; its cause says which line settles it.
        yield Finding(str(record.cause), record.mend or _without(record), record.frame)
    for item in catalogue.components:
        if item.record is record:
            yield from _names(item, catalogue)
    for warning in record.warnings:
        yield _of_warning(warning, record)


def _of_warning(warning: str, record: PluginRecord) -> Finding:
    """A warning taken apart: an error is two lines, the second a hint that may begin with a place; others are one."""
    what, _, hint = warning.partition("\n  ")
    if not hint:
        what, _, hint = warning.partition("; ")
    at = None
    if hint.startswith("at "):
        at, _, hint = hint.removeprefix("at ").partition("; ")
    return Finding(what, hint or _without(record), at)


def _without(record: PluginRecord) -> str:
    """What always helps: another version, or doing without."""
    if record.distribution == "unknown":
        return f"pip install --force-reinstall the distribution of {record.value}"
    return f"pip install --upgrade {record.distribution}, or switch it off: SCOREFOLD_PLUGINS=-{record.name}"


def _names(item: Registered, catalogue: Catalogue) -> Iterator[Finding]:
    """The names of a component, aliases too, that others claim as well."""
    for name in (item.component.name, *item.component.aliases):
        key = f"{item.component.kind}:{name}"
        if len(catalogue.claimants(key)) < 2:
            continue
        try:
            winner = catalogue.resolve(key)
        except PluginError as error:
            yield Finding(error.message, str(error.hint))
        else:
            if winner is not item:
                what = f"{key} went to {winner.distribution}, as was agreed or preferred"
                yield Finding(what, f"write {item.qualified} to use this one", fault=False)


def report(found: Examination) -> str:
    """The findings in words, the plugins in their order."""
    lines: list[str] = []
    for record, findings in found.plugins:
        well = not any(finding.fault for finding in findings)
        mark = "well" if well else "mend"
        lines.append(f"{mark}  {record.name}  {record.distribution} {record.version}  {record.state}")
        for finding in findings:
            lines.append(f"  {finding.what}")
            if finding.at:
                lines.append(f"    at {finding.at}")
            lines.append(f"    {finding.mend}")
    lines += [f"mend  {note}" for note in found.notes]
    count = len(found.plugins)
    plugins = f"{count} plugin{'' if count == 1 else 's'}"
    things = f"{found.faults} thing{'' if found.faults == 1 else 's'} to mend"
    lines.append(f"{plugins}: {'all is well' if found.well else things}")
    return "\n".join(lines)
