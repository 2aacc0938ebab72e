"""``scorefold new NAME --kind KIND`` writes a plugin to start from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from scorefold.errors import ConfigError, printable
from scorefold_registry.cli.commands.environments import check_new, write_table
from scorefold_registry.cli.new import (
    Templates,
    choose_templates,
    find_templates,
    refuse_taken,
    render_plugin,
)
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments.described import KINDS
from scorefold_registry.plugins.names import join_or


def run(arguments: list[str]) -> int:
    """Write a plugin from a template."""
    if start_arguments := _for_a_run_file(arguments):
        from scorefold_registry.cli.commands import start

        return start.run(start_arguments)
    given = _parse(arguments)
    host = discover_host()
    found, notes = find_templates()
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    kinds = list(host.catalogue.kinds.values())
    templates = choose_templates(found, given.kind, kinds, given.source)
    folder = given.out or Path(f"scorefold-{given.name}")
    if given.isolated:
        check_new(given.name)
        if given.kind not in KINDS:
            raise ConfigError(
                f"a {given.kind} can't be used from an environment of its own; {join_or(KINDS)} can",
                hint="leave --isolated out",
            )
    _note_namesakes(host, given.kind, given.name)
    return _create(folder, templates, given)


def _for_a_run_file(arguments: list[str]) -> list[str]:
    """The arguments of ``scorefold start`` in those of ``scorefold new DATA --kind run``; none for another kind."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kind")
    try:
        given, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return []  # the command's own parser says what is wrong
    return others if given.kind == "run" else []


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "new",
        "Write a complete plugin from a template. The plugin passes its tests.",
        "new my-ratio --kind estimator",
        "new old-neighbours --kind estimator --isolated",
    )
    parser.add_argument("name", metavar="NAME", help="of the component, lower-case words joined by '-'")
    parser.add_argument(
        "--kind", required=True, help="of the component, such as estimator; or verb; or run, which is scorefold start"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder (default: scorefold-NAME)")
    parser.add_argument("--from", dest="source", metavar="DIST", help="whose template, where several have one")
    parser.add_flag("--isolated", "for an environment of its own, with a table in scorefold.toml")
    parser.add_flag("--json", "print JSON")
    return parser.parse_args(arguments)


def _note_namesakes(host: Host, kind: str, name: str) -> None:
    notes = [
        f"{item.distribution} has a {kind}:{name} already; with both, neither is used until one is preferred"
        for item in host.catalogue.claimants(f"{kind}:{name}")
    ]
    notes += [
        f"{record.distribution} has a plugin {name!r} already; lists of plugins that say only that mean both"
        for record in host.plugins
        if record.name == name
    ]
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)


def _create(folder: Path, templates: Templates, given: argparse.Namespace) -> int:
    refuse_taken(given.name)
    folder = render_plugin(templates, given.kind, given.name, folder, isolated=given.isolated)
    component = f"{given.kind}:{given.name}"
    steps = [f"pip install -e {folder}", f"pytest {folder}", f"scorefold plugins check {component}"]
    if given.isolated:
        file = write_table(given.name, [f"./{folder}" if not folder.is_absolute() else str(folder)])
        steps = [f"scorefold plugins install {given.name}", f"scorefold run {folder / 'run.yaml'}"]
        print(printable(f"{file} has the table [environments.{given.name}]"), file=sys.stderr)
    if given.json:
        facts = {"component": component, "folder": str(folder), "template": templates.distribution, "next": steps}
        print_answer(json.dumps(facts, indent=2))
    else:
        print("\n  ".join([f"{folder} is a plugin with {component}; next:", *steps]))
    return 0
