"""A run file under torchrun with two processes of this machine: one run, one voice, one end."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.artefacts import load_arrays, read_json
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.runfile.reader import RunFileError

RUN = """version: 1
name: together
runtime: {device: cpu, dtype: float64, threads: 1}
stages:
  data: {use: data:sphere, config: {points: 600, dimension: 2, ambient: 3}}
  flow:
    use: flow:affine-coupling
    inputs: {data: data}
    config:
      layers: 2
      hidden: [16]
      training: {steps: 60, batch_size: 32, log_every: 5, validate_every: 20, checkpoint_every: 10}
  score:
    use: score:denoising
    inputs: {data: data}
    config:
      network: {use: network:mlp, config: {width: 32, blocks: 1}}
      training: {steps: 200, batch_size: 64, log_every: 50, validate_every: 100}
  size: {use: estimator:mle, inputs: {data: data}}
"""

MORE = """  points: {use: data:array, config: {path: "points-*.npy", memory: 0}}
  streamed:
    use: flow:affine-coupling
    inputs: {data: points}
    config: {layers: 2, hidden: [16], training: {steps: 4, batch_size: 32}}
  tiny: {use: data:tiny}
  mine: {use: score:failing, inputs: {data: tiny}, config: {training: {steps: 4, batch_size: 8}}}
"""
"""Stages with streamed files, and with a plugin under development."""

LOSSES, WEIGHTS, NOISY = 1e-9, 1e-7, 0.05
"""The bounds of the page on several machines, relative: losses and weights in float64 of a loss without noise of its
own, and the best validation of one that draws noise, of which each process draws its own."""

FAILING = """import os, signal
from scorefold.errors import TrainingError
from scorefold.plugin import Component, Port, hookimpl
from scorefold_tiny.parts import Model

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components():
    yield Component(
        kind="score", name="failing", target="failing:Failing", config="scorefold_tiny.config:ModelConfig", summary="x",
        requires=(Port("data", kind="data"),), provides=("Trainable",),
    )


class Failing(Model):
    def loss(self, batch, *, progress, generator):
        how, rank = os.environ["FAILS"], os.environ["RANK"]
        if progress.step == 7 and how == "killed" and rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        if progress.step == 7 and how in (rank, "both"):
            raise TrainingError(f"it fails here, in process {rank if how != 'both' else 'any'}")
        return super().loss(batch, progress=progress, generator=generator)
"""

SLOW = """version: 1
name: slow
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  score:
    use: score:tiny
    inputs: {data: data}
    config: {pause: 0.03, training: {steps: 60, batch_size: 8, checkpoint_every: 5, log_every: 5, validate_every: 20}}
