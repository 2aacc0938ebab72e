"""Estimators: a number about data, with its uncertainty."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.results import Estimate


class Estimator(ABC):
    """Estimates a quantity of a data set, such as its intrinsic dimension.

    Must: ``estimate``.
    """

    @abstractmethod
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate from data (N, *E), a tensor or a data set, streamed where it is large.

        Raises ``DataError`` for too few points, naming how many are needed.
        """
