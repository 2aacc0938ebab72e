"""``scorefold compare``, ``sweep`` and ``reproduce``: many runs, of components, of a run file, and of claims."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scorefold.artefacts import json_text
from scorefold.errors import printable
from scorefold_registry.cli.main import INTERRUPTED
from scorefold_registry.cli.options import Parser, UsageError, count, discover_host, pairs, print_answer
from scorefold_registry.experiments.engine import Interrupted, watch_for
from scorefold_registry.run.progress import duration

if TYPE_CHECKING:
    from scorefold_registry.experiments.claims import Measurement
    from scorefold_registry.experiments.rows import ComparisonResult, SweepResult
    from scorefold_registry.host import Host


def compare_command(arguments: list[str]) -> int:
    """Compare and print the table. The status is 0 where every row was measured, 1 where one wasn't, 130 on Ctrl-C."""
    from scorefold_registry.experiments.compare import compare

    given = _compare_parser().parse_args(arguments)
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
        _print_comparison(result)
    return 0 if result.complete else 1


def _compare_parser() -> Parser:
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


def _print_comparison(result: ComparisonResult) -> None:
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


def sweep_command(arguments: list[str]) -> int:
    """Run every point and print the table. The status is 0, 1 where a point failed, or 130 after Ctrl-C."""
    from scorefold_registry.experiments.points import parse_axis
    from scorefold_registry.experiments.sweep import sweep

    given = _sweep_parser().parse_args(arguments)
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
        _print_points(result)
    return 1 if result.failed else 0


def _print_points(result: SweepResult) -> None:
    """Print the tables, the failures, the best setting if it is wanted, and the folder."""
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


def _sweep_parser() -> Parser:
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


def reproduce_command(arguments: list[str]) -> int:
    """Measure claims and print each as it comes. The status is 0 where every gate holds and 1 where one doesn't."""
    from scorefold_registry.experiments.reproduce import PROFILES

    parser = Parser(
        "reproduce",
        "Measure the claims of plugins again. Gates decide the exit status; reports only print a number.",
        "reproduce iddiff",
        "reproduce iddiff --only trained-sphere --profile quick --seeds 3",
        "reproduce neighbours --published geomle --only num-1000 --methods calibrated,GeoMLE",
    )
    parser.add_argument("plugins", nargs="*", metavar="PLUGIN", help="whose claims (default: every plugin's)")
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="smoke",
        help="; ".join(f"{name}: {purpose}" for name, purpose in PROFILES.items()),
    )
    parser.add_list("--only", "CLAIM", "only this claim, or claims such as 'optimum-*', or this table of --published")
    parser.add_argument(
        "--published",
        metavar="NAME",
        help="measure a table that others published: one of a plugin by name, or a .toml file",
    )
    parser.add_list("--methods", "NAME,...", "only these methods of --published")
    parser.add_list("--sets", "NAME,...", "only these sets of --published")
    parser.add_list("--data-option", "FIELD=VALUE", "a field of the data of --published, such as wheel=FILE")
    parser.add_argument("--seeds", type=count(1), default=1, metavar="N", help="seeds 0 to N - 1 (default: 1)")
    parser.add_argument("--store", type=Path, metavar="DIR", help="where values are kept (default: .scorefold/claims)")
    parser.add_flag("--fresh", "measure again, without the stored values (all profiles except smoke store values)")
    parser.add_flag("--null", "measure gates without training: a gate that then holds does not depend on the training")
    parser.add_argument(
        "--device", default="cpu", help="where models are built: auto, cpu, cuda, cuda:N, mps or simulated"
    )
    parser.add_argument(
        "--precision",
        choices=("no", "bf16", "fp16"),
        default="no",
        help="mixed precision of trainings and samples (default: no)",
    )
    parser.add_argument(
        "--workers", type=count(1), default=1, metavar="N", help="number of processes for the jobs of a claim"
    )
    parser.add_flag("--json", "print JSON")
    given = parser.parse_args(arguments)
    host = discover_host()
    if given.published:
        return _run_published(given, host)
    if given.methods:
        raise UsageError("--methods needs a published table", hint="add --published NAME")

    from scorefold.artefacts import json_text
    from scorefold_registry.experiments.claims import holds
    from scorefold_registry.experiments.engine import LineWatch, run_here
    from scorefold_registry.experiments.reproduce import NullReproduction, PlacedHost, Reproduction, select
    from scorefold_registry.run.environment import set_up_device
    from scorefold_registry.run.folders import area

    device = set_up_device(given.device)
    if given.precision == "fp16" and device == "cpu":
        raise UsageError("--precision fp16 needs a GPU, and claims compute on the cpu", hint="--precision bf16, or no")
    pairs = select(host.plugins, given.plugins, given.only, given.profile)
    # The smoke profile is a test: it measures every time.
    keep = None if given.fresh or given.profile == "smoke" else area("claims", given.store, ".scorefold/claims")
    placed = PlacedHost(host, device, given.precision)
    claims = Reproduction(placed, pairs, given.profile, range(given.seeds), keep)
    if given.null:
        claims = NullReproduction(placed, [pair for pair in pairs if pair[1].role == "gate"], given.profile)
    with placed.working(given.workers):
        measured = run_here(claims, LineWatch(sys.stderr if given.json else sys.stdout, numbered=False))
    # A gate that holds without a training says nothing, and one that ends in an error neither.
    held = not any(item.verdict in ("holds", "error") for item in measured) if given.null else holds(measured)
    if given.json:
        print_answer(json_text({"holds": held, "claims": [item.as_json() for item in measured]}, indent=2))
    else:
        print_answer(_null_summary(measured) if given.null else _summary(measured, held))
    return 0 if held else 1


