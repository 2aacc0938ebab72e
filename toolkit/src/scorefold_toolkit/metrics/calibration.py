"""Calibration of draws from a posterior: ranks, coverage and uniformity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, ShapeError

_FEWEST = 8
_COLUMNS = 4096
_MOVED = 3  # deviations of the draws that a condition moves a random point by


def pit(draws: Tensor, truth: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The place of the truth among draws, coordinate by coordinate: draws (n, C, *E), truth (C, *E), gives (C, *E).

    (rank + v) / (n + 1) in float64, with the rank of the truth among the n draws (ties broken at random) and v uniform
    from ``generator``: uniform on [0, 1] for every n where truth and draws have one distribution (the probability
    integral transform, randomised; simulation-based calibration, Talts et al. 2018). Low for a truth below the draws.
    Raises ``ShapeError`` for shapes that do not fit.
    """
    if draws.dim() < 2 or draws.shape[1:] != truth.shape or len(draws) == 0:
        raise ShapeError(f"draws {tuple(draws.shape)} were held to truths {tuple(truth.shape)}; expected (n, C, *E)")
    draws, truth = draws.detach().cpu(), truth.detach().cpu()
    below, equal = (draws < truth).sum(0).double(), (draws == truth).sum(0).double()
    # One of the equal + 1 places between the draws at the truth, and a place within it, are one uniform together.
    within = torch.rand(truth.shape, generator=generator, dtype=torch.float64)
    return (below + within * (equal + 1)) / (len(draws) + 1)


def tarp(draws: Tensor, truth: Tensor, generator: torch.Generator, condition: Tensor | None = None) -> Tensor:
    """The place of each truth among its draws by the distance from a random point: (C,) in [0, 1].

    ``draws`` (n, C, *E), ``truth`` (C, *E). For each truth a reference point is uniform over the range of all draws,
    moved by a random linear map of its ``condition`` (C, K), without which draws that pass the condition over would
    pass; distances are in deviations of the draws. The place is the share of draws nearer to it than the truth, made
    continuous as by ``pit``. The share of places below alpha is the expected coverage at alpha of "Tests of accuracy
    with random points" (Lemos, Coogan, Hezaveh and Perreault-Levasseur 2023, algorithm 2). Uniform for draws from the
    posterior, whatever the references are: they don't depend on the truth. Raises ``ShapeError`` as ``pit``.
    """
    flat, given = draws.detach().cpu().double().flatten(2), truth.detach().cpu().double().flatten(1)
    if flat.dim() != 3 or flat.shape[1:] != given.shape or len(flat) == 0:
        raise ShapeError(f"draws {tuple(draws.shape)} were held to truths {tuple(truth.shape)}; expected (n, C, *E)")
    every = flat.flatten(0, 1)
    scale = _deviations(every)
    low, high = every.aminmax(dim=0)
    reference = low + (high - low) * torch.rand(given.shape, generator=generator, dtype=torch.float64)
    if condition is not None:
        shown = condition.detach().cpu().double().flatten(1)
        shown = (shown - shown.mean(0)) / _deviations(shown)
        towards = torch.randn(shown.shape[1], given.shape[1], generator=generator, dtype=torch.float64)
        reference = reference + _MOVED * scale * (shown @ towards) / math.sqrt(max(1, shown.shape[1]))
    distances = ((flat - reference) / scale).norm(dim=2)
    return pit(distances[..., None], ((given - reference) / scale).norm(dim=1)[:, None], generator)[:, 0]


def _deviations(x: Tensor) -> Tensor:
    """The standard deviations of the columns of x (N, D), 1 for a column that is constant."""
    found = x.std(0, correction=0)
    return torch.where(found > 0, found, torch.ones_like(found))


def coverage(places: Tensor, level: float) -> Tensor:
    """The share of each truth's coordinates inside the central interval of mass ``level``, of places (C, *E): (C,).

    ``places`` come from ``pit``, nan where a coordinate does not count; a truth without any that does gives nan.
    The mean over truths is ``level`` for calibrated draws, less for draws too narrow, more for draws too wide. Raises
    ``ConfigError`` for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ConfigError(f"a level of {level} was given; it must lie between 0 and 1", hint="such as 0.9")
    flat = places.flatten(1)
    inside = ((flat - 0.5).abs() <= level / 2).double()
    return torch.where(flat.isnan(), math.nan, inside).nanmean(1)


def uniformity(places: Tensor) -> tuple[float, float]:
    """Kuiper's statistic of numbers in [0, 1] (N,) against the uniform distribution, and its p-value.

    V = max(F_N(u) - u) + max(u - F_N(u)), as sensitive to spread as to place (Kuiper 1960); the p-value is Stephens'
    approximation (1970), good from N = 8 on. Raises ``DataError`` for fewer.
    """
    count = places.numel()
    if count < _FEWEST:
        raise DataError(f"a test of uniformity needs at least {_FEWEST} numbers; {count} were given")
    statistic, value = _kuiper(places.reshape(-1, 1))
    return float(statistic), float(value)


def joint_uniformity(places: Tensor) -> float:
    """The p-value of ``uniformity`` in every coordinate at once, places (C, *E): the least one times D (Bonferroni).

    Truths are independent and coordinates need not be, so each coordinate is tested over truths alone. Coordinates with
    fewer than 8 numbers (nan does not count) are left out. Raises ``DataError`` where all are.
    """
    # In blocks of columns: sorting makes several copies in float64.
    values = torch.cat([_kuiper(columns)[1] for columns in places.flatten(1).split(_COLUMNS, dim=1)])
    if len(values) == 0:
        raise DataError(
            f"a test of uniformity needs at least {_FEWEST} truths; places of shape {tuple(places.shape)} were given"
        )
    return min(1.0, len(values) * float(values.min()))


def _kuiper(places: Tensor) -> tuple[Tensor, Tensor]:
    """The statistic and its p-value in each column of (N, D) that has enough numbers, nan not counted."""
    counts = (~places.isnan()).sum(0)
    u = places[:, counts >= _FEWEST].double().sort(0).values  # nan comes last
    count = counts[counts >= _FEWEST].double()
    rank = torch.arange(len(u), dtype=torch.float64)[:, None]
    held = ~u.isnan()
    above = torch.where(held, (rank + 1) / count - u, -math.inf).amax(0)
    below = torch.where(held, u - rank / count, -math.inf).amax(0)
    statistic = above + below
    scaled = (count.sqrt() + 0.155 + 0.24 / count.sqrt()) * statistic
    j = torch.arange(1, 101, dtype=torch.float64)[:, None]
    terms = (8 * (j * scaled) ** 2 - 2) * (-2 * (j * scaled) ** 2).exp()
    # Below 0.4 the series needs many terms, and its sum is 1 up to 1e-7.
    return statistic, torch.where(scaled < 0.4, 1.0, terms.sum(0).clamp(0, 1))
