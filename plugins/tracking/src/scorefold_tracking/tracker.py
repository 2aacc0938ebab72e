"""Interface of all trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

State = Literal["complete", "failed", "interrupted"]


class Tracker(ABC):
    """One place where one run is tracked. Each method may raise: the run then goes on without this place.

    Metrics and numbers are by name; ``folder`` is the run's folder as it is called at the time. Nothing in it may be
    held open between two calls, since it is renamed when the run is complete.
    """

    @abstractmethod
    def metrics(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """A stage has reported metrics at a step."""

    @abstractmethod
    def stage_ended(self, stage: str, folder: Path, finals: Mapping[str, float]) -> None:
        """A stage has ended well, or was reused, with these metrics; its files stand in ``folder/stage``."""

    @abstractmethod
    def ended(self, state: State, folder: Path, finals: Mapping[str, float]) -> None:
        """The run has ended; ``finals`` are the metrics that its stages ended with, by stage and name."""

    @abstractmethod
    def where(self, folder: Path) -> str:
        """Place of the tracked run, as an HTML fragment; ``folder`` is the run's folder once it is complete."""
