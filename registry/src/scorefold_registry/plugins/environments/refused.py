"""The error of a config that an environment refuses."""

from __future__ import annotations

from collections.abc import Sequence

from scorefold.errors import ConfigError


class RefusedConfigError(ConfigError):
    """A config that the environment refuses. ``problems`` are (path, message, hint, code), in its own words."""

    def __init__(self, problems: Sequence[tuple[Sequence[str | int], str, str | None, str]]) -> None:
        super().__init__("; ".join(problem[1] for problem in problems))
        self.problems = problems
