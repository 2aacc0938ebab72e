"""Dimension by principal components, by thresholds or as the rank of a probabilistic PCA."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_neighbours.config import PCAConfig, PPCAConfig
from scorefold_neighbours.estimators.points import (
    QUANTITY,
    as_rows,
    estimate_generator,
    interval_by_halves,
    points_and_positions,
    sample_note,
    sampled_points,
)

IN_MEMORY = 10_000
"""The most points that are held in memory. More points are read in batches, for their moments."""

_BATCH = 2**22
"""Coordinates of a batch."""


class _OfComponents(Estimator):
    """An estimate with an interval from resamples of the config, and without one where only the value is asked for."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for fewer than 3 points, and for points that the method does not take."""
        return self._estimate(data, generator, self.config.resamples)

    def point_estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return self._estimate(data, generator, 0)

    @abstractmethod
    def _estimate(self, data: Tensor | Dataset, generator: torch.Generator | None, resamples: int) -> Estimate:
        """The estimate, with an interval if there are resamples."""


class PCAEstimator(_OfComponents):
    """The number of principal components that the points need, by the rule of the config.

    More than 10,000 points are read batch by batch, and never held together. The variances then come from their
    covariance, summed in float64, and count as 0 below 1e-14 D of the largest. ``spectrum`` (1, D) holds the variances
    of the components, largest first.

    The interval is the percentile interval of the bootstrap over points. Of more than 10,000 points it uses 10,000 at
    random, which makes it wider. It is widened to hold the value: resamples repeat points, so with few points they hold
    fewer components than the points themselves.

    >>> from scorefold_registry import Host
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.01])
    >>> Host.discover().create("estimator:pca").estimate(x).value
    2.0
    """

    def _estimate(self, data: Tensor | Dataset, generator: torch.Generator | None, resamples: int) -> Estimate:
        config: PCAConfig = self.config
        draws = estimate_generator(generator)
        points, positions = sampled_points(data, config.limit, draws, least=3, who="PCA")
        note = ""
        if len(points) <= IN_MEMORY:
            x = as_rows(points, positions)
            variances = component_variances(x)
        else:
            variances = variances_by_batches(points, positions)
            if resamples:
                x, _ = points_and_positions(points, IN_MEMORY, draws, least=3, who="PCA")
                note = f"the interval is for {len(x):,} points"
        value = count_components(variances, config)
        resampled = []
        for _ in range(resamples):
            rows = torch.randint(len(x), (len(x),), generator=draws)
            resampled.append(count_components(component_variances(x[rows]), config))
        interval = None
        if resampled:
            tails = torch.tensor([(1 - config.level) / 2, (1 + config.level) / 2], dtype=torch.float64)
            low, high = torch.tensor(resampled, dtype=torch.float64).quantile(tails).tolist()
            interval = (min(low, value), max(high, value))
        return Estimate(
            quantity=QUANTITY,
            value=value,
            interval=interval,
            covers="points",
            level=config.level,
            spectrum=variances[None],
            diagnostics={"rule": config.rule, "points": len(points), **sample_note(len(points), len(data), note)},
        )


def variances_by_batches(points: Dataset, positions: Tensor) -> Tensor:
    """The variances (D,) of the principal components of many points, largest first, from one pass over them.

    The covariance is summed in float64 about the mean, batch by batch (Chan, Golub and LeVeque 1983), so data far from
    0 lose nothing. Raises ``DataError`` for points that aren't finite, by their ``positions`` (n,) in the data.
    """
    columns = math.prod(points.event_shape)
    count, mean = 0, torch.zeros(columns, dtype=torch.float64)
    squares = torch.zeros(columns, columns, dtype=torch.float64)
    for batch in points.batches(max(1, _BATCH // columns)):
        total = count + len(batch)
        x = as_rows(batch, positions[count:total])
        own = x.mean(0)
        x, apart = x - own, own - mean
        squares += x.T @ x + torch.outer(apart, apart) * (count * len(batch) / total)
        mean += apart * (len(batch) / total)
        count = total
    variances: Tensor = torch.linalg.eigvalsh(squares / (count - 1)).flip(0)
    variances[variances <= 1e-14 * columns * variances[0]] = 0
    return variances


def component_variances(x: Tensor) -> Tensor:
    """The variances (D,) of the principal components of points (n, D), largest first; rounding errors become 0."""
    singular: Tensor = torch.linalg.svdvals(x - x.mean(0))
    singular[singular <= max(x.shape) * torch.finfo(x.dtype).eps * singular.max()] = 0
    variances = x.new_zeros(x.shape[1])
    variances[: len(singular)] = singular**2 / (len(x) - 1)
    return variances


def count_components(variances: Tensor, config: PCAConfig) -> float:
    """The number of components that a rule keeps of ``variances`` (D,), largest first; 0 where nothing varies."""
    total = float(variances.sum())
    if total == 0:
        return 0.0
    if config.rule == "ratio":
        held = variances.cumsum(0) / total
        return float((held < config.ratio - 1e-12).sum()) + 1
    if config.rule == "fukunaga-olsen":
        return float((variances > config.share * variances[0]).sum())
    if config.rule == "participation":
        return total**2 / float((variances**2).sum())
    return _before_largest_gap(variances)


def _before_largest_gap(variances: Tensor) -> float:
    positive = variances[variances > 0]
    if len(positive) < len(variances):
        return float(len(positive))  # the ratio to a variance of 0 is the largest of all
    if len(positive) == 1:
        return 1.0
    return float((positive[:-1] / positive[1:]).argmax()) + 1


class PPCAEstimator(_OfComponents):
    """The number of principal components with the largest evidence: scikit-learn's ``PCA(n_components="mle")``.

    It is at most D - 1, and counts the directions that the points span, which are more than the dimension of a curved
    manifold. ``spectrum`` (1, D) holds the variances of all components, largest first. The interval is over random
    halves of the points, and None where a half has fewer points than coordinates. Fewer points than coordinates, and
    points that are all equal, raise ``DataError``.

    >>> from scorefold_registry import Host
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 1.0])
    >>> Host.discover().create("estimator:ppca", {"resamples": 0}).estimate(x).value
    1.0
    """

    def _estimate(self, data: Tensor | Dataset, generator: torch.Generator | None, resamples: int) -> Estimate:
        config: PPCAConfig = self.config
        draws = estimate_generator(generator)
        x, _ = points_and_positions(data, config.limit, draws, least=3, who="PPCA")
        ambient = x.shape[1]
        if len(x) < ambient:
            raise DataError(
                f"PPCA needs at least as many points as coordinates, {ambient}; {len(x)} were given",
                hint="give more points, or use estimator:pca, which takes any number",
            )
        if float((x - x.mean(0)).abs().max()) == 0:
            raise DataError("all points are equal: a probabilistic PCA of them has no evidence")
        value = _rank(x)
        halves = resamples if len(x) // 2 >= max(3, ambient) else 0
        interval = interval_by_halves(lambda half: _rank(x[half]), len(x), halves, config.level, value, draws)
        return Estimate(
            quantity=QUANTITY,
            value=value,
            interval=interval,
            covers="points",
            level=config.level,
            spectrum=component_variances(x)[None],
            diagnostics={"points": len(x), **sample_note(len(x), len(data))},
        )


def _rank(x: Tensor) -> float:
    from sklearn.decomposition import PCA  # most estimators here need no scikit-learn, which takes a second to import

    return float(PCA(n_components="mle", svd_solver="full").fit(x.numpy()).n_components_)
