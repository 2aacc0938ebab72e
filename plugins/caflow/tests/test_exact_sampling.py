"""Draws: their distribution where it is known, temperatures, one encoding a condition, and inverses that do not
explode."""

from __future__ import annotations

import math

import pytest
import torch
from caflow_exact import exact_flow
from caflow_models import CONTINUOUS, KINDS, draws, image_flow
from torch import Tensor

from scorefold.data import EventScale
from scorefold.errors import ConfigError, ShapeError
from scorefold_caflow.config import GaussianPairsConfig
from scorefold_caflow.gaussian_pairs import gaussian_pair, structural_bounds
from scorefold_caflow.layers import AffineInjector
from scorefold_toolkit.nn import AffineCoupling


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("task", ["super-resolution", "inpainting"])
def test_a_flow_that_is_a_gaussian_pairs_distribution_draws_it(task) -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=4, task=task))
    flow = exact_flow(pair)
    w, y = draws(5, 1, 4, 4), draws(5, 1, 4, 4, seed=4)
    assert torch.allclose(flow.log_prob(w, y), pair.log_prob(w.flatten(1), y.flatten(1)), atol=1e-9)
    count = 20_000
    drawn = flow.sample(count, y[:2], generator=generator()).flatten(2)
    mean, covariance = pair.given(y[:2].flatten(1))
    for place in range(2):
        rows = drawn[:, place]
        error = covariance.diagonal().sqrt() / math.sqrt(count)
        assert float(((rows.mean(0) - mean[place]) / error).abs().max()) < 6  # of 544 numbers
        spread = covariance.diagonal()
        error = ((spread[:, None] * spread[None] + covariance**2) / count).sqrt()
        assert float(((rows.T.cov() - covariance) / error).abs().max()) < 6  # of 544 numbers
    half = flow.sample(count, y[:2], 0.5, generator()).flatten(2)
    assert torch.allclose(half - mean, 0.5 * (drawn - mean), atol=1e-12)
    assert torch.allclose(flow.sample(1, y[:2], 0.0)[0].flatten(1), mean, atol=1e-12)


