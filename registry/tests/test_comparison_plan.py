"""What a component is plugged to on a case: the case's data, choices, defaults, declared examples, at any depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scorefold.errors import ConfigError, PluginError
from scorefold.plugin import Comparison
from scorefold_registry import compare
from scorefold_registry.experiments.cases import Case, find_cases
from scorefold_registry.experiments.row_file import Choices, NotOnThisCaseError, stages_of
from scorefold_registry.experiments.rows import CaseRow, with_regrets
from scorefold_registry.host import Host

ESTIMATE = Comparison(verbs=("estimate",))
CASE = Case("here", {"use": "data:points", "config": {"count": 50}, "inputs": {}})

Stages = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def stages(fake_one: Path) -> Stages:
    host = Host.discover()

    def made(name: str, comparison: Comparison = ESTIMATE, case: Case = CASE, **choices: Any) -> Any:
        given = choices.pop("fields", {})
        choices["fields"] = {host.catalogue.resolve(name).qualified: value for name, value in given.items()}
        return stages_of(host.catalogue, host.catalogue.resolve(name), comparison, case, Choices(**choices))

    return made


def test_a_default_is_built_on_the_data_of_the_case(stages: Stages) -> None:
    assert stages("estimator:by-default") == {
        "data": {"use": "data:points", "config": {"count": 50}},
        "score-learnt": {"use": "score:learnt", "inputs": {"data": "data"}},
        "estimator-by-default": {
            "use": "estimator:by-default",
            "do": "estimate",
            "inputs": {"score": "score-learnt", "data": "data"},
        },
    }


def test_a_choice_comes_before_a_default_and_fields_reach_any_depth(stages: Stages) -> None:
    made = stages(
        "estimator:by-default",
        plugged={"score": {"use": "score:modest", "config": {"training": {"steps": 7}}}},
        fields={"score:modest": [(("training", "batch_size"), 3)], "data:points": [(("dimension",), 2)]},
    )
    assert made["score-modest"]["config"] == {"training": {"steps": 7, "batch_size": 3}}
    assert made["data"]["config"] == {"count": 50, "dimension": 2}
    assert made["estimator-by-default"]["inputs"]["score"] == "score-modest"


def test_two_of_one_component_are_two_stages_and_equal_ones_are_one(stages: Stages) -> None:
    use = [{"use": "score:learnt"}, {"use": "score:learnt", "config": {"training": {"steps": 2}}}, "score:learnt"]
    made = stages("estimator:several", plugged={"scores": use})
    assert made["estimator-several"]["inputs"]["scores"] == ["score-learnt", "score-learnt-2", "score-learnt"]
    alone = stages("estimator:several", plugged={"scores": "score:learnt"})
    assert alone["estimator-several"]["inputs"]["scores"] == ["score-learnt"]


def test_ports_of_what_is_plugged_in_are_filled_too(stages: Stages) -> None:
    made = stages("flow:wrapping", Comparison(verbs=("fit", "evaluate")), plugged={"score": "score:learnt"})
    assert list(made) == ["data", "score-learnt", "flow-wrapping", "evaluate"]
    assert made["flow-wrapping"]["inputs"] == {"score": "score-learnt", "data": "data"}
    assert made["evaluate"] == {"use": "flow-wrapping", "do": "evaluate", "inputs": {"data": "data"}}


def test_options_and_split_are_those_of_the_case(stages: Stages) -> None:
    case = Case("here", {**(CASE.data or {})}, options={"limit": 4}, split="train")
    made = stages("flow:wrapping", Comparison(verbs=("fit", "evaluate")), case, plugged={"score": "score:learnt"})
    assert made["evaluate"]["options"] == {"limit": 4}
    assert made["evaluate"]["split"] == "train"
    assert "split" not in made["flow-wrapping"]
    assert "options" not in made["flow-wrapping"]


def test_what_cannot_be_filled_is_said(stages: Stages) -> None:
    with pytest.raises(NotOnThisCaseError, match="nothing is plugged into port 'score' of estimator:plain") as caught:
        stages("estimator:plain")
    assert caught.value.hint == "--plug score=..., with a component of kind score"
    with pytest.raises(NotOnThisCaseError, match="the case 'bare' has no data"):
        stages("estimator:placed", case=Case("bare"))
    with pytest.raises(NotOnThisCaseError, match="components of kind estimator have no verb 'evaluate'"):
        stages("estimator:boaster", Comparison(verbs=("fit", "evaluate")))


def test_what_a_kind_lacks_of_the_verbs_before_the_last_is_left_out(stages: Stages) -> None:
    made = stages("estimator:boaster", Comparison(verbs=("fit", "reconstruct")))
    assert list(made) == ["data", "estimator-boaster"]
    assert made["estimator-boaster"] == {
        "use": "estimator:boaster",
        "do": "reconstruct",
        "inputs": {"data": "data"},
    }


OWN = """
from abc import ABC, abstractmethod
from scorefold.config import Config
from scorefold.stage import Outcome
from pydantic import Field
import torch

class Apprentice(ABC):
    pass

class Good(Apprentice):
    def __init__(self, config, *, helper=None):
        self.config, self.helper = config, helper

class GoodConfig(Config):
    level: float = Field(description="What it reaches")

class Options(Config):
    shots: int = 1

