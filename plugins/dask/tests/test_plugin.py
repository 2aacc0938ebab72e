"""The plugin from outside: settings in a run file, jobs inside stages, and a sweep through a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from scorefold.artefacts import read_json
from scorefold_dask import plugin
from scorefold_dask.executor import DaskExecutor
from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read

SUPPORT = Path(__file__).parent / "support"

RUN = """version: 1
name: sphere
runtime: {{device: cpu, threads: 1}}
{plugins}
stages:
  data: {{use: data:sphere, config: {{dimension: 2, ambient: 5, points: 90}}}}
  dimension: {{use: estimator:{estimator}, inputs: {{data: data}}}}
"""


def write(plugins: str = "plugins: {dask: {}}", estimator: str = "pca") -> Path:
    path = Path("run.yaml")
    path.write_text(RUN.format(plugins=plugins, estimator=estimator))
    return path


def test_settings_are_checked_in_their_place(host: Host) -> None:
    defaults = {"address": None, "workers": None, "threads": None, "timeout": 30.0}
    for text in ("{dask: {}}", "{dask: }"):
        planned = make_plan(host.catalogue, read(write(f"plugins: {text}")))
        assert planned.plugins["dask"].model_dump() == defaults
    faults = {
        "{dask: {workers: 0}}": (4, 27, "at least 1"),
        "{dask: {adress: 'tcp://a:1'}}": (4, 18, "adress"),
        "{dask: {address: 'tcp://a:1', workers: 2}}": (4, 17, "has its own workers"),
    }
    for text, (line, column, message) in faults.items():
        with pytest.raises(RunFileError) as caught:
            make_plan(host.catalogue, read(write(f"plugins: {text}")))
        (problem,) = caught.value.problems
        assert (problem.line, problem.column) == (line, column), problem
        assert message in problem.message


def test_only_a_file_that_names_it_gets_a_cluster(host: Host) -> None:
    assert plugin.scorefold_executor(SimpleNamespace(plugins={})) is None  # type: ignore[arg-type]
    named = SimpleNamespace(plugins=make_plan(host.catalogue, read(write())).plugins)
    assert isinstance(plugin.scorefold_executor(named), DaskExecutor)  # type: ignore[arg-type]


def test_jobs_inside_a_stage_go_to_the_cluster_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLD_DEV_PLUGINS", str(SUPPORT / "dask_jobs.py"))
    host = Host.discover()
    results = [run_file(host, write(text, "of-jobs"), fresh=True) for text in ("", "plugins: {dask: {}}")]
    here, there = (result.value("dimension") for result in results)
    assert here.value == there.value
    assert here.diagnostics["processes"] == [os.getpid()]
    processes = there.diagnostics["processes"]
    assert os.getpid() not in processes
    assert not any(map(psutil.pid_exists, processes)), "the cluster ends with the run"
    keys = [read_json(result.folder / "dimension" / "stage.json")["key"] for result in results]
    assert keys[0] == keys[1]


def test_a_sweep_through_the_cluster_is_that_of_this_process(
    cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds at two sizes, one size too small: the same numbers, the same error, the same keys."""
    cluster.map("operator:neg", [1], key="start")
    joined = f"plugins: {{dask: {{address: '{cluster.address}'}}}}"
    over = ["--grid", "stages.data.config.points=90,3", "--grid", "seed=0,1", "--json"]
    answers = []
    for name, text in (("here", ""), ("there", joined)):
        write(text)
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "-iddiff")
        status = main(["sweep", "run.yaml", *over, "--out", name, "--cache", f"{name}-cache"])
        said = capsys.readouterr()
        answers.append(json.loads(said.out))
        assert status == 1
    assert said.err.splitlines()[0] == "4 points, by scorefold_dask"
    assert len(said.err.splitlines()) == 5
    here, there = answers
    assert [point["measures"] for point in there["points"]] == [point["measures"] for point in here["points"]]
    assert [point["error"] is None for point in there["points"]] == [True, True, False, False]
    for one, other in zip(here["points"], there["points"], strict=True):
        assert (one["error"] or {}).get("message") == (other["error"] or {}).get("message")
        assert (one["error"] or {}).get("line") == (other["error"] or {}).get("line")
    kept = {name: {path.name for path in Path(f"{name}-cache").glob("[0-9a-f]*")} for name in ("here", "there")}
    assert kept["here"] == kept["there"]
    plugins = read_json(Path(there["points"][0]["run"]) / "environment.json")["plugins"]
    assert {item["name"]: item["state"] for item in plugins}["iddiff"] == "disabled"


