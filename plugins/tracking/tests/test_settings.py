"""What a run file may say of tracking, and that a library which is missing is reported before the run."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_tracking import config as tracking_config
from scorefold_tracking.config import TrackingConfig


def problem(path: Path) -> str:
    """The one thing that is wrong with a run file, with its place."""
    with pytest.raises(RunFileError) as caught:
        make_plan(Host.discover().catalogue, read(path))
    (found,) = caught.value.problems
    return str(found)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make as if a library were not installed."""

    def make(missing: str) -> None:
        monkeypatch.setattr(tracking_config, "find_spec", lambda name: None if name == missing else find_spec(name))

    return make


def test_both_are_off_unless_they_are_named() -> None:
    config = TrackingConfig.model_validate({"tensorboard": {}})
    assert config.tensorboard is not None
    assert config.tensorboard.directory is None
    assert config.mlflow is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "expected tensorboard: {}, mlflow: {}, wandb: {} or several"),
        ({"tensorbord": {}}, "did you mean 'tensorboard'"),
        ({"tensorboard": {"directory": 3}}, "tensorboard.directory"),
        ({"mlflow": {"uri": "http://localhost", "interval": 0}}, "mlflow.interval"),
        ({"mlflow": {"uri": "http://localhost", "tags": {"a": 1}}}, "mlflow.tags"),
        ({"wandb": {"mode": "ofline"}}, "wandb.mode"),
    ],
)
def test_what_is_wrong_is_said_in_its_place(write: Any, settings: dict[str, Any], said: str) -> None:
    text = problem(write(settings))
    assert said in text
    assert "run.yaml:5:" in text


@pytest.mark.parametrize(
    ("library", "settings"),
    [
        ("tensorboard", {"tensorboard": {}}),
        ("mlflow", {"mlflow": {"uri": "http://localhost"}}),
        ("wandb", {"wandb": {"mode": "offline"}}),
    ],
)
def test_a_missing_library_is_reported_by_validate(
    write: Any, without: Any, capsys: pytest.CaptureFixture[str], library: str, settings: dict[str, Any]
) -> None:
    without(library)
    assert main(["validate", str(write(settings))]) == 1
    said = capsys.readouterr()
    assert f"pip install 'scorefold-tracking[{library}]'" in said.out + said.err
    assert "run.yaml:5:" in said.out + said.err


def test_a_run_that_could_not_be_tracked_does_not_begin(write: Any, without: Any, tmp_path: Path) -> None:
    without("tensorboard")
    assert main(["run", str(write({"tensorboard": {}}))]) == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("uri", [None, "sqlite:///here.db"])
def test_a_local_store_needs_all_of_mlflow(write: Any, without: Any, uri: str | None) -> None:
    without("sqlalchemy")
    assert "a local store needs all of MLflow" in problem(write({"mlflow": {"uri": uri}}))
    assert "a local store needs all of MLflow" in problem(write({"mlflow": {}}))


def test_a_password_is_refused_and_not_repeated(write: Any) -> None:
    said = problem(write({"mlflow": {"uri": "http://me:secret@localhost:5000"}}))
    assert "MLFLOW_TRACKING_PASSWORD" in said
    assert "secret" not in said


def test_a_server_in_the_environment_is_no_local_store(without: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert TrackingConfig.model_validate({"mlflow": {}}).mlflow is not None


def test_a_run_file_that_names_no_tracking_is_not_tracked(run: Any) -> None:
    result = run(None, stages="\nstages:\n  data: {use: data:sphere}\n")
    assert result.failures == ()
    assert not (result.folder / "tensorboard").exists()
    assert "Tracking" not in result.report.read_text()


def test_checking_settings_imports_neither_library() -> None:
    """``find_spec`` looks without importing; a check of a run file stays cheap."""
    code = (
        "import sys; from scorefold_tracking.config import TrackingConfig as T;"
        "T.model_validate({'tensorboard': {}, 'mlflow': {'uri': 'http://localhost'}});"
        "print(sorted({'tensorboard', 'mlflow', 'torch', 'numpy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
