"""The Gaussian field: its points, its distribution, and its exact score in bands, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import LinearLogSNR, PerComponent
from scorefold.errors import ConfigError
from scorefold_nonuniform.bands.coefficients import Bands, build_bands
from scorefold_nonuniform.config import (
    DCTBandsConfig,
    FourierBandsConfig,
    GaussianFieldConfig,
    HaarBandsConfig,
    PCABandsConfig,
)
from scorefold_nonuniform.gaussian_field import (
    GaussianField,
    coefficient_moments,
    field_power,
    gaussian_score,
    least_noise_loss,
)
from scorefold_toolkit.distributions import Points, SubspaceGaussian, log_density

F64 = torch.float64


def speeds(bands: Bands) -> PerComponent:
    ends = torch.arange(1, len(bands) + 1, dtype=F64) / len(bands)
    return PerComponent(bands.event_shape, LinearLogSNR(t_end=ends), blocks=bands.index)


def test_its_covariance_is_that_of_its_power() -> None:
    """Cov(x_a, x_b) is the inverse Fourier transform of the power at the difference, with 1 at 0: stationary."""
    size = 6
    distribution = GaussianField(GaussianFieldConfig(size=size, points=10)).distribution()
    covariance = distribution.basis @ distribution.variances.diag() @ distribution.basis.mT
    frequency = torch.fft.fftfreq(size, dtype=F64) * size
    kernel = torch.fft.ifft2((1 + frequency[:, None] ** 2 + frequency**2) ** -1.5).real
    kernel = kernel / kernel[0, 0]
    expected = torch.stack([kernel.roll((row, column), (0, 1)).flatten() for row in range(6) for column in range(6)])
    torch.testing.assert_close(covariance, expected)
    white = field_power(4, 0.0)
    torch.testing.assert_close(white, torch.ones_like(white))


def test_its_points_follow_its_distribution() -> None:
    """Variances of the Fourier coefficients and the log-density of 20,000 points, to five standard errors."""
    field = GaussianField(GaussianFieldConfig(size=4, mean=0.5, points=20_000, fractions=(1, 0, 0), seed=3))
    x, distribution = field.load("train").x.double().flatten(1), field.distribution()
    coefficients = (x - 0.5) @ distribution.basis
    error = 5.5 * distribution.variances * (2 / len(x)) ** 0.5
    assert bool((coefficients.var(0) - distribution.variances).abs().lt(error).all())
    values = log_density(distribution, x)
    assert values is not None
    entropy = 0.5 * (distribution.variances.log() + 1 + torch.log(torch.tensor(2 * torch.pi))).sum()
    assert float((values.mean() + entropy).abs()) < 5 * float(values.std()) / len(x) ** 0.5
    assert field.event_shape == (1, 4, 4)
    assert field.event_scale.mean == pytest.approx(0.5, abs=0.05)


def test_one_seed_gives_one_field() -> None:
    first, again = (GaussianField(GaussianFieldConfig(size=4, points=20, seed=5)).load("test").x for _ in range(2))
    assert torch.equal(first, again)


def log_normal(z: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(z)


@pytest.mark.parametrize(
    "config",
    [HaarBandsConfig(levels=2), DCTBandsConfig(levels=1), FourierBandsConfig(rings=2), PCABandsConfig(groups=3)],
    ids=str,
)
def test_scores_are_gradients_of_marginals(config, generator) -> None:
    """On every scale, at one time for all points and at a time each; dropped coefficients have none."""
    field = GaussianField(GaussianFieldConfig(size=4, mean=0.7, points=300, seed=0))
    bands = build_bands(config, field.event_shape).double()
    bands.prepare(field.load("train").x.double())
    process, distribution = speeds(bands), field.distribution()
    mean, covariance = coefficient_moments(distribution, bands)
    z = torch.randn(5, 1, 4, 4, generator=generator, dtype=F64)
    for scale in range(len(bands)):
        score, active = gaussian_score(distribution, bands, process, scale), bands.index.flatten() >= scale
        for t in (torch.tensor([0.2], dtype=F64).expand(5), torch.linspace(0.05, 0.3, 5, dtype=F64)):
            point = z.clone().requires_grad_()
            total = point.new_zeros(())
            for k in range(5):
                signal, noise = (part[0].flatten()[active] for part in process.coefficients(z[:1], t[k : k + 1]))
                marginal = signal[:, None] * covariance[active][:, active] * signal + torch.diag(noise**2)
                total = total + log_normal(point[k].flatten()[active], signal * mean[active], marginal)
            torch.testing.assert_close(score(z, t), torch.autograd.grad(total, point)[0], rtol=1e-9, atol=1e-9)


def test_the_least_loss_is_that_of_the_exact_score(generator) -> None:
    """E ||eps-hat - eps||^2 on each scale by 40,000 draws, to five standard errors."""
    field = GaussianField(GaussianFieldConfig(size=4, points=40_000, fractions=(1, 0, 0), seed=0))
    bands = build_bands(HaarBandsConfig(levels=1), field.event_shape).double()
    process, distribution = speeds(bands), field.distribution()
    z0 = bands.transform(field.load("train").x.double())
    for scale in range(2):
        t = torch.tensor([0.3], dtype=F64)
        noise = torch.randn(z0.shape, generator=generator, dtype=F64)
        z, times = process.perturb(z0, t.expand(len(z0)), noise), t.expand(len(z0))
        guess = -process.coefficients(z0[:1], t)[1] * gaussian_score(distribution, bands, process, scale)(z, times)
        losses = ((guess - noise) ** 2 * (bands.index >= scale)).flatten(1).sum(1)
        least = float(least_noise_loss(distribution, bands, process, t, scale)[0])
        assert float(losses.mean()) == pytest.approx(least, abs=5 * float(losses.std()) / len(z0) ** 0.5)


def test_the_distribution_must_be_gaussian() -> None:
    bands = build_bands(HaarBandsConfig(levels=1), (1, 4, 4))
    for distribution in (None, Points(torch.zeros(1, 16, dtype=F64))):
        with pytest.raises(ConfigError, match="Gaussian"):
            gaussian_score(distribution, bands, speeds(bands))


def test_moments_of_a_subspace_need_no_full_rank() -> None:
    basis = torch.linalg.qr(torch.randn(16, 2, dtype=F64)).Q
    distribution = SubspaceGaussian(torch.zeros(16, dtype=F64), basis, torch.tensor([2.0, 0.5], dtype=F64))
    covariance = coefficient_moments(distribution, build_bands(HaarBandsConfig(levels=1), (1, 4, 4)))[1]
    assert float(covariance.trace()) == pytest.approx(2.5)
    assert int(torch.linalg.matrix_rank(covariance)) == 2
