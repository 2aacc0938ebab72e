"""Unions and products: what is known of the parts is known of the whole, and their scores are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.config import VEConfig
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource, TensorSource
from scorefold_iddiff.data.combined import ProductOf, UnionOf
from scorefold_iddiff.data.config import LollipopConfig, ProductConfig, SpaghettiConfig, SquaresConfig, UnionConfig
from scorefold_iddiff.data.drawn import DensityDrawn, Drawn
from scorefold_standard.config import AnalyticConfig
from scorefold_standard.manifolds.config import SphereConfig, SwissRollConfig, TorusConfig
from scorefold_standard.manifolds.synthetic import DensityManifold, SyntheticManifold
from scorefold_standard.scores import AnalyticScore
from scorefold_toolkit.data.manifolds import isometry
from scorefold_toolkit.distributions import Embedded, Mixture, Product

WIDE = VEConfig(sigma_min=1e-4, sigma_max=100.0)


def sphere(**fields: object) -> DensityManifold:
    return DensityManifold(SphereConfig.model_validate(fields))


def exact(source: DataSource, **fields: bool) -> AnalyticScore:
    return AnalyticScore(AnalyticConfig(process=WIDE, **fields), data=source, dtype=torch.float64)  # type: ignore[arg-type]


def score_at(model: AnalyticScore, sigma: float) -> Callable[[Tensor], Tensor]:
    time = model.process.time_at(torch.tensor([sigma], dtype=torch.float64))  # type: ignore[operator]
    return lambda y: model.score(y, time)


def seeded_noise(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def published_dimension(score: Callable[[Tensor], Tensor], x: Tensor, sigma: float, noises: int, centre: bool) -> int:
    """D minus the place of the largest gap of the singular values of scores around x (D,), written out."""
    rows = score(x + sigma * seeded_noise(noises, len(x)))
    rows = rows - rows.mean(0) if centre else rows
    values = torch.linalg.svdvals(rows)
    return len(x) - 1 - int((values[:-1] - values[1:]).argmax())


@pytest.fixture(scope="module")
def two_spheres() -> UnionOf:
    parts = [
        sphere(dimension=10, ambient=100, isometry=0, points=500),
        sphere(dimension=30, ambient=100, radius=0.25, isometry=0, points=300, seed=1),
    ]
    return UnionOf(UnionConfig(), parts=parts)


def test_published_isometries_of_two_spheres_overlap() -> None:
    large, small = (isometry(100, k + 1, 7, published=0) for k in (10, 30))
    assert float(torch.linalg.matrix_norm(large.mT @ small, 2)) == pytest.approx(0.716, abs=5e-4)
    distribution = sphere(dimension=10, ambient=100, isometry=0, seed=5).distribution()
    assert torch.equal(distribution.basis, large)  # type: ignore[union-attr]


def test_the_published_union_has_its_dimensions(two_spheres: UnionOf) -> None:
    train = two_spheres.load("train")
    assert train.label is not None
    assert torch.equal(train.truth["dimension"], torch.tensor([10, 30])[train.label])
    assert torch.bincount(train.label).tolist() == [400, 240]
    torch.testing.assert_close(train.x.norm(dim=1), torch.tensor([1.0, 0.25])[train.label])
    assert 100 < int(train.label[:300].sum()) < 125, "parts are mixed, so that any first points are of both"
    distribution = two_spheres.distribution()
    assert isinstance(distribution, Mixture)
    torch.testing.assert_close(distribution.weights, torch.tensor([5 / 8, 3 / 8]).double())


@pytest.mark.parametrize(
    ("sigma", "centre", "large", "small"),
    [(0.003, False, 10, 30), (0.01, False, 10, 30), (0.03, False, 10, 99), (0.03, True, 10, 30), (0.1, True, 10, None)],
)
def test_the_exact_score_of_the_published_union(
    two_spheres: UnionOf, sigma: float, centre: bool, large: int, small: int | None
) -> None:
    """The largest gap gives both dimensions at the published noise levels, and what it gives where it fails."""
    score = score_at(exact(two_spheres), sigma)
    test = two_spheres.load("test")
    assert test.label is not None
    for part, answer in enumerate((large, small)):
        for x in test.x[test.label == part][:2].double():
            found = published_dimension(score, x, sigma, 400, centre)
            assert found == answer if answer is not None else found != 30


@pytest.mark.parametrize("sigma", [0.03, 0.1, 1.0])
def test_the_exact_score_of_the_spaghetti_line_sees_one_dimension(sigma: float) -> None:
    source = DensityDrawn(SpaghettiConfig(points=40))
    score = score_at(exact(source), sigma)
    for x in source.load("test").x[:2].double():
        assert published_dimension(score, x, sigma, 300, True) == 1


def test_the_sum_over_the_spaghetti_line_is_the_integral() -> None:
    """At noise of the nodes' distance, against the same integral on an eight times finer grid by Simpson's rule."""
    source = DensityDrawn(SpaghettiConfig(points=40, ambient=20, nodes=1000))
    spacing = 53.6 / 1000  # the length of the curve over the nodes
    y = source.load("test").x[:3].double() + spacing * seeded_noise(3, 20)
    t = torch.linspace(0, 1, 8001, dtype=torch.float64)
    weight = torch.full_like(t, 2.0)
    weight[1::2] = 4.0
    weight[[0, -1]] = 1.0
    curve = (t[:, None] * torch.arange(1, 21)).sin()
    kernel = weight * torch.exp(-(torch.cdist(y, curve) ** 2) / (2 * spacing**2))
    mean = kernel @ curve / kernel.sum(1, keepdim=True)
    torch.testing.assert_close(score_at(exact(source), spacing)(y), (mean - y) / spacing**2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("count", "rank"), [(10, 10), (100, 99)])
def test_wieners_filter_sees_the_rank_of_squares(count: int, rank: int) -> None:
    """No net: the Gaussian with the covariance of 5,000 images has the dimension of the plane that they fill."""
    source = Drawn(SquaresConfig(squares=count, points=6250, flatten=True))
    score = score_at(exact(source, gaussian=True), 0.01)
    assert published_dimension(score, source.load("test").x[0].double(), 0.01, 2048, True) == rank


def test_weights_set_the_shares_of_each_split() -> None:
    parts = [sphere(dimension=1, ambient=3, points=100), sphere(dimension=2, points=100)]
    union = UnionOf(UnionConfig(weights=(1.0, 3.0)), parts=parts)
    train = union.load("train")
    assert train.label is not None
    assert torch.bincount(train.label).tolist() == [27, 80]
    distribution = union.distribution()
    assert isinstance(distribution, Mixture)
    assert distribution.weights.tolist() == [0.25, 0.75]
    index = torch.cat([union.load(split).index for split in ("train", "validation", "test")])  # type: ignore[misc]
    assert len(index.unique()) == len(index)


def test_parts_are_moved_apart_with_their_distributions() -> None:
    parts = [sphere(dimension=2, points=20_000, seed=seed) for seed in (0, 1)]
    union = UnionOf(UnionConfig(separation=4.0), parts=parts)
    train = union.load("train")
    assert train.label is not None
    for part in range(2):
        centre = train.x[train.label == part].mean(0)
        assert float(centre.norm()) == pytest.approx(4.0, abs=0.05)
    assert train.truth["dimension"] == 2, "one number where all parts agree"
    # Against the distribution of very many points.
    y = train.x[:4].double() + 0.5 * seeded_noise(4, 3)
    by_distribution, by_points = (score_at(exact(union, points=points), 0.5)(y) for points in (False, True))
    torch.testing.assert_close(by_distribution, by_points, atol=0.1, rtol=0)


def test_a_product_of_equal_circles_is_a_torus() -> None:
    """The parts hold the same points in the same order; their product still fills the torus."""
    circle = sphere(dimension=1, points=4000, tangents=True)
    product = ProductOf(ProductConfig(), parts=[circle, circle])
    train = product.load("train")
    assert (product.event_shape, train.truth["dimension"], len(train)) == ((4,), 2, 3200)
    torch.testing.assert_close(train.x.reshape(-1, 2, 2).norm(dim=2), torch.ones(3200, 2))
    angle = torch.atan2(train.x[:, [1, 3]], train.x[:, [0, 2]])
    torch.testing.assert_close((angle[:, 0] - angle[:, 1]).cos().mean(), torch.tensor(0.0), atol=0.05, rtol=0)
    tangent = train.truth["tangent"]
    torch.testing.assert_close(tangent.mT @ tangent, torch.eye(2).expand(3200, -1, -1))
    radial = (tangent.reshape(-1, 2, 2, 2) * train.x.reshape(-1, 2, 2, 1)).sum(2)
    torch.testing.assert_close(radial, torch.zeros(3200, 2, 2), atol=1e-5, rtol=0)
    assert isinstance(product.distribution(), Product)


def test_the_score_of_an_embedded_product_is_exact() -> None:
    """Every eigenvalue of 1 + sigma^2 ds/dx on a product of circles: 1 along them, 0 across, as the theory says."""
    parts = [sphere(dimension=1, points=50, seed=seed) for seed in range(3)]
    product = ProductOf(ProductConfig(ambient=10), parts=parts)
    assert isinstance(product.distribution(), Embedded)
    x = product.load("test").x[0].double()
    score = score_at(exact(product), 0.01)
    jacobian = torch.autograd.functional.jacobian(lambda y: score(y[None])[0], x)
    projector = torch.eye(10, dtype=torch.float64) + 0.01**2 * jacobian
    values = torch.linalg.eigvalsh(projector)
    torch.testing.assert_close(values, torch.tensor([0.0] * 7 + [1.0] * 3).double(), atol=2e-3, rtol=0)


def test_dimensions_of_products_add_up_point_by_point() -> None:
    product = ProductOf(ProductConfig(), parts=[Drawn(LollipopConfig(points=200)), sphere(dimension=2, points=100)])
    train = product.load("train")
    assert len(train) == 80
    where = train.x[:, :2].double() @ isometry(2, 2, 0)
    dot = where.norm(dim=1) < 1e-4
    assert bool((train.truth["dimension"][dot] == 2).all())
    assert sorted(set(train.truth["dimension"].tolist())) == [2, 3, 4]


def test_images_keep_their_shape_in_a_union_and_not_in_a_product() -> None:
    parts = [Drawn(SquaresConfig(squares=k, size=8, points=20)) for k in (2, 3)]
    assert UnionOf(UnionConfig(), parts=parts).load("train").x.shape == (32, 1, 8, 8)
    assert ProductOf(ProductConfig(), parts=parts).event_shape == (128,)


def test_what_parts_do_not_know_the_whole_does_not() -> None:
    plain = TensorSource({"train": sphere().load("train"), "test": sphere().load("test")})
    roll, known = SyntheticManifold(SwissRollConfig(points=50)), sphere(points=50)
    for parts in ([roll, known], [plain, known]):
        assert UnionOf(UnionConfig(), parts=parts).distribution() is None
        assert ProductOf(ProductConfig(), parts=parts).distribution() is None
    bare = TensorSource(seeded_noise(20, 3).float())
    union = UnionOf(UnionConfig(), parts=[bare, known])
    assert "dimension" not in union.load("test").truth
    assert union.event_scale.std > 0
    with pytest.raises(SplitError, match="no 'train' split"):
        union.load("train")


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"part 1 of a union has events \(4,\) and part 0 has \(3,\)") as caught:
        UnionOf(UnionConfig(), parts=[sphere(), SyntheticManifold(TorusConfig(points=50))])
    assert "data:product" in str(caught.value)
    with pytest.raises(ConfigError, match="3 weights were given for 2 parts"):
        UnionOf(UnionConfig(weights=(1.0, 1.0, 1.0)), parts=[sphere(), sphere()])
    with pytest.raises(ConfigError, match="a product of 2 sources needs at least 6 coordinates; ambient is 5"):
        ProductOf(ProductConfig(ambient=5), parts=[sphere(), sphere()])
    for made, config in ((UnionOf, UnionConfig()), (ProductOf, ProductConfig())):
        with pytest.raises(ConfigError, match="of no sources"):
            made(config, parts=[])  # type: ignore[arg-type]
    one, other = TensorSource(seeded_noise(9, 3).float()), TensorSource({"train": sphere().load("train")})
    with pytest.raises(DataError, match="no split is in all parts"):
        UnionOf(UnionConfig(), parts=[one, other])
    with pytest.raises(DataError, match="no split called 'held-out'"):
        UnionOf(UnionConfig(), parts=[sphere()]).load("held-out")


def test_a_combined_set_is_seeded(two_spheres: UnionOf) -> None:
    parts = [sphere(points=60), sphere(points=60, seed=1)]
    for made, config in ((UnionOf, UnionConfig()), (ProductOf, ProductConfig())):
        a, b, c = (
            made(config.model_copy(update={"seed": seed}), parts=parts).load("test").x  # type: ignore[arg-type]
            for seed in (1, 1, 2)
        )
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_the_warnings_of_parts_are_those_of_the_whole() -> None:
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    parts = [TensorSource(points, warnings=("uneven columns", said)) for said in ("copies", "an identifier")]
    for source in (UnionOf(UnionConfig(), parts=parts), ProductOf(ProductConfig(), parts=parts)):
        assert source.data_warnings() == ("uneven columns", "copies", "an identifier")
