"""Records of each plugin and each of its components. Failures are data until they are used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

from scorefold.errors import ConfigError, printable
from scorefold.plugin import Capability, Claim, Component, Kind, Model, Verb

LOCAL = "local"
"""The distribution of plugins that no distribution brought: files and modules named by hand."""

STATES = ("found", "incompatible", "disabled", "registered", "ambiguous", "shadowed", "broken", "loaded")


def how_to_get(distribution: str, version: str) -> str:
    """The line that brings back the plugin that something was made with."""
    if distribution == LOCAL:
        return "name its file in SCOREFOLD_DEV_PLUGINS, or under [develop] in scorefold.toml"
    return f"pip install {distribution}=={version}"


def direct_url(distribution: str) -> dict[str, Any]:
    """The origin of an installed distribution, as its installer has noted it; empty for a distribution of an index."""
    import importlib_metadata

    try:
        found = json.loads(importlib_metadata.distribution(distribution).read_text("direct_url.json") or "{}")
    except Exception:  # metadata that can't be read say nothing
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Command:
    """A command that a plugin adds: ``target`` is ``module:function``, called with the list of arguments."""

    name: str
    target: str
    summary: str


@dataclass(eq=False)
class PluginRecord:
    """A plugin as it was found: where it comes from, how far it got (``state``) and why no further (``cause``).

    ``value`` is the module its entry point names; ``frame`` the line of its own code nearest to the failure, ``fix``
    what to do about it; ``warnings`` are faults that do not stop it; ``settings`` names the model of its settings,
    ``requires`` are what its distribution requires.
    """

    name: str
    distribution: str
    version: str
    value: str
    state: str = "found"
    cause: str | None = None
    frame: str | None = None
    fix: str | None = None
    warnings: list[str] = field(default_factory=list)
    requires: tuple[str, ...] = ()
    module: ModuleType | None = None
    components: list[Component] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    capabilities: list[Capability] = field(default_factory=list)
    verbs: list[Verb] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    ask_claims: Callable[[], list[Claim]] = list
    commands: list[Command] = field(default_factory=list)
    settings: str | None = None
    environment: Any = None
    """The environment of its own, of which ``distribution`` is the name; None for one that this process may import."""
    brought_by: str = ""
    """The distribution that brought it into its environment, and what is said there of each component by its id."""
    described: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def claims(self) -> list[Claim]:
        """Claims of the plugin, loaded at the first use, as they may be in a table to read."""
        return self.ask_claims()

    @property
    def label(self) -> str:
        """Name in messages: plugin, distribution and version."""
        if self.brought_by:
            return f"plugin {self.name!r} of {self.brought_by} {self.version} in the environment {self.distribution!r}"
        return f"plugin {self.name!r} of {self.distribution} {self.version}"

    @property
    def key(self) -> str:
        """``distribution/plugin``, under which pluggy knows it."""
        return f"{self.distribution}/{self.name}"

    @property
    def package(self) -> str:
        """The top-level package that its code lives in."""
        return self.value.partition(":")[0].partition(".")[0]

    @property
    def packages(self) -> set[str]:
        """Its package and those that the targets of its components and verbs are in."""
        targets = [*(each.target for each in self.components), *(each.target for each in self.verbs)]
        return {self.package, *(target.partition(":")[0].partition(".")[0] for target in targets)}

    @property
    def file(self) -> str | None:
        """The file of its module, once that has been imported."""
        return getattr(self.module, "__file__", None)

    @property
    def local(self) -> bool:
        """True if no distribution brought it."""
        return self.distribution == LOCAL

    @property
    def remedy(self) -> str:
        """Fix that always helps: another version, or switching the plugin off."""
        if self.distribution == "unknown":
            return f"pip install --force-reinstall the distribution of {self.value}"
        if self.environment is not None:
            return f"scorefold plugins install {self.distribution}, or switch it off: SCOREFOLD_PLUGINS=-{self.name}"
        if self.local:
            first = f"fix {self.value}"
        elif direct_url(self.distribution).get("dir_info", {}).get("editable"):
            first = "correct the code in its folder"
        else:
            first = f"pip install --upgrade {self.distribution}"
        return f"{first}, or switch it off: SCOREFOLD_PLUGINS=-{self.name}"

    def __post_init__(self) -> None:
        # Anybody may have written the metadata, which no code need run to be listed.
        for name in ("name", "distribution", "version", "value"):
            setattr(self, name, printable(getattr(self, name)))

    def fail(self, state: str, cause: str, frame: str | None = None, fix: str | None = None) -> None:
        """Takes the plugin out of use: what it offered goes, why stays."""
        self.state, self.cause, self.frame, self.fix = state, printable(cause), frame, fix
        self.components, self.kinds, self.capabilities, self.verbs = [], [], [], []
        self.claims, self.commands, self.models = [], [], []
        self.settings = None

    def warn(self, warning: str) -> None:
        """Notes a fault that does not stop the plugin, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def as_json(self) -> dict[str, Any]:
        """The entry of ``plugins list --json``."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "state": self.state,
            "cause": self.cause,
            "components": [
                {"kind": item.kind, "name": item.name, "revision": item.revision, "summary": item.summary}
                for item in self.components
            ],
        }


@dataclass(eq=False)
class Registered:
    """A component as it stands in a catalogue, with the plugin it came from.

    ``state`` is ``registered``, ``ambiguous`` (another plugin claims its name too), ``shadowed`` (the name went to
    another plugin by the user's preference or by agreement), ``broken`` (its code can't be imported) or ``loaded``.
    """

    component: Component
    record: PluginRecord
    state: str = "registered"

    @property
    def plugin(self) -> str:
        return self.record.name

    @property
    def distribution(self) -> str:
        return self.record.distribution

    @property
    def version(self) -> str:
        return self.record.version

    @property
    def id(self) -> str:
        """``kind:name``."""
        return self.component.id

    def mark_loaded(self) -> None:
        """Notes that its code has been imported."""
        for entry in (self, self.record):
            if entry.state == "registered":
                entry.state = "loaded"

    @property
    def qualified(self) -> str:
        """``distribution/kind:name``, which always works."""
        return f"{self.distribution}/{self.component.id}"


class RefusedConfigError(ConfigError):
    """A config that the environment refuses. ``problems`` are (path, message, hint, code), in its own words."""

    def __init__(self, problems: Sequence[tuple[Sequence[str | int], str, str | None, str]]) -> None:
        super().__init__("; ".join(problem[1] for problem in problems))
        self.problems = problems


def environments_of(records: Sequence[PluginRecord]) -> list[Any]:
    """The environments of plugins, each once."""
    found = {id(record.environment): record.environment for record in records if record.environment is not None}
    return list(found.values())


@contextmanager
def workers_of(records: Sequence[PluginRecord]) -> Iterator[None]:
    """Ends the workers of plugins at the end of a block."""
    try:
        yield
    finally:
        for environment in environments_of(records):
            environment.close()
