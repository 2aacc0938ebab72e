"""Common parts of data sources: a seed of their own, disjoint splits, the scale of points and checks, names of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.results import Estimate
from scorefold.seeds import derive_generator
from scorefold_toolkit.data.far_rows import far_rows, rows_far_out


def source_seed(seed: int | None, generator: torch.Generator | None) -> int:
    """The seed of a source: the configured one, else one drawn from the generator, else 0."""
    if seed is not None:
        return seed
    if generator is None:
        return 0
    return int(torch.randint(0, 2**62, (), generator=generator, device=generator.device))


def random_positions(count: int, limit: int | None, seed: int) -> Tensor:
    """Positions in random order, the first ``limit`` of them: (min(count, limit),)."""
    order = torch.randperm(count, generator=derive_generator(seed, "split"))
    return order if limit is None else order[:limit]


def class_numbers(wanted: Sequence[int | str], names: Sequence[str]) -> list[int]:
    """The numbers of classes that are given by number or by name, in the order given.

    Raises ``ConfigError`` for a class that there is not and for one that is given twice.
    """
    numbers: list[int] = []
    for each in wanted:
        number = names.index(each) if isinstance(each, str) and each in names else each
        if isinstance(number, str) or not 0 <= number < len(names):
            there = ", ".join(names if isinstance(each, str) else map(str, range(len(names))))
            raise ConfigError(f"there is no class {each!r}; expected one of {there}", hint=_alike(each, names))
        if number in numbers:
            raise ConfigError(f"class {number} ({names[number]}) is listed twice; expected every class once")
        numbers.append(number)
    return numbers


def _alike(word: int | str, names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in names}
    found = get_close_matches(str(word).lower(), lower, n=1)
    return f"did you mean {lower[found[0]]!r}?" if found else None


def of_classes(label: Tensor, wanted: Sequence[int | str] | None, names: Sequence[str]) -> Tensor:
    """The positions (n,) of the points with labels (N,) that are of the wanted classes; all of them for None.

    Raises ``ConfigError`` as ``class_numbers``, and ``DataError`` where no point is of one of the classes.
    """
    if wanted is None:
        return torch.arange(len(label))
    numbers = class_numbers(wanted, names)
    for number in numbers:
        if not bool((label == number).any()):
            raise DataError(f"no point is of class {number} ({names[number]})", hint="take it out of 'classes'")
    return torch.isin(label, torch.tensor(numbers)).nonzero()[:, 0]


def split_sizes(count: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Sizes of train, validation and test that sum to ``count``.

    Every split with a fraction above 0 gets at least one point. Raises ``DataError`` for too few points.
    """
    wanted = sum(fraction > 0 for fraction in fractions)
    if count < wanted:
        raise DataError(
            f"{count} points can't be split {tuple(fractions)}: {wanted} splits need at least one point each",
            hint="give more points, or set the fraction of a split that you don't need to 0",
        )
    sizes = [max(1, round(fraction * count)) if fraction > 0 else 0 for fraction in fractions]
    # Rounding and the minimum of one point are settled with the largest split, which can best spare them.
    sizes[sizes.index(max(sizes))] += count - sum(sizes)
    return sizes[0], sizes[1], sizes[2]


def split_positions(count: int, fractions: Sequence[float], seed: int, limit: int | None = None) -> dict[str, Tensor]:
    """Disjoint positions of the splits, from one permutation drawn by the seed."""
    order = random_positions(count, limit, seed)
    return dict(zip(SPLITS, order.split(split_sizes(len(order), fractions)), strict=True))


