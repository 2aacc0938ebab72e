"""The commands run, validate, graph and runs, as a person and as a program uses them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from filelock import FileLock

from scorefold_registry.run.folders import Cache

RUN_FILE = (Path(__file__).parent / "tiny" / "run.yaml").read_text()
SHORT = "version: 1\nname: short\nstages:\n  data: {use: data:tiny}\n"

Say = Callable[..., Any]


def schema(name: str) -> Any:
    return json.loads((files("scorefold") / "schemas" / f"{name}.json").read_text())


@pytest.fixture(autouse=True)
def _files(write: Callable[..., Path]) -> None:
    write()
    write(SHORT, "short.yaml")


def test_run_says_what_stages_say_against_themselves(say: Say, write: Callable[..., Path]) -> None:
    space = "  space: {use: geometry:tiny-many, inputs: {parts: [data]}}\n"
    paths = "  paths: {use: space, do: interpolate, inputs: {data: data}, options: {pairs: 2}}\n"
    write(SHORT + space + paths, "uncertain.yaml")
    assert "  caution: it has <several> parts" in say("run", "uncertain.yaml").out.splitlines()


def test_run_says_what_it_does_what_it_found_and_where(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    said = say("run", "run.yaml")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0] == "[1/5] data: data:tiny"
    assert any(line.startswith("  score: ") and "loss" in line for line in lines)
    assert any(line.startswith("mean: The intrinsic dimension is ") and "95% interval" in line for line in lines)
    assert lines[-1].startswith("report: ")
    assert Path(lines[-1].removeprefix("report: ")).exists()
    again = say("run", "run.yaml", "--quiet")
    assert again.out.splitlines()[0] == ""
    assert [line.partition(":")[0] for line in again.out.splitlines()[1:]] == [
        "dimension",
        "  tiny",
        "  caution",
        "mean",
        "  tiny",
        "  caution",
        "next",
        "report",
    ]
    assert again.out.splitlines().count("  caution: of <few> points") == 2
    assert again.out.splitlines()[-2].startswith("next: scorefold explore runs/")
    monkeypatch.setattr("scorefold_registry.cli.commands.run.find_spec", lambda name: None)
    assert "\nnext: scorefold apply runs/" in say("run", "run.yaml", "--quiet").out
    assert "\nnext: scorefold runs open runs/" in say("run", "short.yaml", "--quiet").out


def test_a_run_in_colours(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = say("run", "run.yaml", "--quiet").out.splitlines()
    assert any(line.startswith("\x1b[1;36mmean: The intrinsic dimension is ") for line in lines)
    assert "\x1b[33m  caution: of <few> points\x1b[0m" in lines
    assert not lines[-1].startswith("\x1b")
    assert "\n\x1b[1;36m    mean: The intrinsic dimension is " in say("runs", "list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in say("run", "run.yaml", "--quiet").out


def test_run_json_is_alone_on_standard_output(say: Say) -> None:
    said = say("run", "short.yaml", "--json", "--seed", "5", "--runs", "there", "--cache", "kept")
    assert said.status == 0
    jsonschema.validate(said.json, schema("run"))
    assert Path(said.json["run"]).parent == Path("there/short").absolute()
    assert json.loads((Path(said.json["run"]) / "environment.json").read_text())["seed"] == 5
    assert "data" in said.err
    assert say("run", "short.yaml", "--json", "--seed", "5", "--cache", "kept").json["stages"][0]["reused"]


def test_the_command_that_repeats_a_run_is_in_its_report(say: Say) -> None:
    said = say("run", "short.yaml", "--set", "stages.data.config.points=30", "--seed", "9", "--json", "--quiet")
    report = (Path(said.json["run"]) / "report.html").read_text()
    assert "scorefold run short.yaml --set stages.data.config.points=30 --seed 9" in report


def test_the_demonstration_is_repeated_by_its_own_command(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("packaged").mkdir()
    Path("packaged/demo.yaml").write_text(SHORT)
    monkeypatch.setattr("scorefold_registry.cli.commands.run.files", lambda package: Path("packaged").absolute())
    said = say("demo", "--seed", "4", "--json", "--quiet")
    assert said.status == 0
    report = (Path(said.json["run"]) / "report.html").read_text()
    assert "scorefold demo --seed 4" in report
    assert "packaged" not in report
    printed = say("demo", "--quiet").out
    assert printed.startswith("Four questions about a thousand images of clothes")
    report_line, next_line = printed.splitlines()[-2:]
    assert report_line.endswith("report.html")
    assert next_line == "next, with your own data: scorefold start mine.csv"


def test_errors_of_a_run_file_are_json_too(say: Say) -> None:
    said = say(
        "run", "run.yaml", "--json", "--set", "stages.mean.use=estimator:men", "--set", "stages.data.config.pints=3"
    )
    assert said.status == 2
    jsonschema.validate(said.json, schema("error"))
    assert len(said.json["error"]["problems"]) == 2
    said = say("run", "gone.yaml", "--json")
    assert (said.status, said.json["error"]["file"]) == (2, "gone.yaml")
    jsonschema.validate(said.json, schema("error"))
    assert not Path("runs").exists()


def test_inputs_that_a_swapped_component_does_not_use_are_named(say: Say) -> None:
    """They are allowed, so that a swap is one word; the score is trained for nothing then."""
    assert say("validate", "run.yaml").err == ""
    swap = ("--set", "stages.dimension.use=estimator:tiny-mean")
    expected = (
        "warning: stage 'dimension': estimator:tiny-mean does not use its input 'score'; remove it, and stages that "
        "only it needs\n"
    )
    said = say("validate", "run.yaml", *swap)
    assert (said.status, said.err) == (0, expected)
    assert expected in say("run", "run.yaml", "--quiet", *swap).err


def test_validate_answers_by_status_words_and_json(say: Say) -> None:
    assert say("validate", "run.yaml").status == 0
    good = say("validate", "run.yaml", "--json")
    jsonschema.validate(good.json, schema("validate"))
    assert [stage["name"] for stage in good.json["stages"]] == ["data", "score", "dimension", "samples", "mean"]
    bad = say("validate", "run.yaml", "--json", "--set", "stages.mean.use=estimator:men")
    assert bad.status == 1
    jsonschema.validate(bad.json, schema("validate"))
    assert not bad.json["valid"]
    Path("bad.yaml").write_text(SHORT + "  data: {use: data:tiny}\n  m: {use: data:tny}\n")
    bad = say("validate", "bad.yaml")
    assert bad.status == 1
    assert "bad.yaml:5:3: 'data' is given twice" in bad.err
    assert "bad.yaml:6:12: " in bad.err
    assert bad.err.endswith("bad.yaml: 2 problems\n")
    assert say("validate", "gone.yaml").status == 2


def test_graph_draws_in_four_ways(say: Say) -> None:
    assert say("graph", "run.yaml").out == (
        "tiny\n"
        "└─ data: data:tiny, load\n"
        "   └─ score: score:tiny, fit\n"
        "      ├─ dimension: estimator:tiny-scored, estimate, also from data\n"
        "      └─ samples: score:tiny, sample\n"
        "         └─ mean: estimator:tiny-mean, estimate\n"
    )
    edges = {
        ("data", "score"),
        ("score", "dimension"),
        ("data", "dimension"),
        ("score", "samples"),
        ("samples", "mean"),
    }
    graph = say("graph", "run.yaml", "--json").json
    jsonschema.validate(graph, schema("graph"))
    assert {(before, stage["name"]) for stage in graph["stages"] for before in stage["after"]} == edges
    drawn = say("graph", "run.yaml", "--format", "dot").out
    assert drawn.startswith('digraph "tiny" {')
    assert all(f'"{before}" -> "{after}";' in drawn for before, after in edges)
    drawn = say("graph", "run.yaml", "--format", "mermaid").out
    assert drawn.startswith("flowchart LR")
    assert all(f"s_{before} --> s_{after}" in drawn for before, after in edges)
    assert say("graph", "run.yaml", "--format", "png").status == 2


def test_runs_are_listed_newest_first_with_their_state(say: Say) -> None:
    assert "there are no runs" in say("runs", "list").out
    assert say("runs", "list", "--json").json == {"runs": []}
    say("run", "short.yaml", "--quiet")
    killed = Path("runs/short/20200101-000000-abcdefab.partial")
    killed.mkdir()
    (killed / "status.json").write_text('{"state": "running", "started": 1577836800.0}')
    listed = say("runs", "list", "--json").json
    jsonschema.validate(listed, schema("runs-list"))
    assert [entry["state"] for entry in listed["runs"]] == ["complete", "interrupted"]
    assert listed["runs"][0]["stages"] == ["data"]
    assert listed["runs"][1]["answers"] == []
    said = say("runs", "list").out
    assert listed["runs"][0]["answers"]
    assert all(f"\n    {answer}\n" in said for answer in listed["runs"][0]["answers"])
    broken = Path("runs/short/20190101-000000-abcdefab")
    broken.mkdir()
    (broken / "status.json").write_text('{"state": "complete", "started": 1546300800.0, "stages": [{}]}')
    assert say("runs", "list", "--json").json["runs"][2]["answers"] == []
    (broken / "status.json").unlink()
    broken.rmdir()
    with FileLock("runs/short/.20200101-000000-abcdefab.lock"):
        assert say("runs", "list", "--json").json["runs"][1]["state"] == "running"
        cleaned = say("runs", "clean", "--keep", "0", "--json").json
        jsonschema.validate(cleaned, schema("runs-clean"))
        assert cleaned["removed"] == [listed["runs"][0]["folder"]]
    assert killed.exists()
    assert say("runs", "list").out.count("\n") == 1
    assert say("runs", "clean", "--keep", "0").out.startswith("removed 1 runs")
    assert not killed.exists()


def test_a_run_is_going_on_until_it_has_its_name(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("runs/short/20200101-000000-abcdefab.partial")
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"state": "complete", "started": 1577836800.0}')
    with FileLock("runs/short/.20200101-000000-abcdefab.lock"):
        assert say("runs", "list", "--json").json["runs"][0]["state"] == "running"
        assert say("runs", "clean", "--keep", "0", "--json").json["removed"] == []
    assert say("runs", "list", "--json").json["runs"][0]["state"] == "interrupted"
    # Complete and renamed, but its observers are still being notified.
    folder = folder.rename("runs/short/20200101-000000-abcdefab")
    with FileLock("runs/short/.20200101-000000-abcdefab.lock"):
        assert say("runs", "list", "--json").json["runs"][0]["state"] == "complete"
        assert say("runs", "clean", "--keep", "0", "--json").json["removed"] == []
    assert folder.exists()


def test_a_run_that_is_renamed_while_it_is_listed_is_no_error(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs/short/gone").mkdir(parents=True)
    Path("runs/short/gone/status.json").write_text("{}")

    def vanishing(path: Path) -> dict[str, Any]:
        path.unlink()
        path.parent.rmdir()
        return {}

    monkeypatch.setattr("scorefold_registry.components.stage_files.read_json", vanishing)
    assert say("runs", "list", "--json").json == {"runs": []}


def test_which_plugins_were_chosen_is_remarked_on(say: Say) -> None:
    for command in (("validate", "run.yaml"), ("graph", "run.yaml"), ("run", "short.yaml")):
        said = say("--plugins=-tinny", *command)
        assert said.status == 0
        assert "names 'tinny', but no installed plugin has this name; did you mean 'tiny'?" in said.err
    said = say("--plugins=-tiny", "validate", "run.yaml")
    assert (said.status, "plugin 'tiny' of scorefold-tiny 0.1 (disabled" in said.err) == (1, True)


def test_clean_keeps_the_newest_of_each_name(say: Say) -> None:
    for started, name in enumerate(("a", "a", "a", "b"), start=1):
        folder = Path("runs") / name / f"run{started}"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": "complete", "started": started, "seconds": 1}))
    assert say("runs", "clean", "--keep", "1", "--name", "b").out.startswith("removed 0 runs")
    removed = say("runs", "clean", "--keep", "2", "--json").json["removed"]
    assert removed == ["runs/a/run1"]
    assert say("runs", "clean", "--keep", "-1").status == 2


def test_clean_keeps_what_ended_well(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each name the newest complete runs, and what failed after them, which somebody may be looking at."""
    states = ["failed", "complete", "interrupted", "complete", "failed"]
    for started, state in enumerate(states, start=1):
        folder = Path("runs") / "a" / f"run{started}"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": state, "started": started}))
    shown = say("runs", "clean", "--keep", "1", "--dry-run")
    assert [line.split()[-1] for line in shown.out.splitlines()[:-1]] == ["runs/a/run3", "runs/a/run1", "runs/a/run2"]
    assert shown.out.splitlines()[-1].startswith("3 runs, ")
    planned = say("runs", "clean", "--keep", "1", "--dry-run", "--json").json
    jsonschema.validate(planned, schema("runs-clean"))
    assert len(list(Path("runs/a").iterdir())) == 5

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "removed" not in say("runs", "clean", "--keep", "1").out
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert say("runs", "clean", "--keep", "1").out.splitlines()[-1].startswith("removed 3 runs")
    assert sorted(path.name for path in Path("runs/a").iterdir()) == ["run4", "run5"]
    # With none that is complete, the newest stay.
    (Path("runs/a/run4/status.json")).write_text(json.dumps({"state": "failed", "started": 4}))
    assert say("runs", "clean", "--keep", "1", "--yes", "--json").json["removed"] == ["runs/a/run4"]


