"""Closed-form scores: against autograd of their own densities, scipy's Bessel functions, quadrature and each other."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import gammaln, ive
from torch import Tensor

from scorefold.config import SubVPConfig, VEConfig, VPConfig
from scorefold.data import Dataset, EventScale
from scorefold.diffusion.process import Isotropic
from scorefold.errors import DataError, ShapeError
from scorefold.interfaces import DataSource, TensorSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_standard.config import AnalyticConfig
from scorefold_standard.manifolds.config import SphereConfig, TorusConfig
from scorefold_standard.manifolds.synthetic import DensityManifold
from scorefold_standard.noised_distributions import (
    NoisedSubspaceGaussian,
    bessel_ratio_over_argument,
    log_bessel_normalised,
    noised_distribution,
)
from scorefold_standard.scores import AnalyticScore
from scorefold_toolkit.distributions import (
    Distribution,
    Embedded,
    Mixture,
    Points,
    Product,
    SharedGaussians,
    SphereDistribution,
    SubspaceGaussian,
    log_density,
    translated,
)

D = 7
PROCESSES = [VEConfig(sigma_min=0.01, sigma_max=10), VPConfig(), SubVPConfig()]


class DistributionSource(DataSource, KnowsDistribution):
    """A distribution with a few points drawn from it, as events of any shape."""

    def __init__(self, distribution: Distribution, event_shape: tuple[int, ...], train: Tensor | None = None) -> None:
        self._distribution = distribution
        self.event_scale = EventScale()
        self.event_shape = event_shape
        self._train = train

    def distribution(self) -> Distribution:
        return self._distribution

    def load(self, split: str) -> Dataset:
        assert split == "train"
        assert self._train is not None
        return Dataset(self._train)


def basis(rank: int, seed: int, ambient: int = D) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns: Tensor = torch.linalg.qr(torch.randn(ambient, rank, dtype=torch.float64, generator=generator)).Q
    return columns


def distributions() -> dict[str, Distribution]:
    generator = torch.Generator().manual_seed(3)
    centre = torch.randn(D, dtype=torch.float64, generator=generator)
    gaussian = SubspaceGaussian(centre, basis(3, 1), torch.tensor([2.0, 0.5, 1e-3], dtype=torch.float64))
    sphere = SphereDistribution(-centre, basis(4, 2), 1.5)
    points = Points(torch.randn(20, D, dtype=torch.float64, generator=generator))
    point = SubspaceGaussian(centre, basis(0, 1), torch.zeros(0, dtype=torch.float64))
    weights = torch.tensor([0.2, 0.3, 0.4, 0.1], dtype=torch.float64)
    return {
        "subspace": gaussian,
        "full rank": SubspaceGaussian(centre, basis(D, 4), torch.linspace(0.1, 2, D, dtype=torch.float64)),
        "point": point,
        "sphere": sphere,
        "circle": SphereDistribution(centre, basis(2, 6), 0.7),
        "two points": SphereDistribution(centre, basis(1, 6), 0.7),
        "noisy sphere": SphereDistribution(centre, basis(3, 7), 1.0, noise_std=0.2),
        "points": points,
        "shared Gaussians": SharedGaussians(points.x[:5], basis(D, 4), torch.linspace(0, 2, D, dtype=torch.float64)),
        "mixture": Mixture(weights, (gaussian, sphere, points, point)),
        "product": Product(
            (SphereDistribution(centre[:3], torch.eye(3, 2, dtype=torch.float64), 1.1), Points(points.x[:, 3:]))
        ),
        "embedded": Embedded(
            SphereDistribution(centre[:3], torch.eye(3, dtype=torch.float64), 0.9), centre, basis(3, 8)
        ),
    }


@pytest.mark.parametrize("order", [-0.5, 0, 0.5, 4.5, 24.5, 47.5, 60])
def test_bessel_functions_agree_with_scipy(order: float) -> None:
    x = torch.logspace(-2, 7, 91, dtype=torch.float64)
    scaled = torch.tensor(ive(order, x.numpy()))
    known = scaled > 1e-280
    ratio = torch.tensor(ive(order + 1, x.numpy())) / scaled
    torch.testing.assert_close((bessel_ratio_over_argument(order, x**2) * x)[known], ratio[known], rtol=1e-12, atol=0)
    normalised = gammaln(order + 1) + order * torch.log(2 / x) + scaled.log()
    torch.testing.assert_close(log_bessel_normalised(order, x)[known], normalised[known], rtol=1e-12, atol=1e-12)


def test_bessel_functions_are_exact_at_zero_and_in_float32() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    for order in (0.0, 4.5, 60.0, 500.0):
        assert float(bessel_ratio_over_argument(order, zero)) == pytest.approx(1 / (2 * order + 2), rel=1e-13)
        assert float(log_bessel_normalised(order, zero)) == pytest.approx(0, abs=1e-12)
    x = torch.logspace(-2, 6, 50, dtype=torch.float64)
    single = bessel_ratio_over_argument(4.5, x.float() ** 2)
    torch.testing.assert_close(single.double(), bessel_ratio_over_argument(4.5, x**2), rtol=1e-6, atol=0)


def test_bessel_ratio_has_its_derivatives() -> None:
    """A'(x) = 1 - A^2 - (2 order + 1) A / x, and gradcheck of the second order."""
    order = 4.5
    x = torch.tensor([0.1, 1.0, 10.0, 1000.0], dtype=torch.float64, requires_grad=True)
    ratio = x * bessel_ratio_over_argument(order, x**2)
    (slope,) = torch.autograd.grad(ratio.sum(), x)
    torch.testing.assert_close(slope, (1 - ratio**2 - (2 * order + 1) / x * ratio).detach(), rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda y: log_bessel_normalised(order, y), x[:3].detach().requires_grad_())


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("name", list(distributions()))
def test_the_score_is_the_gradient_of_the_log_density(name: str, process: VEConfig | VPConfig | SubVPConfig) -> None:
    model = AnalyticScore(
        AnalyticConfig(process=process), data=DistributionSource(distributions()[name], (D,)), dtype=torch.float64
    )
    x = torch.randn(12, D, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0.05, 1.0, 12, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(model.noised_log_prob(x, t).sum(), x)
    torch.testing.assert_close(model.score(x, t), gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", list(distributions()))
def test_densities_integrate_to_one(name: str) -> None:
    """E_{y ~ N(0, s^2)} p(y) / N(y; 0, s^2) = 1, by Monte Carlo."""
    distribution = noised_distribution(distributions()[name], torch.float64)
    generator = torch.Generator().manual_seed(8)
    spread = 2.5
    z = torch.randn(200_000, D, dtype=torch.float64, generator=generator)
    proposal = -0.5 * (z**2).sum(1) - 0.5 * D * math.log(2 * math.pi) - D * math.log(spread)
    weights = (distribution.log_prob(spread * z, torch.full((len(z),), 1.2, dtype=torch.float64)) - proposal).exp()
    assert float(weights.mean()) == pytest.approx(1, abs=5 * float(weights.std()) / math.sqrt(len(z)))


def test_a_sphere_is_the_limit_of_many_points_on_it() -> None:
    angles = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000)
    frame = basis(2, 9)
    circle = noised_distribution(SphereDistribution(torch.zeros(D, dtype=torch.float64), frame, 1.3), torch.float64)
    ring = noised_distribution(Points(1.3 * torch.stack([angles.cos(), angles.sin()], 1) @ frame.T), torch.float64)
    y = torch.randn(10, D, dtype=torch.float64)
    sigma = torch.linspace(0.1, 2, 10, dtype=torch.float64)
    torch.testing.assert_close(circle.log_prob(y, sigma), ring.log_prob(y, sigma), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(circle.score(y, sigma), ring.score(y, sigma), rtol=1e-8, atol=1e-8)


def test_gaussians_of_one_covariance_are_a_mixture_of_them() -> None:
    means, variances = distributions()["points"].x[:5], torch.linspace(0.1, 2, D, dtype=torch.float64)  # type: ignore[union-attr]
    shared = SharedGaussians(means, basis(D, 4), variances)
    apart = Mixture(
        torch.full((5,), 0.2, dtype=torch.float64),
        tuple(SubspaceGaussian(mean, shared.basis, variances) for mean in means),
    )
    y, sigma = torch.randn(9, D, dtype=torch.float64), torch.logspace(-3, 1, 9, dtype=torch.float64)
    first, second = (noised_distribution(distribution, torch.float64) for distribution in (shared, apart))
    torch.testing.assert_close(first.log_prob(y, sigma), second.log_prob(y, sigma))
    torch.testing.assert_close(first.score(y, sigma), second.score(y, sigma))
    torch.testing.assert_close(log_density(shared, y), log_density(apart, y))
    assert log_density(SharedGaussians(means, shared.basis, 0 * variances), y) is None


def test_a_moved_distribution_is_the_distribution_of_the_moved_points() -> None:
    """A sphere in a subspace, and a product of a circle and points, each against the same distribution written out."""
    centre, frame = distributions()["sphere"].centre, basis(4, 2)  # type: ignore[union-attr]
    inside = SphereDistribution(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64), 1.5)
    corner, ring = torch.tensor([[1.0], [-2.0]], dtype=torch.float64), basis(2, 5, 6)
    circle = SphereDistribution(torch.zeros(6, dtype=torch.float64), ring, 0.8)
    lifted = torch.cat([ring, ring.new_zeros(1, 2)])
    last = torch.eye(D, dtype=torch.float64)[-1]
    circles = [SphereDistribution(value * last, lifted, 0.8) for value in (1.0, -2.0)]
    y, sigma = torch.randn(9, D, dtype=torch.float64), torch.linspace(0.2, 1, 9, dtype=torch.float64)
    for distribution, other in (
        (Embedded(inside, centre, frame), SphereDistribution(centre, frame, 1.5)),
        (Product((circle, Points(corner))), Mixture(torch.tensor([0.5, 0.5]).double(), tuple(circles))),
    ):
        for shifted, expected in ((distribution, other), (translated(distribution, centre), translated(other, centre))):
            one, two = noised_distribution(shifted, torch.float64), noised_distribution(expected, torch.float64)
            torch.testing.assert_close(one.log_prob(y, sigma), two.log_prob(y, sigma))
            torch.testing.assert_close(one.score(y, sigma), two.score(y, sigma))


@pytest.mark.parametrize("name", list(distributions()))
def test_a_shift_of_the_distribution_is_one_of_its_score(name: str) -> None:
    shift = torch.linspace(-1, 2, D, dtype=torch.float64)
    y, sigma = torch.randn(5, D, dtype=torch.float64), torch.linspace(0.2, 1, 5, dtype=torch.float64)
    moved = noised_distribution(translated(distributions()[name], shift), torch.float64).score(y + shift, sigma)
    torch.testing.assert_close(moved, noised_distribution(distributions()[name], torch.float64).score(y, sigma))


def test_the_gaussian_of_points_is_wieners_filter() -> None:
    """Of points on a plane: the denoiser is mean + C (C + sigma^2)^-1 (y - mean), and nothing off the plane is left."""
    x = torch.rand(200, 2, dtype=torch.float64) @ basis(2, 3).T + 5
    model = AnalyticScore(
        AnalyticConfig(gaussian=True), data=DistributionSource(distributions()["circle"], (D,), x), dtype=torch.float64
    )
    assert isinstance(model.distribution, NoisedSubspaceGaussian)
    assert model.distribution.basis.shape == (D, 2)
    t = torch.full((4,), 0.6, dtype=torch.float64)
    sigma = model.process.noise_to_signal(t)[0]  # type: ignore[operator]
    y = x[:4] + sigma * torch.randn(4, D, dtype=torch.float64)
    mean, covariance = x.mean(0), torch.cov(x.T, correction=0)
    wiener = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(D, dtype=torch.float64))
    torch.testing.assert_close(model.denoise(y, t), mean + (y - mean) @ wiener.T)
    with pytest.raises(ValueError, match="points and gaussian are two distributions"):
        AnalyticConfig(gaussian=True, points=True)


