"""What a file of data holds, for people and as JSON, whether or not it can be loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from scorefold_registry.run.result import RunResult

Say = Callable[..., Any]
SCHEMA = json.loads((files("scorefold") / "schemas" / "inspect.json").read_text())


@pytest.fixture
def table() -> Path:
    draws = np.random.default_rng(0)
    rows = [f"{i + 1},{draws.normal():.5f},{1e3 * draws.normal():.3f},{'ab'[i % 2]}" for i in range(80)]
    rows[7] = "8,0.5,,a"
    Path("table.csv").write_text("\n".join(["id,small,large,kind", *rows]) + "\n")
    return Path("table.csv")


def test_a_table_has_a_line_a_column_and_the_lines_that_fix_it(say: Say, table: Path) -> None:
    said = say("inspect", str(table))
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "80 rows of 3 columns, 1 with missing values, no exact copies"
    assert [line.split()[0] for line in lines[2:7]] == ["column", "id", "small", "large", "kind"]
    assert lines[3].split()[1:4] == ["integer", "0", "80"]
    assert lines[3].endswith("numbers the rows")
    assert lines[5].split()[2:4] == ["1", "79"]
    assert lines[6].split() == ["kind", "(not", "used)", "text", "0", "2"]
    for fix in ("missing: drop", "scale: columns", "columns: [-id]", "columns: [-kind]", "label: kind"):
        assert fix in said.out
    assert lines[-1] == "in commands a setting is an option, such as --data-option missing=drop"


def test_settings_are_shown_as_options_of_commands(say: Say) -> None:
    Path("trail.csv").write_text("a,b,\n" + "".join(f"{i / 7},{i % 9},\n" for i in range(60)))
    lines = say("inspect", "trail.csv").out.splitlines()
    assert 'warning: column Unnamed: 2 is empty: columns: ["-Unnamed: 2"] leaves it out' in lines
    option = 'columns=["-Unnamed: 2"]'
    assert lines[-1] == f"in commands a setting is an option, such as --data-option '{option}'"
    assert say("inspect", "trail.csv", "--data-option", option).out.startswith("60 rows of 2 columns, no exact copies")
    np.savez("two.npz", x=np.ones((3, 2)), y=np.ones((3, 2)))
    assert "key: x (in commands: --data-option key=x)" in say("inspect", "two.npz").err


def test_its_json_is_as_its_schema_says(say: Say, table: Path) -> None:
    read = ("--data-option", "label=kind", "--data-option", "columns=[small, large]", "--data-option", "scale=columns")
    said = say("inspect", str(table), *read, "--json")
    jsonschema.validate(said.json, SCHEMA)
    assert [column["use"] for column in said.json["columns"]] == ["coordinate", "coordinate", "not used", "label"]
    assert said.json["warnings"] == ["1 row has missing values: missing: drop leaves it out"]
    Path("words.csv").write_text("a,b\n" + "x,y\n" * 30)
    said = say("inspect", "words.csv", "--json")
    jsonschema.validate(said.json, SCHEMA)
    assert said.json["event_shape"] == [0]


def test_images_have_one_line(say: Say) -> None:
    from PIL import Image

    Path("images").mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"images/{i}.png")
    said = say("inspect", "images", "--data-option", "size=4")
    assert said.out.startswith("10 rows of 3 x 4 x 4\n")
    assert "cut to its centred square" in said.out


def test_files_that_a_pattern_names_are_one_table(say: Say) -> None:
    for number in range(3):
        np.save(f"part-{number}.npy", np.random.default_rng(number).normal(size=(40, 2)))
    said = say("inspect", "part-*.npy")
    assert said.out.startswith("120 rows of 2 columns, no exact copies\n")
    said = say("inspect", "part-{0..1}.npy")
    assert said.out.startswith("80 rows of 2 columns")


def test_a_saved_dataset_without_images_is_a_table(say: Say) -> None:
    import pyarrow as pa

    folder = Path("saved")
    folder.mkdir()
    table = pa.table({"a": np.arange(40.0) ** 2, "b": np.arange(40.0)})
    with pa.OSFile("saved/data.arrow", "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    (folder / "dataset_info.json").write_text('{"features": {"a": {"_type": "Value"}, "b": {"_type": "Value"}}}')
    assert say("inspect", "saved").out.startswith("40 rows of 2 columns")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.csv"], "nowhere.csv does not exist; expected a file of points"),
        (
            ["table.csv", "--data-option", "scale=rows"],
            "scale is 'rows' (text); expected 'none', 'table', 'columns' or 'robust'",
        ),
        (["table.csv", "--data-option", "colums=[a]"], "did you mean 'columns'"),
        (["table.csv", "--data-option", "columns=[-idd]"], "has no column 'idd'"),
        (["table.csv", "--data-option", "columns"], "a name, '=' and a value"),
        (["table.txt"], "ends with '.txt'"),
    ],
)
def test_what_can_not_be_inspected_says_why(say: Say, table: Path, arguments: list[str], expected: str) -> None:
    Path("table.txt").write_text("1")
    said = say("inspect", *arguments)
    assert said.status == 2
    assert expected in said.err


def test_the_report_and_the_terminal_show_the_same(say: Say, table: Path, run: Callable[..., RunResult]) -> None:
    file = (
        "version: 1\nname: uneven\nstages:\n"
        "  data: {use: data:array, config: {path: table.csv, columns: [id, small, large], missing: drop}}\n"
        "  mean: {use: estimator:tiny-mean, inputs: {data: data}}\n"
    )
    result = run(file)
    page = result.report.read_text()
    assert "The data: 80 rows of 3 columns, 1 with missing values, no exact copies" in page
    assert page.count('<tr><th scope="col">column</th>') == 1
    assert "<td>numbers the rows</td>" in page
    assert "event_shape:" in page
    assert "greatest:" not in page
    Path("run.yaml").write_text(file)
    said = say("run", "run.yaml", "--quiet")
    answer, *rest = said.out.strip().splitlines()
    note = next(line for line in rest if line.startswith("  caution: "))
    assert answer.startswith("mean: The intrinsic dimension is")
    assert note.startswith("  caution: the columns' spreads differ 1000-fold")
    assert "scale: columns" in note
    assert len([line for line in rest if "columns: [-id]" in line]) == 1
    assert said.out.count("scale: columns") == 1
