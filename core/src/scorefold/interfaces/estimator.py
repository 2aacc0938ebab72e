"""Estimators: a number about data, with its uncertainty."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces.model import Shown
from scorefold.results import Estimate


class Estimator(Shown, ABC):
    """Estimates a quantity of a data set, such as its intrinsic dimension.

    Must: ``estimate``. May: ``point_estimate``, where the interval costs much of the time.

    >>> class Rank(Estimator):
    ...     def estimate(self, data, *, generator=None):
    ...         return Estimate("rank", float(torch.linalg.matrix_rank(data)))
    >>> Rank().estimate(torch.ones(9, 3)).value
    1.0
    """

    @abstractmethod
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate from data (N, *E), a tensor or a data set, streamed where it is large. Raises
        ``DataError`` for too few points, naming how many are needed."""

    def point_estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate without what is only needed for its interval, for callers that call it many times. The value is
        that of ``estimate``. Raises as it does.
        """
        return self.estimate(data, generator=generator)
