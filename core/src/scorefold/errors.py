"""Errors that a person reads: what was given, what was expected, where, and the line that fixes it."""

from __future__ import annotations

import copyreg
import re
from pathlib import Path
from typing import Any

# What moves the cursor, starts an escape sequence or turns the direction of a line, and half characters.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that only prints: characters that would steer a terminal or reorder a line are written as escapes.

    Line ends and tabs stay.

    >>> print(printable("a\\x1b[2Jb"))
    a\\u001b[2Jb
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class ScorefoldError(Exception):
    """The base of every error Scorefold raises on purpose.

    ``message`` says what was given and what was expected; ``hint`` is the line that fixes it; ``file``, ``line`` and
    ``column`` (both from 1) say where, when the cause stands in a file. ``code`` is a stable word for programs.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        file: str | Path | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = None if file is None else str(file)
        self.line = line
        self.column = column

    def at(self, file: str | Path | None, line: int | None, column: int | None) -> ScorefoldError:
        """The same error with its place filled in where it had none; returns itself."""
        if self.file is None and file is not None:
            self.file, self.line, self.column = str(file), line, column
        return self

    def __str__(self) -> str:
        place = ""
        if self.file is not None:
            place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None) + ": "
        return printable(place + self.message + (f"\n  {self.hint}" if self.hint else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error for the parent process, for any constructor of a subclass."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def as_json(self) -> dict[str, object]:
        """The object printed under ``--json``: code, message, file, line, column (and hint)."""
        return {name: getattr(self, name) for name in ("code", "message", "hint", "file", "line", "column")}


class ConfigError(ScorefoldError):
    """A run file, a config field or an option that can't be used as given."""

    code = "config"


class PluginError(ScorefoldError):
    """A plugin that is broken, incompatible, ambiguous or unknown."""

    code = "plugin"


class DataError(ScorefoldError):
    """Data that can't be read, or of the wrong shape, size, range or dtype."""

    code = "data"


class SplitError(DataError):
    """A split that a data source does not have, or that holds no points."""


class ShapeError(DataError):
    """A tensor whose shape, dtype or device does not fit what receives it."""

    code = "shape"


class ArtefactError(ScorefoldError):
    """A saved state that is missing, changed or of another revision."""

    code = "artefact"


class TrainingError(ScorefoldError):
    """Training that can't start or go on (a loss that is not finite, a checkpoint of another run)."""

    code = "training"


class JobError(ScorefoldError):
    """A job for another process that can't be sent there, or whose answer can't be sent back."""

    code = "job"


class WorkerError(JobError):
    """A worker process that ended in the middle of a job. ``item`` is the job's position, from 0."""

    code = "worker"

    def __init__(self, message: str, *, item: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.item = item


class UntrainedWarning(UserWarning):
    """Warning that a component is used without training, so that its answers say nothing about the data."""
