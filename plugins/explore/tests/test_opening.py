"""Runs and data as they are opened: whole ones, running ones, broken ones, and what is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scorefold.errors import ArtefactError, ConfigError, DataError
from scorefold_explore import opening
from scorefold_explore.command import _may_hold_data, open_place, run
from scorefold_explore.explored import Explored
from scorefold_explore.opening import put_beside
from scorefold_explore.questions import answer
from scorefold_registry import Host


def test_a_run_has_its_points_models_and_samples(learned: Explored) -> None:
    assert [group.name for group in learned.groups] == ["train", "validation", "test", "samples"]
    assert list(learned.models) == ["flow", "geometry", "code", "score", "dimension"]
    assert {kind: list(learned.of(kind)) for kind in ("geometry", "code", "flow", "score")} == {
        "geometry": ["geometry"],
        "code": ["code"],
        "flow": ["flow"],
        "score": ["score"],
    }
    assert learned.missing == {}
    assert learned.state == "complete"


def test_data_with_conditions_are_those_that_the_model_reads(holes: Explored) -> None:
    assert holes.data_stage == "holes"
    assert list(holes.of("conditional")) == ["score"]
    assert isinstance(holes.condition, dict)
    assert set(holes.condition) == {"image", "mask"}
    assert set(holes.missing) == {"geodesics", "codes", "likelihoods"}


def test_a_run_that_goes_on_shows_what_is_finished(host: Host, learned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/learned/now.partial"
    shutil.copytree(learned_folder, folder)
    (folder / "status.json").write_text(json.dumps({"state": "running"}))
    for name in ("geometry", "code", "score", "samples", "dimension", "unusual"):
        shutil.rmtree(folder / name)
    explored = opening.open_run(host, folder)
    assert explored.state == "running"
    assert "still going on" in explored.notes[0]
    assert list(explored.models) == ["flow"]
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "flow")
    with pytest.raises(ArtefactError, match="is finished yet"):
        opening.open_run(host, folder)


def test_a_stage_that_is_damaged_is_noted(host: Host, learned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(learned_folder, folder)
    (folder / "code/state.safetensors").write_bytes(b"")
    explored = opening.open_run(host, folder)
    assert any(note.startswith("the stage code can't be read") for note in explored.notes)
    assert "codes" in explored.missing


def test_the_folder_of_a_stage_or_of_all_runs_of_a_name_leads_to_a_run(learned_folder: Path) -> None:
    assert opening.run_folder(learned_folder / "flow") == learned_folder
    assert opening.run_folder(learned_folder.parent) == learned_folder
    with pytest.raises(ArtefactError) as caught:
        opening.run_folder(learned_folder.parent.parent)
    assert str(learned_folder.parent) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("nothing", DataError, "is not there"), ("empty", ArtefactError, "is not the folder of a run")],
)
def test_what_is_neither_run_nor_data(
    host: Host, tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        open_place(host, str(tmp_path / name), {})


def test_bare_data_have_what_points_alone_can_say(host: Host, tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3))
    table.write_text("a,b,kind\n" + "".join(f"{a},{b},{int(c > 0)}\n" for a, b, c in rows))
    explored = open_place(host, str(table), {"label": "kind"})
    assert explored.columns == ("a", "b")
    assert explored.labels is not None
    assert set(explored.missing) == {"geodesics", "codes", "conditional samples", "likelihoods", "images"}
    with pytest.raises(ConfigError):
        open_place(host, str(table), {"no_field": 1})


def test_each_point_of_the_page_has_the_row_of_the_file(host: Host, tmp_path: Path) -> None:
    x = np.random.default_rng(0).permutation(120).reshape(40, 3).astype(float)
    x[[3, 20], [0, 2]] = np.nan
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    table.to_csv(tmp_path / "x.csv", index=False)
    explored = open_place(host, str(tmp_path / "x.csv"), {"missing": "drop"})
    groups = answer(explored, "overview", {})["groups"]
    assert [group["name"] for group in groups] == ["train", "validation", "test"]
    shown = [row for group in groups for row in group["rows"]]
    assert sorted(shown) == sorted(set(range(40)) - {3, 20})
    assert shown != sorted(shown)
    assert np.allclose(explored.scale.to_raw(explored.points).numpy(), x[shown], atol=1e-4)
    names = [f"patient {row}" for row in range(38)] + ["7", "patient 0"]
    table.assign(who=names).to_csv(tmp_path / "named.csv", index=False)
    explored = open_place(host, str(tmp_path / "named.csv"), {"missing": "drop", "names": "who"})
    called = [row for group in explored.groups for row in group.row_names() or []]
    assert called == ["row 7" if row == 38 else names[row] for row in shown]
    rows = [group.row(point) for group in explored.groups for point in range(group.start, group.stop)]
    assert rows == [39 if row == 39 else names[row] for row in shown]


def test_two_runs_of_the_same_points_stand_side_by_side(
    host: Host, learned: Explored, learned_folder: Path, holes: Explored, tmp_path: Path
) -> None:
    one, other = opening.open_run(host, learned_folder), opening.open_run(host, learned_folder)
    other.known["odd"] = replace(next(iter(other.known.values())), values=torch.ones(len(other.points)))
    put_beside(one, other)
    assert list(one.of("geometry")) == ["geometry", "geometry (second run)"]
    overview = answer(one, "overview", {})
    assert overview["second"]
    assert overview["training"] == {}
    assert "code:code (second run)" in {row["name"] for row in overview["maps"]}
    assert int(one.known["odd, second run"].values.isfinite().sum()) == 300
    asked = {"geometry": "geometry (second run)", "start": 3, "end": 9, "steps": 5}
    assert answer(one, "geodesic", asked)["distance"] > 0
    exec(answer(one, "recipe", {"what": "geodesic", "asked": asked})["python"], {})
    with pytest.raises(ConfigError, match="it has 120 points, not 300"):
        put_beside(learned, holes)
    shifted = opening.open_run(host, learned_folder)
    shifted.points[5] += 1
    with pytest.raises(ConfigError, match="1 of its 300 points are other ones, or in other units"):
        put_beside(learned, shifted)
    wide = opening.open_run(host, learned_folder)
    wide.points = wide.points.flatten(1)
    with pytest.raises(ConfigError, match="its points are of 64, not of 1 x 8 x 8"):
        put_beside(learned, wide)
    assert list(learned.of("geometry")) == ["geometry"]


def test_samples_of_a_model_are_no_rows(learned: Explored) -> None:
    *data, samples = answer(learned, "overview", {})["groups"]
    assert all(isinstance(row, int) for group in data for row in group["rows"])
    assert (samples["origin"], samples["rows"]) == ("samples", None)
    assert {group["origin"] for group in data} == {"data"}


def test_fields_of_data_are_for_data(host: Host, learned_folder: Path) -> None:
    with pytest.raises(ConfigError, match="--data-option label is for data"):
        open_place(host, str(learned_folder), {"label": "kind"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RUN"),
        (["x", "--data-option", "label"], "--data-option label: expected a name"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_explore.bundle.check_built", lambda: None)
    with pytest.raises(ConfigError) as caught:
        run(arguments)
    assert caught.value.message.startswith(message)


def test_a_port_that_is_taken_is_said(learned_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("scorefold_explore.bundle.check_built", lambda: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"the port {port} can't be used"):
            run([str(learned_folder), "--port", str(port), "--no-browser"])


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup", "dataset_info.json"])
def test_a_folder_with_the_file_of_an_array_store_is_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "chunk.bin").write_bytes(b"")
    assert not _may_hold_data(tmp_path)
    (tmp_path / name).write_text("{}")
    assert _may_hold_data(tmp_path)
