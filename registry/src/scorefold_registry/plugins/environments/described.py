"""Description of an environment by its own process. It is read as data and checked, and nothing is imported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.errors import PluginError, printable
from scorefold.plugin import Capability, Component, Kind, Port
from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.plugins.environments.store import folder_of
from scorefold_registry.plugins.hooks import check_declaration
from scorefold_registry.plugins.records import PluginRecord

FORMAT = 3
FILE = "description.json"
LARGEST = 2**24
"""Bytes of a description."""

PROXY = "scorefold_registry.plugins.environments.proxies:Proxy"
"""The interface here of a kind that a plugin adds in its environment with a class of its own."""

_SHARED = ("scorefold", "scorefold_toolkit")
"""Packages that the host and workers have alike."""


def write_description(spec: Spec, said: Mapping[str, Any]) -> None:
    """Keeps what the worker of an environment said of it, with the state of the plugins' files.

    Declarations are checked here, once. A plugin with a wrong one is kept with the cause.
    """
    plugins = []
    for plugin in said["plugins"]:
        try:
            for component in record_of(spec, None, plugin).components:
                check_declaration(component)
        except PluginError as error:
            plugin = {**plugin, "cause": error.message, "frame": None, "fix": None, "components": []}
        plugins.append(plugin)
    from scorefold.artefacts import write_json

    files = files_state(plugin["folder"] for plugin in plugins)
    write_json(folder_of(spec) / FILE, {**said, "format": FORMAT, "plugins": plugins, "files": files})


def read_description(spec: Spec) -> dict[str, Any]:
    """The description of an environment. Raises ``PluginError`` where there is none, or none of this release."""
    file = folder_of(spec) / FILE
    try:
        if file.stat().st_size > LARGEST:
            raise PluginError(f"{file} is larger than {LARGEST:,} bytes", hint=spec.install)
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise PluginError(f"its environment is not installed here: {spec.install}", hint=spec.install) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PluginError(f"{file} can't be read: {error}", hint=spec.install) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("plugins"), list):
        raise PluginError(f"{file} is no description of this release", hint=spec.install)
    return found


def versions_text(said: Mapping[str, Any]) -> str:
    """The versions of an environment in a few words."""
    return f"Python {said['python']}, torch {said['torch']}, {len(said['versions'])} distributions"


def files_state(places: Iterable[str]) -> str:
    """A digest of names, sizes and times of Python files, given as such or by their folders. None is read."""
    found = hashlib.sha256()
    for place in map(Path, sorted(set(places))):
        for root, folders, files in [(str(place.parent), [""], [place.name])] if place.is_file() else os.walk(place):
            folders.sort()
            for name in sorted(files):
                if name.endswith(".py"):
                    state = os.stat(os.path.join(root, name))
                    found.update(f"{root}/{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()


def record_of(spec: Spec, environment: Any, said: Any) -> PluginRecord:
    """A plugin from its description, as a record whose distribution is the environment's name.

    Raises ``PluginError`` for a description that no worker of ours gives.
    """
    try:
        record = PluginRecord(said["name"], spec.name, said["version"], said["value"], environment=environment)
        record.brought_by = printable(said["distribution"])
        if said["cause"] is not None:
            record.fail("broken", said["cause"], said["frame"], said["fix"] and spec.own_fix(said["fix"]))
            return record
        record.kinds = [
            Kind(name, interface if _is_shared(interface) else PROXY, summary=summary)
            for name, interface, summary in said["kinds"]
        ]
        record.capabilities = [Capability(*each) for each in said["capabilities"] if _is_shared(each[1])]
        unknown = {name for name, interface, _ in said["capabilities"] if not _is_shared(interface)}
        record.components = [_component(item["declares"], unknown) for item in said["components"]]
        record.described = {
            component.id: item for component, item in zip(record.components, said["components"], strict=True)
        }
        for text in said["warnings"]:
            record.warn(printable(spec.own_fix(text)))
        return record
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PluginError(
            f"its description is not as it has to be: {type(error).__name__}: {error}", hint=spec.install
        ) from error


def _is_shared(interface: str) -> bool:
    """True if this process has the class of a kind or capability too."""
    return interface.partition(":")[0].partition(".")[0] in _SHARED


def _component(said: Mapping[str, Any], unknown: set[str]) -> Component:
    """A declaration rebuilt, without the figures and the citation, which are code and files of the environment, and
    without capabilities that are unknown here: the worker checks them."""
    ports = [Port(**{**_tuples(port), "needs": _known(port["needs"], unknown)}) for port in said["requires"]]
    facts = {**_tuples(said), "requires": tuple(ports), "provides": _known(said["provides"], unknown)}
    facts["ranges"] = {name: tuple(pair) for name, pair in said["ranges"].items()}
    return Component(**{**facts, "figures": None, "inspect": None, "cite": None})


def _tuples(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def _known(names: Iterable[str], unknown: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in unknown)
