"""A plugin from ``scorefold new``: installed, it stands beside ours; uninstalled, it leaves no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scorefold_registry.cli import main


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in another process, with what is installed in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "scorefold_registry.cli", *arguments],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("kind", ["estimator"])
def test_a_new_plugin_is_installed_and_used(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my-ratio", "--kind", kind]) == 0
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site"]
    installed = subprocess.run([*pip, "./scorefold-my-ratio"], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    site = tmp_path / "site"

    doctor = command(site, "plugins", "doctor", "--load", "--json")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    found = {item["name"]: item for item in json.loads(doctor.stdout)["plugins"]}
    assert found["my-ratio"]["findings"] == []

    Path("run.yaml").write_text(
        "version: 1\nstages: {data: {use: data:sphere, config: {dimension: 2, ambient: 5}}, "
        f"it: {{use: {kind}:my-ratio, inputs: {{data: data}}}}}}\n"
    )
    outcome = command(site, "run", "run.yaml", "--json", "--quiet")
    assert outcome.returncode == 0, outcome.stderr
    (metrics,) = [stage["metrics"] for stage in json.loads(outcome.stdout)["stages"] if stage["name"] == "it"]
    # A 2-sphere spans three directions equally.
    assert metrics["intrinsic dimension"] == pytest.approx(3, abs=0.2)

    without = command(tmp_path / "nothing", "validate", "run.yaml")
    assert without.returncode == 1
    assert f"there is no '{kind}:my-ratio'" in without.stderr
