"""Tags on a selection, its file of rows, and the scale that distances are taken in."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scorefold.errors import ConfigError
from scorefold_explore.answers import neighbours, scales
from scorefold_explore.command import open_place
from scorefold_explore.explored import LARGEST, Explored
from scorefold_explore.questions import answer
from scorefold_registry import Host


@pytest.fixture
def table(host: Host, tmp_path: Path) -> Explored:
    """Sixty rows with two columns of numbers, a quoted text and a label; row 5 is left out."""
    rng = np.random.default_rng(0)
    rows = [
        [f"{a:.6f}", f"{1000 * b:.4f}", f'a "{n}", of 60', "xyz"[n % 3]]
        for n, (a, b) in enumerate(rng.normal(size=(60, 2)))
    ]
    rows[5][0] = ""
    with (tmp_path / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["small", "label", "note", "kind"], *rows])
    return open_place(host, str(tmp_path / "mine.csv"), {"label": "kind", "missing": "drop", "columns": ["-note"]})


def places(explored: Explored, rows: list[int]) -> list[int]:
    """The points of the page that are these rows of the file."""
    index = torch.cat([group.index for group in explored.groups if group.index is not None]).tolist()
    return [index.index(row) for row in rows]


def test_a_selection_is_saved_with_the_rows_of_the_file_and_their_tags(table: Explored) -> None:
    points = places(table, [40, 7, 11])
    answer(table, "tag", {"tag": " odd ", "points": points[:2]})
    answer(table, "tag", {"tag": "far", "points": points[:1]})
    found = answer(table, "export", {"points": points, "form": "csv"})
    assert (found["name"], found["source"]) == ("selection-3.csv", "rows of mine.csv")
    rows = list(csv.DictReader(io.StringIO(found["text"])))
    assert [row["row"] for row in rows] == ["40", "7", "11"]
    assert [row["tags"] for row in rows] == ["odd;far", "odd", ""]
    assert [row["note"] for row in rows] == ['a "40", of 60', 'a "7", of 60', 'a "11", of 60']
    # The file has a column of its own that is called label.
    assert [row["scorefold_label"] for row in rows] == ["y", "y", "z"]
    whole = json.loads(answer(table, "export", {"points": points, "form": "json"})["text"])
    assert whole["from"] == "mine.csv"
    assert whole["points"][0]["tags"] == ["odd", "far"]
    assert whole["points"][1]["values"]["kind"] == "y"
    assert {group.name for group in table.groups} >= {row["split"] for row in rows}


def test_a_file_that_has_changed_is_not_trusted(table: Explored, tmp_path: Path) -> None:
    text = (tmp_path / "mine.csv").read_text().splitlines()
    (tmp_path / "mine.csv").write_text("\n".join([text[0], *reversed(text[1:])]) + "\n")
    found = answer(table, "export", {"points": places(table, [7]), "form": "csv"})
    assert found["source"] == "columns of the points"
    (row,) = csv.DictReader(io.StringIO(found["text"]))
    assert float(row["small"]) == pytest.approx(float(text[8].split(",")[0]), abs=1e-5)
    assert row["row"] == "7"


def test_images_and_samples_are_saved_by_their_names(host: Host, learned: Explored, tmp_path: Path) -> None:
    for place in range(12):
        Image.new("L", (4, 4), color=10 * place).save(tmp_path / f"{place:02d}.png")
    explored = open_place(host, str(tmp_path), {"grey": True})
    found = answer(explored, "export", {"points": [0, 3], "form": "csv"})
    names = {line.split(",")[0] for line in found["text"].splitlines()[1:]}
    assert names <= {f"{place:02d}.png" for place in range(12)}
    assert found["source"] == "rows alone"
    sample = next(group for group in learned.groups if group.samples)
    rows = json.loads(answer(learned, "export", {"points": [sample.start + 2], "form": "json"})["text"])["points"]
    assert rows == [{"row": "samples 2", "split": "samples", "label": None, "tags": []}]


def test_tags_come_and_go_and_are_a_colour(table: Explored) -> None:
    assert "tag" not in {one["name"] for one in answer(table, "overview", {})["colours"]}
    assert answer(table, "tag", {"tag": "odd", "points": [1, 2, 1]}) == {"odd": [1, 2]}
    assert answer(table, "tag", {"tag": "far", "points": [2]}) == {"odd": [1, 2], "far": [2]}
    colour = answer(table, "colour", {"name": "tag"})
    values = np.frombuffer(base64.b64decode(colour["values"]), "<f4")
    assert colour["classes"] == ["odd", "far"]
    assert values[1:3].tolist() == [0.0, 1.0]
    assert np.isnan(values[0])
    assert answer(table, "tag", {"tag": "odd", "points": [1, 2], "on": False}) == {"far": [2]}
    assert answer(table, "overview", {})["tags"] == {"far": [2]}


@pytest.mark.parametrize(
    ("what", "asked", "message"),
    [
        ("tag", {"tag": "", "points": [1]}, "tag: tag: String should have at least 1 character"),
        ("tag", {"tag": " ; ", "points": [1]}, "the tag ';' has no letter or digit"),
        ("tag", {"tag": "x" * 61, "points": [1]}, "tag: tag: String should have at most 60 characters"),
        ("tag", {"tag": "odd", "points": [10**6]}, "point 1000000 was asked for"),
        ("tag", {"tag": "odd", "points": [-1]}, "tag: points.0: Input should be greater than or equal to 0"),
        ("tag", {"tag": "odd", "points": [0] * (LARGEST + 1)}, "tag: points: List should have at most 100000 items"),
        ("export", {"points": []}, "export: points: List should have at least 1 item"),
        ("export", {"points": [60]}, "point 60 was asked for; expected 0 to 58"),
        ("export", {"points": [1], "form": "exe"}, "export: form: Input should be 'csv' or 'json'"),
        ("map", {"name": "pca:feet"}, "there is no scale 'feet'; expected one of: own, columns, robust"),
        ("colour", {"name": "dimension:feet"}, "there is no scale 'feet'"),
        ("point", {"point": 1, "scale": "feet"}, "there is no scale 'feet'"),
    ],
)
def test_questions_that_do_not_fit(table: Explored, what: str, asked: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        answer(table, what, asked)
    assert caught.value.message.startswith(message)


def test_a_column_that_hides_the_others_is_warned_of_and_scaled(table: Explored, learned: Explored) -> None:
    (warning,) = answer(table, "overview", {})["warnings"]
    assert warning["text"].startswith("100% of the variance is in the column label")
    assert warning["fix"] in [one["name"] for one in scales.scale_names(table)]
    assert answer(table, "map", {"name": "pca"})["axes"][0].startswith("principal component 1 (100%")
    one, two = answer(table, "map", {"name": "pca:columns"})["axes"]
    assert float(one.split("(")[1].split("%")[0]) < 65
    assert float(two.split("(")[1].split("%")[0]) > 35
    assert answer(learned, "overview", {})["warnings"] == []
    assert [one["name"] for one in scales.scale_names(learned)] == ["own"]


@pytest.mark.parametrize("scale", ["columns", "robust"])
def test_distances_are_taken_in_the_scale(table: Explored, scale: str) -> None:
    rows = table.points.double()
    train = rows[: sum(not group.samples and group.stop - group.start for group in table.groups)]
    spread = train.std(0, correction=0)
    if scale == "robust":
        low, high = torch.quantile(train, torch.tensor([0.25, 0.75]).double(), dim=0)
        spread = (high - low) / 1.349
    expected = ((rows - rows[4]) / spread).norm(dim=1)
    found = neighbours.distances_from(table, table.points[4], scale)
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-6)
    near = answer(table, "point", {"point": 4, "scale": scale})
    assert near["neighbours"][0]["distance"] == pytest.approx(float(expected.sort().values[1]), rel=1e-4)
    assert near["units"].endswith("deviations of the columns")
    colour = answer(table, "colour", {"name": f"isolation:{scale}"})
    first = np.frombuffer(base64.b64decode(colour["values"]), "<f4")[4]
    assert first == pytest.approx(float(expected.sort().values[1:6].mean()), rel=1e-3)


def test_columns_that_were_scaled_to_train_can_be_seen_in_their_units(
    host: Host, table: Explored, tmp_path: Path
) -> None:
    explored = open_place(
        host, str(tmp_path / "mine.csv"), {"label": "kind", "missing": "drop", "columns": ["-note"], "scale": "columns"}
    )
    assert answer(explored, "overview", {})["warnings"] == []
    assert [one["name"] for one in scales.scale_names(explored)] == ["own", "columns", "robust", "raw"]
    raw = neighbours.distances_from(explored, explored.points[4], "raw")
    assert torch.allclose(raw, neighbours.distances_from(table, table.points[4]), rtol=1e-3, atol=1e-3)
