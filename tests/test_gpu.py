"""``make gpu``: what it does on a device, tried on the CPU, and what it prints where there is no accelerator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks/gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_all_parts_on_the_cpu() -> None:
    done = run(
        "--device", "cpu", "--steps", "16", "--rounds", "1", "--no-compile", "--components", "flow:affine-coupling"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert " on cpu: " in lines[0]
    assert lines[1].startswith("checks: ")
    assert " 0 fail" in lines[1]
    assert lines[2].startswith("resume: holds: went on at step 9 of 16, weights 0 apart")
    assert lines[3].startswith("precision: holds")
    assert [line.partition("  ")[0] for line in lines[5:]] == [
        "training step, batch 256",
        "64 samples, Heun, 18 levels",
        "spectra of 16 points",
        "exp of 64 vectors",
        "log of 64 points",
    ]
    assert all(float(number) > 0 for line in lines[5:] for number in line.split()[-2:])


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is an accelerator")
def test_no_accelerator_is_one_line_and_no_passed_check() -> None:
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "no accelerator\n", "")
