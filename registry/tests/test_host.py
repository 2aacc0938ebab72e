"""Components created: configs and ports checked, plugins held to their word, no global random state touched."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import DataSpec, EventScale
from scorefold.errors import ConfigError, DataError, PluginError
from scorefold.interfaces import TensorSource
from scorefold_registry.host import Host


@pytest.fixture
def host(fake_one: Path) -> Host:
    return Host.discover()


@pytest.fixture
def points(host: Host) -> Any:
    return host.create("data:points")


class TestCreating:
    def test_a_component_with_its_ports(self, host: Host, points: Any) -> None:
        score = host.create("score:learnt", data=points)
        estimator = host.create("estimator:plain", score=score)
        assert score.event_shape == (3,)
        assert estimator.score is score

    def test_a_config_as_mapping_or_instance(self, host: Host) -> None:
        made = host.create("data:points", {"count": 4, "dimension": 2})
        assert made.load("train").x.shape == (4, 2)
        assert host.create("data:points", made.config).load("train").x.shape == (4, 2)

    def test_ports_named_inline(self, host: Host) -> None:
        score = {"use": "score:learnt", "inputs": {"data": {"use": "data:points", "config": {"dimension": 5}}}}
        assert host.create("estimator:plain", score=score).score.event_shape == (5,)
        assert host.create("score:learnt", data="data:points").event_shape == (3,)

    def test_several_in_a_port(self, host: Host, points: Any) -> None:
        one = host.create("score:learnt", data=points)
        several = host.create("estimator:several", scores=[one, {"use": "score:learnt", "inputs": {"data": points}}])
        assert several.scores[0] is one
        assert several.scores[1].event_shape == (3,)

    def test_a_default_port_takes_its_own_ports_from_beside_it(self, host: Host, points: Any) -> None:
        made = host.create("estimator:by-default", data=points)
        assert made.score.event_shape == (3,)
        assert made.extra is None

    def test_inline_components_of_a_config_are_built_at_any_depth(self, host: Host, points: Any) -> None:
        linear = {"use": "network:linear", "config": {"scale": 3.0}}
        config = {"score": {"use": "score:learnt", "config": {"network": linear}}, "others": ["score:learnt"] * 2}
        made = host.create("estimator:holding", config, data=points)
        assert made.config.score.event_shape == (3,)
        assert [other.event_shape for other in made.config.others] == [(3,), (3,)]
        assert type(made.config.score.network) is torch.nn.Linear

    def test_an_inline_component_that_is_built_already(self, host: Host, points: Any) -> None:
        network = host.create("network:linear")
        score = host.create("score:learnt", {"network": network}, data=points)
        assert isinstance(score.network, torch.nn.Linear)

    def test_a_spec_stands_for_data_unless_the_data_are_read(self, host: Host) -> None:
        spec = DataSpec((4,), EventScale(mean=1.5))
        assert host.create("score:learnt", data=spec).mean == 1.5
        with pytest.raises(ConfigError, match="this is a DataSpec"):
            host.create("score:whole", data=spec)

    def test_a_state_is_loaded_once_created(self, host: Host, points: Any) -> None:
        host.create("score:learnt", data=points)
        states = {item.id: item.state for item in host.components() if item.distribution == "fake-one"}
        assert states["score:learnt"] == "loaded"
        assert states["estimator:plain"] == "registered"
        assert next(item.state for item in host.plugins if item.distribution == "fake-one") == "loaded"


class TestRefusing:
    @pytest.mark.parametrize(
        ("name", "config", "ports", "message"),
        [
            ("data:points", {"cuont": 3}, {}, "the config of data:points: unknown field 'cuont'"),
            ("data:points", {"count": 0}, {}, "count is 0 (a number); expected a number of at least 1"),
            ("data:points", {"count": "a", "dimension": "b"}, {}, "the config of data:points: 2 things are wrong"),
            ("score:learnt", {}, {}, "nothing is plugged into port 'data' of score:learnt"),
            ("score:learnt", {}, {"dta": "data:points"}, "unknown port 'dta'"),
            ("score:learnt", {}, {"data": "network:linear"}, "takes a component of kind data; this is a LinearBuilder"),
            (
                "score:learnt",
                {},
                {"data": 3},
                "port 'data' of score:learnt takes a component of kind data; this is an int",
            ),
            ("score:learnt", {}, {"data": torch.zeros(3, 2)}, "this is a Tensor"),
            ("score:learnt", {"network": 3}, {"data": "data:points"}, "network is 3 (a number); expected a component"),
            ("score:learnt", {"network": torch}, {"data": "data:points"}, "network takes a component of kind network"),
            (
                "score:learnt",
                {"network": "data:points"},
                {"data": "data:points"},
                "data:points, of kind data, is plugged",
            ),
            ("estimator:several", {}, {"scores": 3}, "takes a list; an int is plugged into it"),
            ("estimator:several", {}, {"scores": [3]}, "port 'scores' of estimator:several, entry 0, takes"),
            ("score:learnt", {}, {"data": "data:pints"}, "there is no 'data:pints'"),
        ],
    )
    def test_what_does_not_fit(
        self, host: Host, name: str, config: dict[str, Any], ports: dict[str, Any], message: str
    ) -> None:
        with pytest.raises((ConfigError, PluginError)) as caught:
            host.create(name, config, **ports)
        assert message in caught.value.message

    def test_tensors_are_refused_with_how_to_become_a_source(self, host: Host) -> None:
        with pytest.raises(ConfigError) as caught:
            host.create("score:learnt", data=torch.zeros(3, 2))
        assert "TensorSource" in (caught.value.hint or "")
        assert host.create("score:learnt", data=TensorSource(torch.randn(3, 2))).event_shape == (2,)

    def test_a_capability_that_is_missing(self, host: Host, points: Any) -> None:
        whole = host.create("score:whole", data=points)
        with pytest.raises(ConfigError, match="needs Trainable, which a Whole does not provide"):
            host.create("estimator:trained", score=whole)
        with pytest.raises(ConfigError, match=r"others\[0\] needs Trainable, which a Whole"):
            host.create("estimator:holding", {"others": [whole]}, data=points)


class TestPluginsThatBreakTheirWord:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("estimator:no-estimator", "fake_one.impl:NoEstimator is no Estimator (plugin 'one' of fake-one 1.0)"),
            ("estimator:boaster", "says that it provides Encodes, but fake_one.impl:Boaster does not derive from it"),
            ("estimator:failing", "failed: ZeroDivisionError: of all things (plugin 'one' of fake-one 1.0)"),
            ("estimator:absent", "fake_one.impl has no 'Absent' (plugin 'one' of fake-one 1.0)"),
            ("estimator:unimportable", "No module named 'no_such_module_anywhere' (plugin 'one' of fake-one 1.0)"),
        ],
    )
    def test_are_named(self, host: Host, name: str, message: str) -> None:
        with pytest.raises(PluginError) as caught:
            host.create(name)
        assert message in caught.value.message

    def test_the_plugins_own_line_is_given(self, host: Host) -> None:
        with pytest.raises(PluginError) as caught:
            host.create("estimator:unimportable")
        assert "fake_one/heavy.py:3 in <module>" in (caught.value.hint or "")
        assert "no_such_module_anywhere is not installed: pip install --upgrade fake-one" in (caught.value.hint or "")
        with pytest.raises(PluginError) as caught:
            host.create("estimator:failing")
        assert "in __init__" in (caught.value.hint or "")

    def test_only_the_component_is_broken(self, host: Host, points: Any) -> None:
        with pytest.raises(PluginError):
            host.create("estimator:unimportable")
        assert host.catalogue.resolve("estimator:unimportable").state == "broken"
        (warning,) = next(item.warnings for item in host.plugins if item.distribution == "fake-one")
        assert "no_such_module_anywhere" in warning
        assert host.create("score:learnt", data=points).event_shape == (3,)

    def test_errors_for_people_pass_as_they_are(self, host: Host) -> None:
        with pytest.raises(DataError, match="too few points"):
            host.create("estimator:refusing")

    def test_a_capability_that_is_not_declared_is_noted(self, host: Host, points: Any) -> None:
        host.create("score:modest", data=points)
        host.create("score:modest", data=points)
        warnings = next(item.warnings for item in host.plugins if item.distribution == "fake-one")
        assert warnings == ["score:modest can do Trainable but does not declare it in 'provides'"]


class TestRandomness:
    def test_the_same_generator_gives_the_same_parameters(self, host: Host, points: Any) -> None:
        one, same, other = (
            host.create("score:learnt", data=points, generator=torch.Generator().manual_seed(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(one.network.weight, same.network.weight)
        assert not torch.equal(one.network.weight, other.network.weight)

    def test_a_generator_moves_on(self, host: Host, points: Any, generator: torch.Generator) -> None:
        one, two = (host.create("score:learnt", data=points, generator=generator) for _ in range(2))
        assert not torch.equal(one.network.weight, two.network.weight)

    def test_without_a_generator_the_result_is_fixed(self, host: Host, points: Any) -> None:
        one = host.create("score:learnt", data=points)
        torch.manual_seed(17)
        assert torch.equal(one.network.weight, host.create("score:learnt", data=points).network.weight)
        assert host.create("data:points").seed == 0

    def test_parts_built_along_have_seeds_of_their_own(self, host: Host, generator: torch.Generator) -> None:
        inline = {"use": "score:learnt", "inputs": {"data": "data:points"}}
        one, two = host.create("estimator:several", scores=[inline, inline], generator=generator).scores
        assert not torch.equal(one.network.weight, two.network.weight)

    def test_no_global_state_is_touched(self, host: Host, generator: torch.Generator) -> None:
        before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]
        host.create("estimator:plain", score={"use": "score:learnt", "inputs": {"data": "data:points"}})
        host.create("data:points", generator=generator)
        with pytest.raises(PluginError):
            host.create("estimator:failing", generator=generator)
        assert torch.equal(torch.get_rng_state(), before)
        assert np.array_equal(np.random.get_state()[1], numpy_before)


class TestPlacing:
    def test_modules_move_to_a_dtype(self, host: Host, points: Any) -> None:
        score = host.create("score:learnt", data=points, dtype=torch.float64)
        assert score.network.weight.dtype == torch.float64

    def test_a_constructor_gets_what_it_asks_for(self, host: Host, generator: torch.Generator) -> None:
        placed = host.create("estimator:placed", generator=generator, device="cpu", dtype=torch.float64)
        assert isinstance(placed.generator, torch.Generator)
        assert (placed.device, placed.dtype) == ("cpu", torch.float64)
        assert host.create("estimator:placed").generator is None


def test_objects_are_not_kept_alive(host: Host) -> None:
    host.create("data:points")
    gc.collect()
    assert host.builder.memory.of(host.create("data:points")) is not None
    gc.collect()
    assert len(host.builder.memory) == 0


def test_two_hosts_know_nothing_of_each_other(host: Host, points: Any) -> None:
    other = Host.discover(deny=["fake-one"])
    assert other.builder.memory.of(points) is None
    with pytest.raises(PluginError, match="there is no 'data:points'"):
        other.create("data:points")


def test_a_host_imports_torch_only_to_create(tmp_path: Path) -> None:
    script = """
