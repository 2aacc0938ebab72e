"""A finished stage on new data, in the units of the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch

from scorefold.stage import StageContext
from scorefold_registry.components.stage_files import read_result
from scorefold_registry.run.result import RunResult

Say = Callable[..., Any]


@pytest.fixture
def points() -> Path:
    """Points in the units that the tiny data were read in: (raw - 1) / 2 is what the model sees."""
    x = np.random.default_rng(0).normal(size=(30, 2))
    np.save("points.npy", 2.0 * x + 1.0)
    return Path("points.npy")


def test_new_data_reach_the_model_in_its_own_units(say: Say, finished: RunResult, points: Path) -> None:
    folder = finished.folder / "score"
    said = say(
        "apply", str(folder), "--do", "evaluate", "--data", str(points), "--out", "out.npy", "--option", "trace=exact"
    )
    assert said.status == 0, said.err
    x = torch.tensor((np.load(points) - 1.0) / 2.0, dtype=torch.float32)
    expected = finished.value("score").log_prob(x, rtol=1e-4, atol=1e-4).detach().numpy()
    np.testing.assert_allclose(np.load("out.npy"), expected, rtol=1e-4, atol=1e-4)


def test_data_in_other_units_are_reported_before_the_result(say: Say, finished: RunResult, points: Path) -> None:
    """The model saw points of mean 0 and deviation 1 in its own units."""
    arguments = (
        "apply",
        str(finished.folder / "score"),
        "--do",
        "evaluate",
        "--option",
        "trace=exact",
        "--out",
        "o.npy",
    )
    assert say(*arguments, "--data", str(points)).err == ""
    np.save("centimetres.npy", 100 * np.load(points))
    said = say(*arguments, "--data", "centimetres.npy")
    assert said.status == 0
    assert "times the spread of the model" in said.err
    assert "column 0 has mean" in said.err
    printed = say(*arguments, "--data", "centimetres.npy", "--json").json
    jsonschema.validate(printed, json.loads((files("scorefold") / "schemas" / "apply.json").read_text()))
    assert len(printed["warnings"]) == 2


def test_samples_come_back_in_the_units_of_the_data(say: Say, finished: RunResult) -> None:
    folder = str(finished.folder / "score")
    options = ("--do", "sample", "--option", "n=40", "--option", "steps=5")
    assert say("apply", folder, *options, "--out", "a.csv").status == 0
    assert say("apply", folder, *options, "--out", "b.npz").status == 0
    assert say("apply", folder, *options, "--out", "c.npy", "--seed", "1").status == 0
    table = np.genfromtxt("a.csv", delimiter=",", names=True)
    raw = np.stack([table["x0"], table["x1"]], axis=1)
    np.testing.assert_allclose(np.load("b.npz")["x"], raw, rtol=1e-5)
    assert not np.allclose(np.load("c.npy"), raw)
    # The model's own units are (raw - 1) / 2.
    context = StageContext(stage="apply")
    drawn = finished.value("score").sample(40, steps=5, generator=context.generator("sample"))
    np.testing.assert_allclose(raw, 2 * drawn.numpy() + 1, rtol=1e-4, atol=1e-4)


def test_an_estimator_answers_as_json_with_its_arrays(say: Say, finished: RunResult, points: Path) -> None:
    said = say("apply", str(finished.folder / "mean"), "--data", str(points), "--out", "deep/out.json", "--json")
    assert said.status == 0, said.err
    written = json.loads(Path("deep/out.json").read_text())
    assert written["estimate"]["value"] == pytest.approx(float(np.load(points).mean()), rel=1e-5)
    jsonschema.validate(said.json, json.loads((files("scorefold") / "schemas" / "apply.json").read_text()))
    assert said.json["metrics"]["intrinsic dimension"] == written["estimate"]["value"]
    np.testing.assert_allclose(written["arrays"]["pointwise"], np.load(points).mean(axis=1), rtol=1e-4, atol=1e-6)


def test_rows_are_written_in_the_order_of_the_file(say: Say, finished: RunResult) -> None:
    Path("points.csv").write_text("a,b,kind\n" + "".join(f"{i},{i},x\n" for i in range(12)))
    arguments = ("apply", str(finished.folder / "mean"), "--data", "points.csv", "--data-option", "label=kind")
    assert say(*arguments, "--out", "out.npy").status == 0
    np.testing.assert_allclose(np.load("out.npy"), np.arange(12))
    assert say(*arguments, "--out", "out.parquet").status == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["STAGE/score", "--do", "smaple", "--out", "o.npy"], "did you mean 'sample'"),
        (["STAGE/score", "--out", "o.npy"], "--do VERB"),
        (["STAGE/score", "--do", "fit", "--out", "o.npy"], "can't 'fit' new data"),
        (["STAGE/score", "--do", "evaluate", "--out", "o.npy"], "port 'data'"),
        (["STAGE/score", "--do", "sample", "--option", "stesp=3", "--out", "o.npy"], "did you mean 'steps'"),
        (["STAGE/score", "--do", "sample", "--option", "steps", "--out", "o.npy"], "a name, '=' and a value"),
        (["STAGE/score", "--do", "sample", "--out", "o.txt"], "no format"),
        (["STAGE/score", "--do", "sample", "--out", "o.npy", "--device", "gpu"], "cuda:N"),
        (["STAGE/score", "--do", "sample", "--out", "o.npy", "--device", "cuda:99"], "auto uses an available device"),
        (["STAGE/score", "--do", "sample", "--out", "wide.npy/o.npy"], "wide.npy/o.npy can't be written: "),
        (["STAGE/score", "--do", "sample", "--out", "folder.npy"], "folder.npy is a folder"),
        (["STAGE/data", "--out", "o.npy"], "say what to do: --do VERB"),
        (["STAGE/data", "--do", "load", "--out", "o.npy"], "data:tiny can't 'load' new data"),
        (["STAGE/score", "--do", "evaluate", "--data", "gone.npy", "--out", "o.npy"], "gone.npy does not exist"),
        (["STAGE/score", "--do", "evaluate", "--data", "wide.npy", "--out", "o.npy"], "the model was made for (2,)"),
        (["STAGE/samples", "--out", "o.npy"], "apply stage 'score'"),
        (["STAGE/scroe", "--do", "sample", "--out", "o.npy"], "the stages of"),
        (["nowhere", "--do", "sample", "--out", "o.npy"], "not a finished stage"),
    ],
)
def test_what_can_not_be_applied_says_why(say: Say, finished: RunResult, arguments: list[str], expected: str) -> None:
    np.save("wide.npy", np.zeros((6, 3)))
    Path("folder.npy").mkdir()
    said = say("apply", *(argument.replace("STAGE", str(finished.folder)) for argument in arguments))
    assert said.status == 2
    assert expected in said.err
    assert "Traceback" not in said.err
    assert not list(Path().glob("*o.*"))


def test_what_has_no_verb_for_new_data_says_so(say: Say, finished: RunResult) -> None:
    said = say("--plugins=-audit", "apply", str(finished.folder / "data"), "--out", "o.npy")
    assert (said.status, "data:tiny has no verb for new data" in said.err) == (2, True)


def test_images_are_read_as_the_stage_read_its_own(say: Say, run: Callable[..., RunResult]) -> None:
    from PIL import Image

    for folder, count in (("trained", 9), ("new", 3)):
        Path(folder).mkdir()
        for index in range(count):
            pixels = np.random.default_rng(index).integers(0, 255, size=(8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{folder}/{index}.png")
    result = run(
        "version: 1\nstages:\n  data: {use: data:images, config: {root: trained, size: 4, grey: true}}\n"
        "  mean: {use: estimator:tiny-mean, inputs: {data: data}}\n"
    )
    said = say("apply", str(result.folder / "mean"), "--data", "new", "--out", "out.json", "--json")
    assert said.status == 0, said.err
    assert len(json.loads(Path("out.json").read_text())["arrays"]["pointwise"]) == 3


def test_an_answer_without_arrays_goes_to_json_only(say: Say, run: Callable[..., RunResult]) -> None:
    result = run("version: 1\nstages:\n  plan: {use: allocator:uniform, options: {budget: 100}}\n")
    arguments = ("apply", str(result.folder / "plan"), "--option", "budget=50", "--out")
    said = say(*arguments, "deep/plan.npy")
    assert (said.status, "no array to write to deep/plan.npy" in said.err) == (2, True)
    assert not Path("deep").exists()
    assert say(*arguments, "deep/plan.json").status == 0
    assert json.loads(Path("deep/plan.json").read_text())["allocation"]["plan"][0]["tasks"] == 5


def test_new_data_are_compared_with_the_limit_of_held_out_points(say: Say, run: Callable[..., RunResult]) -> None:
    """The limit is the run's, and not the limit of the given data; without one in the run that is said."""
    np.save("held.npy", np.random.default_rng(0).normal(size=(400, 2)))
    np.save("new.npy", np.concatenate([np.random.default_rng(1).normal(size=(90, 2)), np.full((10, 2), 3.0)]))
    text = (
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: held.npy, fractions: [0.5, 0, 0.5], scale: none}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 20}}}\n"
        "  answer: {use: flow, do: outliers, inputs: {data: data}}\n"
    )
    result = run(text)
    held_out = read_result(result.folder / "answer")["metrics"]
    limit = "limit of the cost (bits a dimension)"
    arguments = ("--do", "outliers", "--data", "new.npy", "--out", "o.csv", "--json")
    said = say("apply", str(result.folder / "flow"), *arguments).json
    assert said["metrics"][limit] == held_out[limit]
    share = said["metrics"]["share of points unlike the data"]
    assert share >= 0.1
    assert said["warnings"] == []
    found = pd.read_csv("o.csv")
    assert list(found) == ["cost", "above the limit"]
    assert found["above the limit"].mean() == pytest.approx(share)
    assert found["above the limit"].tolist() == (found["cost"] > held_out[limit]).tolist()
    alone = run(text.replace("do: outliers", "do: outliers, split: train"))
    said = say("apply", str(alone.folder / "flow"), *arguments, "--option", "limit=99").json
    assert said["metrics"][limit] > held_out[limit]
    assert said["warnings"] == [
        f"{limit} comes from the given data: the run has no stage that gives it",
        "99 of 100 points are read: --option limit=100 reads all",
    ]


