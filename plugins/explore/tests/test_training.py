"""Training from the page: which stages are missing, what is refused and why, and a training that is run and stopped."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.errors import ConfigError
from scorefold.stage import showing
from scorefold_explore.command import open_place
from scorefold_explore.explored import Explored
from scorefold_explore.opening import open_run, say_what_is_missing
from scorefold_explore.questions import answer
from scorefold_explore.recipes import recipe, run_file_text
from scorefold_explore.server import QuestionWorker, StoppedError
from scorefold_explore.training.missing import missing_answers, plan, plans, with_minutes
from scorefold_explore.training.session import train_missing
from scorefold_registry import Host


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file of two columns on a curve, 1,000 times as wide as it is high, and a column of text."""
    t = np.linspace(0, 3, 120)
    lines = [f"{1000 * np.cos(one)},{np.sin(one)},{'left' if one > 1.5 else 'right'}" for one in t]
    (tmp_path / "arc.csv").write_text("wide,high,side\n" + "\n".join(lines) + "\n")
    return tmp_path / "arc.csv"


def test_what_is_missing_of_a_table_is_a_flow_a_score_and_what_they_give(host: Host, table: Path) -> None:
    explored = open_place(host, str(table), {"label": "side"})
    assert missing_answers(explored) == ["geodesics", "codes", "likelihoods", "conditional samples", "dimension"]
    found = plan(explored)
    assert {name: spec.get("use") for name, spec in found.stages.items()} == {
        "data": "data:array",
        "flow": "flow:anisotropic",
        "geometry": "geometry:pullback",
        "code": "estimator:riemannian-autoencoder",
        "score": "score:denoising",
        "samples": "score",
        "dimension": "estimator:iddiff",
    }
    assert found.trained == ("flow", "score")
    assert found.without == {"conditional samples": "points are no images, so there are no pixels to hide"}
    assert found.seconds(2.0) == pytest.approx(240 + found.rest)
    one = plan(explored, "geodesics")
    assert list(one.stages) == ["data", "flow", "geometry"]
    assert one.seconds(1.0) < found.seconds(1.0)


