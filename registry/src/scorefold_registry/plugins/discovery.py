"""Finding plugins: entry points first, lists before imports, and one broken plugin never harms another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from scorefold import hookspecs
from scorefold.errors import PluginError, ScorefoldError
from scorefold.plugin import ENTRY_POINT_GROUP, PLUGIN_API, Claim
from scorefold_registry.plugins.hooks import HookError, ask, ask_claims, check_hooks
from scorefold_registry.plugins.loading import (
    brings,
    describe,
    entry_point_fix,
    import_fix,
    own_frame,
    raised_by,
    unmet_contract,
    versions_of_ours,
)
from scorefold_registry.plugins.names import did_you_mean, normalise, sentences, with_article
from scorefold_registry.plugins.process_guard import isolated, time_limit
from scorefold_registry.plugins.records import LOCAL, PluginRecord, direct_url
from scorefold_registry.plugins.settings import (
    Settings,
    apply_list,
    chosen_list,
    find_settings,
    read_settings,
    settings_notes,
)

VARIABLE = "SCOREFOLD_DEV_PLUGINS"


@dataclass(frozen=True)
class _Entry:
    """One plugin as somebody named it: relative to ``folder``, by ``source``, at the place ``at`` of a file."""

    text: str
    folder: Path
    source: str
    at: str | None = None


def development_plugins(settings: Settings) -> list[PluginRecord]:
    """The plugins that ``SCOREFOLD_DEV_PLUGINS`` names, then the plugins of the settings file, each once, in order.

    The folder that such a plugin's modules are imported from goes to the end of ``sys.path``, which processes that
    multiprocessing starts inherit. Nothing is imported here; one that is not there is recorded as broken.
    """
    records: dict[tuple[str, str | None], PluginRecord] = {}
    for entry in (*_of_variable(), *_of_settings(settings)):
        record = _record(entry)
        # Two files of one name are two plugins, of which the second is broken, with the reason.
        records.setdefault((record.value, record.cause), record)
    return list(records.values())


def plugin_name(module: str) -> str:
    """Name of a plugin without an entry point: its module, or its package if the module is called ``plugin``.

    >>> plugin_name("my_plugin"), plugin_name("my_package.plugin")
    ('my-plugin', 'my-package')
    """
    package, _, last = module.rpartition(".")
    return (package.rpartition(".")[2] if package and last == "plugin" else last).replace("_", "-")


def _of_variable() -> Iterator[_Entry]:
    for text in os.environ.get(VARIABLE, "").split(","):
        if text.strip():
            yield _Entry(text.strip(), Path.cwd(), VARIABLE)


def _of_settings(settings: Settings) -> Iterator[_Entry]:
    if settings.file is None or not settings.develop:
        return
    lines = settings.file.read_text(encoding="utf-8").splitlines()
    for text in settings.develop:
        named = (number for number, line in enumerate(lines, start=1) if f'"{text}"' in line or f"'{text}'" in line)
        line = next(named, 1)
        yield _Entry(text, settings.file.parent, str(settings.file), f"{settings.file}:{line}")


def _record(entry: _Entry) -> PluginRecord:
    if entry.text.endswith(".py") or "/" in entry.text or os.sep in entry.text:
        path = Path(os.path.abspath(entry.folder / Path(entry.text).expanduser()))
        root, module = _module_of(path)
        missing = None if path.is_file() else f"there is no file {path}"
    else:
        path, root, module = None, entry.folder, entry.text
        missing = None
    record = PluginRecord(plugin_name(module), LOCAL, "0", module)
    if missing is None and not all(part.isidentifier() for part in module.split(".")):
        missing = f"{module!r} can't be the name of a module"
    if missing is not None:
        fix = f"name a Python file that is there, or a module as package.module, in {entry.source}"
        record.fail("broken", missing, entry.at, fix)
        return record
    if str(root) not in sys.path:
        # Last, so that nothing in the folder hides what is installed.
        sys.path.append(str(root))
    if path is not None and (other := _hidden_by(root, record.package)) is not None:
        record.fail("broken", f"{path} can't be imported: {record.package} is {other} already", entry.at, "rename it")
    return record


def _module_of(path: Path) -> tuple[Path, str]:
    """The folder that a file is imported from and its module's name: the packages around it belong to that."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _hidden_by(root: Path, package: str) -> str | None:
    """Place where Python finds another package of this name; None if it finds the right one."""
    if package in sys.builtin_module_names:
        return "a module of Python itself"
    if package in sys.modules:
        spec = sys.modules[package].__spec__
    elif (spec := find_spec(package)) is None:
        # Python remembers the files of a folder for a while, and the file may be new.
        invalidate_caches()
        spec = find_spec(package)
    origin = None if spec is None else spec.origin
    if origin in (str(root / f"{package}.py"), str(root / package / "__init__.py")):
        return None
    return origin or "another module"


