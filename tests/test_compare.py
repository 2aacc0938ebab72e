"""Our own components put on the same cases."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold.config import Use
from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.components.parts import read_use
from scorefold_registry.experiments.cases import find_cases
from scorefold_registry.experiments.row_file import Choices, NotOnThisCaseError, stages_of
from scorefold_registry.runfile.yaml_reader import parse

pytestmark = pytest.mark.usefixtures("undrawn")

SCHEMA = json.loads(files("scorefold").joinpath("schemas/compare.json").read_text())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_estimators_on_data_of_known_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "estimator", "--data", "2-sphere,4-plane", "--only", "iddiff,pca,twonn", "--json", "--quiet"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    rows = {(row["component"], row["case"]): row for row in found["rows"]}
    assert len(rows) == 6
    assert {row["truth"] for row in rows.values()} == {2, 4}
    # A 2-sphere spans three directions, which is all that PCA sees.
    assert rows["estimator:pca", "2-sphere"]["value"] == 3
    assert rows["estimator:iddiff", "2-sphere"]["value"] == 2
    assert rows["estimator:iddiff", "4-plane"]["difference"] == 0
    assert rows["estimator:iddiff", "2-sphere"]["uses"] == ["score:analytic"]
    assert rows["estimator:iddiff", "2-sphere"]["network_calls"] > 0
    assert rows["estimator:twonn", "2-sphere"]["network_calls"] is None


def rows_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[tuple[str, str], Any]:
    capsys.readouterr()
    assert main(["compare", *arguments, "--json", "--quiet"]) == status
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    return {(row["component"].partition(":")[2], row["case"]): row for row in found["rows"]}


def test_models_on_data_of_known_density(capsys: pytest.CaptureFixture[str]) -> None:
    """Truth is the entropy of the distribution on the points themselves, which the closed form meets and training
    approaches."""
    exact = rows_of(capsys, "score", "--data", "clusters", "--only", "analytic,diffusers")
    row = exact["analytic", "clusters"]
    assert row["difference"] == pytest.approx(0, abs=1e-3)
    assert row["regret"] == 0
    assert exact["diffusers", "clusters"]["skipped"]
    assert re.search(
        r"events of the data have \(2,\); .* is a model of \(1, 8, 8\)", exact["diffusers", "clusters"]["error"]
    )
    steps = ("--set", "affine-coupling.training.steps=150")
    trained = rows_of(capsys, "flow", "--data", "gaussian", "--only", "affine-coupling", *steps)
    row = trained["affine-coupling", "gaussian"]
    assert row["value"] == pytest.approx(row["truth"], abs=0.1)
    assert row["network_calls"] == 400
    assert row["training_cpu_seconds"] > row["cpu_seconds"]


def test_a_score_that_knows_the_distribution_is_not_put_on_data_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    row = rows_of(capsys, "estimator", "--data", "curve,2-sphere", "--only", "iddiff")["iddiff", "curve"]
    assert row["skipped"]
    assert "score:analytic was made for data whose distribution is known, and data:helix knows none" in row["error"]
    assert "--plug score=USE" in row["error"]
    chosen = ("estimator", "--data", "curve", "--only", "iddiff", "--plug", "score=score:analytic")
    assert rows_of(capsys, *chosen)["iddiff", "curve"]["error"] is None


def test_a_score_whose_configuration_was_chosen_is_put_on_data_without_a_distribution(host: Host) -> None:
    comparison = host.catalogue.kind("score").comparison
    assert comparison is not None
    (case,) = find_cases(host.catalogue, "score", comparison, ["curve"])
    analytic = host.catalogue.resolve("score:analytic")
    with pytest.raises(NotOnThisCaseError, match="data:helix knows none"):
        stages_of(host.catalogue, analytic, comparison, case, Choices())
    chosen = Choices(fields={analytic.qualified: [(("points",), True)]})
    made = stages_of(host.catalogue, analytic, comparison, case, chosen)
    assert made["score-analytic"]["config"] == {"points": True}


def test_reading_the_data_themselves_is_no_reason_to_be_refused(host: Host) -> None:
    comparison = host.catalogue.kind("estimator").comparison
    assert comparison is not None
    (case,) = find_cases(host.catalogue, "estimator", comparison, ["curve"])
    made = stages_of(host.catalogue, host.catalogue.resolve("estimator:lidl"), comparison, case, Choices())
    assert made["data"]["use"] == "data:helix"
    assert made["estimator-lidl"]["inputs"]["data"] == "data"


def test_a_set_made_of_others_knows_its_distribution_where_all_of_them_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Four circles, two spheres and the union in the declared example, of a ring and a circle, all do."""
    rows = rows_of(capsys, "estimator", "--data", "4-circles,two-spheres,union", "--only", "iddiff")
    assert rows["iddiff", "4-circles"]["difference"] == 0
    assert rows["iddiff", "two-spheres"]["error"] is None
    assert rows["iddiff", "two-spheres"]["interval"] == [10, 30]
    assert rows["iddiff", "union"]["error"] is None


def test_all_named_cases_are_data_as_their_components_take_them(host: Host) -> None:
    named = parse(files("scorefold_registry.experiments").joinpath("cases.yaml").read_text(), "cases").data["cases"]
    assert len(named) > 20
    for name, case in named.items():
        assert not read_use(host.catalogue, Use(**case)).problems, name


def test_geometries_and_allocators_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    straight = rows_of(capsys, "geometry", "--only", "euclidean")
    assert set(straight) == {("euclidean", "2-sphere"), ("euclidean", "curve"), ("euclidean", "sheet")}
    # Chords leave curved data, which is what other geometries are for.
    assert all(row["value"] > 3 for row in straight.values())
    bent = rows_of(capsys, "geometry", "--only", "pullback", "--data", "curve")["pullback", "curve"]
    assert bent["training_cpu_seconds"] > 0
    assert bent["value"] < straight["euclidean", "curve"]["value"]
    plans = rows_of(capsys, "allocator", "--data", "budget=90,budget-1000", "--only", "uniform")
    assert {case for _, case in plans} == {"budget=90", "budget-1000"}
    assert all(row["quantity"] == "predicted loss" for row in plans.values())
    assert all((row["value"], row["error"]) == (None, None) for row in plans.values())
