"""Problems of the installed plugins, and the command or line that fixes each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import importlib_metadata

from scorefold.errors import PluginError
from scorefold.plugin import ENTRY_POINT_GROUP
from scorefold_registry.cli.heavy_imports import HeavyImport, heavy_imports
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.plugins.discovery import Discovery
from scorefold_registry.plugins.environments import sandbox
from scorefold_registry.plugins.environments.store import python_of
from scorefold_registry.plugins.hooks import implementations
from scorefold_registry.plugins.loading import Unmet, contradicting, entry_point_fix, unmet
from scorefold_registry.plugins.names import KnownPlugin, near_misses, not_installed
from scorefold_registry.plugins.records import PluginRecord, Registered

GROUPS = (ENTRY_POINT_GROUP, "scorefold.functions", "scorefold.templates")
"""The groups of entry points that Scorefold reads."""


@dataclass(frozen=True)
class PluginFinding:
    """One thing about a plugin. ``fault`` is False for what somebody has chosen: a plugin denied, a name given away.

    ``what`` says it, ``at`` the line of the plugin's own code, ``fix`` the command or the line that fixes it.
    """

    what: str
    fix: str
    at: str | None = None
    fault: bool = True

    def as_json(self) -> dict[str, Any]:
        return {"fault": self.fault, "what": self.what, "at": self.at, "fix": self.fix}


@dataclass(frozen=True)
class Examination:
    """All plugins with what was found about each, ``notes`` on lists that name no plugin, and what is not installed."""

    plugins: tuple[tuple[PluginRecord, tuple[PluginFinding, ...]], ...]
    notes: tuple[str, ...] = ()
    absent: tuple[KnownPlugin, ...] = ()

    @property
    def faults(self) -> int:
        """Number of faults to fix."""
        found = [finding for _, findings in self.plugins for finding in findings if finding.fault]
        return len(found) + len(self.notes)

    @property
    def well(self) -> bool:
        return self.faults == 0

    def as_json(self) -> dict[str, Any]:
        """Output of ``plugins doctor --json``."""
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
            "not_installed": [
                {
                    "name": plugin.name,
                    "distribution": plugin.distribution,
                    "summary": plugin.summary,
                    "offers": list(plugin.offers),
                    "install": plugin.install,
                }
                for plugin in self.absent
            ],
        }


def examine(discovery: Discovery, catalogue: Catalogue, *, load: bool = False) -> Examination:
    """Findings of discovery and the catalogue for each plugin; with ``load``, after importing all its code."""
    if load:
        _load_all(discovery, catalogue)
    version_of = cache(importlib_metadata.version)  # most plugins require the same few distributions
    heavy = heavy_imports(discovery.plugins)
    plugins = tuple(
        (record, (*_heavy(record, heavy), *_findings(record, discovery, catalogue, version_of)))
        for record in discovery.plugins
    )
    found = {f"{record.label}: {text}" for record in discovery.plugins for text in record.warnings}
    notes = [note for note in discovery.notes if note not in found]
    notes += [*_misspelt_groups(), *catalogue.unused_preferences()]
    return Examination(plugins, tuple(notes), not_installed(discovery.plugins))


def _misspelt_groups() -> Iterator[str]:
    """Installed distributions whose entry points stand in a group that is nearly ours, and no other package's."""
    for distribution in importlib_metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            groups = distribution.entry_points.groups if "scorefold" in text else set()
        except Exception:  # metadata that can't be read are reported where they are a plugin's
            continue
        for group in sorted(groups - set(GROUPS)):
            head = group.partition(".")[0]
            if head == "scorefold" or (head.startswith("scorefold") and not _is_module(head)):
                near = near_misses(group, GROUPS, count=1) or [ENTRY_POINT_GROUP]
                name = distribution.metadata["Name"]
                yield f"{name} has entry points in the group {group!r}; did you mean {near[0]!r}?"


def _is_module(name: str) -> bool:
    return name.isidentifier() and find_spec(name) is not None


