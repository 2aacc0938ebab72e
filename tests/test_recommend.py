"""``scorefold recommend``: from a file to an answer with its table and report, and errors for what is no data."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image

from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.python import estimate, load_data
from scorefold_registry.python.reading import as_points

pytestmark = pytest.mark.usefixtures("undrawn", "one_host")

QUICK = ["--quiet", "--only", "mle,gride,pca", "--set", "calibrated.candidates=40", "--set", "calibrated.surrogates=12"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, (300, 2))
    points = np.column_stack([u, u[:, 0] ** 2, np.sin(u.sum(1))]) @ rng.normal(size=(4, 5)) + 100
    np.savetxt("points.csv", points, delimiter=",", header="a,b,c,d,e", comments="")
    np.save("points.npy", points)


def test_a_file_gives_an_answer_a_table_a_report_and_its_run_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "points.csv", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "dimension: The intrinsic dimension is " in said
    assert "95% interval" in said
    for name in ("mle", "gride", "pca"):
        assert f"\n{name} " in said
    file = Path(said.rpartition("run file: ")[2].strip())
    assert "estimator:calibrated" in file.read_text()
    (report,) = Path("runs").glob("recommend-points/2*/report.html")
    assert "scorefold recommend points.csv" in report.read_text()
    # The file that was written is a run file like others, and what was computed is found again.
    assert main(["run", str(file), "--json", "--quiet"]) == 0
    assert all(stage["reused"] for stage in json.loads(capsys.readouterr().out)["stages"])


def test_json_has_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "points.npy", "--json", "--seed", "3", *QUICK]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["value"] == pytest.approx(2, abs=0.5)
    assert said["interval"][0] < said["value"] < said["interval"][1]
    assert [row["estimator"] for row in said["table"]] == ["mle", "gride", "pca"]
    assert Path(said["report"]).is_file()


def test_every_point_is_read_and_columns_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--set", "calibrated.candidates=80", "--set", "calibrated.surrogates=24"]
    assert main(["recommend", "points.csv", "--json", "--data-option", "columns=[a, b, c]", *QUICK, *more]) == 0
    assert "surrogates of 300 distinct points" in json.loads(capsys.readouterr().out)["note"]


def test_what_is_no_measurement_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    points = [[f"{value:.5f}".replace(".", ",") for value in row] for row in np.load("points.npy")]
    points[3][1] = ""
    rows = [[str(place), *row, "ab"[place % 2], f"{place} mm"] for place, row in enumerate(points)]
    Path("export.csv").write_text("\n".join(";".join(row) for row in [["nr", *"abcde", "kind", "length"], *rows]))
    assert main(["recommend", "export.csv", "--json", *QUICK]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["value"] == pytest.approx(2, abs=0.5)
    reasons = "nr numbers the rows, kind holds text, length holds numbers followed by 'mm'"
    assert said["reading"]["columns"] == f"[-nr, -kind, -length] (left out: {reasons})"
    assert said["reading"].keys() == {"columns", "missing", "scale"}
    assert "surrogates of 299 distinct points" in said["note"]
    assert main(["recommend", "export.csv", "--data-option", "columns=[a, b, c]", *QUICK]) in (0, 1)
    said = capsys.readouterr().out
    assert "nr numbers the rows" not in said
    assert "missing: drop (leaves out the 1 row with missing values; or fill it in)" in said


def test_columns_of_one_category_are_left_out_where_others_are_measurements() -> None:
    x = np.load("points.npy")[:200, :2]
    codes = np.concatenate([np.eye(3)[np.arange(200) % 3], np.eye(2)[np.arange(200) // 7 % 2]], 1)
    for name, table in (("mixed", np.concatenate([codes, x], 1)), ("baskets", codes)):
        heading = ",".join(f"v{place}" for place in range(table.shape[1]))
        np.savetxt(f"{name}.csv", table, delimiter=",", header=heading, comments="")
    config, notes = as_points(Host.discover(), Path("mixed.csv"), {"label": None})
    assert config["columns"] == ["-v0", "-v1", "-v2", "-v3", "-v4"]
    assert "v0 marks a category with its neighbours, which sum to 1" in notes["columns"]
    assert "columns" not in as_points(Host.discover(), Path("baskets.csv"), {"label": None})[0]


def test_few_rows_are_read_as_many_are(capsys: pytest.CaptureFixture[str]) -> None:
    points = np.load("points.npy")[:45]
    rows = [f"{x:.5f},{y:.5f},{'ab'[n % 2] if n % 3 else ''}" for n, (x, y, *_) in enumerate(points)]
    rows.append(rows[44])
    Path("few.csv").write_text("\n".join(["x,y,kind", *rows]))
    assert main(["recommend", "few.csv", "--json", *QUICK]) in (0, 1)
    said = json.loads(capsys.readouterr().out)
    assert said["reading"]["columns"] == "[-kind] (left out: kind holds text)"
    assert said["reading"].keys() == {"columns", "duplicates", "scale"}
    assert "surrogates of 45 distinct points" in said["note"]


def units() -> np.ndarray:
    """A manifold of dimension 3 in five columns of units that differ 10^8-fold."""
    u, v, w = np.random.default_rng(0).uniform(-1, 1, (3, 600))
    year, dose = 2026 + 1e-3 * (u + 0.3 * v * w), 4e-6 * (2 + u * v)
    return np.stack([year, 70 + 12 * v, 101300 + 900 * np.sin(2 * w), dose, 60 + 10 * np.cos(2 * w) + 5 * u], 1)


@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_columns_of_several_units_are_scaled_and_that_is_said_first(
    ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savetxt("units.csv", units(), delimiter=",", header="year,mass,pressure,dose,rate", comments="")
    np.save("units.npy", units())
    few = ["--only", "mle,gride,twonn,mind-ml", "--set", "calibrated.candidates=80"]
    asked = ["recommend", f"units.{ending}", "--quiet", *few]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert said.startswith("scale: columns (")
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx(3, abs=0.5)
    assert found["interval"][0] < 3 < found["interval"][1]
    # What start writes for the same file reads it in the same units.
    assert main(["start", f"units.{ending}", "--question", "dimension", "--out", "start.yaml"]) == 0
    assert "scale: columns" in Path("start.yaml").read_text()


def test_a_stage_withholds_a_dimension_that_hangs_on_units() -> None:
    """One way for all commands: where nothing says which units hold, there is no number."""
    np.savetxt("units.csv", units(), delimiter=",", header="year,mass,pressure,dose,rate", comments="")
    given = load_data("units.csv", splits=(0, 0, 1), progress=False)
    found = estimate("estimator:mle", given, progress=False).value
    assert (found.value, found.interval) == (None, None)
    assert found.headline.startswith("withheld, since it depends on the units of the columns: about 1.7 as they are, ")
    assert "set scale: columns" in found.diagnostics["warnings"][0]
    for scale, dimension in (("columns", 2.8), ("none", 1.7)):
        settled = load_data("units.csv", splits=(0, 0, 1), scale=scale, progress=False)
        found = estimate("estimator:mle", settled, progress=False).value
        assert found.value == pytest.approx(dimension, abs=0.15)
        assert not any("spreads differ" in text for text in found.diagnostics.get("warnings", ()))


def test_a_stage_withholds_the_dimension_of_a_curve_that_is_sampled_too_often() -> None:
    """Rows 0.005 apart on Lorenz's attractor have their neighbours on the same turn; with the stride it is read."""
    fine = {"step": 0.005, "length": 12_000, "fractions": [0, 0, 1], "seed": 0}
    found = estimate("estimator:twonn", load_data("data:lorenz", **fine, progress=False), progress=False).value
    assert found.value is None
    assert "start fewer than" in found.headline
    stride = int(found.headline.split("stride: ")[1].split()[0])
    assert any("measures the curve" in text for text in found.diagnostics["warnings"])
    apart = load_data("data:lorenz", **(fine | {"length": 60_000, "stride": stride}), progress=False)
    found = estimate("estimator:twonn", apart, progress=False).value
    assert found.value == pytest.approx(2.06, abs=0.25)


