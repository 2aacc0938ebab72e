"""Our own components put on the same cases."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from scorefold_registry.cli import main

SCHEMA = json.loads(files("scorefold").joinpath("schemas/compare.json").read_text())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_estimators_on_data_of_known_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "estimator", "--on", "2-sphere,4-plane", "--only", "iddiff,pca,twonn", "--json", "--quiet"]
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
