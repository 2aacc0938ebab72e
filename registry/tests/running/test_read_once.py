"""A run file's components are read once: planner, builder, keys and citations visit the same parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from scorefold_registry.components import parts
from scorefold_registry.components.parts import Part, names_in, parts_in, with_values
from scorefold_registry.host import Host
from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.citations import citations
from scorefold_registry.runfile.plan import Plan

RUN = """version: 1
name: nested
stages:
  data: {use: data:tiny, config: {points: 20}}
  score: {use: score:tiny, inputs: {data: data}}
  inline: {use: estimator:tiny-mean, inputs: {data: {use: data:tiny, config: {points: 30}}}}
  both: {use: estimator:tiny-scored, inputs: {score: {use: score:tiny, inputs: {data: data}}, data: data}}
"""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a configuration of each component is validated."""
    counts: Counter[str] = Counter()
    validated = parts._validated

    def counted(registered: Any, model: Any, raw: Any) -> Any:
        counts[registered.id] += 1
        return validated(registered, model, raw)

    monkeypatch.setattr(parts, "_validated", counted)
    return counts


def test_a_run_reads_every_configuration_once(run: Callable[..., RunResult], reads: Counter[str]) -> None:
    run(RUN)
    # Stages load what earlier ones saved, whose manifests are read as any saved state is.
    once = {"data:tiny": 2, "estimator:tiny-mean": 1, "estimator:tiny-scored": 1}
    assert {name: reads[name] for name in once} == once


def test_citations_read_nothing_again(host: Host, plan: Callable[..., Plan], reads: Counter[str]) -> None:
    made = plan(RUN)
    before = reads.copy()
    networks = {"network:tiny": 2, "score:tiny": 2}
    assert before == {"data:tiny": 2, "estimator:tiny-mean": 1, "estimator:tiny-scored": 1, **networks}
    citations(host.catalogue, made)
    made.as_json(host.catalogue)
    assert reads == before


def test_a_plan_holds_parts_and_the_names_of_stages(plan: Callable[..., Plan]) -> None:
    data, score, inline, both = plan(RUN).stages
    assert data.part is not None
    assert score.inputs == {"data": "data"}
    (part,) = parts_in(inline.inputs["data"])
    assert part.registered.id == "data:tiny"
    assert [item.registered.id for item in parts_in(list(both.inputs.values()))] == [
        "score:tiny",
        "network:tiny",
    ]
    assert list(names_in(list(both.inputs.values()))) == ["data", "data"]


def test_names_are_replaced_at_any_depth_of_inputs_alone(plan: Callable[..., Plan]) -> None:
    both = plan(RUN).stages[-1]
    found = with_values([both.inputs["score"], "data"], lambda name: len(name))
    assert isinstance(found[0], Part)
    assert found[0].inputs == {"data": 4}
    assert found[1] == 4
    assert both.inputs["score"].inputs == {"data": "data"}, "the plan stays as it is"