@torch.no_grad()
def test_the_exact_flow_costs_the_least_that_any_can() -> None:
    """Its mean cost over fresh pairs is the closed-form bound, within five standard errors."""
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    count = 20_000
    joint = draws(count, 32, seed=11) @ torch.linalg.cholesky(pair.joint).T
    w, y = (part.reshape(count, 1, 4, 4) for part in joint.split(16, 1))
    bits = -flow.log_prob(w, y) / (16 * math.log(2))

    def split(x: Tensor) -> list[Tensor]:
        return flow.parts.event_encoder(x)[0]

    bounds = structural_bounds(pair, split, split, (1, 4, 4), (1, 4, 4))
    assert bounds.true == pytest.approx(bounds.caflow, abs=1e-9)  # of one scale
    assert float(bits.mean()) == pytest.approx(bounds.true, abs=5 * bounds.standard_error(count))
    assert float(bits.std()) / math.sqrt(count) == pytest.approx(bounds.standard_error(count), rel=0.05)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_temperature_scales_the_deviation_of_a_linear_flow_exactly(kind) -> None:
    flow = image_flow(kind)
    for module in flow.modules():  # mixings and normalisations stay off their start, couplings and injectors are 1
        if isinstance(module, AffineCoupling | AffineInjector):
            network = getattr(module.conditioner, "network", module.conditioner)
            network.last.weight.zero_()
            network.last.bias.zero_()
    y = draws(2, 1, 8, 8, seed=4)
    centre = flow.sample(1, y, 0.0)
    whole, half = (flow.sample(50, y, temperature, generator()) for temperature in (1.0, 0.5))
    assert torch.allclose(half - centre, 0.5 * (whole - centre), atol=1e-12)
    assert torch.allclose(half.std(0) / whole.std(0), torch.full_like(centre[0], 0.5), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_repeat_and_temperature_0_is_one_image(kind) -> None:
    flow = image_flow(kind)
    y = draws(2, 1, 8, 8, seed=4)
    assert torch.equal(flow.sample(3, y, generator=generator()), flow.sample(3, y, generator=generator()))
    still = flow.sample(3, y, 0.0, generator())
    assert torch.allclose(still, still[:1].expand_as(still), atol=1e-12)
    assert torch.allclose(still, flow.sample(3, y, 0.0, generator(1)), atol=1e-12)
    assert not torch.allclose(still[:, 0], still[:, 1])
    assert flow.sample(0, y).shape == (0, 2, 1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_a_scale_and_a_latent(kind) -> None:
    flow = image_flow(kind, scale=EventScale())
    y = draws(1, 1, 8, 8, seed=4)
    scale_of = {"caflow": [0, 1, 1], "shared": [0, 1, 1]}.get(kind, [0, 1])
    assert list(flow.parts.scale_of) == scale_of

    def deviations(temperature) -> list[float]:
        z, _ = flow(flow.sample(400, y, temperature, generator()).squeeze(1), y)
        return [float(one.detach().std()) for one in flow.unpack(z)]

    assert deviations([0.5, 2.0]) == pytest.approx([[0.5, 2.0][scale] for scale in scale_of], rel=0.05)
    each = [0.3, 0.6, 0.9][: len(scale_of)]
    assert deviations(each) == pytest.approx(each, rel=0.05)
    assert deviations([0.0] * len(each)) == pytest.approx([0.0] * len(each), abs=1e-10)
    counts = "2, one a scale" if len(scale_of) == 2 else "2, one a scale from the coarsest on, or 3, one a latent"
    with pytest.raises(ShapeError, match=f"5 temperatures was given; expected one of {counts}"):
        flow.sample(1, y, [1.0] * 5)
    with pytest.raises(ConfigError, match="0 or more"):
        flow.sample(1, y, [-1.0, 1.0])


def test_a_cold_scale_leaves_coarser_latents_as_they_are() -> None:
    flow = image_flow(scale=EventScale())
    y = draws(2, 1, 8, 8, seed=4)
    cold, warm = (flow.sample(5, y, temperature, generator()).flatten(0, 1) for temperature in ([1.0, 0.0], [1.0, 1.0]))
    ours, theirs = (flow.parts.event_encoder(drawn)[0] for drawn in (cold, warm))
    assert torch.allclose(ours[0], theirs[0], atol=1e-10)
    assert not torch.allclose(ours[1], theirs[1], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_many_draws_of_a_condition_cost_one_encoding_of_it(kind) -> None:
    flow = image_flow(kind)
    flow.call_rows()  # is measured by events of no meaning
    encoder = flow.parts.features if kind == "cinn" else flow.parts.condition_encoder
    rows: list[int] = []
    encoder.register_forward_hook(lambda module, arguments, result: rows.append(len(arguments[0])))
    flow.sample(7, draws(3, 1, 8, 8, seed=4), generator=generator())
    assert rows == [3]
    rows.clear()
    flow.log_prob(draws(9, 1, 8, 8), draws(1, 1, 8, 8, seed=4))
    assert rows == [1]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_draws_do_not_depend_on_the_batch_they_are_in(kind) -> None:
    flow = image_flow(kind)
    z, y = draws(4, 3, 1, 8, 8), draws(3, 1, 8, 8, seed=4)
    whole = flow.invert_draws(z, y)
    for place in range(3):
        alone = flow.invert_draws(z[1:2, place : place + 1], y[place : place + 1])
        assert torch.allclose(whole[1, place], alone[0, 0], atol=1e-12)
        assert torch.allclose(flow.inverse(z[1, place][None], y[place : place + 1])[0], alone[0], atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preprocess", ["standardise", "logit"])
def test_no_inverse_explodes(kind, preprocess) -> None:
    """Ten thousand draws in float32 of a model that is far from its start, for conditions far from the usual."""
    scale = EventScale(-2.0, 2.0) if preprocess == "logit" else CONTINUOUS
    flow = image_flow(kind, scale=scale, dtype=torch.float32, perturbed=0.1, preprocess=preprocess)
    y = torch.cat((draws(3, 1, 8, 8, seed=4), 100 * draws(1, 1, 8, 8), 0 * draws(1, 1, 8, 8))).float()
    noise = flow.base.sample((10_000, 1, 8, 8), generator=generator(), like=y).unflatten(0, (2000, 5))
    drawn = flow.sample(2000, y, generator=generator())
    assert drawn.shape == (2000, 5, 1, 8, 8)
    assert bool(drawn.isfinite().all())
    usual = drawn[:, :3].flatten(0, 1)
    z, _ = flow(usual, y[:3].repeat(2000, 1, 1, 1))
    assert float((z - noise[:, :3].flatten(0, 1)).abs().max()) < 0.01
    assert float(usual.abs().max()) < 1000


@torch.no_grad()
def test_mixture_couplings_do_not_explode_either() -> None:
    translation = {"steps": 1, "hidden": 6, "coupling": "mixture"}
    flow = image_flow(dtype=torch.float32, perturbed=0.1, translation=translation)
    drawn = flow.sample(2000, draws(5, 1, 8, 8, seed=4), generator=generator())
    assert drawn.flatten(0, 1).shape == (10_000, 1, 8, 8)
    assert bool(drawn.isfinite().all())
