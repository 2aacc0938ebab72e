"""Rows of what the user gave, and numbers of points in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold.results import Estimate


@dataclass(frozen=True)
class NamedRows(Sequence[object]):
    """``length`` rows, each called ``name(row)``: names that are made when they are asked for.

    >>> list(NamedRows(2, "row {}".format))
    ['row 0', 'row 1']
    """

    length: int
    name: Callable[[int], object]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, row: int) -> object: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[object]: ...
    def __getitem__(self, row: int | slice) -> object:
        found = range(self.length)[row]
        return self.name(found) if isinstance(found, int) else [self.name(each) for each in found]


def row_name(rows: Sequence[object] | None, row: int) -> str | None:
    """Name of a row for the user, or None if it is the row's number.

    >>> row_name(["cat.png", "dog.png"], 1), row_name(range(2), 1)
    ('dog.png', None)
    """
    if rows is None or not 0 <= row < len(rows) or rows[row] == row:
        return None
    return str(rows[row])


def row_text(rows: Sequence[object] | None, row: int) -> str:
    """A row in a sentence: ``row 7``, or what the user calls it.

    >>> row_text(["cat.png", "dog.png"], 1), row_text(None, 1)
    ('dog.png', 'row 1')
    """
    name = row_name(rows, row)
    if name is None:
        return f"row {row}"
    return f"{name!r} (row {row})" if name.lstrip("-").isdigit() else name


def by_row(values: Tensor, index: Tensor | None, rows: Sequence[object] | None) -> Tensor:
    """Numbers (n, ...) of points that stand in the rows ``index`` (n,) of a source, in the order of all its ``rows``:
    (N, ...), NaN where a row has none, -1 among integers. As they are where the source doesn't count its rows.

    >>> by_row(torch.tensor([0.5, 2.5]), torch.tensor([2, 0]), range(3)).tolist()
    [2.5, nan, 0.5]
    """
    if rows is None or index is None:
        return values
    fill = torch.nan if values.is_floating_point() else -1
    found = values.new_full((len(rows), *values.shape[1:]), fill)
    found[index.to(values.device)] = values
    return found


def in_order(arrays: Mapping[str, Tensor], index: Tensor | None, name: str = "rows") -> dict[str, Tensor]:
    """Numbers (n, ...) of points that stand in the rows ``index`` (n,) of a source, in the order of these rows, which
    stand beside as ``name``. As they are where the source doesn't count its rows.

    >>> found = in_order({"x": torch.tensor([0.5, 2.5])}, torch.tensor([2, 0]))
    >>> found["x"].tolist(), found["rows"].tolist()
    ([2.5, 0.5], [0, 2])
    """
    if index is None:
        return dict(arrays)
    order = index.cpu().argsort()
    return {key: values[order.to(values.device)] for key, values in arrays.items()} | {name: index.cpu()[order]}


def estimate_by_row(estimate: Estimate, dataset: Dataset, source: DataSource) -> Estimate:
    """An estimate from a data set of a source with ``pointwise`` by row (N,), as ``by_row``; ``diagnostics["row"]``
    (n,) has the rows that were asked about, in the order of other numbers of single points. As it is where the source
    doesn't count its rows, or the estimate says nothing of single points."""
    values, places = estimate.pointwise, estimate.diagnostics.get("index")
    if source.rows is None or dataset.index is None or values is None:
        return estimate
    index = dataset.index.cpu()
    index = index[: len(values)] if places is None else index[places.cpu()]
    facts: dict[str, Any] = {name: value for name, value in estimate.diagnostics.items() if name != "index"}
    real = values.cpu().to(torch.promote_types(values.dtype, torch.float32))
    return replace(estimate, pointwise=by_row(real, index, source.rows), diagnostics={**facts, "row": index})


def asked(estimate: Estimate) -> Tensor:
    """The pointwise estimates (n,) of the points that were asked about, in the order of the spectra. Raises
    ``ValueError`` for an estimate without any."""
    if estimate.pointwise is None:
        raise ValueError(f"{estimate.quantity}: expected pointwise estimates, and there are none")
    row = estimate.diagnostics.get("row")
    return estimate.pointwise if row is None else estimate.pointwise[row]


_LABELS = 256
"""Number of streamed points that are read together for their labels."""


def labels_of(dataset: Dataset) -> Tensor:
    """The labels (N,) of points; those of streamed points are read batch by batch. Raises ``DataError`` without any."""
    if dataset.label is not None:
        return dataset.label
    parts = [batch.label for batch in dataset.batches(_LABELS)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or not parts:
        raise DataError(
            "these data have no labels",
            hint="leave out 'by: label', or give the data labels (data:array has label, data:images sub-folders)",
        )
    return torch.cat(found)
