"""``scorefold audit`` and the verb from run files and from Python: from a model or a file to verdicts and a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scorefold_audit.verdicts import NAMES
from scorefold_registry.cli.commands import audit as command
from scorefold_registry.cli.main import main
from scorefold_registry.python import audit, do, load_data

QUICK = ["--quiet", "--option", "permutations=99", "--option", "quality_points=100", "--option", "n=150"]
RUN_FILE = """version: 1
name: ring
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:gaussian-mixture, config: {points: 600, fractions: [0.5, 0, 0.5]}}
  copier: {use: score:analytic, config: {points: true}, inputs: {data: data}}
  right: {use: score:analytic, inputs: {data: data}}
"""


pytestmark = pytest.mark.usefixtures("one_host")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    train, held_out, samples = (rng.standard_normal((150, 4)) for _ in range(3))
    np.save("train.npy", train)
    np.save("held-out.npy", held_out)
    np.save("right.npy", samples)
    samples[:40] = train[:40]
    np.save("copies.npy", samples)


def test_the_verdicts_that_the_command_takes_are_those_of_the_verb() -> None:
    assert command.NAMES == NAMES


def test_samples_in_a_file_and_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["audit", "copies.npy", "--train", "train.npy", "--held-out", "held-out.npy", *QUICK]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "40 of 150 samples are listed as copies" in said
    assert "An estimated 25.7% of its samples are near-exact copies" in said
    assert "not found: off-the-data" in said
    assert "of the 40 that are named (columns), at most 10% are expected to be no copies" in said
    assert "withheld: membership: samples alone have no loss" in said
    assert main([*asked, "--fail-on", "copies,overlap"]) == 1
    assert main([*asked, "--fail-on", "overlap", "--fail-on", "off-the-data"]) == 0
    # What was not tested does not pass.
    assert main([*asked, "--fail-on", "membership", "--json"]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out[printed.out.index("{\n") :])
    assert found["failed"] == []
    assert found["untested"] == ["membership"]
    assert "membership was not tested" in printed.err
    assert Path(found["run_file"]).is_file()
    page = Path(found["report"]).read_text()
    assert "Audit: audit" in page
    assert "Tests that were not made, with reasons" in page
    assert "Of the samples that are named, at most 10% are expected to be no copies." in page
    assert page.count("data:image/") >= 2


def test_a_stage_is_audited_on_the_data_that_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(RUN_FILE)
    assert main(["run", "run.yaml", "--quiet"]) == 0
    (run,) = Path("runs/ring").glob("2*")
    assert main(["audit", str(run / "copier"), *QUICK, "--fail-on", "copies,membership"]) == 1
    assert "the model knows its training points" in capsys.readouterr().out
    assert main(["audit", str(run / "right"), *QUICK, "--fail-on", "copies,memorisation,membership"]) == 0
    assert main(["audit", str(run / "right"), *QUICK, "--train", str(run / "data")]) == 0
    capsys.readouterr()
    assert main(["audit", str(run / "right"), *QUICK, "--train", "data:gaussian-mixture"]) == 0
    assert "may put other points into its splits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["right.npy"], "does not name its training data"),
        (["nothing.npy", "--train", "train.npy"], "nothing.npy, which does not exist"),
        (
            ["right.npy", "--train", "train.npy", "--held-out", "train.npy"],
            "all points of train.npy are training points",
        ),
        (["right.npy", "--train", "train.npy", "--fail-on", "copy"], "did you mean 'copies'"),
        (["right.npy", "--train", "train.npy", "--fail-on", ","], "--fail-on needs the name of a verdict"),
        (
            ["right.npy", "--train", "train.npy", "--held-out", "held-out.npy", "--data-option", "colums=[a]"],
            "'columns'",
        ),
        (["right.npy", "--train", "train.npy", "--held-out", "held-out.npy", "--option", "m=3"], "unknown field 'm'"),
    ],
)
def test_what_can_not_be_asked_is_an_error_for_people(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *arguments, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_without_held_out_points_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "copies.npy", "--train", "train.npy", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "there is no verdict" in said or "no verdict" in said
    assert "withheld: every verdict: there are no held-out points" in said
    assert main(["audit", "copies.npy", "--train", "train.npy", *QUICK, "--fail-on", "copies", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdicts"] == []
    assert found["untested"] == ["copies"]
    assert found["metrics"]["near-copies among samples (columns)"] > 0.2
    assert found["training"] is None
    page = Path(found["report"]).read_text()
    assert "without held-out points there is no reference for distances" in page


def test_points_that_are_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("points.npy", np.array([[0.0, 0.1, 0.2, 0.3], [9.0, 9.0, 9.0, 9.0]]))
    asked = ["audit", "right.npy", "--train", "train.npy", "--held-out", "held-out.npy", *QUICK]
    assert main([*asked, "--points", "points.npy"]) == 0
    said = capsys.readouterr().out
    assert "unlike the training data: row 1: far from training points" in said
    assert main([*asked, "--points", "points.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["unlike"] for row in found["points"]] == [False, True]
    assert "1 of 2 are unlike the data" in Path(found["report"]).read_text()
    np.save("wrong.npy", np.zeros((3, 5)))
    assert main([*asked, "--points", "wrong.npy"]) == 2
    assert "points (5,)" in capsys.readouterr().err
    assert main([*asked, "--points", "nothing.npy"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_from_python(tmp_path: Path) -> None:
    folder = tmp_path / "python"
    train = load_data(np.load("train.npy"), splits=(1, 0, 0), name="train", folder=folder, progress=False)
    held_out = load_data(np.load("held-out.npy"), splits=(0, 0, 1), name="held-out", folder=folder, progress=False)
    samples = load_data(np.load("copies.npy"), splits=(0, 0, 1), name="samples", folder=folder, progress=False)
    stage = do("audit", samples, train, held_out=held_out, permutations=99, quality_points=100, progress=False)
    assert stage.metrics["named copies (columns)"] == 40
    assert stage.result["answer"]["value"] == pytest.approx(0.257, abs=0.01)
    assert stage.plot("pairs") is not None
    assert "copies" in repr(stage)


def test_python_says_which_rows_an_audit_left_out() -> None:
    whole = np.load("train.npy")
    train = whole.copy()
    train[np.arange(100), np.arange(100) % 4] = np.nan
    found = audit(whole[:100], train, np.load("held-out.npy"), permutations=99, quality_points=100, progress=False)
    assert "training points with missing values" in found.result["answer"]["verdict"], "copies of these rows are found"
    assert found.notes == ("train: missing: drop (compares the 100 rows with missing values apart from the others)",)
    assert found.notes[0] in repr(found)


def test_numbers_of_rows_are_no_coordinate(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "held-out", "copies"):
        table = pd.DataFrame(np.load(f"{name}.npy"), columns=list("abcd"))
        table.insert(0, "id", range(len(table)))
        table.to_csv(f"{name}.csv", index=False)
    assert main(["audit", "copies.csv", "--train", "train.csv", "--held-out", "held-out.csv", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "train.csv: columns: [-id] (left out: id numbers the rows)" in said
    assert "40 of 150 samples are listed as copies" in said


def test_training_data_in_several_files_are_named_with_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    for number, part in enumerate(np.split(np.load("train.npy"), 3)):
        np.save(f"part-{number}.npy", part)
    asked = ["audit", "copies.npy", "--held-out", "held-out.npy", *QUICK, "--train"]
    assert main([*asked, "part-*.npy"]) == 0
    said = capsys.readouterr().out
    assert "40 of 150 samples are listed as copies" in said
    assert "copy: row 7 of the samples copies row 7 of" in said
    assert "part-0.npy of the training data" in said
    assert main([*asked, "none-*.npy"]) == 2
    assert "no file is called" in capsys.readouterr().err


def test_samples_of_an_earlier_stage_are_audited_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = """  samples: {use: right, do: sample, options: {n: 150, steps: 5}}
  audit: {use: samples, do: audit, inputs: {data: data}, options: {permutations: 99, quality_points: 50}}