def hold_out(positions: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """(train, validation) of positions that are already in random order."""
    train, validation, _ = split_sizes(len(positions), (1 - share, share, 0.0))
    return positions[:train], positions[train : train + validation]


def pick(splits: Mapping[str, Dataset], name: str) -> Dataset:
    """The data set of a split. Raises ``DataError`` for one that is unknown, ``SplitError`` for one that is empty."""
    if name not in SPLITS:
        raise DataError(f"there is no split called {name!r}; there are {', '.join(SPLITS)}")
    dataset = splits[name]
    if len(dataset) == 0:
        raise SplitError(
            f"the {name} split is empty: the config gives it no share of the points",
            hint="give it one (fractions: [0.8, 0.1, 0.1]), or read another split (split: train)",
        )
    return dataset


def measured_split(splits: Mapping[str, Dataset]) -> Dataset:
    """The split that the scale of the data is measured on: the training split, or the first that has points."""
    return next((splits[name] for name in SPLITS if len(splits[name])), splits[SPLITS[0]])


def plain_scale(x: Tensor) -> EventScale:
    """The scale of continuous, unbounded data with these points."""
    return EventScale.of(x)


def moments(x: Tensor, *, bounded: bool = True) -> tuple[float, float]:
    """The mean over all entries of points (N, *E) and their deviation as ``EventScale`` has them, in float64; a
    deviation of 0 is given as 1. ``bounded`` is True for images, as in ``EventScale``."""
    if not bounded or x.numel() == 0:
        scale = EventScale.of(x)
        return scale.mean, scale.std
    parts = x.reshape(-1).split(_ENTRIES)
    share = torch.tensor([len(part) / x.numel() for part in parts], dtype=torch.float64)
    variances, means = torch.stack([torch.stack(torch.var_mean(part.double(), correction=0)) for part in parts]).T.cpu()
    mean = (share * means).sum()
    variance = (share * (variances + (means - mean).square())).sum()
    return float(mean), float(variance.sqrt()) or 1.0


_ENTRIES = 2**22
"""Entries that are in float64 at once: a copy of all of them would take twice the memory of the points."""

NEIGHBOURS = 20
DISAGREE = 1.25
"""Largest ratio of the two dimensions."""

_MOST = 1000


@runtime_checkable
class HasColumns(Protocol):
    """A data source of columns; ``column_names`` are their names (D,), none where they have none."""

    @property
    def column_names(self) -> tuple[str, ...]: ...


@runtime_checkable
class HasUnits(Protocol):
    """A data source of columns; ``unsettled_units`` says that their spreads differ more than tenfold, and that nobody
    has said whether they have one unit."""

    @property
    def unsettled_units(self) -> bool: ...


@runtime_checkable
class HasIncompleteRows(Protocol):
    """A data source that leaves rows with missing values out; ``incomplete_rows`` are their rows (m,) and values (m, D)
    in the units that were read, NaN where a value is missing."""

    def incomplete_rows(self) -> tuple[Tensor, Tensor]: ...


def dimensions_by_units(x: Tensor) -> tuple[float, float] | None:
    """The dimensions that maximum likelihood reads from points (n, D) as they are, and with each column divided by its
    own spread, where one is a quarter larger than the other.

    Of many points the first 1,000 are read; none where there are too few for 20 neighbours.

    >>> line = torch.linspace(0, 1, 400, dtype=torch.float64)
    >>> noise = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> [round(found) for found in dimensions_by_units(torch.stack([line, 1e-6 * noise], 1))]
    [1, 2]
    >>> dimensions_by_units(torch.stack([line, 1e-6 * line], 1)) is None
    True
    """
    points = x[:_MOST].detach().cpu().double().flatten(1).unique(dim=0)
    if len(points) <= NEIGHBOURS:
        return None
    spread = points.std(0)
    kept = spread > 0
    plain, scaled = maximum_likelihood(points), maximum_likelihood(points[:, kept] / spread[kept])
    return (plain, scaled) if max(plain, scaled) > DISAGREE * min(plain, scaled) else None


def units_text(x: Tensor) -> str:
    """Both dimensions of ``dimensions_by_units`` as the end of a sentence; empty where there is one dimension."""
    found = dimensions_by_units(x)
    if found is None:
        return ""
    plain, scaled = found
    return (
        f"depends on the units of the columns: about {plain:.2g} as they are, about {scaled:.2g} with each divided by "
        "its own spread"
    )


def maximum_likelihood(x: Tensor) -> float:
    """The dimension of more than 20 points (n, D), no two of them the same (Levina and Bickel 2004), averaged as MacKay
    and Ghahramani propose."""
    x = x - x.mean(0)
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    near = distances.topk(NEIGHBOURS, dim=1, largest=False).values
    return float(1 / ((near[:, -1:] / near[:, :-1]).log().sum(1) / (NEIGHBOURS - 1)).mean())


_QUERIES, _NUMBERS = 200, 2**22
_FREE = 1e-6  # of the spread: no data of a practical size have nearer neighbours


def rounding_warning(x: Tensor, rows: Sequence[str] | None = None) -> str | None:
    """A warning where points (N, *E) lie so far from 0 that rounding hides how far neighbours are away. Where a few
    far rows alone are the cause, it names them as ``rows`` (N,) does, or by number.

    With q the distance of neighbouring numbers at the largest value of a coordinate, rounding adds the sum of q^2 / 6
    over the coordinates to a squared distance: 1 % of it where the nearest neighbours are 4 root(sum of q^2) away.
    Points that float32 can hold are taken to have been rounded to it, whatever their dtype. Whole numbers below 2^23
    are exact.
    """
    if len(x) < 3 or not x.is_floating_point():
        return None
    flat = x.detach().cpu().flatten(1)
    every = max(1, len(flat) * flat.shape[1] // _NUMBERS)
    flat = flat[::every].double()
    largest = flat.abs().amax(0)
    if not bool(largest.isfinite().all()):
        return None
    single = bool((flat.float().double() == flat).all())
    mantissa = 24 if single else 53
    if single and float(largest.max()) < 2**23 and bool((flat == flat.round()).all()):
        return None
    # frexp gives 2^(e-1) <= largest < 2^e, between which numbers lie 2^(e - mantissa) apart.
    steps = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - mantissa)
    least = 4 * float(steps.square().sum().sqrt())
    centred = flat - flat.mean(0)
    if least <= _FREE * float(centred.square().sum(1).mean().sqrt()):
        return None
    queries = centred[:: max(1, len(centred) // _QUERIES)]
    if 2 * _with_neighbours(queries, centred, least) < len(queries):
        return None
    near = torch.cat([_nearest(part, centred) for part in queries.split(max(1, _NUMBERS // len(centred)))])
    near = near[near.isfinite()]
    distance = float(near.median()) if len(near) else 0.0
    if distance >= least:
        return None
    kind = "float32" if single else "float64"
    apart = (
        f"reach {float(largest.max()):.3g}, where {kind} numbers lie {float(steps.max()):.2g} apart, and neighbouring "
        f"points are {distance:.2g} apart: their distances are lost in rounding"
    )
    far = torch.from_numpy(far_rows(flat.numpy()))
    rest = torch.ones(len(flat), dtype=torch.bool).index_fill(0, far, False)
    if len(far) and rounding_warning(flat[rest]) is None:
        places = (every * far).tolist()
        out, advice = rows_far_out([str(place) if rows is None else rows[place] for place in places])
        subject = "They" if len(far) > 1 else "The coordinates"
        return f"{out}. {subject} {apart}, so {advice}, and any copies"
    return f"the coordinates {apart}. Subtract each column's mean in float64 before the points become float32"


def _with_neighbours(queries: Tensor, points: Tensor, least: float) -> int:
    """The number of queries with points nearer than ``least``, equal points aside; all of them where that takes long.

    Distances are measured between points that are as near in the coordinate of the largest spread.
    """
    widest = int(points.std(0).argmax())
    values, order = points[:, widest].sort()
    places = queries[:, widest].contiguous()
    first, after = torch.searchsorted(values, places - least), torch.searchsorted(values, places + least, right=True)
    counts = after - first
    if int(counts.sum()) * points.shape[1] > _NUMBERS or bool(values[0] == values[-1]):
        return len(queries)
    rows = torch.arange(len(queries)).repeat_interleave(counts)
    within = torch.arange(len(rows)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    found = points[order[first.repeat_interleave(counts) + within]]
    distances = (found - queries[rows]).square().sum(1).sqrt()
    return len(rows[(distances > 0) & (distances < least)].unique())


def _nearest(queries: Tensor, points: Tensor) -> Tensor:
    """The distance of each query to the nearest point that isn't itself (n,)."""
    distances = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.masked_fill_(distances == 0, torch.inf).amin(1)


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


def row_names(rows: Sequence[object] | None, index: Tensor | None, count: int) -> list[str] | None:
    """The names of the first ``count`` points, which stand in the rows ``index`` (n,) of a source: the number of a row,
    or what the user calls it, in quotes. None where the source doesn't count its rows.

    >>> row_names(["cat.png", "dog.png"], torch.tensor([1, 0]), 1), row_names(range(2), torch.tensor([1, 0]), 1)
    (["'dog.png'"], ['1'])
    """
    if rows is None or index is None:
        return None
    named = ((row, row_name(rows, row)) for row in index[:count].tolist())
    return [str(row) if name is None else repr(name) for row, name in named]


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


def asked_estimates(estimate: Estimate) -> Tensor:
    """The pointwise estimates (n,) of the points that were asked about, in the order of the spectra. Raises
    ``ValueError`` for an estimate without any."""
    if estimate.pointwise is None:
        raise ValueError(f"{estimate.quantity}: expected pointwise estimates, and there are none")
    row = estimate.diagnostics.get("row")
    return estimate.pointwise if row is None else estimate.pointwise[row]


_LABELS = 256
"""Number of streamed points that are read together for their labels."""


def labels_of(dataset: Dataset) -> Tensor:
    """The labels (N,) of points, of streamed points batch by batch. Raises ``DataError`` without any."""
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
