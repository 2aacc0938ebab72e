"""The interface of trackers, the parts of a run that they report, and calls to a server in a thread of their own."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Literal

from scorefold.artefacts import json_text, read_json
from scorefold.stage import RunInfo

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


Call = Callable[[], object]


class Sender:
    """Makes calls in the order in which they are put. After one that fails the others are not made."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Call | Event | None] = SimpleQueue()
        self._failure: Exception | None = None
        # A thread that waits for a server must not keep the process from ending.
        Thread(target=self._work, name=name, daemon=True).start()

    def put(self, call: Call) -> None:
        """Make a call when those before it are done. Raises the failure of an earlier one."""
        self._check()
        self._calls.put(call)

    def wait(self, seconds: float) -> None:
        """Wait until all calls are made. Raises ``TimeoutError``, or the failure of one of them."""
        done = Event()
        self._calls.put(done)
        in_time = done.wait(seconds)
        self._check()
        if not in_time:
            raise TimeoutError(f"no answer within {seconds:g} s")

    def close(self) -> None:
        """Make no call that has not begun, and end the thread."""
        if self._failure is None:
            self._failure = RuntimeError("closed")
        self._calls.put(None)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            if isinstance(item, Event):
                item.set()
            elif self._failure is None:
                try:
                    item()
                except Exception as error:
                    self._failure = error


PARTIAL = ".partial"


def final_folder(folder: Path) -> Path:
    """The folder of a run once it is complete; while it goes on its name ends with ``.partial``."""
    return folder.with_name(folder.name.removesuffix(PARTIAL))


def tracked_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved configuration without the settings of plugins: they change no result."""
    plain: dict[str, Any] = json.loads(json_text(config))
    return {name: value for name, value in plain.items() if name != "plugins"}


def facts(run: RunInfo) -> dict[str, str]:
    """Facts about every run: its folder, seed and command, the device, and the versions."""
    environment = read_json(run.folder / "environment.json")
    versions = {
        "python": environment["python"],
        **environment["versions"],
        **environment["scorefold"],
        **{plugin["distribution"]: plugin["version"] for plugin in environment["plugins"]},
    }
    return {
        "scorefold.run_folder": str(run.folder),
        "scorefold.seed": str(run.seed),
        "scorefold.command": without_password(read_json(run.folder / "status.json")["command"]),
        "scorefold.device": environment["device"],
        **{f"scorefold.version.{name}": str(version) for name, version in versions.items()},
    }


def flat_fields(config: Any, path: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """The fields of a configuration by dotted path; a list of plain values is one field, written as JSON."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from flat_fields(value, f"{path}.{name}" if path else str(name))
    elif isinstance(config, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in config):
        for place, item in enumerate(config):
            yield from flat_fields(item, f"{path}.{place}")
    elif isinstance(config, (bool, int, float, str)):
        yield path, config
    else:
        yield path, json.dumps(config, default=str)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers: a stage may also report words or null."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def curve_name(stage: str, metric: str) -> str:
    """Name of a metric that a stage reports while it runs."""
    return f"{stage}/{metric}"


def final_metric_name(stage: str, metric: str) -> str:
    """Name of a final metric of a stage, distinct from the names of its curves."""
    return f"final/{stage}/{metric}"


def figures(folder: Path) -> list[Path]:
    """The figures in a stage's folder, as PNG files."""
    return sorted((folder / "figures").glob("*.png"))


def without_password(text: str) -> str:
    """The text with the user and the password left out of every address in it."""
    return re.sub(r"(?<=://)[^/\s@]+@", "", text)


def safe_name(name: str) -> str:
    """A name that every place takes: letters, digits, ``_``, ``-`` and ``.``, at most 100 of them."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100]
