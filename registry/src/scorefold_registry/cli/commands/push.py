"""``scorefold push RUN/STAGE TO``: a trained stage as a folder for others, on disk or on the Hugging Face Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scorefold.errors import printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer


def run(arguments: list[str]) -> int:
    """Write or upload the model of a stage; notes go to standard error. The status is 0."""
    parser = Parser(
        "push",
        "Write a trained stage as a folder for others, or upload it to the Hugging Face Hub.",
        "push runs/digits/latest/score ./digits-score --licence mit",
    )
    parser.add_argument("stage", type=Path, metavar="RUN/STAGE", help="the folder of a stage in a run's folder")
    parser.add_argument("to", metavar="TO", help="a new folder (./NAME), or a repository of the Hub (org/name)")
    parser.add_argument("--licence", metavar="NAME", help="of the weights: mit, apache-2.0, cc-by-4.0, ...")
    parser.add_argument("--data-licence", metavar="NAME", help="of the training data")
    parser.add_flag("--half", "store weights in float16, at half the size")
    parser.add_flag("--public", "make a new repository public (default: private)")
    parser.add_flag("--json", "print JSON")
    given = parser.parse_args(arguments)
    host = discover_host()

    from scorefold_registry.sharing.transfer import push

    licences = {"licence": given.licence, "data_licence": given.data_licence}
    pushed = push(host, given.stage, given.to, **licences, private=not given.public, half=given.half)
    for note in pushed.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    if given.json:
        print_answer(json.dumps({"stage": str(given.stage), "to": pushed.place, "notes": pushed.notes}, indent=2))
    else:
        print_answer(pushed.place)
    return 0
