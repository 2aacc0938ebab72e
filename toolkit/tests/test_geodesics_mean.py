"""Barycentres: closed forms, discrete means, and what is said where there are two."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.geodesics import (
    GeodesicMetric,
    Geodesics,
    GraphChord,
    Matrices,
    SolverSettings,
    minimise,
    solve,
    straight,
)
from scorefold_toolkit.geodesics.field import Field
from scorefold_toolkit.geodesics.mean import Star, barycentre

FLAT = Matrices(lambda x: torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2))
HALF_PLANE = Matrices(lambda x: torch.eye(2, dtype=x.dtype) * x[:, 1:2, None] ** -2)
THREE = torch.tensor([[0.0, 1.0], [2.0, 2.0], [1.0, 0.5]], dtype=torch.float64)


def hill(height: float) -> GeodesicMetric:
    """The graph of height exp(-|x|^2 / 2)."""

    def value(x: Tensor) -> Tensor:
        return height * (-0.5 * x.square().sum(1)).exp()

    return GraphChord(Field(lambda x: -x * value(x)[:, None], value), weight=1.0)


def solver(metric: GeodesicMetric, points: int = 32) -> Callable[[Tensor, Tensor], Geodesics]:
    return lambda a, b: solve(metric, a, b, SolverSettings(points, 1e-10))


def mean(metric: GeodesicMetric, rows: Tensor, shares: list[float] | None = None, points: int = 32) -> Tensor:
    weights = (
        torch.ones(len(rows), dtype=torch.float64) if shares is None else torch.tensor(shares, dtype=torch.float64)
    )
    return barycentre(metric, rows, weights / weights.sum(), points, solver(metric, points))


def star(metric: GeodesicMetric, rows: Tensor, centre: Tensor, shares: Tensor, points: int) -> Star:
    return Star(metric, straight(rows, centre.expand_as(rows), points), shares)


@pytest.mark.parametrize(
    ("points", "expected"), [(10, (0.850100, 1.188415)), (20, (0.850231, 1.187911)), (40, (0.850264, 1.187785))]
)
def test_discrete_means_of_the_half_plane(points: int, expected: tuple[float, float]) -> None:
    whole = star(HALF_PLANE, THREE, THREE[2], torch.full((3,), 1 / 3, dtype=torch.float64), points)
    found = minimise(whole, whole.start, tolerance=1e-14)
    torch.testing.assert_close(whole.paths(found.path)[0, -1], torch.tensor(expected).double(), atol=1e-6, rtol=0)


def test_the_mean_of_the_half_plane() -> None:
    found = mean(HALF_PLANE, THREE, points=64)
    expected = torch.tensor([0.8502744249800662, 1.1877426707553083], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
    squares = solver(HALF_PLANE, 64)(found.expand_as(THREE).contiguous(), THREE).length.square()
    assert float(squares.sum()) == pytest.approx(2.170841781922067, abs=1e-6)


def test_flat_means_are_weighted_means_and_weights_of_0_are_left_out() -> None:
    far = torch.cat([THREE, torch.full((1, 2), 1e6, dtype=torch.float64)])
    expected = (THREE[0] + 2 * THREE[1] + 3 * THREE[2]) / 6
    torch.testing.assert_close(mean(FLAT, far, [1, 2, 3, 0]), expected, atol=1e-5, rtol=0)


def test_in_flat_space_one_step_is_enough() -> None:
    """The preconditioner inverts the Hessian there: the point and the paths do not depend on one another."""
    shares = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    whole = star(FLAT, THREE, torch.tensor([3.0, -1.0], dtype=torch.float64), shares, 8)
    found = minimise(whole, whole.start, tolerance=1e-14)
    assert found.steps.tolist() == [1]
    torch.testing.assert_close(whole.paths(found.path)[0, -1], shares @ THREE, atol=1e-12, rtol=0)


@pytest.mark.parametrize("metric", [HALF_PLANE, hill(2.0)])
def test_the_gradient_is_that_of_the_weighted_energy(metric: GeodesicMetric) -> None:
    shares = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    whole = star(metric, THREE, torch.tensor([0.7, 1.1], dtype=torch.float64), shares, 6)
    state = whole.evaluate(whole.start, {})
    energies = metric.evaluate(whole.paths(whole.start), {})["energy"]
    assert float(state["energy"]) == pytest.approx(float(shares @ energies), rel=1e-14)
    move = torch.randn(whole.start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    move[:, 0] = move[:, -1] = 0
    ahead, behind = (whole.evaluate(whole.start + size * move, {})["energy"] for size in (1e-5, -1e-5))
    slope = (whole.gradient(whole.start, state) * move).sum()
    assert float(slope) == pytest.approx(float((ahead - behind) / 2e-5), rel=1e-6)


def test_values_at_the_free_end_move_with_it() -> None:
    """A metric that keeps log p at the ends of its paths gets it at each new place of the mean."""

    class Kept(GraphChord):
        def known(self, start: Tensor, end: Tensor) -> dict[str, Tensor]:
            return {"ends": torch.stack([start.sum(1), end.sum(1)], 1)}

        def evaluate(self, path: Tensor, known: dict[str, Tensor]) -> dict[str, Tensor]:
            seen.append(known["ends"] - torch.stack([path[:, 0].sum(1), path[:, -1].sum(1)], 1))
            return super().evaluate(path, known)

    seen: list[Tensor] = []
    normal = Kept(Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1)), weight=1.0)
    whole = star(normal, THREE, THREE[0], torch.full((3,), 1 / 3, dtype=torch.float64), 8)
    minimise(whole, whole.start, tolerance=1e-8)
    assert len(seen) > 3
    assert max(float(each.abs().max()) for each in seen) == 0


def test_a_mean_with_two_places_is_said_to_have_them() -> None:
    """Between two points on either side of a hill there is one mean on each of the other two sides."""
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    with pytest.warns(UserWarning, match="the mean may not be unique"):
        found = mean(hill(5.0), ends)
    assert abs(float(found[1])) > 0.5
    assert abs(float(found[0])) < 1e-3


def test_a_worse_end_of_another_start_is_no_second_mean() -> None:
    """The hill stands aside, so the way round it is longer on one side."""
    ends = torch.tensor([[-1.0, 0.3], [1.0, 0.3]], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mean(hill(5.0), ends)
    assert float(found[1]) > 0.5


def test_equal_points_and_one_point_are_their_own_mean() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (THREE[:1], THREE[:1].repeat(3, 1)):
            torch.testing.assert_close(mean(HALF_PLANE, rows), THREE[0], atol=1e-12, rtol=0)


def test_a_mean_that_geodesics_pull_from_is_refused() -> None:
    """Geodesics of another metric than the paths' pull from each mean of these: three rounds, and an error."""
    rounds = []

    def others(a: Tensor, b: Tensor) -> Geodesics:
        rounds.append(len(a))
        return solver(HALF_PLANE)(a, b)

    with pytest.raises(DataError, match="no barycentre was found in 3 rounds"):
        barycentre(FLAT, THREE, torch.full((3,), 1 / 3, dtype=torch.float64), 16, others)
    assert rounds == [3, 3, 3]


