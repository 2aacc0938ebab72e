"""Data sources, where points come from in disjoint splits, and the summary of data by columns or images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import ConditionSpec, Dataset, DataSpec, EventScale, spec_of_conditions
from scorefold.errors import DataError, SplitError
from scorefold.interfaces.model import Shown

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

    >>> describe("age", torch.tensor([30.0, 40.0, 50.0])).mean
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
    """True if a column numbers the rows: whole numbers, all but all distinct, that nearly fill their range."""
    return IDENTIFIER in column.warnings


def is_code(column: ColumnSummary) -> bool:
    """True if a column holds few distinct values, as codes of categories do."""
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


SPLITS = ("train", "validation", "test")


class DataSource(Shown, ABC):
    """A source of points.

    Must: ``load``, and set ``event_shape`` and ``event_scale`` when constructed. May: ``condition_spec``,
    ``label_names``, ``rows``, ``fingerprint``, ``data_warnings``, ``summary``, ``inspect``. Given: ``spec``.

    >>> class Line(DataSource):
    ...     event_shape, event_scale = (1,), EventScale()
    ...     def load(self, split):
    ...         return Dataset(torch.linspace(0, 1, 5)[:, None])
    >>> Line().summary().rows, TensorSource(torch.ones(4, 2)).load("test")
    (15, Dataset(4 of shape (2,), index))
    """

    event_shape: tuple[int, ...]
    event_scale: EventScale
    condition_spec: ConditionSpec | None = None
    label_names: Sequence[str] | None = None
    """Names of the labels 0, 1, ..., if they have names."""
    rows: Sequence[object] | None = None
    """Names of the rows that ``Dataset.index`` counts, those left out too: numbers, or paths of images."""

    @abstractmethod
    def load(self, split: str) -> Dataset:
        """The points of a split (train, validation or test). Splits are disjoint and the same at every call.

        Raises ``SplitError`` for a split that the source does not have or that is empty: a verb may do without it. Any
        other ``DataError`` ends a run.
        """

    def fingerprint(self) -> str | None:
        """A digest of the files that are read, or None for a source that its configuration determines."""
        return None

    def data_warnings(self) -> tuple[str, ...]:
        """Problems of the data, each with the line that fixes it, the most serious first."""
        return ()

    def summary(self) -> DataSummary:
        """Summary of the data, in the units of the files."""
        parts = []
        for split in SPLITS:
            with suppress(SplitError):
                parts.append(self.load(split))
        return replace(summarise(parts, self.event_scale, self.event_shape), warnings=self.data_warnings())

    @classmethod
    def inspect(cls, config: Any) -> DataSummary:
        """Summary of the files of a config; a source may accept files here that it refuses to load."""
        return cls(config).summary()  # type: ignore[call-arg]

    def spec(self) -> DataSpec:
        """The shape and scale of events and conditions, which is all that a saved model keeps of its data."""
        return DataSpec(self.event_shape, self.event_scale, self.condition_spec)


class TensorSource(DataSource):
    """Tensors in memory as a source: the samples of a stage, or data from a Python session.

    ``splits`` maps a split to a data set; a tensor alone is the test split. ``condition_spec`` is read from their
    conditions (``scorefold.data.spec_of_conditions``): give it where classes are missing here. ``warnings`` are those
    of the data, ``rows`` the names of their rows. Raises ``DataError`` for no split, or conditions of some only.
    """

    def __init__(
        self,
        splits: Tensor | Mapping[str, Dataset],
        event_scale: EventScale | None = None,
        condition_spec: ConditionSpec | None = None,
        *,
        warnings: Sequence[str] = (),
        rows: Sequence[object] | None = None,
    ) -> None:
        if isinstance(splits, Tensor):
            splits = {"test": Dataset(x=splits, index=torch.arange(splits.shape[0]))}
        if not splits:
            raise DataError("a source needs at least one split")
        self._splits = dict(splits)
        first = next(iter(self._splits.values()))
        self.event_shape = first.event_shape
        self.event_scale = event_scale or EventScale.of(first.x)
        self._warnings, self.rows = tuple(warnings), rows
        given = condition_spec or self.condition_spec
        self.condition_spec = given or spec_of_conditions([each.condition for each in self._splits.values()])

    def load(self, split: str) -> Dataset:
        if split not in self._splits:
            raise SplitError(f"there is no {split!r} split here; there is {', '.join(self._splits)}")
        return self._splits[split]

    def data_warnings(self) -> tuple[str, ...]:
        return self._warnings
