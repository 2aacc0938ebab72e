"""``scorefold sweep FILE``: run a run file at many values of some of its fields."""

from __future__ import annotations

import sys
from pathlib import Path

from scorefold.artefacts import json_text
from scorefold.errors import printable
from scorefold_registry.cli.main import INTERRUPTED
from scorefold_registry.cli.options import Parser, count, discover_host, print_answer
from scorefold_registry.experiments.engine import Interrupted, watch_for
from scorefold_registry.experiments.points import parse_axis
from scorefold_registry.experiments.rows import SweepResult
from scorefold_registry.experiments.sweep import sweep
from scorefold_registry.run.progress import duration


def run(arguments: list[str]) -> int:
    """Run every point and print the table. The status is 0, 1 where a point failed, or 130 after Ctrl-C."""
    given = _parser().parse_args(arguments)
    host = discover_host()
    try:
        result = sweep(
            host,
            given.file,
            [parse_axis(text) for text in given.grid],
            measure=given.measure,
            best=given.best,
            in_step=given.zip,
            random=given.random,
            search=given.search,
            prune=given.prune,
            sets=given.sets,
            seed=given.seed,
            workers=given.workers,
            out=given.out,
            cache=given.cache,
            watch=watch_for(sys.stderr if given.json else sys.stdout, given.quiet),
        )
    except Interrupted as stopped:
        print(f"{stopped} points; repeat the command to continue", file=sys.stderr)
        return INTERRUPTED
    if given.json:
        print_answer(json_text(result.as_json(), indent=2))
    else:
        _print_result(result)
    return 1 if result.failed else 0


def _print_result(result: SweepResult) -> None:
    """Print the tables, what failed, the best setting where one was asked for, and where everything is."""
    from scorefold_registry.experiments.table import (
        best_text,
        failures,
        points_table,
        print_table,
        settings_table,
        summary,
    )

    for table in [points_table(result), *([settings_table(result)] if result.seeds else [])]:
        print()
        print_table(table, sys.stdout)
    for failure in failures(result):
        print(printable(f"\n{failure}"))
    print(f"\n{summary(result)} in {duration(result.seconds)}")
    if result.goal is not None:
        print(printable(best_text(result)))
    for what, name in (("runs", "runs"), ("table", "sweep.csv"), ("report", "report.html")):
        print(f"{what}: {result.folder / name}")


def _parser() -> Parser:
    parser = Parser(
        "sweep",
        "Run a run file at many values of some of its fields.",
        "sweep digits.yaml --grid seed=0,1,2 --measure dimension",
        'sweep digits.yaml --random 20 --grid "stages.score.config.training.learning_rate=loguniform(1e-4, 1e-2)"',
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the run file")
    parser.add_list(
        "--grid",
        "FIELD=VALUES",
        "a field, as for --set, and its values: 1,2,3, or to draw uniform(a,b), loguniform(a,b), integers(a,b) or "
        "choice(a,b,...)",
    )
    parser.add_flag("--zip", "take the values in step, not in every combination")
    parser.add_argument("--random", type=int, metavar="N", help="draw N times, by a Sobol sequence")
    parser.add_argument(
        "--search", type=int, metavar="N", help="try N settings, each chosen by those before it, for --best (Optuna)"
    )
    parser.add_argument(
        "--prune",
        metavar="STAGE",
        help="with --search: end the training of this stage where most settings before had less validation loss",
    )
    parser.add_list(
        "--measure",
        "STAGE.METRIC,...",
        "what to tabulate; STAGE alone is its first metric (default: the stages that no other uses)",
    )
    parser.add_argument(
        "--best", metavar="min|max:STAGE.METRIC", help="name the setting where this is least or greatest"
    )
    parser.add_list("--set", "PATH=VALUE", "set a field", dest="sets")
    parser.add_argument("--seed", type=int, help="the root seed, in place of the file's")
    parser.add_argument("--workers", type=count(1), metavar="N", help="processes (default: the file's runtime.workers)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything goes (default: a folder in sweeps)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where stages are kept (default: .scorefold/cache)")
    parser.add_flag("--json", "print the result as JSON")
    parser.add_flag("--quiet", "show no progress")
    return parser
