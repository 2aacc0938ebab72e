"""Weights & Biases: configuration, curves, final metrics, figures and files of a run, online or to be sent later."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import wandb

from scorefold.errors import ConfigError
from scorefold.stage import RunInfo
from scorefold_tracking.config import WandbConfig
from scorefold_tracking.tracker import (
    Sender,
    State,
    Tracker,
    curve_name,
    facts,
    figures,
    final_folder,
    final_metric_name,
    safe_name,
    tracked_config,
)

_STATUS = {"complete": 0, "failed": 1, "interrupted": 130}
"""Exit status of the process of such a run."""


class WandbRun(Tracker):
    """One run in Weights & Biases. All calls are made in another thread, in order; the run waits at its start and its
    end only.

    Raises ``ConfigError`` where nobody is logged in, ``TimeoutError`` where there is no answer in time, and wandb's own
    errors.
    """

    def __init__(self, run: RunInfo, config: WandbConfig) -> None:
        self._run, self._config = run, config
        self._own: Any = None
        self._steps: dict[str, int] = {}
        self._sender = Sender(f"wandb-{run.name}")
        self._sender.put(self._begin)
        self._wait()

    def metrics(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See ``Tracker.metrics``."""
        self._steps[stage] = step
        values = {curve_name(stage, name): value for name, value in metrics.items()}
        self._sender.put(partial(self._log, {**values, curve_name(stage, "step"): step}))

    def stage_ended(self, stage: str, folder: Path, finals: Mapping[str, float]) -> None:
        """See ``Tracker.stage_ended``."""
        values = {final_metric_name(stage, name): value for name, value in finals.items()}
        self._sender.put(lambda: self._own.summary.update(values))
        if self._config.figures:
            # Read now, since the folder of the run is renamed when it is complete.
            shown = {curve_name(stage, path.stem): wandb.Image(str(path)) for path in figures(folder / stage)}
            if shown:
                self._sender.put(partial(self._log, shown))

    def ended(self, state: State, folder: Path, finals: Mapping[str, float]) -> None:
        """See ``Tracker.ended``."""
        if self._config.artefacts and state != "interrupted":
            self._sender.put(partial(self._upload, folder))
        self._sender.put(lambda: self._own.finish(exit_code=_STATUS[state]))
        self._wait()
        self._sender.close()

    def where(self, folder: Path) -> str:
        """See ``Tracker.where``."""
        if self._own.offline:
            return f"Weights &amp; Biases: <code>wandb sync {html.escape(str(self._own.settings.sync_dir))}</code>"
        link = html.escape(str(self._own.url))
        return f'Weights &amp; Biases: <a href="{link}">{link}</a>'

    def _begin(self) -> None:
        run, config = self._run, self._config
        offline = config.is_offline()
        if not offline and wandb.api.api_key is None:
            raise ConfigError("nobody is logged in", hint="wandb login, or WANDB_API_KEY, or mode: offline")
        # Standard output is the run's own, and its code and git repository are nobody's business.
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, init_timeout=config.timeout
        )
        self._own = wandb.init(
            project=safe_name(config.project or run.name),
            entity=config.entity,
            name=config.run_name or final_folder(run.folder).name,
            group=config.group,
            tags=list(config.tags),
            dir=None if config.directory is None else str(config.directory),
            mode="offline" if offline else "online",
            config={**tracked_config(run.config), **facts(run)},
            reinit="create_new",
            settings=settings,
        )
        for stage in run.config["stages"]:
            # Each stage counts its own steps.
            self._own.define_metric(f"{stage}/*", step_metric=curve_name(stage, "step"))

    def _log(self, values: Mapping[str, Any]) -> None:
        self._own.log(dict(values))

    def _upload(self, folder: Path) -> None:
        files = wandb.Artifact(f"{safe_name(self._run.name)}-report", type="report")
        for name in ("report.html", "error.txt", *(f"{stage}/result.json" for stage in self._run.config["stages"])):
            if (folder / name).exists():
                files.add_file(str(folder / name), name=name)
        self._own.log_artifact(files)

    def _wait(self) -> None:
        try:
            self._sender.wait(self._config.timeout)
        except Exception:
            self._sender.close()
            raise
