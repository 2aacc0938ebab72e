"""``scorefold reproduce``: measure the claims of plugins again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scorefold.errors import printable
from scorefold_registry.cli.answers import print_answer
from scorefold_registry.cli.hosting import discover_host
from scorefold_registry.cli.options import Parser

if TYPE_CHECKING:
    from scorefold.plugin import Claim
    from scorefold_registry.experiments.reproduce import Measurement, NullMeasurement


def run(arguments: list[str]) -> int:
    """Measure claims and print each as it comes. The status is 0 where every gate holds and 1 where one doesn't."""
    parser = Parser("reproduce", "Measure the claims of plugins again. Gates decide the status; reports only report.")
    parser.add_argument("plugins", nargs="*", metavar="PLUGIN", help="whose claims (default: every plugin's)")
    parser.add_argument(
        "--profile",
        choices=("smoke", "quick", "full"),
        default="smoke",
        help="smoke: minutes of CPU a plugin (default); quick: an hour at the most; full: as published",
    )
    parser.add_argument("--only", action="append", default=[], metavar="CLAIM", help="only this claim")
    parser.add_argument("--seeds", type=_count, default=1, metavar="N", help="seeds 0 to N - 1 (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where values are kept (default: .scorefold/claims)")
    parser.add_argument("--fresh", action="store_true", help="measure again what quick or full measured before")
    parser.add_argument(
        "--null", action="store_true", help="measure gates with no training step: one that holds says nothing"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    host = discover_host()

    from scorefold.artefacts import json_text
    from scorefold_registry.experiments.reproduce import holds, measure, measure_null, select
    from scorefold_registry.run.cache import area

    pairs = select(host.plugins, given.plugins, given.only, given.profile)
    if given.null:
        return _null(measure_null(host, pairs, given.profile), given.json)
    # The smoke profile is a test: it measures every time.
    keep = None if given.fresh or given.profile == "smoke" else area("claims", given.keep, ".scorefold/claims")
    measurements: list[Measurement] = []
    for measurement in measure(host, pairs, given.profile, range(given.seeds), keep):
        measurements.append(measurement)
        print(printable(text(measurement)), file=sys.stderr if given.json else sys.stdout, flush=True)
    held = holds(measurements)
    if given.json:
        claims = [measurement.as_json() for measurement in measurements]
        print_answer(json_text({"holds": held, "claims": claims}, indent=2))
    else:
        print_answer(summary(measurements, held))
    return 0 if held else 1


def _null(measurements: Iterable[NullMeasurement], as_json: bool) -> int:
    """Print each gate of an untrained model as it comes. The status is 1 where one holds without saying why."""
    from scorefold.artefacts import json_text

    found = []
    for item in measurements:
        found.append(item)
        name = f"{item.record.name}/{item.claim.name}"
        came = item.error or (f"it needs {item.claim.needs}" if item.value is None else f"{item.value:.6g}")
        why = f" ({item.claim.structural})" if item.verdict == "structural" else ""
        line = f"{item.verdict:<11}{name}: {came}; expected {_expected(item.claim)}{why}"
        print(printable(line), file=sys.stderr if as_json else sys.stdout, flush=True)
    empty = [item for item in found if item.verdict in ("holds", "error")]
    if as_json:
        answer = {"holds": not empty, "claims": [item.as_json() for item in found]}
        print_answer(json_text(answer, indent=2))
    else:
        count = Counter(item.verdict for item in found)
        trained = count["fails"] + count["holds"] + count["structural"]
        errors = f", and {count['error']} end in an error" if count["error"] else ""
        print_answer(f"{count['holds']} of {trained} gates of trained models hold for untrained ones{errors}")
    return 1 if empty else 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def text(measurement: Measurement) -> str:
    """A measurement in three lines: its name and verdict, what was claimed, what came out."""
    claim = measurement.claim
    if measurement.error is not None:
        result = measurement.error
    elif measurement.skipped:
        result = f"it needs {claim.needs or 'data or weights that are not at hand'}"
    else:
        values = ", ".join(f"{value:.6g}" for value in measurement.values)
        parts = [f"measured {values}{f' {claim.unit}' if claim.unit else ''}"]
        if claim.role == "gate":
            parts.append(f"expected {_expected(claim)}")
        if claim.reference is not None:
            parts.append(f"{claim.basis} {claim.reference:g}")
        result = f"{'; '.join(parts)} ({claim.source})"
    seconds = f"{measurement.cpu_seconds:.1f} CPU s{', measured before' if measurement.kept else ''}"
    name = f"{measurement.record.name}/{claim.name}"
    return f"{measurement.verdict}  {name}  ({claim.role}, {seconds})\n  {claim.statement}\n  {result}"


def _expected(claim: Claim) -> str:
    kind, bound = claim.tolerance
    if kind == "range":
        return f"{bound[0]:g} to {bound[1]:g}"
    words = {
        "min": f"at least {bound:g}",
        "max": f"at most {bound:g}",
        "abs": f"the reference within {bound:g}",
        "rel": f"the reference within {100 * bound:g} %",
    }
    return words[kind]


def summary(measurements: Sequence[Measurement], held: bool) -> str:
    """How many gates held, failed and were skipped, and how many reports there are beside them."""
    gates = [item for item in measurements if item.claim.role == "gate"]
    reports = len(measurements) - len(gates)
    counts = [
        f"{sum(item.holds is verdict for item in gates)} {word}"
        for verdict, word in ((True, "hold"), (False, "fail"), (None, "skipped"))
    ]
    parts = [f"{len(gates)} gate{'' if len(gates) == 1 else 's'}: {', '.join(counts)}"] if gates else []
    parts += [f"{reports} report{'' if reports == 1 else 's'}"] if reports else []
    return f"{'holds' if held else 'does not hold'}; {'; '.join(parts)}"
