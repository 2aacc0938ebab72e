"""Euclidean space: every identity holds exactly, whatever the event shape."""

from __future__ import annotations

import pytest
import torch

from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ClosedFormGeodesics, Geometry, Transports
from scorefold_standard.baselines import Euclidean
from scorefold_standard.config import EuclideanConfig, UniformConfig
from scorefold_standard.data.config import DigitsConfig
from scorefold_standard.data.pixels import Digits

SHAPE = (2, 3)


@pytest.fixture
def space() -> Euclidean:
    return Euclidean(EuclideanConfig(event_shape=SHAPE))


@pytest.fixture
def xy(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y, v = torch.randn(3, 5, *SHAPE, generator=generator, dtype=torch.float64)
    return x, y, v


def test_exponential_inverts_logarithm_and_distance_is_its_length(
    space: Euclidean, xy: tuple[torch.Tensor, ...]
) -> None:
    x, y, v = xy
    torch.testing.assert_close(space.exp(x, space.log(x, y)), y)
    torch.testing.assert_close(space.log(x, space.exp(x, v)), v)
    torch.testing.assert_close(space.distance(x, y), (x - y).flatten(1).norm(dim=1))
    torch.testing.assert_close(space.distance(x, y), space.distance(y, x))


def test_overrides_agree_with_the_definitions_in_the_base(space: Euclidean, xy: tuple[torch.Tensor, ...]) -> None:
    x, y, v = xy
    times = torch.linspace(0, 1, 4, dtype=torch.float64)
    torch.testing.assert_close(space.inner(x, v, y), Geometry.inner(space, x, v, y))
    torch.testing.assert_close(space.inner(x[:1], v[:1], y), Geometry.inner(space, x[:1], v[:1], y))
    torch.testing.assert_close(space.distance_matrix(x, y[:2]), Geometry.distance_matrix(space, x, y[:2]))
    torch.testing.assert_close(space.distance_matrix(x), Geometry.distance_matrix(space, x))
    torch.testing.assert_close(space.geodesic(x, y, times), Geometry.geodesic(space, x, y, times))
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(space.mean(x, weights), Geometry.mean(space, x, weights))
    torch.testing.assert_close(space.mean(x), x.mean(0))


def test_transport_keeps_inner_products_and_broadcasts(space: Euclidean, xy: tuple[torch.Tensor, ...]) -> None:
    x, y, v = xy
    assert torch.equal(space.transport(x, y, v), v)
    assert space.transport(x, y, v[:1]).shape == x.shape
    assert isinstance(space, Transports)
    assert isinstance(space, ClosedFormGeodesics)


def test_small_distances_keep_their_digits() -> None:
    line = Euclidean(EuclideanConfig(event_shape=(50,)))
    x = 1000 * torch.ones(30, 50)
    y = x.clone()
    y[:, 0] += 1e-3 * 1024 / 1000
    torch.testing.assert_close(line.distance_matrix(x, y), (y[0, 0] - x[0, 0]).expand(30, 30))


def test_empty_batches_dtype_and_shape(space: Euclidean) -> None:
    none = torch.empty(0, *SHAPE)
    assert space.exp(none, none).shape == (0, *SHAPE)
    assert space.metric(none).shape == (0, 6, 6)
    assert space.distance_matrix(none).shape == (0, 0)
    assert space.metric(torch.zeros(2, *SHAPE, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(ShapeError, match=r"expected \(B, 2, 3\)"):
        space.exp(torch.zeros(4, 6), torch.zeros(4, 6))
    with pytest.raises(ShapeError, match="mean of no points"):
        space.mean(none)
    with pytest.raises(ShapeError, match=r"expected \(T,\)"):
        space.geodesic(torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE), torch.tensor(0.5))


def test_the_shape_comes_from_the_config_or_the_data() -> None:
    digits = Digits(DigitsConfig(limit=30))
    assert Euclidean(EuclideanConfig(), data=digits).event_shape == (1, 8, 8)
    with pytest.raises(ConfigError, match="of which shape"):
        Euclidean(EuclideanConfig())
    with pytest.raises(ConfigError, match=r"event_shape is \(3,\); the data have events \(1, 8, 8\)"):
        Euclidean(EuclideanConfig(event_shape=(3,)), data=digits)


@pytest.mark.parametrize("shape", [[], [0], [-1]])
def test_a_shape_without_coordinates_is_refused(shape: list[int]) -> None:
    with pytest.raises(ValueError):
        EuclideanConfig.model_validate({"event_shape": shape})


def test_uniform_config_refuses_a_type_twice() -> None:
    with pytest.raises(ValueError, match="names a type twice"):
        UniformConfig(task_types=("a", "a"))
