"""``scorefold reproduce``: measure the claims of plugins again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scorefold_registry.cli.options import Parser, UsageError, count, discover_host, pairs, print_answer
from scorefold_registry.experiments.reproduce import PROFILES

if TYPE_CHECKING:
    from scorefold_registry.experiments.claims import Measurement
    from scorefold_registry.host import Host


def run(arguments: list[str]) -> int:
    """Measure claims and print each as it comes. The status is 0 where every gate holds and 1 where one doesn't."""
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
