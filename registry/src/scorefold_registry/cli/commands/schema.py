"""``scorefold schema``: JSON Schema of run files, for editors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scorefold.errors import ConfigError, printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.runfile.schema import run_schema

DEFAULT = Path(".scorefold/schema.json")


def run(arguments: list[str]) -> int:
    """Write the schema of what is installed and print the line that points a run file at it. The status is 0."""
    parser = Parser(
        "schema", "Write JSON Schema of run files for what is installed, for YAML language servers.", "schema"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"where to write it (default: {DEFAULT})")
    parser.add_flag("--json", "print the schema, and write it only with --out")
    given = parser.parse_args(arguments)
    found = run_schema(discover_host().catalogue)
    for note in found.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    text = json.dumps(found.schema, indent=1, ensure_ascii=False)
    if given.json:
        if given.out is not None:
            _write(given.out, text)
        print_answer(text)
    else:
        out = given.out or DEFAULT
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
