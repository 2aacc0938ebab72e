"""Paths of a run file start at it, paths of options and of Python at the working folder, and keys at neither."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scorefold.errors import ArtefactError
from scorefold_registry.components.parts import anchored_use
from scorefold_registry.components.paths import anchored, from_here, paths_in
from scorefold_registry.experiments.sweep import sweep
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read

Say = Callable[..., Any]

TEXT = """version: 1
stages:
  data: {use: data:tiny, config: {path: shift.txt}}
  net: {use: score:tiny, inputs: {data: data}, config: {net: {use: network:tiny, config: {table: table}}}}
  inline:
    use: estimator:tiny-mean
    inputs: {data: {use: data:tiny, config: {path: shift.txt}}}
    config: {table: table}
"""


@pytest.fixture
def project() -> Path:
    """A folder in the working folder with a run file and what it names."""
    folder = Path("project")
    folder.mkdir()
    (folder / "run.yaml").write_text(TEXT)
    (folder / "shift.txt").write_text("1.0")
    (folder / "table").write_text("2")
    return folder


def reused(result: RunResult) -> list[str]:
    return [stage.name for stage in result.stages if stage.reused]


def test_every_path_starts_at_the_run_file(host: Host, project: Path) -> None:
    plan = make_plan(host.catalogue, read(project / "run.yaml"))
    data, net, inline = plan.stages
    full = str(project.absolute())
    assert str(data.config.path) == f"{full}/shift.txt"  # type: ignore[union-attr]
    assert net.config.net.config == {"table": f"{full}/table"}  # type: ignore[union-attr]
    assert str(inline.inputs["data"].config.path) == f"{full}/shift.txt"
    assert inline.paths == {f"{full}/table", f"{full}/shift.txt"}
    result = run_file(host, project / "run.yaml")
    # What is written to repeat a run finds the files from its own folder too, and takes every stage from the cache.
    again = run_file(host, result.folder / "resolved.yaml")
    assert reused(again) == ["data", "net", "inline"]


def test_a_moved_project_takes_its_stages_from_the_cache(host: Host, project: Path, tmp_path: Path) -> None:
    run_file(host, project / "run.yaml")
    moved = tmp_path / "elsewhere" / "moved"
    shutil.move(project, moved)
    assert reused(run_file(host, moved / "run.yaml")) == ["data", "net", "inline"]
    (moved / "table").write_text("3")
    assert reused(run_file(host, moved / "run.yaml")) == ["data"]


def test_a_path_that_is_only_in_the_working_folder_is_an_error_with_the_fix(
    host: Host, project: Path, say: Say
) -> None:
    (project / "table").rename("table")
    with pytest.raises(RunFileError) as refused:
        make_plan(host.catalogue, read(project / "run.yaml"))
    assert [(problem.line, problem.code) for problem in refused.value.problems] == [(4, "path"), (8, "path")]
    said = str(refused.value.problems[0])
    assert f"table starts at the folder of the run file, and there is no {project.absolute() / 'table'}" in said
    assert "write ../table" in said
    text = (project / "run.yaml").read_text().replace("table: table", "table: ../table")
    (project / "run.yaml").write_text(text)
    assert say("validate", "project/run.yaml").status == 0
    # A file that is nowhere is for the component to complain of, by its whole path.
    (project / "shift.txt").unlink()
    assert f"there is no file {project.absolute() / 'shift.txt'}" in say("run", "project/run.yaml").err


def test_options_start_at_the_working_folder(host: Host, project: Path, say: Say) -> None:
    Path("other.txt").write_text("5.0")
    (project / "other.txt").write_text("6.0")
    for option in ("stages.data.config.path=other.txt", "stages.data.config={path: other.txt}"):
        plan = make_plan(host.catalogue, read(project / "run.yaml", [option]))
        assert str(plan.stages[0].config.path) == str(Path("other.txt").absolute())  # type: ignore[union-attr]
    swept = sweep(host, project / "run.yaml", {"stages.data.config.path": ["other.txt"]}, measure=["inline"])
    assert swept.failed == 0
    said = say("run", "project/run.yaml", "--set", "stages.data.config.path=nowhere.txt")
    assert f"there is no file {Path('nowhere.txt').absolute()}" in said.err


def test_a_base_in_another_folder_keeps_its_own_paths(host: Host, project: Path) -> None:
    Path("own").mkdir()
    Path("own/run.yaml").write_text("version: 1\nextends: ../project/run.yaml\nseed: 1\n")
    result = run_file(host, "own/run.yaml")
    # The run file that the run keeps stands alone where the other stood.
    shutil.copy(result.folder / "run.yaml", "own/copy.yaml")
    assert "path: ../project/shift.txt" in Path("own/copy.yaml").read_text()
    assert reused(run_file(host, "own/copy.yaml")) == ["data", "net", "inline"]
    found = sweep(host, "own/run.yaml", {"seed": [1, 2]}, measure=["inline"])
    assert found.failed == 0
    Path("own/run.yaml").write_text(
        "version: 1\nextends: ../project/run.yaml\nstages: {data: {config: {path: mine}}}\n"
    )
    Path("own/mine").write_text("1.0")
    plan = make_plan(host.catalogue, read("own/run.yaml"))
    assert str(plan.stages[0].config.path).endswith("own/mine")  # type: ignore[union-attr]


def test_python_starts_at_the_working_folder(host: Host, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scorefold_registry.python import estimate, load_data

    monkeypatch.chdir(project)
    assert host.create("data:tiny", {"path": "shift.txt"}).fingerprint()
    points = load_data("data:tiny", path="shift.txt", host=host, progress=False)
    found = estimate("estimator:tiny-mean", points, table="table", host=host, progress=False)
    written = " ".join(found.run_file.split())
    assert f"path: {Path('shift.txt').absolute()}" in written
    assert f"table: {Path('table').absolute()}" in written


def test_cases_of_a_comparison_start_at_their_file(host: Host, project: Path) -> None:
    from scorefold.plugin import Comparison
    from scorefold_registry.experiments.cases import find_cases

    (project / "cases.yaml").write_text("mine: {use: data:tiny, config: {path: shift.txt}}\n")
    (case,) = find_cases(host.catalogue, "estimator", Comparison(("estimate",)), ["project/cases.yaml"])
    assert case.data is not None
    assert case.data["config"] == {"path": str(project.absolute() / "shift.txt")}


def test_a_saved_state_starts_at_its_file_too(host: Host, project: Path) -> None:
    (project / "run.yaml").write_text("version: 1\nstages: {score: {load: states/score}}\n")
    with pytest.raises(RunFileError, match="states/score") as refused:
        make_plan(host.catalogue, read(project / "run.yaml"))
    assert refused.value.problems[0].code == ArtefactError.code
    with pytest.raises(RunFileError, match=str(Path("elsewhere").absolute())):
        make_plan(host.catalogue, read(project / "run.yaml", ["stages.score.load=elsewhere"]))


def test_what_is_no_path_and_what_is_not_written_stay(host: Host) -> None:
    from scorefold_tiny.config import MeanConfig  # type: ignore[import-not-found]

    config = MeanConfig(table=Path("a"))
    assert list(paths_in(config)) == [(("table",), Path("a"))]
    assert anchored(config, {"scale": 2.0}, from_here) == {"scale": 2.0}
    assert anchored(config, {"table": "~/a"}, from_here) == {"table": "~/a"}  # another path than the configuration's
    wrong = {"use": "estimator:tiny-mean", "config": {"tabel": "a"}}
    assert anchored_use(host.catalogue, wrong, from_here) == wrong
    home = anchored_use(host.catalogue, {"use": "data:tiny", "config": {"path": "~/a"}}, from_here)
    assert home["config"]["path"] == str(Path("~/a").expanduser())
    json.dumps(home)
