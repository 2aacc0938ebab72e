"""``scorefold new NAME --kind KIND`` writes a plugin to start from; ``--update FOLDER`` brings one up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scorefold.errors import printable
from scorefold_registry.cli.answers import print_answer
from scorefold_registry.cli.hosting import discover_host
from scorefold_registry.cli.new.templates import Templates, choose, find_templates, refuse_taken, render
from scorefold_registry.cli.new.updates import (
    ACTIONS,
    Change,
    Record,
    apply_update,
    digests,
    plan_update,
    read_record,
    rendered,
    write_record,
)
from scorefold_registry.cli.options import Parser, UsageError
from scorefold_registry.host import Host


def run(arguments: list[str]) -> int:
    """Write a plugin from a template, or update one. The status is 1 where an update leaves something to merge."""
    if start_arguments := _for_a_run_file(arguments):
        from scorefold_registry.cli.commands import start

        return start.run(start_arguments)
    given = _parse(arguments)
    host = discover_host()
    found, notes = find_templates()
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    kinds = list(host.catalogue.kinds.values())
    if given.update is not None:
        record = read_record(given.update)
        templates = choose(found, record.kind, kinds, record.distribution)
        return _update(given.update, record, templates, given)
    templates = choose(found, given.kind, kinds, given.source)
    folder = given.out or Path(f"scorefold-{given.name}")
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
    parser = Parser("new", "Write a whole plugin from a template, which passes its own tests as it is; or update one.")
    parser.add_argument("name", nargs="?", help="of the component, lower-case words joined by '-'")
    parser.add_argument("--kind", help="of the component, such as estimator; or verb; or run, which is scorefold start")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder (default: scorefold-NAME)")
    parser.add_argument("--from", dest="source", metavar="DIST", help="whose template, where several have one")
    parser.add_argument(
        "--update", type=Path, metavar="FOLDER", help="bring a plugin up to its template as it is today"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --update: say what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    creating = {"NAME": given.name, "--kind": given.kind, "--out": given.out, "--from": given.source}
    if given.update is not None:
        extra = [option for option, value in creating.items() if value is not None]
        if extra:
            raise UsageError(f"--update goes without {', '.join(extra)}", hint="the folder says what it was made from")
        return given
    missing = [option for option in ("NAME", "--kind") if creating[option] is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if given.dry_run:
        raise UsageError("--dry-run goes with --update", hint="a new plugin is written into a new folder only")
    return given


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
    folder = render(templates, given.kind, given.name, folder)
    write_record(folder, templates, given.kind, given.name, digests(folder))
    component = f"{given.kind}:{given.name}"
    steps = [f"pip install -e {folder}", f"pytest {folder}", f"scorefold plugins check {component}"]
    if given.json:
        facts = {"component": component, "folder": str(folder), "template": templates.distribution, "next": steps}
        print_answer(json.dumps(facts, indent=2))
    else:
        print("\n  ".join([f"{folder} is a plugin with {component}; next:", *steps]))
    return 0


def _update(folder: Path, record: Record, templates: Templates, given: argparse.Namespace) -> int:
    with rendered(templates, record) as source:
        now = digests(source)
        changes = plan_update(folder, record, now)
        if not given.dry_run:
            apply_update(folder, source, changes)
            write_record(folder, templates, record.kind, record.name, now)
    facts = {
        "component": f"{record.kind}:{record.name}",
        "folder": str(folder),
        "template": templates.distribution,
        "from": record.version,
        "to": templates.version,
        "dry_run": given.dry_run,
        "files": [{"path": change.path, "action": change.action} for change in changes],
    }
    print_answer(json.dumps(facts, indent=2) if given.json else _update_text(facts, changes))
    return 1 if any(change.action == "merge" for change in changes) else 0


def _update_text(facts: dict[str, Any], changes: list[Change]) -> str:
    """An update as text: a line for each file that something is done with, or that needs a decision."""
    versions = f"{facts['template']} {facts['to']}"
    if facts["from"] != facts["to"]:
        versions = f"{versions}, it was written by {facts['from']}"
    lines = [f"{facts['folder']} has {facts['component']} from {versions}"]
    for change in changes:
        shown = f"{change.path} -> {change.path}.new" if change.action == "merge" else change.path
        lines.append(f"  {change.action:<8} {shown} ({ACTIONS[change.action]})")
    if not any(change.action != "keep" for change in changes):
        lines.append("  nothing is to be done")
    elif facts["dry_run"]:
        lines.append("  nothing was changed: --dry-run")
    return "\n".join(lines)
