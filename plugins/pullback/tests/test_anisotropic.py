"""Flows trained for geometry: their start, their objective, and what little training makes of known distributions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Loss, Phase, Progress
from scorefold_pullback.flows.anisotropic import AnisotropicFlow
from scorefold_pullback.flows.config import AnisotropicConfig, IsometricConfig, StandardNormalConfig
from scorefold_pullback.flows.objective import isometry_penalty, unit_vectors, volume_penalty, with_cotangents
from scorefold_testing.contract import stir
from scorefold_toolkit.numerics import jacobian
from scorefold_toolkit.training import fit

SCALE = EventScale(mean=0.7, std=2.0)
SMALL: dict[str, Any] = {"name": "coupling", "layers": 2, "width": 16, "blocks": 1}
COVARIANCE = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.01]], dtype=torch.float64)


def flow_of(
    shape: tuple[int, ...] = (3,), scale: EventScale = SCALE, stirred: bool = False, **config: Any
) -> AnisotropicFlow:
    torch.manual_seed(0)
    chosen = AnisotropicConfig.model_validate({"map": SMALL, **config})
    flow = AnisotropicFlow(chosen, data=DataSpec(shape, scale)).double()
    if stirred:
        stir(flow, torch.Generator().manual_seed(1))
    return flow


def gaussian(rows: int, seed: int = 0) -> Tensor:
    draws = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return draws @ torch.linalg.cholesky(COVARIANCE).mT + 3


def loss_of(flow: AnisotropicFlow, x: Tensor, seed: int = 0) -> Loss:
    return flow.loss(Dataset(x), progress=Progress(0, 1, "fit"), generator=torch.Generator().manual_seed(seed))


def prepared(x: Tensor, **config: Any) -> AnisotropicFlow:
    flow = flow_of(tuple(x.shape[1:]), **config)
    flow.prepare(Dataset(x), torch.Generator().manual_seed(0))
    return flow


@pytest.mark.parametrize("start", ["pca", "none"])
@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 2, 2)], ids=str)
def test_both_directions_and_the_volume(shape: tuple[int, ...], start: str) -> None:
    flow = flow_of(shape, start=start)
    x = 0.7 + 2 * torch.randn(5, *shape, dtype=torch.float64)
    flow.prepare(Dataset(x), torch.Generator().manual_seed(0))
    stir(flow, torch.Generator().manual_seed(1))
    z, log_det = flow(x)
    back, inverse_log_det = flow.inverse(z)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(log_det, -inverse_log_det, atol=1e-9)
    assert torch.allclose(log_det, torch.linalg.slogdet(jacobian(lambda y: flow(y)[0], x))[1], atol=1e-9)


def test_it_starts_on_the_principal_axes_of_the_data() -> None:
    x = gaussian(4000)
    flow = prepared(x, variance_floor=1e-9)
    covariance = (x - x.mean(0)).mT @ (x - x.mean(0)) / len(x)
    values = torch.linalg.eigvalsh(covariance).flip(0)
    assert torch.allclose(flow.rotation @ flow.rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(flow.base.variances.detach(), values, rtol=1e-9)
    distribution = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    assert torch.allclose(flow.log_prob(x), distribution.log_prob(x), atol=1e-6)
    assert float(loss_of(flow, x).value.detach()) == pytest.approx(float(-distribution.log_prob(x).mean()), abs=1e-6)


def test_axes_of_a_flow_in_single_precision_are_kept_for_double_precision() -> None:
    torch.manual_seed(0)
    flow = AnisotropicFlow(AnisotropicConfig.model_validate({"map": SMALL}), data=DataSpec((3,), SCALE))
    x = gaussian(500)
    flow.prepare(Dataset(x.float()), torch.Generator().manual_seed(0))
    saved = {name: value.clone() for name, value in flow.state_dict().items()}
    loaded = flow_of((3,))
    loaded.load_state_dict(saved)
    for double in (flow.double(), loaded):
        assert float((double.inverse(double(x)[0])[0] - x).detach().abs().max()) < 1e-13


def test_axes_point_where_their_largest_entry_is_positive() -> None:
    for sign in (1, -1):
        rotation = prepared(sign * gaussian(500)).rotation
        assert bool((rotation.gather(1, rotation.abs().argmax(1, keepdim=True)) > 0).all())


def test_the_start_is_taken_from_as_many_points_as_are_asked_for() -> None:
    """Two points span one axis: the others start at the floor."""
    variances = prepared(gaussian(500), start_points=2).base.variances.detach()
    assert float(variances[0]) > 1e-3
    assert bool((variances[1:] < 1.01e-6 * SCALE.std**2).all())


def test_without_axes_it_starts_as_the_events_are() -> None:
    x = gaussian(400)
    flow = prepared(x, start="none")
    assert torch.allclose(flow(x)[0], x - 0.7, atol=1e-12)
    assert torch.allclose(flow.base.variances.detach(), (x - 0.7).square().mean(0), rtol=1e-4)
    plain = prepared(x, start="none", standardise=False)
    assert torch.allclose(plain(x)[0], x, atol=1e-12)


def test_latents_and_variances_have_the_units_of_the_data() -> None:
    x = gaussian(400)
    here = prepared(x, hessian_weight=1)
    there = prepared(1000 * x, scale=EventScale(mean=700.0, std=2000.0), hessian_weight=1)
    for flow in (here, there):
        stir(flow.map, torch.Generator().manual_seed(1))
    assert torch.allclose(1000 * here(x)[0], there(1000 * x)[0], rtol=1e-9)
    assert torch.allclose(1e6 * here.base.variances, there.base.variances, rtol=1e-9)
    one, other = loss_of(here, x).parts, loss_of(there, 1000 * x).parts
    for name in ("isometry", "hessian"):
        assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-9)
        assert float(one[name]) > 1e-3
    assert float(one["nll"]) + 3 * math.log(1000) == pytest.approx(float(other["nll"]), rel=1e-9)


def test_the_loss_is_the_likelihood_and_the_weighted_penalties() -> None:
    x = gaussian(50)
    flow = flow_of(stirred=True, isometry_weight=0.3, volume_weight=0.7, hessian_weight=0.2)
    loss = loss_of(flow, x)
    parts = {name: float(value) for name, value in loss.parts.items()}
    assert set(parts) == {"nll", "isometry", "volume", "hessian"}
    assert min(parts.values()) > 0
    directions = unit_vectors("full", x, 1, None)
    _, log_det, products = with_cotangents(flow, x, directions)
    assert parts["nll"] == pytest.approx(-float(flow.log_prob(x).mean().detach()), rel=1e-12)
    assert parts["isometry"] == pytest.approx(float(isometry_penalty("full", directions, products).detach()), rel=1e-12)
    assert parts["volume"] == pytest.approx(float(volume_penalty("squared", log_det).detach()), rel=1e-12)
    expected = parts["nll"] + 0.3 * parts["isometry"] + 0.7 * parts["volume"] + 0.2 * parts["hessian"]
    assert float(loss.value.detach()) == pytest.approx(expected, rel=1e-12)
    absolute = loss_of(flow_of(stirred=True, volume="absolute"), x).parts["volume"]
    assert float(absolute) == pytest.approx(float(log_det.abs().mean().detach()), rel=1e-12)


@pytest.mark.parametrize("layers", [SMALL, {**SMALL, "rotations": True}, "spline"], ids=str)
@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)], ids=str)
def test_products_with_directions_are_those_of_the_jacobian(shape: tuple[int, ...], layers: Any) -> None:
    flow = flow_of(shape, map=layers)
    x = 0.7 + 2 * torch.randn(5, *shape, dtype=torch.float64)
    flow.prepare(Dataset(x), torch.Generator().manual_seed(0))
    stir(flow, torch.Generator().manual_seed(1))
    directions = unit_vectors("sliced", x, 2, torch.Generator().manual_seed(0))
    z, log_det, products = flow.with_products(x, directions)
    matrices = jacobian(lambda y: flow(y)[0], x)
    if layers == "spline":
        matrices = matrices.mT
    expected = torch.einsum("bij,kbj->kbi", matrices, directions.flatten(2))
    assert torch.allclose(products.flatten(2), expected, atol=1e-9)
    assert torch.allclose(z, flow(x)[0], atol=1e-9)
    assert torch.allclose(log_det, flow(x)[1], atol=1e-9)


@pytest.mark.parametrize("isometry", ["sliced", "length", "angle", "length-angle"])
def test_every_penalty_reaches_the_map(isometry: str) -> None:
    flow = flow_of(stirred=True, isometry=isometry, directions=2, volume_weight=0)
    loss = loss_of(flow, gaussian(50))
    assert float(loss.parts["isometry"]) > 0
    loss.value.backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in flow.parameters() if parameter.grad is not None)
    assert sum(float(p.grad.abs().sum()) for p in flow.map.parameters() if p.grad is not None) > 0


def test_many_coordinates_are_looked_at_by_slices() -> None:
    assert flow_of((32,)).isometry == "full"
    assert flow_of((33,)).isometry == "sliced"
    assert flow_of((33,), isometry="full").isometry == "full"


def test_held_out_points_have_the_same_loss_without_gradients() -> None:
    flow = flow_of(stirred=True, hessian_weight=0.1, isometry="sliced", directions=2)
    x = gaussian(20)
    with torch.no_grad():
        held_out = float(loss_of(flow, x).value)
    assert held_out == pytest.approx(float(loss_of(flow, x).value.detach()), rel=1e-12)


def test_baselines() -> None:
    spec = DataSpec((3,), SCALE)
    isometric = AnisotropicFlow(IsometricConfig(), data=spec)
    standard = AnisotropicFlow(StandardNormalConfig(), data=spec)
    for flow in (isometric, standard):
        assert list(flow.base.parameters()) == []
        assert torch.allclose(flow.base.variances, torch.tensor(4.0))
        flow.prepare(Dataset(gaussian(50).float()), torch.Generator().manual_seed(0))
        assert torch.allclose(flow.base.variances, torch.tensor(4.0))
    x = gaussian(50).float()
    assert set(loss_of(isometric, x).parts) == {"nll", "isometry", "volume"}
    assert set(loss_of(standard, x).parts) == {"nll"}
    published = AnisotropicFlow(StandardNormalConfig(standardise=False), data=spec)
    assert torch.equal(published.base.variances, torch.ones(3))


def test_variances_learn_at_a_rate_of_their_own_and_do_not_decay() -> None:
    flow = flow_of(training={"learning_rate": 2e-3, "weight_decay": 0.1}, variance_speed=7)
    of_map, of_base = flow.parameter_groups(Phase("fit", (flow,)))
    assert of_base["lr"] == pytest.approx(1.4e-2)
    assert of_base["weight_decay"] == 0
    assert [parameter is flow.base.log_variances for parameter in of_base["params"]] == [True]
    assert "lr" not in of_map
    assert len(of_map["params"]) + 1 == len(list(flow.parameters()))


def test_noise_is_added_to_what_is_trained_on() -> None:
    x = gaussian(4000)
    quiet, noisy = prepared(x), prepared(x, noise=0.5)
    assert torch.allclose(noisy.base.variances, quiet.base.variances + 0.25, rtol=1e-6)
    # The distribution of the data with the noise, under which the noisy points are likeliest.
    expected = 0.5 * float(noisy.base.variances.detach().log().sum()) + 1.5 * math.log(2 * math.pi) + 1.5
    assert float(loss_of(noisy, x, seed=3).parts["nll"]) == pytest.approx(expected, abs=0.05)
    assert float(loss_of(quiet, x).parts["nll"]) < expected - 1


def test_variances_stay_above_the_floor() -> None:
    """Points on a line, whose likelihood has no bound."""
    x = torch.randn(500, 1, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    for variances in ("learned", "closed-form"):
        flow = prepared(x, scale=EventScale(std=float(x.std())), variances=variances, variance_floor=1e-4)
        least = 1e-4 * float(x.var())
        assert float(flow.base.variances.detach().min()) == pytest.approx(least, rel=0.02)
        fit(flow, x, flow.training_config.model_copy(update={"steps": 30}), seed=0)
        assert float(flow.base.variances.detach().min()) >= least
        assert math.isfinite(float(loss_of(flow, x).value.detach()))


def test_closed_form_variances_follow_the_latents() -> None:
    x = gaussian(2000)
    flow = flow_of(variances="closed-form", start="none")
    assert [name for name, _ in flow.base.named_parameters()] == []
    flow.train()
    for _ in range(200):
        loss_of(flow, x)
    assert torch.allclose(flow.base.variances, flow(x)[0].square().mean(0), rtol=1e-3)
    before = flow.base.variances.clone()
    flow.eval()
    loss_of(flow, 10 * x)
    assert torch.equal(flow.base.variances, before)


@pytest.mark.parametrize("variances", ["learned", "closed-form"])
def test_a_gaussian_is_learned_with_its_variances(variances: str) -> None:
    """Sheet, section 6: trained on N(mu, Sigma) with a rotation onto its axes, the flow recovers the eigenvalues."""
    x = gaussian(4000)
    flow = flow_of(variances=variances, training={"steps": 150, "batch_size": 256, "learning_rate": 2e-3, "warmup": 20})
    fit(flow, x, flow.training_config, seed=0)
    values = torch.linalg.eigvalsh(COVARIANCE).flip(0)
    assert torch.allclose(flow.base.variances.detach().sort(descending=True).values, values, rtol=0.1)
    truth = torch.distributions.MultivariateNormal(torch.full((3,), 3.0, dtype=torch.float64), COVARIANCE)
    fresh = gaussian(4000, seed=1)
    assert float((truth.log_prob(fresh) - flow.log_prob(fresh).detach()).mean()) < 0.02


def test_the_isometry_penalty_holds_the_map_to_the_data_s_lengths() -> None:
    """A start that stretches by 2 is drawn back to 1 within a few steps, and not without the penalty."""
    x = gaussian(2000)
    found = {}
    for weight in (0.0, 10.0):
        flow = flow_of(isometry_weight=weight, volume_weight=0, start="none", stirred=True)
        fit(flow, x, flow.training_config.model_copy(update={"steps": 60, "warmup": 0, "learning_rate": 5e-3}), seed=0)
        directions = unit_vectors("full", x, 1, None)
        found[weight] = float(isometry_penalty("full", directions, with_cotangents(flow, x, directions)[2]).detach())
    assert found[10.0] < 0.1 * found[0.0]


def test_normalisations_start_from_data_only_where_lengths_are_free() -> None:
    x = gaussian(500)
    regular = {"name": "regular", "blocks": 1}
    for weight, expected in ((1.0, [0.0, 0.0, 0.0]), (0.0, None)):
        flow = prepared(x, map=regular, isometry_weight=weight)
        log_det = flow(x)[1]
        if expected is not None:
            assert torch.allclose(log_det, torch.zeros_like(log_det), atol=1e-12)
        else:
            assert float(log_det.detach().abs().min()) > 0.1


def test_discrete_data_are_dequantised() -> None:
    scale = EventScale(low=0.0, high=1.0, levels=2, mean=0.5, std=0.5)
    x = torch.randint(0, 2, (5000, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flow = prepared(x, scale=scale)
    # Bernoulli and uniform noise on [-1/2, 1/2].
    assert torch.allclose(flow.base.variances.detach(), torch.tensor(0.25 + 1 / 12, dtype=torch.float64), rtol=0.1)
    assert float(loss_of(flow, x, 0).value.detach()) != float(loss_of(flow, x, 1).value.detach())


def test_what_it_refuses() -> None:
    with pytest.raises(ConfigError, match="a geometry has no conditions"):
        AnisotropicFlow(AnisotropicConfig(), data=DataSpec((3,), SCALE, TensorSpec((), classes=3)))
    with pytest.raises(ConfigError, match="map glow needs the order of the pixels"):
        AnisotropicFlow(AnisotropicConfig(map="glow", start="pca"), data=DataSpec((1, 8, 8), SCALE))
    with pytest.raises(ValidationError, match="compares pairs of directions; directions is 1"):
        AnisotropicConfig(isometry="angle", directions=1)
    with pytest.raises(ValidationError, match="variance_floor"):
        AnisotropicConfig(variance_floor=0)
    for twice in ({"map": "spline"}, {"hessian_weight": 0.1}):
        assert "differentiate the map twice" in (flow_of(**twice).refuses("compile") or "")
    assert flow_of().refuses("compile") is None
    assert flow_of(isometry_weight=0).refuses("compile") is None
    assert flow_of().refuses("distributed") is None


@pytest.mark.parametrize("start", ["pca", "none"])
def test_points_that_nothing_can_be_learned_from(start: str) -> None:
    flow = AnisotropicFlow(AnisotropicConfig(start=start), data=DataSpec((3,)))
    points = torch.ones(5, 3)
    for few in (points, points[:1]):
        with pytest.raises(DataError, match=rf"all training points are the same \(there are {len(few)}\)"):
            fit(flow, few, flow.training_config)
    points[1, 2], points[4, 0] = math.nan, math.inf
    with pytest.raises(DataError, match="2 of 5 training points hold NaN or infinite numbers"):
        fit(flow, points, flow.training_config)


def test_images_keep_their_pixels_in_place() -> None:
    assert flow_of((1, 4, 4), map="regular").rotation.numel() == 0
    assert flow_of((5,), map="regular").rotation.numel() == 25
    flow = flow_of((1, 4, 4), map={"name": "glow", "levels": 1, "steps": 1, "channels": 4})
    assert flow.rotation.numel() == 0
    x = 0.7 + 2 * torch.randn(6, 1, 4, 4, dtype=torch.float64)
    flow.prepare(Dataset(x), torch.Generator().manual_seed(0))
    loss_of(flow, x).value.backward()
    assert torch.allclose(flow.inverse(flow(x)[0])[0], x, atol=1e-9)


@pytest.mark.parametrize("levels", [None, 2])
def test_the_reference_of_the_loss_is_that_of_a_flow_with_the_variances_alone(levels: int | None) -> None:
    draws = torch.Generator().manual_seed(7)
    if levels is None:
        scale, x = SCALE, torch.randn(20_000, 3, dtype=torch.float64, generator=draws) * torch.tensor([3.0, 1.0, 0.2])
    else:
        scale = EventScale(low=0.0, high=1.0, levels=levels, mean=0.5, std=0.5)
        x = torch.randint(0, 2, (20_000, 3), dtype=torch.float64, generator=draws)
    flow = prepared(x, scale=scale, noise=0.1, variance_floor=1e-6)  # its map is the identity
    found = flow.loss_reference(Dataset(x), lambda: 0.0, "fit")
    assert found is not None
    assert found.value == pytest.approx(float(loss_of(flow, x).value.detach()), abs=0.05)
