"""Whole models: round trips, densities against autograd's Jacobian, discrete data, and the condition's own density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from caflow_models import CONTINUOUS, KINDS, draws, image_flow, levels, perturb, slogdet
from torch import Tensor, nn

from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Progress
from scorefold_caflow.config import CAFLOWConfig
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.flow.parts import TwoEncoders

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "haar": {"squeeze": "haar"},
    "logit": {"preprocess": "logit", "scale": EventScale(-3.0, 3.0)},
    "no encoders": {"encoder": {"steps": 0, "transitions": 0}, "squeeze": "haar"},
    "adapter": {"adapter": 5},
    "mixture": {"translation": {"steps": 1, "transitions": 1, "hidden": 6, "coupling": "mixture"}},
    "orthogonal": {"translation": {"steps": 1, "hidden": 6, "linear": "orthogonal"}},
    "injectors": {"injectors": True},
}
CASES = [(kind, "plain") for kind in KINDS] + [
    ("caflow", "haar"),
    ("caflow", "logit"),
    ("shared", "no encoders"),
    ("caflow", "adapter"),
    ("dual-glow", "mixture"),
    ("shared", "orthogonal"),
    ("cinn", "injectors"),
]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_whole_models_are_inverted(kind, n, dtype, tolerance) -> None:
    size = 2 ** (n + 1)
    flow = image_flow(
        kind, event=(2, size, size), condition=TensorSpec((1, size, size)), scales=n, dtype=dtype, scale=EventScale()
    )
    w, y = draws(3, 2, size, size, dtype=dtype), draws(3, 1, size, size, seed=4, dtype=dtype)
    if n == 3:  # with noise on its parameters, a mixing of 128 channels has a condition number of hundreds
        tolerance *= 10
    z, log_det = flow(w, y)
    back, back_log_det = flow.inverse(z, y)
    assert float((back - w).abs().max()) < tolerance
    assert float((log_det + back_log_det).abs().max()) < tolerance * (1 + float(log_det.abs().max()))
    drawn, _ = flow.inverse(w, y)
    assert float((flow(drawn, y)[0] - w).abs().max()) < tolerance


@pytest.mark.parametrize(("kind", "option"), CASES)
def test_log_probabilities_are_those_of_the_jacobian(kind, option) -> None:
    flow = image_flow(kind, **OPTIONS[option])
    w, y = draws(1, 1, 8, 8), draws(1, 1, 8, 8, seed=4)
    z, log_det = flow(w, y)
    expected = slogdet(lambda x: flow(x, y)[0], w)
    assert torch.allclose(log_det, expected, atol=1e-10)
    gaussian = -0.5 * z.square().sum() - 32 * math.log(2 * math.pi)
    assert torch.allclose(flow.log_prob(w, y), gaussian + expected, atol=1e-10)
    assert torch.allclose(flow.inverse(z, y)[1], -expected, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_has_forward_and_second_derivatives(kind) -> None:
    flow = image_flow(kind, event=(1, 4, 4), condition=TensorSpec((1, 4, 4)), scales=1)
    w, y, v = draws(1, 1, 4, 4), draws(1, 1, 4, 4, seed=4), draws(1, 1, 4, 4, seed=5)
    step = 1e-5
    for call in (flow.forward, flow.inverse):

        def value(x: Tensor, call=call) -> Tensor:
            z, log_det = call(x, y)
            return z.square().sum() + log_det.sum()

        slope = (value(w + step * v) - value(w - step * v)) / (2 * step)
        assert torch.allclose(torch.func.jvp(value, (w,), (v,))[1], slope, rtol=1e-6)
        hessian = torch.func.hessian(value)(w).reshape(16, 16)
        assert torch.allclose(hessian, hessian.T, atol=1e-10)
        point = w.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(point), point, create_graph=True)
        (product,) = torch.autograd.grad((gradient * v).sum(), point)
        assert torch.allclose(product.flatten(), hessian @ v.flatten(), atol=1e-9)


# Discrete data.


def tiny(kind: str, **settings: Any) -> ImageFlow:
    """A flow of one image of 2 x 2 pixels (cINN) or 4 x 4 (the others) with few levels, given a class."""
    size, count = (2, 4) if kind == "cinn" else (4, 2)
    spec = TensorSpec((), classes=2)
    return image_flow(
        kind, event=(1, size, size), condition=spec, scale=levels(count), scales=1, perturbed=0.1, **settings
    )


def all_images(flow: ImageFlow) -> Tensor:
    count = flow.event_scale.levels
    assert count is not None
    line = torch.arange(count, dtype=torch.float64)
    return torch.cartesian_prod(*[line] * flow.dimension).reshape(-1, *flow.event_shape)


@torch.no_grad()
@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
@pytest.mark.parametrize("preprocess", ["standardise", "logit"])
def test_the_probabilities_of_all_images_are_at_most_one_together(dequantisation, preprocess) -> None:
    flow = tiny("cinn", dequantisation=dequantisation, preprocess=preprocess)
    images = all_images(flow)
    assert len(images) == 256
    given = torch.ones(1, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    each = torch.stack([flow.log_prob(images, given, generator) for _ in range(400)])
    # exp of the mean is at most the probability, by Jensen; the mean of exp estimates it.
    bound, mass = float(each.mean(0).exp().sum()), each.exp().sum(1)
    assert bound < 1
    error = float(mass.std()) / 20
    assert float(mass.mean()) < 1 + 5 * error
    assert bound < float(mass.mean())
    if dequantisation == "variational":  # whose estimates have too long a tail for more
        return
    # What is missing is what the flow puts beyond the levels, which draws show as well.
    drawn = flow.sample(20_000, given, generator=generator)
    within = ((drawn > -0.5) & (drawn < 3.5)).flatten(1).all(1).double()
    assert float(mass.mean()) == pytest.approx(float(within.mean()), abs=5 * error + 5 * float(within.std()) / 141)


@torch.no_grad()
def test_a_two_level_image_of_sixteen_pixels_has_probabilities_that_sum_to_less_than_one() -> None:
    flow = tiny("caflow")
    images = all_images(flow)
    assert len(images) == 65_536
    generator = torch.Generator().manual_seed(0)
    given = torch.zeros(1, dtype=torch.long)
    each = torch.stack([flow.log_prob(images, given, generator) for _ in range(3)])
    assert 0 < float(each.mean(0).exp().sum()) < 1


@torch.no_grad()
@pytest.mark.parametrize("kind", ["caflow", "cinn"])
@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
def test_bits_of_uniform_images_are_at_least_their_entropy(kind, dequantisation) -> None:
    flow = tiny(kind, dequantisation=dequantisation, preprocess="logit")
    count = flow.event_scale.levels
    assert count is not None
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(count, (4000, *flow.event_shape), generator=generator).double()
    bits = flow.bits_per_dim(images, torch.zeros(1, dtype=torch.long), generator)
    assert float(bits.mean()) > math.log2(count) - 5 * float(bits.std()) / math.sqrt(4000)


def test_bits_are_those_of_the_discrete_scale_with_the_logits_jacobian() -> None:
    """-log2 p / D = -(log p(u) in the flow's units + Jacobians - log of the number of levels) / (D log 2)."""
    flow = image_flow(scale=levels(256), preprocess="logit", logit_margin=1e-5)
    w = torch.randint(256, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    y = draws(2, 1, 8, 8, seed=4)
    generator = torch.Generator().manual_seed(3)
    found = flow.bits_per_dim(w, y, generator)
    noise = torch.rand(w.shape, generator=torch.Generator().manual_seed(3), dtype=w.dtype)
    u = (1 - 1e-5) * (w + noise) / 256 + 1e-5 / 2
    z, log_det = flow.parts(u.log() - (1 - u).log(), flow._given(y, w))
    flat = torch.cat([one.flatten(1) for one in z], 1)
    nats = -0.5 * flat.square().sum(1) - 32 * math.log(2 * math.pi) + log_det
    nats = nats + (-u.log() - (1 - u).log() + math.log(1 - 1e-5) - math.log(256)).flatten(1).sum(1)
    assert torch.allclose(found, -nats / (64 * math.log(2)), atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("preprocess", ["standardise", "logit"])
def test_levels_come_back_as_they_were_in_float32(preprocess) -> None:
    flow = image_flow(scale=levels(256), preprocess=preprocess, logit_margin=1e-5, dtype=torch.float32)
    w = torch.randint(256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    y = draws(50, 1, 8, 8, seed=4, dtype=torch.float32)
    back = flow.inverse(flow(w, y)[0], y)[0]
    assert torch.equal(back.round(), w)
    assert float((back - w).abs().max()) < 0.1


def test_without_a_generator_a_probability_is_the_same_at_every_call() -> None:
    flow = image_flow(scale=levels(4))
    w = torch.randint(4, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(flow.log_prob(w, w), flow.log_prob(w, w))
    first, second, again = (flow.log_prob(w, w, torch.Generator().manual_seed(seed)) for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_continuous_data_have_no_bits_and_no_variational_noise() -> None:
    with pytest.raises(ConfigError, match="discrete"):
        image_flow().bits_per_dim(draws(1, 1, 8, 8), draws(1, 1, 8, 8))
    with pytest.raises(ConfigError, match="levels"):
        image_flow(dequantisation="variational")


# The loss and the condition's own density.


def loss_of(flow: ImageFlow, w: Tensor, y: Tensor | None, phase: str = "joint", seed: int = 0):
    return flow.loss(
        Dataset(x=w, condition=y),
        progress=Progress(step=0, total=1, phase=phase),
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_bits_of_the_event_and_lambda_times_bits_of_the_condition(kind) -> None:
    weight = {} if kind == "cinn" else {"condition_weight": 0.25}
    flow = image_flow(kind, **weight)
    w, y = draws(4, 1, 8, 8), draws(4, 1, 8, 8, seed=4)
    loss = loss_of(flow, w, y)
    if kind == "cinn":
        assert torch.allclose(loss.value, -flow.log_prob(w, y).mean() / (64 * math.log(2)))
        return
    # A continuous condition is taken with noise of 1/256 of its deviation, which is 1 here.
    y = y + (torch.rand(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype) - 0.5) / 256
    bits = -flow.log_prob(w, y).mean() / (64 * math.log(2))
    assert isinstance(flow.parts, TwoEncoders)
    latents, log_det = flow.parts.condition_encoder(y)
    own = log_det + sum(-0.5 * one.flatten(1).square().sum(1) for one in latents) - 32 * math.log(2 * math.pi)
    own = -own.mean() / (64 * math.log(2))
    assert torch.allclose(loss.value, bits + 0.25 * own)
    assert torch.allclose(loss.parts["bits"], bits)
    assert torch.allclose(loss.parts["bits of the condition"], own)


@pytest.mark.parametrize("scale", [levels(4), CONTINUOUS])
def test_the_first_phases_pay_for_one_encoder_each_in_bits_of_its_own_image(scale) -> None:
    flow = image_flow(scale=scale, condition=TensorSpec((2, 8, 8)), order="staged")
    w = torch.randint(4, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    y = draws(3, 2, 8, 8)

    def bits(encoder: nn.Module, image: Tensor, offset: float) -> Tensor:
        latents, log_det = encoder(image)
        nats = log_det + sum(flow.base.log_prob(one) for one in latents) + offset
        return -nats.mean() / (image[0].numel() * math.log(2))

    def noise(image: Tensor) -> Tensor:
        return torch.rand(image.shape, generator=torch.Generator().manual_seed(0), dtype=image.dtype) - 0.5

    shown = w + noise(w) if scale.levels else w
    # The units of the flow and, for levels, their width 1.
    expected = bits(flow.parts.event_encoder, (shown - scale.mean) / scale.std, -64 * math.log(scale.std))
    assert torch.allclose(loss_of(flow, w, y, "event-encoder").value, expected)
    given = y + noise(y) * (1.0 if scale.levels else 1 / 256)
    expected = bits(flow.parts.condition_encoder, given, 0.0)
    assert torch.allclose(loss_of(flow, w, y, "condition-encoder").value, expected)


@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
def test_the_loss_of_discrete_data_is_what_log_prob_reports(dequantisation) -> None:
    flow = image_flow(scale=levels(4), condition=TensorSpec((2,)), dequantisation=dequantisation, condition_weight=0.0)
    w = torch.randint(4, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    y = draws(3, 2)
    reported = flow.bits_per_dim(w, y, torch.Generator().manual_seed(5)).mean()
    assert torch.allclose(loss_of(flow, w, y, seed=5).value, reported)


def test_the_conditions_density_follows_its_units() -> None:
    flow = image_flow()
    y = draws(3, 1, 8, 8, seed=4)
    before = flow.condition_log_prob(y)
    latents, log_det = flow.parts.condition_encoder(y)
    own = log_det + sum(-0.5 * one.flatten(1).square().sum(1) for one in latents) - 32 * math.log(2 * math.pi)
    assert torch.allclose(before, own)
    # The same model of conditions in units ten times as large: the density falls by a factor 10 a pixel.
    flow.split.std.mul_(10.0)
    flow.split.mean.add_(3.0)
    assert torch.allclose(flow.condition_log_prob(10 * y + 3), before - 64 * math.log(10))
    assert image_flow("cinn").condition_log_prob(y) is None
    assert image_flow(condition=TensorSpec((3,))).condition_log_prob(draws(2, 3)) is None


def test_units_of_the_condition_come_from_the_data_channel_by_channel() -> None:
    spec = TensorSpec((2, 8, 8))
    flow = image_flow(condition=spec, perturbed=0.0)
    y = draws(50, 2, 8, 8) * torch.tensor([5.0, 0.1]).reshape(2, 1, 1) + torch.tensor([7.0, -2.0]).reshape(2, 1, 1)
    flow.prepare(Dataset(x=draws(50, 1, 8, 8, seed=3), condition=y), torch.Generator().manual_seed(0))
    assert torch.allclose(flow.split.mean.flatten(), y.mean((0, 2, 3)))
    assert torch.allclose(flow.split.std.flatten(), y.std((0, 2, 3), correction=0))


@pytest.mark.parametrize("scale", [levels(2), EventScale(mean=0.5, std=0.5)])
def test_lambda_does_not_pay_for_a_condition_of_levels_without_bound(scale) -> None:
    """A condition of two levels, encoded ever more sharply: the density at the levels grows without bound; with noise
    it costs, and never falls below what the noise itself costs. Events may be continuous for all that."""
    flow = image_flow(scale=scale, perturbed=0.0, condition_weight=1.0, encoder={"steps": 0, "transitions": 1})
    y = torch.randint(2, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    w = y.clone()
    flow.prepare(Dataset(x=w, condition=y), torch.Generator().manual_seed(0))
    width = 1 / float(flow.split.std) if scale.levels else 1 / 256
    costs = []
    for _ in range(8):
        costs.append(float(loss_of(flow, w, y).parts["bits of the condition"]))
        with torch.no_grad():
            for module in flow.parts.condition_encoder.modules():
                if hasattr(module, "log_scale"):
                    # Sharper about each of the two levels, if it could be.
                    module.log_scale.add_(1.0)
    assert min(costs) > math.log2(width)
    assert costs[-1] > 100


@pytest.mark.parametrize("scale", [levels(2), EventScale(mean=0.5, std=0.5)])
def test_a_condition_that_is_hidden_costs_no_less_than_its_noise(scale) -> None:
    """An encoder that puts a hidden condition at 0 and stretches it without end."""
    flow = image_flow(scale=scale, perturbed=0.0, condition_weight=1.0, encoder={"steps": 0, "transitions": 1})
    w, y = draws(50, 1, 8, 8), torch.zeros(50, 1, 8, 8, dtype=torch.float64)
    flow.prepare(Dataset(x=w, condition=y), torch.Generator().manual_seed(0))
    width = 1.0 if scale.levels else 1 / 256
    costs = []
    for _ in range(12):
        costs.append(float(loss_of(flow, w, y).parts["bits of the condition"]))
        with torch.no_grad():
            for module in flow.parts.condition_encoder.modules():
                if hasattr(module, "log_scale"):
                    module.log_scale.add_(1.0)
    assert min(costs) > math.log2(width)
    assert costs[-1] > min(costs) + 10


def test_what_never_changes_is_no_reason_to_divide_by_nothing() -> None:
    """Half of the condition hidden (always 0), and an event with a constant channel."""
    spec = TensorSpec((2, 8, 8))
    flow = image_flow(event=(2, 8, 8), condition=spec, perturbed=0.0, scale=levels(4))
    y = torch.randint(4, (40, 2, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    y[:, :, :, 4:] = 0
    y[:, 1] = 0
    w = y.clone()
    flow.prepare(Dataset(x=w, condition=y), torch.Generator().manual_seed(0))
    loss = loss_of(flow, w, y)
    assert bool(loss.value.isfinite())
    assert bool(flow.sample(2, y[:3], generator=torch.Generator().manual_seed(0)).isfinite().all())


def test_a_second_training_on_other_data_leaves_the_units_of_the_condition() -> None:
    """Normalisations start once; so must the units, or a model that is trained on would be another one at once."""
    flow = image_flow(perturbed=0.0)
    first = Dataset(x=draws(40, 1, 8, 8), condition=draws(40, 1, 8, 8, seed=4))
    second = Dataset(x=3 * first.x, condition=5 + 3 * first.condition)
    flow.prepare(first, torch.Generator().manual_seed(0))
    perturb(flow)
    before = flow.log_prob(first.x, first.condition)
    flow.prepare(second, torch.Generator().manual_seed(0))
    assert torch.equal(flow.log_prob(first.x, first.condition), before)
    rebuilt = image_flow(perturbed=0.0)
    rebuilt.load_state_dict(flow.state_dict())
    rebuilt.prepare(second, torch.Generator().manual_seed(0))
    assert torch.equal(rebuilt.log_prob(first.x, first.condition), before)


def test_events_must_be_images() -> None:
    with pytest.raises(ConfigError, match=r"\(C, H, W\)"):
        ImageFlow(CAFLOWConfig(), data=DataSpec((8,), CONTINUOUS, None))
