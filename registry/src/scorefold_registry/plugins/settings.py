"""``scorefold.toml``, the nearest one upward: which plugins, and who has a name that two claim."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError
from scorefold_registry.plugins.names import did_you_mean, normalise, not_installed
from scorefold_registry.plugins.records import PluginRecord

FILE_NAME = "scorefold.toml"
VARIABLE = "SCOREFOLD_PLUGINS"
_WORDS = ("plugins", "prefer", "develop", "runs", "cache", "claims", "sweeps", "environments")
"""Fields of the file; ``runs`` to ``sweeps`` are folders of runs and stored results."""

OPTION = "--plugins"
OPTION_VARIABLE = "SCOREFOLD_PLUGINS_OPTION"
"""Holds what the option said, which stands in ``SCOREFOLD_PLUGINS`` too, so that messages name the true source."""


@dataclass(frozen=True)
class Settings:
    """A settings file as read. ``develop`` names plugins that are not installed, relative to the file; ``data`` is the
    whole of it; a section of another tool's is left alone.
    """

    file: Path | None = None
    plugins: tuple[str, ...] = ()
    develop: tuple[str, ...] = ()
    prefer: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PluginList:
    """Plugins that may be used: only ``allow`` if it is set, never ``deny``. ``source`` names the origin of the list.

    An entry names a plugin, its distribution, or ``distribution/plugin``.
    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    source: str = ""


def find_settings() -> Settings:
    """The nearest ``scorefold.toml`` at or above the working folder. Without one, the defaults.

    Raises ``ConfigError`` if the working folder was removed.
    """
    try:
        # os.path, not pathlib: resolving every parent as a Path shows in the cost of listing plugins.
        folder = os.path.abspath(os.curdir)
    except FileNotFoundError:
        raise ConfigError("the working folder was removed", hint="change to a folder that exists: cd FOLDER") from None
    while True:
        candidate = os.path.join(folder, FILE_NAME)
        if os.path.isfile(candidate):
            return read_settings(Path(candidate))
        parent = os.path.dirname(folder)
        if parent == folder:
            return Settings()
        folder = parent


def read_settings(file: Path) -> Settings:
    """A settings file. Raises ``ConfigError`` for one that can't be read or says something impossible."""
    import tomllib

    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no settings file {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file can't be read: {error}", file=file) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not TOML: {error}", file=file) from error
    plugins, prefer = data.get("plugins", []), data.get("prefer", {})
    if not (isinstance(plugins, list) and all(isinstance(name, str) for name in plugins)):
        raise ConfigError(
            f"plugins is {plugins!r}; expected a list of names",
            hint='for example plugins = ["standard", "iddiff"] to allow only these, or ["-iddiff"] to deny one',
            file=file,
        )
    if not (isinstance(prefer, dict) and all(isinstance(value, str) for value in prefer.values())):
        raise ConfigError(
            f"prefer is {prefer!r}; expected a table of names and distributions",
            hint='for example, under [prefer]: "estimator:mle" = "scorefold-neighbours"',
            file=file,
        )
    return Settings(file, tuple(plugins), _develop(data.get("develop", {}), file), prefer, data)


def settings_notes(settings: Settings) -> list[str]:
    """Remarks on words of a settings file that are nearly ours; other tools' are left alone."""
    unknown = settings.data.keys() - set(_WORDS)
    if not unknown:
        return []
    from scorefold_registry.plugins.names import near_misses

    found = [(word, near_misses(word, _WORDS, count=1)) for word in sorted(unknown)]
    return [
        f"{settings.file} says {word!r}, which is not a setting; did you mean {near[0]!r}?"
        for word, near in found
        if near
    ]


def _develop(section: Any, file: Path) -> tuple[str, ...]:
    plugins = section.get("plugins", []) if isinstance(section, dict) and section.keys() <= {"plugins"} else None
    if not (isinstance(plugins, list) and all(isinstance(name, str) and name for name in plugins)):
        raise ConfigError(
            f"develop is {section!r}; expected a table with a list of files or modules called plugins",
            hint='for example, under [develop]: plugins = ["./my_plugin.py", "my_package.plugin"]',
            file=file,
        )
    return tuple(plugins)


def plugin_list(entries: tuple[str, ...] | list[str], source: str) -> PluginList:
    """A list as people write it: names allow only these, names after a minus sign deny.

    >>> plugin_list(["standard", "-iddiff"], "here")
    PluginList(allow=('standard',), deny=('iddiff',), source='here')
    """
    names = [entry.strip() for entry in entries if entry.strip()]
    allow = tuple(name for name in names if not name.startswith("-"))
    deny = tuple(name[1:].strip() for name in names if name.startswith("-"))
    return PluginList(allow or None, deny, source)


def environment_list() -> PluginList | None:
    """Value of ``SCOREFOLD_PLUGINS``, or of the option in its place; None if neither is set."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    return plugin_list(text.split(","), OPTION if os.environ.get(OPTION_VARIABLE) == text else VARIABLE)


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
    entries = (*(listed.allow or ()), *listed.deny)
    unknown = [entry for entry in entries if not any(_matches(record, entry) for record in records)]
    return [
        f"{listed.source} names {entry!r}, but no installed plugin has this name; {_remedy(entry, records)}"
        for entry in unknown
    ]


def _remedy(entry: str, records: Sequence[PluginRecord]) -> str:
    """Command that installs the plugin of an entry; for unknown plugins similar names, or all names."""
    install = [plugin.install for plugin in not_installed(records) if entry in (plugin.name, plugin.distribution)]
    if install:
        return install[-1]
    return _near(entry, records) or f"installed: {', '.join(record.name for record in records) or 'none'}"


def _near(entry: str, records: Iterable[PluginRecord]) -> str:
    return did_you_mean(entry, [name for record in records for name in (record.name, record.distribution)])
