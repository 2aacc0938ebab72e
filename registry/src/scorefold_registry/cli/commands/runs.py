"""``scorefold runs``: list, show, open, compare and remove past runs."""

from __future__ import annotations

import argparse
import json
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from scorefold.artefacts import read_json
from scorefold.errors import ArtefactError, ConfigError, printable
from scorefold_registry.cli.options import Parser, UsageError, count, print_answer, styled, wrapped
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.run.folders import (
    LATEST,
    Cache,
    RunEntry,
    area,
    entry_of,
    folder_size,
    list_runs,
    remove_runs,
    superseded,
)
from scorefold_registry.run.progress import metrics_text
from scorefold_registry.runfile.yaml_reader import parse_value

PARTS = ("config", "versions", "results")


@dataclass(frozen=True)
class Difference:
    """Values of two runs at one place; None if a run has no value there."""

    place: str
    before: Any
    after: Any

    def text(self) -> str:
        """The place and both values in a line."""
        return f"{self.place}: {_plain(self.before)} -> {_plain(self.after)}"


def find_run(area: Path, text: str) -> RunEntry:
    """The run that a text means: the path of its folder, ``NAME/RUN``, or ``NAME`` for the newest complete one.

    Raises ``ConfigError`` where there is none.
    """
    for folder in (Path(text), area / text, area / text / LATEST):
        if (folder / "status.json").is_file():
            return entry_of(folder.resolve())
    runs = list_runs(area)
    complete = [entry for entry in runs if entry.name == text and entry.state == "complete"]
    if complete:
        return complete[0]
    names = sorted({entry.name for entry in runs})
    hint = sentences(did_you_mean(text, names), f"'scorefold runs list' shows those in {area}")
    raise ConfigError(f"there is no complete run {text!r}", hint=hint)


def results_of(run: RunEntry) -> dict[str, dict[str, Any]]:
    """The metrics of each stage."""
    stages = read_json(run.folder / "status.json").get("stages", [])
    return {stage["name"]: dict(stage["metrics"]) for stage in stages}


def run_verdicts(run: RunEntry, *, short: bool = False) -> list[str]:
    """The verdicts of a complete run, or the first sentence of each; nothing for a run whose files are broken."""
    from scorefold_registry.run.verdicts import answers

    if run.state != "complete":
        return []
    try:
        found = answers(run.folder, read_json(run.folder / "status.json").get("stages", []))
    except (ArtefactError, AttributeError, KeyError, TypeError):
        return []
    return [answer.headline() if short else answer.sentence() for answer in found]


def differences(before: RunEntry, after: RunEntry) -> dict[str, list[Difference]]:
    """Differences of two runs in their resolved configuration, installed packages and metrics."""
    both = [_parts(run) for run in (before, after)]
    return {part: list(_compared(both[0][part], both[1][part])) for part in PARTS}


def _parts(run: RunEntry) -> dict[str, dict[str, Any]]:
    resolved, found = run.folder / "resolved.yaml", run.folder / "environment.json"
    config = parse_value(resolved.read_text("utf-8")) if resolved.is_file() else {}
    installed = read_json(found) if found.is_file() else {}
    versions = {**installed.get("versions", {}), **installed.get("scorefold", {})}
    versions |= {plugin["distribution"]: plugin["version"] for plugin in installed.get("plugins", [])}
    versions |= {name: installed[name] for name in ("python", "platform", "device", "threads") if name in installed}
    return {"config": dict(_flat(config)), "versions": versions, "results": dict(_flat(results_of(run)))}


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, value


def _compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for place in dict.fromkeys([*before, *after]):
        if before.get(place) != after.get(place):
            yield Difference(place, before.get(place), after.get(place))


def _plain(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, default=str)


_RUNS = {"list": 0, "clean": 0, "show": 1, "open": 1, "diff": 2}
"""Actions, and the number of runs that each takes."""


