"""Periodic Gaussian fields: images whose distribution, and whose score in any bands at any speeds, have a closed
form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion import DiffusionProcess
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_nonuniform.bands.coefficients import Bands
from scorefold_nonuniform.bands.transforms import SeparableTransform, fourier_frequencies, fourier_matrix
from scorefold_nonuniform.config import GaussianFieldConfig
from scorefold_toolkit.data.manifolds import Draw, seeded_normal, splits_of
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed
from scorefold_toolkit.distributions import Distribution, SubspaceGaussian


class GaussianField(DataSource, KnowsDistribution):
    """Images (1, n, n) of a stationary, isotropic Gaussian field on a torus; ``truth`` holds ``dimension``, n^2.

    Its real Fourier coefficients are independent, with variances that are proportional to (1 + |k|^2)^-decay, k in
    cycles an image, and have mean 1.

    >>> from scorefold_registry import Host
    >>> Host.discover().create("data:gaussian-field", {"size": 8, "points": 200}).load("train").x.shape
    torch.Size([160, 1, 8, 8])
    """

    def __init__(self, config: GaussianFieldConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        shape = (1, config.size, config.size)
        power = field_power(config.size, config.decay)
        waves = SeparableTransform(shape, fourier_matrix)
        basis = torch.eye(config.size**2, dtype=torch.float64).reshape(-1, *shape)
        mean = torch.full((config.size**2,), config.mean, dtype=torch.float64)
        self._distribution = SubspaceGaussian(mean, waves.inverse(basis).flatten(1).mT, power.flatten())
        x = config.mean + waves.inverse(power.sqrt() * seeded_normal((config.points, *shape), seed, "points"))
        drawn = Draw(x, config.size**2, distribution=self._distribution)
        self._splits = splits_of(drawn, noise_std=0.0, fractions=config.fractions, seed=seed)
        self.event_shape = shape
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def distribution(self) -> SubspaceGaussian:
        return self._distribution


def field_power(size: int, decay: float) -> Tensor:
    """The variances (size, size) of the coefficients of ``fourier_matrix`` over rows and columns, of mean 1."""
    k = fourier_frequencies(size)
    power = (1 + k[:, None] ** 2 + k**2) ** -decay
    return power / power.mean()


def coefficient_moments(distribution: Distribution | None, bands: Bands) -> tuple[Tensor, Tensor]:
    """The mean (D,) and the covariance (D, D) of the flattened coefficients of a Gaussian distribution, in float64.

    Raises ``ConfigError`` for another distribution.
    """
    if not isinstance(distribution, SubspaceGaussian):
        raise ConfigError(
            f"a distribution of {type(distribution).__name__} was given; closed forms in bands need a Gaussian",
            hint="take data:gaussian-field, or data:subspace",
        )

    def rotated(rows: Tensor) -> Tensor:
        result: Tensor = bands.transform(rows.reshape(-1, *bands.event_shape)).flatten(1).detach()
        return result

    factor = rotated(distribution.basis.mT * distribution.variances.sqrt()[:, None])
    return rotated(distribution.mean[None])[0], factor.mT @ factor


@dataclass(frozen=True, eq=False)
class ActiveGaussian:
    """The active coefficients of a Gaussian distribution: positions (K,), ``mean`` (K,) and ``covariance`` (K,
    K)."""

    positions: Tensor
    mean: Tensor
    covariance: Tensor
    process: DiffusionProcess

    @classmethod
    def of(
        cls, distribution: Distribution | None, bands: Bands, process: DiffusionProcess, scale: int
    ) -> ActiveGaussian:
        """Raises ``ConfigError`` for a distribution that is not Gaussian."""
        mean, covariance = coefficient_moments(distribution, bands)
        positions = torch.nonzero(bands.index.flatten() >= scale).flatten()
        return cls(positions, mean[positions], covariance[positions][:, positions], process)

    def at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Signal (B, K), scale (B, K) and the inverse (B, K, K) of D_a S D_a + D_s at times t (B,); ``like`` (B, *E)
        lends its shape."""
        parts = (part.expand(like.shape).flatten(1) for part in self.process.coefficients(like, t))
        signal, scale = (part[:, self.positions] for part in parts)
        marginal = signal[:, :, None] * self.covariance.to(like) * signal[:, None, :] + torch.diag_embed(scale**2)
        factor: Tensor = torch.linalg.cholesky(marginal)
        return signal, scale, torch.cholesky_inverse(factor)


def gaussian_score(
    distribution: Distribution | None, bands: Bands, process: DiffusionProcess, scale: int = 0
) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact score of the coefficients that are active on a scale, (z (B, *E), t (B,)) -> (B, *E).

    -(D_a S_A D_a + D_s)^-1 (z_A - D_a m_A) where m and S are the moments of the data's coefficients, D_a and D_s the
    signals and squared scales of ``process``, whose components are the coefficients; 0 for dropped ones. ``scale`` 0
    has all of them active: the score of a process that drops none. Raises ``ConfigError`` for a distribution that is
    not Gaussian.
    """
    active = ActiveGaussian.of(distribution, bands, process, scale)

    def score(z: Tensor, t: Tensor) -> Tensor:
        once = t[:1] if t.numel() > 1 and t.stride(0) == 0 else t  # samplers give one time broadcast
        signal, _, precision = active.at(once, z[: len(once)])
        centred = z.flatten(1)[:, active.positions] - signal * active.mean.to(z)
        rows = centred @ precision[0] if len(once) == 1 else torch.einsum("bi,bij->bj", centred, precision)
        return torch.zeros_like(z).flatten(1).index_copy(1, active.positions, -rows).reshape(z.shape)

    return score


def least_noise_loss(
    distribution: Distribution | None, bands: Bands, process: DiffusionProcess, t: Tensor, scale: int = 0
) -> Tensor:
    """The smallest E ||eps-hat - eps||^2 over the active coefficients at times t (B,), in float64: (B,).

    The loss is least for eps-hat = E[eps | z_A], where it is K - tr(D_s (D_a S_A D_a + D_s)^-1) for K active
    coefficients. Raises ``ConfigError`` for a distribution that is not Gaussian.
    """
    active = ActiveGaussian.of(distribution, bands, process, scale)
    like = torch.zeros(len(t), *bands.event_shape, dtype=torch.float64, device=t.device)
    _, noise, precision = active.at(t.double(), like)
    return (1 - noise**2 * precision.diagonal(dim1=1, dim2=2)).sum(1)
