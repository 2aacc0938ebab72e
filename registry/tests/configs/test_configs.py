"""Configs are checked in plain words, with the place of each fault, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checked_configs import problem, problems
from pydantic import Field, ValidationError, model_validator

from scorefold.config import Config, ProcessConfig, VEConfig
from scorefold_registry.components.fields import describe_fields
from scorefold_registry.components.messages import Problem, config_problems
from scorefold_registry.components.parts import check_config, config_model
from scorefold_registry.host import Host

Install = Callable[..., Path]


def test_a_good_config_has_no_problem(host: Host) -> None:
    raw = {"network": {"use": "network:plain", "config": {"width": 3}}, "process": "vp", "training": {"steps": 5}}
    config, found = check_config(host.catalogue, host.catalogue.resolve("score:full"), raw)
    assert found == []
    assert config is not None
    assert config.model_dump()["process"]["name"] == "vp"


def test_a_wrong_entry_of_a_list_is_the_only_problem(host: Host) -> None:
    lorenz = host.catalogue.resolve("data:lorenz")
    (found,) = check_config(host.catalogue, lorenz, {"columns": ["w"]})[1]
    assert found.message == "columns[0] is 'w' (text); expected 'x', 'y' or 'z'"
    (found,) = check_config(host.catalogue, lorenz, {"columns": []})[1]
    assert found.message == "columns is [] (a list); expected at least 1 entries"


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
            "process.name is 'vee'; expected 've', 'vp', 'subvp', 'log-snr', 'cosine' or 'edm'",
        ),
        (
            {"process": "vee"},
            ("process",),
            "value",
            "process is 'vee'; expected 've', 'vp', 'subvp', 'log-snr', 'cosine' or 'edm'",
        ),
        ({"odd": 2}, ("odd",), "value", "odd: even numbers have no middle"),
        ({"odd": 9, "auto": 9}, (), "value", "odd and auto can't both be 9"),
        ({"odd": 13}, (), "plugin", "checking the config of score:full failed: RuntimeError: a validator that fails"),
        ({"odd": 17}, (), "plugin", "checking the config of score:full failed: SystemExit: 0"),
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


def test_a_wrong_default_is_a_fault_of_the_plugin() -> None:
    class Inner(Config):
        size: int = Field("large")  # type: ignore[arg-type]

    class Outer(Config):
        width: int = Field("ten")  # type: ignore[arg-type]
        inner: Inner = Field({"size": -0.5})  # type: ignore[arg-type]
        given: Inner

    def found(raw: dict[str, Any]) -> list[Problem]:
        with pytest.raises(ValidationError) as error:
            Outer.model_validate(raw)
        return config_problems(Outer, error.value, raw)

    width, inner, given = found({"given": {}})
    outer, name = f"{__name__}.{Outer.__qualname__}", f"{__name__}.{Inner.__qualname__}"
    assert (width.path, width.code) == ((), "plugin")
    assert width.message == f"{outer} has a wrong default: width is 'ten' (text); expected a whole number"
    assert width.hint == f"correct the default of width in {outer}; until then, set width"
    assert inner.message == f"{outer} has a wrong default: inner.size is -0.5 (a number); expected a whole number"
    assert (given.path, given.hint) == (
        ("given",),
        f"correct the default of given.size in {name}; until then, set given.size",
    )
    (wrong,) = found({"width": 1, "inner": {"size": 1}, "given": {"size": "x"}})
    assert (wrong.path, wrong.code) == (("given", "size"), "type")


def test_a_value_that_a_validator_writes_is_no_default() -> None:
    class Renamed(Config):
        width: int = 3

        @model_validator(mode="before")
        @classmethod
        def _old_name(cls, raw: Any) -> Any:
            return {"width": raw["size"]} if "size" in raw else raw

    with pytest.raises(ValidationError) as error:
        Renamed.model_validate({"size": "x"})
    (found,) = config_problems(Renamed, error.value, {"size": "x"})
    assert (found.path, found.code) == ((), "type")


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


def test_fields_are_described_in_words(host: Host) -> None:
    fields = {item["name"]: item for item in describe_fields(config_model(host.catalogue.resolve("score:full")))}
    assert fields["network"]["type"] == "a component of kind network"
    assert fields["training.ema"]["type"] == "a number or null, above 0, below 1"
    assert fields["auto"]["type"] == "a whole number or 'auto'"
    assert fields["parts"]["type"] == "a list, each a mapping, at most 3 entries"
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
from scorefold_registry.components.messages import Problem, config_problems
from scorefold_registry.components.parts import check_config, read_config
from scorefold_registry.components.ports import PortOffer, check_inputs
host = Host.discover()
for item in host.components():
    check_config(host.catalogue, item, {"nonsense": 1})
    example = item.component.examples[0].get("config") if item.component.examples else None
    part = read_config(host.catalogue, item, example).part(host.catalogue, {})
    if part is not None:
        part.as_json(host.catalogue)
    for verb in (None, *host.catalogue.kind(item.component.kind).verbs):
        check_inputs(host.catalogue, item, verb, {"data": PortOffer("score")})
print(sorted({"torch", "numpy", "sklearn", "matplotlib"} & set(sys.modules)), len(host.components()) > 20)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[] True"