def test_a_run_is_shown_opened_and_compared(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    say("run", "short.yaml", "--quiet")
    say("run", "short.yaml", "--quiet", "--set", "stages.data.config.points=90")
    newest, oldest = (entry["folder"] for entry in say("runs", "list", "--json").json["runs"])
    assert Path("runs/short/latest").resolve() == Path(newest).resolve()
    assert say("runs", "show", "short").out.splitlines()[0].endswith(Path(newest).name)
    shown = say("runs", "show", oldest, "--json").json
    jsonschema.validate(shown, schema("runs-show"))
    assert shown["results"]["data"] == {"train points": 20, "validation points": 20, "test points": 20}
    assert "  data: train points 20" in say("runs", "show", oldest).out

    said = say("runs", "diff", oldest, "short")
    assert "config:\n  stages.data.config.points: 60 -> 90\nversions: the same\nresults:\n" in said.out
    assert "  data.train points: 20 -> 30" in said.out
    jsonschema.validate(say("runs", "diff", oldest, "short", "--json").json, schema("runs-diff"))

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))
    assert say("runs", "open", "short").out.startswith("opened ")
    assert opened[0].startswith("file://")
    assert opened[0].endswith(f"{Path(newest).name}/report.html")


def test_runs_that_are_not_there_are_named(say: Say) -> None:
    say("run", "short.yaml", "--quiet")
    said = say("runs", "show", "shrot")
    assert (said.status, "there is no complete run 'shrot'" in said.err, "did you mean 'short'?" in said.err) == (
        2,
        True,
        True,
    )
    assert "runs diff takes two runs; 1 were given" in say("runs", "diff", "short").err
    assert "runs list takes no run; 1 were given" in say("runs", "list", "short").err
    Path("runs/short/latest/report.html").unlink()
    assert "has no report" in say("runs", "open", "short").err