def test_a_metric_with_a_kink_gets_a_finer_grid() -> None:
    """Near the kink the error does not fall as Richardson's rule says, and geodesics pull."""
    cone = Matrices(lambda x: torch.eye(2, dtype=x.dtype) * (0.05 + x.norm(dim=1))[:, None, None])
    rows = torch.tensor([[-1.2, 0.1], [0.4, 1.1], [-0.9, -1.3], [0.2, 0.1]], dtype=torch.float64)
    found, strict = mean(cone, rows), solver(cone)
    value = float(strict(found.expand_as(rows).contiguous(), rows).length.square().sum())
    for move in torch.tensor([[0.05, 0], [-0.05, 0], [0, 0.05], [0, -0.05]], dtype=torch.float64):
        near = (found + move).expand_as(rows).contiguous()
        assert float(strict(near, rows).length.square().sum()) > value


def test_a_mean_takes_at_most_three_times_the_calls_of_its_geodesics() -> None:
    """Points are evaluated some 36 times a path, where each geodesic alone takes some 15."""
    counts = [0, 0]

    class Counted(Matrices):
        which = 0

        def evaluate(self, path: Tensor, known: dict[str, Tensor]) -> dict[str, Tensor]:
            counts[self.which] += path.shape[0] * path.shape[1]
            return super().evaluate(path, known)

    metric = Counted(HALF_PLANE.matrices)
    found = mean(metric, THREE)
    metric.which = 1
    solver(metric)(found.expand_as(THREE).contiguous(), THREE)
    assert counts[0] <= 3 * counts[1]
