"""What a run does not import: torch's compiler, and matplotlib before there is something to draw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FILE = """
version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:sphere, config: {dimension: 2, ambient: 3, points: 60}}
  score: {use: score:denoising, inputs: {data: data}, config: {training: {steps: 1, log_every: 1}}}
"""
PLUGIN = """
import sys

from scorefold.plugin import hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_on_metrics(run, stage, step, metrics):
    with open("loaded.txt", "a") as file:
        print(*(name for name in ("matplotlib", "torch._dynamo") if name in sys.modules), file=file)
"""
SCRIPT = """
import sys
from scorefold_registry.cli.main import main

assert main(["run", "short.yaml", "--quiet"]) == 0
print(*(name for name in ("matplotlib", "torch._dynamo") if name in sys.modules), file=open("after.txt", "w"))
"""


def test_a_first_step_and_a_reused_run_load_neither_a_compiler_nor_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(FILE)
    (tmp_path / "seen.py").write_text(PLUGIN)
    variables = {**os.environ, "SCOREFOLD_DEV_PLUGINS": "seen.py"}
    left = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        left.append((tmp_path / "after.txt").read_text().split())
    # Both figures of the first run are drawn after its training: the data's wait for the end.
    assert left == [["matplotlib"], []]
    assert len(list(tmp_path.glob("runs/short/latest/*/figures/*.svg"))) == 2
    steps = (tmp_path / "loaded.txt").read_text().splitlines()
    assert steps
    assert set(steps) == {""}