@pytest.mark.parametrize("verb", ["evaluate", "outliers"])
def test_a_flow_reads_all_new_points_and_a_score_says_how_many(
    say: Say, run: Callable[..., RunResult], verb: str
) -> None:
    """A score solves an ODE for each."""
    np.save("new.npy", np.random.default_rng(0).normal(size=(300, 3)))
    result = run(
        "version: 1\nstages:\n  data: {use: data:sphere, config: {dimension: 2, ambient: 3, points: 60}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 2}}}\n"
        "  score: {use: score:analytic, inputs: {data: data}, config: {points: true}}\n"
    )
    arguments = ("--do", verb, "--data", "new.npy", "--out", "o.csv", "--json")
    said = say("apply", str(result.folder / "flow"), *arguments)
    assert said.status == 0, said.err
    assert not [text for text in said.json["warnings"] if "points are read" in text]
    assert pd.read_csv("o.csv").notna().all(axis=None)
    said = say("apply", str(result.folder / "score"), *arguments, "--option", "tolerance=0.1", "--option", "probes=1")
    assert said.status == 0, said.err
    assert "256 of 300 points are read: --option limit=300 reads all" in said.json["warnings"]
    assert pd.read_csv("o.csv").notna().all(axis=1).sum() == 256


def test_new_tables_are_read_by_the_names_of_their_columns(say: Say, run: Callable[..., RunResult]) -> None:
    """New points need no class, no names and no columns that were left out, and may have others and another order."""
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)) * [1, 3], columns=["x", "y"])
    table.assign(kind="a", note="b").to_csv("old.csv", index=False)
    result = run(
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: old.csv, label: kind, columns: [-note], scale: none}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 5}}}\n"
    )
    arguments = ("apply", str(result.folder / "flow"), "--do", "evaluate")
    np.save("new.npy", table.to_numpy())
    table[["y", "x"]].assign(extra=1.5).to_csv("new.csv", index=False)
    for name in ("new.npy", "new.csv"):
        assert say(*arguments, "--data", name, "--out", f"{name}.out.npy").status == 0
    assert np.load("new.csv.out.npy") == pytest.approx(np.load("new.npy.out.npy"), abs=1e-5)
    assert say("apply", str(result.folder / "flow"), "--do", "sample", "--out", "drawn.csv").status == 0
    assert list(pd.read_csv("drawn.csv")) == ["x", "y"]
    table[["x"]].to_csv("less.csv", index=False)
    refused = say(*arguments, "--data", "less.csv", "--out", "o.npy")
    assert refused.status != 0
    assert "has no column 'y'" in refused.err


