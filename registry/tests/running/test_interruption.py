"""Runs that are killed, stopped, or run twice at once, each in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SLOW = """version: 1
name: slow
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  score:
    use: score:tiny
    inputs: {data: data}
    config: {pause: 0.05, training: {steps: 60, batch_size: 8, checkpoint_every: 5, log_every: 5, validate_every: 20}}
"""

Launch = Callable[..., subprocess.Popen[str]]
RunHere = Callable[..., dict[str, Any]]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def step_reached(folder: Path) -> int:
    """The newest step that the run in this working folder has reported."""
    lines = [line for file in folder.glob("runs/slow/*/events.jsonl") for line in file.read_text().splitlines()]
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return max((event["step"] for event in events if event["event"] == "metrics"), default=0)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def state(answer: dict[str, Any]) -> bytes:
    return (Path(answer["run"]) / "score" / "state.safetensors").read_bytes()


def prepare(folder: Path) -> Path:
    folder.mkdir()
    (folder / "slow.yaml").write_text(SLOW)
    return folder


@pytest.fixture
def run_here(say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> RunHere:
    """The same command in a folder, in this process, which is another one than those that are disturbed."""

    def run(folder: Path, *options: str) -> dict[str, Any]:
        monkeypatch.chdir(folder)
        said = say("run", "slow.yaml", "--json", "--quiet", *options)
        assert said.status == 0, said.err
        answer: dict[str, Any] = said.json
        return answer

    return run


def test_killed_and_stopped_runs_end_as_an_undisturbed_one(tmp_path: Path, launch: Launch, run_here: RunHere) -> None:
    undisturbed, killed, stopped = (prepare(tmp_path / name) for name in ("undisturbed", "killed", "stopped"))

    process = launch("run", "slow.yaml", cwd=killed)
    wait_for(lambda: step_reached(killed) >= 20, process)
    process.kill()
    process.communicate()

    process = launch("run", "slow.yaml", "--quiet", cwd=stopped)
    wait_for(lambda: step_reached(stopped) >= 20, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted in stage 'score'; repeat the command to continue\n"
    assert out == ""
    (partial,) = stopped.glob("runs/slow/*.partial")
    assert json.loads((partial / "status.json").read_text())["state"] == "interrupted"
    assert (partial / "data" / "stage.json").exists()
    assert not (partial / "score").exists()

    expected = run_here(undisturbed, "--set", "stages.score.config.pause=0")
    for folder in (killed, stopped):
        assert step_reached(folder) < 60
        answer = run_here(folder)
        assert [stage["reused"] for stage in answer["stages"]] == [True, False]
        events = (Path(answer["run"]) / "events.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in events if '"metrics", "stage"' in line]
        assert min(steps) > 15, "it began again from the start"
        assert state(answer) == state(expected)
        assert not list((folder / ".scorefold" / "cache" / "unfinished").iterdir())


def test_two_runs_in_one_folder_share_the_work(tmp_path: Path, launch: Launch, run_here: RunHere) -> None:
    folder = prepare(tmp_path / "shared")
    first = launch("run", "slow.yaml", "--json", cwd=folder)
    wait_for(lambda: step_reached(folder) >= 5, first)
    two = run_here(folder)
    one = finish(first)
    assert one["run"] != two["run"]
    assert [stage["reused"] for stage in one["stages"]] == [False, False]
    assert [stage["reused"] for stage in two["stages"]] == [True, True]
    assert state(one) == state(two)
    assert all((Path(answer["run"]) / "report.html").exists() for answer in (one, two))


def test_two_runs_that_begin_together_do_no_harm(tmp_path: Path, launch: Launch) -> None:
    folder = prepare(tmp_path / "together")
    options = ("--json", "--set", "stages.score.config.pause=0", "--set", "stages.score.config.training.steps=20")
    answers = [finish(process) for process in [launch("run", "slow.yaml", *options, cwd=folder) for _ in range(2)]]
    assert answers[0]["run"] != answers[1]["run"]
    assert sorted(answer["stages"][1]["reused"] for answer in answers) == [False, True]
    assert state(answers[0]) == state(answers[1])