def test_a_saved_state_of_the_newest_run_is_loaded_through_its_link(say: Say) -> None:
    say("run", "run.yaml", "--quiet")
    (run,) = Path("runs/tiny").glob("2*")
    Path("later.yaml").write_text(
        "version: 1\nstages:\n  prior: {load: runs/tiny/latest/score}\n"
        "  draws: {use: prior, do: sample, options: {n: 2, steps: 2}}\n"
    )
    assert say("run", "later.yaml", "--quiet").status == 0
    (later,) = Path("runs/later").glob("2*")
    # What it refers to is that run, whichever is the newest afterwards.
    assert run.name in (later / "prior" / "reference.json").read_text()


def test_kept_stages_are_pruned_by_age_but_never_while_locked(say: Say) -> None:
    say("run", "short.yaml", "--quiet")
    cache = Cache(Path(".scorefold/cache"))
    (stage,) = [item for item in cache.folder.iterdir() if len(item.name) == 40]
    assert say("runs", "clean", "--cache-days", "1", "--json").json["stages"] == 0
    old = time.time() - 3 * 86400
    for item in (stage, *stage.rglob("*")):
        os.utime(item, (old, old))
    with cache.lock(stage.name):
        assert say("runs", "clean", "--cache-days", "1", "--json").json["stages"] == 0
    assert say("runs", "clean", "--cache-days", "1", "--json").json["stages"] == 1
    assert not stage.exists()
    # A stage that is used again counts as new.
    say("run", "short.yaml", "--quiet")
    for item in (stage, *stage.rglob("*")):
        os.utime(item, (old, old))
    say("run", "short.yaml", "--quiet")
    assert say("runs", "clean", "--cache-days", "1", "--json").json["stages"] == 0
    assert say("runs", "clean", "--cache-days", "soon").status == 2