def test_new_conditions_have_the_names_that_they_had_in_training(say: Say, run: Callable[..., RunResult]) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["t", "x", "y"])
    table.to_csv("old.csv", index=False)
    result = run(
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: old.csv, condition: [x, y], scale: none}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 2}}}\n"
        "  other: {use: data:array, config: {path: old.csv, condition: [t], scale: none}}\n"
    )
    arguments = ("apply", str(result.folder / "flow"), "--do", "sample", "--data", "old.csv", "--out", "o.npy")
    assert "conditions 8, conditions of the data 60" in " ".join(
        say(*arguments, "--json").out.replace('"', "").replace(":", "").split()
    )
    refused = say(*arguments, "--data-option", "condition=[y, x]")
    assert "the condition of these data is [y, x]; the model was trained on [x, y]" in refused.err


def test_placeholders_beside_conditions_are_no_data_in_other_units(say: Say, run: Callable[..., RunResult]) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["t", "x"])
    table.assign(t=1e10 + 1e9 * table["t"]).to_csv("old.csv", index=False)
    result = run(
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: old.csv, condition: [x], scale: columns}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 2}}}\n"
    )
    table[:5].assign(t=0).to_csv("new.csv", index=False)
    arguments = ("apply", str(result.folder / "flow"), "--data", "new.csv", "--out", "o.npy", "--do")
    drawn, judged = (say(*arguments, verb) for verb in ("sample", "evaluate"))
    assert (drawn.status, judged.status) == (0, 0)
    assert "away from" not in drawn.out + drawn.err
    assert "column 0 has mean 0 for" in " ".join((judged.out + judged.err).split())


