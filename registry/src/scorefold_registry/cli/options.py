"""Options of commands: argparse whose mistakes are Scorefold's errors, with near misses."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from scorefold.errors import ConfigError
from scorefold_registry.plugins.names import did_you_mean, sentences


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


def count(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from ``least``."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return read


def pairs(given: list[str], option: str, example: str) -> dict[str, Any]:
    """``NAME=VALUE`` options, the values read as YAML. Raises ``ConfigError`` for one that isn't."""
    from scorefold_registry.runfile.yaml_reader import parse_value

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                f"{option} {text}: expected a name, '=' and a value", hint=f"for example {option} {example}"
            )
        try:
            found[name.strip()] = parse_value(value)
        except ConfigError as error:
            raise ConfigError(f"{option} {text}: {error.message}", hint=error.hint) from None
    return found
