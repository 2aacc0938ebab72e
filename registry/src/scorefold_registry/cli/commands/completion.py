"""``scorefold completion SHELL``: commands and options that a shell completes with the tab key."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import shtab

from scorefold_registry.cli.main import COMMANDS, own_command
from scorefold_registry.cli.options import Parser, parsers, print_answer


def run(arguments: list[str]) -> int:
    """Print the script for a shell. The status is 0."""
    parser = Parser(
        "completion", "Print the script that lets a shell complete commands, options and files.", "completion bash"
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell that reads the script")
    given = parser.parse_args(arguments)
    print_answer(shtab.complete(_whole(), shell=given.shell))
    return 0


def _whole() -> argparse.ArgumentParser:
    """One parser of all our commands. Arguments that are paths are completed as files."""
    whole = argparse.ArgumentParser("scorefold")
    whole.add_argument("--plugins", metavar="LIST", help="allow only these plugins, or deny some")
    whole.add_argument("--debug", action="store_true", help="show the traceback of an error")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands: Any = whole.add_subparsers()
    groups: dict[str, Any] = {}
    found = parsers({name: own_command(name) for name in COMMANDS})
    for typed, parser in found.items():
        for action in parser._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        name, _, word = typed.partition(" ")
        if word and name not in groups:
            groups[name] = commands.add_parser(name, help=COMMANDS[name]).add_subparsers()
        place, called = (groups[name], word) if word else (commands, name)
        place.add_parser(called, parents=[parser], add_help=False, help=parser.description)
    return whole
