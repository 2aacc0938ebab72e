"""Description of an environment as data. Its plugins are imported here, once, and never by the host."""

from __future__ import annotations

import hashlib
import inspect
import platform
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import importlib_metadata
import torch

from scorefold.errors import PluginError
from scorefold.interfaces import Trainable
from scorefold_registry.components.parts import config_model
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments.config_types import describe_model
from scorefold_registry.plugins.hooks import HOOKS, REGISTRATION, implementations
from scorefold_registry.plugins.loading import code_digest, describe, load_target
from scorefold_registry.plugins.records import PluginRecord, Registered

_LEFT = ("kinds", "capabilities", "verbs", "commands")


def distributions() -> dict[str, Any]:
    """The Python, the torch and the versions of distributions of this environment, with a digest of all of them."""
    # The first of a name on the path is the one that is imported.
    found: dict[str, str] = {}
    for item in importlib_metadata.distributions():
        name = item.metadata["Name"]
        if name is not None and name.lower() not in found:
            found[name.lower()] = item.version
    facts = {"python": platform.python_version(), "platform": f"{sys.platform}-{platform.machine()}"}
    facts |= {"torch": torch.__version__, "numpy": found.get("numpy", "")}
    text = repr((sorted(facts.items()), sorted(found.items())))
    return {**facts, "versions": found, "digest": hashlib.sha256(text.encode()).hexdigest()}


def describe_host(host: Host) -> dict[str, Any]:
    """All plugins of a host that offer components, or that are broken, with their configs and their code."""
    plugins = [_plugin(host, record) for record in host.plugins if record.components or record.cause]
    return {**distributions(), "plugins": plugins}


def _plugin(host: Host, record: PluginRecord) -> dict[str, Any]:
    components = [item for item in host.catalogue.components if item.record is record]
    broken = record.state in ("broken", "incompatible", "disabled")
    described = [] if broken else [_component(host, item) for item in components]
    left = [f"{name} ({', '.join(item.name for item in getattr(record, name))})" for name in _LEFT]
    left = [text for text in left if not text.endswith("()")]
    if record.module is not None and not broken:
        left += [name for name in implementations(record.module) if name in HOOKS and name not in REGISTRATION]
    warnings = list(record.warnings)
    if left:
        warnings.append(f"only its components are used from an environment of its own, and not its {', '.join(left)}")
    return {
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "value": record.value,
        "cause": record.cause if broken else None,
        "frame": record.frame,
        "fix": record.fix,
        "warnings": warnings,
        "folder": _folder(record.package),
        "code": None if broken else code_digest(record.package),
        "components": described,
    }


def _folder(package: str) -> str:
    """The folder that the code of a plugin lies in; empty where there is none."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return ""
    return str(Path(next(iter(spec.submodule_search_locations or ()), "") or Path(spec.origin or "").parent))


def _component(host: Host, item: Registered) -> dict[str, Any]:
    """A component: what it declares, its config, and which methods its class has of its own."""
    said: dict[str, Any] = {"declares": asdict(item.component), "fault": None, "config": None, "overrides": []}
    try:
        target: Any = load_target(item, item.component.target)
        said["config"] = describe_model(config_model(item))
        interface = host.builder.interface(item.component.kind)
        said["overrides"] = _overrides(target, interface)
        said["trainable"] = inspect.isclass(target) and issubclass(target, Trainable)
    except PluginError as error:
        said["fault"] = error.message if error.hint is None else f"{error.message}\n  {error.hint}"
    except Exception as error:
        said["fault"] = f"{item.id} can't be described: {describe(error)}"
    return said


def _overrides(target: Any, interface: type) -> list[str]:
    """The public methods that a class has in place of those of its interface, and beside them."""
    if not inspect.isclass(target):
        return sorted(name for name in vars(interface) if not name.startswith("_"))
    names = [name for name in dir(target) if not name.startswith("_") and callable(getattr(target, name, None))]
    return [name for name in names if getattr(target, name) is not getattr(interface, name, None)]
