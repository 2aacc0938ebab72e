"""The loss against labels a task at one budget: tried size by size, and its minimum with a band."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from scipy.special import chdtrc, ndtri, stdtrit
from scipy.stats import rankdata
from torch import Tensor

from scorefold_allocation.config import PilotConfig
from scorefold_allocation.search.fits import (
    WINDOW,
    LocalFit,
    Measure,
    from_scale,
    local_fit,
    smoothed,
    to_scale,
    variance_on_scale,
)
from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.trials import Trials


@dataclass(frozen=True)
class Band:
    """The median of a quantity over resamples, and its quantiles 5 % and 95 %."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Tensor) -> Band:
        """The band of draws (D,)."""
        low, median, high = draws.double().quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
        return cls(median, low, high)

    def holds(self, value: float) -> bool:
        """True if the value lies inside, ends included."""
        return self.low <= value <= self.high

    def summary(self) -> dict[str, float]:
        """The band as JSON."""
        return asdict(self)


def resampled_means(values: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Means (draws, k) over resampled rows of values (R, k), R seeds by k cells.

    A seed's values stay together, so that what is common to its cells cancels between them. The ratio to the mean is
    raised to the power ``stretch(R)``, so means of positive values stay positive. A single seed has no spread: (1, k).
    """
    rows = len(values)
    mean = values.mean(0, keepdim=True)
    if rows < 2:
        return mean
    index = torch.randint(rows, (draws, rows), generator=generator)
    ratio = values[index].mean(1) / mean
    return mean * ratio ** stretch(rows)


def stretch(rows: int, quantile: float = 0.95) -> float:
    """The factor by which the spread of resampled means of R >= 2 rows is widened, so that a quantile is one of
    Student's t. The quantiles 5 % and 95 % are the ends of a band of 90 %.

    Resampled means spread less than means over new seeds, by sqrt((R - 1) / R). Besides, the spread of few seeds is
    known badly: the quantile of t with R - 1 degrees of freedom is above the normal one.

    >>> [round(stretch(rows), 2) for rows in (3, 10, 100)]
    [2.17, 1.17, 1.01]
    """
    return math.sqrt(rows / (rows - 1)) * float(stdtrit(rows - 1, quantile) / ndtri(quantile))


class PilotRefusal(Exception):  # noqa: N818 - an answer, not an error
    """Reason why the trials allow no recommendation."""


@dataclass(frozen=True)
class Valley:
    """The valley at ``budget`` over increasing ``sizes`` (k), the ones that are not clearly worse.

    ``losses`` (R, k) are the losses of R seeds, and ``means`` (D, k) their means over resampled seeds. ``fit`` holds
    the minima of these D curves, and ``centre`` (one curve) the minimum of the means themselves. Both are over log n on
    the measure's scale. ``table`` has a row for each size that gave a finite loss, ``ends`` are the smallest and the
    largest of these sizes, and ``chance`` is the p-value of their order if all were equally good.
    """

    budget: float
    measure: Measure
    sizes: Tensor
    losses: Tensor
    means: Tensor
    fit: LocalFit
    centre: LocalFit
    ends: tuple[int, int]
    table: tuple[dict[str, float], ...]
    chance: float

    @property
    def edge_shares(self) -> tuple[float, float]:
        """The shares of resamples whose minimum is the smallest and the largest size of ``ends``."""
        sizes = self.fit.position.exp()
        low, high = sizes <= self.ends[0] + 1e-6, sizes >= self.ends[1] - 1e-6
        return float(low.double().mean()), float(high.double().mean())

    @property
    def is_flat(self) -> bool:
        """True if all sizes gave the same loss."""
        return len(self.table) > 1 and len({row["loss"] for row in self.table}) == 1

    @property
    def separates(self) -> bool:
        """True if seeds agree on which sizes are better, beyond chance, and the band of the best size is short of
        ``_WIDE`` of the sizes that were tried, in logarithms. Equal sizes and single seeds are not judged."""
        if len(self.losses) < 2 or self.ends[0] == self.ends[1] or self.is_flat:
            return True
        band = Band.of(self.fit.position)
        narrow = band.high - band.low < _WIDE * math.log(self.ends[1] / self.ends[0])
        return narrow and self.chance <= CHANCE

    @property
    def weight(self) -> Tensor:
        """One over the variances (k,) of the mean losses on their scale."""
        return 1 / variance_on_scale(self.losses, self.measure)

    def least(self) -> Tensor:
        """The least loss of each resample, (D,)."""
        return from_scale(self.fit.value, self.measure)

    def loss_at(self, size: float) -> Tensor:
        """The loss of each resample at a size, (D,): as fitted, or on lines between its means outside of the window."""
        x, at = self.sizes.log(), torch.tensor([size], dtype=torch.float64).log()
        y = to_scale(self.means, self.measure)
        right = int(torch.searchsorted(x, at).clamp(1, max(1, len(x) - 1)))
        if len(x) == 1:
            lines = y[:, 0]
        else:
            share = ((at - x[right - 1]) / (x[right] - x[right - 1])).clamp(0, 1)
            lines = y[:, right - 1] + share * (y[:, right] - y[:, right - 1])
        fitted = self.fit.at(at)[:, 0]
        return from_scale(torch.where(fitted.isfinite(), fitted, lines), self.measure)

    def capped_share(self, limits: Limits) -> float:
        """The share of resamples whose minimum is the largest size that this budget, and no limit, allows."""
        most = limits.most(self.budget)
        if limits.largest is not None and most + limits.step > limits.largest:
            return 0.0
        return float((self.fit.position.exp() >= most - 1e-6).double().mean())

    def near(self, share: float) -> tuple[float, float]:
        """The sizes between which the fitted loss is within ``share`` of the least; all that were tried where these
        are equal."""
        if self.is_flat:
            return float(self.ends[0]), float(self.ends[1])
        x = torch.linspace(float(self.centre.low), float(self.centre.high), 400, dtype=torch.float64)
        loss = from_scale(self.centre.at(x)[0], self.measure)
        good = x[loss <= (1 + share) * from_scale(self.centre.value, self.measure)].exp()
        return (float(good.min()), float(good.max())) if len(good) else (float(x[0].exp()), float(x[-1].exp()))

    def regret(self, trials: Trials, limits: Limits, size: int, config: PilotConfig) -> Band | None:
        """The share by which the loss of another size is above the least; None if it can't be drawn or trained.

        It is tried with the same seeds, so that what is common to both cancels.
        """
        if not self.ends[0] <= size <= limits.most(self.budget):
            return None
        losses = trials.losses([limits.cell(size, self.budget)], *rounds(config, len(self.losses)))
        if not bool(losses.isfinite().all()):
            return None
        return Band.of(_resampled(losses, trials, config)[:, 0] / self.least() - 1)


CHANCE = 0.05
"""The p-value above which chance may explain the differences between sizes."""

_WIDE = 0.75
"""The share of the sizes that were tried, in logarithms, from which a band separates none of them."""


def chance_of_order(losses: Tensor, sizes: Tensor) -> float:
    """The p-value of losses (R, k) of R seeds under the hypothesis that k sizes are equally good.

    Ranks within a seed are then random (Friedman 1937). The test takes the part of their means that is a parabola in
    log n: under the hypothesis its square over the variance, k (k + 1) / (12 R), is chi-squared with two degrees of
    freedom. Ties make it cautious. 1 for a single size.

    >>> sizes = torch.tensor([2.0, 8.0, 32.0, 128.0])
    >>> [round(chance_of_order(torch.tensor([row] * 6), sizes), 3) for row in ([4.0, 3.0, 2.0, 1.0], [1.0] * 4)]
    [0.0, 1.0]
    """
    count = losses.shape[1]
    if count < 2:
        return 1.0
    x = sizes.double().log()
    basis = torch.linalg.qr(torch.stack([x**power for power in range(min(3, count))], 1)).Q[:, 1:]
    ranks = torch.from_numpy(rankdata(losses.numpy(), axis=1)).mean(0)
    squares = (basis.T @ ranks).square().sum() * 12 * len(losses) / (count * (count + 1))
    return float(chdtrc(basis.shape[1], float(squares)))


def least_chance(seeds: int, sizes: int) -> float:
    """The least p-value that ``chance_of_order`` can have: all seeds have the smallest losses at one end, or at both.

    >>> least_chance(3, 3) > 0.04, least_chance(3, 6) < 0.01
    (True, True)
    """
    x = torch.arange(float(sizes), dtype=torch.float64)
    orders = (x, (x - x.mean()).abs())
    return min(chance_of_order(order.expand(seeds, sizes).contiguous(), 2**x) for order in orders)


def valley(trials: Trials, limits: Limits, budget: float, sizes: list[int], config: PilotConfig, seeds: int) -> Valley:
    """Try every size with the first seeds, and those that are not clearly worse with all ``seeds``; fit the minimum.

    Raises ``PilotRefusal`` where no size gives finite losses, and for a loss of 0 or less.
    """
    first, *rest = rounds(config, seeds)
    losses, left = _finite(trials, limits, budget, sizes, first)
    chance = chance_of_order(losses, torch.tensor(left))
    table = {size: _row(limits, budget, size, losses[:, i]) for i, size in enumerate(left)}
    if rest:
        left = [size for size, keep in zip(left, _contenders(losses, trials.measure), strict=True) if keep]
        losses, left = _finite(trials, limits, budget, left, first, *rest)
        table |= {size: _row(limits, budget, size, losses[:, i]) for i, size in enumerate(left)}
    means = _resampled(losses, trials, config)
    x = torch.tensor(left, dtype=torch.float64).log()
    weight = 1 / variance_on_scale(losses, trials.measure)
    fit, centre = (
        local_fit(x, to_scale(values, trials.measure), weight) for values in (means, losses.mean(0, keepdim=True))
    )
    # Sizes that the first seeds put aside are in the first test alone. Bonferroni's correction for two.
    if rest and len(left) > 1:
        chance = min(1.0, 2 * min(chance, chance_of_order(losses, x.exp())))
    if (2 if rest else 1) * least_chance(len(first), len(table)) > CHANCE:
        chance = 0.0  # so few seeds and sizes always look like chance
    rows = tuple(table[size] for size in sorted(table))
    return Valley(budget, trials.measure, x.exp(), losses, means, fit, centre, (min(table), max(table)), rows, chance)


def rounds(config: PilotConfig, seeds: int) -> list[range]:
    """The numbers of the seeds of all sizes, and of those that the better sizes are tried with further."""
    first = min(config.first_seeds, seeds)
    return [range(first), range(first, seeds)] if seeds > first else [range(first)]


def _resampled(losses: Tensor, trials: Trials, config: PilotConfig) -> Tensor:
    """Means over resampled seeds, the same resamples for all that is tried: what budgets and sizes share cancels."""
    return resampled_means(losses, config.draws, torch.Generator().manual_seed(trials.root))


def _finite(trials: Trials, limits: Limits, budget: float, sizes: list[int], *seeds: range) -> tuple[Tensor, list[int]]:
    """The losses (R, k) of the k sizes whose every loss is finite, and these sizes."""
    losses = trials.losses([limits.cell(size, budget) for size in sizes], *seeds)
    good = losses.isfinite().all(0)
    if not bool(good.any()):
        said = trials.failures[0] if trials.failures else "nothing was tried"
        raise PilotRefusal(f"no size of a task gave a finite loss for {budget:g} labels ({said})")
    kept = losses[:, good]
    if trials.measure == "loss" and bool((kept <= 0).any()):
        raise PilotRefusal(f"a trial gave the loss {float(kept.min()):.4g}; expected losses above 0")
    return kept, [size for size, keep in zip(sizes, good.tolist(), strict=True) if keep]


def _contenders(losses: Tensor, measure: Measure) -> list[bool]:
    """Sizes among k to try further, by losses (R, k): a stretch of those within two standard errors of the best one,
    and of the window around it that its fit needs.
    """
    y, variance = to_scale(losses.mean(0), measure), variance_on_scale(losses, measure)
    if len(losses) < 2:
        return [True] * len(y)
    best = int(smoothed(y[None], 1 / variance)[0].argmin())
    near = y - y[best] <= 2 * (variance + variance[best]).sqrt()
    start = max(0, min(best - WINDOW // 2, len(y) - WINDOW))
    near[start : start + WINDOW] = True
    places = near.nonzero()[:, 0]
    return [int(places[0]) <= i <= int(places[-1]) for i in range(len(y))]


def _row(limits: Limits, budget: float, size: int, losses: Tensor) -> dict[str, float]:
    generator = torch.Generator().manual_seed(size)
    band = Band.of(resampled_means(losses[:, None], 400, generator)[:, 0])
    mean = float(losses.mean())
    return {
        "budget": budget,
        "labels_per_task": size,
        "tasks": limits.tasks(size, budget),
        "loss": mean,
        "low": min(band.low, mean),
        "high": max(band.high, mean),
    }