def test_relative_noise_is_in_units_of_the_datas_spread() -> None:
    data = DensityManifold(SphereConfig(dimension=2, ambient=5, radius=3.0, points=100, seed=0))
    score = AnalyticScore(AnalyticConfig(process=VEConfig(sigma_min=0.01, sigma_max=2, relative=True)), data=data)
    _, scale = score.process.coefficients(torch.zeros(1, 5), torch.zeros(1))
    assert float(scale) == pytest.approx(0.03, rel=0.05)


def test_a_source_that_turns_out_to_know_no_distribution_is_finitely_many_points() -> None:
    class Part(DistributionSource):
        def distribution(self) -> None:  # type: ignore[override]
            return None

    train = torch.randn(6, D, dtype=torch.float64)
    model = AnalyticScore(AnalyticConfig(), data=Part(distributions()["circle"], (D,), train), dtype=torch.float64)
    torch.testing.assert_close(model.denoise(train + 1e-3, torch.zeros(6, dtype=torch.float64)), train)


def test_scores_are_finite_where_formulas_divide_by_zero() -> None:
    """At the centre of a sphere, r = 0, and at noise far below any distance."""
    sphere = distributions()["sphere"]
    assert isinstance(sphere, SphereDistribution)
    for name in ("sphere", "points", "mixture"):
        distribution = noised_distribution(distributions()[name], torch.float32)
        centre = sphere.centre.float()[None]
        for sigma in (1e-4, 1.0, 1e3):
            assert bool(distribution.score(centre, torch.tensor([sigma])).isfinite().all()), (name, sigma)