def _load_all(discovery: Discovery, catalogue: Catalogue) -> None:
    """Import everything that plugins name as ``module:Name``. What fails becomes a warning of its plugin."""
    from scorefold_registry.components.parts import config_model
    from scorefold_registry.plugins.loading import load_named
    from scorefold_registry.runfile.plugin_settings import settings_model

    for item in (item for item in catalogue.components if item.record.environment is None):
        _attempt(item.record, config_model, item)
        _attempt(item.record, _load, item)
        if item.component.figures:
            _attempt(item.record, load_named, item.record, f"the figures of {item.id}", item.component.figures)
    for record in discovery.plugins:
        named = [(f"the claim {claim.name!r}", claim.target) for claim in record.claims]
        named += [(f"the command {command.name!r}", command.target) for command in record.commands]
        for what, target in named:
            _attempt(record, load_named, record, what, target)
        if record.settings is not None:
            _attempt(record, settings_model, record)
        named = [(f"the kind {kind.name!r}", kind.interface) for kind in record.kinds]
        named += [(f"the capability {ability.name!r}", ability.interface) for ability in record.capabilities]
        whose = [(kind.name, verb) for kind in record.kinds for verb in kind.verbs]
        for kinds, verb in [*whose, *((", ".join(verb.kinds), verb) for verb in record.verbs)]:
            targets = filter(None, (verb.target, verb.options, verb.figures))
            named += [(f"the verb {verb.name!r} of {kinds!r}", target) for target in targets]
        for what, target in named:
            _attempt(record, load_named, record, what, target)


def _attempt(record: PluginRecord, load: Callable[..., object], *given: object) -> None:
    try:
        load(*given)
    except PluginError as error:
        record.warn(str(error))


def _load(item: Registered) -> None:
    from scorefold_registry.plugins.loading import load_target

    load_target(item, item.component.target)
    item.mark_loaded()


def _heavy(record: PluginRecord, heavy: Iterable[HeavyImport]) -> Iterator[PluginFinding]:
    """The heavy imports of a plugin's package."""
    for each in heavy:
        if each.package == record.package and record.state not in ("broken", "disabled"):
            # One file that holds a whole plugin imports what it needs; nothing is to be fixed while it is developed.
            yield PluginFinding(each.what, each.fix, each.at, fault=not (record.local or each.failure))


def _findings(
    record: PluginRecord, discovery: Discovery, catalogue: Catalogue, version_of: Callable[[str], str]
) -> Iterator[PluginFinding]:
    if record.state == "disabled":
        yield PluginFinding(str(record.cause), str(record.fix), fault=False)
    elif record.state in ("broken", "incompatible") or (record.state == "ambiguous" and not record.components):
        # A kind that two declare leaves a plugin without components; its cause says which line settles it.
        yield PluginFinding(str(record.cause), record.fix or record.remedy, record.frame)
    for item in catalogue.components:
        if item.record is record:
            yield from _names(item, catalogue)
    for warning in record.warnings:
        yield _of_warning(warning, record)
    if record.environment is not None:
        yield from _environment(record)
    elif record.state != "disabled":
        for missing in unmet(record.distribution, record.requires, version_of):
            yield _unmet(record, missing, discovery.plugins)
    if isinstance(record.module, ModuleType) and record.state == "registered" and not implementations(record.module):
        what = f"it offers no component: its entry point names {record.value}, which has no hooks"
        yield PluginFinding(f"{what}; expected the module with functions marked @hookimpl", entry_point_fix(record))
    yield from _models(record)
    yield from _commands(record, discovery.plugins)
    yield from _namesakes(record, discovery.plugins)


def _unmet(record: PluginRecord, missing: Unmet, plugins: Iterable[PluginRecord]) -> PluginFinding:
    """A requirement that is not met; where another plugin needs what contradicts it, an environment is the fix."""
    rivals = [other for other in plugins if other is not record and contradicting(missing.wanted, other.requires)]
    if not rivals:
        return PluginFinding(missing.what, missing.fix)
    first = rivals[0]
    others = " and others" if rivals[1:] else ""
    who = f"{first.distribution} ({contradicting(missing.wanted, first.requires)}){others}"
    what = f"{missing.what}; both can't be met here, since another version is needed by {who}"
    return PluginFinding(what, f"isolate it: scorefold plugins add {record.distribution} --isolated")


def _environment(record: PluginRecord) -> Iterator[PluginFinding]:
    """Findings for an environment of a plugin's own."""
    environment, here = record.environment, importlib_metadata.version("torch")
    spec = environment.spec
    if spec.sandbox is not None and (why := sandbox.sandbox_refusal()) is not None:
        fix = f"install bubblewrap and allow user namespaces, or remove sandbox from [environments.{spec.name}]"
        yield PluginFinding(f"its sandbox can't be had: {why}", fix)
    if not environment.description:
        return  # its cause says so
    python = python_of(spec)
    if not python.is_file():
        yield PluginFinding(f"its interpreter {python} is gone", spec.install)
    theirs = environment.description["torch"]
    if theirs != here:
        what = f"it computes with torch {theirs} and this environment with {here}, so results may differ in last bits"
        yield PluginFinding(what, f'torch = "host" in [environments.{spec.name}] takes this one', fault=False)


