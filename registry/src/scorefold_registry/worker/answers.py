"""Objects of a worker: objects of the host that it asks, models that it fills and trains, and its plugins as data."""

from __future__ import annotations

import hashlib
import inspect
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any, NoReturn

import importlib_metadata
import torch
from torch import Tensor

from scorefold.artefacts import json_text
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import PluginError
from scorefold.interfaces import Trainable
from scorefold_registry.components.building import Builder
from scorefold_registry.components.parts import config_model
from scorefold_registry.components.saving import own_tensors
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments import Names
from scorefold_registry.plugins.environments.config_types import describe_model
from scorefold_registry.plugins.environments.models import CORE_INTERFACES, proxy_of
from scorefold_registry.plugins.environments.proxies import Remote
from scorefold_registry.plugins.environments.questions import KINDS
from scorefold_registry.plugins.hooks import HOOKS, REGISTRATION, implementations
from scorefold_registry.plugins.loading import code_digest, describe, load_target
from scorefold_registry.plugins.records import PluginRecord, Registered

Ask = Callable[[str, Mapping[str, Any]], Any]


class Asking(Names):
    """The host, as the objects of a worker see it: what a proxy knows as its environment."""

    spec = SimpleNamespace(name="of the main process")

    def __init__(self, ask: Ask) -> None:
        super().__init__("b")
        self._ask = ask

    def session(self) -> Asking:
        """The process that has the objects, which is always the same one."""
        return self

    def ask(self, do: str, values: Mapping[str, Any]) -> Any:
        """The host's answer; names of objects that nobody holds any more go along."""
        gone = list(self.gone)
        found = self._ask(do, {**values, "gone": gone})
        self.gone.difference_update(gone)
        return found

    def proxy(self, said: Mapping[str, Any]) -> Any:
        """A proxy of an object of the host, in its precision."""
        interfaces = [KINDS[said["kind"]], *(CORE_INTERFACES[name] for name in said["provides"])]
        found = proxy_of(_HostObject(self, said["name"]), said["kind"], interfaces, said["overrides"])
        return in_mode(found, said["mode"])


class _HostObject(Remote):
    """One object of the host. Its weights belong to the host, and nothing here changes them."""

    def __init__(self, environment: Asking, name: str) -> None:
        self.environment, self._name = environment, name

    def ask(self, do: str, *, metrics: Any = None, **values: Any) -> Any:
        return self.environment.ask(do, {"name": self._name, **values})

    def put_state(self, state: Any) -> NoReturn:
        """Raises ``PluginError``."""
        raise PluginError("a model of the main process keeps its weights: it was plugged in from there")


def in_mode(found: Any, mode: Sequence[Any] | None) -> Any:
    """An object in the precision and the mode of the other side's proxy; None for an object that has none."""
    if mode is not None:
        dtype, training = mode
        found.to(dtype=getattr(torch, dtype)).train(training)
    return found


def train(
    found: Any,
    builder: Builder,
    target: str,
    config: str,
    train: Dataset,
    settings: dict[str, Any],
    checkpoint_dir: str | None,
) -> dict[str, Any]:
    """A training by the function ``target``: its report as JSON in a tensor of bytes, and the model's own tensors."""
    device = found._reference().device
    if isinstance(settings["validation"], Dataset):
        settings["validation"] = settings["validation"].to(device=device)
    report = resolve_name(target)(
        found,
        train.to(device=device),
        TrainingConfig.model_validate_json(config),
        checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
        **settings,
    )
    return {"report": json_bytes(json_text(report.facts())), "state": tensors_of(builder, found)}


def tensors_of(builder: Builder, found: Any) -> dict[str, Tensor]:
    """The tensors of a model, without the tensors of its ports."""
    return {name: tensor.detach().cpu() for name, tensor in own_tensors(builder, found).items()}


def json_bytes(text: str) -> Tensor:
    """JSON of any length: a tensor of bytes."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


_LEFT = ("verbs", "commands")
_OVERRIDES = ("bind", "fingerprint")
"""Methods whose default the host does itself."""


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
        "kinds": [[kind.name, kind.interface, kind.summary] for kind in record.kinds],
        "capabilities": [[each.name, each.interface, each.summary] for each in record.capabilities],
        "components": described,
    }


def _folder(package: str) -> str:
    """The folder of a plugin's code, or its one module; empty where there is none."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin or ""]
    return places[0] if places else ""


def _component(host: Host, item: Registered) -> dict[str, Any]:
    """A component: what it declares, its config, and which methods its class has of its own."""
    said: dict[str, Any] = {"declares": asdict(item.component), "fault": None, "config": None, "overrides": []}
    try:
        target: Any = load_target(item, item.component.target)
        said["config"] = describe_model(config_model(item))
        interface = host.builder.interface(item.component.kind)
        said["overrides"] = [
            name for name in _OVERRIDES if getattr(target, name, None) is not getattr(interface, name, None)
        ]
        said["trainable"] = inspect.isclass(target) and issubclass(target, Trainable)
    except PluginError as error:
        said["fault"] = error.message if error.hint is None else f"{error.message}\n  {error.hint}"
    except Exception as error:
        said["fault"] = f"{item.id} can't be described: {describe(error)}"
    return said
