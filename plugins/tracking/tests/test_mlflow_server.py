"""A real MLflow server on this machine, and MLflow's local database.

Both need all of MLflow, whose requirements hold back libraries that the other tests use newer: it is installed into an
environment of its own, once, in pytest's cache folder.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient

pytestmark = pytest.mark.slow

READ_BACK = """
import json
from mlflow import MlflowClient
store = MlflowClient()
(run,) = store.search_runs([store.get_experiment_by_name("small").experiment_id])
print(json.dumps({"status": run.info.status, "metrics": run.data.metrics, "uri": store.tracking_uri}))
"""


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment with MLflow in it, which sees all that is installed here."""
    cache = request.config.cache
    assert cache is not None
    folder = Path(cache.mkdir("mlflow")) / f"{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            ask = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
            own = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
            here = sysconfig.get_path("purelib")
            (Path(own) / "around.pth").write_text(f"import site; site.addsitedir({here!r})\n")
            pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mlflow>=3"]
            subprocess.run(pip, check=True)
            (folder / "complete").touch()
    return interpreter


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    def __init__(self, python: Path, folder: Path) -> None:
        self.uri = f"http://127.0.0.1:{(port := free_port())}"
        store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
        command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self._log = (folder / "server.log").open("w")
        self._process = subprocess.Popen(
            [*command, *store], stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                assert time.monotonic() < deadline, Path(self._log.name).read_text()
                assert self._process.poll() is None, Path(self._log.name).read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


@pytest.fixture
def server(python: Path, tmp_path: Path) -> Iterator[Server]:
    made = Server(python, tmp_path)
    try:
        made.wait()
        yield made
    finally:
        made.stop()


def test_a_run_on_a_real_server(run: Any, reported: Any, server: Server, tmp_path: Path) -> None:
    result = run({"mlflow": {"uri": server.uri, "interval": 0.01, "timeout": 60}})
    assert result.failures == ()
    store = MlflowClient(server.uri)
    experiment = store.get_experiment_by_name("small")
    assert experiment is not None
    (found,) = store.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.info.run_name == result.folder.name
    history = store.get_metric_history(found.info.run_id, "score/loss")
    assert sorted((point.step, point.value) for point in history) == reported(result, "score", "loss")
    assert found.data.metrics["final/dimension/intrinsic dimension"] == result.value("dimension").value
    assert found.data.params["stages.score.config.training.steps"] == "40"
    assert found.data.tags["scorefold.run_folder"] == str(result.folder)
    names = {item.path for item in store.list_artifacts(found.info.run_id)}
    assert names == {"report.html", "data", "score", "dimension"}
    report = store.download_artifacts(found.info.run_id, "report.html", str(tmp_path))
    assert Path(report).read_text() == result.report.read_text()
    again = run({"mlflow": {"uri": server.uri, "timeout": 60}})
    assert all(stage.reused for stage in again.stages)
    assert len(store.search_runs([experiment.experiment_id])) == 2


def test_a_real_server_that_stops(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from scorefold_tracking.mlflow_run import MLflowRun

    begin = MLflowRun._begin

    def then_stop(self: MLflowRun) -> None:
        begin(self)
        server.stop()

    monkeypatch.setattr(MLflowRun, "_begin", then_stop)
    result = run({"mlflow": {"uri": server.uri, "timeout": 15, "interval": 0.01}})
    assert [stage.name for stage in result.stages] == ["data", "score", "dimension"]
    (failure,) = result.failures
    assert "no longer tracked in MLflow" in failure.text()


def test_the_local_database_of_mlflow_is_the_default(write: Any, python: Path, tmp_path: Path) -> None:
    command = [
        str(python),
        "-m",
        "scorefold_registry.cli",
        "run",
        str(write({"mlflow": {"timeout": 60}})),
        "--json",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(json.loads(done.stdout)["run"])
    assert "observer-failed" not in (folder / "events.jsonl").read_text()
    read = subprocess.run([str(python), "-c", READ_BACK], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(read.stdout)
    assert found["status"] == "FINISHED"
    assert found["metrics"]["final/data/train points"] == 48
    assert found["uri"].startswith("sqlite:")
