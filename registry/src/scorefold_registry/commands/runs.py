"""``scorefold runs list`` and ``scorefold runs clean``."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path

from scorefold.errors import printable
from scorefold_registry.answers import print_answer
from scorefold_registry.cache import Cache, area
from scorefold_registry.options import Parser
from scorefold_registry.runs import clean_runs, list_runs


def run(arguments: list[str]) -> int:
    """List runs, or remove old ones. The status is 0."""
    parser = Parser("runs", "List runs, the newest first, or remove all but the newest of each name.")
    parser.add_argument("do", choices=("list", "clean"), help="what to do")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of runs (default: runs)")
    parser.add_argument("--name", help="only runs of this name")
    parser.add_argument("--keep", type=_count, default=5, metavar="N", help="clean: keep N of each name (default: 5)")
    parser.add_argument(
        "--cache-days", type=_days, metavar="DAYS", help="clean: also remove kept stages unused for so many days"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="clean: where stages are kept")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    given = parser.parse_args(arguments)
    return _list(given) if given.do == "list" else _clean(given)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not days >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return days


def _list(given: argparse.Namespace) -> int:
    folder = area("runs", given.runs, "runs")
    entries = [entry for entry in list_runs(folder) if given.name in (None, entry.name)]
    if given.json:
        print_answer(json.dumps({"runs": [entry.as_json() for entry in entries]}, indent=2))
        return 0
    if not entries:
        print(f"there are no runs in {folder}")
    for entry in entries:
        when = datetime.fromtimestamp(entry.started).strftime("%Y-%m-%d %H:%M")
        print(printable(f"{when}  {entry.state:<11}  {entry.name}  {entry.folder}"))
    return 0


def _clean(given: argparse.Namespace) -> int:
    removed, freed = clean_runs(area("runs", given.runs, "runs"), given.keep, given.name)
    stages = 0
    if given.cache_days is not None:
        stages, more = Cache(area("cache", given.cache, ".scorefold/cache")).prune(given.cache_days)
        freed += more
    if given.json:
        removed_names = [str(folder) for folder in removed]
        print_answer(json.dumps({"removed": removed_names, "stages": stages, "bytes": freed}, indent=2))
        return 0
    print(f"removed {len(removed)} runs and {stages} kept stages, {freed / 1e6:.1f} MB")
    return 0
