"""Round trips and log-determinants of each layer, against its inverse and autograd's Jacobian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from caflow_models import draws, levels, perturb, slogdet
from torch import Tensor, nn

from scorefold.data import EventScale
from scorefold.errors import ConfigError
from scorefold_caflow.config import StepsConfig
from scorefold_caflow.flow.inputs import Dequantiser, Logit, Standardise
from scorefold_caflow.layers import AffineInjector, FlowBlock, HaarBands, Mixing, MixtureCoupling
from scorefold_toolkit.nn import (
    ActNorm,
    AffineCoupling,
    Bijection,
    ConvConditioner,
    Householder,
    LULinear,
    Squeeze,
    squeeze,
)

BOUNDED = levels(4)


def injector(bound: float = 1.0) -> AffineInjector:
    return AffineInjector(ConvConditioner(3, 8, 6), bound=bound)


def layer(name: str) -> Bijection:
    """A layer of images of 4 channels given conditions of 3."""
    torch.manual_seed(0)
    steps = {"steps": 2, "hidden": 6}
    made: dict[str, Bijection] = {
        "actnorm": ActNorm(4),
        "lu": LULinear(4),
        "householder": Householder(4),
        "coupling": AffineCoupling(4, ConvConditioner(2, 4, 6, condition=3), bound=1.0),
        "injector": injector(),
        "mixture": MixtureCoupling(4, ConvConditioner(2, 28, 6, condition=3), components=4),
        "mixture of one": MixtureCoupling(4, ConvConditioner(2, 10, 6, condition=3), components=1),
        "mixing": Mixing(4, LULinear(4)),
        "rotation": Mixing(4, Householder(4)),
        "squeeze": Squeeze(),
        "haar": HaarBands(),
        "standardise": Standardise(EventScale(mean=3.0, std=0.2)),
        "logit": Logit(BOUNDED, 0.01),
        "block": FlowBlock(4, StepsConfig.model_validate(steps), condition=3, injector=True, adapter=5),
        "haar block": FlowBlock(4, StepsConfig.model_validate({**steps, "linear": "orthogonal"}), squeeze="haar"),
    }
    return perturb(made[name].double(), 0.15 if name.startswith("mixture") else 0.05)


NAMES = (
    "actnorm",
    "lu",
    "householder",
    "coupling",
    "injector",
    "mixture",
    "mixture of one",
    "mixing",
    "rotation",
    "squeeze",
    "haar",
    "standardise",
    "logit",
    "block",
    "haar block",
)


def arguments(name: str, batch: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    size = 2 if name == "block" else 4
    return 2 * draws(batch, 4, 4, 4, dtype=dtype), draws(batch, 3, size, size, seed=3, dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_a_layer_is_inverted_and_its_log_determinants_cancel(name, dtype, tolerance) -> None:
    subject = layer(name).to(dtype)
    x, condition = arguments(name, 5, dtype)
    z, log_det = subject(x, condition)
    back, back_log_det = subject.inverse(z, condition)
    assert float((back - x).abs().max()) < tolerance * float(x.abs().max())
    scale = 1 + float(torch.as_tensor(log_det).abs().max())
    assert float((log_det + back_log_det).abs().max()) < tolerance * scale
    # And from latents that are no image's.
    other = 3 * draws(5, *z.shape[1:], seed=7, dtype=dtype)
    again = subject(subject.inverse(other, condition)[0], condition)[0]
    assert float((again - other).abs().max()) < 10 * tolerance


@pytest.mark.parametrize("name", NAMES)
def test_a_layers_log_determinants_are_autograds(name) -> None:
    subject = layer(name)
    x, condition = arguments(name, 1)
    z, log_det = subject(x, condition)
    expected = slogdet(lambda row: subject(row, condition)[0], x)
    assert torch.allclose(expected, log_det.reshape(()), atol=1e-10)
    back = subject.inverse(z, condition)[1]
    expected = slogdet(lambda row: subject.inverse(row, condition)[0], z)
    assert torch.allclose(expected, back.reshape(()), atol=1e-10)


@pytest.mark.parametrize("name", ["coupling", "mixture", "logit", "block"])
def test_a_layer_has_forward_and_second_derivatives_in_both_directions(name) -> None:
    subject = layer(name)
    x, condition = arguments(name, 1)
    for call in (subject.forward, subject.inverse):

        def both(point: Tensor, call=call) -> Tensor:
            value, log_det = call(point, condition)
            return torch.cat((value.flatten(), log_det.reshape(1)))

        start = subject(x, condition)[0].detach() if call == subject.inverse else x
        v = draws(*start.shape, seed=5)
        tangent = torch.func.jvp(both, (start,), (v,))[1]
        step = 1e-5
        slope = (both(start + step * v) - both(start - step * v)) / (2 * step)
        assert torch.allclose(tangent, slope, atol=1e-7, rtol=1e-6)
        w = draws(len(tangent), seed=6)

        def pulled(point: Tensor, w=w, both=both) -> Tensor:
            point = point.requires_grad_() if not point.requires_grad else point
            return torch.autograd.grad((w * both(point)).sum(), point, create_graph=True)[0]

        point = start.clone().requires_grad_()
        (second,) = torch.autograd.grad((pulled(point) * v).sum(), point)
        slope = (pulled(start + step * v) - pulled(start - step * v)) / (2 * step)
        assert torch.allclose(second, slope.detach(), atol=1e-6, rtol=1e-5)


def test_log_determinants_are_the_closed_forms() -> None:
    x, condition = arguments("injector", 2)
    pixels = 16
    norm, mixing, inject = layer("actnorm"), layer("lu"), layer("injector")
    assert torch.allclose(norm(x)[1], pixels * norm.log_scale.sum())
    matrix = torch.func.jacrev(lambda v: mixing(v[None, :, None, None])[0].flatten())(x[0, :, 0, 0])
    assert torch.allclose(mixing(x)[1], pixels * torch.linalg.slogdet(matrix)[1])
    scale, shift = inject._scale_and_shift(condition)
    assert torch.allclose(inject(x, condition)[1], scale.sum((1, 2, 3)))
    assert torch.allclose(inject(x, condition)[0], x * scale.exp() + shift)


@torch.no_grad()
def test_log_scales_of_couplings_and_injectors_stay_within_their_bound() -> None:
    subject = perturb(injector(bound=0.7).double(), 30.0)
    condition = 100 * draws(2, 3, 4, 4)
    scale, _ = subject._scale_and_shift(condition)
    assert float(scale.abs().max()) <= 0.7
    coupling = perturb(layer("coupling"), 30.0)
    x = 100 * draws(2, 4, 4, 4)
    log_slopes = torch.func.vmap(torch.diagonal)(
        torch.func.vmap(torch.func.jacrev(lambda row, c: coupling(row[None], c[None])[0].flatten()))(
            x, condition[:2]
        ).flatten(2)
    ).log()
    assert float(log_slopes.abs().max()) <= 1.0 + 1e-9


def test_couplings_leave_the_first_half_and_move_the_second() -> None:
    for name in ("coupling", "mixture"):
        subject = layer(name)
        x, condition = arguments(name, 2)
        z = subject(x, condition)[0]
        assert torch.equal(z[:, :2], x[:, :2])
        assert not torch.isclose(z[:, 2:], x[:, 2:]).any()


def test_haar_bands_are_orthonormal_with_the_detail_first() -> None:
    bands = HaarBands()
    unit = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    matrix = bands(unit)[0].flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(16, dtype=torch.float64), atol=1e-14)
    p, q, r, s = 1.0, 2.0, 4.0, 8.0
    cell = torch.tensor([[[[p, q], [r, s]], [[10 * p, 10 * q], [10 * r, 10 * s]]]], dtype=torch.float64)
    both, vertical, horizontal, coarse = (p - q - r + s) / 2, (p + q - r - s) / 2, (p - q + r - s) / 2, 7.5
    expected = [value * times for value in (both, vertical, horizontal, coarse) for times in (1, 10)]
    assert bands(cell)[0].flatten().tolist() == pytest.approx(expected)


def test_the_squeeze_is_channel_major() -> None:
    x = draws(1, 2, 4, 6)
    z = squeeze(x)
    for c in range(2):
        for dy in range(2):
            for dx in range(2):
                assert torch.equal(z[0, 4 * c + 2 * dy + dx], x[0, c, dy::2, dx::2])


# The mixture of logistics.


@torch.no_grad()
def test_a_mixture_coupling_of_one_component_is_affine_and_the_mixture_is_monotone_and_unbounded() -> None:
    one = layer("mixture of one")
    x, condition = arguments("mixture", 1)
    line = torch.linspace(-3, 3, 50, dtype=torch.float64)
    row = torch.cat((x[:, :2].expand(50, -1, -1, -1), line.reshape(-1, 1, 1, 1).expand(-1, 2, 4, 4)), 1)
    given = condition.expand(50, -1, -1, -1)
    moved = one(row, given)[0][:, 2:]
    # logit(sigmoid((x - m) / s)) = (x - m) / s.
    assert torch.allclose(moved.diff(n=2, dim=0), torch.zeros(48, 2, 4, 4, dtype=torch.float64), atol=1e-10)
    many = layer("mixture")
    row = torch.cat((x[:, :2].expand(50, -1, -1, -1), (40 * line).reshape(-1, 1, 1, 1).expand(-1, 2, 4, 4)), 1)
    moved, log_det = many(row, given)
    assert bool((moved[:, 2:].diff(dim=0) > 0).all())
    assert bool(log_det.isfinite().all())
    assert float(moved[-1, 2:].min()) > 10
    assert float(moved[0, 2:].max()) < -10


@torch.no_grad()
def test_a_mixture_coupling_far_out_stays_finite_in_float32() -> None:
    subject = layer("mixture").float()
    x, condition = arguments("mixture", 3, torch.float32)
    far = x * 1e3
    z, log_det = subject(far, condition)
    back, back_log_det = subject.inverse(z, condition)
    for value in (z, log_det, back, back_log_det):
        assert bool(value.isfinite().all())
    # Between components that lie far apart the distribution is flat to rounding: x is lost there, but not its image.
    assert torch.allclose(subject(back, condition)[0], z, rtol=1e-5, atol=1e-2)
    x, log_det = subject.inverse(torch.zeros_like(far), condition)
    assert bool(x.isfinite().all())
    assert bool(log_det.isfinite().all())


def test_a_mixture_couplings_inverse_has_the_gradients_of_the_implicit_function() -> None:
    subject = layer("mixture")
    x, condition = arguments("mixture", 2)
    z = subject(x, condition)[0].detach()
    weights = draws(*x.shape, seed=8)
    parameters = list(subject.parameters())
    direct = torch.autograd.grad((weights * subject.inverse(z, condition)[0]).sum(), parameters)
    # x(z, p) with f(x, p) = z: dx/dp = -(df/dx)^-1 df/dp.
    jacobian = torch.func.jacrev(lambda v: subject(v, condition)[0].flatten())(x).reshape(x.numel(), x.numel())
    pulled = torch.linalg.solve(jacobian.T, weights.flatten()).reshape(z.shape)
    implicit = torch.autograd.grad(-(pulled.detach() * subject(x, condition)[0]).sum(), parameters)
    for ours, expected in zip(direct, implicit, strict=True):
        assert torch.allclose(ours, expected, atol=1e-9)


# Preprocessing.


@pytest.mark.parametrize("margin", [1e-5, 0.01, 0.3])
def test_the_logits_jacobian_is_the_closed_form_and_beyond_the_range_it_goes_on_along_its_tangent(margin) -> None:
    logit = Logit(levels(256), margin)
    x = torch.linspace(-0.5, 255.5, 9, dtype=torch.float64).reshape(-1, 1, 1, 1)
    z, log_det = logit(x)
    u = (1 - margin) * (x + 0.5) / 256 + margin / 2
    assert torch.allclose(z, u.log() - (1 - u).log())
    expected = -u.log() - (1 - u).log() + math.log(1 - margin) - math.log(256)
    assert torch.allclose(log_det, expected.flatten())
    low, end = torch.tensor(-0.5, dtype=torch.float64), logit(x)[0][0]
    outside = low - torch.tensor([1.0, 2.0, 500.0], dtype=torch.float64).reshape(-1, 1, 1, 1)
    slope = log_det[0].exp()
    z, beyond = logit(outside)
    assert torch.allclose(z, end + slope * (outside - low), rtol=1e-9)
    assert torch.allclose(beyond, log_det[0])
    back, inverse_log_det = logit.inverse(z)
    assert torch.allclose(back, outside, rtol=1e-9)
    assert torch.allclose(inverse_log_det, -beyond)


@pytest.mark.parametrize("margin", [1e-5, 0.01])
def test_the_logit_in_float32_is_as_exact_for_white_as_for_black(margin) -> None:
    logit = Logit(levels(256), margin)
    ends = torch.tensor([-0.5, -0.25, 0.0, 1.0, 254.0, 255.0, 255.25, 255.5]).reshape(-1, 1, 1, 1)
    exact, exact_log_det = logit(ends.double())
    z, log_det = logit(ends)
    assert torch.allclose(z.double(), exact, rtol=1e-5)
    assert torch.allclose(log_det.double(), exact_log_det, rtol=1e-5, atol=1e-5)
    assert torch.allclose(logit.inverse(z)[0], ends, atol=1e-3)
    slope = logit.inverse(z)[1]
    assert torch.allclose(slope.double(), -exact_log_det, rtol=1e-5, atol=1e-5)


def test_the_logit_of_continuous_bounds_takes_the_bounds_themselves() -> None:
    logit = Logit(EventScale(-1.0, 1.0), 0.01)
    ends = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).reshape(-1, 1, 1, 1)
    z = logit(ends)[0].flatten()
    assert z.tolist() == pytest.approx([math.log(0.005 / 0.995), 0, math.log(0.995 / 0.005)])
    with pytest.raises(ConfigError, match="bounds") as caught:
        Logit(EventScale(), 0.01)
    assert "standardise" in str(caught.value.hint)


# Dequantisation.


def test_the_dequantisers_draws_have_its_density() -> None:
    torch.manual_seed(0)
    dequantiser = perturb(Dequantiser((1, 2, 2), 6).double())
    x = draws(6, 1, 2, 2)
    u, log_density = dequantiser.draw(x, torch.Generator().manual_seed(0))
    assert float(u.detach().min()) > 0
    assert float(u.detach().max()) < 1
    assert torch.allclose(dequantiser.log_prob(u, x), log_density, atol=1e-10)
    # The density follows from the map from normal noise, by autograd.
    one = x[:1]
    noise = draws(1, 1, 2, 2, seed=4)
    back = dequantiser.squeeze.inverse

    def to_u(e: Tensor) -> Tensor:
        return back(dequantiser.steps(squeeze(e), squeeze(one))[0])[0].sigmoid()

    expected = dequantiser.base.log_prob(noise) - slogdet(to_u, noise)
    assert torch.allclose(dequantiser.log_prob(to_u(noise), one), expected, atol=1e-10)


@torch.no_grad()
def test_the_dequantisers_density_integrates_to_one() -> None:
    torch.manual_seed(0)
    dequantiser = perturb(Dequantiser((1, 2, 2), 6).double())
    # Gauss-Hermite in r with u = sigmoid(r), against a normal distribution a little wider than r's.
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(14))
    r = torch.cartesian_prod(*[1.2 * nodes] * 4).reshape(-1, 1, 2, 2)
    volume = torch.cartesian_prod(*[weights] * 4).prod(1) / (2 * math.pi) ** 2
    wide = dequantiser.base.log_prob(r / 1.2) - 4 * math.log(1.2)
    u = r.sigmoid()
    log_density = dequantiser.log_prob(u, draws(1, 1, 2, 2).expand_as(u)) + (u * (1 - u)).log().flatten(1).sum(1)
    total = (volume * (log_density - wide).exp()).sum()
    assert float(total) == pytest.approx(1, abs=1e-3)


# Actnorm.


@torch.no_grad()
def test_actnorm_starts_at_mean_0_and_deviation_1_once() -> None:
    norm = ActNorm(4).double()
    first, second = 3 + 5 * draws(32, 4, 4, 4), draws(32, 4, 4, 4, seed=9)
    z = norm.initialise(first)
    assert torch.allclose(z, norm(first)[0])
    assert float(z.mean((0, 2, 3)).abs().max()) < 1e-10
    assert torch.allclose(z.std((0, 2, 3), correction=0), torch.ones(4, dtype=torch.float64), atol=1e-10)
    deviations = first.std((0, 2, 3), correction=0)
    assert torch.allclose(norm(first)[1], -16 * deviations.log().sum())
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.initialise(second)
    norm(second)
    norm.inverse(second)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    other = ActNorm(4).double()
    other.load_state_dict(before)
    other.initialise(second)
    assert torch.equal(other(second)[0], norm(second)[0])


def test_actnorm_starts_from_nothing_but_initialise_and_takes_constant_channels() -> None:
    norm = ActNorm(2).double()
    x = 5 + draws(8, 2, 4, 4)
    norm.train()
    for call in (norm, norm.inverse):
        assert torch.equal(call(x)[0], x)
    assert not bool(norm.initialised)
    x[:, 0] = 7.0
    z = norm.initialise(x)
    assert torch.equal(z[:, 0], torch.zeros_like(z[:, 0]))
    assert bool(z.isfinite().all())
    assert bool(norm(x)[1].isfinite())


@pytest.mark.parametrize("name", ["mixing", "rotation"])
def test_a_mixing_is_a_normalisation_and_then_a_matrix(name) -> None:
    mixing = layer(name)
    x = 3 + 2 * draws(20, 4, 4, 4)
    mixing.initialise(x)
    normalised, scaled = mixing.norm(x)
    assert torch.allclose(normalised.std((0, 2, 3), correction=0), torch.ones(4, dtype=torch.float64), atol=1e-10)
    expected, mixed = mixing.linear(normalised)
    z, log_det = mixing(x)
    assert torch.allclose(z, expected, atol=1e-12)
    assert torch.allclose(log_det, scaled + mixed)


@torch.no_grad()
def test_a_rotation_of_hundreds_of_channels_is_inverted_where_a_matrix_by_lu_is_lost() -> None:
    """The coarsest latents of 64 x 64 images in colour have 768 channels. Noise that moves the factors of LU no more
    than training may makes its inverse useless in float32; a rotation stays one."""
    x = draws(4, 384, 1, 1, dtype=torch.float32)
    errors = {}
    for name, linear in (("lu", LULinear(384)), ("rotation", Householder(384))):
        mixing = perturb(Mixing(384, linear).float())
        errors[name] = float((mixing.inverse(mixing(x)[0])[0] - x).abs().max())
    assert errors["rotation"] < 1e-4
    assert errors["lu"] > 10 * errors["rotation"]


def test_networks_of_couplings_end_in_zeros() -> None:
    for network in (ConvConditioner(2, 4, 6), ConvConditioner(2, 4, 6, condition=3)):
        last = network.last
        assert isinstance(last, nn.Conv2d)
        assert not bool(last.weight.any())
        assert last.bias is not None
        assert not bool(last.bias.any())
