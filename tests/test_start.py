"""``scorefold start``: from data and a question to a run file that says what was seen, and runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from checkpoint_files import saved, saved_latent
from diffusers import DDPMScheduler
from PIL import Image
from sklearn.datasets import load_digits

from scorefold_registry.cli.commands.start import TEXTS
from scorefold_registry.cli.main import main
from scorefold_registry.cli.starting import QUESTIONS

Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("one_host", "undrawn")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def messy(rows: int = 200) -> pd.DataFrame:
    """A table with an id, names, a class, codes, a constant, gaps and copies next to three measurements."""
    rng = np.random.default_rng(0)
    u, v, w = rng.uniform(-1, 1, (3, rows))
    table = pd.DataFrame(
        {
            "id": np.arange(rows) + 1,
            "name": [f"patient {i}" for i in range(rows)],
            "mass": 70 + 12 * v,
            "pressure": 101300 + 900 * np.sin(2 * w),
            "rate": 60 + 10 * np.cos(2 * w) + 5 * u,
            "ward": rng.integers(1, 5, rows),
            "kind": rng.choice(["a", "b"], rows),
            "unit": 3,
            "empty": np.nan,
        }
    )
    table.loc[3, "mass"] = np.nan
    table.loc[5, "kind"] = None
    return pd.concat([table, table.iloc[10:14]])


def pictures(folder: Path, count: int = 60) -> Path:
    """Handwritten digits as files of colour that have no colour."""
    folder.mkdir()
    for place, image in enumerate(load_digits().images[:count]):
        Image.fromarray((image * 15).astype("uint8")).convert("RGB").save(folder / f"{place:03}.png")
    return folder


def start(capsys: Captured, *arguments: str) -> dict[str, Any]:
    status = main(["start", *arguments, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.out
    found: dict[str, Any] = json.loads(said.out)
    return found


def ran(capsys: Captured, file: str, *sets: str) -> dict[str, dict[str, Any]]:
    """The metrics of each stage of a file that is run."""
    given = [part for each in sets for part in ("--set", each)]
    assert main(["run", file, "--quiet", "--json", *given]) == 0
    return {stage["name"]: stage["metrics"] for stage in json.loads(capsys.readouterr().out)["stages"]}


def test_there_is_a_file_for_every_question() -> None:
    assert QUESTIONS.keys() == TEXTS.keys()


def test_a_messy_table_gives_a_file_that_says_why_and_runs(capsys: Captured) -> None:
    messy().to_csv("patients.csv", index=False)
    said = start(capsys, "patients.csv", "--question", "dimension")
    assert said["config"] == {
        "path": "patients.csv",
        "label": "kind",
        "columns": ["-id", "-ward", "-unit", "-empty", "-name"],
        "missing": "drop",
        "duplicates": "drop",
        "scale": "columns",
    }
    text = Path("patients-dimension.yaml").read_text()
    for seen in ("204 rows of 3 columns", "198 points", "id numbers the rows", "unit is constant", "name holds text"):
        assert seen in text.replace("\n      #", "")
    assert "use: estimator:calibrated" in text
    # All points are read, and another estimator is one word.
    found = ran(capsys, "patients-dimension.yaml", "stages.dimension.use=estimator:mle")
    assert found["data"]["test points"] == 198
    assert 2 < found["dimension"]["intrinsic dimension"] < 4


@pytest.mark.parametrize("question", ["samples", "between", "unlike", "likelihood"])
def test_what_is_written_for_a_table_runs(question: str, capsys: Captured) -> None:
    messy().to_csv("patients.csv", index=False)
    said = start(capsys, "patients.csv", "--question", question)
    quick = ["stages.score.config.training.minutes=0.01"] if question == "samples" else []
    quick = quick or ["stages.flow.config.training.steps=10"]
    found = ran(capsys, said["run_file"], *quick)
    last = {"samples": "samples", "between": "straight"}.get(question, "answer")
    assert found[last]
    assert found["data"]["train points"] == 158


def test_a_column_of_times_is_left_out(capsys: Captured) -> None:
    points = np.random.default_rng(0).normal(size=(200, 2))
    pd.DataFrame({"when": 0.5 * np.arange(200), "a": points[:, 0], "b": points[:, 1]}).to_csv("series.csv", index=False)
    assert main(["start", "series.csv", "--question", "dimension"]) == 0
    assert "columns: [-when] (left out: when rises in equal steps as times do; data:series" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["windows.npy", "data:series"])
def test_windows_of_a_signal_get_a_network_of_signals(given: str, capsys: Captured) -> None:
    """An array (N, C, L), and a csv that ``data:series`` cuts into windows: twelve channels are no image's height."""
    walk = np.random.default_rng(0).normal(size=(700, 12)).cumsum(0)
    np.save("windows.npy", np.stack([walk[i : i + 64].T for i in range(0, 600, 4)]))
    pd.DataFrame({"when": 0.5 * np.arange(700)} | {f"c{i}": walk[:, i] for i in range(12)}).to_csv("s.csv", index=False)
    series = ["path=s.csv", "time=when", "window=64", "stride=4"] if given == "data:series" else []
    options = [part for each in series for part in ("--data-option", each)]
    said = start(capsys, given, "--question", "samples", *options)
    assert "use: network:auto" in Path(said["run_file"]).read_text()
    found = ran(capsys, said["run_file"], "stages.score.config.training={steps: 3, batch_size: 8}")
    assert found["samples"]


