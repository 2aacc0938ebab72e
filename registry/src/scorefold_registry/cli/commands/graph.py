"""``scorefold graph FILE``: which stage depends on which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from scorefold_registry.cli.commands.validate import stage_list
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.runfile.plan import Plan, PlannedStage, make_plan
from scorefold_registry.runfile.reader import read

FORMATS = ("text", "mermaid", "dot", "json")


def run(arguments: list[str]) -> int:
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
