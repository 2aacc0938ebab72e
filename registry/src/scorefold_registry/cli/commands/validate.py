"""``scorefold validate FILE``: check a run file without importing torch, or with ``--data`` build what it names too."""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path
from typing import Any

from scorefold.errors import printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.host import Host
from scorefold_registry.runfile import stage_parts
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_registry.runfile.yaml_reader import read_text


def run(arguments: list[str]) -> int:
    """Check a run file. The status is 0 for one that is right and 1 for one that isn't."""
    parser = Parser(
        "validate", "Check a run file without running it.", "validate digits.yaml", "validate digits.yaml --data"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the run file")
    parser.add_list("--set", "PATH=VALUE", "set a field", dest="sets")
    parser.add_flag("--json", "print the result as JSON")
    parser.add_flag("--fix", "first write new names into the file in place of old ones")
    parser.add_flag("--data", "also open the data and build every component, as a run would (slower)")
    given = parser.parse_args(arguments)
    if given.fix:
        fix_names(given.file)
    host = discover_host()
    try:
        plan = make_plan(host.catalogue, read(given.file, given.sets))
        if given.data:
            rehearse_all(host, plan)
    except RunFileError as error:
        if given.json:
            problems = [problem.as_json() for problem in error.problems]
            print_answer(json.dumps({"valid": False, "problems": problems, "stages": []}, indent=2))
        else:
            count = len(error.problems)
            print(error, file=sys.stderr)
            print(f"{given.file}: {count} problem{'s' if count > 1 else ''}", file=sys.stderr)
        return 1
    for text in plan.warnings:
        print(printable(f"warning: {text}"), file=sys.stderr)
    if given.json:
        print_answer(json.dumps({"valid": True, "problems": [], "stages": stage_list(plan)}, indent=2))
    else:
        count = len(plan.stages)
        print(f"{given.file}: valid, {count} stage{'s' if count > 1 else ''}")
    return 0


def fix_names(file: Path) -> None:
    """Write new names in place of old ones into a run file, and print each change. Comments and layout stay."""
    text, changes = stage_parts.renamed(read_text(file), stage_parts.RENAMED)
    if changes:
        mark = codecs.BOM_UTF8 if file.read_bytes().startswith(codecs.BOM_UTF8) else b""
        file.write_bytes(mark + text.encode())
    for change in changes:
        print(f"{file}:{change.place.line}: {change.old} is now {change.new}", file=sys.stderr)


def rehearse_all(host: Host, plan: Plan) -> None:
    """Raises ``RunFileError`` for what a run would find wrong before its first long stage."""
    import torch

    from scorefold_registry.run.stage_builder import StageBuilder, rehearse

    def nothing_is_done(name: str) -> None:
        raise KeyError(name)

    builder = StageBuilder(host, plan.run.seed, "cpu", getattr(torch, plan.run.runtime.dtype))
    if problems := rehearse(builder, plan, nothing_is_done, plan.stages):
        raise RunFileError(problems)


def stage_list(plan: Plan) -> list[dict[str, Any]]:
    """The stages of a plan as JSON, in the order they run."""
    return [
        {
            "name": stage.name,
            "component": stage.registered.component.versioned_id,
            "verb": stage.verb.name,
            "gives": stage.verb.gives,
            "after": list(stage.after),
        }
        for stage in plan.stages
    ]
