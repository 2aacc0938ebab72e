"""More closed forms: mixtures that are products of coordinates, flat and hyperbolic densities, known manifolds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from known_scores import HALF, close, row, score_geometry, source
from scipy.integrate import quad
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion import VE
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold_registry import Host
from scorefold_toolkit.checks import VARIABLE

MODE, VARIANCE = 1.2, 0.25


class Modes(ScoreModel):
    """Two equal modes at -1.2 and 1.2 with variance 1/4 in each coordinate, all coordinates independent."""

    def __init__(self, dimension: int, scores_alone: bool = False) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (dimension,))
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))
        if not scores_alone:
            self.noised_log_prob = self._log_prob

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        variance = VARIANCE + self.process.coefficients(x, t)[1].reshape(-1, 1) ** 2
        return (MODE * (MODE * x / variance).tanh() - x) / variance

    def _log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        variance = VARIANCE + self.process.coefficients(x, t)[1].reshape(-1, 1) ** 2
        both = torch.logaddexp(-((x - MODE) ** 2) / (2 * variance), -((x + MODE) ** 2) / (2 * variance))
        return (both - math.log(2) - 0.5 * (2 * math.pi * variance).log()).sum(1)


class OfLogProb(ScoreModel):
    """A density in closed form at next to no noise, by a function of rows to log p."""

    def __init__(self, dimension: int, log_prob: Callable[[Tensor], Tensor]) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (dimension,))
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))
        self.known = log_prob
        self.noised_log_prob = lambda x, t: self.known(x)

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return torch.func.grad(lambda at: self.known(at).sum())(x)


def slope(x: float, variance: float) -> float:
    return (MODE * math.tanh(MODE * x / variance) - x) / variance


def bend(x: float, variance: float) -> float:
    return (MODE / variance / math.cosh(MODE * x / variance)) ** 2 - 1 / variance


def length(speed: Callable[[float], float], start: float, end: float) -> float:
    return abs(float(quad(speed, start, end, epsabs=1e-12, epsrel=1e-12, limit=200)[0]))


@pytest.mark.parametrize(
    ("form", "dimension"), [("residual", 1), ("residual", 3), ("jacobian", 1), ("fisher", 1), ("fisher", 3)]
)
def test_forms_with_a_jacobian_of_a_product_are_products(host: Host, form: str, dimension: int) -> None:
    """J is diagonal, each entry a function of its own coordinate: the squared distance is the sum of theirs.

    The score goes up and down between the modes, so a step with equal scores at its ends is short by chords alone: such
    paths did not converge."""
    noise, weight = 0.3, 2.0
    model = Modes(dimension)
    settings = {"form": form, "noise": noise, "weight": weight, "solver": {"points": 64, "tolerance": 1e-9}}
    geometry: Any = host.create("geometry:score", settings, score=model, data=source(dimension))
    sigma = geometry.density.sigma
    wide = VARIANCE + sigma**2

    def speed(x: float) -> float:
        if form == "fisher":
            return math.sqrt(1 + weight**2 * (1 + sigma**2 * bend(x, wide)))
        factor = sigma**2 * weight if form == "residual" else weight * float(geometry.reference[0])
        return math.sqrt(1 + (factor * bend(x, wide)) ** 2)

    ends = [(-1.5, 0.7), (0.2, 1.4), (0.6, -0.4)][:dimension]
    a, b = row(*(start for start, _ in ends)), row(*(end for _, end in ends))
    truth = math.sqrt(sum(length(speed, *pair) ** 2 for pair in ends))
    found = geometry.solve(a, b)
    assert found.reasons == [""]
    assert float(found.error) < 0.01 * truth
    close(found.length, truth, float(found.error) if form == "jacobian" else 5e-5 * truth)


@pytest.mark.parametrize("alone", [False, True])
def test_lengths_through_two_modes_of_a_line(host: Host, alone: bool) -> None:
    model = Modes(1, alone)
    graph = score_geometry(host, model, 0.3, solver={"points": 256, "tolerance": 1e-10})
    truth = length(lambda x: math.sqrt(1 + 0.3 * slope(x, VARIANCE) ** 2), -1.6, 0.9)
    close(graph.distance(row(-1.6), row(0.9)), truth, 5e-5 * truth)
    settings = {"exponent": 0.4, "noise": 1e-6, "solver": {"points": 256, "tolerance": 1e-10}}
    fermat: Any = host.create("geometry:fermat", settings, score=model, data=source(1))
    height = float(fermat.reference[0]) if not alone else None
    scale = fermat.norm(row(0.3), row(1))

    def density(x: float) -> float:
        return math.exp(-((x - MODE) ** 2) / (2 * VARIANCE)) + math.exp(-((x + MODE) ** 2) / (2 * VARIANCE))

    assert height is None or math.isfinite(height)
    truth = length(lambda x: (density(x) / density(0.3)) ** -0.4, -1.6, 0.9) * float(scale)
    close(fermat.distance(row(-1.6), row(0.9)), truth, 5e-5 * truth)


def test_a_density_that_grows_by_a_constant_rate_is_flat(host: Host) -> None:
    """p^(-2 beta) = e^(2 k x) is the plane under z to e^(k z) / k; the graph metric is constant."""
    model = OfLogProb(2, lambda x: -1.5 * x[:, 0])
    settings = {"exponent": 1.0, "noise": 1e-6, "solver": {"points": 128, "tolerance": 1e-10}}
    fermat: Any = host.create("geometry:fermat", settings, score=model, data=source(2))
    scale = float(fermat.norm(row(0, 0), row(1, 0)))
    k, a, b = 0.75, complex(-0.3, -0.8), complex(0.9, 1.1)
    truth = scale * abs(torch.tensor([k * a, k * b]).exp().diff().item()) / k
    x, y = row(a.real, a.imag), row(b.real, b.imag)
    close(fermat.distance(x, y), truth, 2e-6 * truth)
    close(fermat.curvature(x, row(1, 0), row(0.3, 1)), 0.0, 1e-9)
    graph = score_geometry(host, model, 2.0)
    close(graph.distance(x, y), math.sqrt(1.2**2 + 1.9**2 + 2 * (1.5 * 1.2) ** 2), 1e-9)


@pytest.mark.filterwarnings("ignore:.*outside the support")  # the data are not this density's
def test_a_density_that_ends_at_a_circle_is_hyperbolic(host: Host) -> None:
    """p = (1 - |x|^2)^2 and beta = 1/2: twice the metric is the metric of Poincare's disc."""
    model = OfLogProb(2, lambda x: 2 * (1 - x.square().sum(1)).log())
    inside = {name: Dataset(0.3 * source(2).load(name).x.clamp(-2, 2)) for name in ("train", "test")}
    settings = {"exponent": 1.0, "noise": 1e-6, "solver": {"points": 128, "tolerance": 1e-10}}
    fermat: Any = host.create("geometry:fermat", settings, score=model, data=TensorSource(inside))
    unit = float(fermat.norm(row(0, 0), row(1, 0))) / 2  # of Poincare's, whose norm is 2 in the middle
    x, y = row(0.7, 0.1), row(-0.2, 0.8)
    apart = 2 * (x - y).square().sum() / ((1 - x.square().sum()) * (1 - y.square().sum()))
    truth = unit * math.acosh(1 + float(apart))
    close(fermat.distance(x, y), truth, 1e-5 * truth)
    close(unit**2 * fermat.curvature(x, row(1, 0), row(0, 1)), -1.0, 1e-9)


