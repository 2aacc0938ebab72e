"""What each command prints under ``--json`` is as its schema says, on the components that are installed."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from scorefold_registry.cli.main import COMMANDS, main

SCHEMAS = {
    item.name.removesuffix(".json"): json.loads(item.read_text())
    for item in files("scorefold").joinpath("schemas").iterdir()
}
RUN_FILE = """version: 1
name: small
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:sphere, config: {dimension: 2, points: 200}}
  pca: {use: estimator:pca, inputs: {data: data}, config: {resamples: 2}}
"""

ANSWERS = (
    ("plugins-list", "plugins list"),
    ("plugins-show", "plugins show standard"),
    ("plugins-show", "plugins show estimator:pca"),
    ("plugins-doctor", "plugins doctor --load"),
    ("plugins-check", "plugins check estimator:pca --only provides"),
    ("validate", "validate run.yaml"),
    ("validate", "validate run.yaml --set stages.pca.use=estimator:pac"),
    ("graph", "graph run.yaml"),
    ("graph", "graph run.yaml --format json"),
    ("cite", "cite run.yaml"),
    ("run", "run run.yaml"),
    ("run", "demo"),
    ("apply", "apply RUN/pca --data points.npy --out answer.json"),
    ("push", "push RUN/pca ./shared"),
    ("pull", "pull ./given mine"),
    ("inspect", "inspect points.npy"),
    ("inspect", "inspect table.csv --data-option label=kind"),
    ("start", "start points.npy --question samples"),
    ("runs-list", "runs list"),
    ("runs-show", "runs show small"),
    ("runs-diff", "runs diff small small"),
    ("runs-open", "runs open small"),
    ("recommend", "recommend points.npy --only mle,pca --set calibrated.candidates=40 --set calibrated.surrogates=12"),
    ("audit", "audit points.npy --train train.npy --held-out held-out.npy --option permutations=99"),
    (
        "audit",
        "audit points.npy --train train.npy --held-out held-out.npy --points points.npy --option permutations=99",
    ),
    ("audit", "audit points.npy --train train.npy"),
    ("compare", "compare estimator --data 2-sphere,curve --only pca,mle --set mle.resamples=0"),
    ("sweep", "sweep run.yaml --grid stages.data.config.dimension=1,2 --grid seed=0,1 --workers 1"),
    ("reproduce", "reproduce pullback --only closed-forms --profile smoke"),
    ("new", "new another --kind estimator"),
    ("runs-clean", "runs clean --keep 0"),
    ("error", "run nowhere.yaml"),
    ("error", "plugins show estimator:pac"),
    ("error", "compare nothing"),
    ("error", "run"),
    ("error", "runn"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run has been made, whose stage is applied, and a plugin, which is updated."""
    made = tmp_path_factory.mktemp("answers")
    (made / "run.yaml").write_text(RUN_FILE)
    np.save(made / "points.npy", np.random.default_rng(0).standard_normal((50, 3)))
    for number, name in enumerate(("train", "held-out"), 1):
        np.save(made / f"{name}.npy", np.random.default_rng(number).standard_normal((50, 3)))
    (made / "table.csv").write_text("id,a,kind\n" + "".join(f"{i},{i % 7 or ''},x\n" for i in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        assert main(["run", "run.yaml", "--quiet"]) == 0
        assert main(["new", "my-own", "--kind", "estimator"]) == 0
        assert main(["push", "runs/small/latest/pca", "./given"]) == 0
    return made


@pytest.mark.parametrize(("schema", "command"), ANSWERS, ids=[command for _, command in ANSWERS])
def test_an_answer_is_as_its_schema_says(
    schema: str,
    command: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(work)
    # The demonstration takes a minute; it is a run like others.
    monkeypatch.setattr("scorefold_registry.cli.commands.run.files", lambda package: Packaged(work))
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    (run,) = work.glob("runs/small/2*")
    status = main([*command.replace("RUN", str(run)).split(), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert status == {"error": 2}.get(schema, 1 if "estimator:pac" in command else 0)
    Draft202012Validator(SCHEMAS[schema]).validate(said)
    assert [name for name in SCHEMAS if Draft202012Validator(SCHEMAS[name]).is_valid(said)] == [schema]


class Packaged:
    """The package's files, of which the demonstration is one that takes a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        return self.folder / "run.yaml"


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_schema_is_one_and_is_met(schema: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[schema])
    assert schema in {name for name, _ in ANSWERS}


def test_each_command_is_among_them() -> None:
    """But for ``schema``, which prints the schema of run files itself, and ``completion``, which prints a script."""
    assert {command.split()[0] for _, command in ANSWERS} >= COMMANDS.keys() - {"schema", "completion"}
