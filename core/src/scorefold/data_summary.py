"""A summary of data: a line a column of a table, a line for a set of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale

MOST_COLUMNS = 200
"""Coordinates up to which vectors have a line each; more of them get one line together."""

LOOKED_AT = 2**22
"""Numbers of the data that a summary looks at, the first ones of each split."""

CODES = 20
"""Distinct values up to which a column counts as codes of categories."""

FEWEST_ROWS = 50
"""Rows below which nothing is said of codes and identifiers."""

HEAVY_TAIL = 50.0
"""The distance of the farthest value from the median, in robust deviations, from which one row sets the spread."""

_QUARTILES_OF_NORMAL = 1.349


@dataclass(frozen=True)
class ColumnSummary:
    """One column: ``type`` is integer, number, boolean, text or, for a whole event, its shape.

    ``missing`` and ``distinct`` count values; ``least``, ``mean``, ``greatest`` and ``spread`` (the standard
    deviation) are in the units of the file, None for text and where every value is missing. ``warnings`` are a few
    words each. ``use`` is coordinate, label, condition or not used.
    """

    name: str
    type: str
    missing: int
    distinct: int
    least: float | None = None
    mean: float | None = None
    greatest: float | None = None
    spread: float | None = None
    warnings: tuple[str, ...] = ()
    use: str = "coordinate"


@dataclass(frozen=True)
class DataSummary:
    """What data hold: ``rows`` (N) of ``event_shape``, their columns, and warnings about the whole.

    ``incomplete`` counts rows with a missing value, ``copies`` rows that repeat an earlier one exactly, ``shared``
    those whose original is in another split; None where not counted. ``gaps`` are cells like "-" among numbers.

    >>> DataSummary(1200, (3,), (), incomplete=4, copies=1).heading()
    '1,200 rows of 3 columns, 4 with missing values, 1 exact copy'
    """

    rows: int
    event_shape: tuple[int, ...]
    columns: tuple[ColumnSummary, ...]
    incomplete: int = 0
    copies: int | None = None
    shared: int | None = None
    warnings: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The summary as JSON."""
        return asdict(self) | {"event_shape": list(self.event_shape), "columns": [asdict(one) for one in self.columns]}

    def heading(self) -> str:
        """The line above the columns: how many rows, incomplete ones and copies there are."""
        parts = [f"{self.rows:,} rows of {shape_text(self.event_shape)}"]
        if self.incomplete:
            parts.append(f"{self.incomplete:,} with missing values")
        if self.copies is not None:
            shared = f" ({self.shared:,} across splits)" if self.shared else ""
            noun = "copy" if self.copies == 1 else "copies"
            parts.append(f"{self.copies:,} exact {noun}{shared}" if self.copies else "no exact copies")
        return ", ".join(parts)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as text: ``12 columns``, ``1 x 8 x 8``."""
    if len(shape) == 1:
        return f"{shape[0]} column{'s' * (shape[0] != 1)}"
    return " x ".join(map(str, shape))


def summarise(parts: Iterable[Dataset], scale: EventScale, event_shape: tuple[int, ...]) -> DataSummary:
    """The summary of a source's splits, in the units they were read in. Of large data the first points of each split
    are looked at.
    """
    splits = list(parts)
    rows = sum(map(len, splits))
    most = max(1, LOOKED_AT // max(1, math.prod(event_shape)) // max(1, len(splits)))
    x = torch.cat([split.tensor(most).detach().cpu() for split in splits]) if splits else torch.zeros(0, *event_shape)
    raw = scale.to_raw(x).double()
    if len(event_shape) == 1 and event_shape[0] <= MOST_COLUMNS:
        columns = tuple(describe(f"x{i}", raw[:, i]) for i in range(raw.shape[1]))
    else:
        columns = (describe_event(raw),)
    return DataSummary(rows, event_shape, columns)


def describe(name: str, values: Tensor, kind: str | None = None) -> ColumnSummary:
    """The summary of a column with these values (N,) in float64, nan where one is missing."""
    known = values[values.isfinite()]
    missing = len(values) - len(known)
    if len(known) == 0:
        return ColumnSummary(name, kind or "number", missing, 0, warnings=("every value is missing",))
    distinct = known.unique()
    whole = bool((distinct == distinct.round()).all())
    return ColumnSummary(
        name=name,
        type=kind or ("integer" if whole else "number"),
        missing=missing,
        distinct=len(distinct),
        least=float(distinct[0]),
        mean=float(known.mean()),
        greatest=float(distinct[-1]),
        spread=float(known.std(correction=0)) if len(distinct) > 1 else 0.0,
        warnings=tuple(_flags(known, distinct, whole)),
    )


def describe_event(x: Tensor) -> ColumnSummary:
    """The summary of all coordinates of events (N, *E) in float64 together; spread is about each one's own mean."""
    found = describe("all coordinates", x.flatten(), shape_text(x.shape[1:]))
    spread = EventScale.of(x).std if found.distinct > 1 and not found.missing else None
    return replace(found, spread=spread, warnings=())


def is_identifier(column: ColumnSummary) -> bool:
    """Whether a column numbers the rows: whole numbers, all but all distinct, that nearly fill their range."""
    return IDENTIFIER in column.warnings


def is_code(column: ColumnSummary) -> bool:
    """Whether a column holds few distinct values, as codes of categories do."""
    return any(text.startswith(_CODE) for text in column.warnings)


_DISTINCT = 0.98  # of the rows, since some may be copies
IDENTIFIER = "numbers the rows"
_CODE = "codes?"


def _flags(known: Tensor, distinct: Tensor, whole: bool) -> list[str]:
    if len(distinct) == 1:
        return ["constant"]
    found = []
    if len(known) >= FEWEST_ROWS:
        if whole and len(distinct) >= _DISTINCT * len(known) and float(distinct[-1] - distinct[0]) < 2 * len(known):
            found.append(IDENTIFIER)
        elif len(distinct) <= CODES:
            found.append(f"{_CODE} {len(distinct)} values")
        elif len(distinct) > CODES and _tail(known) > HEAVY_TAIL:
            found.append("heavy tail")
    return found


def _tail(known: Tensor) -> float:
    """The distance of the farthest value from the median, in robust deviations; 0 where the quartiles are one."""
    low, middle, high = known.sort().values[[len(known) // 4, len(known) // 2, 3 * len(known) // 4]].tolist()
    deviation = (high - low) / _QUARTILES_OF_NORMAL
    return float((known - middle).abs().max()) / deviation if deviation > 0 else 0.0
