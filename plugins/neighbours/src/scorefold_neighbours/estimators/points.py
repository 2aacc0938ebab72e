"""Common parts of the baseline estimators: their points, and intervals by halves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset, as_dataset
from scorefold.errors import DataError
from scorefold.stage import reported
from scorefold_toolkit.nearest import Cloud

QUANTITY = "intrinsic dimension"


def estimate_generator(generator: torch.Generator | None) -> torch.Generator:
    """The generator on the CPU that an estimate draws from: one started from the given one, or from 0."""
    if generator is None:
        return torch.Generator().manual_seed(0)
    seed = torch.randint(0, 2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


def sampled_points(
    data: Tensor | Dataset, limit: int | None, generator: torch.Generator, *, least: int, who: str, why: str = ""
) -> tuple[Dataset, Tensor]:
    """At most ``limit`` points, drawn at random, and their positions (n,) in the data. No other points are read.

    Raises ``DataError`` for fewer than ``least`` points.
    """
    dataset = as_dataset(data)
    count = len(dataset)
    if count < least:
        raise DataError(
            f"{who} needs at least {least} points{why}; {count} were given",
            hint="give more points, or a larger fraction of them to this split",
        )
    if limit is None or limit >= count:
        return dataset, torch.arange(count)
    if limit < least:
        raise DataError(f"{who} needs at least {least} points{why}; its limit is {limit}", hint="raise 'limit'")
    positions = torch.randperm(count, generator=generator)[:limit].sort().values
    if isinstance(dataset, StreamedDataset):
        whole = dataset
        rows = None if whole.index is None else whole.index[positions.to(whole.index.device)]

        def fetch(index: Tensor) -> Dataset:
            return whole.take(positions[index])

        return replace(whole, size=limit, index=rows, fetch=fetch, shuffle=None), positions
    return dataset.take(positions), positions


def points_and_positions(
    data: Tensor | Dataset, limit: int | None, generator: torch.Generator, *, least: int, who: str, why: str = ""
) -> tuple[Tensor, Tensor]:
    """The points of ``sampled_points`` as (n, D) in float64 on the CPU, with their positions (n,) in the data.

    Raises ``DataError`` as it does, and for points that aren't finite.
    """
    dataset, positions = sampled_points(data, limit, generator, least=least, who=who, why=why)
    return as_rows(dataset, positions), positions


def as_rows(points: Dataset, positions: Tensor) -> Tensor:
    """Points (n, *E) as (n, D) in float64 on the CPU. Raises ``DataError`` for points that aren't finite, by their rows
    or, where the data don't count these, by their ``positions`` (n,)."""
    found = points.tensor().detach().cpu().double().reshape(len(positions), -1)
    bad = ~torch.isfinite(found).all(dim=1)
    if bool(bad.any()):
        rows = positions if points.index is None else points.index.cpu()
        raise DataError(
            f"{int(bad.sum())} of the points are NaN or infinite, the first in row {int(rows[bad].min())}",
            hint="remove such rows or fill them in: x[x.flatten(1).isfinite().all(1)]",
        )
    return found


def sample_note(taken: int, count: int, *others: str) -> dict[str, str]:
    """The ``note`` of an answer from so many of the points, as a diagnostic: what else there is to say, and that these
    are a sample; empty where there is nothing to say."""
    sample = f"on a sample of {taken:,} of {count:,} points" if taken < count else ""
    text = "; ".join(filter(None, [*others, sample]))
    return {"note": text} if text else {}


def given_distances(x: Tensor, columns: Tensor) -> Tensor:
    """The matrix (n, n) of distances in rows (n, N), whose ``columns`` (n,) hold the distances from the same points.

    Raises ``DataError`` where the rows do not hold distances.
    """
    if int(columns.max()) >= x.shape[1]:
        raise DataError(
            f"metric: precomputed takes the distances of each point from all points; row {int(columns.max())} of the "
            f"data has {x.shape[1]} columns",
            hint="give a square matrix",
        )
    apart = x[:, columns]
    gaps = (apart - apart.T).abs() > 1e-6 * apart.abs().clamp(min=torch.finfo(x.dtype).tiny)
    for wrong, what in (
        (apart.diagonal()[:, None] != 0, "a distance of a point from itself that is not 0"),
        (apart < 0, "a distance below 0"),
        (gaps, "another distance in one direction than in the other"),
    ):
        if bool(wrong.any()):
            row = int(columns[wrong.any(1)].min())
            raise DataError(
                f"metric: precomputed finds {what}, first in row {row}",
                hint="give the matrix of distances as it is (scale: none), with columns in the order of its rows",
            )
    return apart


def scale_of(cloud: Cloud, neighbours: int | None) -> dict[str, str]:
    """The ``scale`` at which neighbours read points, as a diagnostic: the median distance to the farthest of so many
    neighbours; empty where an estimator has no such number."""
    if neighbours is None or neighbours >= len(cloud):
        return {}
    farthest = cloud.neighbours(neighbours)[0][:, -1]
    return {"scale": f"{neighbours} nearest neighbours, within a distance of {float(farthest.median()):.2g}"}


def interval_by_halves(
    fit: Callable[[Tensor], float], count: int, resamples: int, level: float, value: float, generator: torch.Generator
) -> tuple[float, float] | None:
    """value +- t s, not below 0, with s the deviation of ``fit`` over random halves of ``count`` points.

    None for no resamples, and where ``fit`` gives no finite number for a half.

    ``fit`` takes the positions of a half. Halves are drawn without replacement, since a bootstrap's duplicates would be
    neighbours at distance 0. They come in pairs that part the points: with a and b the values of a pair, s^2 is the
    mean of (a - b)^2 / 4. For an average over n points its expectation is the variance of the average, S^2 / n.
    """
    if resamples == 0:
        return None
    from scipy.stats import t

    squares = []
    for _ in reported(range(resamples // 2), resamples // 2, "pairs of halves for the interval"):
        order = torch.randperm(count, generator=generator)
        a, b = (fit(half.sort().values) for half in (order[: count // 2], order[count // 2 :]))
        if not (math.isfinite(a) and math.isfinite(b)):
            return None
        squares.append((a - b) ** 2 / 4)
    margin = float(t.ppf((1 + level) / 2, len(squares))) * math.sqrt(sum(squares) / len(squares))
    return max(0.0, value - margin), value + margin


def groups_of_copies(keys: Tensor) -> Tensor:
    """The number of the group of equal rows that each row (n, K) belongs to, (n,), by ascending rows.

    >>> groups_of_copies(torch.tensor([[2.0, 0.0], [1.0, 5.0], [2.0, 0.0]]))
    tensor([1, 0, 1])
    """
    first, order = keys[:, 0].sort()
    if bool((first[1:] > first[:-1]).all()):  # usual, and far faster than a comparison of whole rows
        return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    place: Tensor = torch.unique(keys, dim=0, return_inverse=True)[1]
    return place


def first_of(groups: Tensor) -> Tensor:
    """The first place of each group, of the groups (n,) that things belong to, 0 to m - 1.

    >>> first_of(torch.tensor([1, 0, 1, 2]))
    tensor([1, 0, 3])
    """
    places = torch.arange(len(groups)).flip(0)
    return torch.empty(int(groups.max()) + 1, dtype=torch.long).scatter_(0, groups.flip(0), places)
