"""``scorefold push`` and ``pull``: a trained stage as a folder for others, on disk or on the Hugging Face Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scorefold.errors import printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer


def push_command(arguments: list[str]) -> int:
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


def pull_command(arguments: list[str]) -> int:
    """Copy a pushed model into a folder once it has been checked, and say how a run file uses it. The status is 0."""
    parser = Parser(
        "pull",
        "Check and copy a model of a plugin or of somebody else. No code in it is run.",
        "pull fashion-score",
        "pull org/name",
        "pull ./digits-score models/digits",
    )
    help_text = "a plugin's model (NAME), a folder (./NAME), or a repository of the Hub (org/name)"
    parser.add_argument("source", metavar="FROM", help=help_text)
    parser.add_argument("to", nargs="?", type=Path, metavar="TO", help="a new folder (default: models/NAME)")
    parser.add_argument("--revision", help="a branch, tag or commit of the repository (default: its main branch)")
    parser.add_flag("--json", "print JSON")
    given = parser.parse_args(arguments)
    host = discover_host()

    from scorefold_registry.components.manifest import read_manifest
    from scorefold_registry.runfile.loaded_stages import licences_of
    from scorefold_registry.sharing.transfer import pull

    folder = pull(host, given.source, given.to, revision=given.revision)
    manifest = read_manifest(folder)
    licences = licences_of(folder)
    if given.json:
        made = {"component": manifest.component, "distribution": manifest.distribution, "version": manifest.version}
        print_answer(json.dumps({"from": given.source, "to": str(folder), **made, **licences}, indent=2))
    else:
        said = f"licence: {licences['licence'] or 'unknown'}; of its data: {licences['data_licence'] or 'unknown'}"
        print_answer(f"{folder}: {manifest.saved}\n{said}\nin a run file: model: {{load: {folder}}}")
    return 0
