"""``scorefold demo``: the intrinsic dimension of handwritten digits, from data to report."""

from __future__ import annotations

from importlib.resources import as_file, files

from scorefold_registry.cli.commands.run import add_run_options, run_and_print
from scorefold_registry.cli.options import Parser


def run(arguments: list[str]) -> int:
    """Run the packaged demonstration and print its answer and its report. The status is 0, or 130 after Ctrl-C."""
    parser = Parser("demo", "What is the intrinsic dimension of handwritten digits?", "demo", "demo --seed 1")
    add_run_options(parser)
    given = parser.parse_args(arguments)
    with as_file(files("scorefold_registry.cli") / "demo.yaml") as file:
        if not given.json:
            print("What is the intrinsic dimension of handwritten digits?")
        seed = [] if given.seed is None else ["--seed", str(given.seed)]
        return run_and_print(file, given, command=["scorefold", "demo", *seed], then="scorefold start mine.csv")