def test_a_clock_that_ran_ahead_costs_no_run(say: Say) -> None:
    """A run that began in the future is no newest one, and is left alone."""
    for seed in ("1", "2"):
        say("run", "short.yaml", "--quiet", "--seed", seed)
    first, second = sorted(path for path in Path("runs/short").glob("2*"))
    status = first / "status.json"
    ahead = {**json.loads(status.read_text()), "started": time.time() + 9 * 86400}
    status.write_text(json.dumps(ahead))
    said = say("runs", "clean", "--keep", "1", "--json")
    assert said.json["removed"] == []
    assert f"note: {first} began in the future, and is left alone" in said.err
    assert first.exists()
    assert second.exists()


def test_kept_stages_of_the_future_grow_old_from_now_on(say: Say) -> None:
    say("run", "short.yaml", "--quiet")
    (stage,) = [item for item in Path(".scorefold/cache").iterdir() if len(item.name) == 40]
    ahead = time.time() + 900 * 86400
    for item in (stage, *stage.rglob("*")):
        os.utime(item, (ahead, ahead))
    assert say("runs", "clean", "--cache-days", "1", "--json").json["stages"] == 0
    assert max(item.stat().st_mtime for item in (stage, *stage.rglob("*"))) < time.time() + 60


def test_the_packaged_demonstration_is_a_valid_run_file(say: Say) -> None:
    said = say("validate", str(files("scorefold_registry.cli") / "demo.yaml"), "--json")
    assert said.json["problems"] == []
    used = {stage["component"].partition("@")[0] for stage in said.json["stages"]}
    assert {"data:fashion-thousand", "score:denoising", "estimator:mle", "geometry:euclidean"} <= used


@pytest.mark.parametrize(
    ("device", "said"), [("cuda:99", "cuda:99 is not available"), ("tpu", "'tpu'"), ("simulated:2", "'simulated:2'")]
)
def test_a_device_on_the_command_line_goes_before_the_file_s(say: Say, device: str, said: str) -> None:
    given = say("run", "short.yaml", "--quiet", "--device", device)
    assert given.status != 0
    assert said in given.err
    assert say("run", "short.yaml", "--quiet", "--device", "cpu").status == 0
