"""What a run ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorefold_registry.run.observers import Failure


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

    >>> import scorefold as sf
    >>> run = sf.load_data("data:sphere", dimension=2, ambient=3, points=100, progress=False).run
    >>> [(stage.name, stage.component) for stage in run.stages], run.value("data").event_shape
    ([('data', 'data:sphere@1')], (3,))
    """

    name: str
    folder: Path
    report: Path
    stages: tuple[StageResult, ...]
    failures: tuple[Failure, ...]
    seconds: float
    _values: dict[str, Any] = field(repr=False, default_factory=dict)
    _load: Callable[[str], Any] | None = field(repr=False, default=None)

    def value(self, stage: str) -> Any:
        """The value of a stage: a model, a data source, an estimate. It is read when it is first asked for."""
        if stage not in self._values:
            assert self._load is not None
            self._values[stage] = self._load(stage)
        return self._values[stage]

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
