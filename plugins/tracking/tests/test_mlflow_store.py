"""MLflow's client on files: everything a run leaves there, read back by MLflow itself."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import scorefold_tracking.mlflow_run as mlflow_run
from scorefold.errors import ScorefoldError

# MLflow's store of plain files opens them by a function that Python 3.14 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps its store of plain files for those who ask for it; it needs no database and no server."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture
def store(tmp_path: Path) -> MlflowClient:
    return MlflowClient(f"file:{tmp_path}/store")


def settings(store: MlflowClient, **more: Any) -> dict[str, Any]:
    return {"mlflow": {"uri": store.tracking_uri, **more}}


def runs(store: MlflowClient, experiment: str = "small") -> list[Run]:
    found = store.get_experiment_by_name(experiment)
    assert found is not None
    return list(store.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def artefacts(store: MlflowClient, run: Run, path: str | None = None) -> set[str]:
    names: set[str] = set()
    for item in store.list_artifacts(run.info.run_id, path):
        names |= artefacts(store, run, item.path) if item.is_dir else {item.path}
    return names


def test_a_run_in_the_store(run: Any, reported: Any, store: MlflowClient) -> None:
    result = run(settings(store, tags={"team": "geometry"}))
    assert result.failures == ()
    (found,) = runs(store)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == result.folder.name
    assert found.info.end_time >= found.info.start_time
    for name in ("loss", "validation", "learning_rate"):
        history = store.get_metric_history(found.info.run_id, f"score/{name}")
        assert sorted((point.step, point.value) for point in history) == reported(result, "score", name)
    for stage in result.stages:
        for name, value in stage.metrics.items():
            if value is not None:
                assert found.data.metrics[f"final/{stage.name}/{name.replace(',', '')}"] == value
    assert found.data.params["stages.score.config.training.steps"] == "40"
    assert found.data.params["stages.dimension.use"].startswith("estimator:iddiff@")
    assert found.data.params["stages.data.config.fractions"].startswith("[")
    assert not [name for name in found.data.params if name.startswith("plugins")]
    tags = found.data.tags
    assert tags["team"] == "geometry"
    assert tags["scorefold.seed"] == "3"
    assert tags["scorefold.run_folder"] == str(result.folder)
    assert {"scorefold.version.torch", "scorefold.version.scorefold-core", "scorefold.command"} <= set(tags)


def test_the_files_of_a_run_are_uploaded(run: Any, store: MlflowClient, tmp_path: Path) -> None:
    result = run(settings(store))
    (found,) = runs(store)
    drawn = {f"{path.parent.parent.name}/{path.name}" for path in result.folder.glob("*/figures/*.png")}
    assert drawn
    results = {f"{stage.name}/result.json" for stage in result.stages}
    assert artefacts(store, found) == {"report.html"} | results | drawn
    fetched = Path(store.download_artifacts(found.info.run_id, "dimension/result.json", str(tmp_path)))
    assert fetched.read_text() == (result.folder / "dimension" / "result.json").read_text()


def test_files_may_stay_at_home(run: Any, store: MlflowClient) -> None:
    run(settings(store, artefacts=False))
    assert artefacts(store, runs(store)[0]) == set()


def test_names_of_the_users_choice(run: Any, store: MlflowClient) -> None:
    run(settings(store, experiment="dimensions", run_name="first"))
    (found,) = runs(store, "dimensions")
    assert found.info.run_name == "first"
    assert store.get_experiment_by_name("small") is None


def test_reused_stages_report_their_final_metrics_again(run: Any, store: MlflowClient) -> None:
    run(settings(store))
    assert all(stage.reused for stage in run(settings(store)).stages)
    first, second = runs(store)
    finals = {name: value for name, value in first.data.metrics.items() if name.startswith("final/")}
    assert finals
    assert second.data.metrics == finals
    assert artefacts(store, first) == artefacts(store, second)


def test_a_stage_that_fails(run: Any, broken: str, store: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ScorefoldError, match="MLE needs at least"):
        run(settings(store), stages=broken)
    (found,) = runs(store)
    assert found.info.status == "FAILED"
    (folder,) = tmp_path.glob("runs/small/*.partial")
    assert found.data.tags["scorefold.run_folder"] == str(folder)
    assert "final/score/loss" in found.data.metrics, "stages that ended well are reported"
    assert "error.txt" in artefacts(store, found)


def test_both_at_once(run: Any, store: MlflowClient) -> None:
    result = run({**settings(store), "tensorboard": {}})
    assert result.failures == ()
    assert runs(store)[0].info.status == "FINISHED"
    assert list((result.folder / "tensorboard").iterdir())
    report = result.report.read_text()
    assert f"MLflow: run {runs(store)[0].info.run_id}" in report
    assert "tensorboard --logdir" in report


def test_large_runs_are_sent_in_the_batches_that_mlflow_takes(
    run: Any, reported: Any, store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    original = MlflowClient.log_batch

    def counted(self: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), **more: Any) -> Any:
        sizes.append((len(metrics), len(params)))
        return original(self, run_id, metrics=metrics, params=params, tags=tags, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    monkeypatch.setattr(mlflow_run, "_MOST_METRICS", 7)
    monkeypatch.setattr(mlflow_run, "_MOST_PARAMETERS", 9)
    result = run(settings(store))
    assert max(metrics for metrics, _ in sizes) == 7
    assert max(parameters for _, parameters in sizes) == 9
    (found,) = runs(store)
    assert len(found.data.params) > 30
    assert found.data.metrics["score/loss"] == reported(result, "score", "loss")[-1][1]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("intrinsic dimension, lower", "intrinsic dimension lower"),
        ("PSNR (dB)", "PSNR dB"),
        ("k=5", "k_5"),
        ("σ", "_"),
        ("a/b.c-d_e", "a/b.c-d_e"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_become_those_that_mlflow_takes(name: str, allowed: str) -> None:
    assert mlflow_run.allowed_name(name) == allowed


def test_metrics_have_the_time_in_milliseconds() -> None:
    waiting = SimpleNamespace(_waiting=[])
    before = time.time()
    mlflow_run.MLflowRun._measured(waiting, {"loss": 2.5}, 7)  # type: ignore[arg-type]
    (metric,) = waiting._waiting
    assert (metric.key, metric.value, metric.step) == ("loss", 2.5, 7)
    assert int(1000 * before) <= metric.timestamp <= 1000 * time.time()