def run(arguments: list[str]) -> int:
    """List, show, open, compare or remove runs. The status is 0."""
    parser = Parser(
        "runs",
        "List runs, the newest first; show one or open its report; compare two; remove old ones.",
        "runs list",
        "runs open digits",
        "runs diff digits/RUN digits/latest",
        "runs clean --keep 2 --dry-run",
    )
    parser.add_argument("do", choices=tuple(_RUNS), help="list runs; clean up; show one; open its report; compare two")
    parser.add_argument(
        "run",
        nargs="*",
        metavar="RUN",
        help="show, open, diff: a run's folder, NAME/RUN, or NAME for its newest complete run",
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of runs (default: runs)")
    parser.add_argument("--name", help="list, clean: only runs of this name")
    parser.add_argument(
        "--keep", type=count(0), default=5, metavar="N", help="clean: keep N complete runs of each name (default: 5)"
    )
    parser.add_argument(
        "--cache-days", type=_days, metavar="DAYS", help="clean: also remove kept stages unused for so many days"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="clean: where stages are kept")
    parser.add_flag("--dry-run", "clean: show what would be removed, and remove nothing")
    parser.add_flag("--yes", "clean: do not ask on a terminal")
    parser.add_flag("--json", "print the result as JSON")
    given = parser.parse_args(arguments)
    if len(given.run) != _RUNS[given.do]:
        wanted = ("no run", "one run", "two runs")[_RUNS[given.do]]
        raise UsageError(f"runs {given.do} takes {wanted}; {len(given.run)} were given")
    actions = {"list": _list, "clean": _clean, "show": _show, "open": _open, "diff": _diff}
    return actions[given.do](given)


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
        found = [{**entry.as_json(), "answers": run_verdicts(entry)} for entry in entries]
        print_answer(json.dumps({"runs": found}, indent=2))
        return 0
    if not entries:
        print(f"there are no runs in {folder}")
    for entry in entries:
        when = datetime.fromtimestamp(entry.started).strftime("%Y-%m-%d %H:%M")
        print(printable(f"{when}  {entry.state:<11}  {entry.name}  {entry.folder}"))
        for text in run_verdicts(entry, short=True):
            print(styled(wrapped(f"    {text}", 6), "answer"))
    return 0


def _show(given: argparse.Namespace) -> int:
    entry = find_run(area("runs", given.runs, "runs"), given.run[0])
    results = results_of(entry)
    if given.json:
        print_answer(json.dumps({**entry.as_json(), "results": results}, indent=2))
        return 0
    print(printable(f"{entry.name}: {entry.state}, {entry.folder}"))
    for stage, metrics in results.items():
        print(printable(f"  {stage}: {metrics_text(metrics) or 'no metrics'}"))
    return 0


def _open(given: argparse.Namespace) -> int:
    entry = find_run(area("runs", given.runs, "runs"), given.run[0])
    report = entry.folder / "report.html"
    if not report.is_file():
        raise ConfigError(f"{entry.folder} has no report: the run is {entry.state}")
    shown = webbrowser.open(report.resolve().as_uri())
    if given.json:
        print_answer(json.dumps({"report": str(report), "opened": shown}, indent=2))
    else:
        print(printable(f"{'opened' if shown else 'no browser was found for'} {report}"))
    return 0


def _diff(given: argparse.Namespace) -> int:
    folder = area("runs", given.runs, "runs")
    before, after = (find_run(folder, text) for text in given.run)
    found = differences(before, after)
    if given.json:
        print_answer(json.dumps({part: [asdict(one) for one in rows] for part, rows in found.items()}, indent=2))
        return 0
    for part, rows in found.items():
        print(f"{part}: {'the same' if not rows else ''}".rstrip())
        for one in rows:
            print(printable(f"  {one.text()}"))
    return 0


def _clean(given: argparse.Namespace) -> int:
    for entry in list_runs(area("runs", given.runs, "runs")):
        if entry.in_future and entry.state != "running" and given.name in (None, entry.name):
            print(printable(f"note: {entry.folder} began in the future, and is left alone"), file=sys.stderr)
    chosen = superseded(area("runs", given.runs, "runs"), given.keep, given.name)
    if given.dry_run or (chosen and not given.json and not given.yes and sys.stdin.isatty()):
        _announce(chosen, given)
        if given.dry_run or input("remove them? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    removed, freed = remove_runs(chosen)
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


def _announce(chosen: list[RunEntry], given: argparse.Namespace) -> None:
    """Print the runs that would be removed; as JSON in the form of removed runs."""
    size = sum(folder_size(entry.folder) for entry in chosen)
    if given.json:
        folders = [str(entry.folder) for entry in chosen]
        print_answer(json.dumps({"removed": folders, "stages": 0, "bytes": size, "dry_run": True}, indent=2))
        return
    for entry in chosen:
        print(printable(f"{entry.state:<11}  {entry.folder}"))
    print(f"{len(chosen)} runs, {size / 1e6:.1f} MB")
