"""The rows of a comparison and of a sweep, the same with their seeds taken together, and which of them are best."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import Any, TypeGuard

from scorefold.artefacts import json_text
from scorefold.plugin import Comparison
from scorefold_registry.experiments.job import PointRecord, PrunedError
from scorefold_registry.experiments.measures import StageMetric, metric_of
from scorefold_registry.experiments.points import SEED, Point


@dataclass(frozen=True)
class CaseRow:
    """A row of a comparison: a component on a case.

    ``value`` with its ``interval`` is the number that is compared, ``quantity`` what it is, ``truth`` what it should
    be and ``difference`` value minus truth, each None where it is not known. ``cpu_seconds`` and ``network_calls`` are
    the cost of the compared verb, and ``training_cpu_seconds`` the time of the training before it. ``network_calls``
    counts the points at which score models and flows were evaluated; None where there are none. ``regret`` is how much
    worse than the best of its case the value is. ``baselines`` are the values of simpler answers by name, and
    ``metrics`` all numbers of the compared verb. Where the data support no one value, ``headline`` says what was found
    instead. ``uses`` are the components plugged in, ``error`` says why there is no value; it is ``skipped`` where the
    component can't be put on the case at all. ``run_file`` is the row's own run file within the comparison's folder.
    """

    component: str
    case: str
    truth: float | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    cpu_seconds: float | None = None
    network_calls: int | None = None
    quantity: str | None = None
    difference: float | None = None
    regret: float | None = None
    training_cpu_seconds: float | None = None
    seeds: int = 1
    uses: tuple[str, ...] = ()
    run_file: str | None = None
    headline: str | None = None
    baselines: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None
    skipped: bool = False
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of ``compare --json``."""
        fields = asdict(self)
        for name in ("cpu_seconds", "training_cpu_seconds"):
            fields[name] = None if fields[name] is None else round(fields[name], 3)
        return fields


@dataclass(frozen=True)
class ComparisonResult:
    """A finished comparison: its rows in the order they were measured, the folder that holds it, and the metrics
    of ``--measure``, as texts ``METRIC,...``."""

    kind: str
    comparison: Comparison
    rows: tuple[CaseRow, ...]
    folder: Path
    seconds: float
    measures: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True if every row was measured that could be put on its case, and at least one was."""
        measured = [row for row in self.rows if not row.skipped]
        return bool(measured) and all(row.error is None for row in measured)

    def as_json(self) -> dict[str, Any]:
        """The object that ``scorefold compare --json`` prints."""
        return {"kind": self.kind, "rows": [row.as_json() for row in self.rows]}


@dataclass(frozen=True)
class PointRow:
    """A row of a sweep: a point that was run. ``measures`` are by label, None where a stage has no such metric.

    ``run`` is the folder of the run, where it came to one; ``stages`` and ``reused`` are how many there were; ``error``
    is what ``--json`` gives for one, or None.
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
    def pruned(self) -> bool:
        """True if its training was ended early, which is no failure."""
        return self.error is not None and self.error["code"] == PrunedError.code

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
class SettingRow:
    """The points that differ by nothing but the seed, by their numbers, and what they measured together."""

    values: Mapping[str, Any]
    points: tuple[int, ...]
    failed: int
    measures: Mapping[str, Spread]

    def as_json(self) -> dict[str, Any]:
        """Its entry among the settings of ``sweep --json``."""
        return {**asdict(self), "points": list(self.points)}


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep. ``goal`` is ``min:LABEL`` or ``max:LABEL``, where a best setting was asked for."""

    name: str
    folder: Path
    file: Path
    fields: tuple[str, ...]
    measures: tuple[str, ...]
    rows: tuple[PointRow, ...]
    goal: str | None
    seconds: float

    @cached_property
    def settings(self) -> tuple[SettingRow, ...]:
        """The points with their seeds taken together."""
        return make_settings(self.rows, self.measures)

    @property
    def best(self) -> SettingRow | None:
        """The setting whose mean is least or greatest, where that was asked for and one is finite."""
        goal, _, label = (self.goal or "").partition(":")
        return best_setting(self.settings, goal, label) if goal else None

    @property
    def failed(self) -> int:
        """Number of failed points."""
        return sum(row.error is not None and not row.pruned for row in self.rows)

    @property
    def seeds(self) -> bool:
        """True if the seed was among what was swept."""
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
            "points": [{**vars(row), "run": None if row.run is None else str(row.run)} for row in self.rows],
            "settings": [setting.as_json() for setting in self.settings],
            "best": None if self.best is None else {"goal": self.goal, **self.best.as_json()},
            "seconds": round(self.seconds, 3),
        }


def component_names(rows: Sequence[CaseRow]) -> dict[str, str]:
    """The components in their order, each with its name: without the kind where all are of one."""
    components = dict.fromkeys(row.component for row in rows)
    several = len({component.partition(":")[0] for component in components}) > 1
    return {component: component if several else component.partition(":")[2] for component in components}


def is_finite(value: float | None) -> TypeGuard[float]:
    """True if there is a number, and a finite one."""
    return value is not None and math.isfinite(value)


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of no values, infinite or not a number where a value is."""
    return sum(values) / len(values) if values else None