"""
    (tmp_path / "run.yaml").write_text(RUN_FILE + stages)
    assert main(["run", "run.yaml", "--json", "--quiet"]) == 0
    (found,) = [stage for stage in json.loads(capsys.readouterr().out)["stages"] if stage["name"] == "audit"]
    assert found["metrics"]["samples"] == 150
    (tmp_path / "run.yaml").write_text(RUN_FILE + stages.replace("do: audit", "do: sample"))
    assert main(["run", "run.yaml", "--quiet"]) == 2
    assert "data:samples has no verb 'sample'" in capsys.readouterr().err


def test_copies_with_missing_values_are_counted_in_the_columns_that_they_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = np.load("right.npy")
    samples[:20] = np.load("train.npy")[50:70]
    samples[np.arange(20), np.arange(20) % 4] = np.nan
    np.save("gaps.npy", samples)
    asked = ["audit", "gaps.npy", "--train", "train.npy", "--held-out", "held-out.npy", *QUICK]
    assert main([*asked, "--fail-on", "copies"]) == 1
    said = capsys.readouterr().out
    assert "missing: drop (compares the 20 rows with missing values apart from the others)" in said
    assert "audit: This model copies its training data. An estimated 100.0% of its samples with missing values" in said
    assert "copy: row 3 of the samples copies row 53 of the training data (columns that they have, d1/d2 = 0)" in said


def test_tables_with_text_and_gaps_are_read_as_recommend_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "held-out", "copies"):
        table = pd.DataFrame(np.load(f"{name}.npy"), columns=list("abcd")).astype({"b": object})
        table.loc[:2, "b"] = "-"
        table.insert(1, "kind", "x")
        table.to_csv(f"{name}.csv", index=False)
    assert main(["audit", "copies.csv", "--train", "train.csv", "--held-out", "held-out.csv", *QUICK, "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed[printed.index("{\n") :])
    assert found["reading"]["train.csv"].keys() == {"columns", "gaps", "missing"}
    named = {row["sample"]: row["training"] for row in found["copies"][0]["nearest"] if row["named"]}
    assert named == {row: row for row in range(3, 40)}
