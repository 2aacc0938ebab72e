"""Geodesics by numbers against closed forms: discrete energies, their limits, and the checks of a length."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.geodesics import (
    Affine,
    Conformal,
    Diagonal,
    Field,
    FisherChord,
    GeodesicMetric,
    Geodesics,
    GraphChord,
    GraphMidpoint,
    MapChord,
    Matrices,
    SolverSettings,
    exponential,
    minimise,
    shooting_velocities,
    solve,
    straight,
    transported,
)
from scorefold_toolkit.geodesics.metric import conjugate_gradients
from scorefold_toolkit.geodesics.midpoint import integrated
from scorefold_toolkit.geodesics.paths import interpolated, respaced
from scorefold_toolkit.geodesics.solve import NOT_CONVERGED, NOT_RESOLVED

NORMAL = Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1))
PARABOLOID = 3.0746608369488557
"""The length between (2, 0) and (0, 2) on the graph of the log-density of N(0, I), at weight 1."""


def test_a_logarithm_is_found_from_a_velocity_far_off() -> None:
    """The geodesic runs three lengths of its start around the peak, and the guess points 17 degrees aside."""
    metric = GraphChord(NORMAL, 1.0)
    x, v = row(2, 0), row(-1, 3)
    y = exponential(metric, x, v)[0]
    found = shooting_velocities(metric, x, y, 1.1 * row(-1.9, 2.7), tolerance=1e-5)
    close(exponential(metric, x, found, tolerance=1e-6)[0], y, 1e-3)


def test_a_logarithm_that_is_not_found_warns() -> None:
    """Sixteen corrections do not lead from the opposite direction back."""
    metric = GraphChord(NORMAL, 10.0)
    y = exponential(metric, row(2, 0), row(-1, 3), tolerance=1e-6)[0]
    with pytest.warns(UserWarning, match="1 of 1 logarithms were not corrected"):
        shooting_velocities(metric, row(2, 0), y, row(-1.6, 4.8), tolerance=1e-6)


def test_an_integral_of_the_score_ends_at_the_known_values() -> None:
    """A score of 2 rises by 1 to the middle; of the 1 that it misses the end by, half is added there."""
    path = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    middle, score = path.mean(1, keepdim=True), torch.full_like(path, 2.0)
    found = integrated(middle, score[:, :1], path, torch.tensor([[4.0, 7.0]]), score)
    assert found.tolist() == [[5.5]]


def test_an_integral_of_the_score_is_of_fourth_order() -> None:
    """log p = sin(x) + x y^2 along an arc in uneven steps: half the steps have a sixteenth of the error."""

    def off(steps: int) -> float:
        time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        angle = 2 * time + 0.3 * (3 * time).sin()
        path = torch.stack([angle.cos(), angle.sin()], 1)[None]
        places = (path[:, 1:] + path[:, :-1]) / 2

        def log_prob(x: Tensor) -> Tensor:
            return x[..., 0].sin() + x[..., 0] * x[..., 1] ** 2

        def score(x: Tensor) -> Tensor:
            return torch.stack([x[..., 0].cos() + x[..., 1] ** 2, 2 * x[..., 0] * x[..., 1]], -1)

        ends = path[:, [0, -1]]
        found = integrated(places, score(places), path, log_prob(ends), score(ends))
        return float((found - log_prob(places)).abs().max())

    assert off(64) < 3e-6
    assert off(64) < 0.1 * off(32)


@pytest.mark.parametrize("identity", [0.0, 1.0])
def test_an_affine_map_of_a_score_and_its_jacobian(identity: float) -> None:
    """With s = -x / 4 and a factor of 3, x becomes (identity - 3/4) x, forwards and backwards."""
    found = Affine(Field(lambda x: -x / 4), identity, 3.0)
    x, v = torch.tensor([[1.0, -2.0], [4.0, 8.0]], dtype=torch.float64)[:, None]
    for value in (found.score(x), found.push(x, v)[0], found.pull(x, v)[0]):
        torch.testing.assert_close(value, (identity - 0.75) * x)
    for along in (found.push(x, v)[1], found.pull(x, v)[1]):
        torch.testing.assert_close(along, (identity - 0.75) * v)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def close(value: Tensor | float, expected: Tensor | float, tolerance: float) -> None:
    given = torch.as_tensor(value, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64).expand_as(given)
    torch.testing.assert_close(given, expected, atol=tolerance, rtol=0)


def by_autograd(log_prob: Callable[[Tensor], Tensor]) -> Field:
    def score(x: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            return torch.autograd.grad(log_prob(point).sum(), point)[0]

    return Field(score, log_prob)


def gaussians(means: Tensor, covariances: Tensor) -> Field:
    """An equal mixture: its log-density and score."""
    precisions, offsets = torch.linalg.inv(covariances), -0.5 * torch.logdet(covariances) - math.log(2 * math.pi)

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        pulls = torch.einsum("cij,cbj->cbi", precisions, x - means[:, None])
        return -0.5 * (pulls * (x - means[:, None])).sum(2) + offsets[:, None], -pulls

    def score(x: Tensor) -> Tensor:
        densities, pulls = parts(x)
        return (densities.softmax(0)[:, :, None] * pulls).sum(0)

    return Field(score, lambda x: parts(x)[0].logsumexp(0) - math.log(len(means)))


SKEW = torch.tensor([[[1, 0.6], [0.6, 0.5]], [[1, -0.6], [-0.6, 0.5]]], dtype=torch.float64)
MIXTURE = gaussians(torch.tensor([[-1.5, 0.0], [1.5, 0.0]], dtype=torch.float64), SKEW)
NARROW = gaussians(
    torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64),
    0.01 * torch.eye(2, dtype=torch.float64).repeat(2, 1, 1),
)


def power(beta: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """phi of the metric p^(-2 beta) I."""
    return lambda f: (-beta * f, torch.full_like(f, -beta))


HALF_PLANE = Matrices(lambda x: torch.eye(2, dtype=x.dtype) * x[:, 1:2, None] ** -2)
SPHERE = Diagonal(lambda x: torch.stack([torch.ones_like(x[:, 0]), x[:, 0].sin() ** 2], 1))
STEREOGRAPHIC = Conformal(
    by_autograd(lambda x: -x.square().sum(1).log1p()), lambda f: (f + math.log(2), torch.ones_like(f))
)


def found(metric: GeodesicMetric, start: Tensor, end: Tensor, points: int = 64, **settings: float) -> Geodesics:
    return solve(metric, start, end, SolverSettings(points=points, **{"tolerance": 1e-12, "steps": 300, **settings}))  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [GraphChord(NORMAL, 1.0), GraphMidpoint(NORMAL, 1.0)], ids=["chord", "midpoint"])
@pytest.mark.parametrize(
    ("points", "expected"), [(10, 3.07223662980), (20, 3.07405482366), (40, 3.07450933604), (80, 3.07462296189)]
)
def test_discrete_lengths_of_the_paraboloid(metric: GeodesicMetric, points: int, expected: float) -> None:
    least = minimise(metric, straight(row(2, 0), row(0, 2), points), tolerance=1e-20)
    close(least.state["energy"].sqrt(), expected, 1e-10)


GAUSS_NEWTON = [13.28, 9.45020557896, 9.43864432334, 9.43863792286, 9.43863790944, 9.43863790941]
GEORCE = [13.28, 9.68290683831, 9.48505709392, 9.44926664493, 9.44139909129, 9.43936481398]
GEORCE_LEFT = [13.44, 9.88520454337, 9.69100652392, 9.63937743620, 9.62402967255, 9.61875306809]


@pytest.mark.parametrize(
    ("metric", "start", "end", "energies"),
    [
        (GraphChord(NORMAL, 1.0), row(2, 0), row(0, 2), GAUSS_NEWTON),
        (GraphMidpoint(NORMAL, 1.0), row(2, 0), row(0, 2), GEORCE),
        (GraphMidpoint(NORMAL, 1.0, "left"), row(2, 0), row(0, 2), GEORCE_LEFT),
        (HALF_PLANE, row(0, 1), row(2, 2), [2.49636818146, 2.14422003686, 2.10821215596, 2.10485022888]),
        (
            Matrices(HALF_PLANE.matrices, "left"),
            row(0, 1),
            row(2, 2),
            [2.69477563732, 2.29873819013, 2.26332016158, 2.25850983907],
        ),
        (SPHERE, row(0.5, 0.2), row(2, 2), [4.73631269908, 4.27766165272, 4.23971138057, 4.23357995459]),
    ],
    ids=["gauss-newton", "georce", "georce-left", "half-plane", "half-plane-left", "sphere"],
)
def test_energies_step_by_step(metric: GeodesicMetric, start: Tensor, end: Tensor, energies: list[float]) -> None:
    count = len(energies) - 1
    least = minimise(metric, straight(start, end, 10), tolerance=1e-30, steps=count, plain=count)
    close(torch.stack(least.energies).flatten(), torch.tensor(energies, dtype=torch.float64), 2e-11)


@pytest.mark.parametrize(
    ("weight", "start", "end", "length", "tolerance"),
    [
        (1.0, row(2, 0), row(0, 2), PARABOLOID, 1e-8),
        (1.0, row(2, 0), row(-1, math.sqrt(3)), 4.025085094089669, 1e-7),
        (4.0, row(2, 0), row(0, 2), 3.1223621878471355, 1e-8),
        (100.0, row(2, 0), row(0, 2), 3.1407867791185438, 1e-8),
        (1.0, row(3, 0), row(0, 1), 5.330554908279373, 1e-7),
        (1.0, row(0, 1), row(3, 0), 5.330554908279373, 1e-7),
    ],
)
@pytest.mark.parametrize("field", [NORMAL, Field(NORMAL.score)], ids=["density", "score"])
def test_lengths_on_the_paraboloid(
    field: Field, weight: float, start: Tensor, end: Tensor, length: float, tolerance: float
) -> None:
    geodesics = found(GraphChord(field, weight), start, end)
    close(geodesics.length, length, tolerance)
    assert geodesics.reasons == [""]
    assert float(geodesics.error) > abs(float(geodesics.length) - length), "the error is on the safe side"


def test_the_turning_point_of_the_paraboloid() -> None:
    middle = found(GraphChord(NORMAL, 1.0), row(2, 0), row(0, 2), 128).at(torch.tensor([0.5]))
    close(middle.norm(dim=2), 1.8689342651769927, 1e-4)


def test_there_and_back_are_equal_but_by_the_left_rule() -> None:
    def length(metric: GeodesicMetric, points: int, a: Tensor, b: Tensor) -> float:
        return float(minimise(metric, straight(a, b, points), tolerance=1e-16).state["energy"].sqrt())

    ends = row(3, 0), row(0, 1)
    for points, expected in ((10, 5.326066235526), (80, 5.330484717482)):
        close(length(GraphMidpoint(NORMAL, 1.0), points, *ends), expected, 1e-9)
        close(length(GraphMidpoint(NORMAL, 1.0), points, *ends[::-1]), expected, 1e-9)
    left = GraphMidpoint(NORMAL, 1.0, "left")
    for points, there, back in ((10, 5.72374, 4.93480), (80, 5.37976, 5.28129)):
        close(length(left, points, *ends), there, 1e-5)
        close(length(left, points, *ends[::-1]), back, 1e-5)


def test_motion_on_the_paraboloid() -> None:
    metric = GraphChord(NORMAL, 1.0)
    point, velocity = exponential(metric, row(2, 0), row(-1, 1.5), tolerance=1e-12)
    close(point, row(0.14337910450972868, 1.1161008551052747), 1e-10)
    close(velocity, row(-2.676222613823062, 0.09112661363497207), 1e-10)
    carried = transported(metric, row(2, 0), row(-1, 1.5), row(0, 1), tolerance=1e-12)[1]
    close(carried, row(-0.5995164712054145, 0.5754354843715721), 1e-10)
    guess = found(metric, row(2, 0), row(0, 2), 32).velocity()
    close(guess, row(-0.48957865754219027, 2.8731694959857434), 1e-3)
    log = shooting_velocities(metric, row(2, 0), row(0, 2), guess, tolerance=1e-12)
    close(log, row(-0.48957865754219027, 2.8731694959857434), 1e-9)
    close(metric.inner(row(2, 0), log, log).sqrt(), PARABOLOID, 1e-9)
    carried = transported(metric, row(2, 0), log, row(0, 1), tolerance=1e-12)[1]
    close(carried, row(-0.7464576437763557, 0.2975906537671693), 1e-9)


def test_a_velocity_within_the_tolerance_of_its_end_stays() -> None:
    """Ten tolerances of one plus the largest coordinate: 1e-3 at 99 for 1e-6."""
    flat, start, end = GraphChord(NORMAL, 0.0), row(98, 0), row(99, 0)
    near, far = row(1 + 5e-4, 0), row(1 + 2e-3, 0)
    assert torch.equal(shooting_velocities(flat, start, end, near, tolerance=1e-6), near)
    close(shooting_velocities(flat, start, end, far, tolerance=1e-6), row(1, 0), 1e-9)


def test_products_and_curvature_of_a_gaussian() -> None:
    inverse = torch.linalg.inv(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    metric = GraphChord(Field(lambda x: -x @ inverse, lambda x: -0.5 * (x @ inverse * x).sum(1)), 2.0)
    x = row(2, 0)
    close(metric.matrix(x)[0], torch.tensor([[41 / 9, -16 / 9], [-16 / 9, 17 / 9]], dtype=torch.float64), 1e-12)
    close(metric.solve(x, row(1, 0)), row(17 / 49, 16 / 49), 1e-12)
    close(metric.acceleration(x, row(1, 2)), row(-48 / 49, 24 / 49), 1e-12)
    close(metric.curvature(x, row(1, 0), row(0, 1)), 54 / 2401, 1e-12)
    for where, expected in ((row(2, 0), 0.04), (row(0, 0), 1.0)):
        close(GraphChord(NORMAL, 1.0).curvature(where, row(1, 0), row(0.3, 1)), expected, 1e-12)


@pytest.mark.parametrize(
    ("metric", "x"),
    [
        (GraphChord(MIXTURE, 0.7), row(0.3, -0.4)),
        (GraphMidpoint(MIXTURE, 0.7), row(0.3, -0.4)),
        (Conformal(MIXTURE, power(0.4)), row(0.3, -0.4)),
        (MapChord(Field(MIXTURE.score), 0.3), row(0.3, -0.4)),
        (FisherChord(Field(lambda x: x + 0.3 * MIXTURE.score(x)), 0.2), row(0.3, -0.4)),
        (HALF_PLANE, row(0.2, 1.3)),
        (SPHERE, row(1.1, 0.3)),
    ],
    ids=["graph", "graph-midpoint", "conformal", "map", "fisher", "matrices", "diagonal"],
)
def test_motion_is_that_of_the_matrix(metric: GeodesicMetric, x: Tensor) -> None:
    """Closed forms of acceleration and transport against the Christoffel symbols of the matrix by autograd."""
    v, w = row(0.7, -0.2), row(0.1, 0.9)
    matrix = Matrices(lambda at: metric.matrix(at))
    close(metric.acceleration(x, v), matrix.acceleration(x, v), 1e-8)
    close(metric.transport_rate(x, v, w), matrix.transport_rate(x, v, w), 1e-8)
    close(metric.solve(x, v), torch.linalg.solve(metric.matrix(x), v), 1e-10)
    close(metric.inner(x, v, w), (v @ metric.matrix(x)[0] @ w.T).flatten(), 1e-10)


@pytest.mark.parametrize(
    "metric",
    [
        GraphChord(MIXTURE, 0.7),
        GraphMidpoint(MIXTURE, 0.7),
        GraphMidpoint(MIXTURE, 0.7, "left"),
        Conformal(MIXTURE, power(0.4)),
        MapChord(Field(MIXTURE.score), 0.3),
        FisherChord(Field(lambda x: x + 0.3 * MIXTURE.score(x)), 0.2),
        Diagonal(lambda x: 1 + x.square()),
        Matrices(lambda x: torch.eye(2, dtype=x.dtype) + x[:, :, None] * x[:, None]),
    ],
    ids=["graph", "graph-midpoint", "left", "conformal", "map", "fisher", "diagonal", "matrices"],
)
def test_gradients_are_those_of_the_energy(metric: GeodesicMetric) -> None:
    generator = torch.Generator().manual_seed(0)
    path = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    move = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    gradient = metric.gradient(path, metric.evaluate(path, {}))
    ahead, behind = (metric.evaluate(path + sign * 1e-5 * move, {})["energy"] for sign in (1, -1))
    close((gradient * move).sum((1, 2)) / ((ahead - behind) / 2e-5), 1.0, 1e-7)


@pytest.mark.parametrize("metric", [HALF_PLANE, SPHERE, GraphMidpoint(MIXTURE, 0.7)], ids=["half", "sphere", "graph"])
def test_the_frozen_hessian_is_inverted(metric: GeodesicMetric) -> None:
    """P (H d) = d with H d = 2N Delta^T G Delta d, by the products that the metric itself offers."""
    generator = torch.Generator().manual_seed(1)
    path = torch.rand(2, 7, 2, generator=generator, dtype=torch.float64) + 1
    state = metric.evaluate(path, {})
    move = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    whole = torch.nn.functional.pad(move, (0, 0, 1, 1))
    times = 12 * metric.times(state, whole.diff(dim=1))  # type: ignore[attr-defined]
    close(metric.precondition(path, state)(times[:, :-1] - times[:, 1:]), move, 1e-9)


@pytest.mark.parametrize("metric", [GraphChord(MIXTURE, 0.7), GraphMidpoint(MIXTURE, 0.7)], ids=["chord", "midpoint"])
def test_done_paths_leave_the_batch_and_do_not_change_the_others(metric: GeodesicMetric) -> None:
    start, end = torch.cat([row(-1.5, 0), row(1, 1)]), torch.cat([row(1.5, 0), row(1, 1.01)])
    both = minimise(metric, straight(start, end, 12), tolerance=1e-10)
    alone = [minimise(metric, straight(start[k : k + 1], end[k : k + 1], 12), tolerance=1e-10) for k in (0, 1)]
    for k in (0, 1):
        close(both.path[k], alone[k].path[0], 1e-9)
        assert int(both.calls[k]) == int(alone[k].calls[0])
    assert int(both.calls[1]) < int(both.calls[0])
    assert bool(both.converged.all())


@pytest.mark.parametrize(
    ("metric", "length", "tolerance"),
    [
        (GraphChord(MIXTURE, 1.0), 3.58882104, 2e-7),
        (GraphChord(Field(MIXTURE.score), 1.0), 3.58882104, 1e-6),
        (GraphMidpoint(MIXTURE, 1.0), 3.58882104, 5e-7),
        (Conformal(MIXTURE, power(0.5)), 8.36190083, 2e-7),
        (Conformal(MIXTURE, power(1.0)), 21.1452994, 1e-6),
        (Conformal(Field(MIXTURE.score), power(0.5), at_ends=MIXTURE.log_prob), 8.36190083, 2e-5),
    ],
    ids=["chord", "chord-of-scores", "midpoint", "fermat-half", "fermat-one", "fermat-of-scores"],
)
def test_lengths_in_the_mixture(metric: GeodesicMetric, length: float, tolerance: float) -> None:
    geodesics = found(metric, row(-1.5, 0), row(1.5, 0), 128, tolerance=1e-9)
    close(geodesics.length, length, tolerance)
    assert geodesics.reasons == [""]


@pytest.mark.parametrize(("points", "expected"), [(50, 3.5882034041), (100, 3.5886666967), (200, 3.5887824523)])
def test_chords_in_the_mixture(points: int, expected: float) -> None:
    least = minimise(GraphChord(MIXTURE, 1.0), straight(row(-1.5, 0), row(1.5, 0), points), tolerance=1e-14, steps=300)
    close(least.state["energy"].sqrt(), expected, 2e-10)
    close(least.path[0, points // 2], torch.tensor([0.0, 0.69346], dtype=torch.float64), 1e-4)


@pytest.mark.parametrize("points", [16, 32, 64])
@pytest.mark.parametrize("field", [NARROW, Field(NARROW.score)], ids=["density", "score"])
def test_a_path_that_jumps_over_a_gap_is_withheld(field: Field, points: int) -> None:
    """The truth is 398.6: the line between two narrow modes. Without the checks 28.6 is called converged."""
    ends = row(-2, 0), row(2, 0)
    geodesics = found(GraphChord(field, 1.0), *ends, points, tolerance=1e-6, steps=100)
    right = abs(float(geodesics.length) / 398.65 - 1) <= 0.02
    assert right or geodesics.reasons[0].startswith((NOT_CONVERGED, "not resolved"))
    tunnel = minimise(GraphChord(NARROW, 1.0), straight(*ends, 64))
    metric = GraphChord(NARROW, 1.0)
    line = metric.length(straight(*ends, 4000), {})
    close(line, 398.67876563, 1e-3)
    assert float(tunnel.state["energy"].sqrt()) < 0.1 * float(line)


@pytest.mark.parametrize(
    ("metric", "start", "end", "lengths", "limit"),
    [
        (
            HALF_PLANE,
            row(0, 1),
            row(2, 2),
            {10: 1.45064135075, 20: 1.45059113265, 40: 1.45057866291},
            1.4505745138225803,
        ),
        (
            SPHERE,
            row(0.5, 0.2),
            row(2, 2),
            {10: 2.05723332202, 20: 2.05450777514, 40: 2.05381550730},
            2.053583718741665,
        ),
        (
            STEREOGRAPHIC,
            -torch.linspace(0, 1, 10, dtype=torch.float64)[None],
            row(*[0.5] * 10),
            {50: 1.97600312594, 100: 1.97537859610},
            1.9751695630439703,
        ),
    ],
    ids=["half-plane", "sphere", "stereographic"],
)
def test_known_manifolds(
    metric: GeodesicMetric, start: Tensor, end: Tensor, lengths: dict[int, float], limit: float
) -> None:
    for points, expected in lengths.items():
        least = minimise(metric, straight(start, end, points), tolerance=1e-16, steps=300)
        close(least.state["energy"].sqrt(), expected, 1e-9)
    close(found(metric, start, end, 96).length, limit, 2e-6)


def test_modes_at_the_distance_of_the_points_are_seen() -> None:
    """135 narrow modes at the integers: points 4 apart are all at modes, and so are their halves and quarters."""
    means = torch.arange(-3, 132, dtype=torch.float64)

    def log_prob(x: Tensor) -> Tensor:
        squares = (x[:, :1] - means) ** 2 + x[:, 1:] ** 2
        return torch.logsumexp(-squares / 0.02, 1)

    answer = solve(GraphChord(by_autograd(log_prob), 0.02), row(0, 0), row(128, 0))
    assert answer.reasons == [NOT_RESOLVED]


def disc(x: Tensor) -> Tensor:
    """The metric of the Poincare disc."""
    return (2 / (1 - x.square().sum(1))).square()[:, None, None] * torch.eye(2, dtype=torch.float64)


@pytest.mark.parametrize("radius", [0.9, 0.99, 0.999])
def test_lengths_near_a_boundary_are_within_their_error(radius: float) -> None:
    """Extrapolation from grids that are too coarse gave 13.6 where the truth is 14.5."""
    answer = solve(Matrices(disc), row(radius, 0), row(0, radius))
    truth = math.acosh(1 + 4 * radius**2 / (1 - radius**2) ** 2)
    assert answer.reasons != [""] or abs(float(answer.length) - truth) <= float(answer.error)
    assert answer.reasons != [""] or float(answer.error) <= 0.02 * truth


def test_lbfgs_takes_a_fifth_of_the_steps_of_georce() -> None:
    path = straight(-torch.linspace(0, 1, 10, dtype=torch.float64)[None], row(*[0.5] * 10), 50)
    georce = minimise(STEREOGRAPHIC, path, tolerance=1e-10, steps=300, plain=300)
    quick = minimise(STEREOGRAPHIC, path, tolerance=1e-10, steps=300)
    assert int(georce.steps) == 122
    assert int(quick.steps) < 30


def test_the_middle_of_the_half_plane() -> None:
    middle = found(HALF_PLANE, row(0, 1), row(2, 2)).at(torch.tensor([0.5]))[:, 0]
    close(middle, row(2 / 3, 1.6996731711975948), 1e-4)


def test_equal_points_are_at_distance_zero_without_a_solve() -> None:
    def never(x: Tensor) -> Tensor:
        raise AssertionError("the metric was asked")

    geodesics = solve(GraphChord(Field(never), 1.0), row(1, 2), row(1, 2))
    assert float(geodesics.length) == 0.0
    assert geodesics.reasons == [""]


def test_an_energy_that_is_not_finite_is_no_step() -> None:
    """A log-density that ends: trials beyond its edge are refused, and the path stays inside."""
    field = by_autograd(lambda x: torch.log(1.2 - x.square().sum(1)))
    geodesics = found(GraphChord(field, 1.0), row(1, 0), row(0, 1), 32)
    assert bool(geodesics.paths[0].isfinite().all())
    assert geodesics.reasons == [""]


def test_a_vector_that_leads_into_a_wall_is_refused() -> None:
    field = by_autograd(lambda x: -1 / (1 - x[:, 0]).clamp_min(0))
    with pytest.raises(DataError, match="can't be followed"):
        exponential(Conformal(field, power(-1.0)), row(0, 0), row(50, 0))


def test_conjugate_gradients_solve_and_refuse() -> None:
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    close(conjugate_gradients(lambda v: v @ matrix, row(3, 3)), row(1, 1), 1e-12)
    with pytest.raises(DataError, match="positive definite"):
        conjugate_gradients(lambda v: v @ matrix.new_tensor([[1.0, 5.0], [-5.0, 0.0]]), row(3, 1))


def test_paths_are_cut_and_read_between_their_points() -> None:
    path = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]]], dtype=torch.float64)
    close(respaced(path, 4)[0], torch.tensor([[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]], dtype=torch.float64), 1e-12)
    times = torch.linspace(0, 1, 9, dtype=torch.float64)
    cubic = torch.stack([times, times**3 - times], 1)
    close(interpolated(cubic, torch.tensor([0.0, 0.3, 1.0])), torch.tensor([[0, 0], [0.3, -0.273], [1, 0]]), 1e-7)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_a_path_read_at_its_own_times_is_itself(steps: int) -> None:
    """Nodes of no polynomial: a cubic through four others would miss them, at the ends first of all."""
    path = torch.randn(2, steps + 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close(interpolated(path, torch.linspace(0, 1, steps + 1, dtype=torch.float64)), path, 1e-12)


@pytest.mark.parametrize("points", [16, 20, 24, 36, 40, 64])
def test_the_finest_grid_has_the_steps_that_were_asked_for(points: int) -> None:
    flat = Matrices(lambda x: torch.eye(2, dtype=torch.float64).expand(len(x), 2, 2))
    (path,) = found(flat, row(0, 0), row(3, 4), points).paths
    close(path, straight(row(0, 0), row(3, 4), points)[0], 1e-9)
