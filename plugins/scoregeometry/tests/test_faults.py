"""Cases in which a length was wrong without a word."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion import VE
from scorefold.errors import DataError
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold_registry import Host


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def source(points: Tensor) -> TensorSource:
    return TensorSource({"train": Dataset(points[::2]), "test": Dataset(points[1::2])})


class Mixture(ScoreModel):
    """Gaussians of one deviation around means (K, 2), with shares: the score, and log p where ``known``."""

    def __init__(self, means: list[list[float]], deviation: float, shares: list[float], known: bool = False) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (2,))
        self.register_buffer("means", torch.tensor(means, dtype=torch.float64))
        self.shares, self.variance = torch.tensor(shares, dtype=torch.float64), deviation**2
        if known:
            self.noised_log_prob = lambda x, t: self._logs(x, t).logsumexp(0)

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        pulls = (self.means[:, None] - x) / (self.variance + t[0] ** 2)
        return (self._logs(x, t).softmax(0)[:, :, None] * pulls).sum(0)

    def draw(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        which = torch.multinomial(self.shares, count, True, generator=generator)
        noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        answer: Tensor = self.means[which] + self.variance**0.5 * noise
        return answer

    def _logs(self, x: Tensor, t: Tensor) -> Tensor:
        variance = self.variance + t[0] ** 2
        squares = (self.means[:, None] - x).square().sum(2) / variance
        return self.shares.log()[:, None] - squares / 2 - torch.log(2 * torch.pi * variance)


@pytest.mark.parametrize("name", ["geometry:fermat", "geometry:density"])
def test_a_score_alone_gives_the_lengths_of_its_density(host: Host, name: str) -> None:
    """The way from the anchor to the other mode leads over a dip of 200 nats that is a thousandth of it wide."""
    found = []
    for known in (True, False):
        model = Mixture([[-2.0, 0.0], [2.0, 0.0]], 0.1, [0.7, 0.3], known)
        geometry: Any = host.create(name, {"noise": 1e-6}, score=model, data=source(model.draw(400)))
        starts, ends = torch.cat([row(-2.1, 0), row(1.9, 0)]), torch.cat([row(-2, 0.1), row(2, 0.1)])
        found.append(geometry.distance(starts, ends))
    torch.testing.assert_close(*found, atol=0, rtol=1e-4)
    if name == "geometry:fermat":
        assert float(found[1][0]) == pytest.approx(0.089438, abs=1e-5)


LENGTHS = [10.428117018663, 10.885918158458]


def test_a_score_alone_is_as_near_as_its_density(host: Host) -> None:
    """Over a barrier, on the default solver. The lengths are of a shooting method in scipy, from p itself."""
    found = []
    for known in (True, False):
        model = Mixture([[-1.5, 0.0], [1.6, 0.4], [0.2, 2.0]], 0.45, [0.4, 0.35, 0.25], known)
        geometry: Any = host.create("geometry:fermat", {"noise": 1e-6}, score=model, data=source(model.draw(400)))
        unit = geometry.norm(row(-1.5, 0), row(1, 0))
        found.append(geometry.distance(torch.cat([row(-1.5, 0), row(-1.8, -0.3)]), row(1.6, 0.4)) / unit)
    for lengths in found:
        torch.testing.assert_close(lengths, torch.tensor(LENGTHS, dtype=torch.float64), atol=0, rtol=5e-4)


@pytest.mark.parametrize("deviation", [0.1, 0.004])
def test_the_line_integral_of_a_score_is_log_p(host: Host, deviation: float) -> None:
    """Half-way between narrow modes the score flips, beside the end of a panel."""
    model = Mixture([[-2.0, 0.0], [2.0, 0.0]], deviation, [0.7, 0.3])
    geometry: Any = host.create("geometry:fermat", {"noise": 1e-6}, score=model, data=source(model.draw(400)))
    density, t = geometry.density, torch.full((1,), geometry.density.time, dtype=torch.float64)
    points = torch.cat([model.draw(200), row(0, 0), row(0.3, -1)])
    truth = model._logs(torch.cat([points, density.anchor[None]]), t).logsumexp(0)
    torch.testing.assert_close(density.log_prob(points), truth[:-1] - truth[-1], atol=1e-5, rtol=1e-9)
    assert density.log_prob(points[:0]).shape == (0,)


def test_line_integrals_of_so_many_points_are_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_scoregeometry.density._REMEMBERED", 20)
    model = Mixture([[-2.0, 0.0], [2.0, 0.0]], 1.0, [0.7, 0.3])
    geometry: Any = host.create("geometry:fermat", {"noise": 1e-6}, score=model, data=source(model.draw(400)))
    density = geometry.density
    found = [density.log_prob(points) for points in model.draw(60).split(15)]
    assert len(density._integrals) <= 35
    torch.testing.assert_close(torch.cat(found), density.log_prob(model.draw(60)), atol=1e-9, rtol=0)


def test_a_score_that_is_not_finite_on_the_way_has_no_log_p(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Mixture([[0.0, 0.0]], 1.0, [1.0])
    geometry: Any = host.create("geometry:fermat", {"noise": 1e-6}, score=model, data=source(model.draw(400)))
    density, plain = geometry.density, geometry.density.score
    monkeypatch.setattr(density, "score", lambda x: plain(x).where(x[:, :1] < 1, torch.nan))
    with pytest.raises(DataError, match="log p was not found at 1 of 2 points"):
        density.log_prob(torch.cat([row(2, 0), row(-2, 0)]))


class Turned(ScoreModel):
    """s = -x + turn R x, with R a quarter turn: the gradient of no density."""

    def __init__(self, turn: float) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (2,))
        self.register_buffer("turn", torch.tensor(turn, dtype=torch.float64))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return -x + self.turn * torch.stack([-x[:, 1], x[:, 0]], 1)


def normals(deviation: float = 1.0) -> TensorSource:
    generator = torch.Generator().manual_seed(0)
    return source(deviation * torch.randn(400, 2, generator=generator, dtype=torch.float64))


def test_a_score_that_is_no_gradient_gives_the_least_energy(host: Host) -> None:
    """The sheet's minimum is 3.4592; steps by scores alone end 1 % above it."""
    model, data = Turned(0.3), normals()
    plain: Any = host.create("geometry:score", {"noise": 1e-6}, score=model, data=data)
    assert plain.curl > 0.05
    settings = {"noise": 1e-6, "weight": plain.weight**-0.5}
    geometry: Any = host.create("geometry:score", settings, score=model, data=data)
    assert float(geometry.distance(row(2, 0), row(0, 2))) == pytest.approx(3.45925, abs=2e-4)
    model.turn.zero_()
    assert geometry.curl < 1e-6


