"""Mixtures that share their variances: density, draws, and a geometry that is exact all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import DataSpec, EventScale, TensorSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold_pullback.flows.config import MixtureConfig
from scorefold_pullback.flows.mixture import MixtureFlow, SharedMixture
from scorefold_pullback.tangent_pca import significant_components
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow

close = torch.testing.assert_close
SNAKE: dict[str, Any] = {"offsets": ((0.0, -6.0), (0.0, 0.0), (0.0, 6.0)), "variances": (0.25, 4.0)}


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.fixture
def snake(make_flow: Callable[..., Flow]) -> MixtureFlow:
    """Three normal distributions along x_1 = sin(x_2 / 2)."""
    flow = make_flow("river", frequency=0.5)
    return MixtureFlow(MixtureConfig.model_validate(SNAKE), flow=flow, dtype=torch.float64)


def base_of(flow: MixtureFlow) -> SharedMixture:
    assert isinstance(flow.base, SharedMixture)
    return flow.base


def test_known_numbers(snake: MixtureFlow, make_geometry: Callable[..., Any]) -> None:
    space = make_geometry(snake)
    close(space.metric(row(0, 0))[0], torch.tensor([[16.0, -8.0], [-8.0, 4.0625]]).double())
    assert float(space.distance(row(-1, 8), row(1, -8))) == pytest.approx(4.4481, abs=5e-5)
    covariance = base_of(snake).covariance()
    close(covariance, torch.tensor([0.25, 28.0]).double().diag())
    variances = covariance.diagonal()
    assert float(variances[0] / variances.sum()) == pytest.approx(0.00885, abs=5e-6)
    assert significant_components(variances, 0.01) == 1


def test_density_draws_and_mean(make_flow: Callable[..., Flow], generator: torch.Generator) -> None:
    weights = (1.0, 1.0, 2.0)
    flow = MixtureFlow(
        MixtureConfig.model_validate({**SNAKE, "weights": weights}), flow=make_flow("river"), dtype=torch.float64
    )
    base = base_of(flow)
    shares = torch.tensor(weights).double() / 4
    parts = torch.distributions.Independent(
        torch.distributions.Normal(torch.tensor(SNAKE["offsets"]).double(), torch.tensor([0.5, 2.0]).double()), 1
    )
    distribution = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(shares), parts)
    x = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    close(flow.log_prob(x), distribution.log_prob(flow(x)[0]))
    draws = flow(flow.sample(40_000, generator=generator))[0]
    close(draws.mean(0), distribution.mean, rtol=0, atol=0.08)
    close(draws.mT.cov(), base.covariance(), rtol=0.03, atol=0.1)
    close(base.centre, distribution.mean)
    # As published, of the shares at each point: with one A they add up to the same metric everywhere.
    posterior = torch.softmax(shares.log() + parts.log_prob(flow(x)[0][:, None]), dim=1)
    slope = (posterior[..., None] / torch.tensor([0.25, 4.0]).double()).sum(1)
    close(slope, base.hessian_product(x, torch.ones_like(x)))


def test_what_the_flow_knows_of_its_events_is_kept() -> None:
    scale = EventScale(low=0.0, high=1.0, levels=256)
    config = AffineCouplingConfig(layers=1, levels=2, channels=8)
    flow = CouplingFlow(config, data=DataSpec((1, 4, 4), event_scale=scale))
    mixture = MixtureFlow(MixtureConfig(offsets=((0.0,) * 16,), variances=(1.0,) * 16), flow=flow)
    assert mixture.event_scale == scale
    assert mixture.latent_shapes == flow.latent_shapes
    assert len(mixture.latent_shapes) == 2


def test_refusals(make_flow: Callable[..., Flow]) -> None:
    config = MixtureConfig.model_validate(SNAKE)
    with pytest.raises(ConfigError, match=r"the flow has events \(4,\), 4 coordinates"):
        MixtureFlow(config, flow=make_flow("coupling"))
    conditional = CouplingFlow(
        AffineCouplingConfig(layers=1), data=DataSpec((2,), condition_spec=TensorSpec((), classes=2))
    )
    with pytest.raises(ConfigError, match="a mixture takes no conditions"):
        MixtureFlow(config, flow=conditional)
    for wrong, message in (
        ({"offsets": [[0.0]], "variances": [1.0, 1.0]}, "expected 2, one for each variance"),
        ({"offsets": [[0.0]], "variances": [1.0], "weights": [1.0, 1.0]}, "expected 1, one a part"),
        ({"offsets": [[0.0]], "variances": [0.0]}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            MixtureConfig.model_validate(wrong)
