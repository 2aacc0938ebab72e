"""``scorefold new NAME --kind KIND``: a plugin to start from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scorefold_registry.commands.hosting import discover_host
from scorefold_registry.options import Parser
from scorefold_registry.templates import choose, find_templates, render


def run(arguments: list[str]) -> int:
    """Write a plugin from a template and say what to do next. The status is 0."""
    parser = Parser("new", "Write a whole plugin from a template: it installs and passes its own tests as it is.")
    parser.add_argument("name", help="of the component, lower-case words joined by '-'")
    parser.add_argument("--kind", required=True, help="of the component, such as estimator")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder (default: scorefold-NAME)")
    parser.add_argument("--from", dest="source", metavar="DIST", help="whose template, where several have one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    catalogue = discover_host().catalogue
    found, notes = find_templates()
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    templates = choose(found, given.kind, list(catalogue.kinds.values()), given.source)
    folder = render(templates, given.kind, given.name, given.out or Path(f"scorefold-{given.name}"))
    component = f"{given.kind}:{given.name}"
    for item in catalogue.claimants(component):
        print(f"note: {item.distribution} has a {component} already; installed, neither could be used", file=sys.stderr)
    steps = [f"pip install -e {folder}", f"pytest {folder}", f"scorefold plugins show {component}"]
    if given.json:
        facts = {"component": component, "folder": str(folder), "template": templates.distribution, "next": steps}
        print(json.dumps(facts, indent=2))
    else:
        print("\n  ".join([f"{folder} is a plugin with {component}; next:", *steps]))
    return 0
