"""What the plugin declares is there, agrees with its classes, and costs no heavy import."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scorefold_standard
from scorefold.config import Config
from scorefold.plugin import CORE_KINDS, Component
from scorefold_registry import Host
from scorefold_standard.plugin import scorefold_components

COMPONENTS = list(scorefold_components())
KINDS = {kind.name: kind for kind in CORE_KINDS}


def resolve(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def test_names_are_unique() -> None:
    ids = [component.id for component in COMPONENTS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.id)
def test_declaration_agrees_with_the_classes(component: Component, host: Host) -> None:
    target, config = resolve(component.target), resolve(component.config)
    assert issubclass(config, Config)
    assert issubclass(target, resolve(KINDS[component.kind].interface))
    able = {name for name, capability in host.capabilities().items() if issubclass(target, capability)}
    assert able == set(component.provides)
    assert component.summary
    assert len(component.summary) < 100
    for name, field in config.model_fields.items():
        assert field.description, f"{component.id}: {name} has no description"
    if component.cite is not None:
        assert (Path(scorefold_standard.__file__).parent / component.cite).is_file()


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.id)
def test_every_component_has_an_example_that_builds_and_works(component: Component, host: Host) -> None:
    assert component.examples
    for example in component.examples:
        built = host.create(component.id, example.get("config"), **example.get("inputs", {}))
        if component.kind == "data":
            assert len(built.load("train")) > len(built.load("test")) > 0
            assert built.load("test").event_shape == built.event_shape
        elif component.kind == "score":
            x, t = torch.randn(2, *built.event_shape), torch.full((2,), built.process.t_max / 2)
            assert bool(built.score(x, t).isfinite().all())
        elif component.kind == "flow":
            x = torch.randn(2, *built.event_shape)
            torch.testing.assert_close(built.inverse(built(x)[0])[0], x, atol=1e-4, rtol=1e-4)
        elif component.kind == "network":
            shape = (1, 32) if component.name.startswith("signal") else (1, 8, 8)
            assert built.build(shape, shape)(torch.randn(2, *shape)).shape == (2, *shape)


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


EQUAL = [component for component in COMPONENTS if component.any_threads]


@pytest.mark.parametrize("component", EQUAL, ids=lambda c: c.id)
def test_data_are_equal_to_the_bit_for_any_number_of_threads(component: Component, host: Host, tmp_path: Path) -> None:
    """As many points as are split over threads."""
    size = "length" if component.name in ("lorenz", "pulses") else "points"
    config = {**component.examples[0]["config"], size: 40_000}
    if component.name in ("array", "series"):
        np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((40_000, 20)) + 5)
        further = {"scale": "robust"} if component.name == "array" else {"window": 32}
        config = {"path": str(tmp_path / "x.npy"), **further}
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            source = host.create(component.id, config)
            found.append((source.load("train").x, source.event_scale, source.summary()))
    finally:
        torch.set_num_threads(before)
    for x, scale, summary in found[1:]:
        assert torch.equal(x, found[0][0])
        assert (scale, summary) == found[0][1:]
