"""The summary of data by columns or images, from arrays. No torch here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

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

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnSummary:
    """One column: ``type`` is integer, number, boolean, text or, for a whole event, its shape.

    ``missing`` and ``distinct`` count values; ``least``, ``mean``, ``greatest`` and ``spread`` (the standard
    deviation) are in the units of the file, None for text and where every value is missing. ``warnings`` are a few
    words each. ``use`` is coordinate, label, condition or not used.

    >>> describe_column("age", np.array([30.0, 40.0, 50.0])).mean
    40.0
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
    """Content of data: ``rows`` (N) of ``event_shape``, their columns, and warnings about the whole.

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


def without(names: Sequence[str]) -> str:
    """A list in YAML that leaves columns out, such as ``[-id, "-Unnamed: 0"]``."""
    parts = (f"-{name}" if _PLAIN.fullmatch(name) else json.dumps(f"-{name}", ensure_ascii=False) for name in names)
    return f"[{', '.join(parts)}]"


_PLAIN = re.compile(r"[A-Za-z_]([\w. -]*[\w.])?")


def shape_text(shape: Sequence[int]) -> str:
    """A shape as text: ``12 columns``, ``1 x 8 x 8``."""
    if len(shape) == 1:
        return f"{shape[0]} column{'s' * (shape[0] != 1)}"
    return " x ".join(map(str, shape))


def describe_column(name: str, values: npt.ArrayLike, kind: str | None = None) -> ColumnSummary:
    """The summary of a column with these values (N,) in float64, nan where one is missing."""
    given = np.asarray(values, np.float64)
    known = np.sort(given[np.isfinite(given)])
    missing = len(given) - len(known)
    if len(known) == 0:
        return ColumnSummary(name, kind or "number", missing, 0, warnings=("every value is missing",))
    distinct = known[np.append(True, known[1:] != known[:-1])]
    whole = bool((distinct == distinct.round()).all())
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the largest that there are
        mean, spread = float(known.mean()), float(known.std())
    return ColumnSummary(
        name=name,
        type=kind or ("integer" if whole else "number"),
        missing=missing,
        distinct=len(distinct),
        least=float(known[0]),
        mean=mean,
        greatest=float(known[-1]),
        spread=spread if len(distinct) > 1 else 0.0,
        warnings=tuple(_flags(known, distinct, whole)),
    )


def describe_event(x: npt.ArrayLike) -> ColumnSummary:
    """The summary of all coordinates of events (N, *E) in float64 together; spread is about each one's own mean."""
    events = np.asarray(x, np.float64)
    found = describe_column("all coordinates", events.ravel(), shape_text(events.shape[1:]))
    varied = found.distinct > 1 and not found.missing
    return replace(found, spread=float(np.sqrt(events.var(0).mean())) if varied else None, warnings=())


def is_identifier(column: ColumnSummary) -> bool:
    """True if a column numbers the rows: whole numbers, all but all distinct, that nearly fill their range; or if it
    is called as identifiers are."""
    return not {IDENTIFIER, CALLED_SO}.isdisjoint(column.warnings)


def is_code(column: ColumnSummary) -> bool:
    """True if a column holds few distinct values, as codes of categories do."""
    return any(text.startswith(_CODE) for text in column.warnings)


_DISTINCT = 0.98  # of the rows, since some may be copies
IDENTIFIER, CALLED_SO = "numbers the rows", "is called as identifiers are"
_CODE = "codes?"


def _flags(known: Numbers, distinct: Numbers, whole: bool) -> list[str]:
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


def _tail(known: Numbers) -> float:
    """The distance of the farthest of sorted values from the median, in robust deviations; 0 where the quartiles are
    one."""
    low, middle, high = (float(known[part * len(known) // 4]) for part in (1, 2, 3))
    deviation = (high - low) / _QUARTILES_OF_NORMAL
    return max(float(known[-1]) - middle, middle - float(known[0])) / deviation if deviation > 0 else 0.0