def _run_published(given: argparse.Namespace, host: Host) -> int:
    """Measure a published table again, and print it as a page has it. The status is 1 where a row is an error."""
    from scorefold.artefacts import json_text
    from scorefold_registry.experiments.engine import LineWatch, run_here
    from scorefold_registry.experiments.published import (
        Publication,
        as_json,
        as_markdown,
        find_published,
        published_cells,
    )
    from scorefold_registry.experiments.reproduce import chosen_plugins
    from scorefold_registry.run.folders import area

    file = find_published(chosen_plugins(host.plugins, given.plugins), given.published)
    methods, sets = (
        [name.strip() for text in texts for name in text.split(",")] for texts in (given.methods, given.sets)
    )
    keep = None if given.fresh else area("claims", given.store, ".scorefold/claims")
    options = pairs(given.data_option, "--data-option", "wheel=FILE")
    publication = Publication(host, file, published_cells(file, given.only, methods, given.seeds, sets), keep, options)
    rows = run_here(publication, LineWatch(sys.stderr))
    print_answer(json_text(as_json(file, rows), indent=2) if given.json else as_markdown(file, rows))
    return int(any(row.error for row in rows))


def _summary(measurements: Sequence[Measurement], held: bool) -> str:
    """Numbers of gates that held, failed and were skipped, and of reports with and without a value."""
    gates = [item for item in measurements if item.claim.role == "gate"]
    found = Counter(item.verdict for item in measurements if item.claim.role == "report")
    reports, lost = found.total(), [f"{found[word]} {word}" for word in ("skipped", "error") if found[word]]
    counts = [
        f"{sum(item.holds is verdict for item in gates)} {word}"
        for verdict, word in ((True, "hold"), (False, "fail"), (None, "skipped"))
    ]
    parts = [f"{len(gates)} gate{'' if len(gates) == 1 else 's'}: {', '.join(counts)}"] if gates else []
    if reports:
        parts.append(f"{reports} report{'' if reports == 1 else 's'}" + (f": {', '.join(lost)}" if lost else ""))
    # Reports have no bound that could have failed.
    verdict = "does not hold" if not held else "holds" if gates else "measured" if found["measured"] else "not measured"
    return f"{verdict}; {'; '.join(parts)}"


def _null_summary(measurements: Sequence[Measurement]) -> str:
    """Number of gates of trained models that hold without a training."""
    found = Counter(item.verdict for item in measurements)
    trained = found["fails"] + found["holds"] + found["structural"]
    errors = f", and {found['error']} end in an error" if found["error"] else ""
    return f"{found['holds']} of {trained} gates of trained models hold for untrained ones{errors}"