def test_an_energy_that_grows_by_a_constant_rate_is_that_of_a_throw(host: Host) -> None:
    """(alpha E + 1) I with E = c (x + x_0): Jacobi's metric of a throw in a field of constant force, whose action is
    the formula of Euler and Lambert, ((s_1 + s_2 + r)^1.5 - (s_1 + s_2 - r)^1.5) / 3 for a speed of (2 s)^0.5."""
    model = OfLogProb(2, lambda x: -0.8 * x[:, 0])
    settings = {"alpha": 1.7, "noise": 1e-6, "solver": {"points": 128, "tolerance": 1e-10}}
    geometry: Any = host.create("geometry:density", settings, score=model, data=source(2))
    geometry.reference[1] = geometry.density.log_prob(row(-1, 0))[0]
    x, y = row(-0.5, 0.2), row(1.5, 1.4)
    force = 0.5 * 1.7 * 0.8  # |v|^2 = 2 force s at height s
    heights = [float((1 + 1.7 * 0.8 * (1 + one[0, 0])) / (2 * force)) for one in (x, y)]
    close(geometry.inner(x, row(0, 1), row(0, 1)), 2 * force * heights[0], 1e-9)
    r = float((x - y).norm())
    truth = math.sqrt(force) / 3 * ((sum(heights) + r) ** 1.5 - (sum(heights) - r) ** 1.5)
    close(geometry.distance(x, y), truth, 2e-6 * truth)


