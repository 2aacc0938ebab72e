"""Configs and ports are checked in plain words, with the place of each fault, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scorefold.config import Config, ProcessConfig, VEConfig
from scorefold.errors import PluginError
from scorefold_registry.configs import (
    Plugged,
    Problem,
    check_config,
    check_inputs,
    config_model,
    inline_uses,
    resolve_config,
)
from scorefold_registry.fields import describe_fields
from scorefold_registry.host import Host

Install = Callable[..., Path]

PLUGIN = """
def fake(kind, name, config="Empty", **more):
    return Component(
        kind=kind, name=name, target="fake_one.impl:Thing", config=f"fake_one.config:{config}", summary="", **more
    )

@hookimpl
def scorefold_components():
    yield fake("network", "plain", "Plain")
    yield fake("network", "trained", "Plain", provides=("Trainable",))
    yield fake("network", "nesting", "Nesting")
    yield fake("score", "full", "Full", requires=(Port("data", kind="data"),), provides=("Trainable",))
    yield fake("score", "exact", requires=(Port("data", kind="data"),))
    trained = Port("score", kind="score", needs=("Trainable",))
    yield fake("flow", "wrapped", requires=(trained, Port("data", kind="data")))
    yield fake("flow", "holder", "Holder", requires=(Port("data", kind="data"),))
    yield fake("estimator", "many", requires=(
        Port("models", kind=("score", "flow"), many=True), Port("extra", kind="data", optional=True),
        Port("network", kind="network", default={"use": "network:plain"}),
    ))
    yield fake("estimator", "no-config", "Missing")
    yield fake("estimator", "wrong-config", "NotAConfig")
"""

CONFIG = """
from pathlib import Path
from typing import Any, Literal
from pydantic import Field, field_validator, model_validator
from scorefold.config import Config, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold.errors import ConfigError

class Empty(Config):
    pass

class Plain(Config):
    width: int = Field(8, ge=1, le=64, description="Hidden units")
    kind: Literal["relu", "silu"] = Field("relu", description="Activation")

class Nesting(Config):
    inner: Inline("network") = Use(use="network:plain")

class Part(Config):
    size: float = Field(1.0, gt=0, description="How large")
    part: Inline("network") | None = None

class Full(Config):
    network: Inline("network") = Use(use="network:plain")
    trained: Inline("network", needs=("Trainable",)) | None = None
    several: list[Inline("network")] = []
    named: dict[str, Inline("network")] = {}
    process: ProcessConfig = VEConfig()
    training: TrainingConfig = TrainingConfig()
    parts: list[Part] = Field((), max_length=3, description="The parts")
    auto: int | Literal["auto"] = Field("auto", description="A number, or chosen from the data")
    path: Path | None = None
    shape: tuple[int, ...] = ()
    odd: int = Field(1, description="Any odd number")

    @field_validator("odd")
    @classmethod
    def _is_odd(cls, value):
        if value == 13:
            raise RuntimeError("a validator that fails")
        if value == 15:
            raise ConfigError("not fifteen", hint="sixteen is not odd either")
        if value % 2 == 0:
            raise ValueError("even numbers have no middle")
        return value

    @model_validator(mode="after")
    def _agree(self):
        if self.odd == 9 and self.auto == 9:
            raise ValueError("odd and auto can't both be 9")
        return self

class Holder(Config):
    score: Inline("score") = Use(use="score:exact")

class NotAConfig:
    pass
