"""``scorefold compare``: every installed component of a kind on the same cases."""

from __future__ import annotations

import sys
from pathlib import Path

from scorefold.artefacts import json_text
from scorefold_registry.cli.main import INTERRUPTED
from scorefold_registry.cli.options import Parser, discover_host, pairs, print_answer
from scorefold_registry.experiments.compare import compare
from scorefold_registry.experiments.engine import Interrupted, watch_for
from scorefold_registry.experiments.rows import ComparisonResult


def run(arguments: list[str]) -> int:
    """Compare and print the table. The status is 0 where every row was measured, 1 where one wasn't, 130 on Ctrl-C."""
    given = _parser().parse_args(arguments)
    host = discover_host()
    try:
        result = compare(
            host,
            given.kind,
            on=given.data,
            only=given.only,
            skip=given.skip,
            plugged=pairs(given.plugged, "--plug", "score=score:denoising"),
            fields=pairs(given.fields, "--set", "iddiff.points=16"),
            measures=given.measures,
            seed=given.seed,
            seeds=given.seeds,
            threads=given.threads,
            out=given.out,
            cache=given.cache,
            fresh=given.fresh,
            command=["scorefold", "compare", *arguments],
            watch=watch_for(sys.stderr if given.json else sys.stdout, given.quiet),
        )
    except Interrupted as stopped:
        print(f"{stopped} rows; repeat the command to continue", file=sys.stderr)
        return INTERRUPTED
    if given.json:
        print_answer(json_text(result.as_json(), indent=2))
    else:
        _print_result(result)
    return 0 if result.complete else 1


def _parser() -> Parser:
    parser = Parser(
        "compare",
        "Compare all installed components of a kind, or with a capability, on common cases.",
        "compare estimator --only iddiff,mle,twonn",
        "compare flow --data clusters --set affine-coupling.training.steps=500",
    )
    parser.add_argument("kind", metavar="KIND", help="a kind, such as estimator, or a capability, such as Encodes")
    parser.add_list(
        "--data",
        "CASE,...",
        "data by name (sphere is its first declared example, sphere[1] its second); one of our own cases; "
        "option=value if the kind takes no data; or a YAML file of cases (default: some of our own)",
    )
    parser.add_list("--only", "NAME,...", "only these components")
    parser.add_list("--skip", "NAME,...", "all but these")
    parser.add_list(
        "--plug",
        "PORT=USE",
        "what is plugged into a port of a component or of the verb, in place of its default: score=score:denoising, "
        "{use: ..., config: ...}, or a saved model as {load: model:NAME}",
        dest="plugged",
    )
    parser.add_list(
        "--set",
        "COMPONENT.FIELD=VALUE",
        "a field of a compared or plugged component, or of the data of a case: sphere.points=4000",
        dest="fields",
    )
    parser.add_list(
        "--measure",
        "METRIC,...",
        "further metrics of the compared verb, in a table of their own: SSIM,consistency",
        dest="measures",
    )
    parser.add_argument("--seed", type=int, default=0, help="the root seed (default: 0)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="number of seeds, counted from --seed: prints means and ranges",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: runs/compare-KIND/TIME)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where stages are kept (default: .scorefold/cache)")
    parser.add_flag("--fresh", "measure every row anew")
    parser.add_flag("--json", "print the rows as JSON")
    parser.add_flag("--quiet", "print only the table, without progress")
    return parser


def _print_result(result: ComparisonResult) -> None:
    """Print the table, why rows have no value, and where the report is."""
    from scorefold_registry.experiments.table import (
        compared_reasons,
        compared_table,
        measures_table,
        missing_measures,
        print_table,
    )

    print()
    print_table(compared_table(result.rows, result.comparison, short=True), sys.stdout)
    for reason in compared_reasons(result.rows):
        print(f"no value: {reason}")
    if result.measures:
        print()
        print_table(measures_table(result), sys.stdout)
    for line in missing_measures(result):
        print(line)
    print(f"\nreport: {result.folder / 'report.html'}")
