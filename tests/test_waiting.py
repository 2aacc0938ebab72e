"""Imports that commands do without: torch's compiler, matplotlib before there is something to draw, and torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

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


INSPECT = """
import sys
from scorefold_registry.cli.main import main

assert main(["inspect", sys.argv[1]]) == 0
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.parquet"])
def test_a_table_is_inspected_without_torch(tmp_path: Path, name: str) -> None:
    table = pandas.DataFrame({"a": [0.5, 1.5, 1.5], "b": [1.0, 2.0, 2.0]})
    writers = {
        "x.csv": table.to_csv,
        "x.npy": lambda file: np.save(file, table.to_numpy()),
        "x.parquet": table.to_parquet,
    }
    writers[name](tmp_path / name)
    done = subprocess.run([sys.executable, "-c", INSPECT, str(tmp_path / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 rows of")
