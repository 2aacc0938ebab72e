"""Options and output of commands: argparse's mistakes as Scorefold's errors, colours, wrapped lines, and ``--json``."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, NoReturn, TextIO

from scorefold.errors import ConfigError, printable
from scorefold_registry.host import Host
from scorefold_registry.plugins.names import did_you_mean, sentences


class UsageError(ConfigError):
    """A command line that can't be understood."""

    code = "usage"


RENAMED = {
    "compare": {"--with": "--plug PORT=USE", "--on": "--data CASE,...", "--config": "--set COMPONENT.FIELD=VALUE"},
    "sweep": {"--over": "--grid FIELD=VALUES"},
    "reproduce": {"--keep": "--store DIR"},
    "recommend": {"--config": "--set calibrated.FIELD=VALUE"},
    "start": {"--set": "--data-option FIELD=VALUE"},
    "apply": {"--set": "--option NAME=VALUE", "--read": "--data-option FIELD=VALUE"},
    "audit": {"--set": "--option NAME=VALUE", "--read": "--data-option FIELD=VALUE"},
    "inspect": {"--read": "--data-option FIELD=VALUE"},
}
"""The names of options that had another one, by command."""


class _Formatter(argparse.HelpFormatter):
    """Lines of examples stay as they are; a description wraps."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """The options of one command. A mistake raises ``UsageError``, so that ``--json`` reports it like any other."""

    def __init__(self, command: str, description: str, *examples: str) -> None:
        """``examples`` are command lines, without ``scorefold``, that ``--help`` ends with."""
        super().__init__(
            prog=f"scorefold {command}",
            description=description,
            epilog="\n".join([styled("examples:", "heading"), *(f"  scorefold {line}" for line in examples)]),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def add_list(self, option: str, metavar: str, text: str, dest: str | None = None) -> None:
        """An option that may be given several times; its values are a list."""
        called: dict[str, Any] = {} if dest is None else {"dest": dest}
        self.add_argument(option, action="append", default=[], metavar=metavar, help=text, **called)

    def add_flag(self, option: str, text: str) -> None:
        """An option without a value, which is False where it is not given."""
        self.add_argument(option, action="store_true", help=text)

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Read the arguments. Raises ``UsageError`` for an option that has another name now."""
        renamed = RENAMED.get(self.prog.removeprefix("scorefold "), {})
        for text in args or ():
            if (name := text.partition("=")[0]) in renamed:
                raise UsageError(f"{name} has another name now", hint=f"write {renamed[name]}")
        return super().parse_args(args, namespace)  # type: ignore[no-any-return]

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


def discover_host() -> Host:
    """The installed plugins as a host; remarks on how they were chosen go to standard error."""
    host = Host.discover()
    for note in host.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    return host


Run = Callable[[list[str]], int]


class _MadeError(Exception):
    """Ends a command as soon as it has made its parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


@contextmanager
def _no_parsing(program: str) -> Iterator[None]:
    """Within it, the parser of a program raises ``_MadeError`` in place of reading arguments; others read them."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *arguments: Any, **given: Any) -> Any:
        if self.prog == program:
            raise _MadeError(self)
        return original(self, *arguments, **given)

    argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_args = original  # type: ignore[method-assign]


def parser_of(run: Run, program: str, arguments: list[str]) -> argparse.ArgumentParser:
    """The parser that a command, of ours or of a plugin, makes when it is called with arguments; nothing else is done.

    Raises ``LookupError`` for a command that makes none.
    """
    try:
        with _no_parsing(program):
            run(arguments)
    except _MadeError as made:
        return made.parser
    raise LookupError(f"{program} makes no parser of its own")


def parsers(commands: Mapping[str, Run]) -> dict[str, argparse.ArgumentParser]:
    """The parsers of commands by what is typed: ``run``, ``plugins list``."""
    found: dict[str, argparse.ArgumentParser] = {}
    for name, run in commands.items():
        parser = parser_of(run, f"scorefold {name}", [])
        words = next((action.choices for action in parser._actions if action.dest == "command"), None)
        if words is None:
            found[name] = parser
        else:
            for word in words:
                found[f"{name} {word}"] = parser_of(run, f"scorefold {name} {word}", [str(word)])
    return found


STYLES = {"heading": "1", "answer": "1;36", "warning": "33", "error": "1;31"}


def styled(text: str, style: str, *, error: bool = False) -> str:
    """Text in one of ``STYLES``, where standard output (or standard error) shows colours.

    It does on a terminal, unless ``NO_COLOR`` is set or ``TERM`` is dumb; with ``FORCE_COLOR`` it always does.
    """
    stream = sys.stderr if error else sys.stdout
    wanted = stream.isatty() and os.environ.get("TERM") != "dumb"
    if os.environ.get("NO_COLOR") or not (wanted or os.environ.get("FORCE_COLOR")):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def wrapped(line: str, indent: int) -> str:
    """A line whose rest goes on below, indented, where the terminal is too narrow; elsewhere the line as it is."""
    if not sys.stdout.isatty():
        return line
    width = max(40, shutil.get_terminal_size().columns)
    lead = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.lstrip(),
        width,
        initial_indent=" " * lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def two_columns(rows: Iterable[tuple[str, str]], indent: int = 2) -> list[str]:
    """Names with what they mean beside them, in two columns."""
    every = list(rows)
    width = max((len(name) for name, _ in every), default=0)
    return [wrapped(f"{'':{indent}}{name:<{width}}  {text}".rstrip(), indent + width + 2) for name, text in every]


_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2

_kept: ContextVar[TextIO | None] = ContextVar("kept", default=None)
"""Stream of the answers while standard output is kept for them; None for standard output itself."""


@contextmanager
def only_answers() -> Iterator[None]:
    """Keeps standard output for ``print_answer``: all else that is printed, by C libraries too, goes to the error."""
    with ExitStack() as stack:
        sys.stdout.flush()
        kept = sys.stdout
        if _is_the_process_output(kept):
            descriptor = os.dup(_STANDARD_OUTPUT)
            stack.callback(os.close, descriptor)
            os.dup2(_STANDARD_ERROR, _STANDARD_OUTPUT)
            stack.callback(os.dup2, descriptor, _STANDARD_OUTPUT)
            kept = stack.enter_context(open(os.dup(descriptor), "w", encoding="utf-8"))
        stack.callback(_kept.reset, _kept.set(kept))
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def print_answer(text: str) -> None:
    """Prints what was asked for to standard output, without what would steer a terminal: in JSON that is escaped.

    Raises ``BrokenPipeError`` where nobody reads it.
    """
    print(printable(text), file=_kept.get() or sys.stdout, flush=True)


def _is_the_process_output(stream: TextIO) -> bool:
    try:
        return stream.fileno() == _STANDARD_OUTPUT
    except (OSError, io.UnsupportedOperation):
        return False
