"""``scorefold sweep FILE``: run a run file at many values of some of its fields."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scorefold_registry.cli.answers import print_answer
from scorefold_registry.cli.hosting import discover_host
from scorefold_registry.cli.options import Parser
from scorefold_registry.experiments.points import parse_axis
from scorefold_registry.experiments.sweep_plan import plan_sweep

INTERRUPTED = 130
"""The exit status of a sweep that Ctrl-C ended, as a shell gives it."""


def run(arguments: list[str]) -> int:
    """Run every point and print the table. The status is 0, 1 where a point failed, or 130 after Ctrl-C."""
    given = _parser().parse_args(arguments)
    host = discover_host()
    # Every point is checked before torch is imported.
    plan = plan_sweep(
        host.catalogue,
        given.file,
        [parse_axis(text) for text in given.over],
        in_step=given.zip,
        random=given.random,
        measure=given.measure,
        best=given.best,
        sets=given.sets,
        seed=given.seed,
        out=given.out,
    )

    from scorefold.artefacts import json_text
    from scorefold_registry.experiments.progress import watch_for
    from scorefold_registry.experiments.sweep import SweepInterrupted, run_sweep
    from scorefold_registry.experiments.sweep_report import tell_sweep

    watch = watch_for(sys.stderr if given.json else sys.stdout, given.quiet)
    try:
        result = run_sweep(host, plan, workers=given.workers, cache=given.cache, watch=watch)
    except SweepInterrupted as stopped:
        done = f"interrupted after {stopped.done} of {stopped.points} points"
        print(f"{done}; the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    if given.json:
        print_answer(json_text(result.as_json(), indent=2))
    else:
        tell_sweep(result, sys.stdout)
    return 1 if result.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser("sweep", "Run a run file at many values of some of its fields.")
    parser.add_argument("file", type=Path, help="the run file")
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="FIELD=VALUES",
        help="a field, as for --set, and its values: 1,2,3, or to draw uniform(a,b), loguniform(a,b), integers(a,b) or "
        "choice(a,b,...)",
    )
    parser.add_argument("--zip", action="store_true", help="take the values in step, not in every combination")
    parser.add_argument("--random", type=int, metavar="N", help="draw N times, from the root seed")
    parser.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="STAGE.METRIC,...",
        help="what to tabulate; STAGE alone is its first metric (default: the stages that no other uses)",
    )
    parser.add_argument(
        "--best", metavar="min|max:STAGE.METRIC", help="name the setting where this is least or greatest"
    )
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="sets", help="set a field")
    parser.add_argument("--seed", type=int, help="the root seed, in place of the file's")
    parser.add_argument("--workers", type=_count, metavar="N", help="processes (default: the file's runtime.workers)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything goes (default: a folder in sweeps)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where stages are kept (default: .scorefold/cache)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
