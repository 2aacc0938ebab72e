"""What comes out of a sweep: a row for each point, and the same with the seeds taken together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scorefold.artefacts import csv_text, json_text
from scorefold.errors import ConfigError
from scorefold_registry.experiments.points import Point
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.run.csv_cells import cell_text
from scorefold_registry.runfile.reader import near

SEED = "seed"
"""The field over which a sweep gives mean and spread."""


@dataclass(frozen=True)
class Measure:
    """A metric of a stage; the first that is a number where ``metric`` is None."""

    stage: str
    metric: str | None = None

    @property
    def label(self) -> str:
        """As a person gives it, ``STAGE.METRIC``."""
        return self.stage if self.metric is None else f"{self.stage}.{self.metric}"


@dataclass(frozen=True)
class Row:
    """A point that was run. ``measures`` are by label, None where a stage has no such metric; ``reused`` counts stages.

    ``error`` is what ``--json`` gives for one, or None; ``run`` is the folder of the run, where it came to one.
    """

    number: int
    values: Mapping[str, Any]
    measures: Mapping[str, float | None]
    run: Path | None
    seconds: float
    stages: int
    reused: int
    error: Mapping[str, Any] | None

    @property
    def failure(self) -> str:
        """Its error in one line, with its place; empty where it did not fail."""
        if self.error is None:
            return ""
        place = [str(self.error[key]) for key in ("line", "column") if self.error.get(key) is not None]
        file = self.error.get("file")
        where = ":".join([Path(file).name, *place]) + ": " if file else ""
        return " ".join(f"{where}{self.error['message']}".split())


@dataclass(frozen=True)
class Spread:
    """A measure over the points of a setting: mean, sample standard deviation (None for fewer than two), and count."""

    mean: float | None
    std: float | None
    points: int


@dataclass(frozen=True)
class Setting:
    """The points that differ by nothing but the seed, by their numbers, and what they measured together."""

    values: Mapping[str, Any]
    points: tuple[int, ...]
    failed: int
    measures: Mapping[str, Spread]


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep. ``best`` is the setting whose mean is least or greatest, where that was asked for."""

    name: str
    folder: Path
    file: Path
    fields: tuple[str, ...]
    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    settings: tuple[Setting, ...]
    goal: str | None
    best: Setting | None
    seconds: float

    @property
    def failed(self) -> int:
        """How many points failed."""
        return sum(row.error is not None for row in self.rows)

    @property
    def seeds(self) -> bool:
        """Whether the seed was among what was swept."""
        return SEED in self.fields

    def as_json(self) -> dict[str, Any]:
        """The object that ``scorefold sweep --json`` prints and ``sweep.json`` holds."""
        return {
            "sweep": str(self.folder),
            "name": self.name,
            "file": str(self.file),
            "holds": self.failed == 0,
            "fields": list(self.fields),
            "measures": list(self.measures),
            "points": [_row_json(row) for row in self.rows],
            "settings": [_setting_json(setting) for setting in self.settings],
            "best": None if self.best is None else {"goal": self.goal, **_setting_json(self.best)},
            "seconds": round(self.seconds, 3),
        }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "number": row.number,
        "values": dict(row.values),
        "measures": dict(row.measures),
        "run": None if row.run is None else str(row.run),
        "seconds": row.seconds,
        "stages": row.stages,
        "reused": row.reused,
        "error": None if row.error is None else dict(row.error),
    }


def _setting_json(setting: Setting) -> dict[str, Any]:
    measures = {label: vars(spread) for label, spread in setting.measures.items()}
    values, points = dict(setting.values), list(setting.points)
    return {"values": values, "points": points, "failed": setting.failed, "measures": measures}


def parse_measures(texts: Sequence[str], stages: Sequence[str]) -> tuple[Measure, ...]:
    """``STAGE.METRIC,STAGE,...``: metrics, or the first of a stage. A metric's own name may hold commas and dots.

    Raises ``ConfigError`` with near misses for a stage that is not there.
    """
    found: dict[Measure, None] = {}
    for text in texts:
        pieces: list[str] = []
        for piece in text.split(","):
            # A comma begins another measure where a stage, or what could be meant for one, follows.
            starts = not pieces or piece.strip() in stages or re.match(r"\s*[A-Za-z][\w-]*\.", piece)
            pieces = [*pieces, piece.strip()] if starts else [*pieces[:-1], f"{pieces[-1]},{piece}"]
        for piece in pieces:
            stage, _, metric = piece.partition(".")
            if stage not in stages:
                hint = near(stage, stages)
                raise ConfigError(f"{piece!r} measures no stage: there is no stage {stage!r}", hint=hint)
            found[Measure(stage, metric.strip() or None)] = None
    return tuple(found)


