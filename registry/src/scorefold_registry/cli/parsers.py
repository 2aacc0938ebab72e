"""The options of every command, read from the parsers that the commands make."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Parser = argparse.ArgumentParser
"""Of ours, and of plugins, whose commands may make their own."""

Run = Callable[[list[str]], int]


class _MadeError(Exception):
    """Ends a command as soon as it has made its parser."""

    def __init__(self, parser: Parser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


@contextmanager
def _no_parsing(program: str) -> Iterator[None]:
    """Within it, the parser of a program raises ``_MadeError`` in place of reading arguments; others read them."""
    original = Parser.parse_args

    def parse_args(self: Parser, *arguments: Any, **given: Any) -> Any:
        if self.prog == program:
            raise _MadeError(self)
        return original(self, *arguments, **given)

    Parser.parse_args = parse_args  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Parser.parse_args = original  # type: ignore[method-assign]


def parser_of(run: Run, program: str, arguments: list[str]) -> Parser:
    """The parser that a command makes when it is called with arguments; the command itself does nothing.

    Raises ``LookupError`` for a command that makes none.
    """
    try:
        with _no_parsing(program):
            run(arguments)
    except _MadeError as made:
        return made.parser
    raise LookupError(f"{program} makes no parser of its own")


def parsers(commands: Mapping[str, Run]) -> dict[str, Parser]:
    """The parsers of commands by what is typed: ``run``, ``plugins list``."""
    found: dict[str, Parser] = {}
    for name, run in commands.items():
        parser = parser_of(run, f"scorefold {name}", [])
        words = next((action.choices for action in parser._actions if action.dest == "command"), None)
        if words is None:
            found[name] = parser
        else:
            for word in words:
                found[f"{name} {word}"] = parser_of(run, f"scorefold {name} {word}", [str(word)])
    return found