@pytest.mark.parametrize(("rows", "test"), [(300, 30), (400, 100), (600, 102), (1200, 120)])
def test_enough_points_are_held_out_to_say_which_are_unlike(rows: int, test: int, capsys: Captured) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(rows, 3)))
    said = start(capsys, "x.npy", "--question", "unlike")
    found = ran(capsys, said["run_file"], "stages.flow.config.training.steps=10")
    assert found["data"]["test points"] == test
    assert ("limit of the cost (bits a dimension)" in found["answer"]) == (test >= 99)


@pytest.mark.parametrize("question", TEXTS)
def test_what_is_written_for_images_runs(question: str, capsys: Captured) -> None:
    pictures(Path("pictures"))
    said = start(capsys, "pictures", "--question", question, "--out", "new/run.yaml")
    assert said["config"] == {"root": "../pictures", "grey": True}
    text = Path("new/run.yaml").read_text()
    assert ("use: network:conv-unet" in text) == (question != "between")
    assert ("limit: 128" in text) == (question == "unlike"), "the verb says from 99 points on which points are unlike"
    quick = {
        "dimension": ["stages.dimension.config={points: 2, levels: 3, resamples: 0}"],
        "between": ["stages.paths.options={pairs: 2, times: 3, decoding: {steps: 4}}"],
        "unlike": ["stages.answer.options={limit: 2, tolerance: 0.1}"],
        "likelihood": ["stages.answer.options={limit: 2, tolerance: 0.1}"],
    }.get(question, [])
    quick.append("stages.score.config.training={steps: 2, batch_size: 8}")
    assert ran(capsys, "new/run.yaml", *quick)["data"]["test points"] == 6


def test_geodesics_between_images_are_the_next_command(capsys: Captured) -> None:
    pictures(Path("pictures"))
    last = start(capsys, "pictures", "--question", "between")["next"][-1]
    file, setting = shlex.split(last)[2], shlex.split(last)[4]
    assert "use: geometry:score, do: interpolate" in setting
    assert main(["validate", file, "--set", setting]) == 0
    assert "valid, 5 stages" in capsys.readouterr().out
    messy().to_csv("patients.csv", index=False)
    assert len(start(capsys, "patients.csv", "--question", "between")["next"]) == 3


def test_a_checkpoint_is_asked_what_lies_between_its_samples(capsys: Captured) -> None:
    saved(Path("model"), DDPMScheduler(), in_channels=1, out_channels=1)
    said = start(capsys, "model", "--question", "between", "--out", "new/run.yaml")
    assert said["config"] == {"path": "../model"}
    text = Path("new/run.yaml").read_text()
    assert all(use in text for use in ("score:diffusers", "geometry:score", "geometry:euclidean"))
    quick = ["stages.samples.options={n: 8, steps: 2}", "stages.paths.options={pairs: 2, decoding: {steps: 2}}"]
    quick += ["stages.straight.options.pairs=2", "stages.geodesics.options={pairs: 2}"]
    quick += ["stages.geodesics.config={noise: 0.5, form: fisher}"]
    assert ran(capsys, "new/run.yaml", *quick)["straight"]["pairs"] == 2


def test_a_checkpoint_that_nothing_can_be_asked_of_says_why(capsys: Captured) -> None:
    saved(Path("model"), DDPMScheduler(), in_channels=1, out_channels=1)
    assert main(["start", "model", "--question", "dimension"]) == 2
    assert "what lies between two samples\n  --question between" in capsys.readouterr().err
    saved_latent(Path("latent"))
    assert main(["start", "latent", "--question", "between"]) == 2
    assert "latent is a model of classes" in capsys.readouterr().err
    assert not list(Path().glob("*.yaml"))


def test_images_of_several_sizes_are_made_small(capsys: Captured) -> None:
    folder = Path("classes")
    for place in range(60):
        (folder / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 255, (40 + place % 3, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[place % 2] / f"{place}.png")
    said = start(capsys, "classes", "--question", "samples")
    assert said["config"] == {"root": "classes", "size": 32}
    assert "3 sizes from 50 x 40 to 50 x 42" in said["seen"]["warnings"][0]
    assert start(capsys, "classes", "--question", "dimension")["config"]["size"] == 16


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("semicolons.csv", {"scale": "columns"}),
        ("table.parquet", {"scale": "columns"}),
        ("array.npy", {"scale": "columns"}),
        ("images.npy", {"scale": "table"}),
        ("data:sphere", {}),
    ],
)
def test_other_files_and_components_are_data_too(name: str, config: dict[str, Any], capsys: Captured) -> None:
    table = messy()[["mass", "pressure", "rate"]].dropna().drop_duplicates()
    table.to_csv("semicolons.csv", sep=";", decimal=",", index=False)
    table.to_parquet("table.parquet")
    np.save("array.npy", table.to_numpy())
    np.save("images.npy", load_digits().images[:80])
    found = start(capsys, name, "--question", "likelihood")["config"]
    assert {key: value for key, value in found.items() if key != "path"} == config


