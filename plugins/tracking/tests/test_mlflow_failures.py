"""Servers that are down, slow or die, and runs that end badly: the run goes on and what is lost is said once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from mlflow import MlflowClient
from warm_commands import Command

from scorefold.errors import ScorefoldError
from scorefold.plugin import hookimpl
from scorefold.stage import RunInfo, StageInfo
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult
from scorefold_tracking.tracker import without_password

# MLflow's store of plain files opens them by a function that Python 3.14 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")

RUN = {
    "run_id": "0f",
    "run_uuid": "0f",
    "experiment_id": "7",
    "status": "RUNNING",
    "artifact_uri": "mlflow-artifacts:/0f",
}
ANSWERS = {
    "experiments/get-by-name": {"experiment": {"experiment_id": "7", "name": "small", "lifecycle_stage": "active"}},
    "runs/create": {"run": {"info": RUN, "data": {}}},
    "runs/get": {"run": {"info": RUN, "data": {}}},
    "runs/update": {"run_info": RUN},
    "runs/log-batch": {},
}


class FakeServer(ThreadingHTTPServer):
    """Answers as MLflow's REST interface does, after ``delay`` seconds; ``breaks(call, body)`` says what it refuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.breaks: Callable[[str, dict[str, Any]], bool] = lambda call, body: False
        self.delay = 0.0
        self.over = Event()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bodies(self, call: str) -> list[dict[str, Any]]:
        return [body for name, body in self.calls if name == call]


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def _answer(self) -> None:
        call = self.path.partition("/mlflow/")[2].partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        self.server.over.wait(self.server.delay)
        broken = self.server.breaks(call, body) or call not in ANSWERS
        if not broken:
            self.server.calls.append((call, body))
        data = json.dumps({"error_code": "BAD_REQUEST", "message": "not today"} if broken else ANSWERS[call]).encode()
        self.send_response(400 if broken else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *arguments: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, most of what a small run costs."""
    monkeypatch.setattr("scorefold_registry.run.stage_folder.draw", lambda target, shown, folder: [])


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.over.set()
        made.shutdown()


def settings(uri: str, **more: Any) -> dict[str, Any]:
    return {"mlflow": {"uri": uri, "artefacts": False, **more}}


def whole(result: RunResult) -> bool:
    return [stage.name for stage in result.stages] == ["data", "score", "dimension"]


def only_failure(result: RunResult) -> str:
    """The one failure, which stands in the events and in the report."""
    (failure,) = result.failures
    lines = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line["event"] == "observer-failed"]) == 1
    return failure.text()


def test_a_healthy_server_hears_in_batches_and_not_step_by_step(run: Any, server: FakeServer) -> None:
    result = run(settings(server.uri, interval=1000))
    assert result.failures == ()
    batches = [body["metrics"] for body in server.bodies("runs/log-batch") if body.get("metrics")]
    assert len(batches) == 3, "one batch for each stage"
    assert sum(metric["key"] == "score/loss" for batch in batches for metric in batch) == 4
    assert server.bodies("runs/update")[-1]["status"] == "FINISHED"
    assert f'href="{server.uri}/#/experiments/7/runs/0f"' in result.report.read_text()


def test_metrics_are_on_their_way_while_a_stage_runs(run: Any, server: FakeServer) -> None:
    run(settings(server.uri, interval=1e-6))
    batches = [body["metrics"] for body in server.bodies("runs/log-batch") if body.get("metrics")]
    assert len(batches) > 6
    steps = [metric["step"] for batch in batches for metric in batch if metric["key"] == "score/loss"]
    assert steps == [10, 20, 30, 40]


def test_a_server_that_is_down(run: Any, server: FakeServer) -> None:
    server.server_close()
    began = time.monotonic()
    result = run(settings(server.uri, timeout=0.5))
    assert whole(result)
    assert "no answer within 0.5 s" in only_failure(result)
    assert result.failures[0].hook == "scorefold_before_run"
    assert "MLflow: <a" not in result.report.read_text()
    assert time.monotonic() - began < 20


def test_a_server_that_never_answers(run: Any, server: FakeServer) -> None:
    server.delay = 1000
    result = run(settings(server.uri, timeout=0.5))
    assert whole(result)
    assert "no answer within 0.5 s" in only_failure(result)


def test_a_server_that_refuses(run: Any, server: FakeServer) -> None:
    server.breaks = lambda call, body: call == "runs/create"
    result = run(settings(server.uri))
    assert whole(result)
    assert "not today" in only_failure(result)


def test_a_slow_server_does_not_slow_the_run(run: Any, server: FakeServer) -> None:
    """It falls silent after the start; each metric would have to wait for it if the run did."""
    hears = server.breaks

    def slow(call: str, body: dict[str, Any]) -> bool:
        server.delay = 1000 if body.get("params") else 0
        return hears(call, body)

    server.breaks = slow
    result = run(settings(server.uri, interval=1e-6, timeout=1))
    assert whole(result)
    assert "no answer within 1 s" in only_failure(result)
    assert result.failures[0].hook == "scorefold_after_run"
    assert result.seconds < 20


def test_a_server_that_dies_on_the_way(run: Any, server: FakeServer, tmp_path: Path) -> None:
    server.breaks = lambda call, body: bool(body.get("metrics"))
    result = run({**settings(server.uri, interval=1e-6), "tensorboard": {}})
    assert whole(result)
    said = only_failure(result)
    assert "no longer tracked in MLflow" in said
    assert "not today" in said
    assert "MLflow: <a" not in result.report.read_text()
    assert "tensorboard --logdir" in result.report.read_text(), "the other place goes on"


def test_two_places_that_fail_in_one_hook_are_both_named(run: Any, server: FakeServer, tmp_path: Path) -> None:
    server.breaks = lambda call, body: call == "runs/create"
    (tmp_path / "board").write_text("a file")
    said = only_failure(run({**settings(server.uri), "tensorboard": {"directory": "board"}}))
    assert "no longer tracked in TensorBoard" in said
    assert "no longer tracked in MLflow" in said


def test_an_error_outside_the_stages_ends_the_run(
    run: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ScorefoldError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("scorefold_registry.run.execution.write_report", broken)
        with pytest.raises(ScorefoldError, match="disk is full"):
            run(settings(server.uri))
    assert [body["status"] for body in server.bodies("runs/update")] == ["FAILED"]


def test_a_run_inside_a_run_ends_by_itself(write: Any, server: FakeServer, tmp_path: Path) -> None:
    host = Host.discover()
    inner = write(settings(server.uri), "\nstages:\n  data: {use: data:sphere}\n", "inner").rename(
        tmp_path / "inner.yaml"
    )
    outer = write(settings(server.uri), name="outer")
    started: list[str] = []

    class Nested:
        """Runs another file before the first stage of the outer run."""

        @hookimpl
        def scorefold_before_stage(self, run: RunInfo, stage: StageInfo) -> None:
            if run.name == "outer" and not started:
                started.append(stage.name)
                run_file(host, inner)

    host.manager.register(Nested())
    assert run_file(host, outer).failures == ()
    assert started == ["data"]
    assert [body["status"] for body in server.bodies("runs/update")] == ["FINISHED", "FINISHED"]


def test_ctrl_c_is_reported_as_killed(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    long = write(
        {"mlflow": {"uri": f"file:{tmp_path}/store"}},
        stages="""
stages:
  data: {use: data:sphere, config: {dimension: 2, ambient: 5, points: 60}}
  score:
    use: score:denoising
    inputs: {data: data}
    config: {network: {use: network:mlp, config: {width: 8, blocks: 1}}, training: {steps: 1000000, log_every: 10}}
""",
    )
    process = Command(("run", str(long), "--json"), tmp_path, os.environ)
    deadline = time.monotonic() + 60
    while not any("steps_per_second" in path.read_text() for path in tmp_path.glob("runs/small/*/events.jsonl")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    store = MlflowClient(f"file:{tmp_path}/store")
    experiment = store.get_experiment_by_name("small")
    assert experiment is not None
    (found,) = store.search_runs([experiment.experiment_id])
    assert found.info.status == "KILLED"
    assert "score/loss" in found.data.metrics, "what was measured until then is kept"
    assert out == ""


def test_passwords_are_left_out_of_what_is_said() -> None:
    said = without_password("call to http://me:secret@host:5000/api failed; see https://host/@me and me@host")
    assert said == "call to http://host:5000/api failed; see https://host/@me and me@host"