def test_observations_alone_are_read_from_every_format(say: Say, run: Callable[..., RunResult]) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), columns=["a", "x1", "b", "x2"])
    table.assign(kind="c").to_csv("old.csv", index=False, sep=";")
    result = run(
        "version: 1\nstages:\n"
        '  data: {use: data:array, config: {path: old.csv, condition: [x1, x2], label: kind, delimiter: ";"}}\n'
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 2}}}\n"
    )
    seen = table[["x1", "x2"]][:3]
    table[["x2", "b", "x1", "a"]][:3].to_csv("placed.csv", index=False, sep=";")
    seen.to_csv("alone.csv", index=False, sep=";")
    seen.to_parquet("alone.parquet")
    np.save("alone.npy", seen.to_numpy())
    np.savez("both.npz", x=np.zeros((3, 2)), y=seen.to_numpy())
    arguments = ("apply", str(result.folder / "flow"), "--do", "sample", "--option", "n=2", "--data")
    drawn = []
    for name in ("placed.csv", "alone.csv", "alone.parquet", "alone.npy", "both.npz"):
        named = ["--data-option", "key=x", "--data-option", "condition=[y]"] if name == "both.npz" else []
        said = say(*arguments, name, *named, "--out", "o.csv")
        assert said.status == 0, said.err
        assert "mean of a over 3 conditions" in said.out
        drawn.append(pd.read_csv("o.csv"))
        assert drawn[-1].equals(drawn[0]), name
    assert list(drawn[0]) == ["a", "b", "rows"]
    assert drawn[0]["rows"].tolist() == [0, 0, 1, 1, 2, 2]
    seen.assign(name="n").to_csv("labelled.csv", index=False, sep=";")
    given = ["--data-option", "columns=[-name]", "--data-option", "label=name", "--data-option", "limit=2"]
    assert say(*arguments, "labelled.csv", *given, "--out", "o.csv").status == 0
    assert len(pd.read_csv("o.csv")) == 4, "limit=2 reads two observations"
    seen.rename(columns={"x1": "u", "x2": "v"}).assign(x1=9.0, x2=9.0).to_csv("renamed.csv", index=False, sep=";")
    assert say(*arguments, "renamed.csv", "--data-option", "columns=[u, v]", "--out", "o.csv").status == 0
    assert pd.read_csv("o.csv").equals(drawn[0]), "given columns come before the names of training"
    refused = say(*arguments, "both.npz", "--out", "o.csv")
    assert "holds the arrays x, y; say which to read" in refused.err
    assert "condition=[NAME]" in refused.err
    np.save("wide.npy", table.to_numpy())
    refused = say(*arguments, "wide.npy", "--out", "o.csv")
    assert "holds observations of shape (4,); the model was made for (2,)" in refused.err