def test_many_rows_are_streamed_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = noised_distribution(distributions()["points"], torch.float64)
    y, sigma = torch.randn(9, D, dtype=torch.float64), torch.linspace(0.1, 1, 9, dtype=torch.float64)
    whole = distribution.score(y, sigma), distribution.log_prob(y, sigma)
    monkeypatch.setattr("scorefold_standard.noised_distributions._DISTANCES_AT_ONCE", 40)
    torch.testing.assert_close((distribution.score(y, sigma), distribution.log_prob(y, sigma)), whole)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_denoising_is_the_posterior_mean(process: VEConfig | VPConfig | SubVPConfig) -> None:
    """Tweedie's formula against importance sampling of x_0 from a Gaussian distribution."""
    mean, variance = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.3, 2.0], dtype=torch.float64)
    distribution = SubspaceGaussian(mean, torch.eye(2, dtype=torch.float64), variance)
    model = AnalyticScore(
        AnalyticConfig(process=process), data=DistributionSource(distribution, (2,)), dtype=torch.float64
    )
    assert isinstance(model.process, Isotropic)
    x, t = torch.tensor([[0.4, 0.2]], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    signal, scale = model.process.coefficients(x, t)
    exact = mean + signal * variance / (signal**2 * variance + scale**2) * (x - signal * mean)
    torch.testing.assert_close(model.denoise(x, t), exact)
    torch.testing.assert_close(model.noise(x, t), (x - signal * exact) / scale)


def test_image_events_and_a_source_without_a_distribution() -> None:
    images = torch.rand(30, 1, 4, 4)
    model = AnalyticScore(AnalyticConfig(limit=20), data=TensorSource({"train": Dataset(images)}))
    t = torch.full((5,), float(model.process.time_at(torch.tensor(1e-2))))  # type: ignore[operator]
    noisy = images[:5] + 1e-2 * torch.randn(5, 1, 4, 4)
    assert model.score(noisy, t).shape == (5, 1, 4, 4)
    torch.testing.assert_close(model.denoise(noisy, t), images[:5], atol=1e-4, rtol=0)
    far = model.denoise(images[25:26], t[:1])
    assert float((far - images[25:26]).abs().max()) > 0.1, "only the first 20 points are known to it"


def test_points_may_be_asked_for_where_the_distribution_is_known() -> None:
    distribution = distributions()["circle"]
    train = torch.randn(6, D, dtype=torch.float64)
    model = AnalyticScore(
        AnalyticConfig(points=True), data=DistributionSource(distribution, (D,), train), dtype=torch.float64
    )
    t = torch.zeros(6, dtype=torch.float64)
    torch.testing.assert_close(model.denoise(train + 1e-3, t), train)


def test_a_batch_of_one_time_or_one_point_broadcasts() -> None:
    model = AnalyticScore(AnalyticConfig(), data=DistributionSource(distributions()["sphere"], (D,)))
    x, t = torch.randn(3, D), torch.tensor([0.2, 0.5, 0.9])
    torch.testing.assert_close(model.score(x, t[:1]), model.score(x, t[:1].expand(3)))
    torch.testing.assert_close(model.score(x[:1], t), model.score(x[:1].expand(3, D), t))
    assert model.score(x[:0], t[:0]).shape == (0, D)


def test_log_prob_is_the_density_at_the_least_time_and_agrees_with_the_probability_flow() -> None:
    process, distribution = VEConfig(sigma_min=0.1, sigma_max=200), distributions()["noisy sphere"]
    assert isinstance(distribution, SphereDistribution)
    model = AnalyticScore(
        AnalyticConfig(process=process), data=DistributionSource(distribution, (D,)), dtype=torch.float64
    )
    on_sphere = torch.nn.functional.normalize(torch.randn(3, 3, dtype=torch.float64), dim=1) @ distribution.basis.T
    x = distribution.centre + on_sphere + 0.2 * torch.randn(3, D, dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), model.noised_log_prob(x, torch.zeros(3, dtype=torch.float64)))
    by_flow = super(AnalyticScore, model).log_prob(x, rtol=1e-4, atol=1e-4)
    # The prior N(0, sigma_max^2) of a VE process leaves out the spread of the data, here 1 / 200 of its own.
    torch.testing.assert_close(model.log_prob(x), by_flow, atol=0.02, rtol=0)


