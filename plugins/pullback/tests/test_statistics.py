"""Statistics in a pullback geometry are Euclidean ones of its flat coordinates, and right by their own definitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.tangent_pca import (
    TangentPCA,
    frechet_variance,
    geodesic_kmeans,
    geodesic_regression,
    low_rank,
    tangent_coordinates,
    tangent_pca,
)
from scorefold_standard.baselines import Euclidean
from scorefold_standard.config import EuclideanConfig

Make = Callable[..., Pullback]
close = torch.testing.assert_close


@pytest.fixture(params=["score", "whitened", "latent"])
def space(request: pytest.FixtureRequest, make_geometry: Make) -> Pullback:
    space = make_geometry("coupling", metric=request.param)
    space.requires_grad_(False)
    return space


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.randn(40, 4, generator=generator, dtype=torch.float64)


def test_the_variance_is_least_at_the_mean(space: Pullback, x: Tensor) -> None:
    variance = frechet_variance(space, x)
    close(variance, space.chart(x).var(0, correction=0).sum())
    mean = space.mean(x)
    for moved in (mean + 0.1, mean - 0.1):
        assert float(space.distance(moved[None], x).square().mean()) > float(variance)
    weights = torch.arange(40, dtype=torch.float64)
    repeated = x.repeat_interleave(torch.arange(40), dim=0)
    close(frechet_variance(space, x, weights), frechet_variance(space, repeated))
    weighted, counted = tangent_pca(space, x, weights=weights), tangent_pca(space, repeated)
    close(weighted.mean, counted.mean)
    close(weighted.variances, counted.variances)
    close(weighted.axes.abs(), counted.axes.abs())


def test_principal_geodesics(space: Pullback, x: Tensor) -> None:
    pca = tangent_pca(space, x)
    close(pca.variances.sum(), frechet_variance(space, x))
    assert bool((pca.variances.diff() <= 0).all())
    directions = pca.directions()
    products = space.inner(pca.mean[None], directions.repeat_interleave(4, 0), directions.repeat(4, 1)).reshape(4, 4)
    close(products, torch.eye(4, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    z = pca.encode(x)
    close(z.var(0, correction=0), pca.variances)
    log = space.log(pca.mean[None], x)
    close(z[:, 1], space.inner(pca.mean[None], log, directions[1:2]))
    close(pca.decode(z), x)
    step = torch.tensor([[0.7, 0.0, 0.0, 0.0]], dtype=torch.float64)
    close(pca.decode(step), space.exp(pca.mean[None], 0.7 * directions[:1]))


def test_fewer_axes_lose_what_the_spectrum_says(space: Pullback, x: Tensor) -> None:
    for rank in (1, 3):
        lost = space.distance(x, low_rank(space, x, rank)).square().mean()
        close(lost, tangent_pca(space, x).variances[rank:].sum())
    once = low_rank(space, x, 2)
    pca = tangent_pca(space, x, rank=2)
    close(pca.decode(pca.encode(once)), once)


def test_a_geometry_that_is_no_pullback_has_the_same_in_its_metric(make_geometry: Make, x: Tensor) -> None:
    """Euclidean space by logarithms and its metric, and as the pullback through the identity."""
    plain = Euclidean(EuclideanConfig(event_shape=(4,)))
    pulled = make_geometry("linear", rotation=1, dimension=4, metric="latent").requires_grad_(False)
    for rank in (None, 2):
        one, other = tangent_pca(plain, x, rank), tangent_pca(pulled, x, rank)
        close(one.variances, other.variances)
        close(one.decode(one.encode(x)), other.decode(other.encode(x)))
        close(one.directions().abs(), other.directions().abs())

    class Stretched(Euclidean):
        """Three times as long in the first coordinate."""

        def metric(self, x: Tensor) -> Tensor:
            return super().metric(x) * torch.tensor([9.0, 1.0, 1.0, 1.0], dtype=x.dtype)

    stretched = Stretched(EuclideanConfig(event_shape=(4,)))
    scale = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    close(tangent_coordinates(stretched, x.mean(0), x), (x - x.mean(0)) * scale)
    found: TangentPCA = tangent_pca(stretched, x, 3)
    close(found.variances, tangent_pca(plain, x * scale).variances)
    close(found.decode(found.encode(x)), low_rank(plain, x * scale, 3) / scale)


def test_geodesics_are_found_again(space: Pullback, x: Tensor, generator: torch.Generator) -> None:
    start, velocity = x[:1], 0.3 * x[1:2]
    times = torch.linspace(-1, 2, 12, dtype=torch.float64)
    on_it = space.exp(start, times[:, None] * velocity)
    found = geodesic_regression(space, times, on_it)
    close(found.start, start[0])
    close(found.velocity, velocity[0])
    assert found.r_squared == pytest.approx(1.0, abs=1e-12)
    close(found.predict(times), on_it)


def test_a_regression_is_least_squares_in_distance(space: Pullback, x: Tensor, generator: torch.Generator) -> None:
    times = torch.rand(40, generator=generator, dtype=torch.float64)
    found = geodesic_regression(space, times, x)
    assert 0 < found.r_squared < 1

    def loss(start: Tensor, velocity: Tensor) -> Tensor:
        return space.distance(space.exp(start[None], times[:, None] * velocity), x).square().sum()

    start, velocity = found.start.requires_grad_(), found.velocity.requires_grad_()
    slopes = torch.autograd.grad(loss(start, velocity), (start, velocity))
    scale = float(loss(start, velocity).detach())
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-8 * scale
    explained = 1 - float(loss(start, velocity).detach()) / (40 * float(frechet_variance(space, x)))
    assert found.r_squared == pytest.approx(explained, rel=1e-9)


def test_clusters_on_the_banana_are_cut_along_it(make_geometry: Make, generator: torch.Generator) -> None:
    """Two groups at the ends of the arc: their centres are means in the geometry, on the arc."""
    banana = make_geometry("banana", metric="latent")
    ends = torch.tensor([-3.0, 3.0], dtype=torch.float64).repeat_interleave(50)
    noise = 0.1 * torch.randn(100, 2, generator=generator, dtype=torch.float64)
    x = banana.flow.inverse(torch.stack([torch.zeros_like(ends), ends], dim=1) + noise)[0]
    found = geodesic_kmeans(banana, x, 2)
    assert found.labels[:50].unique().numel() == found.labels[50:].unique().numel() == 1
    assert found.labels[0] != found.labels[-1]
    for label in (0, 1):
        group = x[found.labels == label]
        close(found.centres[label], banana.mean(group))
    inertia = sum(50 * float(frechet_variance(banana, part)) for part in x.split(50))
    assert found.inertia == pytest.approx(inertia)


def test_refusals(space: Pullback, x: Tensor) -> None:
    with pytest.raises(ConfigError, match="rank 5 was asked for; points have 4 coordinates"):
        tangent_pca(space, x, 5)
    with pytest.raises(ShapeError, match="mean of no points"):
        tangent_pca(space, x[:0])
    with pytest.raises(ShapeError, match=r"expected \(40,\)"):
        geodesic_regression(space, torch.zeros(3, dtype=torch.float64), x)
    with pytest.raises(DataError, match="at one time alone"):
        geodesic_regression(space, torch.ones(40, dtype=torch.float64), x)
    with pytest.raises(DataError, match="50 clusters of 40 points"):
        geodesic_kmeans(space, x, 50)
    x[3] = float("nan")
    times = torch.linspace(0, 1, 40, dtype=torch.float64)
    for call in (
        lambda: tangent_pca(space, x),
        lambda: frechet_variance(space, x),
        lambda: geodesic_regression(space, times, x),
        lambda: geodesic_kmeans(space, x, 2),
    ):
        with pytest.raises(DataError, match="points holds NaN or infinite numbers in 1 of 40 rows"):
            call()


def test_fewer_points_than_coordinates_have_all_axes(make_geometry: Make, generator: torch.Generator) -> None:
    space = make_geometry("linear", rotation=1, dimension=6, metric="latent")
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    pca = tangent_pca(space, x)
    close(pca.axes @ pca.axes.mT, torch.eye(6, dtype=torch.float64))
    assert int((pca.variances > 1e-12).sum()) == 2
    many = tangent_pca(space, x.repeat(5000, 1))
    close(many.variances, pca.variances)
