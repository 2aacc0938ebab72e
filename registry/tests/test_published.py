"""Published tables beside our components: the file, its errors, the losses, and what is printed and kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scorefold.errors import ConfigError
from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.experiments import published
from scorefold_registry.experiments.engine import TaskResult, Watch, run_here
from scorefold_registry.experiments.published import (
    Publication,
    PublishedCell,
    PublishedFile,
    PublishedRow,
    as_markdown,
    find_published,
    loss,
    published_cells,
)

FILE = """
title = "Spheres"
source = "A table of three numbers"
date = 2026-01-02
protocol = "As it came."
use = "data:sphere"
error = "relative-rounded"
withheld = 1.0

[methods]
lines = {use = "estimator:pca", config = {resamples = 0}, ours = true}
far = {use = "estimator:mle", config = {n_neighbors = 90, resamples = 0}}

[sets]
"circle" = {dimension = 1, ambient = 3}
"ball" = {dimension = 2, ambient = 3}

[tables.few]
words = "60 points"
config = {points = 60, fractions = [0, 0, 1]}
draws = 4
published = {lines = 0.25, others = 0.5}
columns = ["others"]
rows = {"circle" = [1.5]}
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host.discover()


def read(tmp_path: Path, text: str = FILE) -> PublishedFile:
    (tmp_path / "own.toml").write_text(text)
    return find_published([], str(tmp_path / "own.toml"))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("relative-rounded", 2.4, 0.5),
        ("relative-rounded", 4.5, 0.0),  # half to even
        ("relative-rounded", 5.5, 0.5),
        ("relative", 5.0, 0.25),
        ("absolute", 3.5, 0.5),
    ],
)
def test_errors_of_an_estimate_of_four(kind: str, value: float, expected: float) -> None:
    assert loss(kind, value, 4.0) == pytest.approx(expected)


def test_a_file_is_measured_on_the_sets_of_its_rows(tmp_path: Path, host: Host) -> None:
    """A circle spans two lines, so each estimate is off by its whole dimension; 90 neighbours among 60 are withheld."""
    file = read(tmp_path)
    tasks = published_cells(file, [], [], 2)
    assert tasks == [PublishedCell("few", "circle", method, draw) for draw in (0, 1) for method in ("lines", "far")]
    rows = run_here(Publication(host, file, tasks, tmp_path), Watch())
    assert [(row.value, row.truth, row.loss, row.error) for row in rows] == [
        (2.0, 1, 1.0, None),
        (None, 1, 1.0, None),
    ] * 2
    assert "at least 91" in rows[1].reason
    assert rows[0].reason == ""
    text = as_markdown(file, rows)
    assert "| lines  | ours                    | 1.000      | 0.000          | 0 of 2   |" in text
    assert "| far    | peer, on the same draws | 1.000      | 0.000          | 2 of 2   |" in text
    assert "| others | published               |            |                |          |       | 0.500     |" in text
    assert "| circle | 1     | 2.00  | withheld | 1.5               |" in text


