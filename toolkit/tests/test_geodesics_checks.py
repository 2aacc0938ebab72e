"""Curvature in closed form, saddles, steps measured in parts, and pairs in two narrow modes."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ShapeError
from scorefold_toolkit.checks import equal_batches
from scorefold_toolkit.geodesics import (
    Conformal,
    Differences,
    Field,
    GeodesicMetric,
    GraphChord,
    GraphMidpoint,
    MapChord,
    Matrices,
    OfDensity,
    PullbackChord,
    SolverSettings,
    least_eigenvalue,
    minimise,
    solve,
    straight,
)
from scorefold_toolkit.geodesics.geometry import version
from scorefold_toolkit.geodesics.motion import integrate

NORMAL = Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1))


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def ones(f: Tensor) -> tuple[Tensor, Tensor]:
    """phi = log p."""
    return f, torch.ones_like(f)


def modes(deviation: float) -> Field:
    """Equal Gaussians at (-2, 0) and (2, 0)."""
    means = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)

    def log_prob(x: Tensor) -> Tensor:
        return (-0.5 * (x[:, None] - means).square().sum(2) / deviation**2).logsumexp(1) - math.log(2)

    return OfDensity(log_prob)


SPHERE = Conformal(OfDensity(lambda x: math.log(2) - x.square().sum(1).log1p()), ones)
HALF_PLANE = Conformal(OfDensity(lambda x: -x[:, -1].log()), ones)
BENT = Conformal(OfDensity(lambda x: -0.5 * x.square().sum(1)), lambda f: (0.5 * f.square(), f))
"""phi = |x|^4 / 8: K = -e^(-2 phi) 2 |x|^2 in the plane."""


@pytest.mark.parametrize(
    ("metric", "x", "expected"),
    [
        (SPHERE, row(0.3, -1.2, 0.4), 1.0),
        (HALF_PLANE, row(0.3, 0.2, 0.7), -1.0),
        (BENT, row(0.6, -0.8), -2 * math.exp(-0.25)),
        (GraphChord(NORMAL, 1.0), row(2, 0), 0.04),
        (GraphChord(NORMAL, 1.0), row(0, 0), 1.0),
    ],
)
def test_sectional_curvatures(metric: GeodesicMetric, x: Tensor, expected: float) -> None:
    generator = torch.Generator().manual_seed(3)
    u, w = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    assert float(metric.curvature(x, u, w)) == pytest.approx(expected, rel=1e-10)
    assert float(metric.curvature(x, w, 3 * u - w)) == pytest.approx(expected, rel=1e-9), "the plane alone counts"
    assert bool(metric.curvature(x, u, -2 * u).isnan())


def test_curvatures_by_autograd_and_by_the_equation_of_gauss_are_the_closed_forms() -> None:
    """GraphMidpoint has no formula of its own; the graph of a map x to x^2 / 2 has the normal density's metric."""
    x, u, w = row(1.1, 0.3), row(1, 0.2), row(-0.4, 1)
    expected = float(GraphChord(NORMAL, 2.0).curvature(x, u, w))
    assert float(GraphMidpoint(NORMAL, 2.0).curvature(x, u, w)) == pytest.approx(expected, rel=1e-12)
    half = Matrices(lambda at: torch.eye(2, dtype=at.dtype) * at[:, -1, None, None] ** -2)
    assert float(half.curvature(x, u, w)) == pytest.approx(-1, rel=1e-12)
    graph = MapChord(Differences(lambda at: 2**0.5 * at.square().sum(1, keepdim=True) / 2), 1.0)
    assert float(graph.curvature(x, u, w)) == pytest.approx(expected, rel=1e-7)
    whole = PullbackChord(Differences(lambda at: torch.cat([at, at.square().sum(1, keepdim=True) / 2**0.5], 1)))
    assert float(whole.curvature(x, u, w)) == pytest.approx(expected, rel=1e-7)


