"""What the site documents: the components, kinds and commands of this repository's own distributions."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scorefold.plugin import Kind, Verb
from scorefold_registry.host import Host
from scorefold_registry.plugins.names import normalise
from scorefold_registry.plugins.records import Registered


@dataclass(frozen=True)
class Inventory:
    """The repository at ``root`` and a host of what is installed. Other people's plugins are left out."""

    root: Path
    host: Host

    @cached_property
    def distributions(self) -> frozenset[str]:
        """The distributions that this repository makes."""
        workspace = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        return frozenset(normalise(name) for name in workspace["tool"]["uv"]["sources"])

    @cached_property
    def components(self) -> list[Registered]:
        """Our components, in the order of their plugins."""
        return [item for item in self.host.components() if normalise(item.distribution) in self.distributions]

    @cached_property
    def kinds(self) -> list[Kind]:
        """Core's kinds, and those that our plugins add."""
        added = {
            kind.name
            for record in self.host.plugins
            if normalise(record.distribution) not in self.distributions
            for kind in record.kinds
        }
        return [kind for kind in self.host.catalogue.kinds.values() if kind.name not in added]

    @cached_property
    def capabilities(self) -> dict[str, type]:
        """The classes of core's capabilities, and of those that our plugins add, by their names."""
        added = {
            item.name
            for record in self.host.plugins
            if normalise(record.distribution) not in self.distributions
            for item in record.capabilities
        }
        return {name: item for name, item in self.host.capabilities().items() if name not in added}

    def of_kind(self, kind: str) -> list[Registered]:
        """Our components of a kind."""
        return [item for item in self.components if item.component.kind == kind]

    def verbs(self, item: Registered) -> Sequence[Verb]:
        """The verbs that a component can do."""
        return self.host.catalogue.able(item.component)


def inventory(root: Path) -> Inventory:
    """The inventory of a checkout whose members are installed."""
    return Inventory(root, Host.discover())
