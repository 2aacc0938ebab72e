"""The benchmark manifolds: their dimensions, scikit-dimension's points, and traps."""

from __future__ import annotations

import typing
import warnings
from statistics import NormalDist

import numpy as np
import pytest
import torch

from scorefold.errors import DataError
from scorefold_standard.manifolds.benchmark import MANIFOLDS, BenchmarkManifold, manifold_points
from scorefold_standard.manifolds.config import BenchmarkManifoldConfig, GeoMLEManifoldConfig
from scorefold_toolkit.data.splits import moments

TRUTH = {
    "M1_Sphere": (10, 11),
    "M2_Affine_3to5": (3, 5),
    "M3_Nonlinear_4to6": (4, 6),
    "M4_Nonlinear": (4, 8),
    "M5a_Helix1d": (1, 3),
    "M5b_Helix2d": (2, 3),
    "M6_Nonlinear": (6, 36),
    "M7_Roll": (2, 3),
    "M8_Nonlinear": (12, 72),
    "M9_Affine": (20, 20),
    "M10a_Cubic": (10, 11),
    "M10b_Cubic": (17, 18),
    "M10c_Cubic": (24, 25),
    "M10d_Cubic": (70, 71),
    "M11_Moebius": (2, 3),
    "M12_Norm": (20, 20),
    "M13a_Scurve": (2, 3),
    "M13b_Spiral": (1, 13),
    "Mbeta": (10, 40),
    "Mn1_Nonlinear": (18, 72),
    "Mn2_Nonlinear": (24, 96),
    "Mp1_Paraboloid": (3, 12),
    "Mp2_Paraboloid": (6, 21),
    "Mp3_Paraboloid": (9, 30),
}


def test_all_manifolds_are_offered() -> None:
    assert typing.get_args(BenchmarkManifoldConfig.model_fields["name"].annotation) == tuple(TRUTH)


@pytest.mark.parametrize("name", list(TRUTH))
def test_each_has_the_dimensions_of_the_table(name: str) -> None:
    source = BenchmarkManifold(BenchmarkManifoldConfig.model_validate({"name": name, "points": 300}))
    train = source.load("train")
    dimension, size = TRUTH[name]
    assert (train.truth["dimension"], source.event_shape, len(train)) == (dimension, (size,), 240)
    assert bool(train.x.isfinite().all())


@pytest.mark.parametrize("name", list(TRUTH))
def test_points_are_those_of_scikit_dimension(name: str) -> None:
    with warnings.catch_warnings():  # its import switches all warnings off
        from skdim.datasets import BenchmarkManifolds

    manifold = MANIFOLDS[name]
    theirs = BenchmarkManifolds(random_state=5).generate(name, n=57, d=manifold.dimension, dim=manifold.columns)
    ours = manifold.draw(np.random.RandomState(5), 57, manifold.dimension)
    np.testing.assert_allclose(ours, theirs[:, : ours.shape[1]], rtol=1e-12, atol=1e-12)
    assert not theirs[:, ours.shape[1] :].any()


@pytest.mark.parametrize(("name", "rank"), [("M9_Affine", 20), ("M12_Norm", 20), ("M2_Affine_3to5", 3)])
def test_affine_sets_span_their_dimension(name: str, rank: int) -> None:
    x = manifold_points(MANIFOLDS[name], 300, 0)
    values = torch.linalg.svdvals(x - x.mean(0))
    assert int((values > 1e-9 * values[0]).sum()) == rank


@pytest.mark.parametrize(("name", "count"), [("M10a_Cubic", 300), ("M10d_Cubic", 300)])
def test_all_faces_of_a_cube_have_points(name: str, count: int) -> None:
    """Face by face and cut off at the end, the last third of 142 faces would have none of 300 points."""
    x, dimension = manifold_points(MANIFOLDS[name], count, 0), MANIFOLDS[name].dimension
    on_face = torch.cat([x == 0, x == 1], dim=1)
    assert bool((on_face.sum(1) == 1).all())
    faces = on_face.sum(0)
    expected = count / (2 * (dimension + 1))
    assert int((faces == 0).sum()) <= 0.25 * len(faces)
    # The last quarter of the coordinates has its share.
    late = on_face[:, [i for i in range(2 * (dimension + 1)) if i % (dimension + 1) > 0.75 * dimension]]
    assert int(late.sum()) > 0.7 * expected * late.shape[1]