import sys
from scorefold_registry import Host
host = Host.discover()
host.components("score"); host.hook; host.catalogue.resolve("data:sphere")
print("torch" in sys.modules, "pydantic" in sys.modules)
host.create("data:sphere")
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "True"], done.stderr


TAKEN = """
import torch
from torch import nn

from scorefold.config import Config
from scorefold.diffusion import VE
from scorefold.interfaces import Estimator, ScoreModel


class NoConfig(Config):
    "Nothing to set."


class Moved(ScoreModel):
    def __init__(self, config):
        super().__init__(VE(), (3,))
        self.to = {value}

    def score(self, x, t, condition=None):
        return -x


class Fixed(Estimator):
    def __init__(self, config):
        self.estimate = 3.0

    def estimate(self, data, *, generator=None):
        raise NotImplementedError
"""

DECLARED = """
@hookimpl
def scorefold_components():
    for kind, name, target in (("score", "moved", "Moved"), ("estimator", "fixed", "Fixed")):
        here = {"target": f"fake_taken.impl:{target}", "config": "fake_taken.impl:NoConfig", "summary": "taken"}
        yield Component(kind, name, **here)
"""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("score:moved", "3.0", "score:moved sets self.to to a float: to is reserved, a method of torch.nn.Module that"),
        (
            "score:moved",
            "nn.Linear(1, 1)",
            "score:moved sets self.to to a Linear: to is reserved, a method of torch.nn",
        ),
        (
            "score:moved",
            "nn.Parameter(torch.ones(1))",
            "to is reserved, a method of torch.nn.Module: call the attribute otherwise",
        ),
        ("estimator:fixed", "3.0", "sets self.estimate to a float: estimate is reserved, a method of Estimator that"),
    ],
)
def test_an_attribute_that_is_a_method_of_its_class_is_named(
    install: Callable[..., Path], name: str, value: str, said: str
) -> None:
    install("fake-taken", DECLARED, files={"impl.py": TAKEN.replace("{value}", value)})
    with pytest.raises(PluginError) as refused:
        Host.discover().create(name)
    assert said in str(refused.value)
    assert "fake-taken" in str(refused.value)


@pytest.mark.parametrize(
    ("drawn", "refused"),
    [
        ("seeded", True),
        ("with torch.random.fork_rng():\n            seeded", False),
        ("if not hasattr(nn, 'imported_once'):\n            nn.imported_once = seeded", False),
    ],
)
def test_a_constructor_that_seeds_torch_is_named(
    drawn: str, refused: bool, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights would be the same for every seed of a run; within ``fork_rng`` it says that it wants that. What
    happens once, as imports do, may seed torch.
    """
    line = "self.weight = {value}"
    body = TAKEN.replace("self.to = {value}", line).replace(line, drawn.replace("seeded", "torch.manual_seed(0)"))
    install("fake-taken", DECLARED, files={"impl.py": body})
    monkeypatch.setattr(torch.nn, "imported_once", None, raising=False)
    monkeypatch.delattr(torch.nn, "imported_once")
    if not refused:
        assert Host.discover().create("score:moved").event_shape == (3,)
        return
    with pytest.raises(PluginError, match="constructor of score:moved seeds torch's generator") as error:
        Host.discover().create("score:moved", generator=torch.Generator())
    assert "may be the same for every seed of a run (plugin 'taken'" in str(error.value)
    assert "torch.random.fork_rng" in str(error.value)