def test_an_inverse_density_of_a_line(host: Host) -> None:
    settings = {"form": "inverse", "noise": 1e-6, "solver": {"points": 128, "tolerance": 1e-10}}
    geometry: Any = host.create("geometry:density", settings, score=Modes(1), data=source(1))
    middle, _, least = geometry.reference.tolist()

    def speed(x: float) -> float:
        p = float(geometry.density.log_prob(row(x)).exp())
        return 1 / math.sqrt(p / math.exp(middle) + math.exp(least - middle))

    truth = length(speed, -1.4, 0.5)
    close(geometry.distance(row(-1.4), row(0.5)), truth, 2e-5 * truth)


def test_one_point_of_land_and_of_rbf(host: Host) -> None:
    """Along a line through the only point, which a reflection leaves in place."""
    one = torch.zeros(2, 2, dtype=torch.float64)
    data = TensorSource({"train": Dataset(one), "test": Dataset(one)})
    solver = {"points": 256, "tolerance": 1e-10, "steps": 300}
    land: Any = host.create("geometry:land", {"gamma": 0.5, "eps": 0.05, "solver": solver}, data=data)
    truth = length(lambda x: (2 * math.exp(-(x**2) / 0.5) * x**2 + 0.05) ** -0.5, -0.8, 0.6)
    close(land.distance(row(-0.8, 0), row(0.6, 0)), truth, 1e-4 * truth)
    rbf: Any = host.create("geometry:rbf", {"centres": 1, "eps": 0.05, "solver": solver}, data=data)
    _, rates, weights = rbf.functions
    high, rate = float(weights.sum()), float(rates[0])
    truth = length(lambda x: (high * math.exp(-rate * x**2 / 2) + 0.05) ** -0.5, 0.1, 1.3)
    close(rbf.distance(row(0.1, 0), row(1.3, 0)), truth, 1e-5 * truth)


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "known_metrics")


def own(host: Host, name: str, dimension: int, points: int = 64) -> Any:
    settings = {"target": f"known_metrics:{name}", "dimension": dimension}
    return host.create("geometry:metric", {**settings, "solver": {"points": points, "tolerance": 1e-10}})


def on_the_globe(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0].sin() * x[:, 1].cos(), x[:, 0].sin() * x[:, 1].sin(), x[:, 0].cos()], 1)


def test_normal_distributions(host: Host) -> None:
    geometry, a, b = own(host, "of_normals", 2), row(-1, 0.5), row(2, 1.5)
    apart = (3**2 / 2 + 1) / (2 * 0.5 * 1.5)
    truth = math.sqrt(2) * math.acosh(1 + apart)
    close(geometry.distance(a, b), truth, 1e-6)
    close(geometry.distance(b, a), truth, 1e-6)
    close(geometry.curvature(a, row(1, 0), row(0.2, 1)), -0.5, 1e-9)
    close(geometry.exp(a, geometry.log(a, b)), b, 1e-5)
    middle = geometry.mean(torch.cat([a, b]), torch.tensor([0.7, 0.3], dtype=torch.float64))
    share = torch.tensor([0.3], dtype=torch.float64)
    close(middle, geometry.geodesic(a, b, share)[0, 0], 1e-4)


