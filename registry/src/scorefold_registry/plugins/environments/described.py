"""Description of an environment by its own process. It is read as data and checked, and nothing is imported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from scorefold.artefacts import read_json, write_json
from scorefold.errors import PluginError, ScorefoldError, printable
from scorefold.plugin import Capability, Component, Kind, Port
from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.plugins.environments.store import folder_of
from scorefold_registry.plugins.hooks import check_declaration
from scorefold_registry.plugins.records import PluginRecord

FORMAT = 2
FILE = "description.json"
LARGEST = 2**24
"""Bytes of a description."""

PROXY = "scorefold_registry.plugins.environments.proxies:Proxy"
"""The interface here of a kind that a plugin adds in its environment with a class of its own."""

_SHARED = ("scorefold", "scorefold_toolkit")
"""Packages that the host and workers have alike."""


def write_description(spec: Spec, said: Mapping[str, Any]) -> None:
    """Keeps what the worker of an environment said of it, with the state of the plugins' files."""
    folders = [plugin["folder"] for plugin in said["plugins"]]
    write_json(folder_of(spec) / FILE, {"format": FORMAT, **said, "files": files_state(folders)})


@lru_cache(64)
def _parsed(file: Path, changed: int, size: int) -> Any:
    return read_json(file)


def read_description(spec: Spec) -> dict[str, Any] | None:
    """The description of an environment; None where there is none yet. Raises ``PluginError`` for one that is no
    description of this release."""
    file = folder_of(spec) / FILE
    if not file.is_file():
        return None
    state = file.stat()
    if state.st_size > LARGEST:
        raise PluginError(f"{file} is larger than {LARGEST:,} bytes", hint=spec.install)
    try:
        found = _parsed(file, state.st_mtime_ns, state.st_size)
    except ScorefoldError as error:
        raise PluginError(f"{file} can't be read: {error.message}", hint=spec.install) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("plugins"), list):
        raise PluginError(f"{file} is no description of this release", hint=spec.install)
    return found


def files_state(folders: Iterable[str]) -> str:
    """A digest of the names, sizes and times of the Python files in folders, which costs no reading."""
    found = hashlib.sha256()
    for folder in map(Path, sorted(set(folders))):
        for root, places, files in os.walk(folder):
            places.sort()
            for name in sorted(files):
                if name.endswith(".py"):
                    state = os.stat(os.path.join(root, name))
                    found.update(f"{root}/{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()


def records_of(spec: Spec, environment: Any) -> list[PluginRecord]:
    """The plugins of an environment as records whose distribution is the environment's name.

    One that is not described yet, or whose description is broken, is a single record that says so.
    """
    try:
        description = read_description(spec)
        if description is None:
            return [_absent(spec, environment)]
        environment.description = description
        return [_record(spec, environment, plugin) for plugin in description["plugins"]]
    except PluginError as error:
        record = PluginRecord(spec.name, spec.name, "unknown", spec.name, environment=environment)
        record.fail("broken", error.message, fix=spec.install)
        return [record]


def _absent(spec: Spec, environment: Any) -> PluginRecord:
    record = PluginRecord(spec.name, spec.name, "none", spec.name, environment=environment)
    record.fail("broken", f"its environment is not installed here: {spec.install}", fix=spec.install)
    return record


def _record(spec: Spec, environment: Any, said: Any) -> PluginRecord:
    """A plugin from its description. Raises ``PluginError`` for one that no worker of ours wrote."""
    try:
        record = PluginRecord(said["name"], spec.name, said["version"], said["value"], environment=environment)
        record.brought_by = printable(said["distribution"])
        if said["cause"] is not None:
            record.fail("broken", said["cause"], said["frame"], said["fix"])
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
            record.warn(printable(text))
        return record
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PluginError(f"its description is not as it has to be: {type(error).__name__}: {error}") from error


def _is_shared(interface: str) -> bool:
    """True if this process has the class of a kind or capability too."""
    return interface.partition(":")[0].partition(".")[0] in _SHARED


def _component(said: Mapping[str, Any], unknown: set[str]) -> Component:
    """A declaration rebuilt, without the figures and the citation, which are code and files of the environment, and
    without capabilities that are unknown here: the worker checks them."""
    facts = {**said, "figures": None, "inspect": None, "cite": None}
    facts["requires"] = tuple(Port(**_port(port, unknown)) for port in said["requires"])
    facts["ranges"] = {name: tuple(pair) for name, pair in said["ranges"].items()}
    for name in ("aliases", "examples", "yields_to"):
        facts[name] = tuple(said[name])
    facts["provides"] = tuple(name for name in said["provides"] if name not in unknown)
    component = Component(**facts)
    check_declaration(component)
    return component


def _port(said: Mapping[str, Any], unknown: set[str]) -> dict[str, Any]:
    kind, needs = said["kind"], tuple(name for name in said["needs"] if name not in unknown)
    return {**said, "kind": tuple(kind) if isinstance(kind, list) else kind, "needs": needs}


def kept_check(spec: Spec, component: str, raw: Any, ask: Callable[[], Any]) -> Any:
    """The answer of the environment about a config, asked for once and kept beside the description.

    What is wrong with the plugin and not with the config is not kept: it may be repaired.
    """
    digest = hashlib.sha256(json.dumps([component, raw], sort_keys=True).encode()).hexdigest()[:24]
    file = folder_of(spec) / "checked" / f"{digest}.json"
    if file.is_file():
        return read_json(file)
    answer = ask()
    if any(problem[3] == "plugin" for problem in answer.get("problems", ())):
        return answer
    file.parent.mkdir(exist_ok=True)
    write_json(file, answer)
    return answer
