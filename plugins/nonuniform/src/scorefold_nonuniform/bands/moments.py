"""Statistics of the data's coefficients in a model: their mean and variance, and the deviation of each band."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefold.data import EventScale
from scorefold.diffusion import PerComponent
from scorefold_nonuniform.bands.coefficients import Bands


class Moments(nn.Module):
    """The mean and variance of each coefficient, (*E), and the deviation of each band about its mean, (bands,).

    Until ``take`` has seen data they are those of white events of the data's mean and deviation, or of mean 0 where
    ``centred`` is False.
    """

    mean: Tensor
    variance: Tensor
    deviations: Tensor

    def __init__(self, bands: Bands, scale: EventScale, *, centred: bool = True) -> None:
        super().__init__()
        level = torch.full((1, *bands.event_shape), scale.mean if centred else 0.0)
        self.register_buffer("mean", bands.transform(level)[0].detach().clone())
        self.register_buffer("variance", torch.full(bands.event_shape, scale.std**2))
        self.register_buffer("deviations", torch.full((len(bands),), scale.std))

    @classmethod
    def of(cls, bands: Bands, x: Tensor) -> Moments:
        """Those of points x (N, *E)."""
        z = bands.transform(x).detach()
        found = cls(bands, EventScale()).to(z)
        found.mean, found.variance = z.mean(0), z.var(0, correction=0)
        index = bands.index.flatten()
        total = torch.zeros_like(found.deviations).index_add_(0, index, found.variance.flatten())
        found.deviations = (total / torch.bincount(index, minlength=len(bands)).to(z)).sqrt()
        return found

    def take(self, other: Moments) -> None:
        """Takes over the moments that were found."""
        self.load_state_dict(other.state_dict())

    def agree(self, other: Moments) -> bool:
        """True if these are the moments of the same data, but for the rounding of another machine."""
        mean, variance = other.mean.to(self.mean), other.variance.to(self.mean)
        slack = 1e-3 * (self.variance + 1e-6 * self.variance.max())
        close = ((variance - self.variance).abs() <= slack) & ((mean - self.mean) ** 2 <= 1e-3 * slack)
        return bool(close.all())

    def still(self) -> list[int]:
        """The bands that are the same in all points, or differ by rounding alone."""
        floor = 1e-6 * float(self.deviations.max())
        return [band for band, deviation in enumerate(self.deviations.tolist()) if deviation <= floor]

    def match_boundaries(self, process: PerComponent) -> None:
        """Gives every component of a process a normal prior with the mean and variance that such data have at its
        end."""
        signal, scale = (
            value[0] for value in process.coefficients(self.mean[None], self.mean.new_full((1,), process.t_max))
        )
        process.set_prior(signal * self.mean, (signal**2 * self.variance + scale**2).sqrt())
