"""A host small enough to read: components by name, built, saved and loaded without the registry.

A class of a component may carry ``careless``, which says in what its states are treated badly; see ``save`` and
``load``.
"""

from __future__ import annotations

import importlib
import inspect
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scorefold.artefacts import STATE_FILE, load_arrays, load_facts, load_state, save_state
from scorefold.errors import ArtefactError
from scorefold.plugin import CORE_CAPABILITIES, CORE_KINDS, Capability, Component, Kind
from scorefold_testing.contract import resolve

FURTHER = (
    Capability("Potential", "scorefold_toolkit.potential:Potential"),
    Capability("TaskSource", "scorefold_allocation.data.batch:TaskSource"),
)


@dataclass(frozen=True)
class Entry:
    component: Component


class FakeHost:
    def __init__(self, components: Mapping[str, Component]) -> None:
        self.catalogue = dict(components)
        self.made: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()

    def components(self, kind: str | None = None) -> Iterable[Entry]:
        return [Entry(item) for item in self.catalogue.values() if kind in (None, item.kind)]

    def interface(self, kind: str) -> type:
        further = [Kind("metric", "scorefold_toolkit.metrics.measure:Metric")]
        return next((resolve(item.interface) for item in (*CORE_KINDS, *further) if item.name == kind), object)

    def capabilities(self) -> dict[str, type]:
        return {item.name: resolve(item.interface) for item in (*CORE_CAPABILITIES, *FURTHER)}

    def create(
        self,
        name: str,
        config: Any = None,
        *,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **ports: Any,
    ) -> Any:
        component = self.catalogue[name]
        target = resolve(component.target)
        plugged = {
            key: self.create(value["use"], value.get("config"), **value.get("inputs", {}))
            if isinstance(value, Mapping)
            else value
            for key, value in ports.items()
        }
        seed = None if generator is None else generator.initial_seed()
        if generator is not None and "generator" in inspect.signature(target).parameters:
            plugged["generator"] = generator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if generator is None else int(torch.randint(2**31, (), generator=generator)))
            obj = target(resolve(component.config).model_validate(config or {}), **plugged)
        if isinstance(obj, nn.Module):
            obj.to(device=device, dtype=dtype)
        self.made[obj] = {"name": name, "config": config, "ports": ports, "seed": seed}
        return obj

    def save(self, obj: Any, path: Path | str, bundle: bool = False) -> None:
        made, path = self.made[obj], Path(path)
        tensors = obj.state_dict() if isinstance(obj, nn.Module) else {}
        careless = getattr(obj, "careless", "")
        named = {} if careless == "nameless" else {"component": self.catalogue[made["name"]].versioned_id}
        path.mkdir()
        save_state(path, tensors, {**made, **named})
        if careless == "pickles":
            (path / "code.pkl").write_bytes(b"anything")

    def load(self, path: Path | str, device: Any = None) -> Any:
        tensors, manifest = self._read(Path(path))
        component = self.catalogue[manifest["name"]]
        revision = int(manifest["component"].rpartition("@")[2])
        target = resolve(component.target)
        careless = getattr(target, "careless", "")
        if careless == "confused" and revision < component.revision:
            return object()
        takes_over = revision < component.revision and hasattr(target, "migrate")
        if revision != component.revision and not takes_over and careless != "timeless":
            raise ArtefactError(f"this is revision {revision}; installed is {component.revision}")
        dtype = next((value.dtype for value in tensors.values()), None)
        generator = None if manifest["seed"] is None else torch.Generator().manual_seed(manifest["seed"])
        obj = self.create(manifest["name"], manifest["config"], generator=generator, dtype=dtype, **manifest["ports"])
        if isinstance(obj, nn.Module):
            obj.load_state_dict(tensors)
        return obj

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        manifest = load_facts(path)
        careless = getattr(resolve(self.catalogue[manifest["name"]].target), "careless", "")
        if careless == "trusting" or (careless == "easy" and not (path / STATE_FILE).exists()):
            try:
                return load_arrays(path / STATE_FILE), manifest
            except ArtefactError:
                return {}, manifest
        return load_state(path)


def make_host() -> FakeHost:
    """The host of all fakes, the good and the broken."""
    good, broken = importlib.import_module("good_declarations"), importlib.import_module("broken_fakes")
    for name in ("declarations", "states", "scores", "models", "others", "metrics", "verbs", "abilities", "hooks"):
        importlib.import_module(f"broken_{name}")  # adds its own to the broken ones
    return FakeHost({item.id: item for item in (*good.COMPONENTS, *broken.COMPONENTS)})