def _of_warning(warning: str, record: PluginRecord) -> PluginFinding:
    """A warning taken apart: the second line of an error is a hint that may begin with a place."""
    what, _, hint = warning.partition("\n  ")
    at = None
    if hint.startswith("at "):
        at, _, hint = hint.removeprefix("at ").partition("; ")
    return PluginFinding(what, hint or record.remedy, at)


def _namesakes(record: PluginRecord, plugins: Iterable[PluginRecord]) -> Iterator[PluginFinding]:
    """Plugins of other distributions with the same name: both are used, so nobody has to fix it."""
    others = [other for other in plugins if other.name == record.name and other.distribution != record.distribution]
    if others and record.state != "disabled":
        who = " and ".join(f"{other.distribution} {other.version}" for other in others)
        what = f"{who} has a plugin {record.name!r} too, so lists that say only that mean both"
        yield PluginFinding(what, f"write {record.key} in lists to mean this one", fault=False)


def _models(record: PluginRecord) -> Iterator[PluginFinding]:
    """Models of a plugin that are not whole."""
    if record.models:
        from scorefold_registry.runfile.loaded_stages import shipped_models

        faults = [shipped.facts().get("fault") for shipped in shipped_models([record])]
        yield from (PluginFinding(fault, record.remedy) for fault in faults if fault)


def _commands(record: PluginRecord, plugins: Iterable[PluginRecord]) -> Iterator[PluginFinding]:
    """Commands of a plugin that can't be given, because they are ours or another's too."""
    from scorefold_registry.cli.main import COMMANDS

    for command in record.commands:
        others = [other for other in plugins if other is not record and _has_command(other, command.name)]
        if command.name in COMMANDS:
            what = f"its command {command.name!r} is one of ours, which stays"
            yield PluginFinding(what, f"another name for it: {record.remedy}")
        elif others:
            who = " and ".join(other.distribution for other in others)
            what = f"its command {command.name!r} is one of {who} too, so neither can be given"
            yield PluginFinding(what, f"deny one of them: --plugins=-{record.name}")


def _has_command(record: PluginRecord, name: str) -> bool:
    return any(command.name == name for command in record.commands)


def _names(item: Registered, catalogue: Catalogue) -> Iterator[PluginFinding]:
    """The names of a component, aliases too, that others claim as well."""
    for name in (item.component.name, *item.component.aliases):
        key = f"{item.component.kind}:{name}"
        if len(catalogue.claimants(key)) < 2:
            continue
        try:
            winner = catalogue.resolve(key)
        except PluginError as error:
            yield PluginFinding(error.message, str(error.hint))
        else:
            if winner is not item:
                what = f"{key} went to {winner.distribution}, as was agreed or preferred"
                yield PluginFinding(what, f"write {item.qualified} to use this one", fault=False)


def doctor_report(found: Examination) -> str:
    """The findings as text, the plugins in their order."""
    lines: list[str] = []
    for record, findings in found.plugins:
        well = not any(finding.fault for finding in findings)
        mark = "well" if well else "fix "
        lines.append(f"{mark}  {record.name}  {record.distribution} {record.version}  {record.state}")
        for finding in findings:
            lines.append(f"  {finding.what}")
            if finding.at:
                lines.append(f"    at {finding.at}")
            lines.append(f"    {finding.fix}")
    lines += [f"fix   {note}" for note in found.notes]
    for plugin in found.absent:
        offers = f"; it offers {', '.join(plugin.offers)}" if plugin.offers else ""
        lines.append(f"none  {plugin.name}  {plugin.distribution}  not installed")
        lines += [f"  {plugin.summary}{offers}", f"    {plugin.install}"]
    count = len(found.plugins)
    plugins = f"{count} plugin{'' if count == 1 else 's'}"
    things = f"{found.faults} thing{'' if found.faults == 1 else 's'} to fix"
    lines.append(f"{plugins}: {'all is well' if found.well else things}")
    return "\n".join(lines)
