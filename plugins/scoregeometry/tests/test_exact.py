"""Geometries against closed forms: Gaussians, noisy spheres, one dimension, and known sums over few points."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from known_scores import HALF, Normal, Ring, close, row, score_geometry, source
from scipy.special import erfi
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.diffusion import VE, VP
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold_registry import Host
from scorefold_scoregeometry.density import Density
from scorefold_scoregeometry.from_points import radial
from scorefold_scoregeometry.starts import NeighbourGraph


def fermat(host: Host, model: ScoreModel, beta: float, sigma: float = 1e-6, **config: Any) -> Any:
    """geometry:fermat with beta, and p over its value at 0 in the place of its mean."""
    size = model.event_shape[0]
    solver = {"points": 64, "tolerance": 1e-10, "steps": 200}
    settings = {"noise": sigma, "exponent": beta * size, "solver": solver, **config}
    data = source(size, model.n if isinstance(model, Ring) else 0)
    return host.create("geometry:fermat", settings, score=model, data=data)


def relative_to(geometry: Any, point: Tensor) -> Any:
    geometry.reference[0] = geometry.density.log_prob(point)[0]
    return geometry


@pytest.mark.parametrize("scores_alone", [False, True])
@pytest.mark.parametrize("process", [VE(sigma_min=1e-6, sigma_max=50.0), VP(t_min=1e-6)], ids=["ve", "vp"])
def test_the_paraboloid(host: Host, process: Any, scores_alone: bool) -> None:
    model = Normal(torch.eye(2), process, scores_alone)
    geometry = score_geometry(host, model, 1.0, sigma=1e-3)
    a, b = row(2, 0), row(0, 2)
    close(geometry.distance(a, b), 3.0746608369488557, 5e-6)
    close(geometry.geodesic(a, b, HALF)[:, 0].norm(dim=1), 1.8689342651769927, 1e-5)
    close(geometry.log(a, b), row(-0.48957865754219027, 2.8731694959857434), 1e-4)
    close(geometry.exp(a, row(-1, 1.5)), row(0.14337910450972868, 1.1161008551052747), 1e-5)
    close(geometry.transport(a, b, row(0, 1)), row(-0.7464576437763557, 0.2975906537671693), 1e-4)
    close(geometry.curvature(a, row(1, 0), row(0, 1)), 0.04, 1e-6)  # type: ignore[attr-defined]


def test_products_of_a_gaussian(host: Host) -> None:
    covariance, x = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64), row(2, 0)
    geometry = score_geometry(host, Normal(covariance), 2.0)
    close(geometry.metric(x)[0], [[41 / 9, -16 / 9], [-16 / 9, 17 / 9]], 1e-9)
    close(geometry.inner(x, row(1, 0), row(0, 1)), -16 / 9, 1e-9)
    close(geometry.curvature(x, row(1, 0), row(0, 1)), 0.022490628904623076, 1e-9)  # type: ignore[attr-defined]
    assert geometry.geodesic(x, row(0, 1), HALF[:0]).shape == (1, 0, 2)
    assert geometry.geodesic(x[:0], x[:0], HALF).shape == (0, 1, 2)


def test_the_other_forms_of_a_gaussian(host: Host) -> None:
    """Their metrics are constant, so geodesics are straight lines."""
    covariance, a, b = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64), row(2, 0), row(0, 1)
    model = Normal(covariance)

    def made(**config: Any) -> Any:
        return host.create("geometry:score", config, score=model, data=source(2))

    jacobian = made(form="jacobian", noise=1e-6)
    jacobian = made(form="jacobian", noise=1e-6, weight=1 / float(jacobian.reference[0]))
    close(jacobian.metric(a)[0], torch.tensor([[14, -4], [-4, 14]]) / 9, 1e-7)
    close(jacobian.distance(a, b), 3.0912061651652345, 1e-8)
    level = made(form="fisher", noise=0.5)
    assert level.density.sigma == pytest.approx(0.5, rel=1e-6)
    # The sheet's metric is J / sig^2 without the identity; ours is I + weight^2 J.
    expected = math.sqrt(5 + 0.25 * 4.030651789246231**2)
    close(level.distance(a, b), expected, 1e-5)
    fisher = torch.tensor([[3.4461538461538463, 0.24615384615384617]], dtype=torch.float64)
    close(4 * (level.metric(a)[0] - torch.eye(2)), torch.cat([fisher, fisher.flip(1)]), 1e-5)
    residual = made(form="residual", noise=0.5)
    inverse = 0.25 * torch.linalg.inv(covariance + 0.25 * torch.eye(2, dtype=torch.float64))
    close(residual.metric(a)[0], torch.eye(2, dtype=torch.float64) + inverse @ inverse, 1e-6)


def along_a_line(x: float, k: float) -> float:
    return x * math.sqrt(1 + k**2 * x**2) / 2 + math.asinh(k * x) / (2 * k)


@pytest.mark.parametrize(
    ("weight", "variance", "start", "end", "length"),
    [
        (1.0, 1.0, -1.0, 2.0, 4.105679289785514),
        (1.0, 1.0, 0.0, 1.0, 1.147793574696319),
        (4.0, 1.0, 0.0, 1.0, 1.4789428575445975),
        (0.5, 2.0, -1.0, 3.0, 4.513266351919734),
        (1.0, 0.25, -1.5, 0.5, 5.613015808076577),
    ],
)
def test_lengths_in_one_dimension(
    host: Host, weight: float, variance: float, start: float, end: float, length: float
) -> None:
    k = math.sqrt(weight) / variance
    close(along_a_line(end, k) - along_a_line(start, k), length, 1e-12)
    for alone in (False, True):
        model = Normal(torch.tensor([[variance]]), scores_alone=alone)
        close(score_geometry(host, model, weight).distance(row(start), row(end)), length, 1e-4)


@pytest.mark.parametrize(
    ("beta", "variance", "start", "end", "length"),
    [
        (1.0, 1.0, 0.0, 1.0, 1.1949576619102278),
        (1.0, 1.0, -1.0, 2.0, 5.923865447520648),
        (0.5, 1.0, -1.0, 2.0, 4.015277700181607),
        (0.5, 2.0, 0.0, 3.0, 4.633485253569789),
    ],
)
def test_fermat_in_one_dimension(
    host: Host, beta: float, variance: float, start: float, end: float, length: float
) -> None:
    factor = math.sqrt(beta / (2 * variance))
    closed = math.sqrt(math.pi * variance / (2 * beta)) * (erfi(end * factor) - erfi(start * factor))
    close(closed, length, 1e-12)
    for alone in (False, True):
        model = Normal(torch.tensor([[variance]]), scores_alone=alone)
        geometry = relative_to(fermat(host, model, beta), row(0))
        close(geometry.distance(row(start), row(end)), length, 1e-4 if alone else 1e-5)


@pytest.mark.parametrize(
    ("alpha", "start", "end", "length"), [(1.0, 0.0, 1.0, 1.0779873654221506), (2.0, -1.0, 2.0, 4.105679289785514)]
)
def test_the_energy_in_one_dimension(host: Host, alpha: float, start: float, end: float, length: float) -> None:
    solver = {"points": 64, "tolerance": 1e-10}
    settings = {"alpha": alpha, "noise": 1e-6, "solver": solver}
    geometry: Any = host.create("geometry:density", settings, score=Normal(torch.eye(1)), data=source(1))
    geometry.reference[1] = geometry.density.log_prob(row(0))[0]
    close(geometry.distance(row(start), row(end)), length, 1e-5)


def test_the_inverse_density_is_its_formula(host: Host) -> None:
    settings = {"form": "inverse", "noise": 1e-6}
    geometry: Any = host.create("geometry:density", settings, score=Normal(torch.eye(1)), data=source(1))
    middle, _, least = geometry.reference.tolist()
    p = math.exp(-0.5 * 0.7**2 - 0.5 * math.log(2 * math.pi))
    close(geometry.metric(row(0.7))[0, 0], 1 / (p / math.exp(middle) + math.exp(least - middle)), 1e-9)


def test_means_in_one_dimension_are_those_of_the_isometry_to_the_line(host: Host) -> None:
    points = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    close(score_geometry(host, Normal(torch.eye(1)), 1.0).mean(points), 0.718899479695347, 2e-5)
    close(fermat(host, Normal(torch.eye(1)), 0.5).mean(points), 0.7459055690308898, 2e-5)


@pytest.mark.parametrize("dimension", [2, 50, 784])
def test_typical_ends_in_any_dimension(host: Host, dimension: int) -> None:
    """Weight 1 and exponent 1 give one picture whatever the dimension is."""
    r0 = math.sqrt(dimension)
    a, b = torch.zeros(1, dimension, dtype=torch.float64), torch.zeros(1, dimension, dtype=torch.float64)
    a[0, 0], b[0, 1] = r0, r0
    model = Normal(torch.eye(dimension))
    solver = {"points": 40, "tolerance": 1e-9}
    geometry = score_geometry(host, model, 1 / dimension, solver=solver)
    close(geometry.distance(a, b) / r0, 1.485910631851, 1e-6)
    close(geometry.geodesic(a, b, HALF)[:, 0].norm(dim=1) / r0, 0.832023895203, 1e-5)
    for exponent, length, middle in ((1.0, 1.163963606091, 0.567637755755), (0.5, 1.290504345960, 0.629435974600)):
        bent = relative_to(fermat(host, model, exponent / dimension, solver=solver), a)
        close(bent.distance(a, b) / r0, length, 1e-6)
        close(bent.geodesic(a, b, HALF)[:, 0].norm(dim=1) / r0, middle, 1e-5)
    if dimension > 2:
        hugging = score_geometry(host, model, 1.0, solver=solver)
        middle = {50: 0.993910161163, 784: 0.999606921738}[dimension]
        close(hugging.geodesic(a, b, HALF)[:, 0].norm(dim=1) / r0, middle, 1e-4)


PEAK = {0.1: 0.9949619262232045, 0.2: 0.9793608885616557, 0.3: 0.9514602290075891}


def on_the_circle(radius: float, angle: float) -> tuple[Tensor, Tensor]:
    return row(radius, 0), row(radius * math.cos(angle), radius * math.sin(angle))


def test_scores_of_the_noisy_circle() -> None:
    for sigma, expected in ((0.1, 48.99489673784976), (0.2, 11.478157426905451), (0.3, 4.498328184707547)):
        ring = Ring(2, 2)
        t = ring.process.time_at(torch.tensor([sigma], dtype=torch.float64))
        close(ring.score(row(0.5, 0), t)[0, 0], expected, 1e-9)
        close(ring.score(row(PEAK[sigma], 0), t)[0, 0], 0.0, 1e-9)


@pytest.mark.parametrize(
    ("weight", "sigma", "angle", "middle", "length"),
    [
        (1e-4, 0.1, math.pi / 2, 0.7152844609353418, 1.409927229969494),
        (0.01, 0.1, math.pi / 2, 0.8506448320053495, 1.4617931275397744),
        (1.0, 0.1, math.pi / 2, 0.9564938447066675, 1.5300597502217024),
        (1.0, 0.2, 2.5, 0.8510526634382058, 2.2783084688472957),
    ],
)
def test_the_graph_metric_of_a_noisy_circle(
    host: Host, weight: float, sigma: float, angle: float, middle: float, length: float
) -> None:
    geometry = score_geometry(host, Ring(2, 2), weight, sigma, solver={"points": 128, "tolerance": 1e-9})
    a, b = on_the_circle(PEAK[sigma], angle)
    close(geometry.distance(a, b), length, 1e-5)
    close(geometry.geodesic(a, b, HALF)[:, 0].norm(dim=1), middle, 1e-4)


@pytest.mark.parametrize(
    ("beta", "sigma", "angle", "middle", "length"),
    [
        (0.5, 0.1, math.pi / 2, 0.9745214091545735, 1.5497318606904436),
        (1.0, 0.1, math.pi / 2, 0.9847641361417583, 1.5559340024470663),
        (0.5, 0.2, 2.5, 0.891225154263009, 2.3642503140161337),
        (0.1, 0.2, math.pi / 2, 0.786171158305224, 1.4350561145396974),
    ],
)
def test_fermat_of_a_noisy_circle(
    host: Host, beta: float, sigma: float, angle: float, middle: float, length: float
) -> None:
    geometry = fermat(host, Ring(2, 2, scores_alone=False), beta, sigma, solver={"points": 128})
    a, b = on_the_circle(PEAK[sigma], angle)
    geometry = relative_to(geometry, a)
    close(geometry.distance(a, b), length, 2e-5)
    close(geometry.geodesic(a, b, HALF)[:, 0].norm(dim=1), middle, 1e-4)


@pytest.mark.parametrize("noise", [0.05, 0.2, 1.0])
def test_lambda_is_of_one_size_in_closed_form(host: Host, noise: float) -> None:
    """The median over draws of p_sig: its own variance of a Gaussian, and D sig^2 / (D - d) of a thin manifold."""

    def weight(model: ScoreModel, sphere: int, unit: float = 1.0) -> float:
        parts = {"test": Dataset(unit * source(model.event_shape[0], sphere).load("test").x)}
        made: Any = host.create("geometry:score", {"noise": noise, "weight": 2}, score=model, data=TensorSource(parts))
        return float(made.weight)

    eye = torch.eye(200, dtype=torch.float64)
    assert weight(Normal(eye), 0) == pytest.approx(4 * (1 + noise**2), rel=0.02)
    wide = Normal(9 * eye)
    wide.event_scale = EventScale(std=3.0)
    assert weight(wide, 0, 3.0) == pytest.approx(9 * weight(Normal(eye), 0), rel=1e-9)
    if noise < 0.1:
        assert weight(Ring(10, 50), 10) == pytest.approx(4 * 50 * noise**2 / 41, rel=0.05)


@pytest.mark.parametrize(
    ("weight", "sigma", "radius", "middle", "length"),
    [
        (0.01, 0.1, 0.9536895031151787, 0.809029382422912, 1.3979651089034952),
        (1.0, 0.1, 0.9536895031151787, 0.9147440050216564, 1.4649785674289495),
        (1.0, 0.05, 0.9886715745839513, 0.9727752919306865, 1.5387352760807427),
    ],
)
def test_the_graph_metric_of_a_noisy_sphere_in_fifty_coordinates(
    host: Host, weight: float, sigma: float, radius: float, middle: float, length: float
) -> None:
    geometry = score_geometry(host, Ring(10, 50), weight, sigma, solver={"points": 128, "tolerance": 1e-9})
    a, b = torch.zeros(1, 50, dtype=torch.float64), torch.zeros(1, 50, dtype=torch.float64)
    a[0, 0], b[0, 1] = radius, radius
    close(geometry.distance(a, b), length, 2e-5)
    close(geometry.geodesic(a, b, HALF)[:, 0].norm(dim=1), middle, 1e-4)


@pytest.mark.parametrize(
    ("beta", "middle", "length"),
    [
        (1 / 50, 0.7467435409022137, 1.387603881422496),
        (0.1, 0.8600698784887729, 1.4462641294866811),
        (1.0, 0.9425595967924912, 1.4905248671209208),
    ],
)
def test_fermat_of_a_noisy_sphere(host: Host, beta: float, middle: float, length: float) -> None:
    a, b = torch.zeros(1, 50, dtype=torch.float64), torch.zeros(1, 50, dtype=torch.float64)
    a[0, 0], b[0, 1] = 0.9536895031151787, 0.9536895031151787
    geometry = fermat(host, Ring(10, 50, scores_alone=False), beta, 0.1, solver={"points": 128})
    geometry = relative_to(geometry, a)
    close(geometry.distance(a, b), length, 2e-5)
    close(geometry.geodesic(a, b, HALF)[:, 0].norm(dim=1), middle, 1e-4)


FIVE = torch.tensor([[-1, 0], [-0.5, 0.8], [0.3, 1], [1, 0.4], [1.2, -0.5]], dtype=torch.float64)


def few() -> TensorSource:
    return TensorSource({"train": Dataset(FIVE), "test": Dataset(FIVE)})


def test_land_of_five_points(host: Host) -> None:
    settings = {"gamma": 0.5, "eps": 0.01, "solver": {"points": 200, "tolerance": 1e-10, "steps": 300}}
    geometry: Any = host.create("geometry:land", settings, data=few())
    for where, expected in (
        (row(0, 0), [2.898798775827071, 3.9184095860859935]),
        (row(-0.5, 0.8), [4.257554348559222, 7.712285087179734]),
        (row(0.5, 0.5), [2.99296827570171, 4.575175394463176]),
    ):
        close(geometry.metric(where)[0].diagonal(), expected, 1e-12)
    close(geometry.distance(FIVE[:1], FIVE[-1:]), 5.98777616, 1e-5)
    close(geometry.geodesic(FIVE[:1], FIVE[-1:], HALF)[0, 0], [0.31448, 0.01404], 1e-3)


def test_rbf_of_five_points(host: Host) -> None:
    settings = {"centres": 5, "eps": 0.01, "solver": {"points": 128, "tolerance": 1e-10, "steps": 300}}
    geometry: Any = host.create("geometry:rbf", settings, data=few())
    expected = {
        0: 0.8151166564201071,
        1: 0.32739976861653936,
        2: 0.586505535836336,
        3: 0.36107268914206686,
        4: 0.8097952930774426,
    }
    centres, rates, weights = geometry.functions
    rates.fill_(2.0)
    weights.copy_(torch.linalg.solve(radial(FIVE, centres, rates), torch.ones(5, dtype=torch.float64)))
    close(weights, [expected[int(k)] for k in torch.cdist(centres, FIVE).argmin(1)], 1e-10)
    close(geometry.metric(row(0, 0))[0, 0, 0], 1.1060473392687036, 1e-10)
    close(geometry.metric(FIVE[:1])[0, 0, 0], 1 / 1.01, 1e-10)
    close(geometry.metric(row(0.5, 0.5))[0, 0, 0], 0.92016792257116, 1e-10)
    close(geometry.distance(FIVE[:1], FIVE[-1:]), 2.33234314, 1e-6)
    close(geometry.geodesic(FIVE[:1], FIVE[-1:], HALF)[0, 0], [0.13925, -0.07495], 1e-3)


def test_the_rate_of_a_centre_of_one_point_is_that_of_all_points(host: Host) -> None:
    """1 / (2 (kappa w)^2), w the root-mean-square of all coordinates about their means."""
    geometry: Any = host.create("geometry:rbf", {"centres": 5, "kappa": 0.5}, data=few())
    close(geometry.functions[1], 2 / float((FIVE - FIVE.mean(0)).square().mean()), 1e-12)


def test_a_graph_of_neighbours_leads_around_a_circle() -> None:
    """Each of 41 points of a half circle is joined with 10, which lie up to 10 of its 40 steps away."""
    angle = torch.linspace(0, math.pi, 41, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    flat: Any = SimpleNamespace(length=lambda path, known: path.diff(dim=1).norm(dim=2).sum(1))
    graph = NeighbourGraph(TensorSource({"train": Dataset(circle), "test": Dataset(circle)}), flat)
    assert graph.rows.bincount().tolist() == [10] * 41
    assert bool((graph.rows != graph.columns).all())
    assert int((graph.rows - graph.columns).abs().max()) == 10
    path = graph.paths(row(1, 0), row(-1, 0))[0]
    assert path.shape == (17, 2)
    norms = path.norm(dim=1)
    assert math.cos(math.pi / 8) - 1e-9 <= float(norms.min()) <= float(norms.max()) <= 1 + 1e-9


def test_the_half_plane_by_a_function_of_ones_own(host: Host) -> None:
    settings = {"target": "scorefold_scoregeometry.examples:half_plane", "dimension": 2, "solver": {"points": 64}}
    geometry = host.create("geometry:metric", settings)
    close(geometry.distance(row(0, 1), row(2, 2)), 1.4505745138225803, 1e-6)
    close(geometry.geodesic(row(0, 1), row(2, 2), HALF)[:, 0], row(2 / 3, 1.6996731711975948), 1e-5)
    points = torch.tensor([[0, 1], [2, 2], [1, 0.5]], dtype=torch.float64)
    mean = geometry.mean(points)
    close(mean, [0.8502744249800662, 1.1877426707553083], 1e-4)
    close(geometry.distance(mean[None].expand(3, 2), points).square().sum(), 2.170841781922067, 1e-5)


def test_the_graph_of_a_log_density_of_ones_own(host: Host) -> None:
    settings = {"target": "scorefold_scoregeometry.examples:normal", "dimension": 2, "returns": "log_prob"}
    close(host.create("geometry:metric", settings).distance(row(2, 0), row(0, 2)), 3.0746608369488557, 1e-5)


def test_a_log_density_of_a_large_score_settles_within_its_rounding() -> None:
    """s = -1e8 sin x in float32, whose rules differ by the rounding of such values; log p is 1e8 (cos x - 1)."""
    single = torch.zeros((), dtype=torch.float32)
    model = SimpleNamespace(_reference=lambda x: single)
    density = SimpleNamespace(
        anchor=torch.zeros(1, dtype=torch.float64), model=model, score=lambda x: (-1e8 * x.float().sin()).double()
    )
    x = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    found = Density._integral(density, x)  # type: ignore[arg-type]
    torch.testing.assert_close(found, 1e8 * (x[:, 0].cos() - 1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", ["graph", "residual", "jacobian", "fisher"])
@pytest.mark.parametrize("process", [VE(sigma_min=1e-6, sigma_max=50.0), VP(t_min=1e-6)], ids=["ve", "vp"])
def test_lifted_points_are_read_with_one_draw_of_the_noise(host: Host, form: str, process: Any) -> None:
    """A shift of all points moves the metric and nothing else: lambda is as without it."""
    model = Normal(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64), process)
    settings: dict[str, Any] = {"form": form, "noise": 0.5, "solver": {"points": 64, "tolerance": 1e-10}}
    plain, lifted = (
        host.create("geometry:score", {**settings, **lift}, score=model, data=source(2))
        for lift in ({}, {"lift": "noise"})
    )
    shift, sigma = lifted.density.shift, lifted.density.sigma
    close(sigma, 0.5 * float(model.event_scale.std), 1e-9)
    draw = torch.randn(2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(shift / sigma, draw)
    assert not plain.density.shift.any()
    a, b, v = row(1.5, 0.2), row(-0.4, 1.0), row(0.3, -1.0)
    for made, moved in (
        (lifted.metric(a), plain.metric(a + shift)),
        (lifted.distance(a, b), plain.distance(a + shift, b + shift)),
        (lifted.geodesic(a, b, HALF), plain.geodesic(a + shift, b + shift, HALF) - shift),
        (lifted.exp(a, v), plain.exp(a + shift, v) - shift),
        (lifted.denoised(a), plain.denoised(a + shift)),
        (lifted.density.log_prob(a), plain.density.log_prob(a + shift)),
    ):
        close(made, moved, 1e-6)
    # Only the graph form has s itself; the derivatives of a linear score are everywhere alike.
    apart = float((lifted.distance(a, b) - plain.distance(a, b)).abs())
    assert apart > 1e-3 if form == "graph" else apart < 1e-6