def least_of_groups(numbers: Iterable[tuple[Hashable, float | None]]) -> dict[Any, float]:
    """The least finite number of each group, of (group, number)."""
    found: dict[Any, float] = {}
    for group, number in numbers:
        if is_finite(number):
            found[group] = min(found.get(group, math.inf), number)
    return found


def over_seeds(rows: Sequence[CaseRow], seeds: int) -> CaseRow:
    """Combine the rows of several seeds: means, with the smallest and the largest value as the

    interval. The first failed seed is the reason for all.
    """
    if seeds == 1:
        return rows[0]
    for row in rows:
        if row.error is not None:
            return replace(row, seeds=seeds)

    def joined(name: str) -> float | None:
        found = [getattr(row, name) for row in rows]
        return None if None in found else mean(found)

    values = [row.value for row in rows if row.value is not None]
    calls = joined("network_calls")
    return replace(
        rows[0],
        headline=next((row.headline for row in rows if row.headline), None),
        baselines=_means_by_name([row.baselines or {} for row in rows]),
        metrics=_means_by_name([row.metrics or {} for row in rows]),
        value=joined("value"),
        truth=joined("truth"),
        interval=(min(values), max(values)) if len(values) == len(rows) else None,
        difference=joined("difference"),
        cpu_seconds=joined("cpu_seconds"),
        training_cpu_seconds=joined("training_cpu_seconds"),
        network_calls=None if calls is None else round(calls),
        seeds=seeds,
    )


def _means_by_name(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means of the numbers that all seeds have."""
    names = [name for name in found[0] if all(name in each for each in found)]
    return {name: math.fsum(each[name] for each in found) / len(found) for name in names}


def with_regrets(rows: Sequence[CaseRow], comparison: Comparison) -> list[CaseRow]:
    """The rows with how much worse than the best of its case each is, where small or large is what counts."""
    if comparison.best == "truth":
        return list(rows)
    sign = 1 if comparison.best == "smallest" else -1
    best = least_of_groups(((row.case, row.quantity), None if row.value is None else sign * row.value) for row in rows)
    return [
        row
        if row.value is None or (row.case, row.quantity) not in best
        else replace(row, regret=sign * row.value - best[row.case, row.quantity])
        for row in rows
    ]


def shortfall(row: CaseRow, comparison: Comparison) -> float | None:
    """Distance of a row from the best value, the truth or the best of its case; None if unknown."""
    if comparison.best != "truth":
        return row.regret
    return None if row.difference is None else abs(row.difference)


def make_row(point: Point, record: PointRecord, labels: Mapping[StageMetric, str]) -> PointRow:
    """The row of a point, from the record of its run."""
    found = {label: metric_of(measure, record.stages) for measure, label in labels.items()}
    return PointRow(
        number=point.number,
        values=point.values,
        measures={label: None if hit is None else hit[1] for label, hit in found.items()},
        run=None if record.run is None else Path(record.run),
        seconds=record.seconds,
        stages=len(record.stages),
        reused=sum(stage["reused"] for stage in record.stages),
        error=record.error,
    )


def make_settings(rows: Sequence[PointRow], measures: Sequence[str]) -> tuple[SettingRow, ...]:
    """The rows with their seeds taken together, in the order of the points."""
    groups: dict[str, list[PointRow]] = {}
    for row in rows:
        groups.setdefault(json_text(_without_seed(row.values)), []).append(row)
    return tuple(
        SettingRow(
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
    able = len(there) > 1 and all(map(math.isfinite, there))
    return Spread(mean(there), stdev(there) if able else None, len(there))


def best_setting(settings: Sequence[SettingRow], goal: str, label: str) -> SettingRow | None:
    """The first setting with the least (``min``) or greatest (``max``) mean; None where none has a finite one.

    A setting is passed over where one of its points failed: its mean is not over the seeds of the other settings.
    """
    sign = 1 if goal == "min" else -1
    able = [
        (sign * found, setting)
        for setting in settings
        if is_finite(found := setting.measures[label].mean) and not setting.failed
    ]
    return min(able, key=lambda pair: pair[0], default=(0.0, None))[1]
