"""``scorefold cite FILE``: BibTeX for the methods that a run file uses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scorefold.errors import printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.runfile.citations import citations
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read


def run(arguments: list[str]) -> int:
    """Print the entries; components without one are named on standard error. The status is 0."""
    parser = Parser("cite", "Print the BibTeX entries of the methods in a run file.", "cite digits.yaml")
    parser.add_argument("file", type=Path, metavar="FILE", help="the run file")
    parser.add_list("--set", "PATH=VALUE", "set a field", dest="sets")
    parser.add_flag("--json", "print JSON")
    given = parser.parse_args(arguments)
    catalogue = discover_host().catalogue
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