def score(component, inputs, options, context):
    found = component.config.level * options.shots
    answer = {"quantity": "accuracy", "value": found, "interval": [found - 1, found + 1]}
    return Outcome({"accuracy": found}, {"metrics": {"accuracy": found}, "answer": answer})

def silent(component, inputs, options, context):
    return Outcome(None)
"""

PLUGIN = """
from scorefold.errors import ConfigError
from scorefold.plugin import Comparison

@hookimpl
def scorefold_kinds():
    yield Kind(
        "apprentice",
        interface="fake_own.own:Apprentice",
        verbs=(
            Verb("score", takes=(), gives="metrics", target="fake_own.own:score", options="fake_own.own:Options"),
            Verb("silent", takes=(), gives="metrics", target="fake_own.own:silent"),
        ),
        comparison=Comparison(verbs=("score",), best="largest", cases={"one-shot": {"options": {"shots": 1}}}),
    )
    yield Kind(
        "mute",
        interface="fake_own.own:Apprentice",
        verbs=(Verb("silent", takes=(), gives="metrics", target="fake_own.own:silent"),),
        comparison=Comparison(verbs=("silent",), cases={"any": {}}),
    )

def apprentice(kind, name, level):
    return Component(
        kind=kind, name=name, target="fake_own.own:Good", config="fake_own.own:GoodConfig", summary="made for a test",
        requires=(Port("helper", kind="apprentice", optional=True),), examples=({"config": {"level": level}},),
    )

@hookimpl
def scorefold_components():
    yield apprentice("apprentice", "slow", 0.5)
    yield apprentice("apprentice", "quick", 0.75)
    yield apprentice("mute", "dumb", 0.5)
"""


@pytest.fixture
def own(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Host:
    install("fake-own", PLUGIN, files={"own.py": OWN})
    monkeypatch.setattr("scorefold_registry.experiments.output_files.draw_comparison", lambda rows: {})
    return Host.discover()


def test_a_kind_of_a_plugin_says_how_it_is_compared(own: Host) -> None:
    result = compare(own, "apprentice", out="out")
    rows = {row.component: row for row in result.rows}
    assert {row.case for row in result.rows} == {"one-shot"}
    assert result.complete
    # A field without a default has the value of the first declared example.
    assert (rows["apprentice:slow"].value, rows["apprentice:quick"].value) == (0.5, 0.75)
    assert (rows["apprentice:slow"].regret, rows["apprentice:quick"].regret) == (0.25, 0.0)
    assert rows["apprentice:quick"].quantity == "accuracy"
    assert rows["apprentice:quick"].interval == (-0.25, 1.75)


def test_options_on_the_command_line_are_a_case(own: Host) -> None:
    result = compare(own, "apprentice", on=["shots=3,one-shot"], only=["quick"], out="out")
    assert [(row.case, row.value) for row in result.rows] == [("shots=3", 2.25), ("one-shot", 0.75)]
    assert Path("out/rows/apprentice-quick-shots-3.yaml").exists()


def test_a_verb_without_an_answer_is_a_reason(own: Host) -> None:
    result = compare(own, "mute", out="out")
    assert result.rows[0].error == "the verb 'silent' gave no answer on these data"
    assert not result.complete


def test_a_declared_case_that_cannot_be_read_names_its_plugin(install: Callable[..., Path]) -> None:
    install("fake-own", PLUGIN.replace('{"any": {}}', '{"any": {"data": {}}}'), files={"own.py": OWN})
    for on in ([], ["any"]):
        with pytest.raises(
            PluginError, match="case 'any' of the kind mute of plugin 'own': unknown field 'data'"
        ) as bad:
            compare(Host.discover(), "mute", on=on, out="out")
        assert "use, config, inputs" in str(bad.value.hint)


def test_regrets_are_against_the_best_of_a_case_in_the_same_quantity() -> None:
    smallest = Comparison(verbs=("evaluate",), best="smallest")
    rows = [
        CaseRow("a", "x", value=2.0, quantity="nats"),
        CaseRow("b", "x", value=1.5, quantity="nats"),
        CaseRow("c", "x", value=9.0, quantity="bits"),
        CaseRow("a", "y", value=float("nan"), quantity="nats"),
        CaseRow("b", "y", value=4.0, quantity="nats"),
        CaseRow("c", "y", error="no"),
    ]
    found = [row.regret for row in with_regrets(rows, smallest)]
    assert found[:3] == [0.5, 0.0, 0.0]
    assert found[4:] == [0.0, None]
    assert all(row.regret is None for row in with_regrets(rows, ESTIMATE))


def test_cases_are_separated_by_the_files_they_become(fake_one: Path) -> None:
    Path("cases.yaml").write_text("a-b: {use: data:points}\n'a b': {use: data:points}\n")
    with pytest.raises(ConfigError, match="two cases are called 'a b'"):
        find_cases(Host.discover().catalogue, "estimator", ESTIMATE, ["cases.yaml"])


@pytest.mark.parametrize("truth", [None, 2.0])
def test_a_figure_speaks_of_a_truth_where_one_is_known(truth: float | None) -> None:
    from scorefold_registry.experiments.output_files import draw_comparison

    (figure,) = draw_comparison([CaseRow("a", "x", value=2.0, quantity="nats", truth=truth)]).values()
    assert ("dashed line" in figure.get_label()) == (truth is not None)
    assert len(figure.axes[0].lines) == 1 + (truth is not None)
