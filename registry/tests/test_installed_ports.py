"""Ports that take what is installed: whatever needs nothing plugged in joins, by name, and is part of a stage's key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.errors import PluginError
from scorefold.plugin import Port
from scorefold_registry.experiments.cases import Case
from scorefold_registry.experiments.row_file import Choices, stages_of
from scorefold_registry.host import Host
from scorefold_registry.run.keys import key_of
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

Install = Callable[..., Path]

PLUGIN = """
def component(name, **rest):
    return Component(
        kind="estimator", name=name, target="several_parts.impl:Part", config="several_parts.config:PartConfig",
        summary="A part", **rest,
    )


@hookimpl
def scorefold_components():
    yield component("first")
    yield component("second")
    yield component("of-score", requires=(Port("score", kind="score"),))
    yield Component(
        kind="estimator", name="needy", target="several_parts.impl:Part", config="several_parts.config:NeedyConfig",
        summary="One whose config has no default",
    )
    yield Component(
        kind="estimator", name="whole", target="several_parts.impl:Whole", config="several_parts.config:WholeConfig",
        summary="All of them",
        requires=(Port("parts", kind="estimator", many=True, optional=True, installed=True),),
        examples=({"inputs": {"parts": ["estimator:first"]}},),
    )
    yield Component(
        kind="data", name="few", target="several_parts.impl:Few", config="several_parts.config:WholeConfig",
        summary="A few points",
    )
"""
FILES = {
    "config.py": """
        from scorefold.config import Config

        class PartConfig(Config):
            size: int = 1

        class NeedyConfig(Config):
            size: int

        class WholeConfig(Config):
            pass
    """,
    "impl.py": """
        import torch
        from scorefold.interfaces import Estimator, TensorSource
        from scorefold.results import Estimate

        class Part(Estimator):
            def __init__(self, config):
                self.config = config

            def estimate(self, data, *, generator=None):
                return Estimate("size", float(self.config.size))

        class Whole(Estimator):
            def __init__(self, config, parts, *, port_names):
                self.parts, self.names = parts, port_names["parts"]

            def estimate(self, data, *, generator=None):
                return Estimate("size", sum(part.estimate(data).value for part in self.parts))

        class Few(TensorSource):
            def __init__(self, config):
                super().__init__({"train": torch.zeros(3, 2), "test": torch.zeros(3, 2)})
    """,
}
RUN = "version: 1\nname: r\nstages:\n  d: {use: data:few}\n  w: {use: estimator:whole, inputs: {data: d}}\n"


@pytest.fixture
def several(install: Install) -> Host:
    install("several-parts", PLUGIN, files=FILES)
    return Host.discover(allow=["parts", "verbs"])


def test_what_needs_nothing_plugged_in_joins_by_name(several: Host) -> None:
    whole = several.create("estimator:whole")
    assert whole.names == ["first", "second"]
    assert whole.estimate(torch.zeros(2, 2)).value == 2


def test_what_is_given_is_taken_instead_and_equal_names_are_numbered(several: Host) -> None:
    parts = [several.create("estimator:first"), {"use": "estimator:first", "config": {"size": 5}}, "estimator:needy"]
    with pytest.raises(Exception, match="size"):
        several.create("estimator:whole", parts=parts)
    whole = several.create("estimator:whole", parts=parts[:2])
    assert whole.names == ["first", "first-2"]
    assert whole.estimate(torch.zeros(2, 2)).value == 6


def test_a_plan_lists_them_and_the_key_covers_them(several: Host, tmp_path: Path) -> None:
    def key(text: str) -> str:
        file = tmp_path / "run.yaml"
        file.write_text(text)
        plan = make_plan(several.catalogue, read(file))
        stage = plan.stages[-1]
        uses.append([part["use"] for part in stage.as_json(several.catalogue)["inputs"]["parts"]])
        return key_of(several, stage, lambda name: name, [], {})

    uses: list[Any] = []
    all_of_them = key(RUN)
    one = key(RUN.replace("data: d}", "data: d, parts: [estimator:first]}"))
    both = key(RUN.replace("data: d}", "data: d, parts: [estimator:first, estimator:second]}"))
    assert uses[0] == ["estimator:first@1", "estimator:second@1"]
    assert all_of_them == both != one


def test_a_comparison_takes_all_and_not_those_of_the_example(several: Host) -> None:
    case = Case("few", {"use": "data:few", "config": {}, "inputs": {}})
    kind = several.catalogue.kind("estimator")
    assert kind.comparison is not None
    made = stages_of(several.catalogue, several.catalogue.resolve("estimator:whole"), kind.comparison, case, Choices())
    assert "parts" not in made["estimator-whole"]["inputs"]


def test_only_an_optional_list_can_be_of_what_is_installed() -> None:
    with pytest.raises(PluginError, match="port 'parts' is installed=True; expected many=True and optional=True"):
        Port("parts", kind="estimator", installed=True)
    with pytest.raises(PluginError, match="'port_names', which is reserved"):
        Port("port_names", kind="estimator")
