"""Precision, recall, density and coverage: whether samples lie among held-out points, and these among samples."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import ConditionSpec
from scorefold.errors import DataError
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_toolkit.metrics.neighbours import neighbour_measures
from scorefold_verbs.config.metrics import NeighboursConfig

MOST = 10_000
"""The most points of each set that distances are taken between."""


class Neighbours(Metric):
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), of coordinates.

    A ball around a point reaches to its k-th nearest neighbour in its own set. Precision is the share of samples in a
    ball of a held-out point, recall the share of held-out points in a ball of a sample; density the mean number of
    balls of held-out points that a sample lies in, over k; coverage the share of held-out points with a sample in their
    ball. Samples of the right distribution have density 1, and coverage 1 - prod_{i<k} (n - 1 - i) / (2 n - 1 - i)
    with n points in each set; the other two depend on the distribution. The first sample for each point counts.

    >>> from scorefold_registry import Host
    >>> measure = Host.discover().create("metric:neighbours").start(Units(low=0.0, high=1.0), (2,), None)
    >>> truth, samples = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0))
    >>> measure.add(EvaluationBatch(truth, draws=samples[None]))
    >>> {name: round(value, 1) for name, value in measure.metrics().items()}
    {'precision': 1.0, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    """

    def __init__(self, config: NeighboursConfig) -> None:
        self.config = config

    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
        return _Balls(self.config.precision_neighbours, self.config.density_neighbours)


class _Balls(Measure):
    def __init__(self, precision_neighbours: int, density_neighbours: int) -> None:
        self.first, self.second = precision_neighbours, density_neighbours
        self._truths: list[Tensor] = []
        self._samples: list[Tensor] = []

    def add(self, batch: EvaluationBatch) -> None:
        self._truths.append(batch.truth.flatten(1).double().cpu())
        self._samples.append(batch.draws[0].flatten(1).double().cpu())

    def metrics(self) -> dict[str, float]:
        truths, samples = torch.cat(self._truths)[:MOST], torch.cat(self._samples)[:MOST]
        most = max(self.first, self.second)
        if len(truths) <= most:
            raise DataError(
                f"{len(truths)} held-out points have no {most} neighbours each",
                hint="take more of them (options: conditions), or fewer neighbours",
            )
        within = torch.cdist(truths, truths), torch.cdist(samples, samples)
        return neighbour_measures(torch.cdist(samples, truths), *within, self.first, self.second)
