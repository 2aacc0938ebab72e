"""What the plugin declares is there, agrees with its classes, and costs no heavy import."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scorefold_standard
from scorefold.config import Config
from scorefold.interfaces.capabilities import CAPABILITIES
from scorefold.kinds import CORE_KINDS
from scorefold.plugin import Component
from scorefold_standard.plugin import scorefold_components

COMPONENTS = list(scorefold_components())
KINDS = {kind.name: kind for kind in CORE_KINDS}


def resolve(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def build(reference: dict[str, Any], component: Component | None = None) -> Any:
    """An object from an example or an inline component, its ports built first."""
    component = component or next(c for c in COMPONENTS if c.id == reference["use"])
    ports = {name: build(inner) for name, inner in reference.get("inputs", {}).items()}
    for port in component.requires:
        if port.name not in ports and port.default is not None:
            ports[port.name] = build(dict(port.default))
    return resolve(component.target)(resolve(component.config).model_validate(reference.get("config", {})), **ports)


def test_names_are_unique() -> None:
    ids = [component.id for component in COMPONENTS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.id)
def test_declaration_agrees_with_the_classes(component: Component) -> None:
    target, config = resolve(component.target), resolve(component.config)
    assert issubclass(config, Config)
    assert issubclass(target, resolve(KINDS[component.kind].interface))
    assert {name for name, capability in CAPABILITIES.items() if issubclass(target, capability)} == set(
        component.provides
    )
    assert component.summary
    assert len(component.summary) < 100
    for name, field in config.model_fields.items():
        assert field.description, f"{component.id}: {name} has no description"
    if component.cite is not None:
        assert (Path(scorefold_standard.__file__).parent / component.cite).is_file()


@pytest.mark.parametrize(
    "component", [c for c in COMPONENTS if c.kind in ("data", "estimator", "geometry", "allocator")], ids=lambda c: c.id
)
def test_examples_build(component: Component) -> None:
    assert component.examples
    for example in component.examples:
        built = build(dict(example), component)
        if component.kind == "data":
            assert len(built.load("train")) > len(built.load("test")) > 0
            assert built.load("test").event_shape == built.event_shape


def test_listing_imports_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys; from scorefold_standard.plugin import scorefold_components; list(scorefold_components()); "
        "print(sorted({'torch', 'pydantic', 'numpy', 'skdim', 'pandas'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("module", sorted({c.config.split(":")[0] for c in COMPONENTS}))
def test_configs_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