SLOW = 2.0
"""The seconds from which a plugin's import is reported."""

LONGEST = 60.0
"""The seconds after which a plugin's import, or what it does when it is asked for its offers, is ended."""

_SLOW_TEXT = "which delays every command"


@dataclass
class Discovery:
    """Discovered plugins in the order (distribution, name), pluggy's manager, and notes for a person.

    Those under development follow in the order in which they are named. The manager calls hooks in that order too, but
    for ``tryfirst`` and ``trylast``.
    """

    plugins: list[PluginRecord]
    manager: pluggy.PluginManager
    settings: Settings = field(default_factory=Settings)
    notes: list[str] = field(default_factory=list)

    def ask_claims(self) -> None:
        """Asks every plugin for its claims, so that one whose claims are broken is so in its record."""
        for record in self.plugins:
            record.claims  # noqa: B018


def discover(
    *,
    allow: Sequence[str] | None = None,
    deny: Sequence[str] = (),
    toml: Path | None = None,
    import_plugins: bool = True,
    extra_plugins: Sequence[ModuleType] = (),
) -> Discovery:
    """Finds the installed plugins and registers those that may be used.

    After the installed ones come those under development (see ``scorefold_registry.plugins.discovery``) and
    ``extra_plugins``, modules to register as they are; both are of a distribution ``local``, and the lists do not apply
    to ``extra_plugins``.

    ``allow`` and ``deny`` come before ``SCOREFOLD_PLUGINS``, which comes before the settings file: ``toml``, or the
    nearest ``scorefold.toml`` upward. The lists act before anything is imported, and so does the check of what a
    plugin requires of our core and toolkit. Without ``import_plugins`` no plugin code runs. A plugin that fails is
    recorded, never raised.
    """
    settings = read_settings(Path(toml)) if toml is not None else find_settings()
    records = sorted(_entry_points(), key=lambda record: (normalise(record.distribution), record.name))
    records += development_plugins(settings)
    if "environments" in settings.data:
        from scorefold_registry.plugins.environments.environment import isolated_records

        records += isolated_records(settings, refresh=import_plugins)
    notes = settings_notes(settings) + apply_list(chosen_list(allow, deny, settings), records)
    ours = versions_of_ours()
    for record in records:
        if record.state == "found" and (fault := unmet_contract(record.distribution, record.requires, ours)):
            record.fail("incompatible", fault.what, fix=fault.fix)
    _refuse_foreign(records)
    manager = pluggy.PluginManager("scorefold")
    manager.add_hookspecs(hookspecs)
    if import_plugins:
        for module in extra_plugins:
            name = plugin_name(module.__name__)
            records.append(PluginRecord(name, LOCAL, "0", module.__name__, module=module))
        _register_all([r for r in records if r.state == "found" and r.environment is None], manager)
        notes += [f"{record.label}: {text}" for record in records for text in record.warnings if _SLOW_TEXT in text]
    for record in records:
        if record.environment is not None and record.state == "found":
            record.state = "registered"
    return Discovery(records, manager, settings, notes)


