"""Synthetic manifolds: the points lie where they should, and their distributions and tangents are the true ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from scorefold.config import Config
from scorefold.errors import ConfigError, DataError
from scorefold_standard.data.config import DigitsConfig
from scorefold_standard.manifolds.config import (
    GaussianMixtureConfig,
    HelixConfig,
    SphereConfig,
    SubspaceConfig,
    SwissRollConfig,
    TorusConfig,
)
from scorefold_standard.manifolds.synthetic import DensityManifold, SyntheticManifold, draw_manifold
from scorefold_toolkit.data.manifolds import complete_basis, isometry
from scorefold_toolkit.distributions import Mixture, SphereDistribution, SubspaceGaussian

WITH_TANGENTS = [
    SphereConfig(dimension=3, ambient=7, points=50, radius=2.0, tangents=True),
    SphereConfig(dimension=1, points=50, tangents=True),
    TorusConfig(dimension=3, ambient=9, points=50, tangents=True),
    TorusConfig(form="revolution", ambient=5, points=50, tangents=True),
    SwissRollConfig(ambient=5, points=50, tangents=True),
    HelixConfig(ambient=4, points=50, tangents=True),
    SubspaceConfig(dimension=2, ambient=6, points=50, tangents=True),
]


def source_of(config: Config) -> SyntheticManifold | DensityManifold:
    if isinstance(config, TorusConfig | SwissRollConfig | HelixConfig):
        return SyntheticManifold(config)
    return DensityManifold(config)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", WITH_TANGENTS, ids=lambda c: type(c).__name__)
def test_tangent_bases_are_orthonormal_and_touch_the_manifold(config: Config) -> None:
    drawn = draw_manifold(config, 0)
    assert drawn.tangent is not None
    assert isinstance(drawn.dimension, int)
    n, ambient, k = drawn.tangent.shape
    assert (n, ambient, k) == (*drawn.x.shape, drawn.dimension)
    eye = torch.eye(k, dtype=torch.float64).expand(n, -1, -1)
    torch.testing.assert_close(drawn.tangent.mT @ drawn.tangent, eye)
    # Close neighbours on the manifold differ by a tangent vector, up to second order in their distance.
    dense = draw_manifold(config.model_copy(update={"points": 20_000, "tangents": False}), 0).x
    fresh = draw_manifold(config.model_copy(update={"points": 20_000}), 0)
    assert fresh.tangent is not None
    point, tangent = fresh.x[0], fresh.tangent[0]
    step = dense - point
    near = step[step.norm(dim=1).argsort()[1:4]]
    off = near - near @ tangent @ tangent.mT
    assert float((off.norm(dim=1) / near.norm(dim=1)).max()) < 2 * float(near.norm(dim=1).max())


def test_sphere_lies_on_its_sphere_and_says_so() -> None:
    source = DensityManifold(SphereConfig(dimension=10, ambient=100, points=500, radius=3.0))
    distribution = source.distribution()
    assert isinstance(distribution, SphereDistribution)
    x = source.load("train").x.double()
    u = x @ distribution.basis
    torch.testing.assert_close(u.norm(dim=1), torch.full((400,), 3.0, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(u @ distribution.basis.mT, x, atol=1e-5, rtol=0)
    assert (distribution.dimension, distribution.radius, source.load("test").truth["dimension"]) == (10, 3.0, 10)
    assert source.event_shape == (100,)


def test_sphere_is_uniform() -> None:
    u = draw_manifold(SphereConfig(dimension=4, points=40_000), 1).x
    assert float(u.mean(0).abs().max()) < 0.02
    torch.testing.assert_close(u.mT @ u / len(u), torch.eye(5).double() / 5, atol=5e-3, rtol=0)


def test_torus_of_revolution_is_uniform_by_area() -> None:
    x = draw_manifold(TorusConfig(form="revolution", points=100_000, ring_radius=2.0, radius=1.0), 0).x
    basis = isometry(3, 3, 0)
    local = x @ basis
    distance = local[:, :2].norm(dim=1)
    torch.testing.assert_close((distance - 2) ** 2 + local[:, 2] ** 2, torch.ones(100_000).double())
    # With density (1 + r cos a / R) / 2 pi, the mean of cos a is r / 2R = 1/4.
    assert float((distance - 2).mean()) == pytest.approx(0.25, abs=0.011)


def test_swiss_roll_and_helix_have_their_equations() -> None:
    roll = draw_manifold(SwissRollConfig(points=200), 0).x @ isometry(3, 3, 0)
    t = roll[:, [0, 2]].norm(dim=1)
    torch.testing.assert_close(roll[:, 0], t * t.cos())
    torch.testing.assert_close(roll[:, 2], t * t.sin())
    assert 1.5 * math.pi <= float(t.min()) < float(t.max()) <= 4.5 * math.pi
    helix = draw_manifold(HelixConfig(points=200, radius=2.0, pitch=0.5), 0).x @ isometry(3, 3, 0)
    angle = helix[:, 2] * 2 * math.pi / 0.5
    torch.testing.assert_close(helix[:, 0], 2 * angle.cos())
    torch.testing.assert_close(helix[:, 1], 2 * angle.sin())


def test_subspace_has_its_moments_with_noise() -> None:
    config = SubspaceConfig(
        dimension=2, ambient=4, variances=(4.0, 0.25), mean=(1.0, 2.0, 3.0, 4.0), points=100_000, noise_std=0.5
    )
    source = DensityManifold(config)
    distribution = source.distribution()
    assert isinstance(distribution, SubspaceGaussian)
    assert distribution.basis.shape == (4, 4)
    covariance = distribution.basis @ torch.diag(distribution.variances) @ distribution.basis.mT
    x = source.load("train").x.double()
    torch.testing.assert_close(x.mT.cov(), covariance, atol=0.1, rtol=0)
    torch.testing.assert_close(x.mean(0), distribution.mean, atol=0.035, rtol=0)
    torch.testing.assert_close(distribution.variances, torch.tensor([4.25, 0.5, 0.25, 0.25]).double())


def test_a_point_and_the_whole_space_are_subspaces() -> None:
    point = DensityManifold(SubspaceConfig(dimension=0, ambient=3, points=20, mean=(1.0, 2.0, 3.0)))
    assert bool((point.load("train").x == torch.tensor([1.0, 2.0, 3.0])).all())
    assert DensityManifold(SubspaceConfig(dimension=3, points=20)).event_shape == (3,)


def test_mixture_labels_dimensions_and_distribution_agree() -> None:
    config = GaussianMixtureConfig(
        dimensions=(0, 1, 3), weights=(1.0, 1.0, 2.0), ambient=5, points=4000, std=0.5, separation=9.0
    )
    source = DensityManifold(config)
    distribution = source.distribution()
    assert isinstance(distribution, Mixture)
    torch.testing.assert_close(distribution.weights, torch.tensor([0.25, 0.25, 0.5]).double())
    train = source.load("train")
    assert train.label is not None
    assert float((train.label == 2).double().mean()) == pytest.approx(0.5, abs=0.04)
    for i, component in enumerate(distribution.components):
        assert isinstance(component, SubspaceGaussian)
        assert float(component.mean.norm()) == pytest.approx(9.0)
        members = train.take((train.label == i).nonzero()[:, 0])
        assert bool((members.truth["dimension"] == config.dimensions[i]).all())
        step = members.x.double() - component.mean
        torch.testing.assert_close(step @ component.basis @ component.basis.mT, step, atol=1e-5, rtol=0)
        k = config.dimensions[i]
        torch.testing.assert_close(component.variances, torch.full((k,), 0.25).double())
        error = 0.25 * math.sqrt(2 * k / len(step))
        assert float(step.square().sum(1).mean()) == pytest.approx(0.25 * k, abs=5 * error + 1e-6)
    noised = DensityManifold(config.model_copy(update={"noise_std": 0.1})).distribution()
    assert isinstance(noised, Mixture)
    for k, component in zip(config.dimensions, noised.components, strict=True):
        assert isinstance(component, SubspaceGaussian)
        torch.testing.assert_close(component.variances, torch.tensor([0.26] * k + [0.01] * (5 - k)).double())


def test_splits_are_disjoint_seeded_and_complete() -> None:
    config = SphereConfig(points=200, fractions=(0.5, 0.3, 0.2))
    one, same, other = (DensityManifold(config.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    sizes = {split: len(one.load(split)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 100, "validation": 60, "test": 40}
    index = torch.cat([one.load(split).index for split in sizes])  # type: ignore[misc]
    assert sorted(index.tolist()) == list(range(200))
    assert torch.equal(one.load("test").x, same.load("test").x)
    assert not torch.equal(one.load("test").x, other.load("test").x)


def test_generator_gives_the_seed_once() -> None:
    config = HelixConfig(points=50)
    a, b, c = (SyntheticManifold(config, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(a.load("train").x, b.load("train").x)
    assert not torch.equal(a.load("train").x, c.load("train").x)
    fixed = config.model_copy(update={"seed": 9})
    d, e = (SyntheticManifold(fixed, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert torch.equal(d.load("train").x, e.load("train").x)


def test_noise_leaves_the_points_and_adds_its_variance() -> None:
    clean = SyntheticManifold(HelixConfig(points=5000, ambient=6)).load("train").x
    noised = SyntheticManifold(HelixConfig(points=5000, ambient=6, noise_std=0.1)).load("train").x
    assert float((noised - clean).std()) == pytest.approx(0.1, rel=0.022)
    distribution = DensityManifold(SphereConfig(noise_std=0.1)).distribution()
    assert isinstance(distribution, SphereDistribution)
    assert distribution.noise_std == pytest.approx(0.1)


def test_completed_basis_is_orthonormal_and_keeps_the_given_columns() -> None:
    basis = isometry(6, 2, 0)
    full = complete_basis(basis)
    torch.testing.assert_close(full.mT @ full, torch.eye(6).double())
    assert torch.equal(full[:, :2], basis)


@pytest.mark.parametrize(
    ("config", "given", "least"),
    [
        (SphereConfig, {"dimension": 3, "ambient": 3}, 4),
        (TorusConfig, {"dimension": 2, "ambient": 3}, 4),
        (TorusConfig, {"form": "revolution", "ambient": 2}, 3),
        (SwissRollConfig, {"ambient": 2}, 3),
        (HelixConfig, {"ambient": 2}, 3),
        (SubspaceConfig, {"dimension": 3, "ambient": 2}, 3),
        (GaussianMixtureConfig, {"dimensions": (1, 4), "ambient": 3}, 4),
    ],
)
def test_too_few_coordinates_are_refused(config: type[Config], given: dict[str, Any], least: int) -> None:
    """By the config, so that a run file says so before anything runs."""
    with pytest.raises(ValueError, match=rf"needs at least {least} coordinates; ambient is .* Set ambient: {least}"):
        config.model_validate(given)
    assert config.model_validate({**given, "ambient": least})


def test_bad_lengths_and_bad_splits_are_refused() -> None:
    with pytest.raises(ConfigError, match="variances has 1 numbers; expected 2"):
        DensityManifold(SubspaceConfig(dimension=2, variances=(1.0,)))
    with pytest.raises(ConfigError, match="mean has 1 numbers"):
        DensityManifold(SubspaceConfig(dimension=2, mean=(1.0,)))
    with pytest.raises(DataError, match="no split called 'held-out'"):
        SyntheticManifold(HelixConfig()).load("held-out")
    with pytest.raises(DataError, match="2 points can't be split"):
        SyntheticManifold(HelixConfig(points=2))
    with pytest.raises(DataError, match="validation split is empty"):
        SyntheticManifold(HelixConfig(fractions=(0.9, 0.0, 0.1))).load("validation")


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (TorusConfig, {"form": "revolution", "dimension": 3}),
        (TorusConfig, {"form": "revolution", "ring_radius": 0.5}),
        (GaussianMixtureConfig, {"dimensions": [1, 2], "weights": [1.0]}),
        (SphereConfig, {"fractions": [0.5, 0.5, 0.5]}),
        (SphereConfig, {"fractions": [math.nan, 0.5, 0.5]}),
        (DigitsConfig, {"range": [0.0, math.inf]}),
        (SphereConfig, {"dimension": 0}),
        (SphereConfig, {"radius": 0.0}),
    ],
)
def test_configs_refuse_what_cannot_be(model: type[Config], fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        model.model_validate(fields)


def test_the_published_isometry_is_one_for_all_seeds() -> None:
    config = SphereConfig(dimension=2, ambient=6, points=20, isometry=0)
    distributions = [DensityManifold(config.model_copy(update={"seed": seed})).distribution() for seed in (1, 2)]
    for distribution in distributions:
        assert isinstance(distribution, SphereDistribution)
        assert torch.equal(distribution.basis, isometry(6, 3, 9, published=0))
    other = DensityManifold(config.model_copy(update={"isometry": None})).distribution()
    assert isinstance(other, SphereDistribution)
    assert torch.equal(other.basis, isometry(6, 3, 0))


def test_angles_of_a_flat_torus_are_uniform() -> None:
    """All mean coordinates are 0, to five standard errors of 20,000 points."""
    drawn = draw_manifold(TorusConfig(dimension=2, points=20_000), 0)
    assert float(drawn.x.mean(0).abs().max()) < 5 * math.sqrt(0.5 / 20_000) * float(drawn.x.norm(dim=1).max())
