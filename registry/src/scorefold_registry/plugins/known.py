"""Plugins from Scorefold's own repository, so that a name that one of them offers is no riddle where it is missing.

``known.json`` is written from their declarations, by ``make known``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scorefold.errors import PluginError
from scorefold_registry.plugins.names import Reference, normalise
from scorefold_registry.plugins.records import PluginRecord


@dataclass(frozen=True)
class KnownPlugin:
    """A plugin that may or may not be installed; ``offers`` are its components as ``kind:name``, aliases too, and
    ``verbs``, ``commands`` and ``models`` the names of those it has."""

    name: str
    distribution: str
    summary: str
    offers: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """The command that installs it, from an index that has it or from a checkout."""
        return f"pip install {self.distribution}, or in a checkout of Scorefold: pip install ./plugins/{self.name}"

    def offers_what(self, reference: Reference) -> bool:
        """Whether one of its components has the name."""
        if reference.distribution not in (None, self.distribution):
            return False
        return reference.id in (self.offers if reference.kind else {offer.partition(":")[2] for offer in self.offers})


_LISTS = ("offers", "verbs", "commands", "models")


@cache
def known_plugins() -> tuple[KnownPlugin, ...]:
    """The plugins of the repository, as ``known.json`` lists them."""
    import json  # most commands never need the list

    entries: list[dict[str, Any]] = json.loads((Path(__file__).parent / "known.json").read_text(encoding="utf-8"))
    lists: list[dict[str, Any]] = [{name: tuple(entry[name]) for name in _LISTS} for entry in entries]
    return tuple(KnownPlugin(**{**entry, **own}) for entry, own in zip(entries, lists, strict=True))


def not_installed(records: Iterable[PluginRecord]) -> tuple[KnownPlugin, ...]:
    """The known plugins whose distribution is not among those of the plugins that were found."""
    found = {normalise(record.distribution) for record in records}
    return tuple(plugin for plugin in known_plugins() if plugin.distribution not in found)


def missing_plugin(name: str, records: Iterable[PluginRecord]) -> PluginError | None:
    """The error for a plugin or a distribution that is known and not installed; None for any other name."""
    for plugin in not_installed(records):
        if name == plugin.name or normalise(name) == plugin.distribution:
            message = f"no plugin {name!r} is installed; there is one: {plugin.summary}"
            return PluginError(message, hint=plugin.install)
    return None
