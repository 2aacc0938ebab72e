"""``scorefold apply RUN/STAGE --do VERB --data FILE --out FILE``: a trained stage on new data."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from scorefold.errors import printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer


def run(arguments: list[str]) -> int:
    """Do a verb with the component of a finished stage and write what comes out. The status is 0."""
    parser = Parser(
        "apply",
        "Use a trained stage on new data.",
        "apply runs/faces/latest/score --do sample --option n=16 --out samples.npy",
        "apply runs/table/latest/flow --do outliers --data new.csv --out unusual.npy",
    )
    parser.add_argument("stage", type=Path, metavar="RUN/STAGE", help="the folder of a stage in a run's folder")
    parser.add_argument("--do", metavar="VERB", help="what to do (default: the first verb, where it isn't fit)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="an npy, npz, csv or parquet file, or image folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="npy, npz, csv, parquet or json")
    parser.add_list("--option", "NAME=VALUE", "of the verb", dest="options")
    parser.add_list("--data-option", "FIELD=VALUE", "how the data are read")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps or simulated")
    parser.add_argument("--seed", type=int, default=0, help="the seed of what is drawn (default: 0)")
    parser.add_flag("--json", "print the metrics as JSON")
    given = parser.parse_args(arguments)
    host = discover_host()

    from scorefold.artefacts import json_text
    from scorefold.stage import showing
    from scorefold_registry.run.applying import apply_stage
    from scorefold_registry.run.progress import metrics_text, progress_for

    # What is printed on standard output is the answer.
    bar = progress_for(sys.stderr, not sys.stderr.isatty())
    bar.stage_started(given.stage.name, given.do or "", 1, 1)
    try:
        with showing(partial(bar.advanced, given.stage.name)):
            outcome = apply_stage(
                host,
                given.stage,
                verb=given.do,
                data=given.data,
                out=given.out,
                options=given.options,
                read=given.data_option,
                device=given.device,
                seed=given.seed,
            )
    finally:
        bar.close()
    metrics = outcome.result.get("metrics", {})
    estimate = outcome.result.get("estimate", {}).get("diagnostics", {})
    warnings = [*outcome.result.get("warnings", []), *estimate.get("warnings", [])]
    if given.json:
        answer = {"stage": str(given.stage), "out": str(given.out), "metrics": metrics, "warnings": warnings}
        print_answer(json_text(answer, indent=2))
    else:
        for warning in warnings:
            print(printable(f"warning: {warning}"), file=sys.stderr)
        print(f"{given.out}: {metrics_text(metrics) or 'written'}")
    return 0
