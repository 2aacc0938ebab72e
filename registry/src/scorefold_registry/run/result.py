"""What a run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold_registry.run.observers import Failure
from scorefold_registry.run.stage_folder import load_stage

if TYPE_CHECKING:
    from scorefold_registry.host import Host


class RunInterrupted(KeyboardInterrupt):
    """The user stopped a run; the same command goes on from the last checkpoint."""

    def __init__(self, stage: str | None, folder: Path) -> None:
        super().__init__(stage)
        self.stage = stage
        self.folder = folder


@dataclass(frozen=True)
class StageResult:
    """How a stage of a run went. ``seconds`` is wall time in this run; ``by_label`` has the answers for each label."""

    name: str
    component: str
    reused: bool
    seconds: float
    metrics: Mapping[str, Any]
    by_label: Sequence[Mapping[str, Any]] = ()


@dataclass
class RunResult:
    """A finished run: its folder, its report, its stages in order, and the observers that failed.

    >>> from scorefold_registry.python import data
    >>> run = data("data:sphere", dimension=2, ambient=3, points=100, progress=False).run
    >>> [(stage.name, stage.component) for stage in run.stages], run.value("data").event_shape
    ([('data', 'data:sphere@1')], (3,))
    """

    name: str
    folder: Path
    report: Path
    stages: tuple[StageResult, ...]
    failures: tuple[Failure, ...]
    seconds: float
    _values: Mapping[str, Any] = field(repr=False, default_factory=dict)
    _host: Host | None = field(repr=False, default=None)

    def value(self, stage: str) -> Any:
        """What a stage handed on: a model, a data source, an estimate. Read from the folder where it was reused."""
        if stage in self._values:
            return self._values[stage]
        assert self._host is not None
        return load_stage(self._host, self.folder / stage).value

    def as_json(self) -> dict[str, Any]:
        """The object that ``scorefold run --json`` prints."""
        return {
            "run": str(self.folder),
            "stages": [
                {
                    "name": stage.name,
                    "component": stage.component,
                    "reused": stage.reused,
                    "seconds": round(stage.seconds, 3),
                    "metrics": dict(stage.metrics),
                    **({"by_label": [dict(row) for row in stage.by_label]} if stage.by_label else {}),
                }
                for stage in self.stages
            ],
        }
