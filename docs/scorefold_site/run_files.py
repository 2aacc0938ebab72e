"""Run files made from the examples that components declare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from scorefold.config import InlineKind
from scorefold.plugin import Port, Verb
from scorefold_registry.components.parts import config_model
from scorefold_registry.plugins.loading import load_target
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.yaml_reader import yaml_text
from scorefold_site.inventory import Inventory

SCHEMA_LINE = "# yaml-language-server: $schema=.scorefold/schema.json"

_DATA = {"use": "data:digits"}


def example_files(inventory: Inventory, item: Registered) -> list[str]:
    """A whole run file for each example of a component, the same one once."""
    files = [_file(inventory, item, example) for example in item.component.examples or ({},)]
    return list(dict.fromkeys(files))


def _file(inventory: Inventory, item: Registered, example: Mapping[str, Any]) -> str:
    verbs = inventory.verbs(item)
    stages = _stages(inventory, item, verbs[0], example) if verbs else _inside(inventory, item, example)
    body = yaml_text({"version": 1, "name": item.component.name, "stages": stages})
    return f"{SCHEMA_LINE}\n{body}"


def _stages(inventory: Inventory, item: Registered, verb: Verb, example: Mapping[str, Any]) -> dict[str, Any]:
    """A stage of the component's own, after one for each port that nothing is plugged into yet."""
    component = item.component
    inputs = {name: _portable(value) for name, value in example.get("inputs", {}).items()}
    stages: dict[str, Any] = {}
    for port in (*component.requires, *verb.takes):
        wanted = not port.optional if not port.when else port.when in component.provides
        if wanted and port.default is None and port.name not in inputs:
            stages[port.name] = _source(inventory, port)
            inputs[port.name] = port.name
    stage = {"use": item.id, "inputs": inputs, "config": _portable(example.get("config", {}))}
    if verb.options is not None:
        fields = load_target(item, verb.options).model_fields
        stage["options"] = {name: 1000 for name, field in fields.items() if field.is_required()}
    name = "it" if component.kind in stages else component.kind
    return {**stages, name: {key: value for key, value in stage.items() if value}}


def _source(inventory: Inventory, port: Port) -> dict[str, Any]:
    """What fills a port: digits, or the first source that provides what the port needs."""
    for other in inventory.components:
        component = other.component
        if port.needs and component.kind in port.kinds and set(port.needs) <= set(component.provides):
            return {"use": other.id, "config": _portable((*component.examples, {})[0].get("config", {}))}
    return dict(_DATA)


def _inside(inventory: Inventory, item: Registered, example: Mapping[str, Any]) -> dict[str, Any]:
    """A stage of the first component whose port or config takes one of this kind, which has no verbs of its own."""
    use = {"use": item.id, "config": _portable(example.get("config", {}))}
    for other in inventory.components:
        for port in other.component.requires:
            if item.component.kind in port.kinds:
                first = (*other.component.examples, {})[0]
                inputs = {**first.get("inputs", {}), port.name: {key: value for key, value in use.items() if value}}
                return _stages(inventory, other, inventory.verbs(other)[0], {**first, "inputs": inputs})
        for name, field in config_model(other).model_fields.items():
            if any(isinstance(mark, InlineKind) and mark.kind == item.component.kind for mark in field.metadata):
                config = {name: {key: value for key, value in use.items() if value}}
                return _stages(inventory, other, inventory.verbs(other)[0], {"config": config})
    return _asked(inventory, item.component.kind, {key: value for key, value in use.items() if value})


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