def _entry_points() -> Iterator[PluginRecord]:
    """The plugins of all distributions on ``sys.path``; of one that is there twice, the first.

    Only a distribution whose entry points mention the group is parsed.
    """
    import importlib_metadata

    seen: set[str] = set()
    for distribution in importlib_metadata.distributions():
        try:
            if ENTRY_POINT_GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
        except ValueError:  # not text: another distribution's fault, and no plugin of ours is named there
            continue
        try:
            metadata = distribution.metadata
            name = metadata["Name"]
            if normalise(name) in seen:
                continue
            seen.add(normalise(name))
            first = distribution
            if len(list(importlib_metadata.distributions(name=name))) > 1:
                # What an import takes is the first on the path, which may be one that declares no plugin.
                first = importlib_metadata.distribution(name)
                metadata = first.metadata
            version, requires = metadata["Version"], tuple(metadata.get_all("Requires-Dist") or first.requires or ())
            found = [
                # An entry point may name extras after its module, in brackets.
                PluginRecord(entry.name, name, version, entry.value.partition("[")[0].strip(), requires=requires)
                for entry in first.entry_points.select(group=ENTRY_POINT_GROUP)
            ]
        except Exception as error:
            found = _unreadable(distribution, f"the metadata of its distribution can't be read: {describe(error)}")
        yield from found


def _unreadable(distribution: Any, cause: str) -> list[PluginRecord]:
    """The plugins of a distribution whose metadata are not whole, as far as they can be named.

    What importlib-metadata yields has another type from its version 10 on, hence ``Any``.
    """
    try:
        named = [(entry.name, entry.value) for entry in distribution.entry_points.select(group=ENTRY_POINT_GROUP)]
    except Exception:
        place = str(getattr(distribution, "_path", "a distribution"))
        named = [(Path(place).stem.partition("-")[0], place)]
    return [PluginRecord(name, "unknown", "unknown", value, state="broken", cause=cause) for name, value in named]


def _register_all(records: Sequence[PluginRecord], manager: pluggy.PluginManager) -> None:
    for record in records:
        with _recording_failure(record):
            _import(record)
            if _speaks_our_api(record) and _is_no_twin(record, records):
                check_hooks(record.module)
    # pluggy calls the last registered first, so registering backwards makes it call in our order.
    for record in reversed(records):
        if record.state == "found":
            with _recording_failure(record):
                manager.register(record.module, name=record.key)
    for record in records:
        if record.state == "found":
            with _recording_failure(record):
                ask(record)
                record.ask_claims = partial(_claims, record, manager)
                record.state = "registered"
            if record.state == "broken":
                manager.unregister(name=record.key)


def _claims(record: PluginRecord, manager: pluggy.PluginManager) -> list[Claim]:
    found: list[Claim] = []
    with _recording_failure(record):
        found = ask_claims(record)
    if record.state == "broken":
        manager.unregister(name=record.key)
    return found


@contextmanager
def _recording_failure(record: PluginRecord) -> Iterator[None]:
    """Runs a plugin's code. Whatever goes wrong ends in its record, and so does a long time."""
    began = time.monotonic()
    try:
        with isolated(record.warn), time_limit(LONGEST):
            yield
    except HookError as error:
        record.fail("broken", error.message, error.frame, error.hint)
    except ScorefoldError as error:
        record.fail("broken", error.message, own_frame(error, {record.package}), error.hint)
    except pluggy.PluginValidationError as error:
        record.fail("broken", " ".join(str(error).split()), record.file)
    except BaseException as error:
        # A plugin may raise anything at all while it is imported, SystemExit included.
        if isinstance(error, KeyboardInterrupt) and not raised_by(error, {record.package}):
            raise
        frame = own_frame(error, {record.package})
        record.fail("broken", describe(error), frame, import_fix(error, record))
    if (seconds := time.monotonic() - began) > SLOW:
        record.warn(f"its import took {seconds:.1f} s, {_SLOW_TEXT}")