def test_gradient_of_the_energy_of_images() -> None:
    """By differences, and 2N A^T A (2 x_k - x_(k-1) - x_(k+1)) of a linear map A."""
    bent = PullbackChord(Differences(lambda at: torch.cat([at, at.square().sum(1, keepdim=True) / 2], 1)))
    generator = torch.Generator().manual_seed(1)
    path, move = (torch.randn(2, 5, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    ahead, behind = (bent.evaluate(path + sign * 1e-5 * move, {})["energy"] for sign in (1, -1))
    slope = (bent.gradient(path, bent.evaluate(path, {})) * move).sum((1, 2))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, atol=0, rtol=1e-6)
    factors = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    linear = PullbackChord(Differences(lambda at: at @ factors.T))
    found = linear.gradient(path, linear.evaluate(path, {}))[:, 1:-1]
    expected = 8 * (2 * path[:, 1:-1] - path[:, :-2] - path[:, 2:]) @ (factors.T @ factors)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_one_pass_gives_a_density_and_its_score() -> None:
    field, x = modes(0.5), row(0.3, -0.2)
    score, height = field.both(x)
    assert field.log_prob is not None
    torch.testing.assert_close(height, field.log_prob(x))
    moved = (field.log_prob(x + 1e-6) - field.log_prob(x - 1e-6)) / 2e-6
    torch.testing.assert_close(score.sum(1), moved, atol=1e-7, rtol=0)


def arc(angle: float) -> Tensor:
    turns = torch.linspace(0, angle, 33, dtype=torch.float64)
    return torch.stack([turns.cos(), turns.sin(), torch.zeros_like(turns)], 1)[None]


def test_the_long_way_round_a_sphere_is_a_saddle() -> None:
    """The equator past the antipode: the index theorem of Morse counts a conjugate point."""
    assert float(least_eigenvalue(SPHERE, arc(1.5), steps=60)) > 0.1
    assert float(least_eigenvalue(SPHERE, arc(1.5 - 2 * math.pi), steps=60)) < -0.1


def test_a_line_over_a_hill_is_a_saddle() -> None:
    """A straight line over the top of a hill, which the shortest path goes round."""
    hill = GraphChord(NORMAL, 1.0)
    assert float(least_eigenvalue(hill, straight(row(-2, 0), row(2, 0), 32))) < -0.1
    round_ = minimise(hill, straight(row(2, 0), row(0, 2), 32), tolerance=1e-12)
    assert float(least_eigenvalue(hill, round_.path)) > 0.1
    assert math.isinf(float(least_eigenvalue(hill, straight(row(2, 0), row(0, 2), 1))))


def test_the_least_eigenvalue_where_all_are_equal() -> None:
    """In a flat space the preconditioner is the inverse, so each eigenvalue is 1, and the search ends after one."""
    flat = Conformal(OfDensity(lambda x: 0 * x.sum(1)), ones)
    assert float(least_eigenvalue(flat, straight(row(-2, 0), row(2, 0), 16), steps=10)) == pytest.approx(1, abs=1e-6)


def test_steps_in_parts_have_the_gradient_and_the_normal_matrix_of_their_energy() -> None:
    metric = GraphChord(modes(0.8), 0.7, parts=3)
    generator = torch.Generator().manual_seed(0)
    path, move = (torch.randn(2, 5, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    state = metric.evaluate(path, {})
    ahead, behind = (metric.evaluate(path + sign * 1e-5 * move, {})["energy"] for sign in (1, -1))
    slope = (metric.gradient(path, state) * move).sum((1, 2))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, atol=0, rtol=1e-7)

    def residuals(inner: Tensor) -> Tensor:
        whole = torch.cat([path[:1, :1], inner, path[:1, -1:]], 1)
        found = metric.evaluate(whole, {})
        rises = (0.7 * 3) ** 0.5 * found["rises"].flatten()
        return 2 * torch.cat([whole.diff(dim=1).flatten(), rises])  # E = N |residuals / 2|^2, N = 4

    slopes = torch.autograd.functional.jacobian(residuals, path[:1, 1:-1]).flatten(1)
    normal = 2 * slopes.T @ slopes
    found = metric.precondition(path[:1], metric.evaluate(path[:1], {}))(
        (normal @ move[0, 1:-1].flatten()).reshape(1, 3, 2)
    )
    torch.testing.assert_close(found[0], move[0, 1:-1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("alone", [False, True], ids=["density", "score"])
@pytest.mark.parametrize("deviation", [0.2, 0.3])
def test_pairs_in_two_narrow_modes_have_their_distance(deviation: float, alone: bool) -> None:
    """The plane between the modes must be crossed, which bounds the length from below; over the saddle from above."""
    field, weight = modes(deviation), deviation**2
    metric = GraphChord(field, weight)
    solved = GraphChord(Field(field.score), weight) if alone else metric
    start = torch.cat([row(-2, 0), row(-2.1, 0.3)])
    end = torch.cat([row(2, 0), row(2.05, 0.1)])
    assert field.log_prob is not None
    saddle = field.log_prob(row(0, 0))
    halves = [(x[:, 0].square() + weight * (field.log_prob(x) - saddle).square()).sqrt() for x in (start, end)]
    lower = halves[0] + halves[1]
    middle = torch.zeros_like(start)
    upper = sum(metric.length(straight(x, middle, 4000), {}) for x in (start, end))
    found = solve(solved, start, end, SolverSettings(points=32))
    assert found.reasons == ["", ""]
    assert bool((found.length > lower * (1 - 1e-3)).all())
    assert bool((found.length - found.error < upper).all()), "the error is on the safe side"
    assert bool((found.error < 0.02 * upper).all())


def test_a_score_that_is_no_gradient_takes_few_calls() -> None:
    """A line search that halves a step 30 times brings nothing here, and takes 116 calls per point."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(20, 20, generator=generator, dtype=torch.float64) / 20**0.5
    a, b = (torch.randn(8, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    metric = GraphChord(Field(lambda x: (2 * x @ mixing).sin() - x), 1.0)
    found = solve(metric, a, b, SolverSettings(points=16, tolerance=1e-4, steps=12))
    assert float(found.calls.double().mean()) / 17 < 70
    assert found.reasons == [""] * 8


def test_a_map_in_single_precision_takes_few_calls() -> None:
    """A line search that waits for the energy to fall below its rounding halves each step to nothing."""

    def rounded(x: Tensor) -> Tensor:
        return (x.float() + 0.5 * (3 * x.float()).sin()).double()

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(8, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    exact, loose = (solve(MapChord(Field(rounded), 1.0, exact=exact), a, b) for exact in (True, False))
    torch.testing.assert_close(loose.length, exact.length, rtol=1e-3, atol=0)
    assert int(3 * loose.calls.sum()) < int(exact.calls.sum())
    assert not any(loose.reasons)


def test_a_map_that_does_not_converge_is_searched_with_patience() -> None:
    loose = MapChord(Field(lambda x: x**3), 2.0, 0.5, parts=4, exact=False)
    sure = loose.sure()
    assert isinstance(sure, MapChord)
    assert (sure.weight, sure.identity, sure.parts, sure.exact) == (2.0, 0.5, 4, True)
    assert sure.sure() is None


def test_whole_numbers_are_no_points() -> None:
    """An answer in their type would be cut off."""
    with pytest.raises(ShapeError, match=r"x is torch\.int64; expected floating-point numbers"):
        equal_batches(torch.nn.Identity(), "geometry", "this geometry takes", (2,), {"x": torch.tensor([[0, 1]])})


def test_motion_ends_at_time_one() -> None:
    """y' = y ends at e times the start, for rows of any size."""
    start = torch.tensor([[[1.0, 2.0]], [[1e-3, 5.0]]], dtype=torch.float64)
    torch.testing.assert_close(integrate(lambda y: y, start, 1e-8), math.e * start, rtol=1e-6, atol=0)


def half_plane(x: Tensor) -> Tensor:
    return torch.eye(2, dtype=x.dtype) / x[:, 1, None, None] ** 2


def disc(x: Tensor) -> Tensor:
    return torch.eye(2, dtype=x.dtype) * (2 / (1 - x.square().sum(1)[:, None, None])) ** 2


def sphere(x: Tensor) -> Tensor:
    return torch.eye(2, dtype=x.dtype) * (2 / (1 + x.square().sum(1)[:, None, None])) ** 2


@pytest.mark.parametrize(
    ("values", "start", "end", "truth"),
    [
        (half_plane, (0.0, 1.0), (0.0, 1000.0), math.log(1000)),
        (disc, (0.99, 0.0), (-0.99, 0.0), 4 * math.atanh(0.99)),
    ],
)
def test_a_metric_that_varies_much_is_solved_in_steps_of_its_own_length(
    values: Any, start: tuple[float, float], end: tuple[float, float], truth: float
) -> None:
    found = solve(Matrices(values), torch.tensor([start]).double(), torch.tensor([end]).double())
    assert found.reasons == [""]
    assert float(found.length) == pytest.approx(truth, rel=1e-3)


def test_points_nearer_than_rounding_have_their_distance() -> None:
    a = torch.tensor([[0.3, 0.2]], dtype=torch.float64)
    b = a + torch.tensor([[1e-14, 0]])
    found = solve(Matrices(sphere), a, b)
    assert found.reasons == [""]
    assert float(found.length) == pytest.approx(float((b - a).norm()) * 2 / 1.13, rel=1e-9)


def test_a_path_that_runs_off_says_how_much_the_metric_varies() -> None:
    """The shortest path between (2, 0) and (-2, 0) of the sphere without its pole goes through infinity."""
    found = solve(Matrices(sphere), torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[-2.0, 0.0]]).double())
    assert re.fullmatch(r"not resolved: the metric varies too much .* by a factor of [\d.e+]+", found.reasons[0])


def bumps(x: Tensor) -> Tensor:
    """Forty hills in the plane: many paths are locally the shortest."""
    middles = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    height = 1 + 3 * torch.exp(-(x[:, None] - middles).square().sum(2) / (2 * 0.15**2)).sum(1)
    return torch.eye(2, dtype=x.dtype) * height[:, None, None] ** 2


def test_starts_that_disagree_are_counted_and_arcs_are_tried() -> None:
    """A path of 6.26 is known between the second pair; from straight lines alone 7.23 was found."""
    start, end = torch.tensor([[-2.0, 0], [0, -2], [-2, 0]]).double(), torch.tensor([[2.0, 0], [0, 2], [0, 2]]).double()
    found = solve(Matrices(bumps), start, end)
    assert found.reasons == ["", "", ""]
    assert float(found.length[1]) < 6.2
    assert found.agree.tolist() == [1, 1, 2]
    assert bool((found.excess[:2] > 1e-3).all())
    assert float(found.excess[2]) < 1e-3
    assert float(found.calls[2]) < 5000  # nothing more where starts agree
    assert solve(Matrices(half_plane), row(0, 1), row(2, 2)).excess.tolist() == [pytest.approx(0, abs=1e-4)]


def test_a_version_changes_with_weights() -> None:
    """A deleted tensor's id is soon another's: with ids alone, 2 of 20 versions here equal an earlier one."""
    model = torch.nn.Linear(2, 2)
    before = version(model)
    assert before == version(model)
    for copied in (copy.deepcopy(before), pickle.loads(pickle.dumps(before))):
        assert copied != before
    model.load_state_dict(model.state_dict())
    after = version(model)
    assert after != before
    model.double()
    assert version(model) != after
    after = version(model)
    assert version(model.to("meta")) != after

    seen = []
    model = torch.nn.Linear(2, 2)
    model.register_forward_pre_hook(lambda *_: seen.append(version(model)))
    given = {name: value.detach() for name, value in model.named_parameters()}

    def called(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, torch.ones(1, 2)).sum()

    for _ in range(20):
        called({name: 2 * value for name, value in given.items()})
        torch.func.grad(called)(given)
    assert all(a != b for place, a in enumerate(seen) for b in seen[:place])