def as_number(value: Any) -> float | None:
    """A metric as a number, those included that JSON gives as words; None for what is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else None
    return float(value) if isinstance(value, int | float) else None


def metric_of(measure: Measure, stages: Sequence[Mapping[str, Any]]) -> tuple[str, float] | None:
    """The name and value of a measure among the stages of a run; None where it is not there.

    Names are compared without regard to case, and with ``-`` for spaces.
    """
    metrics: Mapping[str, Any] = next((stage["metrics"] for stage in stages if stage["name"] == measure.stage), {})
    numbers = {name: number for name, value in metrics.items() if (number := as_number(value)) is not None}
    if measure.metric is None:
        return next(iter(numbers.items()), None)
    wanted = _plain(measure.metric)
    exact = measure.metric if measure.metric in numbers else None
    name = exact or next((name for name in numbers if _plain(name) == wanted), None)
    return None if name is None else (name, numbers[name])


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def named(measures: Sequence[Measure], rows: Sequence[Mapping[str, Any]]) -> dict[Measure, str]:
    """The label of each measure, with the metric's own name from the first row that has it.

    Raises ``ConfigError`` with near misses for a metric that no point has, though its stage was run.
    """
    labels: dict[Measure, str] = {}
    for measure in measures:
        found = next((hit for row in rows if (hit := metric_of(measure, row["stages"])) is not None), None)
        labels[measure] = measure.label if found is None else Measure(measure.stage, found[0]).label
        ran = [stage["metrics"] for row in rows for stage in row["stages"] if stage["name"] == measure.stage]
        if found is None and ran:
            names = [name for name, value in ran[0].items() if as_number(value) is not None]
            has = f"it has {'; '.join(names)}" if names else "it has none"
            again = "what was computed is kept: the same command with another --measure reuses it"
            raise ConfigError(
                f"stage {measure.stage!r} has no metric {measure.metric or 'that is a number'!r}",
                hint=sentences(did_you_mean(measure.metric or "", names), has, again),
            )
    return labels


def make_row(point: Point, row: Mapping[str, Any], labels: Mapping[Measure, str]) -> Row:
    """The row of a point, from what its job told."""
    found = {label: metric_of(measure, row["stages"]) for measure, label in labels.items()}
    return Row(
        number=point.number,
        values=point.values,
        measures={label: None if hit is None else hit[1] for label, hit in found.items()},
        run=None if row["run"] is None else Path(row["run"]),
        seconds=row["seconds"],
        stages=len(row["stages"]),
        reused=sum(stage["reused"] for stage in row["stages"]),
        error=row["error"],
    )


def make_settings(rows: Sequence[Row], measures: Sequence[str]) -> tuple[Setting, ...]:
    """The rows with their seeds taken together, in the order of the points."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json_text(_without_seed(row.values)), []).append(row)
    return tuple(
        Setting(
            values=_without_seed(group[0].values),
            points=tuple(row.number for row in group),
            failed=sum(row.error is not None for row in group),
            measures={label: _spread([row.measures[label] for row in group]) for label in measures},
        )
        for group in groups.values()
    )


def _without_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in values.items() if field != SEED}


def _spread(values: Sequence[float | None]) -> Spread:
    there = [value for value in values if value is not None]
    if not there:
        return Spread(None, None, 0)
    if not all(map(math.isfinite, there)):
        return Spread(math.nan if len(there) > 1 else there[0], None, len(there))
    return Spread(fmean(there), stdev(there) if len(there) > 1 else None, len(there))


def best_setting(settings: Sequence[Setting], goal: str, label: str) -> Setting | None:
    """The first setting with the least (``min``) or greatest (``max``) mean; None where none has a finite one.

    A setting of which a point failed is passed over: its mean is not that of the others' seeds.
    """
    able = []
    for setting in settings:
        mean = setting.measures[label].mean
        if mean is not None and math.isfinite(mean) and not setting.failed:
            able.append((mean if goal == "min" else -mean, setting))
    return min(able, key=lambda pair: pair[0])[1] if able else None


def csv_of(result: SweepResult) -> str:
    """A line for each point: its number, the swept fields, the measures, seconds, the run's folder and its error."""
    lines: list[list[Any]] = [["point", *map(cell_text, [*result.fields, *result.measures]), "seconds", "run", "error"]]
    for row in result.rows:
        values = [cell_text(value) if isinstance(value, str) else json_text(value) for value in row.values.values()]
        measures = ["" if (value := row.measures[label]) is None else repr(value) for label in result.measures]
        lines.append([row.number, *values, *measures, row.seconds, row.run or "", cell_text(row.failure)])
    return csv_text(lines)
