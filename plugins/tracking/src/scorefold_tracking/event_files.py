"""TensorBoard: curves, final metrics, figures and the configuration of a run in event files."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError
from scorefold.stage import RunInfo
from scorefold_tracking.config import TensorBoardConfig
from scorefold_tracking.tracker import (
    State,
    Tracker,
    curve_name,
    figures,
    final_folder,
    final_metric_name,
    flat_fields,
    tracked_config,
)

_OWN_FOLDER = "tensorboard"
_SECONDS_BETWEEN_FLUSHES = 10


class EventFiles(Tracker):
    """The event files of one run: one for each stage, closed when it ends.

    Raises ``ConfigError`` where their folder is also the folder of a stage, and ``OSError`` where it can't be written.
    """

    def __init__(self, run: RunInfo, config: TensorBoardConfig) -> None:
        if config.directory is None and _OWN_FOLDER in run.config["stages"]:
            raise ConfigError(
                f"a stage is called {_OWN_FOLDER!r}, and has the folder of the event files",
                hint="call it otherwise, or set plugins.tracking.tensorboard.directory",
            )
        self._config = config
        self._run = run
        # Seen from where the run began, wherever the process goes.
        self._chosen = None if config.directory is None else config.directory.absolute()
        self._writer: SummaryWriter | None = None
        self._steps: dict[str, int] = {}
        writer = self._open(run.folder)
        indented = json_text(tracked_config(run.config), indent=2).replace("\n", "\n    ")
        writer.add_text("config", f"    {indented}")
        self._close()

    def metrics(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """See ``Tracker.metrics``."""
        writer = self._open(self._run.folder)
        self._steps[stage] = step
        for name, value in metrics.items():
            writer.add_scalar(curve_name(stage, name), value, step)

    def stage_ended(self, stage: str, folder: Path, finals: Mapping[str, float]) -> None:
        """See ``Tracker.stage_ended``."""
        writer = self._open(folder)
        step = self._steps.get(stage, 0)
        for name, value in finals.items():
            writer.add_scalar(final_metric_name(stage, name), value, step)
        for path in figures(folder / stage) if self._config.figures else ():
            with Image.open(path) as image:
                writer.add_image(
                    curve_name(stage, path.stem), np.asarray(image.convert("RGB")), step, dataformats="HWC"
                )
        self._close()

    def ended(self, state: State, folder: Path, finals: Mapping[str, float]) -> None:
        """See ``Tracker.ended``. A complete run gets its line in the table of hyperparameters."""
        if state == "complete":
            fields = dict(flat_fields(tracked_config(self._run.config)))
            # SummaryWriter.add_hparams would write the finals a second time, as another run called by the time.
            for summary in hparams(fields, dict(finals)):
                self._open(folder).file_writer.add_summary(summary)  # type: ignore[attr-defined]
        self._close()

    def where(self, folder: Path) -> str:
        """See ``Tracker.where``."""
        return f"TensorBoard: <code>tensorboard --logdir {html.escape(str(self._directory(folder)))}</code>"

    def _directory(self, folder: Path) -> Path:
        if self._chosen is None:
            return folder / _OWN_FOLDER
        return self._chosen / self._run.name / final_folder(folder).name

    def _open(self, folder: Path) -> SummaryWriter:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._directory(folder)), flush_secs=_SECONDS_BETWEEN_FLUSHES)
        return self._writer

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
