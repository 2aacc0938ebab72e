"""Looking back at runs: which one is meant, what it answered, and what sets two of them apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefold.artefacts import read_json
from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.run.folders import LATEST, RunEntry, entry_of, list_runs
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


def run_verdicts(run: RunEntry) -> list[str]:
    """The verdicts of a complete run, a line for each; nothing for a run whose files are broken."""
    from scorefold_registry.run.verdicts import answers

    if run.state != "complete":
        return []
    try:
        found = answers(run.folder, read_json(run.folder / "status.json").get("stages", []))
    except (ArtefactError, AttributeError, KeyError, TypeError):
        return []
    return [answer.sentence() for answer in found]


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
