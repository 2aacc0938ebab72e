"""Geodesics under a decoder by numbers: on surfaces whose geodesics are known, and against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from charts import sphere, torus
from torch import Tensor

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.stage import StageContext, showing
from scorefold_registry import Host
from scorefold_scorevae.config import DecoderGeometryConfig
from scorefold_scorevae.decoder_geometry import DecoderGeometry
from scorefold_scorevae.decoder_geometry import decoder_geometry_figures as draw
from scorefold_toolkit.checks import VARIABLE
from scorefold_verbs.config import InterpolateOptions
from scorefold_verbs.geometry import interpolate


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "charts")


def test_a_function_runs_with_permission_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigError, match="only with your permission"):
        surface("sphere")


def surface(name: str, **settings: Any) -> DecoderGeometry:
    return DecoderGeometry(DecoderGeometryConfig(target=f"charts:{name}", dimension=2, **settings))


def normal(count: int, seed: int, scale: float = 0.5) -> Tensor:
    return scale * torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distances_on_the_sphere_are_angles_and_geodesics_great_circles() -> None:
    space, a, b = surface("sphere"), normal(8, 0), normal(8, 1)
    u, v = sphere(a), sphere(b)
    angle = (u * v).sum(1).clamp(-1, 1).arccos()
    torch.testing.assert_close(space.distance(a, b), angle, atol=1e-5, rtol=0)
    times = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    path = space.decoded(space.geodesic(a, b, times).flatten(0, 1)).unflatten(0, (8, 4))
    share = times[None, :, None]
    circle = ((1 - share) * angle[:, None, None]).sin() * u[:, None] + (share * angle[:, None, None]).sin() * v[:, None]
    torch.testing.assert_close(path, circle / angle.sin()[:, None, None], atol=1e-5, rtol=0)


def test_exp_and_log_undo_each_other() -> None:
    space, a, b = surface("sphere"), normal(6, 0), normal(6, 1)
    v = space.log(a, b)
    torch.testing.assert_close(space.exp(a, v), b, atol=2e-4, rtol=0)
    torch.testing.assert_close(space.log(a, space.exp(a, 0.3 * v)), 0.3 * v, atol=2e-4, rtol=0)
    torch.testing.assert_close(space.norm(a, v), space.distance(a, b))


def test_meridians_and_the_equators_of_the_torus_are_geodesics() -> None:
    space = surface("torus")
    a = torch.tensor([[0.3, -0.5], [0.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.3, 0.9], [0.4, 0.0]], dtype=torch.float64)
    middle = space.geodesic(a, b, torch.tensor([0.5], dtype=torch.float64))[:, 0]
    torch.testing.assert_close(middle, (a + b) / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        space.distance(a, b), torch.tensor([1.4, 3 * 0.4], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_clairaut_holds_along_geodesics_of_the_torus() -> None:
    """r(t)^2 times the speed of longitude is kept along a geodesic of a surface of revolution, and so is the speed."""
    space, a, b = surface("torus", solver={"points": 128}), normal(5, 2, 0.8), normal(5, 3, 0.8)
    assert space.solve(a, b).reasons == [""] * 5
    times = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    ahead, behind = (space.geodesic(a, b, times + move) for move in (1e-2, -1e-2))
    z, v = space.geodesic(a, b, times), (ahead - behind) / 2e-2
    kept = (2 + z[..., 1].cos()).square() * v[..., 0]
    speed = ((2 + z[..., 1].cos()).square() * v[..., 0].square() + v[..., 1].square()).sqrt()
    assert float((kept.std(1) / speed.mean(1)).max()) < 1e-4
    assert float((speed.std(1) / speed.mean(1)).max()) < 1e-4


def test_the_metric_is_that_of_the_chart() -> None:
    a = normal(4, 0)
    conformal = (2 / (1 + a.square().sum(1))).square()[:, None, None] * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(surface("sphere").metric(a), conformal, atol=1e-9, rtol=0)


def test_a_flow_gives_the_closed_form_of_its_pullback(host: Host) -> None:
    """By the inverse of a banana z lies where z decodes: geodesics are straight in events, phi of straight lines."""
    flow = host.create("flow:banana")
    space = host.create("geometry:decoder", model=flow.double())
    a, b = 2 * normal(4, 0), 2 * normal(4, 1)
    x, y = flow.inverse(a)[0], flow.inverse(b)[0]
    torch.testing.assert_close(space.distance(a, b), (x - y).norm(dim=1), atol=1e-5, rtol=1e-5)
    middle = space.geodesic(a, b, torch.tensor([0.5], dtype=torch.float64))[:, 0]
    torch.testing.assert_close(middle, flow((x + y) / 2)[0], atol=1e-4, rtol=0)


def test_a_mean_on_the_sphere_has_logarithms_that_add_up_to_0() -> None:
    space, points = surface("sphere"), normal(3, 4)
    mean = space.mean(points)
    assert float(space.log(mean.expand_as(points), points).sum(0).norm()) < 1e-3


def test_codes_keep_their_dtype_and_a_batch_of_one_serves_for_all() -> None:
    space, a, b = surface("sphere"), normal(1, 0).float(), normal(3, 1).float()
    assert space.log(a, b).dtype == torch.float32
    torch.testing.assert_close(space.distance(a, b), space.distance(a.expand(3, 2), b))
    assert space.distance(a[:0], b[:0]).shape == (0,)
    matrix = space.distance_matrix(b)
    torch.testing.assert_close(matrix, space.distance_matrix(b, b), atol=1e-5, rtol=0)


def test_models_with_codes_are_decoders_too(host: Host) -> None:
    data = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 200})
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1, "activation": "tanh"}}
    vae = host.create("autoencoder:vae", {"latent": 2, "encoder": network, "decoder": network}, data=data)
    with torch.no_grad():  # as it is built its decoder gives the mean of the data for every code
        for parameter in vae.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    space = host.create("geometry:decoder", model=vae)
    a, b = normal(2, 0).float(), normal(2, 1).float()
    fine = torch.linspace(0, 1, 200)
    path = space.decoded(space.geodesic(a, b, fine).flatten(0, 1)).unflatten(0, (2, 200))
    torch.testing.assert_close(path.diff(dim=1).norm(dim=2).sum(1), space.distance(a, b), rtol=1e-3, atol=0)
    prior = host.create("score:analytic", {"gaussian": True, "process": {"name": "vp", "t_min": 1e-2}}, data=data)
    code = host.create("score:scorevae", {"latent": 2, "encoder": network}, prior=prior, data=data)
    sampled = host.create("geometry:decoder", {"decoding": {"steps": 4, "sampler": "heun"}}, model=code)
    assert float(sampled.distance(a[:1], b[:1])) > 0
    with pytest.raises(ShapeError, match=r"x is torch.float64 on cpu; this decoder is torch.float32"):
        space.metric(normal(1, 0))


def test_a_geodesic_that_is_withheld_has_no_distance() -> None:
    """One step of 16 jumps over a hill of width 0.1 that is 30 high, and the hill is seen between the points."""
    space = surface("wall", solver={"points": 16, "steps": 3})
    a, b = torch.tensor([[-1.0, 0.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert space.solve(a, b).reasons[0]
    with pytest.raises(DataError, match="1 of 1 geodesics are withheld"):
        space.distance(a, b)


def test_geodesics_are_shorter_than_straight_lines_of_codes() -> None:
    """Between points on top of a torus, where a shortcut over the inner side is open."""
    space = surface("torus")
    a, b = torch.tensor([[-1.0, 1.4]], dtype=torch.float64), torch.tensor([[1.0, 1.4]], dtype=torch.float64)
    line = space.decoded(a + torch.linspace(0, 1, 400, dtype=torch.float64)[:, None] * (b - a))
    length = float(line.diff(dim=0).norm(dim=1).sum())
    assert 0.8 * length < float(space.distance(a, b)) < 0.98 * length


def test_curvature_and_transport_on_surfaces() -> None:
    """Gauss's curvature, 1 and cos v / (2 + cos v); around a triangle a vector turns by its area."""
    a, u, w = normal(6, 0), normal(6, 1), normal(6, 2)
    torch.testing.assert_close(surface("sphere").curvature(a, u, w), torch.ones(6).double(), atol=1e-7, rtol=0)
    bent = a[:, 1].cos() / (2 + a[:, 1].cos())
    torch.testing.assert_close(surface("torus").curvature(a, u, w), bent, atol=1e-7, rtol=0)
    space, corners = surface("sphere"), (a[:1], a[1:2], a[2:3])
    moved = u[:1]
    for x, y in ((0, 1), (1, 2), (2, 0)):
        moved = space.transport(corners[x], corners[y], moved)
    ends = sphere(a[:3])
    area = 2 * math.atan2(float(torch.linalg.det(ends)), 1 + float(sum(ends[k] @ ends[k - 1] for k in range(3))))
    turned = math.atan2(float(u[0, 0] * moved[0, 1] - u[0, 1] * moved[0, 0]), float(u[0] @ moved[0]))
    assert abs(turned) == pytest.approx(abs(math.remainder(area, 2 * math.pi)), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("flat", DataError, "some direction of the code changes nothing"),
        ("drawing", ConfigError, "one code gives two events"),
        ("one", ShapeError, "1 events for 2 codes"),
    ],
)
def test_decoders_that_have_no_geometry_are_named(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        surface(name).distance(normal(1, 0), normal(1, 1))


def test_wrong_input_is_named(host: Host) -> None:
    space = surface("sphere")
    score = host.create("score:analytic", {"gaussian": True}, data=host.create("data:sphere", {"points": 50}))
    with pytest.raises(ShapeError, match=r"x has shape \(1, 3\); the codes of this decoder are \(B, 2\)"):
        space.metric(torch.zeros(1, 3))
    with pytest.raises(DataError, match="x holds NaN"):
        space.metric(torch.full((1, 2), math.nan))
    with pytest.raises(ShapeError, match=r"batches of \[2, 3\] rows"):
        space.log(normal(2, 0), normal(3, 0))
    with pytest.raises(DataError, match="expected times from 0 to 1"):
        space.geodesic(normal(1, 0), normal(1, 1), torch.tensor([1.5]))
    with pytest.raises(ConfigError, match="neither a model nor a function"):
        host.create("geometry:decoder")
    with pytest.raises(ConfigError, match="both a model and a function"):
        host.create("geometry:decoder", {"target": "charts:sphere", "dimension": 2}, model=host.create("flow:banana"))
    with pytest.raises(ConfigError, match="set both, or neither"):
        host.create("geometry:decoder", {"target": "charts:sphere"})
    with pytest.raises(ConfigError, match=r"no setting 'nodes' any more(.|\n)*solver: {points: 64}"):
        host.create("geometry:decoder", {"target": "charts:sphere", "dimension": 2, "nodes": 100})
    with pytest.raises(ConfigError, match="AnalyticScore decodes nothing"):
        host.create("geometry:decoder", model=score)
    with pytest.raises(ConfigError, match="target is 'charts:nothing', and there is no such function"):
        surface("nothing")


def test_points_say_where_the_metric_is_flat() -> None:
    numbers, warnings = surface("sphere").diagnose(normal(9, 0))
    assert numbers["smallest_over_largest_stretch"] == pytest.approx(1, abs=1e-6)
    assert not warnings
    assert "the metric is singular" in surface("flat").diagnose(normal(9, 0))[1][0]


def test_figures_show_geodesics_over_the_volume_and_leave_out_what_is_not_found(host: Host) -> None:
    (figure,) = draw(surface("sphere")).values()
    assert "geodesics between codes" in figure.axes[0].get_title()
    assert draw(surface("flat")) == {}


def test_paths_between_codes_are_reported_one_by_one() -> None:
    from scorefold.data import Dataset, EventScale
    from scorefold.interfaces import TensorSource

    codes = TensorSource({name: Dataset(normal(20, seed)) for seed, name in enumerate(("train", "test"))}, EventScale())
    shown: list[tuple[int, int, str]] = []
    with showing(lambda *said: shown.append(said)):
        context = StageContext("here", dtype=torch.float64)
        outcome = interpolate(
            surface("sphere"), {"data": codes}, InterpolateOptions(between=((0, 1), (2, 3), (4, 5)), times=3), context
        )
    assert (3, 3, "geodesics") in shown
    assert outcome.result["answer"]["value"] > 0
    ends = outcome.arrays["geodesics"][:, [0, -1]].flatten(0, 1)
    known = (sphere(ends[::2]) * sphere(ends[1::2])).sum(1).arccos()
    torch.testing.assert_close(outcome.arrays["lengths"], known, atol=1e-4, rtol=0)
    assert torus(ends).shape == (6, 3)