def test_no_label_has_a_dimension_where_that_of_all_is_withheld() -> None:
    kinds = np.arange(600) % 2
    table = pd.DataFrame(units(), columns=list("abcde")).assign(kind=kinds)
    given = load_data(table, label="kind", splits=(0, 0, 1), progress=False)
    result = estimate("estimator:twonn", given, by="label", progress=False).result
    assert result["by_label"] == []
    assert any(text.startswith("labels have no answer of their own: withheld") for text in result["warnings"])
    # Uneven columns that hold one dimension either way have a number.
    u = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    plain = load_data(np.c_[u, 100 * u], splits=(0, 0, 1), progress=False)
    assert estimate("estimator:mle", plain, progress=False).value.value == pytest.approx(2, abs=0.2)


def test_quick_gives_two_readings_that_nothing_has_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "points.csv", "--quick", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "unchecked: mle reads " in said
    assert "twonn reads " in said
    assert "without --quick they are checked" in said
    assert main(["recommend", "points.csv", "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(json.loads(files("scorefold").joinpath("schemas/recommend.json").read_text())).validate(found)
    assert found["value"] is None
    assert [row["reading"] for row in found["table"]] == [pytest.approx(2, abs=0.6)] * 2
    assert not any(row["used"] for row in found["table"])


def test_the_next_command_after_a_quick_one_has_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("two.npz", first=np.zeros((300, 2)), b=np.load("points.npy"))
    options = ["--data-option", "key=b", "--seed", "3"]
    assert main(["recommend", "two.npz", "--quick", *options, "--quiet"]) == 0
    assert "\nnext: scorefold recommend two.npz --data-option key=b --seed 3\n" in capsys.readouterr().out


def test_counts_have_no_dimension_with_the_noise_of_counting(capsys: pytest.CaptureFixture[str]) -> None:
    draws = np.random.default_rng(0)
    rates = 30 * np.exp(draws.normal(size=(500, 2)) @ draws.normal(size=(2, 6)) / 2)
    np.savetxt("counts.csv", draws.poisson(rates), delimiter=",", header="a,b,c,d,e,f", comments="", fmt="%d")
    assert main(["recommend", "counts.csv", "--quick", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "mle has no reading" in said
    assert "warning: withheld: the noise of counting counts as dimensions" in said


def test_points_too_few_for_a_quick_reading_are_too_few_for_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("few.npy", np.load("points.npy")[:15])
    assert main(["recommend", "few.npy", *QUICK]) == 2
    assert "the check on surrogates needs at least 30 points; 15 were given" in capsys.readouterr().err
    assert main(["recommend", "few.npy", "--quick", "--quiet"]) == 2
    assert "MLE needs at least 21 points with n_neighbors: 20; 15 were given" in capsys.readouterr().err
    np.save("some.npy", np.load("points.npy")[:25])
    assert main(["recommend", "some.npy", *QUICK]) == 2
    assert capsys.readouterr().err.strip().endswith("; or --quick reads them without the check")


def test_no_answer_where_it_hangs_on_units_that_may_be_noise(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 4))
    points = np.concatenate([z / np.linalg.norm(z, axis=1, keepdims=True), np.zeros((400, 12))], 1)
    np.save("noisy.npy", points + 0.01 * rng.standard_normal(points.shape))
    assert main(["recommend", "noisy.npy", *QUICK]) == 2
    said = capsys.readouterr().err
    assert "the dimension depends on their units" in said
    assert "--data-option scale=none" in said
    assert main(["recommend", "noisy.npy", "--data-option", "scale=none", *QUICK]) in (0, 1)
    assert "scale:" not in capsys.readouterr().out


def test_numbers_with_commas_between_thousands_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{1000 + place:,};{x:.5f};{y:.5f}" for place, (x, y, *_) in enumerate(np.load("points.npy"))]
    Path("thousands.csv").write_text("\n".join(["people;x;y", *rows]))
    assert main(["recommend", "thousands.csv", *QUICK]) == 2
    said = capsys.readouterr().err
    for word in ("column 'people'", "numbers with commas", 'decimal: ","', "columns: [-people]"):
        assert word in said
    assert main(["recommend", "thousands.csv", "--data-option", "columns=[-people]", *QUICK]) in (0, 1)


def test_a_folder_of_images_and_a_component_are_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures").mkdir()
    shades = np.random.default_rng(0).integers(0, 255, (60, 2))
    for place, (dark, light) in enumerate(shades):
        pixels = np.full((4, 4), dark, dtype=np.uint8)
        pixels[:2] = light
        Image.fromarray(pixels).save(f"pictures/{place}.png")
    grey = ["--data-option", "grey=true"]
    assert main(["recommend", "pictures", "--json", *grey, *QUICK]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["run_file"].endswith("recommend-pictures.yaml")
    assert main(["recommend", "data:sphere", "--json", "--data-option", "points=300", *QUICK]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["value"] == pytest.approx(2, abs=0.5)
    assert "surrogates of 300 distinct points" in said["note"]


def test_the_status_is_1_and_the_reason_is_printed_where_none_can_be_trusted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Estimator, data: torch.Tensor, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("intrinsic dimension", 7.0)

    monkeypatch.setattr("scorefold_neighbours.estimators.estimator.NeighbourEstimator.point_estimate", wrong)
    arguments = ["recommend", "points.csv", "--quiet", "--only", "mle,gride", "--set", "calibrated.candidates=40"]
    assert main(arguments) == 1
    assert "no estimator can be trusted on these data" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    Draft202012Validator(json.loads(files("scorefold").joinpath("schemas/recommend.json").read_text())).validate(said)
    assert said["value"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], ("nowhere.csv, which does not exist", "expected a file of points")),
        (["notes.txt"], ("ends with '.txt'", ".npy, .npz, .csv, .tsv, .parquet")),
        (["nothing"], ("given 'nothing'", "a folder of images, or a component")),
        (["estimator:mle"], ("given 'estimator:mle'", "data:digits")),
        (["data:sphre"], ("data:sphre", "did you mean data:sphere")),
        (["points.csv", "--data-option", "colums=[a]"], ("recommend-points.yaml", "did you mean 'columns'")),
        (["points.csv", "--data-option", "columns"], ("--data-option columns", "'=' and a value")),
        (["points.csv", "--set", "scale=none"], ("expected a field of the estimator", "--data-option scale=none")),
        (["points.csv", "--set", "calibrated.surrogates=1"], ("surrogates is 1", "at least 12")),
        (["points.csv", "--set", "calibrated.candidates=1"], ("candidates is 1", "at least 40")),
        (["points.csv", "--set", "calibrated.tolerance=2"], ("tolerance is 2", "at most 1")),
        (["points.csv", "--set", "calibrated.points=2"], ("points is 2", "at least 50")),
        (["points.csv", "--data-option", "scale=rows"], ("scale", "none", "columns")),
        (["points.csv", "--set", "calibrated.subsample={ess: 2}"], ("ess", "at least 30")),
        (["points.csv", "--only", "mel"], ("estimator:mel", "did you mean estimator:mle")),
        (["points.csv", "--only", ","], ("--only needs the name of an estimator",)),
        (["points.csv", "--only", "iddiff"], ("port 'score' of estimator:iddiff",)),
    ],
)
def test_mistakes_are_named_with_what_would_do(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.txt").write_text("no points")
    assert main(["recommend", *arguments]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said


@pytest.mark.parametrize("command", [["recommend", "points.npy"], ["audit", "points.npy", "--train", "points.npy"]])
def test_a_folder_that_may_not_be_written_is_named(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(".scorefold").write_text("a file where the folder would be")
    assert main([*command, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "can't be written, and runs are kept here" in said
    assert "change to a folder that can be written" in said
