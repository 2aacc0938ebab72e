"""``scorefold validate``, ``graph``, ``cite`` and ``schema``: what a run file says, without running it.

None of them imports torch, except ``validate --data``, which builds the components of a file.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError, printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.host import Host
from scorefold_registry.runfile import stage_parts
from scorefold_registry.runfile.plan import Plan, PlannedStage, make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_registry.runfile.yaml_reader import read_text

FORMATS = ("text", "mermaid", "dot", "json")

SCHEMA_FILE = Path(".scorefold/schema.json")


def validate_command(arguments: list[str]) -> int:
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


def graph_command(arguments: list[str]) -> int:
    """Print the graph of a run file's stages. The status is 0."""
    parser = Parser(
        "graph", "Show the stages of a run file as a graph.", "graph digits.yaml", "graph digits.yaml --format mermaid"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the run file")
    parser.add_list("--set", "PATH=VALUE", "set a field", dest="sets")
    parser.add_argument("--format", choices=FORMATS, default="text", help="the format of the graph (default: text)")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    given = parser.parse_args(arguments)
    plan = make_plan(discover_host().catalogue, read(given.file, given.sets))
    print_answer({"text": tree, "mermaid": mermaid, "dot": dot, "json": graph_as_json}[given.format](plan))
    return 0


def tree(plan: Plan) -> str:
    """The stages as a tree: each under the last of those it needs, the others named beside it."""
    return "\n".join([plan.run.name, *_branches(plan, None, "")])


def _branches(plan: Plan, parent: str | None, indent: str) -> Iterator[str]:
    order = [stage.name for stage in plan.stages]

    def home(stage: PlannedStage) -> str | None:
        return max(stage.after, key=order.index, default=None)

    children = [stage for stage in plan.stages if home(stage) == parent]
    for number, stage in enumerate(children, start=1):
        last = number == len(children)
        others = [name for name in stage.after if name != parent]
        beside = f", also from {', '.join(others)}" if others else ""
        yield f"{indent}{'└─' if last else '├─'} {stage.name}: {_label(stage)}{beside}"
        yield from _branches(plan, stage.name, indent + ("   " if last else "│  "))


def _label(stage: PlannedStage) -> str:
    return f"{stage.registered.id}, {stage.verb.name}"


def mermaid(plan: Plan) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    lines += [f'  {_safe(stage.name)}["{stage.name}<br>{_label(stage)}"]' for stage in plan.stages]
    lines += [f"  {_safe(name)} --> {_safe(stage.name)}" for stage in plan.stages for name in stage.after]
    return "\n".join(lines)


def _safe(name: str) -> str:
    # Mermaid reads a bare 'end' as a keyword.
    return f"s_{name.replace('-', '_')}"


def dot(plan: Plan) -> str:
    """The graph in Graphviz's language."""
    lines = [f'digraph "{plan.run.name}" {{', "  rankdir=LR;", "  node [shape=box];"]
    lines += [f'  "{stage.name}" [label="{stage.name}\\n{_label(stage)}"];' for stage in plan.stages]
    lines += [f'  "{name}" -> "{stage.name}";' for stage in plan.stages for name in stage.after]
    return "\n".join([*lines, "}"])


def graph_as_json(plan: Plan) -> str:
    """The stages, each with those it comes after."""
    return json.dumps({"name": plan.run.name, "stages": stage_list(plan)}, indent=2)


def cite_command(arguments: list[str]) -> int:
    """Print the entries; components without one are named on standard error. The status is 0."""
    parser = Parser("cite", "Print the BibTeX entries of the methods in a run file.", "cite digits.yaml")
    parser.add_argument("file", type=Path, metavar="FILE", help="the run file")
    parser.add_list("--set", "PATH=VALUE", "set a field", dest="sets")
    parser.add_flag("--json", "print JSON")
    given = parser.parse_args(arguments)
    catalogue = discover_host().catalogue
    from scorefold_registry.runfile.citations import citations

    found = citations(catalogue, make_plan(catalogue, read(given.file, given.sets)))
    if given.json:
        print_answer(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    elif found.entries:
        print_answer(found.bibtex())
    for note in found.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    if found.without:
        print(f"without a citation: {', '.join(found.without)}", file=sys.stderr)
    return 0


def schema_command(arguments: list[str]) -> int:
    """Write the schema of what is installed and print the line that points a run file at it. The status is 0."""
    parser = Parser(
        "schema", "Write JSON Schema of run files for what is installed, for YAML language servers.", "schema"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"where to write it (default: {SCHEMA_FILE})")
    parser.add_flag("--json", "print the schema, and write it only with --out")
    given = parser.parse_args(arguments)

    from scorefold_registry.runfile.schema import run_schema

    found = run_schema(discover_host().catalogue)
    for note in found.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    text = json.dumps(found.schema, indent=1, ensure_ascii=False)
    if given.json:
        if given.out is not None:
            _write(given.out, text)
        print_answer(text)
    else:
        out = given.out or SCHEMA_FILE
        _write(out, text)
        print(f"# yaml-language-server: $schema={out.as_posix()}")
        print(
            f"{out} is written; put the line above first in a run file (paths start at the run file)", file=sys.stderr
        )
    return 0


def _write(out: Path, text: str) -> None:
    """Write a file whole or not at all. Raises ``ConfigError`` where the place can't be written to."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        raise ConfigError(
            f"{out} can't be written: {error.strerror or error}", hint="name another with --out"
        ) from None