def test_points_are_seeded() -> None:
    a, b, c = (BenchmarkManifold(BenchmarkManifoldConfig(points=60, seed=seed)).load("test").x for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    d, e = (
        BenchmarkManifold(BenchmarkManifoldConfig(points=60), generator=torch.Generator().manual_seed(seed))
        for seed in (1, 2)
    )
    assert not torch.equal(d.load("test").x, e.load("test").x)


def test_the_table_is_scaled_by_one_factor() -> None:
    config = BenchmarkManifoldConfig(name="M13b_Spiral", points=400)
    raw, scaled = BenchmarkManifold(config), BenchmarkManifold(config.model_copy(update={"scale": "table"}))
    assert raw.event_scale.std > 25
    assert scaled.event_scale.mean == pytest.approx(0, abs=1e-6)
    assert scaled.event_scale.std == pytest.approx(1)
    x = scaled.load("train").x
    assert moments(x) == pytest.approx((0, 1), abs=1e-5)
    torch.testing.assert_close(scaled.event_scale.to_raw(x).float(), raw.load("train").x, atol=1e-3, rtol=1e-5)
    # One factor for all coordinates keeps the shape: distances all shrink alike.
    ratio = torch.pdist(x) / torch.pdist(raw.load("train").x)
    assert float(ratio.max() / ratio.min()) == pytest.approx(1, abs=1e-3)


def test_too_few_points_are_refused() -> None:
    with pytest.raises(DataError, match="2 points can't be split"):
        BenchmarkManifold(BenchmarkManifoldConfig(points=2))


FAMILIES = [
    ("Sphere", 3, 5, "sphere"),
    ("Affine", 4, 4, "affine"),
    ("Affine_3to5", 3, 5, "affine3_5"),
    ("Nonlinear", 4, 16, "nonlinear"),
    ("Nonlinear_4to6", 4, 6, "nonlinear4_6"),
    ("Spiral", 1, 13, "spiral"),
    ("Helix1d", 1, 3, "helix1"),
    ("Helix2d", 2, 13, "helix2"),
    ("Helicoid", 2, 3, "helicoid"),
    ("Roll", 2, 3, "roll"),
    ("Scurve", 2, 3, "scurve"),
    ("Moebius", 2, 3, "moebius"),
    ("Uniform", 5, 10, "uniform"),
    ("Norm", 20, 50, "norm"),
    ("Paraboloid", 3, 12, "paraboloid"),
    ("Cubic", 3, 5, "cubic"),
]


def family(**settings: typing.Any) -> BenchmarkManifold:
    return BenchmarkManifold(GeoMLEManifoldConfig.model_validate({"fractions": (0, 0, 1), "seed": 3, **settings}))


@pytest.mark.parametrize(("name", "dimension", "columns", "theirs"), FAMILIES)
def test_families_have_the_moments_of_scikit_dimension(name: str, dimension: int, columns: int, theirs: str) -> None:
    with warnings.catch_warnings():
        from skdim.datasets import BenchmarkManifolds

    many = 20_000
    test = family(set=name, dimension=dimension, ambient=columns, points=many).load("test")
    draw = getattr(BenchmarkManifolds(random_state=5), f"_gen_{theirs}_data")
    expected = torch.from_numpy(np.asarray(draw(n=many, dim=columns, d=dimension)))
    ours = test.x.double()
    assert test.truth["dimension"] == dimension
    for power in (1, 2):
        here, there = (x.pow(power) for x in (ours, expected))
        error = (here.var(0) + there.var(0)).div(many).sqrt()
        assert bool(((here.mean(0) - there.mean(0)).abs() <= 6 * error + 1e-9).all())


@pytest.mark.parametrize("name", [row[0] for row in FAMILIES if row[0] not in ("Uniform", "Norm", "Paraboloid")])
def test_the_other_sampler_crowds_points(name: str) -> None:
    """A number between 0 and 1 has variance 1/12 by one sampler and about 1/25 by the other."""
    dimension = next(row[1] for row in FAMILIES if row[0] == name)
    even, crowded = (
        family(set=name, dimension=dimension, points=3000, sampling=sampling).load("test").x.double()
        for sampling in ("uniform", "nonuniform")
    )
    assert not torch.equal(even, crowded)
    if name == "Affine":
        assert float(crowded.var(0).mean()) == pytest.approx(1, rel=0.1)
        assert float(even.var(0).mean()) == pytest.approx(25 / 12, rel=0.1)
    if name == "Sphere":
        torch.testing.assert_close(crowded.norm(dim=1), torch.ones(3000, dtype=torch.float64))
        assert float(crowded.pow(4).sum(1).mean()) < float(even.pow(4).sum(1).mean())  # a cube's corners


def test_crowded_numbers_are_folded_back_into_the_range() -> None:
    """Numbers below 0 are reflected, and numbers above 1 start again at 0: these are 2.5 deviations from a half."""
    u = family(set="Affine", dimension=4, points=20_000, sampling="nonuniform").load("test").x / 5 + 0.5
    assert float(u.min()) >= 0
    assert float(u.max()) <= 1
    beyond_2, beyond_25, beyond_3 = (NormalDist().cdf(-deviations) for deviations in (2, 2.5, 3))
    for found, expected in (
        ((u < 0.1).double(), beyond_2 - beyond_25 + 2 * (beyond_25 - beyond_3)),
        ((u > 0.9).double(), beyond_2 - beyond_25),
    ):
        assert float(found.mean()) == pytest.approx(expected, abs=5 * (expected / found.numel()) ** 0.5)


def test_noise_is_absolute() -> None:
    quiet, noisy = (family(set="Spiral", dimension=1, noise_std=noise).load("test").x for noise in (0.0, 0.05))
    assert float((noisy - quiet).std()) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"set": "Roll", "dimension": 3}, "Set dimension: 2"),
        ({"set": "Sphere", "dimension": 5, "ambient": 5}, "Set ambient: 6"),
        ({"set": "Nonlinear", "dimension": 4, "ambient": 12}, "Set ambient: 16"),
        ({"set": "Paraboloid", "dimension": 3, "ambient": 11}, "Set ambient: 12"),
        ({"set": "Norm", "sampling": "nonuniform"}, "Set sampling: uniform"),
    ],
)
def test_sets_that_the_tables_do_not_have_are_refused(settings: dict[str, typing.Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        family(**settings)