def test_covariance_matrices(host: Host) -> None:
    geometry, a, b = own(host, "of_covariances", 3), row(2, 0.5, 1), row(1, -0.4, 3)
    first, second = (torch.stack([x[0, :2], x[0, 1:]]) for x in (a, b))
    values = torch.linalg.eigvals(torch.linalg.solve(first, second)).real
    close(geometry.distance(a, b), values.log().square().sum().sqrt(), 1e-6)
    apart = row(4, 0, 1), row(1, 0, 9)
    close(geometry.geodesic(*apart, HALF)[0], row(2, 0, 3), 1e-5)
    close(geometry.mean(torch.cat(apart)), row(2, 0, 3)[0], 1e-4)
    at_one = geometry.curvature(row(1, 0, 1), row(1, 0, -1), row(0, 1, 0))
    close(at_one, -0.5, 1e-9)  # of diag(1, -1) and its turn, -|[u, w]|^2 / 4 over the area
    close(geometry.curvature(row(1, 0, 1), row(1, 0, 1), row(0, 1, 0)), 0.0, 1e-9)


@pytest.mark.parametrize("dimension", [2, 3, 5])
def test_the_hyperbolic_ball(host: Host, dimension: int) -> None:
    generator = torch.Generator().manual_seed(dimension)
    a, b = (0.25 * torch.randn(1, dimension, generator=generator, dtype=torch.float64) for _ in range(2))
    geometry = own(host, "ball", dimension)
    apart = 2 * (a - b).square().sum() / ((1 - a.square().sum()) * (1 - b.square().sum()))
    close(geometry.distance(a, b), math.acosh(1 + float(apart)), 2e-6)
    u, w = (torch.randn(1, dimension, generator=generator, dtype=torch.float64) for _ in range(2))
    close(geometry.curvature(a, u, w), -1.0, 1e-8)


def test_the_globe(host: Host) -> None:
    geometry = own(host, "globe", 2)
    corners = [row(0.8, 0.1), row(1.9, 0.3), row(1.2, 1.5)]
    a, b, c = (on_the_globe(x)[0] for x in corners)
    for x, y in ((0, 1), (1, 2), (2, 0)):
        truth = math.acos(float(on_the_globe(corners[x])[0] @ on_the_globe(corners[y])[0]))
        close(geometry.distance(corners[x], corners[y]), truth, 1e-6)
    close(geometry.curvature(corners[0], row(1, 0), row(0.4, 1)), 1.0, 1e-9)
    vector = row(1, 0)
    for x, y in ((0, 1), (1, 2), (2, 0)):
        vector = geometry.transport(corners[x], corners[y], vector)
    # Around a triangle a vector turns by its area (van Oosterom and Strackee 1983).
    area = 2 * math.atan2(float(torch.linalg.det(torch.stack([a, b, c]))), float(1 + a @ b + b @ c + c @ a))
    turned = math.atan2(float(vector[0, 1]) * math.sin(0.8), float(vector[0, 0]))
    close(turned, area, 1e-4)


def test_the_torus(host: Host) -> None:
    """Gauss's curvature cos(v) / (2 + cos(v)), and Clairaut's turning circle of a geodesic on the inner side."""
    geometry = own(host, "tube", 2, points=128)
    for angle in (0.0, 1.0, 2.5, math.pi):
        expected = math.cos(angle) / (2 + math.cos(angle))
        close(geometry.curvature(row(0.3, angle), row(1, 0), row(0.5, 1)), expected, 1e-8)
    # A geodesic that is level at v = 1, up to v = 2: dlongitude = c dv / (r sqrt(r^2 - c^2)) with r = 2 + cos v.
    least = 2 + math.cos(2.0)

    def wide(v: float) -> float:
        return 2 + math.cos(v)

    def rate(s: float, power: int) -> float:
        v = 2 - s * s  # takes the root at the turning point away
        inside = (wide(v) ** 2 - least**2) / (s * s) if s > 1e-7 else 2 * least * math.sin(2.0)
        return 2 * (least / wide(v) if power == 0 else wide(v)) / math.sqrt(inside)

    around = quad(lambda s: rate(s, 0), 0, 1, epsabs=1e-12)[0]
    truth = quad(lambda s: rate(s, 1), 0, 1, epsabs=1e-12)[0]
    close(geometry.distance(row(0, 1), row(around, 2)), truth, 1e-5)