"""


@pytest.fixture
def host(install: Install) -> Host:
    install("fake-one", PLUGIN, files={"config.py": CONFIG})
    return Host.discover()


def problems(host: Host, raw: Any, name: str = "score:full") -> list[Problem]:
    return check_config(host.catalogue, host.catalogue.resolve(name), raw)[1]


def problem(host: Host, raw: Any, name: str = "score:full") -> Problem:
    (found,) = problems(host, raw, name)
    return found


def test_a_good_config_has_no_problem(host: Host) -> None:
    raw = {"network": {"use": "network:plain", "config": {"width": 3}}, "process": "vp", "training": {"steps": 5}}
    config, found = check_config(host.catalogue, host.catalogue.resolve("score:full"), raw)
    assert found == []
    assert config is not None
    assert config.model_dump()["process"]["name"] == "vp"


@pytest.mark.parametrize("raw", [None, {}])
def test_no_config_is_the_default(host: Host, raw: Any) -> None:
    assert problems(host, raw) == []


def test_a_config_instance_of_the_right_model(host: Host) -> None:
    model = config_model(host.catalogue.resolve("network:plain"))
    assert check_config(host.catalogue, host.catalogue.resolve("network:plain"), model())[1] == []
    assert "takes Full" in problem(host, model()).message


@pytest.mark.parametrize(
    ("raw", "path", "code", "message"),
    [
        ({"netwrk": "network:plain"}, ("netwrk",), "unknown-field", "unknown field 'netwrk'"),
        ({"training": {"stps": 1}}, ("training", "stps"), "unknown-field", "unknown field 'training.stps'"),
        ({"parts": [{"size": 1}, {"sise": 1}]}, ("parts", 1, "sise"), "unknown-field", "unknown field 'parts[1].sise'"),
        (
            {"process": {"name": "ve", "sigma": 1}},
            ("process", "sigma"),
            "unknown-field",
            "unknown field 'process.sigma'",
        ),
        (
            {"network": {"use": "network:plain", "cfg": 1}},
            ("network", "cfg"),
            "unknown-field",
            "unknown field 'network.cfg'",
        ),
        ({"network": {"config": {}}}, ("network",), "missing-field", "the field 'use' is missing in network"),
        ({"process": {"sigma_min": 1}}, ("process",), "missing-field", "process needs the field 'name'"),
        (
            {"training": {"steps": "many"}},
            ("training", "steps"),
            "type",
            "training.steps is 'many' (text); expected a whole number",
        ),
        (
            {"training": {"steps": 1.5}},
            ("training", "steps"),
            "type",
            "training.steps is 1.5 (a number); expected a whole number",
        ),
        (
            {"training": {"steps": None}},
            ("training", "steps"),
            "type",
            "training.steps is null; expected a whole number",
        ),
        (
            {"training": {"steps": [3]}},
            ("training", "steps"),
            "type",
            "training.steps is [3] (a list); expected a whole number",
        ),
        ({"training": {"compile": "perhaps"}}, ("training", "compile"), "type", "expected true or false"),
        ({"training": 3}, ("training",), "type", "training is 3 (a number); expected a mapping of fields"),
        ({"parts": {"a": 1}}, ("parts",), "type", "parts is {'a': 1} (a mapping); expected a list"),
        ({"shape": [1, "x"]}, ("shape", 1), "type", "shape[1] is 'x' (text); expected a whole number"),
        ({"auto": "atuo"}, ("auto",), "type", "auto is 'atuo' (text); expected a whole number, or 'auto'"),
        (
            {"training": {"steps": -1}},
            ("training", "steps"),
            "range",
            "training.steps is -1 (a number); expected a number of at least 0",
        ),
        (
            {"training": {"ema": 1}},
            ("training", "ema"),
            "range",
            "training.ema is 1 (a number); expected a number below 1",
        ),
        (
            {"parts": [{"size": 0}]},
            ("parts", 0, "size"),
            "range",
            "parts[0].size is 0 (a number); expected a number above 0",
        ),
        ({"parts": [{}, {}, {}, {}]}, ("parts",), "range", "expected at most 3 entries"),
        (
            {"training": {"optimiser": "adm"}},
            ("training", "optimiser"),
            "type",
            "is 'adm' (text); expected 'adam', 'adamw' or 'sgd'",
        ),
        (
            {"process": {"name": "vee"}},
            ("process", "name"),
            "value",
            "process.name is 'vee'; expected 've', 'vp' or 'subvp'",
        ),
        ({"process": "vee"}, ("process",), "value", "process is 'vee'; expected 've', 'vp' or 'subvp'"),
        ({"odd": 2}, ("odd",), "value", "odd: even numbers have no middle"),
        ({"odd": 9, "auto": 9}, (), "value", "odd and auto can't both be 9"),
        ({"odd": 13}, (), "plugin", "checking the config of score:full failed: RuntimeError: a validator that fails"),
        ({"odd": 15}, (), "config", "not fifteen"),
        ({"network": 3}, ("network",), "type", "network is 3 (a number); expected a component of kind network"),
        ({"network": None}, ("network",), "type", "network is null; expected a component of kind network"),
        ({"network": [1]}, ("network",), "type", "network is [1] (a list); expected a component"),
        ({"network": [{"use": "network:plain"}]}, ("network",), "type", "}] (a list); expected a component of"),
        ({"trained": [{"use": "network:plain"}]}, ("trained",), "type", "}] (a list); expected a component of"),
        ([1], (), "type", "the config of score:full is [1] (a list); expected a mapping"),
    ],
)
def test_a_fault_is_said_in_plain_words_with_its_place(
    host: Host, raw: Any, path: tuple[str | int, ...], code: str, message: str
) -> None:
    found = problem(host, raw)
    assert (found.path, found.code) == (path, code)
    assert message in found.message


def test_an_unknown_field_gets_near_misses_and_all_fields_with_their_meaning(host: Host) -> None:
    hint = problem(host, {"training": {"stps": 1}}).hint or ""
    assert hint.startswith("did you mean 'steps'")
    assert "steps: Optimiser steps, over all phases" in hint
    assert "ema: Decay of the averaged weights" in hint


def test_the_fields_of_the_chosen_member_of_a_union_are_shown(host: Host) -> None:
    hint = problem(host, {"process": {"name": "vp", "beta": 1}}).hint or ""
    assert "beta_min: beta at t = 0" in hint
    assert "sigma_min" not in hint


def test_a_config_without_fields_says_so(host: Host) -> None:
    assert problem(host, {"width": 1}, "score:exact").hint == "it has no fields"


def test_a_wrong_value_gets_the_description_of_its_field(host: Host) -> None:
    assert problem(host, {"training": {"steps": "x"}}).hint == "Optimiser steps, over all phases"
    assert problem(host, {"auto": "x"}).hint == "A number, or chosen from the data"


def test_every_fault_is_reported_not_only_the_first(host: Host) -> None:
    raw = {"netwrk": 1, "training": {"steps": "x", "ema": 3}, "process": "vee", "shape": ["x"]}
    assert {item.path for item in problems(host, raw)} == {
        ("netwrk",),
        ("training", "steps"),
        ("training", "ema"),
        ("process",),
        ("shape", 0),
    }


class TestInlineComponents:
    @pytest.mark.parametrize(
        ("raw", "path", "code", "message"),
        [
            ({"network": "network:plian"}, ("network",), "unknown-component", "there is no 'network:plian'"),
            (
                {"network": {"use": "network:plian"}},
                ("network", "use"),
                "unknown-component",
                "there is no 'network:plian'",
            ),
            (
                {"network": {"use": "score:full"}},
                ("network", "use"),
                "kind",
                "network takes a component of kind network; score:full, of kind score,",
            ),
            (
                {"network": {"use": "network:plain", "config": {"widht": 2}}},
                ("network", "config", "widht"),
                "unknown-field",
                "unknown field 'widht'",
            ),
            (
                {"network": {"use": "network:plain", "config": {"width": 65}}},
                ("network", "config", "width"),
                "range",
                "width is 65 (a number); expected a number of at most 64",
            ),
            (
                {
                    "network": {
                        "use": "network:nesting",
                        "config": {
                            "inner": {
                                "use": "network:nesting",
                                "config": {"inner": {"use": "network:plain", "config": {"width": "w"}}},
                            }
                        },
                    }
                },
                ("network", "config", "inner", "config", "inner", "config", "width"),
                "type",
                "width is 'w' (text)",
            ),
            (
                {"trained": "network:plain"},
                ("trained",),
                "capability",
                "trained needs Trainable, which network:plain does not",
            ),
            (
                {"several": ["network:plain", {"use": "network:x"}]},
                ("several", 1, "use"),
                "unknown-component",
                "no 'network:x'",
            ),
            (
                {"named": {"a": {"use": "score:full"}}},
                ("named", "a", "use"),
                "kind",
                "named.a takes a component of kind network",
            ),
            (
                {"parts": [{"part": {"use": "network:x"}}]},
                ("parts", 0, "part", "use"),
                "unknown-component",
                "no 'network:x'",
            ),
            (
                {"network": {"use": "network:plain", "inputs": {"data": "data"}}},
                ("network", "inputs", "data"),
                "unknown-port",
                "unknown port 'data'",
            ),
        ],
    )
    def test_are_checked_at_any_depth(
        self, host: Host, raw: Any, path: tuple[str | int, ...], code: str, message: str
    ) -> None:
        found = next(item for item in problems(host, raw) if item.code == code)
        assert found.path == path
        assert message in found.message

    def test_with_the_capability_that_is_needed(self, host: Host) -> None:
        assert problems(host, {"trained": "network:trained", "parts": [{"part": "network:plain"}]}) == []

    def test_take_ports_from_the_component_around_them(self, host: Host) -> None:
        assert problems(host, {}, "flow:holder") == []
        assert problems(host, {"score": {"use": "score:exact", "inputs": {"data": "data"}}}, "flow:holder") == []

    @pytest.mark.parametrize(
        ("value", "path", "message"),
        [
            ("dta", ("score", "inputs", "data"), "nothing here is called 'dta'"),
            (3, ("score", "inputs", "data"), "3 (a number) can't be plugged into a port"),
            ({"use": "data:nowhere"}, ("score", "inputs", "data", "use"), "there is no 'data:nowhere'"),
            ({"uses": "data:digits"}, ("score", "inputs", "data", "uses"), "unknown field 'uses'"),
            ({"use": "network:plain"}, ("score", "inputs", "data"), "port 'data' takes a component of kind data"),
        ],
    )
    def test_have_their_ports_checked(self, host: Host, value: Any, path: tuple[str, ...], message: str) -> None:
        raw = {"score": {"use": "score:exact", "inputs": {"data": value}}}
        found = next(item for item in problems(host, raw, "flow:holder") if item.path == path)
        assert message in found.message

    def test_miss_a_port_that_nothing_around_them_has(self, host: Host) -> None:
        inner = {"use": "network:plain", "inputs": {"x": "y"}}
        first, second = problems(host, {"inner": inner}, "network:nesting")
        assert first.message == "nothing here is called 'y'"
        assert second.message == "unknown port 'x'"
        assert first.path == second.path == ("inner", "inputs", "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("estimator:no-config", "fake_one.config has no 'Missing' (plugin 'one' of fake-one 1.0)"),
        ("estimator:wrong-config", "is no scorefold.config.Config (plugin 'one' of fake-one 1.0)"),
    ],
)
def test_a_plugin_without_its_config_is_named(host: Host, name: str, message: str) -> None:
    found = problem(host, {}, name)
    assert found.code == "plugin"
    assert message in found.message


class TestInputs:
    def check(self, host: Host, name: str, given: dict[str, Any], verb: str | None = None) -> list[Problem]:
        registered = host.catalogue.resolve(name)
        kind = host.catalogue.kind(registered.component.kind)
        return check_inputs(host.catalogue, registered, kind.verb(verb), given)

    def test_what_fits(self, host: Host) -> None:
        assert self.check(host, "score:full", {"data": Plugged("data")}) == []
        assert self.check(host, "score:full", {"data": ("data", ())}) == []
        assert self.check(host, "score:full", {"data": None}) == []
        assert self.check(host, "flow:wrapped", {"score": ("score", ("Trainable",)), "data": None}) == []

    def test_an_unknown_port_gets_near_misses(self, host: Host) -> None:
        unknown = self.check(host, "score:full", {"data": None, "dta": None})[0]
        assert (unknown.path, unknown.code) == (("dta",), "unknown-port")
        assert unknown.hint == "did you mean 'data'? score:full and its verb fit takes data"

    def test_a_missing_port_says_what_would_fit(self, host: Host) -> None:
        score, data = self.check(host, "flow:wrapped", {})
        assert (score.path, score.code) == ((), "missing-port")
        assert score.message == (
            "nothing is plugged into port 'score' of flow:wrapped; "
            "it needs a component of kind score that provides Trainable"
        )
        assert "score:full" in (score.hint or "")
        assert "score:exact" not in (score.hint or "")
        assert "port 'data'" in data.message

    def test_all_faults_at_once(self, host: Host) -> None:
        found = self.check(host, "flow:wrapped", {"score": ("score", ()), "datta": None})
        assert [item.code for item in found] == ["unknown-port", "capability", "missing-port"]

    def test_a_wrong_kind_and_a_missing_capability(self, host: Host) -> None:
        kind, capability = (
            self.check(host, "flow:wrapped", {"score": Plugged(*what), "data": None})[0]
            for what in (("flow", ("Trainable",), "stage 'a'"), ("score", ("Encodes",), "stage 'b'"))
        )
        assert kind.path == ("score",)
        assert (
            kind.message == "port 'score' takes a component of kind score; stage 'a', of kind flow, is plugged into it"
        )
        assert capability.message == "port 'score' needs Trainable, which stage 'b' does not provide"
        assert capability.hint == "it provides Encodes"

    def test_several_in_a_port(self, host: Host) -> None:
        several = [Plugged("score"), Plugged("data"), None, Plugged("flow")]
        (found,) = self.check(host, "estimator:many", {"models": several, "data": None})
        assert found.path == ("models", 1)
        (found,) = self.check(host, "score:full", {"data": [Plugged("data"), Plugged("data")]})
        assert found.message == "port 'data' takes one component of kind data; 2 are there"

    def test_optional_and_default_ports_may_be_left_out(self, host: Host) -> None:
        (found,) = self.check(host, "estimator:many", {"models": []})
        assert found.message.startswith("nothing is plugged into port 'data'")

    def test_when_a_port_is_needed_for_a_capability(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        kind = host.catalogue.kind("score")
        verb = kind.verb("fit")
        assert verb is not None
        assert any(port.when == "Trainable" for port in verb.takes)
        (found,) = check_inputs(host.catalogue, registered, verb, {})
        assert found.code == "missing-port"

    def test_a_verb_that_the_component_cannot_do(self, host: Host) -> None:
        found = self.check(host, "score:full", {"data": None}, "encode")[0]
        assert (found.path, found.code) == ((), "capability")
        assert found.message == "score:full can't encode: that needs Encodes"


class TestResolving:
    def test_defaults_are_written_out_and_revisions_pinned(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        raw = {
            "network": {"use": "network:nesting"},
            "named": {"a": "network:plain"},
            "path": "x/y",
            "parts": [{"part": "network:plain"}],
        }
        config, found = check_config(host.catalogue, registered, raw)
        assert config is not None
        assert found == []
        resolved = resolve_config(host.catalogue, config)
        plain = {"use": "network:plain@1", "config": {"width": 8, "kind": "relu"}, "inputs": {}}
        assert resolved["network"] == {"use": "network:nesting@1", "config": {"inner": plain}, "inputs": {}}
        assert resolved["named"] == {"a": plain}
        assert resolved["parts"] == [{"size": 1.0, "part": plain}]
        assert resolved["path"] == "x/y"
        assert resolved["trained"] is None
        assert resolved["training"]["steps"] == 4000

    def test_resolving_again_changes_nothing(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        config, _ = check_config(host.catalogue, registered, {"network": "network:nesting"})
        assert config is not None
        resolved = resolve_config(host.catalogue, config)
        again, found = check_config(host.catalogue, registered, resolved)
        assert again is not None
        assert found == []
        assert resolve_config(host.catalogue, again) == resolved

    def test_an_inline_component_with_a_fault_can_not_be_resolved(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        config, _ = check_config(host.catalogue, registered, {"network": {"use": "network:plain", "config": {"w": 1}}})
        assert config is not None
        with pytest.raises(PluginError, match="network:plain: unknown field 'w'"):
            resolve_config(host.catalogue, config)

    def test_inline_components_with_their_places(self, host: Host) -> None:
        raw = {"several": ["network:plain", "network:nesting"], "trained": "network:trained"}
        config, _ = check_config(host.catalogue, host.catalogue.resolve("score:full"), raw)
        assert config is not None
        assert [(item.path, item.value.use, item.needs) for item in inline_uses(config)] == [
            (("network",), "network:plain", ()),
            (("trained",), "network:trained", ("Trainable",)),
            (("several", 0), "network:plain", ()),
            (("several", 1), "network:nesting", ()),
        ]


def test_fields_are_described_in_words(host: Host) -> None:
    fields = {item["name"]: item for item in describe_fields(config_model(host.catalogue.resolve("score:full")))}
    assert fields["network"]["type"] == "a component of kind network"
    assert fields["training.ema"]["type"] == "a number or null, above 0, below 1"
    assert fields["auto"]["type"] == "a whole number or 'auto'"
    assert fields["parts"]["type"] == "a list of a mapping, at most 3 entries"
    assert fields["path"]["type"] == "a path or null"
    assert fields["training.steps"]["default"] == 4000
    assert fields["training.steps"]["description"] == "Optimiser steps, over all phases"


def test_the_fields_of_every_model_that_may_stand_in_a_field_are_described() -> None:
    class Diffusing(Config):
        process: ProcessConfig = VEConfig()

    fields = {item["name"]: item for item in describe_fields(Diffusing)}
    assert list(fields)[:3] == ["process", "process[ve].sigma_min", "process[ve].sigma_max"]
    assert fields["process[vp].beta_max"]["default"] == 20.0
    assert not any(name.endswith("].name") for name in fields)


def test_checking_imports_no_torch(tmp_path: Path) -> None:
    script = """
import sys
from scorefold_registry import Host
from scorefold_registry.configs import Plugged, check_config, check_inputs, resolve_config
host = Host.discover()
for item in host.components():
    check_config(host.catalogue, item, {"nonsense": 1})
    config, problems = check_config(host.catalogue, item, item.component.examples[0].get("config")) if (
        item.component.examples) else check_config(host.catalogue, item, None)
    if config is not None:
        resolve_config(host.catalogue, config)
    for verb in (None, *host.catalogue.kind(item.component.kind).verbs):
        check_inputs(host.catalogue, item, verb, {"data": Plugged("score")})
print(sorted({"torch", "numpy", "sklearn", "matplotlib"} & set(sys.modules)), len(host.components()) > 20)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[] True"
