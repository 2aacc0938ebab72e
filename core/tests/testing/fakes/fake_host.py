"""A host small enough to read: components by name, built, saved and loaded without the registry."""

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

from scorefold.artefacts import load_state, save_state
from scorefold.plugin import Component
from scorefold.testing.contract import resolve


@dataclass(frozen=True)
class Entry:
    component: Component


class FakeHost:
    def __init__(self, components: Mapping[str, Component]) -> None:
        self.catalogue = dict(components)
        self.made: weakref.WeakKeyDictionary[Any, tuple[str, Any, Any]] = weakref.WeakKeyDictionary()

    def components(self, kind: str | None = None) -> Iterable[Entry]:
        return [Entry(item) for item in self.catalogue.values() if kind in (None, item.kind)]

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
        if generator is not None and "generator" in inspect.signature(target).parameters:
            plugged["generator"] = generator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if generator is None else int(torch.randint(2**31, (), generator=generator)))
            obj = target(resolve(component.config).model_validate(config or {}), **plugged)
        if isinstance(obj, nn.Module):
            obj.to(dtype=dtype)
        self.made[obj] = (name, config, ports)
        return obj

    def save(self, obj: Any, path: Path | str, bundle: bool = False) -> None:
        name, config, ports = self.made[obj]
        tensors = obj.state_dict() if isinstance(obj, nn.Module) else {}
        Path(path).mkdir()
        save_state(Path(path), tensors, {"name": name, "config": config, "ports": ports})

    def load(self, path: Path | str, device: Any = None) -> Any:
        tensors, manifest = load_state(Path(path))
        dtype = next((value.dtype for value in tensors.values()), None)
        obj = self.create(manifest["name"], manifest["config"], dtype=dtype, **manifest["ports"])
        if isinstance(obj, nn.Module):
            obj.load_state_dict(tensors)
        return obj


def make_host() -> FakeHost:
    """The host of all fakes, the good and the broken."""
    good, broken = importlib.import_module("good_fakes"), importlib.import_module("broken_fakes")
    importlib.import_module("broken_others")  # adds its own to the broken ones
    return FakeHost({item.id: item for item in (*good.COMPONENTS, *broken.COMPONENTS)})
