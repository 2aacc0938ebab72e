"""Textured blobs: their points follow their distribution, and the exact score is the score of noised points."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from scorefold.config import VPConfig
from scorefold.errors import ShapeError
from scorefold_scorevae.config import TexturedBlobsConfig
from scorefold_scorevae.textured_blobs import TexturedBlobs, blob_centres, blob_images, texture_variances
from scorefold_standard.config import AnalyticConfig
from scorefold_standard.scores import AnalyticScore
from scorefold_toolkit.distributions import log_density

F64 = torch.float64
CONFIG = TexturedBlobsConfig(points=20_000, fractions=(1, 0, 0), seed=0)
SOURCE = TexturedBlobs(CONFIG)


def around_blobs() -> Tensor:
    """The textures of the points, as cosines by scipy's own transform, (N, 8, 8)."""
    train = SOURCE.load("train")
    off = train.x[:, 0].double() - blob_images(CONFIG, train.truth["centre"].double())
    return torch.from_numpy(dctn(off.numpy(), axes=(1, 2), norm="ortho"))


def test_the_variance_around_blobs() -> None:
    """47 cosines of 0.15 and 17 of 0.002."""
    assert SOURCE.residual_variance() == pytest.approx(7.084, abs=1e-12)
    assert int((texture_variances(CONFIG) == 0.15).sum()) == 47
    squares = around_blobs().square().sum((1, 2))
    assert float(squares.mean()) == pytest.approx(7.084, abs=5 * float(squares.std()) / 20_000**0.5)


def test_textures_are_independent_cosines() -> None:
    found = around_blobs().flatten(1)
    variances = texture_variances(CONFIG).flatten()
    covariance = found.mT @ found / len(found)
    error = 5 * (variances[:, None] * variances / len(found)).sqrt() * (1 + torch.eye(64)) ** 0.5
    assert bool(((covariance - variances.diag()).abs() < error).all())


def test_blobs_are_where_they_are_said_to_be() -> None:
    centres = blob_centres(CONFIG)
    assert centres.shape == (256, 2)
    assert float(centres.min()) == 1
    assert float(centres.max()) == 6
    one = blob_images(CONFIG, torch.tensor([[2.0, 5.0]], dtype=F64))[0]
    assert float(one[2, 5]) == 1
    assert float(one[2, 4]) == pytest.approx(2 * 2.718281828459045 ** (-1 / 4.5) - 1)
    mean = SOURCE.load("train").x[:, 0].double().mean(0)
    torch.testing.assert_close(mean, SOURCE.distribution().means.mean(0).reshape(8, 8), atol=0.02, rtol=0)


def test_centres_are_found_again() -> None:
    train = SOURCE.load("train")
    off = (SOURCE.find_centres(train.x) - train.truth["centre"]).norm(dim=1)
    assert float(off.mean()) < 0.05
    noise = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shaken = (SOURCE.find_centres(train.x[:500] + noise) - train.truth["centre"][:500]).norm(dim=1)
    assert float(shaken.mean()) > 0.05
    with pytest.raises(ShapeError, match=r"expected \(B, 1, 8, 8\)"):
        SOURCE.find_centres(torch.zeros(2, 8, 8))


def mixture(t: float) -> torch.distributions.Distribution:
    """The distribution of events noised to t under the prior's process, put together by torch from its definition."""
    time = torch.tensor([t], dtype=F64)
    signal, scale = map(float, exact_prior().process.coefficients(torch.zeros(1, 1, 8, 8, dtype=F64), time))
    distribution = SOURCE.distribution()
    covariance = (
        signal** 2 * distribution.basis @ distribution.variances.diag() @ distribution.basis.mT
        + scale** 2 * torch.eye(64, dtype=F64)
    )
    parts = torch.distributions.MultivariateNormal(signal * distribution.means, covariance)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(256, dtype=F64)), parts)


def exact_prior() -> AnalyticScore:
    return AnalyticScore(AnalyticConfig(process=VPConfig(t_min=1e-3)), data=SOURCE, dtype=F64)


@pytest.mark.parametrize("t", [1e-3, 0.05, 0.3, 0.9])
def test_the_exact_score_is_that_of_the_mixture(t: float) -> None:
    prior = exact_prior()
    noise = torch.randn(6, 1, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(1))
    times = torch.full((6,), t, dtype=F64)
    x = prior.process.perturb(SOURCE.load("train").x[:6].double(), times, noise).requires_grad_()
    density = mixture(t).log_prob(x.flatten(1))
    (gradient,) = torch.autograd.grad(density.sum(), x)
    torch.testing.assert_close(prior.noised_log_prob(x, times), density, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(prior.score(x, times), gradient, rtol=1e-8, atol=1e-8)


def test_its_denoiser_takes_the_mean_square_to_the_least() -> None:
    """E |x_0 - E[x_0 | x_t]|^2: what it is off by does not follow x_t, and one scaled by 2 % is worse."""
    prior = exact_prior()
    x0 = SOURCE.load("train").x.double()
    noise = torch.randn(x0.shape, dtype=F64, generator=torch.Generator().manual_seed(2))
    times = torch.full((len(x0),), 0.25, dtype=F64)
    x = prior.process.perturb(x0, times, noise)
    found = prior.denoise(x, times)
    off = ((x0 - found) * x).flatten(1).sum(1)
    assert abs(float(off.mean())) < 5 * float(off.std()) / len(x0) ** 0.5
    least = (x0 - found).square().sum((1, 2, 3)).mean()
    for factor in (0.98, 1.02):
        assert float((x0 - factor * found).square().sum((1, 2, 3)).mean()) > float(least)


def test_points_have_the_entropy_of_the_distribution() -> None:
    """The mean of log p(x) is one Gaussian's less log 256 where blobs are separate."""
    values = log_density(SOURCE.distribution(), SOURCE.load("train").x[:2000].flatten(1))
    assert values is not None
    apart = -0.5 * (SOURCE.distribution().variances * 2 * torch.pi * 2.718281828459045).log().sum() - torch.log(
        torch.tensor(256)
    )
    error = 5 * float(values.std()) / 2000**0.5
    assert float(apart) - error < float(values.mean()) < float(apart) + 1.0


def test_one_seed_gives_one_set() -> None:
    first, again, other = (
        TexturedBlobs(TexturedBlobsConfig(points=30, seed=seed)).load("test").x for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