def _import(record: PluginRecord) -> None:
    if record.module is None:
        module_name, colon, attribute = record.value.partition(":")
        module = import_module(module_name)
        if colon and not hasattr(module, attribute):
            file = getattr(module, "__file__", None) or module_name
            hint = sentences(did_you_mean(attribute, vars(module)), entry_point_fix(record))
            raise PluginError(f"its entry point names {record.value}, and {file} has no {attribute!r}", hint=hint)
        record.module = getattr(module, attribute) if colon else module


def _speaks_our_api(record: PluginRecord) -> bool:
    """True if the plugin was written for this contract: the same major version, and no later minor one."""
    stated = getattr(record.module, "__plugin_api__", None)
    if stated is None and not isinstance(record.module, ModuleType):
        kind = "a class" if isinstance(record.module, type) else with_article(type(record.module).__name__)
        what = f"its entry point names {record.value}, which is {kind}; expected a module"
        record.fail("broken", what, fix=entry_point_fix(record))
        return False
    if stated is None:
        line = f'add to {record.value}: __plugin_api__ = "{PLUGIN_API}"'
        record.fail("broken", f"{record.value} states no __plugin_api__", record.file, line)
        return False
    parts = str(stated).split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        record.fail(
            "broken", f'__plugin_api__ is {stated!r}; expected "major.minor", such as "{PLUGIN_API}"', record.file
        )
        return False
    (major, minor), (our_major, our_minor) = map(int, parts), map(int, PLUGIN_API.split("."))
    if major == our_major and minor <= our_minor:
        return True
    later = (major, minor) > (our_major, our_minor)
    cause = f"it was written for plugin API {stated}; this is {PLUGIN_API}"
    record.fail("incompatible", cause, record.file, "pip install --upgrade scorefold-core" if later else record.remedy)
    return False


def _is_no_twin(record: PluginRecord, records: Sequence[PluginRecord]) -> bool:
    """True if no plugin before it has the same module."""
    twin = next(other for other in records if other.module is record.module)
    if twin is not record:
        record.fail("broken", f"its module {record.value} is the {twin.label} already", record.file)
    return twin is record


def _refuse_foreign(records: Sequence[PluginRecord]) -> None:
    """Refuses each entry point to a module of a distribution that has a plugin there itself, switched off or not."""
    by_module: dict[str, list[PluginRecord]] = {}
    for record in records:
        if not record.local and record.environment is None:
            by_module.setdefault(record.value.partition(":")[0], []).append(record)
    for alike in by_module.values():
        if len({record.distribution for record in alike}) < 2:
            continue
        # Of several that brought the file, the one that is called as the package is.
        alike.sort(key=lambda record: normalise(record.distribution) != normalise(record.package))
        owner = next(filter(_brings, alike), None)
        for record in alike:
            if owner is not None and record.distribution != owner.distribution and record.state == "found":
                cause = f"its entry point names {record.value}, which is the {owner.label}"
                record.fail("broken", cause, fix=f"pip uninstall {record.distribution}, or have it name its own module")


def _brings(record: PluginRecord) -> bool:
    """True if the module of a plugin is a file of its distribution, or lies in the folder that is linked for it."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        origin = direct_url(record.distribution)
        if origin.get("dir_info", {}).get("editable"):
            spec = find_spec(record.package)
            assert spec is not None
            folder = Path(url2pathname(urlsplit(origin["url"]).path)).resolve()
            place = Path(next(iter(spec.submodule_search_locations or ()), spec.origin or ""))
            return folder in place.resolve().parents
        return brings(record.distribution, record.value.partition(":")[0])
    except Exception:  # metadata that can't be read prove nothing
        return False