@pytest.mark.parametrize("name", ["geometry:score", "geometry:fermat", "geometry:density"])
def test_a_geometry_follows_its_model(host: Host, name: str) -> None:
    """Lengths after a load into a used geometry, and after a change in place, are the lengths of a fresh geometry."""
    data, settings = normals(), {"noise": 0.2, "solver": {"starts": ["graph"]}}

    def made(variance: float) -> Any:
        sample = TensorSource({"train": Dataset(data.load("train").x * torch.tensor([1.0, variance]).double())})
        score = host.create("score:analytic", {"gaussian": True}, data=sample, dtype=torch.float64)
        return host.create(name, settings, score=score, data=data)

    used, other = made(1.0), made(3.0)
    x, y = row(1, 0.2), row(-0.3, 1)
    before, wanted = used.distance(x, y), other.distance(x, y)
    assert abs(float(before - wanted)) > 1e-3
    used.load_state_dict(other.state_dict())
    fresh = made(1.0)
    fresh.load_state_dict(other.state_dict())
    torch.testing.assert_close(used.distance(x, y), fresh.distance(x, y), atol=0, rtol=0)
    torch.testing.assert_close(used.reference, fresh.reference, atol=0, rtol=0)
    turned = Turned(0.0)
    geometry: Any = host.create(name, {"noise": 1e-6}, score=turned, data=data)
    first = geometry.reference.clone()
    turned.turn += 1
    assert not torch.equal(geometry.reference, first)


def test_data_in_other_units_than_the_model_are_named(host: Host) -> None:
    for deviation, named in ((1.0, False), (5.0, True)):
        data = normals(deviation)
        geometry: Any = host.create("geometry:score", {"noise": 0.2}, score=Turned(0.0), data=data)
        warnings = geometry.diagnose(data.load("test").x[:4])[1]
        assert any("event_scale=data.event_scale" in text for text in warnings) == named


def test_a_score_of_zero_gives_no_lambda(host: Host) -> None:
    """Held-out points that are all alike, at the mode of a density as wide as 1: noise of 1e-6 is all there is."""
    points = torch.zeros(10, 2, dtype=torch.float64)
    geometry: Any = host.create("geometry:score", {"noise": 1e-6}, score=Turned(0.0), data=source(points))
    with pytest.raises(DataError, match=r"median size 1\.\d*e-06, so weight has no scale"):
        geometry.distance(row(1, 0), row(0, 1))


def test_ends_outside_the_support_are_reported_where_log_p_is_known(host: Host) -> None:
    """In a run ``do: interpolate`` leaves such a pair out. A score alone would need hundreds of calls an end."""
    plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 400}}
    score = {"use": "score:analytic", "config": {"gaussian": True}, "inputs": {"data": plane}}
    geometry: Any = host.create("geometry:score", score=score, data=plane, dtype=torch.float64)
    x, y, half = torch.cat([row(7, 0), row(1, 0)]), row(0, 1), torch.tensor([0.5])
    calls = (lambda: geometry.distance(x, y), lambda: geometry.log(x, y), lambda: geometry.geodesic(x, y, half))
    for call in calls:
        with pytest.warns(UserWarning, match="1 of 2 geodesics: an end lies outside the support") as seen:
            call()
        assert [one.filename for one in seen] == [__file__]
    geometry.distance(x[1:], y)
