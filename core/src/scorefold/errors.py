"""Errors that a person reads: what was given, what was expected, where, and the line that mends it."""

from __future__ import annotations

from pathlib import Path


class ScorefoldError(Exception):
    """The base of every error Scorefold raises on purpose.

    ``message`` says what was given and what was expected; ``hint`` is the line that mends it; ``file``, ``line`` and
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
        return place + self.message + (f"\n  {self.hint}" if self.hint else "")

    def as_json(self) -> dict[str, object]:
        """The object printed under ``--json``: code, message, file, line, column (and hint)."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "file": self.file,
            "line": self.line,
            "column": self.column,
        }


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
