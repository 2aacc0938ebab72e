"""The rows of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scorefold.plugin import Comparison


@dataclass(frozen=True)
class Row:
    """A component on a case.

    ``value`` with its ``interval`` is the number that is compared, ``quantity`` what it is, ``truth`` what it should
    be and ``difference`` value minus truth, each None where it is not known. ``cpu_seconds`` and ``network_calls`` (the
    points at which score models and flows were evaluated; None where there are none) are those of the compared verb,
    ``training_cpu_seconds`` those of the training before it. ``regret`` is how much worse than the best of its case the
    value is. Where the data support no one value, ``headline`` says what was found instead. ``uses`` are the components
    plugged in, ``error`` says why there is no value; it is ``skipped`` where the component can't be put on the case at
    all. ``run_file`` is the row's own run file within the comparison's folder.
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
    skipped: bool = False
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of ``compare --json``."""
        fields = asdict(self)
        for name in ("cpu_seconds", "training_cpu_seconds"):
            fields[name] = None if fields[name] is None else round(fields[name], 3)
        return fields


def judged(row: Row) -> Row:
    """The row held to the truth, where both are known."""
    if row.value is None or row.truth is None:
        return row
    return replace(row, difference=row.value - row.truth)


def over_seeds(rows: Sequence[Row]) -> Row:
    """One row for the rows of several seeds: means, with the least and the greatest value as the interval."""
    first = rows[0]
    if len(rows) == 1:
        return first
    failed = [(seed, row) for seed, row in enumerate(rows) if row.error is not None]
    if failed:
        return replace(failed[0][1], seeds=len(rows))
    values = [row.value for row in rows if row.value is not None]

    def mean(name: str) -> Any:
        found = [getattr(row, name) for row in rows]
        return None if None in found else sum(found) / len(found)

    calls = mean("network_calls")
    return replace(
        first,
        headline=next((row.headline for row in rows if row.headline), None),
        value=mean("value"),
        truth=mean("truth"),
        interval=(min(values), max(values)) if len(values) == len(rows) else None,
        difference=mean("difference"),
        cpu_seconds=mean("cpu_seconds"),
        training_cpu_seconds=mean("training_cpu_seconds"),
        network_calls=None if calls is None else round(calls),
        seeds=len(rows),
    )


def with_regrets(rows: Sequence[Row], comparison: Comparison) -> list[Row]:
    """The rows with how much worse than the best of its case each is, where small or large is what counts."""
    if comparison.best == "truth":
        return list(rows)
    sign = 1 if comparison.best == "smallest" else -1
    best: dict[tuple[str, str | None], float] = {}
    for row in rows:
        if row.value is not None and math.isfinite(row.value):
            key = (row.case, row.quantity)
            best[key] = min(best.get(key, math.inf), sign * row.value)
    return [
        row
        if row.value is None or (row.case, row.quantity) not in best
        else replace(row, regret=sign * row.value - best[row.case, row.quantity])
        for row in rows
    ]


def best_of(rows: Sequence[Row], comparison: Comparison) -> Mapping[str, float]:
    """The least distance to what is best of each case: to the truth where that counts, else the regret, which is 0."""
    found: dict[str, float] = {}
    for row in rows:
        distance = shortfall(row, comparison)
        if distance is not None:
            found[row.case] = min(found.get(row.case, math.inf), distance)
    return found


def shortfall(row: Row, comparison: Comparison) -> float | None:
    """How far from what counts as best a row is; None where that is not known."""
    if comparison.best != "truth":
        return row.regret
    return None if row.difference is None else abs(row.difference)
