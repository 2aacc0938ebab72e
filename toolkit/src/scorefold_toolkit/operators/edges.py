"""The edges of an image: an operator that is not linear, so it has no adjoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold_toolkit.libraries import library
from scorefold_toolkit.operators.base import Operator

_LUMA = (0.299, 0.587, 0.114)


class Edges(Operator):
    """Canny's edge map (1986) of an image (C, H, W), 1 on edges and 0 elsewhere: (1, H, W).

    The image is brought from [low, high] to [0, 1], made grey (Rec. 601 luma of three channels, else their mean), and
    blurred by a Gaussian of ``sigma`` pixels; ``low_threshold`` and ``high_threshold`` are for its Sobel gradient
    with 255 for white, as the conditional score papers state them. No gradient passes. Needs scikit-image: raises
    ``ScorefoldError`` where it is missing.

    >>> image = torch.zeros(1, 1, 8, 8)
    >>> image[..., 3], image[..., 4:] = 0.5, 1.0
    >>> Edges((1, 8, 8))(image)[0, 0, 3]
    tensor([0., 0., 0., 1., 0., 0., 0., 0.])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        *,
        sigma: float = 0.5,
        low_threshold: float = 10.0,
        high_threshold: float = 100.0,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(in_shape, (1, *in_shape[1:]))
        self.sigma, self.thresholds = sigma, (low_threshold / 255, high_threshold / 255)
        self.low, self.high = low, high
        with library("an operator of edges", "scorefold-toolkit[images]"):
            from skimage.feature import canny
        self._canny = canny

    def _apply(self, x: Tensor) -> Tensor:
        channels = self.in_shape[0]
        weights = torch.tensor(_LUMA if channels == 3 else [1 / channels] * channels, dtype=torch.float64)
        unit = (x.detach().cpu().double() - self.low) / (self.high - self.low)
        grey = (unit * weights[:, None, None]).sum(1).clamp(0, 1)
        low, high = self.thresholds
        maps = [
            torch.from_numpy(self._canny(image.numpy(), sigma=self.sigma, low_threshold=low, high_threshold=high))
            for image in grey
        ]
        return torch.stack(maps)[:, None].to(x) if maps else x.new_zeros(0, *self.out_shape)

    def out_range(self, data_range: float) -> float:
        return 1.0
