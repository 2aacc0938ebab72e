"""The estimator with exact scores: the integers of the literature."""

from __future__ import annotations

import pytest
import torch
from normal_bundles import MakeFrame, MakeScore, MakeSphere, curve, estimate

from scorefold.config import VEConfig
from scorefold.errors import DataError
from scorefold_toolkit.distributions import Mixture, Points, SubspaceGaussian


@pytest.mark.parametrize("rule", ["projector", "reference"])
@pytest.mark.parametrize("k", [2, 5, 10, 50])
def test_spheres_have_their_dimension_at_every_point(
    k: int, rule: str, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(k)
    for sigma in (0.001, 0.01, 0.1):
        found = estimate(make_score(distribution, (100,)), x, sigma=sigma, rule=rule)
        assert found.pointwise is not None
        assert found.pointwise.tolist() == [k] * len(x), sigma
        assert (found.value, found.interval) == (k, (k, k))


@pytest.mark.parametrize(
    ("k", "rule", "sigma"),
    [(10, "reference", 0.25), (50, "reference", 0.1), (10, "projector", 0.178), (50, "projector", 0.1)],
)
def test_spheres_up_to_the_noise_where_curvature_shows(
    k: int, rule: str, sigma: float, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(k)
    found = estimate(make_score(distribution, (100,)), x, sigma=sigma, rule=rule)
    assert found.pointwise is not None
    assert found.pointwise.tolist() == [k] * len(x)


def test_at_the_edge_the_aggregate_holds_where_single_points_do_not(
    make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """At sigma = 0.3 on the 10-sphere three points of four say 10, and so do mode and median."""
    distribution, x = make_sphere(10, points=60)
    found = estimate(make_score(distribution, (100,)), x, sigma=0.3, rule="reference")
    assert found.value == 10
    # Of 60 points with a chance of 3/4 each, as many have a chance of 1 in 10^6.
    assert 0.45 < found.diagnostics["fraction_at_mode"] < 1


def test_without_centring_curvature_shows_earlier(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """The common radial vector is one huge singular value: the paper's rule says 99 where the centred one still
    says 10.
    """
    distribution, x = make_sphere(10)
    rules = estimate(make_score(distribution, (100,)), x, sigma=0.2, design="iid").diagnostics["rules_compared"]
    assert rules["uncentred gap (paper)"] == 99
    assert rules["centred gap (published code)"] == 10


def test_several_scales_are_counted_one_by_one(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """Twenty tangent variances from 1 to 1e-6: those above sigma^2 count, and the eigenvalues are lambda / (lambda
    + sigma^2).
    """
    variances = torch.logspace(0, -6, 20, dtype=torch.float64)
    basis = make_frame(100, 20)
    distribution = SubspaceGaussian(torch.zeros(100, dtype=torch.float64), basis, variances)
    x = torch.randn(6, 20, dtype=torch.float64) * variances.sqrt() @ basis.T
    expected = {0.3: 4, 0.1: 7, 0.03: 10, 0.01: 13, 0.003: 16, 0.0001: 20}
    score = make_score(distribution, (100,), VEConfig(sigma_min=1e-4, sigma_max=10))
    found = estimate(score, x, sigma=0.01, sweep=tuple(sigma / 0.01 for sigma in expected))
    assert curve(found) == expected
    assert found.spectrum is not None
    exact = torch.cat([variances / (variances + 1e-4), torch.zeros(80, dtype=torch.float64)])
    torch.testing.assert_close(found.spectrum, exact.expand(6, -1), atol=1e-6, rtol=0)


def test_the_published_argmax_on_several_scales(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """The paper's rule has a range of answers where variances decay evenly, by the draw of the noise: single draws were
    measured at 2, 6, 8, 13, 16, 18 and 20, within 1 of the median over draws."""
    variances = torch.logspace(0, -6, 20, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(100, dtype=torch.float64), make_frame(100, 20), variances)
    x = torch.randn(12, 20, dtype=torch.float64) * variances.sqrt() @ distribution.basis.T
    table = {0.3: 2, 0.1: 6, 0.03: 8, 0.01: 13, 0.003: 16, 0.001: 18, 0.0001: 20}
    found = estimate(
        make_score(distribution, (100,)),
        x,
        sigma=0.01,
        sweep=[level / 0.01 for level in table],
        rule="paper",
        resamples=0,
    )
    rows = {round(row["sigma"], 6): row for row in found.diagnostics["curve"]}
    for level, measured in table.items():
        assert abs(rows[level]["value"] - measured) <= 1, level
        assert rows[level]["least"] <= measured <= rows[level]["greatest"], level


@pytest.mark.parametrize(
    ("sigma", "rule", "on_large", "on_small"),
    [
        (0.01, "paper", 10, 30),
        (0.03, "paper", 10, 99),
        (0.03, "reference", 10, 30),
        (0.1, "reference", 10, None),
        (0.03, "projector", 10, 30),
        (0.1, "projector", 10, 0),
    ],
)
def test_a_union_up_to_the_noise_where_curvature_shows(
    sigma: float, rule: str, on_large: int, on_small: int | None, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """A 10-sphere and a 30-sphere of a quarter of its radius: the smaller one is lost first, by the paper's rule first
    of all."""
    large, first = make_sphere(10, points=6)
    small, second = make_sphere(30, radius=0.25, points=6, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (100,))
    found = estimate(score, torch.cat([first, second]), sigma=sigma, rule=rule, resamples=0)
    assert found.pointwise is not None
    places = found.diagnostics["index"]
    assert set(found.pointwise[places < 6].tolist()) == {on_large}
    if on_small is None:
        assert 30 not in found.pointwise[places >= 6].tolist()
    else:
        assert float(found.pointwise[places >= 6].median()) == on_small


@pytest.mark.parametrize(
    "config",
    [
        {"rule": rule, "design": design}
        for rule in ("projector", "ratio", "threshold")
        for design in ("pairs", "simplex")
    ]
    + [{"rule": "reference", "design": "pairs"}, {"rule": "paper"}, {"rule": "ratio", "design": "iid"}],
)
def test_every_rule_on_every_design(config: dict[str, str], make_score: MakeScore, make_sphere: MakeSphere) -> None:
    for k in (3, 30):
        distribution, x = make_sphere(k, ambient=60)
        found = estimate(make_score(distribution, (60,)), x, sigma=0.01, **config)
        assert found.pointwise is not None
        assert found.pointwise.tolist() == [k] * len(x)


@pytest.mark.parametrize("rule", ["projector", "ratio", "threshold"])
def test_all_directions_and_none(rule: str, make_score: MakeScore) -> None:
    full = SubspaceGaussian(torch.zeros(6).double(), torch.eye(6).double(), torch.linspace(0.5, 2, 6).double())
    assert estimate(make_score(full, (6,)), torch.randn(5, 6), sigma=0.01, rule=rule).value == 6
    point = SubspaceGaussian(torch.zeros(6).double(), torch.zeros(6, 0).double(), torch.zeros(0).double())
    assert estimate(make_score(point, (6,)), torch.zeros(5, 6), sigma=0.01, rule=rule).value == 0


def test_affine_images_of_a_known_basis(make_score: MakeScore) -> None:
    """Sums of twenty fixed squares with random weights are flat: the Gaussian score of their covariance gives 20."""
    generator = torch.Generator().manual_seed(42)
    squares = torch.zeros(20, 16, 16, dtype=torch.float64)
    for square, corner in zip(squares, torch.randperm(121, generator=generator).tolist(), strict=False):
        side = 3 + 2 * int(torch.randint(2, (), generator=generator))
        top, left = divmod(corner, 11)
        square[top : top + side, left : left + side] = 1
    images = torch.rand(400, 20, generator=generator, dtype=torch.float64) @ squares.flatten(1)
    centred = images - images.mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred / len(images))
    distribution = SubspaceGaussian(images.mean(0), vectors[:, -20:], values[-20:])
    score = make_score(distribution, (1, 16, 16))
    for design in ("pairs", "range-finder"):
        found = estimate(score, images.reshape(-1, 1, 16, 16), sigma=0.01, design=design, points=6)
        assert found.pointwise is not None
        assert found.pointwise.tolist() == [20] * 6


def test_a_union_gives_each_part_its_own_dimension(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, on_large = make_sphere(10, points=8)
    small, on_small = make_sphere(30, radius=0.25, points=8, seed=5)
    distribution = Mixture(torch.tensor([0.5, 0.5], dtype=torch.float64), (large, small))
    x = torch.cat([on_large, on_small])
    for rule in ("projector", "reference"):
        found = estimate(make_score(distribution, (100,)), x, sigma=0.01, rule=rule, points=16)
        assert found.pointwise is not None
        order = found.diagnostics["index"]
        assert found.pointwise.tolist() == [10.0 if position < 8 else 30.0 for position in order]
        assert found.diagnostics["histogram"] == {"10": 8, "30": 8}
        assert found.diagnostics["fraction_at_mode"] == 0.5


def test_a_curve_in_a_hundred_dimensions(make_score: MakeScore) -> None:
    """x_j = sin(j t), one-dimensional, by its exact score on a grid finer than the noise."""
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    distribution = Points(torch.sin(t[:, None] * torch.arange(1, 101, dtype=torch.float64)))
    found = estimate(make_score(distribution, (100,)), distribution.x[1000:19_000:6000], sigma=0.1, sweep=(0.3, 10))
    assert found.pointwise is not None
    assert set(found.pointwise.tolist()) == {1.0}
    assert set(curve(found).values()) == {1.0}, "from sigma 0.03 to 1"


def test_memorised_points_have_dimension_zero(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """The exact score of a finite sample, far below the distance of neighbours: every direction is normal."""
    _, x = make_sphere(10, points=300)
    assert estimate(make_score(Points(x), (100,)), x[:6], sigma=0.01).value == 0


def test_a_full_rank_gaussian_and_a_point(make_score: MakeScore) -> None:
    """D and 0, which only the projector rule reaches."""
    centre = torch.ones(6, dtype=torch.float64)
    full = SubspaceGaussian(centre, torch.eye(6, dtype=torch.float64), torch.linspace(0.5, 2, 6, dtype=torch.float64))
    assert estimate(make_score(full, (6,)), torch.randn(5, 6), sigma=0.01).value == 6
    point = SubspaceGaussian(centre, torch.zeros(6, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    found = estimate(make_score(point, (6,)), centre.expand(5, 6))
    assert found.value == 0
    assert found.diagnostics["sigma"] == pytest.approx(1e-5), "no spread: the least noise of the process"


@pytest.mark.parametrize("ambient", [1, 2])
def test_few_coordinates(ambient: int, make_score: MakeScore, make_frame: MakeFrame) -> None:
    """The projector rule works from one coordinate on; the reference rule says what it needs."""
    distribution = SubspaceGaussian(
        torch.zeros(ambient, dtype=torch.float64), make_frame(ambient, 1), torch.ones(1, dtype=torch.float64)
    )
    x = torch.randn(6, 1, dtype=torch.float64) @ distribution.basis.T
    assert estimate(make_score(distribution, (ambient,)), x).value == 1
    with pytest.raises(DataError, match="projector"):
        estimate(make_score(distribution, (ambient,)), x, rule="reference")