def test_a_solver_takes_columns_as_observations_of_several_axes(say: Say, run: Callable[..., RunResult]) -> None:
    """The settings of an npz file mean nothing for a csv file."""
    np.savez("old.npz", x=np.random.default_rng(0).normal(size=(60, 16)))
    result = run(
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: old.npz, key: x, event_shape: [1, 16], scale: none}}\n"
        "  prior: {use: score:analytic, inputs: {data: data}, config: {gaussian: true}}\n"
        "  solver: {use: score:mmps, inputs: {prior: prior}, config: {operator: {name: mask}, noise_std: 0.1}}\n"
    )
    pd.DataFrame(np.ones((1, 17)), columns=list("abcdefghijklmnopq")).to_csv("new.csv", index=False)
    arguments = ("apply", str(result.folder / "solver"), "--do", "sample", "--data", "new.csv", "--out", "o.npy")
    said = say(*arguments, "--data-option", "columns=[-q]", "--option", "n=3", "--option", "steps=2")
    assert said.status == 0, said.err
    assert np.load("o.npy").shape == (3, 1, 16)
    assert "of shape (17,); the model was made for (1, 16)" in say(*arguments).err


def test_a_table_of_many_columns_is_read_in_their_order(say: Say, run: Callable[..., RunResult]) -> None:
    """Its summary names no columns."""
    names = [f"c{number}" for number in range(250)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 250)), columns=names)
    table.to_csv("wide.csv", index=False)
    result = run(
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: wide.csv, scale: none}}\n"
        "  score: {use: score:analytic, inputs: {data: data}}\n"
    )
    table.to_csv("new.csv", index=False)
    arguments = ("apply", str(result.folder / "score"), "--do", "sample", "--data", "new.csv", "--out", "o.npy")
    assert say(*arguments).status == 0


def test_samples_have_the_columns_of_the_models_own_data(say: Say, run: Callable[..., RunResult]) -> None:
    rng = np.random.default_rng(0)
    for name, columns in (("a", "xy"), ("b", "pq")):
        pd.DataFrame(rng.normal(size=(40, 2)), columns=list(columns)).to_csv(f"{name}.csv", index=False)
    result = run(
        "version: 1\nstages:\n"
        "  data: {use: data:array, config: {path: a.csv, scale: none}}\n"
        "  other: {use: data:array, config: {path: b.csv, scale: none}}\n"
        "  drawn: {use: data:sphere, config: {dimension: 1, ambient: 2, points: 40}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {training: {steps: 2}}}\n"
        "  round: {use: flow:affine-coupling, inputs: {data: drawn}, config: {training: {steps: 2}}}\n"
    )
    for stage, columns in (("flow", ["x", "y"]), ("round", ["x0", "x1"])):
        assert say("apply", str(result.folder / stage), "--do", "sample", "--out", "drawn.csv").status == 0
        assert list(pd.read_csv("drawn.csv")) == columns