"""

Torchrun = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def torchrun(tmp_path: Path, environment: dict[str, str]) -> Iterator[Torchrun]:
    """The command in two processes, ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        process = subprocess.Popen(
            [*launcher, "-m", "scorefold_registry.cli", *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def losses(folder: Path, stage: str) -> list[float]:
    """All that a training reported, in order."""
    history = read_json(folder / stage / "result.json")["history"]
    return [row[name] for row in history for name in ("loss", "validation") if name in row]


def best(folder: Path) -> float:
    value: float = read_json(folder / "score" / "result.json")["metrics"]["best validation"]
    return value


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run file, the same with more stages, and what these read."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "alone.yaml").write_text(RUN)
    (folder / "run.yaml").write_text(RUN + MORE)
    (folder / "mine").mkdir()
    (folder / "mine" / "failing.py").write_text(FAILING)
    for shard in range(2):
        np.save(folder / f"points-{shard}.npy", np.random.default_rng(shard).normal(size=(200, 2)))
    return folder


def run_pair(launch: Callable[..., Any], *arguments: str, cwd: Path, **variables: str) -> str:
    """What the command prints in two processes that are given what torchrun gives, and that end well.

    The page on several machines runs torchrun itself.
    """
    variables |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    processes = [launch(*arguments, cwd=cwd, **variables, **rank) for rank in ranks]
    printed: list[tuple[str, str]] = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert printed[1][0] == "", "only the first prints"
    return printed[0][0]


Pair = Callable[[str], Path]


@pytest.fixture
def together(made: Path, launch: Callable[..., Any]) -> Pair:
    """The folder of a run by two processes, made once for each way to divide the work."""

    def run(parallel: str) -> Path:
        kept = made / f"{parallel}.json"
        if not kept.exists():
            file = "run.yaml" if parallel == "ddp" else "alone.yaml"
            arguments = ("run", file, "--json", "--quiet", "--set", f"runtime.parallel={parallel}")
            where = ("--runs", parallel, "--cache", f"{parallel}-cache")
            own = {"SCOREFOLD_DEV_PLUGINS": "mine/failing.py", "FAILS": "never"}
            kept.write_text(run_pair(launch, *arguments, *where, cwd=made, **own))
        return Path(json.loads(kept.read_text())["run"])

    return run


def test_every_process_opens_streamed_files_and_finds_a_plugin_under_development(together: Pair) -> None:
    for stage, step in (("streamed", 4), ("mine", 4)):
        assert read_json(together("ddp") / stage / "result.json")["metrics"]["steps"] == step


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_run_a_file_as_one_does(
    host: Host, made: Path, together: Pair, parallel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = together(parallel)
    monkeypatch.chdir(made)
    alone = run_file(host, "alone.yaml", runs="alone", cache="alone-cache").folder
    assert read_json(pair / "environment.json")["processes"] == 2
    assert [path.name for path in pair.parent.glob("2*")] == [pair.name], "one run, of two"
    here, there = losses(alone, "flow"), losses(pair, "flow")
    assert len(here) == len(there) == 15
    assert all(math.isclose(one, other, rel_tol=LOSSES) for one, other in zip(here, there, strict=True))
    weights, others = (load_arrays(folder / "flow" / "state.safetensors") for folder in (alone, pair))
    assert {name: value.shape for name, value in weights.items()} == {name: one.shape for name, one in others.items()}
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=WEIGHTS, atol=WEIGHTS)
    assert best(pair) != best(alone), "each process draws noise of its own"
    assert math.isclose(best(pair), best(alone), rel_tol=NOISY)
    host.load(pair / "score")
    sizes = [read_json(folder / "size" / "result.json")["answer"]["value"] for folder in (alone, pair)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        pytest.param("0", "error: run.yaml:7:10: it fails here, in process 0", marks=pytest.mark.slow),
        ("1", "error: run.yaml:7:10: it fails here, in process 1"),
        pytest.param("both", "error: run.yaml:7:10: it fails here, in process any", marks=pytest.mark.slow),
        ("killed", "error: run.yaml:7:10: a process of the joint training has ended"),
    ],
)
def test_what_fails_in_one_process_ends_all_with_one_message(
    tmp_path: Path, torchrun: Torchrun, fails: str, message: str
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "run.yaml").write_text(SLOW.replace("score:tiny", "score:failing").replace("pause: 0.03, ", ""))
    began = time.monotonic()
    process = torchrun("run", "run.yaml", "--quiet", SCOREFOLD_DEV_PLUGINS="failing.py", FAILS=fails)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, "torchrun's own, for a process that failed"
    assert out == ""
    said = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(said) == 1, err
    assert said[0].startswith(message), said
    assert time.monotonic() - began < 60
    (partial,) = (tmp_path / "runs" / "slow").glob("*.partial")
    assert read_json(partial / "status.json")["state"] == "failed"


def test_ctrl_c_ends_both_and_the_same_command_goes_on(
    tmp_path: Path, torchrun: Torchrun, launch: Callable[..., Any]
) -> None:
    (tmp_path / "run.yaml").write_text(SLOW)

    def checkpoints() -> list[Path]:
        return list(tmp_path.glob(".scorefold/cache/unfinished/*/*/[0-9]*/*"))

    process = torchrun("run", "run.yaml", "--quiet")
    end = time.monotonic() + 90
    while not checkpoints():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert err.count("interrupted in stage 'score'; repeat the command to continue") == 1
    (partial,) = (tmp_path / "runs" / "slow").glob("*.partial")
    assert read_json(partial / "status.json")["state"] == "interrupted"
    answer: dict[str, Any] = json.loads(run_pair(launch, "run", "run.yaml", "--quiet", "--json", cwd=tmp_path))
    assert [stage["reused"] for stage in answer["stages"]] == [True, False]
    events = [json.loads(line) for line in (Path(answer["run"]) / "events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "metrics"]
    assert min(steps) > 5, "it began again from the start"
    assert max(steps) == 60


def test_what_one_process_cannot_do_is_refused_before_anything_runs(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(SLOW.replace("threads: 1", "threads: 1, parallel: fsdp2"))
    assert main(["run", "run.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: run.yaml:3:46: parallel is fsdp2, which divides a model over processes, and there is"
    )
    assert "torchrun --nproc-per-node N -m scorefold_registry.cli run run.yaml" in said
    with pytest.raises(RunFileError, match="ddp"):
        run_file(host, "run.yaml", sets=["runtime.parallel=fsdp"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(["sweep", "run.yaml", "--grid", "seed=0,1"]) == 2
    assert "'sweep' is a command for one process" in capsys.readouterr().err
    with pytest.raises(Exception, match="2 processes would each run this file"):
        run_file(host, "run.yaml", sets=["runtime.parallel=ddp"])
    assert not (tmp_path / "runs").exists()


def test_only_the_first_process_prints_help_and_no_other_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(SLOW)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["validate", "run.yaml"]) == 0, "other tools set WORLD_SIZE too, and this one was started alone"
    assert "valid" in capsys.readouterr().out
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        for arguments in (["run", "--help"], ["--version"], ["--plugins", "standard", "--help"]):
            assert main(arguments) == 0
            assert bool(capsys.readouterr().out) == (rank == "0")
