"""Run files made from the examples that components declare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from scorefold.config import InlineKind
from scorefold_registry.components.parts import config_model
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.example import as_run_file, example_run
from scorefold_registry.runfile.yaml_reader import yaml_text
from scorefold_site.inventory import Inventory

SCHEMA_LINE = "# yaml-language-server: $schema=.scorefold/schema.json"

_DATA = {"use": "data:digits"}


def example_files(inventory: Inventory, item: Registered) -> list[str]:
    """A whole run file for each example of a component, the same one once."""
    files = [_file(inventory, item, example) for example in item.component.examples or ({},)]
    return list(dict.fromkeys(files))


def _file(inventory: Inventory, item: Registered, example: Mapping[str, Any]) -> str:
    run = _run(inventory, item, example) or as_run_file(item.component.name, _inside(inventory, item, example))
    return f"{SCHEMA_LINE}\n{yaml_text(run)}"


def _run(inventory: Inventory, item: Registered, example: Mapping[str, Any]) -> dict[str, Any] | None:
    """A run file of a component with a verb of its own; None for others."""
    return example_run(inventory.host.catalogue, item.component, _portable(example), own=_DATA)


def _inside(inventory: Inventory, item: Registered, example: Mapping[str, Any]) -> dict[str, Any]:
    """A stage of the first component whose port or config takes one of this kind, which has no verbs of its own."""
    use = {"use": item.id, "config": _portable(example.get("config", {}))}
    for other in inventory.components:
        for port in other.component.requires:
            if item.component.kind in port.kinds:
                first = (*other.component.examples, {})[0]
                inputs = {**first.get("inputs", {}), port.name: {key: value for key, value in use.items() if value}}
                return _stages(inventory, other, {**first, "inputs": inputs})
        for name, field in config_model(other).model_fields.items():
            if any(isinstance(mark, InlineKind) and mark.kind == item.component.kind for mark in field.metadata):
                config = {name: {key: value for key, value in use.items() if value}}
                return _stages(inventory, other, {"config": config})
    return _asked(inventory, item.component.kind, {key: value for key, value in use.items() if value})


def _stages(inventory: Inventory, item: Registered, example: Mapping[str, Any]) -> dict[str, Any]:
    run = _run(inventory, item, example)
    assert run is not None, item.id
    stages: dict[str, Any] = run["stages"]
    return stages


def _asked(inventory: Inventory, kind: str, use: Mapping[str, Any]) -> dict[str, Any]:
    """The stage of the first verb that has a port for this kind, by the verb's own example; none where there is
    none."""
    for verb in (verb for each in inventory.kinds for verb in each.verbs if verb.examples):
        for port in verb.takes:
            if kind in port.kinds:
                stage = dict(verb.examples[0])
                inputs = {**stage.get("inputs", {}), port.name: [use] if port.many else use}
                return {verb.name: {"use": stage.pop("use"), "do": verb.name, **stage, "inputs": inputs}}
    return {}


def _portable(value: Any) -> Any:
    """The same without the folders of this machine: examples point into their own distribution."""
    if isinstance(value, Mapping):
        return {key: _portable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(part) for part in value]
    if isinstance(value, str) and re.match(r"/|[A-Za-z]:\\", value):
        return PurePath(value).name
    return value