def test_text_of_digits_is_left_out_as_text(capsys: Captured) -> None:
    table = messy()[["mass", "rate"]].dropna()
    table["code"] = [f"{place:05}" for place in range(len(table))]
    table.to_parquet("codes.parquet")
    assert start(capsys, "codes.parquet", "--question", "samples")["config"]["columns"] == ["-code"]


def test_a_few_rows_far_out_take_robust_scales(capsys: Captured) -> None:
    table = messy()[["mass", "rate"]].dropna()
    table.iloc[0] = 1e9
    table.to_csv("far.csv", index=False)
    assert start(capsys, "far.csv", "--question", "samples")["config"]["scale"] == "robust"


def test_fields_that_are_given_stay(capsys: Captured) -> None:
    messy().to_csv("patients.csv", index=False)
    given = ("--data-option", "columns=[mass, rate]", "--data-option", "scale=none")
    found = start(capsys, "patients.csv", "--question", "samples", *given)["config"]
    assert (found["columns"], found["scale"], "label" in found) == (["mass", "rate"], "none", False)


def test_new_kind_run_is_the_same(capsys: Captured) -> None:
    messy().to_csv("patients.csv", index=False)
    assert main(["new", "patients.csv", "--kind", "run", "--question", "samples"]) == 0
    said = capsys.readouterr().out
    assert "patients-samples.yaml is written" in said
    assert "kind (label)" in said
    assert Path("patients-samples.yaml").exists()


def test_the_question_is_asked_on_a_terminal_only(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    messy().to_csv("patients.csv", index=False)
    assert main(["start", "patients.csv"]) == 2
    assert "--question dimension|samples" in capsys.readouterr().err
    answers = iter(["what?\n", "9\n", "2\n"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: next(answers), raising=False)
    assert main(["start", "patients.csv"]) == 0
    assert capsys.readouterr().err.count("question (1 to 5)") == 3
    assert Path("patients-samples.yaml").exists()


def test_no_file_is_written_over(capsys: Captured) -> None:
    messy().to_csv("patients.csv", index=False)
    Path("patients-samples.yaml").write_text("mine")
    assert main(["start", "patients.csv", "--question", "samples"]) == 2
    assert "patients-samples.yaml is there already" in capsys.readouterr().err
    assert Path("patients-samples.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.csv", ("no column of numbers", "a holds text", "turn text into numbers first")),
        ("few.csv", ("20 points to use", "expected 50 at least")),
        ("gaps.csv", ("points to use", "--data-option 'columns=[-b]'")),
        ("all-gaps.csv", ("0 of 80 points to use", "every column has gaps: fill them in")),
        ("two.npz", ("holds the arrays a, b", "key: a", "--data-option")),
        ("codes.csv", ("is left for the points", "a is constant", "columns of numbers that differ")),
        ("rows.csv", ("is left for the points", "columns: [id] takes it all the same")),
        ("nothing.csv", ("nothing.csv does not exist",)),
        ("data:digit", ("did you mean data:digits",)),
        ("empty", ("holds no images",)),
    ],
)
def test_data_that_nothing_can_be_written_for_say_what_fixes_it(
    name: str, words: tuple[str, ...], capsys: Captured
) -> None:
    rng = np.random.default_rng(0)
    pd.DataFrame({"a": list("abc") * 30, "b": list("xyz") * 30}).to_csv("text.csv", index=False)
    pd.DataFrame(rng.normal(size=(20, 2)), columns=["a", "b"]).to_csv("few.csv", index=False)
    gaps = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "b"])
    gaps.loc[:38, "b"] = np.nan
    gaps.to_csv("gaps.csv", index=False)
    halves = pd.DataFrame({"a": rng.normal(size=80), "b": rng.normal(size=80)})
    halves.loc[:39, "a"] = halves.loc[40:, "b"] = np.nan
    halves.to_csv("all-gaps.csv", index=False)
    pd.DataFrame({"a": [1] * 80}).to_csv("codes.csv", index=False)
    pd.DataFrame({"id": range(80), "a": [1] * 80}).to_csv("rows.csv", index=False)
    np.savez("two.npz", a=np.zeros((60, 3)), b=np.ones((60, 2)))
    Path("empty").mkdir()
    assert main(["start", name, "--question", "dimension"]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert not list(Path().glob("*.yaml"))
