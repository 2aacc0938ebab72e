"""Options of commands: argparse whose mistakes are Scorefold's errors, with near misses."""

from __future__ import annotations

import argparse
from typing import NoReturn

from scorefold.errors import ConfigError
from scorefold_registry.names import did_you_mean, sentences


class UsageError(ConfigError):
    """A command line that can't be understood."""

    code = "usage"


class Parser(argparse.ArgumentParser):
    """The options of one command. A mistake raises ``UsageError``, so that ``--json`` reports it like any other."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"scorefold {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split())
        unknown = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
        options = [option for action in self._actions for option in action.option_strings]
        near = did_you_mean(unknown.partition("=")[0], options) if unknown.startswith("-") else ""
        raise UsageError(message, hint=sentences(near, usage))
