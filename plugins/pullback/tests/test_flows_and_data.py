"""Closed-form flows and the paper's data sets: distributions, known numbers, and the published sampler's mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold_pullback import config as configs
from scorefold_pullback.flows.config import IdentityConfig, LinearFlowConfig
from scorefold_pullback.flows.linear import IdentityFlow, LinearFlow
from scorefold_pullback.manifolds import ManifoldSource, ShearSource, hemisphere, sinusoid
from scorefold_toolkit.nn import DiagonalNormal

SETS: dict[str, Any] = {
    "banana": configs.BananaDataConfig,
    "squeezed": configs.SqueezedBananaDataConfig,
    "river": configs.RiverDataConfig,
}
close = torch.testing.assert_close


@pytest.mark.parametrize("name", SETS)
def test_exact_points_follow_the_flow(make_flow: Callable[..., Flow], name: str) -> None:
    config = SETS[name](points=40_000, fractions=(1.0, 0.0, 0.0), seed=1)
    dataset = ShearSource(config).load("train")
    flow = make_flow(name)
    z = flow(dataset.x.double())[0]
    variances = torch.tensor(config.variances, dtype=torch.float64)
    close(z.var(0), variances, rtol=0.03, atol=0)
    assert float(z.mean(0).abs().max()) < 0.03
    close(dataset.truth["log_density"], flow.log_prob(dataset.x.double()))
    entropy = 0.5 * float((2 * math.pi * math.e * variances).log().sum())
    assert -float(dataset.truth["log_density"].mean()) == pytest.approx(entropy, abs=0.02)
    assert set(dataset.truth) == {"log_density"}


@pytest.mark.parametrize(("name", "across"), [("banana", 0.257), ("squeezed", 0.0289), ("river", 0.0714)])
def test_the_published_sampler_misses_the_distribution(
    make_flow: Callable[..., Flow], name: str, across: float
) -> None:
    """Variances across the curve that another account of it has: 0.257 for 1/4, 0.0289 for 1/81, 0.0714 for 1/25."""
    config = SETS[name](sampler="paper", points=3000, fractions=(1.0, 0.0, 0.0), seed=0)
    z = make_flow(name)(ShearSource(config).load("train").x.double())[0]
    assert float(z[:, 0].var()) == pytest.approx(across, rel=0.1)


def test_sinusoids() -> None:
    config = configs.SinusoidConfig(dimension=2, ambient=5, points=500, tangents=True, noise_std=0.0)
    drawn = sinusoid(config, 3)
    z = drawn.x[:, 3:]
    assert drawn.x.shape == (500, 5)
    assert drawn.dimension == 2
    assert float(z.var()) == pytest.approx(3.0, rel=0.15)
    frequencies = torch.linalg.lstsq(z[z.abs().sum(1) < 0.4], drawn.x[z.abs().sum(1) < 0.4, :3].asin()).solution
    assert bool(((frequencies > 0.99) & (frequencies < 2.01)).all())
    close(drawn.x[:, :3], (z @ frequencies).sin())
    assert drawn.tangent is not None
    velocity = torch.cat(
        [(z @ frequencies).cos() * frequencies[0], torch.tensor([1.0, 0.0]).double().expand(500, 2)], 1
    )
    outside = velocity - (drawn.tangent @ (drawn.tangent.mT @ velocity[..., None]))[..., 0]
    assert float(outside.abs().max()) < 1e-6
    noisy = sinusoid(config.model_copy(update={"noise_std": 1e-3}), 3).x - drawn.x
    assert float(noisy[:, :3].std()) == pytest.approx(1e-3, rel=0.05)
    assert float(noisy[:, 3:].abs().max()) == 0


def test_hemispheres_are_quarters_for_two_angles() -> None:
    drawn = hemisphere(configs.HemisphereConfig(dimension=2, ambient=3, points=20_000, tangents=True), 0)
    # The published isometry is undone: the QR of the matrix that torch draws from seed 0.
    basis = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    u = drawn.x @ basis
    close(u.norm(dim=1), torch.ones(20_000, dtype=torch.float64))
    assert float(u[:, 0].min()) > 0
    assert float(u[:, 2].min()) > 0
    assert float(u[:, 1].min()) < -0.5
    share = u[:, 0].acos() / (math.pi / 2)  # Beta(5, 5): mean 1/2, variance 1/44
    assert float(share.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(share.var()) == pytest.approx(1 / 44, rel=0.04)
    second = torch.atan2(u[:, 2], u[:, 1]) / math.pi
    assert float(second.var()) == pytest.approx(1 / 12, rel=0.04)
    assert drawn.tangent is not None
    normal_part = (drawn.tangent.mT @ drawn.x[..., None]).abs().max()
    assert float(normal_part) < 1e-12
    wide = ManifoldSource(configs.HemisphereConfig(dimension=5, ambient=20, points=100))
    assert wide.event_shape == (20,)
    assert wide.load("test").truth["dimension"] == 5
    with pytest.raises(ConfigError, match="a 2-sphere needs at least 3 coordinates; ambient is 2"):
        hemisphere(configs.HemisphereConfig(ambient=2), 0)
    with pytest.raises(ConfigError, match="a sinusoid of dimension 3 needs at least 4 coordinates"):
        sinusoid(configs.SinusoidConfig(dimension=3), 0)


def test_noise_is_where_the_config_says() -> None:
    whole = (1.0, 0.0, 0.0)
    noisy, still = (
        ManifoldSource(configs.HemisphereConfig(noise_std=noise, fractions=whole, seed=1)).load("train").x
        for noise in (0.1, 0.0)
    )
    assert float((noisy - still).std()) == pytest.approx(0.1, rel=0.03)
    one, other = (
        ManifoldSource(configs.SinusoidConfig(noise_std=noise, fractions=whole, seed=1)).load("train").x
        for noise in (0.1, 0.0)
    )
    assert torch.equal(one[:, 2:], other[:, 2:])
    assert float((one - other)[:, :2].std()) == pytest.approx(0.1, rel=0.03)


def test_linear_flows(generator: torch.Generator) -> None:
    turned = LinearFlow(LinearFlowConfig(rotation=2, dimension=4, mean=(1.0, 0.0, 0.0, 2.0)), dtype=torch.float64)
    close(turned.matrix @ turned.matrix.mT, torch.eye(4, dtype=torch.float64))
    again = LinearFlow(LinearFlowConfig(rotation=2, dimension=4), dtype=torch.float64)
    assert torch.equal(again.matrix, turned.matrix)
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    close(turned(x)[0], again(x - turned.shift)[0])
    scaled = LinearFlow(LinearFlowConfig(matrix=((2.0, 1.0), (0.0, 0.5))), dtype=torch.float64)
    z, log_det = scaled(x[:, :2])
    close(z, x[:, :2] @ torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64))
    close(log_det, torch.zeros(3, dtype=torch.float64))
    wide = LinearFlow(LinearFlowConfig(matrix=((3.0, 1.0), (0.0, -0.5))), dtype=torch.float64)
    z, log_det = wide(x[:, :2])
    close(log_det, torch.full((3,), math.log(1.5), dtype=torch.float64))
    close(wide.inverse(z)[1], -log_det)
    with pytest.raises(ConfigError, match="the matrix is singular"):
        LinearFlow(LinearFlowConfig(matrix=((1.0, 2.0), (2.0, 4.0))))
    with pytest.raises(ConfigError, match="smallest eigenvalue is -1"):
        LinearFlow(LinearFlowConfig(covariance=((1.0, 2.0), (2.0, 1.0))))
    with pytest.raises(ConfigError, match="expected 1 or 4, one a coordinate"):
        IdentityFlow(IdentityConfig(event_shape=(2, 2), variances=(1.0, 2.0)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no map given"),
        ({"matrix": [[1.0]], "rotation": 1, "dimension": 1}, "matrix and rotation given"),
        ({"rotation": 1}, "give both, or neither"),
        ({"matrix": [[1.0, 2.0]]}, "expected a square"),
        ({"covariance": [[1.0]], "variances": [1.0]}, "has its own variances"),
        ({"matrix": [[1.0]], "mean": [0.0, 0.0]}, "mean has 2 numbers; expected 1"),
    ],
)
def test_a_linear_flow_that_is_not_described(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearFlowConfig.model_validate(given)


def test_double_precision_keeps_all_digits(make_flow: Callable[..., Flow]) -> None:
    base = make_flow("squeezed").base
    assert isinstance(base, DiagonalNormal)
    assert float((2 * base.log_std[0]).exp()) == pytest.approx(1 / 81, rel=1e-14)