def test_a_model_of_the_run_is_loaded_and_not_trained_again(host: Host, learned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/learned/now"
    shutil.copytree(learned_folder, folder)
    shutil.rmtree(folder / "geometry")
    explored = open_run(host, folder)
    found = plan(explored)
    assert found.adds == ("geodesics",)
    assert found.stages["flow"] == {"load": str(folder / "flow")}
    assert found.stages["geometry"]["use"] == "geometry:pullback"
    assert found.trained == ()
    assert answer(explored, "overview", {})["training"]["geodesics"]["trained"] == []


def test_straight_lines_are_no_geodesics(host: Host, learned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/learned/now"
    shutil.copytree(learned_folder, folder)
    explored = open_run(host, folder)
    assert "geodesics" not in explored.missing
    explored.models["geometry"] = replace(explored.models["geometry"], component="geometry:euclidean")
    say_what_is_missing(explored)
    assert plan(explored).adds == ("geodesics",)


def test_the_stages_are_a_run_file_that_is_valid(host: Host, table: Path, tmp_path: Path) -> None:
    from scorefold_registry.runfile.plan import make_plan
    from scorefold_registry.runfile.reader import read

    found = with_minutes(plan(open_place(host, str(table), {"label": "side"}), scale="columns"), 0.5)
    assert found["data"]["config"]["scale"] == "columns"
    assert found["flow"]["config"]["training"] == {"batch_size": 48, "minutes": 0.5}
    (tmp_path / "run.yaml").write_text(run_file_text("explored", found))
    make_plan(host.catalogue, read(tmp_path / "run.yaml"))


def test_images_have_a_score_and_a_code(host: Host) -> None:
    explored = open_place(host, "data:digits", {"limit": 200})
    found = plan(explored)
    assert found.trained == ("score", "code")
    assert found.stages["geometry"] == {
        "use": "geometry:score",
        "inputs": {"score": "score", "data": "data"},
        "config": {"noise": 0.5},
    }
    assert found.stages["score"]["config"]["network"]["use"] == "network:conv-unet"
    assert not found.without


def test_windows_of_a_signal_have_a_network_of_signals(host: Host) -> None:
    explored = open_place(host, "data:pulses", {"window": 64, "length": 2000})
    assert plan(explored).stages["score"]["config"]["network"] == {"use": "network:auto"}
    assert "network:auto" in (recipe(explored, "more", {})["run_file"] or "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: vars(one).update(host=None), "this page was made without what trains models"),
        (lambda one: vars(one).update(state="running"), "this run is still going on"),
        (lambda one: vars(one).update(condition=one.points), "these data come with conditions"),
        (lambda one: one.points[3].fill_(torch.nan), "1 points have missing values"),
        (lambda one: vars(one).update(points=one.points[:, :1]), "each point is one number"),
        (lambda one: vars(one).update(points=torch.zeros(120, 20_000)), "points have 20,000 coordinates"),
        (lambda one: vars(one).update(groups=one.groups[1:]), "there are 0 training points; a model needs 50"),
    ],
)
def test_what_can_not_be_trained_is_refused_with_its_reason(
    host: Host, table: Path, change: Callable[[Explored], None], message: str
) -> None:
    explored = open_place(host, str(table), {"label": "side"})
    change(explored)
    with pytest.raises(ConfigError) as caught:
        plan(explored)
    assert caught.value.message.startswith(f"nothing can be trained here: {message}")
    assert plans(explored)["all"] == {"refused": caught.value.message}


def test_a_run_in_a_folder_that_can_not_be_written_is_refused(
    host: Host, learned_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(learned_folder, folder)
    shutil.rmtree(folder / "geometry")
    explored = open_run(host, folder)
    monkeypatch.setattr("os.access", lambda *given: False)
    with pytest.raises(ConfigError, match="can't be written, and what is trained is kept in it"):
        plan(explored)


def test_questions_that_do_not_fit_are_refused(learned: Explored) -> None:
    with pytest.raises(ConfigError, match="nothing is missing"):
        answer(learned, "train", {})
    with pytest.raises(ConfigError, match="'hands' can't be trained; expected one of: all, geodesics"):
        answer(learned, "train", {"answer": "hands"})
    for minutes in (0, -1, 61, float("nan"), "long"):
        with pytest.raises(ConfigError, match="train: minutes: Input should be"):
            answer(learned, "train", {"minutes": minutes})
    assert answer(learned, "overview", {})["training"] == {}
    assert not learned.training


def test_one_training_runs_beside_the_answers() -> None:
    worker, hold = QuestionWorker(), threading.Event()
    first = worker.start(lambda: hold.wait(10), apart=True)
    again = worker.start(lambda: None, apart=True)
    assert again is first
    assert worker.start(lambda: 3).ended.wait(5)
    hold.set()
    assert first.ended.wait(5)
    assert worker.start(lambda: 4, apart=True) is not first
    worker.close()


@pytest.mark.parametrize("place", ["table", "run"])
def test_what_is_trained_answers_at_once_and_is_kept(
    host: Host, table: Path, learned_folder: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if place == "table":
        explored = open_place(host, str(table), {"label": "side"})
        wanted, scale = "geodesics", "columns"
    else:
        folder = tmp_path / "runs/learned/now"
        shutil.copytree(learned_folder, folder)
        shutil.rmtree(folder / "geometry")
        explored, wanted, scale = open_run(host, folder), "all", "own"
    explored.tags["odd"] = {3}
    titled, said = explored.title, list[str]()
    with showing(lambda done, total, text: said.append(text)):
        found = train_missing(explored, wanted, 0.02, scale)
    assert found["adds"] == ["geodesics"]
    assert "geodesics" not in explored.missing
    assert explored.title == titled
    assert explored.tags == {"odd": {3}}
    assert any(text.startswith("stage ") for text in said)
    asked = {"geometry": "geometry", "start": 3, "end": 9, "steps": 5}
    assert len(answer(explored, "geodesic", asked)["curve_map"]) == 5
    recipe = answer(explored, "recipe", {"what": "geodesic", "asked": asked})
    exec(recipe["python"], {})
    # The page that is opened again has it, from the run's folder or from the run that was made of the data.
    again = open_run(host, Path(found["folder"]) if place == "table" else explored.place)
    assert list(again.of("geometry")) == ["geometry"]
    if place == "run":
        assert Path(found["folder"]).parent == explored.place / "explored"
    else:
        assert Path(found["folder"]).parent == tmp_path / "runs/explored-arc-csv"
        assert explored.scale.per_coordinate


def test_a_training_that_is_stopped_adds_nothing(
    host: Host, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    explored = open_place(host, str(table), {"label": "side"})

    def stop(done: int, total: int, text: str) -> None:
        if "flow" in text and done > 0:
            raise StoppedError

    with showing(stop), pytest.raises(StoppedError):
        train_missing(explored, "geodesics", 5.0, "own")
    assert not explored.training
    assert explored.data_use is not None
    (folder,) = (tmp_path / "runs/explored-arc-csv").glob("*.partial")
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"


def test_a_training_that_fails_says_why(
    host: Host, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    explored = open_place(host, str(table), {"label": "side"})
    table.unlink()
    with pytest.raises(ConfigError, match=r"the training failed: .*arc\.csv"):
        train_missing(explored, "likelihoods", 0.02, "own")


def test_a_process_that_ends_is_said(host: Host, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explored = open_place(host, str(table), {"label": "side"})
    monkeypatch.setattr("sys.executable", shutil.which("false") or "false")
    with pytest.raises(Exception, match="the process that trains has ended"):
        train_missing(explored, "likelihoods", 0.02, "own")


def test_a_child_prints_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from scorefold_explore.training.child import Printed

    shown: Any = Printed()
    shown.stage_started("flow", "flow:anisotropic", 2, 3)
    shown.waiting("flow")
    shown.advanced("flow", 1, 10, "loss 3")
    shown.stage_ended("flow", 1.0, False, {})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["stage"] for line in lines] == ["flow"] * len(lines)
    assert lines[0] == {"stage": "flow", "number": 2, "count": 3, "done": 0, "total": 0, "text": ""}
    assert (lines[-1]["done"], lines[-1]["total"]) == (1, 1)
