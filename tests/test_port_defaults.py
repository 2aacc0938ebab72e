"""Components that ports have by default, where nothing is plugged in: they enter keys and citations as others do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scorefold_registry import Host
from scorefold_registry.python import do
from scorefold_registry.run import keys
from scorefold_registry.runfile.citations import methods
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import read

AUDIT = """version: 1
name: audited
stages:
  data: {use: data:sphere, config: {points: 100}}
  score: {use: score:analytic, inputs: {data: data}}
  audit: {use: score, do: audit, inputs: {data: data}}
"""


def planned(host: Host, folder: Path, text: str) -> Plan:
    file = folder / "run.yaml"
    file.write_text(text)
    return make_plan(host.catalogue, read(file))


def test_the_code_of_a_default_is_part_of_the_key(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage whose estimator changes is another stage, whether the estimator is named or the port's default."""
    seen: list[tuple[Any, list[str]]] = []

    def noted(facts: Any, targets: Sequence[str]) -> str:
        seen.append((facts["distributions"], list(targets)))
        return "key"

    monkeypatch.setattr(keys, "stage_key", noted)
    plan = planned(host, tmp_path, AUDIT)
    keys.key_of(host, plan.stages[-1], lambda name: name, [], {})
    ((distributions, targets),) = seen
    assert "scorefold-neighbours" in distributions
    assert any(target.startswith("scorefold_neighbours.") for target in targets)


def test_a_default_is_cited(host: Host, tmp_path: Path) -> None:
    cited = [item.id for item in methods(host.catalogue, planned(host, tmp_path, AUDIT))]
    assert cited == ["data:sphere", "score:analytic", "estimator:mle"]


def test_a_default_is_not_written_into_the_stage(host: Host, tmp_path: Path) -> None:
    audit = planned(host, tmp_path, AUDIT).stages[-1]
    assert audit.as_json(host.catalogue)["inputs"] == {"data": "data"}
    assert [part.registered.id for part in audit.parts()] == ["estimator:mle"]


def test_paths_that_nobody_wrote_into_the_file_stay(host: Host) -> None:
    """The network of a score is a field's default, and no path of it is one of the run file."""
    stage = do(None, "data:sphere", config={"points": 30}, progress=False)
    assert stage.run.stages[0].component == "data:sphere@1"
