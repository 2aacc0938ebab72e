"""The intrinsic dimension of features during a training, as a metric of torchmetrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.errors import DataError, PluginError
from scorefold.interfaces import Estimator
from scorefold_neighbours.config import MLEConfig
from scorefold_neighbours.estimators.estimator import NeighbourEstimator

if TYPE_CHECKING:
    from torchmetrics import Metric


def dimension_metric(estimator: Estimator | None = None, **settings: Any) -> Metric:
    """A metric of the intrinsic dimension of all features since its ``reset``, over all processes.

    Its ``update`` takes a batch (B, *E). Its ``compute`` returns the estimate as a scalar in float64, NaN where the
    estimator gives no number. ``estimator`` needs data alone; without one it is maximum likelihood with 20 neighbours.
    ``settings`` are keywords of ``torchmetrics.Metric``. Features are held in memory on the CPU. Estimators from
    neighbours count features that come twice, as in two epochs without ``reset``, once.

    Raises ``PluginError`` where torchmetrics is not installed.

    In a validation loop, with features (B, E) of an encoder::

        metric = dimension_metric()
        for batch in loader:
            metric.update(encoder(batch))
        print(metric.compute())
    """
    try:
        from torchmetrics import Metric
    except ImportError as error:
        raise PluginError(
            "a metric of torchmetrics needs torchmetrics, which is not installed",
            hint="pip install 'scorefold-neighbours[torchmetrics]'",
        ) from error
    used = estimator or NeighbourEstimator(MLEConfig(resamples=0))

    class IntrinsicDimension(Metric):  # type: ignore[misc]
        full_state_update = False
        higher_is_better = None
        is_differentiable = False
        features: list[Tensor]

        def __init__(self) -> None:
            super().__init__(**settings)
            self.add_state("features", default=[], dist_reduce_fx="cat")

        def update(self, features: Tensor) -> None:
            self.features.append(features.detach().flatten(1))

        def compute(self) -> Tensor:
            points = torch.cat(self.features) if isinstance(self.features, list) else self.features
            try:
                value = used.estimate(points.cpu()).number()
            except DataError:
                value = math.nan
            return torch.tensor(value, dtype=torch.float64)

    return IntrinsicDimension()
