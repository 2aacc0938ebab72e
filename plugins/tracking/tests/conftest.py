"""One small run file with a training and figures, run with what a test says under ``plugins: {tracking: ...}``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# MLflow reads it when it is imported, which the test modules do: no test reports its use to MLflow's makers.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult

STAGES = """
stages:
  data: {use: data:sphere, config: {dimension: 2, ambient: 5, points: 60}}
  score:
    use: score:denoising
    inputs: {data: data}
    config:
      network: {use: network:mlp, config: {width: 8, blocks: 1}}
      training: {steps: 40, batch_size: 16, log_every: 10, validate_every: 20, warmup: 5}
  dimension: {use: estimator:iddiff, inputs: {score: score, data: data}, config: {points: 3, sweep: []}}
"""

BROKEN = f"{STAGES}  broken: {{use: estimator:mle, inputs: {{data: data}}}}\n"
"""The same, and a last stage that fails: its split has too few points."""

Run = Callable[..., RunResult]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no server of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("SCOREFOLD_PLUGINS", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the run file with these settings (none where they are None), and other stages where they are given."""

    def make(settings: dict[str, Any] | None, stages: str = STAGES, name: str = "small") -> Path:
        path = tmp_path / "run.yaml"
        plugins = "" if settings is None else f"plugins: {{tracking: {json.dumps(settings)}}}"
        head = f"version: 1\nname: {name}\nseed: 3\nruntime: {{device: cpu, threads: 1}}\n"
        path.write_text(f"{head}{plugins}{stages}")
        return path

    return make


def steps_of(result: RunResult, stage: str, name: str) -> list[tuple[int, float]]:
    """A metric that a stage reported, with its steps, as the run's own record has it."""
    lines = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    written = [line for line in lines if line["event"] == "metrics" and line["stage"] == stage]
    return [(line["step"], line["metrics"][name]) for line in written if name in line["metrics"]]


@pytest.fixture
def reported() -> Callable[[RunResult, str, str], list[tuple[int, float]]]:
    return steps_of


@pytest.fixture
def broken() -> str:
    return BROKEN


@pytest.fixture
def run(write: Write) -> Run:
    """Run it."""

    def make(settings: dict[str, Any] | None, **changes: Any) -> RunResult:
        return run_file(Host.discover(), write(settings, **changes))

    return make
