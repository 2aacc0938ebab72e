"""The options of every command, read from the parsers that the commands make."""

from __future__ import annotations

import argparse

from scorefold_registry.cli.main import COMMANDS, USAGE, own_command
from scorefold_registry.cli.options import Run, parsers
from scorefold_registry.plugins.loading import load_command
from scorefold_site.inventory import Inventory
from scorefold_site.markdown import cell, code, fence, page, prose, table


def commands(inventory: Inventory) -> dict[str, Run]:
    """The functions of our commands and of those that plugins of ours add, by name."""
    own: dict[str, Run] = {name: own_command(name) for name in COMMANDS}
    added = {
        command.name: load_command(record, command)
        for record in inventory.host.plugins
        if record.distribution in inventory.distributions
        for command in record.commands
    }
    return {**own, **added}


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments and options of a parser, without ``--help``, which all have."""
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def command_page(inventory: Inventory) -> str:
    """Every command with its options."""
    parts = [
        "# Options of every command",
        "What `scorefold COMMAND --help` prints, of all commands; [commands](commands.md) says what they are for.",
        fence(USAGE.partition("\n\ncommands")[0]),
    ]
    for name, parser in parsers(commands(inventory)).items():
        rows = [(_written(action), _meaning(parser, action)) for action in options(parser)]
        parts += [
            f"## scorefold {name}",
            prose(parser.description or ""),
            fence(_usage(parser)),
            table(("argument", "meaning"), rows),
        ]
    return page(*parts)


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join(parser.format_usage().split()).removeprefix("usage: ")


def _written(action: argparse.Action) -> str:
    """An argument as it is typed."""
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if isinstance(value, tuple):
        value = " ".join(value)
    if action.choices is not None:
        value = " or ".join(str(choice) for choice in action.choices)
    if not action.option_strings:
        return code(value or action.dest)
    return code(cell(f"{', '.join(action.option_strings)} {value}".strip()))


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return prose(text) + (" (required)" if action.required and action.option_strings else "")