def test_ctrl_c_ends_a_sweep_and_its_cluster(tmp_path: Path) -> None:
    write("plugins: {dask: {workers: 1}}", "of-waiting")
    process = subprocess.Popen(
        [sys.executable, "-m", "scorefold_registry.cli", "sweep", "run.yaml", "--grid", "seed=0,1,2"],
        cwd=tmp_path,
        env={**os.environ, "SCOREFOLD_DEV_PLUGINS": str(SUPPORT / "dask_jobs.py")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 90
        while len(workers := [int(path.name.partition("-")[2]) for path in tmp_path.glob("here-*")]) < 1:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 130, err
        said = [text for text in err.splitlines() if not text.startswith("note: ")]  # of slow imports, on busy cores
        assert said == ["interrupted after 0 of 3 points; repeat the command to continue"]
        assert not any(map(psutil.pid_exists, workers))
    finally:
        process.kill()
        process.communicate()


JOBS = """version: 1
name: jobs
runtime: {{device: cpu, threads: 1, workers: {workers}}}
{plugins}
stages:
  data: {{use: data:sphere, config: {{dimension: 2, ambient: 3, points: 200}}}}
  dimension:
    use: estimator:lidl
    inputs:
      data: data
      flow:
        use: flow:affine-coupling
        inputs: {{data: data}}
        config: {{layers: 2, hidden: [8], training: {{steps: 20, batch_size: 32}}}}
  sinusoids: {{use: data:sinusoid-tasks}}
  plan:
    use: allocator:meta
    inputs:
      tasks: sinusoids
      learner:
        use: learner:maml
        config: {{updates: 10, new_tasks: {{tasks: 10, support: 5, query: 10}}, validation: {{tasks: 4}}}}
    config:
      task_types: [{{name: sinusoid, max_labels: 200}}]
      pilot: {{labels: 200, sizes: 3, seeds: 2, first_seeds: 2}}
    options: {{budget: 400}}
"""


def test_an_estimator_and_pilots_answer_the_same_on_a_cluster(
    host: Host, cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings at several noise levels and trials of allocations, by two workers and by this process: equal bits."""
    cluster.map("operator:neg", [1], key="start")
    sent: list[str] = []
    do = DaskExecutor._do

    def noted(self: DaskExecutor, target: str, *given: object) -> list[int]:
        sent.append(target)
        return do(self, target, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DaskExecutor, "_do", noted)
    answers = []
    for plugins in ("", f"plugins: {{dask: {{address: '{cluster.address}'}}}}"):
        Path("jobs.yaml").write_text(JOBS.format(workers=1, plugins=plugins))
        assert sent == []
        result = run_file(host, "jobs.yaml", fresh=True)
        answers.append([read_json(result.folder / name / "result.json") for name in ("dimension", "plan")])
    assert set(sent) == {
        "scorefold_iddiff.estimators.lidl:density_at_level",
        "scorefold_allocation.search.trials:run_trial",
    }
    for here, there in zip(*answers, strict=True):
        timeless = [
            {name: value for name, value in one["metrics"].items() if "second" not in name} for one in (here, there)
        ]
        assert timeless[0] == timeless[1]
        assert here.get("answer") == there.get("answer")
        assert here["metrics"]


def test_a_cluster_started_by_the_commands_of_dask_does_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the page on several machines has it, but for a port that is free."""
    scheduler = [
        sys.executable,
        "-m",
        "dask",
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--dashboard-address",
        "127.0.0.1:0",
    ]
    where = tmp_path / "where.json"
    started = [subprocess.Popen([*scheduler, "--scheduler-file", where], stderr=subprocess.DEVNULL)]
    try:
        end = time.monotonic() + 60
        while not where.exists() or not where.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        address = json.loads(where.read_text())["address"]
        worker = [sys.executable, "-m", "dask", "worker", address, "--nthreads", "1", "--no-dashboard"]
        started += [subprocess.Popen(worker, stderr=subprocess.DEVNULL) for _ in range(2)]
        write("plugins: {dask: {workers: 2}}")
        sets = ["--set", "plugins.dask.workers=null", "--set", f"plugins.dask.address={address}"]
        assert main(["sweep", "run.yaml", "--grid", "seed=0,1", "--json", *sets]) == 0
        said = capsys.readouterr()
        assert said.err.splitlines()[0] == "2 points, by scorefold_dask"
        assert all(point["error"] is None for point in json.loads(said.out)["points"])
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=30)