def test_a_saved_state_loads_into_another_distribution_of_its_shape() -> None:
    one, other = (
        AnalyticScore(AnalyticConfig(), data=DistributionSource(SphereDistribution(centre, basis(3, 1), 1.0), (D,)))
        for centre in (torch.zeros(D, dtype=torch.float64), torch.ones(D, dtype=torch.float64))
    )
    x, t = torch.randn(2, D), torch.full((2,), 0.5)
    assert not torch.allclose(one.score(x, t), other.score(x, t))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.score(x, t), other.score(x, t))


def test_what_does_not_fit_is_refused() -> None:
    model = AnalyticScore(AnalyticConfig(), data=DistributionSource(distributions()["sphere"], (D,)))
    with pytest.raises(ShapeError, match="takes"):
        model.score(torch.randn(2, D + 1), torch.zeros(2))
    with pytest.raises(ShapeError, match="float64"):
        model.score(torch.randn(2, D, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="condition"):
        model.score(torch.randn(2, D), torch.zeros(2), torch.zeros(2, 1))
    with pytest.raises(DataError, match="data source"):
        AnalyticScore(AnalyticConfig(), data=DistributionSource(distributions()["sphere"], (D,)).spec())  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("ambient", [4, 6])
def test_a_flat_torus_is_a_product_of_circles(ambient: int, noise: float) -> None:
    """Against the mixture over a fine grid of angles, with noise of both sources in every coordinate."""
    config = TorusConfig(dimension=2, ambient=ambient, radius=1.5, noise_std=noise, points=200, seed=1)
    source = DensityManifold(config)
    score = AnalyticScore(AnalyticConfig(), data=source, dtype=torch.float64)
    assert score.remarks == ()
    sigma = 0.4
    clean = DensityManifold(config.model_copy(update={"noise_std": 0.0})).distribution()
    assert isinstance(clean, Embedded)
    angle = 2 * math.pi * torch.arange(120, dtype=torch.float64) / 120
    circle = 1.5 * torch.stack([angle.cos(), angle.sin()], 1)
    grid = torch.cat([circle.repeat_interleave(120, 0), circle.repeat(120, 1)], 1) @ clean.basis.mT
    y = source.load("train").x[:5].double() + 0.2
    variance = sigma**2 + noise**2
    exponents = -0.5 * torch.cdist(y, grid).square() / variance
    expected = (exponents.softmax(1) @ grid - y) / variance
    log_prob = exponents.logsumexp(1) - math.log(len(grid)) - 0.5 * ambient * math.log(2 * math.pi * variance)
    level = y.new_full((5,), sigma)
    torch.testing.assert_close(score.distribution.score(y, level), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(score.distribution.log_prob(y, level), log_prob, rtol=1e-7, atol=1e-7)


def test_a_score_that_memorises_its_points_says_so() -> None:
    ring = DensityManifold(TorusConfig(form="revolution", points=50))
    assert "it memorises them" in AnalyticScore(AnalyticConfig(), data=ring).remarks[0]
    for meant in ({"points": True}, {"gaussian": True}):
        assert AnalyticScore(AnalyticConfig(**meant), data=ring).remarks == ()
    assert AnalyticScore(AnalyticConfig(points=True), data=DensityManifold(SphereConfig(points=50))).remarks == ()
