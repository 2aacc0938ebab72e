"""``scorefold pull FROM [TO]``: a model that a plugin brings or somebody pushed, checked and copied."""

from __future__ import annotations

import json
from pathlib import Path

from scorefold_registry.cli.options import Parser, discover_host, print_answer


def run(arguments: list[str]) -> int:
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