def test_values_are_kept_and_draws_differ(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read(tmp_path)
    tasks = published_cells(file, ["few"], ["lines"], 2)
    first = Publication(host, file, tasks, tmp_path / "kept")
    one, other = (first.data(task).x for task in tasks)
    assert not one.equal(other)
    rows = run_here(first, Watch())
    again = Publication(host, file, tasks, tmp_path / "kept")
    monkeypatch.setattr(Publication, "run", lambda *_: pytest.fail("measured again"))
    assert [row.value for row in run_here(again, Watch())] == [row.value for row in rows]
    files = {
        first.kept_in(PublishedCell("few", "circle", method, draw), 0) for method in ("lines", "far") for draw in (0, 1)
    }
    assert len(files) == 4
    file.methods["lines"].by_set["circle"] = {"other": 1}
    assert first.kept_in(PublishedCell("few", "circle", "lines", 0), 0) not in files


def test_the_mean_error_and_its_standard_error(tmp_path: Path) -> None:
    file = read(tmp_path)
    rows = [PublishedRow("few", "circle", "lines", k, 1.0, 1.0 + k, float(k), "", 0.1) for k in range(3)]
    text = as_markdown(file, rows)
    assert "| 1.000      | 0.577          | 0 of 3   | 0.3   | 0.250     |" in text
    assert "1 sets, 3 of our draws, 4 published." in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("error = ", "errors = "), "errors"),
        (('error = "relative-rounded"', 'error = "squared"'), "relative-rounded"),
        (("[1.5]", "[1.5, 2.0]"), "has 2 values"),
        (('{"circle" = [1.5]}', '{"circel" = [1.5]}'), "circle"),
        (("draws = 4", "draws = 0"), "draws"),
        (("title = ", "title "), "can't be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, FILE.replace(*change))
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert "own.toml" in refused.value.message


def test_names_have_near_misses(tmp_path: Path, host: Host) -> None:
    file = read(tmp_path)
    for tables, methods, said in ((["fwe"], [], "few"), ([], ["lins"], "lines")):
        with pytest.raises(ConfigError) as refused:
            published_cells(file, tables, methods, 1)
        assert said in (refused.value.hint or "")
    with pytest.raises(ConfigError, match="no published table is called 'geomel'") as refused:
        find_published(host.plugins, "geomel")
    assert "geomle" in (refused.value.hint or "")


def test_the_command_prints_tables_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    read(tmp_path)
    asked = ["reproduce", "--published", "own.toml", "--methods", "lines"]
    assert main(asked) == 0
    assert "## few: 60 points" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["date"] == "2026-01-02"
    assert answer["published"] == {"few": {"lines": 0.25, "others": 0.5}}
    assert [(row["set"], row["value"]) for row in answer["rows"]] == [("circle", 2.0)]
    assert main(["reproduce", "--methods", "lines"]) == 2
    assert "--published" in capsys.readouterr().err


def test_the_tables_of_geomle_name_sets_that_can_be_drawn(host: Host) -> None:
    file = find_published(host.plugins, "geomle")
    assert {name: len(table.rows) for name, table in file.tables.items() if table.rows} == {
        "dm": 40,
        "dm-new": 40,
        "nonuniform": 32,
        "num-1000": 42,
        "num-2500": 42,
    }
    publication = Publication(host, file, ())
    for table, each in [("nonuniform", name) for name in file.tables["nonuniform"].rows] + [
        ("noise-5", name) for name in file.sets
    ]:
        points = publication.data(PublishedCell(table, each, "MLE", 0))
        assert len(points) == 1000
        assert points.truth["dimension"] == file.sets[each]["dimension"]
        assert points.x.shape[1] == file.sets[each]["ambient"]


MODELS = """
title = "Rings"
source = "A table of one number"
date = 2026-01-02
protocol = "As it came."
use = "data:posterior"
error = "value"
asks = {noise_std = "the noise on the condition"}

[metric]
use = "metric:tarp"
reads = "TARP p-value"
config = {references = 2}
options = {n = 5, conditions = 20}

[methods.flow]
use = "flow:affine-coupling"
config = {layers = 1, hidden = [4], training = {steps = 3, batch_size = 32}}
ours = true

[methods.flow.by_set]
few = {layers = 2}

[sets]
few = {points = 200}
more = {points = 400}

[tables.one]
words = "three steps"
draws = 2
published = {}
columns = ["theirs"]
rows = {few = [0.5], more = [0.7]}
"""


def test_a_model_is_trained_and_its_metric_stands_beside_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    read(tmp_path, MODELS)
    asked = ["reproduce", "--published", "own.toml"]
    assert main(asked) == 2
    assert "noise_std is missing, the noise on the condition" in (said := capsys.readouterr().err)
    assert "--data-option noise_std=..." in said
    assert main([*asked, "--data-option", "noise_std=-1"]) == 2
    assert "noise_std" in capsys.readouterr().err
    asked += ["--data-option", "noise_std=0.5", "--sets", "few"]
    assert main([*asked, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert 0 <= row["value"] <= 1
    assert row["loss"] == row["value"]
    assert (row["set"], row["method"], row["error"]) == ("few", "flow", None)
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert f"| few | {row['value']:.3f} | 0.5 " in text
    assert "mean TARP p-value" in text
    assert "| theirs | published |" in text
    assert "| 0.500 " in text, "the published mean is over the sets that were measured"
    assert "truth" not in text


def test_a_metric_gives_the_number_that_the_file_names(tmp_path: Path, host: Host) -> None:
    file = read(tmp_path, MODELS.replace('reads = "TARP p-value"', 'reads = "TARP"'))
    with pytest.raises(ConfigError, match=r"gives no number 'TARP'; there are .*TARP p-value"):
        Publication(host, file, published_cells(file, [], [], 1), given={"noise_std": 0.5}).run(
            PublishedCell("one", "few", "flow", 0), 0, None
        )


def test_a_number_with_a_warning_of_its_metric_is_withheld(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C2ST of fewer draws than the published ones is smaller, and is not shown beside them."""
    found = {"metrics": {"TARP p-value": 0.5}, "warnings": ["of something else", "TARP p-value is of 9 draws"]}
    options: dict[str, Any] = {}

    def run(host: Host, plan: Any, **_: Any) -> Any:
        options.update(plan.stages[-1].options, layers=plan.stages[1].config.layers)
        return SimpleNamespace(folder=tmp_path)

    monkeypatch.setattr(published, "run_plan", run)
    monkeypatch.setattr(published, "read_result", lambda folder: found)
    file = read(tmp_path, MODELS.replace("[methods.flow]", "[metric.options_by_set]\nfew = {n = 7}\n\n[methods.flow]"))
    task = PublishedCell("one", "few", "flow", 0)
    publication = Publication(host, file, [task], given={"noise_std": 0.5})
    value = publication.run(task, 0, None)
    row = publication.row(task, [TaskResult(value)])
    assert row.value is None
    assert str(row) == "one, few, flow, draw 0: withheld (TARP p-value is of 9 draws)"
    assert (options["n"], options["conditions"], options["layers"]) == (7, 20, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('error = "value"', 'error = "absolute"'), "set both of error: value and metric"),
        (("[methods.flow.by_set]\nfew", "[methods.flow.by_set]\nfw"), "few"),
        (("[methods.flow]", "[metric.options_by_set]\nmroe = {n = 3}\n\n[methods.flow]"), "more"),
    ],
)
def test_what_is_wrong_with_a_metric_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, MODELS.replace(*change))
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_the_tables_of_sbibm_have_the_tasks_of_the_data(host: Host) -> None:
    file = find_published(host.plugins, "sbibm")
    assert file.metric is not None
    for table in file.tables.values():
        assert table.rows.keys() == file.sets.keys()
        for column, values in zip(table.columns, zip(*table.rows.values(), strict=True), strict=True):
            assert table.published[column] == pytest.approx(sum(values) / len(file.sets), abs=6e-4), column
    for name, config in file.sets.items():
        source = host.create(file.use, {**config, "simulations": 20})
        bound = source.load("train").x.abs().max()
        within = file.methods["flow-within"].by_set.get(name, {}).get("within")
        assert within is None or (within[1] * 0.5 < bound <= within[1])
        assert file.metric.options_by_set.get(name, {}).get("within") == within
