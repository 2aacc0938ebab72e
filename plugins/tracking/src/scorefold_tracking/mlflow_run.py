"""MLflow: parameters, tags, curves, final metrics and artefacts of a run, on a server or in a local store."""

from __future__ import annotations

import html
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from scorefold.stage import RunInfo
from scorefold_tracking.config import MLflowConfig
from scorefold_tracking.tracker import (
    Sender,
    State,
    Tracker,
    curve_name,
    facts,
    figures,
    final_folder,
    final_metric_name,
    flat_fields,
    tracked_config,
    without_password,
)

_STATUS = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST_NAME = 1000, 100, 250
"""MLflow's limits of one request."""

Item = TypeVar("Item")


class MLflowRun(Tracker):
    """One run in MLflow. All calls are made in another thread, in order; the run waits at its start and its end only.

    Raises ``TimeoutError`` where the server does not answer in time, and MLflow's own errors.
    """

    def __init__(self, run: RunInfo, config: MLflowConfig) -> None:
        self._run, self._config = run, config
        self._client: MlflowClient
        self._experiment = self._id = ""
        self._steps: dict[str, int] = {}
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()
        # Standard output is the run's own: ``scorefold run --json`` prints its answer there.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        self._sender = Sender(f"mlflow-{run.name}")
        self._sender.put(self._begin)
        self._wait()

    def metrics(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See ``Tracker.metrics``."""
        self._steps[stage] = step
        self._measured({curve_name(stage, name): value for name, value in metrics.items()}, step)
        if time.monotonic() - self._sent >= self._config.interval:
            self._send_metrics()

    def stage_ended(self, stage: str, folder: Path, finals: Mapping[str, float]) -> None:
        """See ``Tracker.stage_ended``."""
        self._measured(
            {final_metric_name(stage, name): value for name, value in finals.items()}, self._steps.get(stage, 0)
        )
        self._send_metrics()

    def ended(self, state: State, folder: Path, finals: Mapping[str, float]) -> None:
        """See ``Tracker.ended``."""
        self._send_metrics()
        self._sender.put(partial(self._set_tags, {"scorefold.run_folder": str(folder)}))
        if self._config.artefacts and state != "interrupted":
            self._sender.put(partial(self._upload, folder))
        self._sender.put(lambda: self._client.set_terminated(self._id, _STATUS[state]))
        self._wait()
        self._sender.close()

    def where(self, folder: Path) -> str:
        """See ``Tracker.where``."""
        address = without_password(self._client.tracking_uri).rstrip("/")
        if not address.startswith(("http://", "https://")):
            return f"MLflow: run {self._id} in <code>{html.escape(address)}</code>"
        link = html.escape(f"{address}/#/experiments/{self._experiment}/runs/{self._id}")
        return f'MLflow: <a href="{link}">{link}</a>'

    def _begin(self) -> None:
        run, config = self._run, self._config
        self._client = MlflowClient(tracking_uri=config.uri)
        self._experiment = _experiment(self._client, config.experiment or run.name)
        name = config.run_name or final_folder(run.folder).name
        self._id = self._client.create_run(self._experiment, run_name=name).info.run_id
        self._set_tags({**facts(run), **config.tags})
        fields = {allowed_name(name): str(value) for name, value in flat_fields(tracked_config(run.config))}
        for chunk in _chunks([Param(name, value) for name, value in fields.items()], _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=chunk)

    def _set_tags(self, tags: Mapping[str, str]) -> None:
        self._client.log_batch(self._id, tags=[RunTag(allowed_name(name), value) for name, value in tags.items()])

    def _measured(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._waiting += [Metric(allowed_name(name), value, now, step) for name, value in metrics.items()]

    def _send_metrics(self) -> None:
        for chunk in _chunks(self._waiting, _MOST_METRICS):
            self._sender.put(partial(self._client.log_batch, self._id, metrics=chunk))
        self._waiting, self._sent = [], time.monotonic()

    def _upload(self, folder: Path) -> None:
        for name in ("report.html", "error.txt"):
            if (folder / name).exists():
                self._client.log_artifact(self._id, str(folder / name))
        for stage in self._run.config["stages"]:
            for path in (folder / stage / "result.json", *figures(folder / stage)):
                if path.exists():
                    self._client.log_artifact(self._id, str(path), stage)

    def _wait(self) -> None:
        try:
            self._sender.wait(self._config.timeout)
        except TimeoutError as error:
            self._sender.close()
            store = self._config.uri or os.environ.get("MLFLOW_TRACKING_URI") or "the local store"
            raise TimeoutError(f"{store} gave {error}") from None
        except Exception:
            self._sender.close()
            raise


def _experiment(client: MlflowClient, name: str) -> str:
    """The identifier of an experiment, which is made where there is none."""
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            # Another run that began at the same time has made it.
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)


def allowed_name(name: str) -> str:
    """A name that MLflow accepts: without commas and brackets, and with other signs replaced."""
    plain = re.sub(r"[,()\[\]{}]", "", name)
    return re.sub(r"[^\w\-. /]", "_", plain, flags=re.ASCII)[:_LONGEST_NAME]


def _chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
