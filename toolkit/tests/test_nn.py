"""Invertible layers: inverses, log-determinants against autograd, higher derivatives, closed forms."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from importlib import import_module
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from scorefold.data import TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_toolkit.nn import (
    ACTIVATIONS,
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    Conditioner,
    ConditionScale,
    ConvConditioner,
    Couplings,
    DiagonalNormal,
    FourierEmbedding,
    HaarSqueeze,
    Householder,
    LULinear,
    MultiScale,
    Permutation,
    Quadratic,
    ResidualBlock,
    SplineCoupling,
    Squeeze,
    StandardNormal,
    check_divisible,
    coupling_halves,
    lu_matrices,
)
from scorefold_toolkit.nn.conditions import ConditionRange, far_conditions
from scorefold_toolkit.nn.coupling import bounded
from scorefold_toolkit.nn.networks import Activation
from scorefold_toolkit.numerics import jacobian

VECTOR, IMAGE = (5,), (3, 4, 6)


def _coupling(
    features: int, *, image: bool, spline: bool, swap: bool, condition: int = 2
) -> AffineCoupling | SplineCoupling:
    kept, moved = coupling_halves(features, swap)
    out = moved * (11 if spline else 2)
    conditioner: nn.Module
    if image:
        conditioner = ConvConditioner(kept, out, 6, condition=condition, condition_kernel=1)
    else:
        conditioner = Conditioner(kept, out, (8, 8), condition=condition)
    if spline:
        return SplineCoupling(features, conditioner, bins=4, bound=3.0, swap=swap)
    return AffineCoupling(features, conditioner, swap=swap)


def _couplings(features: int, *, image: bool) -> list[AffineCoupling | SplineCoupling]:
    """Halves that take turns, and one that moves twice."""
    kinds = [(False, False), (True, True), (False, True), (True, False)]
    return [_coupling(features, image=image, spline=spline, swap=swap) for spline, swap in kinds]


def _overwriting(features: int) -> AffineCoupling:
    kept, moved = coupling_halves(features, False)
    return AffineCoupling(features, Conditioner(kept, 2 * moved, (8, 8), condition=2, activation="tanh"))


LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], Bijection]]] = {
    "actnorm-vector": (VECTOR, lambda: ActNorm(5)),
    "actnorm-image": (IMAGE, lambda: ActNorm(3)),
    "lu-vector": (VECTOR, lambda: LULinear(5)),
    "lu-image": (IMAGE, lambda: LULinear(3)),
    "householder-vector": (VECTOR, lambda: Householder(5, 3)),
    "householder-image": (IMAGE, lambda: Householder(3)),
    "permutation": (VECTOR, lambda: Permutation(torch.tensor([3, 0, 4, 2, 1]))),
    "squeeze": (IMAGE, Squeeze),
    "haar-squeeze": (IMAGE, HaarSqueeze),
    "affine-vector": (VECTOR, lambda: _coupling(5, image=False, spline=False, swap=False)),
    "affine-vector-swap": (VECTOR, lambda: _coupling(5, image=False, spline=False, swap=True)),
    "affine-one": ((1,), lambda: _coupling(1, image=False, spline=False, swap=True)),
    "affine-image": (IMAGE, lambda: _coupling(3, image=True, spline=False, swap=True)),
    "spline-vector": (VECTOR, lambda: _coupling(5, image=False, spline=True, swap=False)),
    "spline-vector-swap": (VECTOR, lambda: _coupling(5, image=False, spline=True, swap=True)),
    "spline-one": ((1,), lambda: _coupling(1, image=False, spline=True, swap=False)),
    "spline-image": (IMAGE, lambda: _coupling(3, image=True, spline=True, swap=False)),
    "affine-overwriting": (VECTOR, lambda: _overwriting(5)),
    "couplings-vector": (VECTOR, lambda: Couplings(_couplings(5, image=False))),
    "couplings-one": ((1,), lambda: Couplings(_couplings(1, image=False))),
    "chain": (VECTOR, lambda: Chain([ActNorm(5), LULinear(5), _coupling(5, image=False, spline=True, swap=True)])),
    "multi-scale": (
        (1, 4, 8),
        lambda: MultiScale(
            [
                Chain([Squeeze(), LULinear(4), _coupling(4, image=True, spline=False, swap=False)]),
                Chain([HaarSqueeze(), ActNorm(8), _coupling(8, image=True, spline=True, swap=True)]),
            ],
            (1, 4, 8),
        ),
    ),
}


def perturb(module: nn.Module, scale: float = 0.3) -> nn.Module:
    """Random parameters, so that nothing is the identity that it starts as."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


@pytest.fixture(params=sorted(LAYERS))
def case(request: pytest.FixtureRequest) -> tuple[Bijection, Tensor, Tensor]:
    shape, make = LAYERS[request.param]
    layer = perturb(make().double())
    assert isinstance(layer, Bijection)
    x = 1.5 * torch.randn(3, *shape, dtype=torch.float64)
    condition = torch.randn(3, 2, *([1] * (len(shape) - 1)), dtype=torch.float64)
    return layer, x, condition


def test_inverse_and_log_det_against_the_jacobian(case: tuple[Bijection, Tensor, Tensor]) -> None:
    layer, x, condition = case
    z, log_det = layer(x, condition)
    back, log_det_back = layer.inverse(z, condition)
    torch.testing.assert_close(back, x, rtol=1e-10, atol=1e-10)
    truth = torch.linalg.slogdet(jacobian(lambda p: layer(p, condition)[0], x)).logabsdet
    torch.testing.assert_close(log_det.expand(3), truth, rtol=1e-10, atol=1e-10)
    truth_back = torch.linalg.slogdet(jacobian(lambda p: layer.inverse(p, condition)[0], z)).logabsdet
    torch.testing.assert_close(log_det_back.expand(3), truth_back, rtol=1e-9, atol=1e-9)


def test_forward_and_reverse_mode_agree_and_differentiate_twice(case: tuple[Bijection, Tensor, Tensor]) -> None:
    layer, x, condition = case
    v = torch.randn_like(x)

    def along(p: Tensor) -> Tensor:
        z, log_det = layer(p, condition)
        return z.square().sum() + (log_det * torch.arange(1.0, 4.0, dtype=torch.float64)).sum()

    value, slope = torch.func.jvp(along, (x,), (v,))[:2]
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(along(point), point, create_graph=True)
    torch.testing.assert_close(slope, (gradient * v).sum())
    (second,) = torch.autograd.grad((gradient * v).sum(), point)
    # The derivative of the gradient along v, by differences of it.
    step = 1e-5
    up, down = ((x + sign * step * v).requires_grad_() for sign in (1, -1))
    difference = torch.autograd.grad(along(up), up)[0] - torch.autograd.grad(along(down), down)[0]
    torch.testing.assert_close(second, difference / (2 * step), rtol=1e-4, atol=1e-5)
    assert value.requires_grad or not any(p.requires_grad for p in layer.parameters())


def test_vmap_over_conditions_equals_a_loop(case: tuple[Bijection, Tensor, Tensor]) -> None:
    layer, x, condition = case
    shifted = torch.stack([condition, condition + 1])
    together = torch.func.vmap(lambda c: layer(x, c)[0])(shifted)
    torch.testing.assert_close(together[1], layer(x, condition + 1)[0], rtol=1e-12, atol=1e-12)
    inverse = torch.func.vmap(lambda z: layer.inverse(z, condition)[0])(torch.stack([layer(x, condition)[0]] * 2))
    torch.testing.assert_close(inverse[0], x, rtol=1e-9, atol=1e-9)


def test_float32_round_trip_and_empty_batch(case: tuple[Bijection, Tensor, Tensor]) -> None:
    layer, x, condition = case
    layer, x, condition = layer.float(), x.float(), condition.float()
    z, _ = layer(x, condition)
    torch.testing.assert_close(layer.inverse(z, condition)[0], x, rtol=1e-4, atol=1e-4)
    z, log_det = layer(x[:0], condition[:0])
    assert z.shape[0] == 0
    assert log_det.shape in ((), (0,))
    assert layer.inverse(z, condition[:0])[0].shape == x[:0].shape


@pytest.mark.parametrize("spline", [False, True])
@pytest.mark.parametrize("image", [False, True])
def test_couplings_start_as_the_identity_with_a_live_gradient(spline: bool, image: bool) -> None:
    layer = _coupling(4, image=image, spline=spline, swap=False).double()
    shape = (4, 2, 2) if image else (4,)
    x = torch.randn(6, *shape, dtype=torch.float64)
    condition = torch.randn(6, 2, *shape[1:], dtype=torch.float64)
    z, log_det = layer(x, condition)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)
    (z.square().sum() - log_det.sum()).backward()
    gradients = [float(p.grad.abs().sum()) for p in layer.parameters() if p.grad is not None]
    assert max(gradients) > 0


def test_affine_log_scales_stay_within_their_bound() -> None:
    layer = perturb(_coupling(4, image=False, spline=False, swap=False), 50.0)
    _, log_det = layer(torch.randn(20, 4), torch.randn(20, 2))
    assert float(log_det.detach().abs().max()) <= 2 * 2.0 + 1e-5


def test_coupling_leaves_the_kept_half_alone() -> None:
    for swap in (False, True):
        layer = perturb(_coupling(5, image=False, spline=True, swap=swap))
        kept, _ = coupling_halves(5, swap)
        x = torch.randn(3, 5)
        z = layer(x, torch.randn(3, 2))[0]
        same = z[:, -kept:] == x[:, -kept:] if swap else z[:, :kept] == x[:, :kept]
        assert bool(same.all())
        assert not torch.equal(z, x)


@pytest.mark.parametrize("image", [False, True])
def test_couplings_are_a_chain_of_them(image: bool) -> None:
    layers = _couplings(3, image=image)
    together, chain = perturb(Couplings(layers).double()), Chain(layers)
    assert together.state_dict().keys() == chain.state_dict().keys()
    shape = (3, 2, 4) if image else (3,)
    x = torch.randn(7, *shape, dtype=torch.float64)
    condition = torch.randn(7, 2, *shape[1:], dtype=torch.float64)
    for ours, theirs in ((together, chain), (together.inverse, chain.inverse)):
        for result, truth in zip(ours(x, condition), theirs(x, condition), strict=True):
            torch.testing.assert_close(result, truth, rtol=1e-13, atol=1e-13)


class Rows(nn.Module):
    """A conditioner of vectors that isn't ours: it knows nothing but rows."""

    def __init__(self, columns: Conditioner) -> None:
        super().__init__()
        first, second, last = columns.layers
        self.network = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), last)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        out: Tensor = self.network(x)
        return out


def test_couplings_take_any_conditioner_of_rows() -> None:
    ours = _coupling(5, image=False, spline=True, swap=True, condition=0)
    perturb(ours)
    assert isinstance(ours.conditioner, Conditioner)
    theirs = SplineCoupling(5, Rows(ours.conditioner), bins=4, bound=3.0, swap=True)
    x = torch.randn(7, 5)
    torch.testing.assert_close(theirs(x)[0], ours(x)[0])
    torch.testing.assert_close(theirs(x)[1], ours(x)[1])
    rows = torch.randn(7, ours.kept)
    torch.testing.assert_close(theirs.conditioner(rows), ours.conditioner(rows))


def test_actnorm_starts_from_data_once() -> None:
    layer = ActNorm(3).double()
    x = 4 * torch.randn(50, 3, 2, 2, dtype=torch.float64) + torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    untouched, log_det = layer(x)
    assert torch.equal(untouched, x)
    assert float(log_det.detach()) == 0
    z = layer.initialise(x)
    rows = z.transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.std(1, correction=0), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    std = x.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(layer(x)[1].detach(), -4 * std.log().sum())

    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.initialise(x + 100)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    copy = ActNorm(3).double()
    copy.load_state_dict(before)
    copy.initialise(x + 100)
    torch.testing.assert_close(copy(x)[0], z)


def test_actnorm_of_a_constant_entry_and_of_nothing() -> None:
    x = torch.randn(10, 2)
    x[:, 1] = 7.0
    z = ActNorm(2).initialise(x)
    assert bool(z.isfinite().all())
    torch.testing.assert_close(z[:, 1], torch.zeros(10))
    with pytest.raises(DataError):
        ActNorm(2).initialise(x[:0])


@pytest.mark.parametrize("shape", [(6,), (6, 3, 2)])
def test_lu_starts_as_a_rotation(shape: tuple[int, ...]) -> None:
    layer = LULinear(6).double()
    x = torch.randn(4, *shape, dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1), rtol=1e-5, atol=1e-5)
    assert float(log_det.detach()) == pytest.approx(0, abs=1e-4)


def test_lu_without_a_rotation_starts_at_the_identity() -> None:
    layer = LULinear(6, rotated=False)
    torch.testing.assert_close(layer.matrix(), torch.eye(6), rtol=0, atol=0)
    assert float(layer.log_abs_det().detach()) == 0


def test_the_state_of_lu_holds_no_masks() -> None:
    """Triangles of ones would be three quarters of a saved layer."""
    assert set(LULinear(6).state_dict()) == {"factors", "signs", "order"}


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_matrices_of_several_lu_layers_are_those_of_each(inverse: bool, count: int) -> None:
    """Their permutations, signs and gradients too."""
    layers = [perturb(LULinear(6).double()) for _ in range(count)]
    together = lu_matrices(layers, inverse=inverse)
    apart = torch.stack([layer.inverse_matrix() if inverse else layer.matrix() for layer in layers])
    torch.testing.assert_close(together, apart)
    assert len({tuple(layer.order.tolist()) for layer in layers}) == count
    weights = torch.randn(count, 6, 6, dtype=torch.float64)
    wanted = [layer.factors for layer in layers]
    found, truth = (torch.autograd.grad((weights * each).sum(), wanted) for each in (together, apart))
    torch.testing.assert_close(found, truth)
    unit = torch.eye(6, dtype=torch.float64).expand(count, -1, -1)
    torch.testing.assert_close(lu_matrices(layers) @ lu_matrices(layers, inverse=True), unit)


def test_householder_is_the_product_of_its_reflections() -> None:
    layer = Householder(6, 4).double()
    product = torch.eye(6, dtype=torch.float64)
    for v in layer.vectors.T:
        product = product @ (torch.eye(6, dtype=torch.float64) - 2 * torch.outer(v, v) / v.dot(v))
    torch.testing.assert_close(layer.matrix(), product)
    torch.testing.assert_close(layer.matrix() @ layer.matrix().T, torch.eye(6, dtype=torch.float64))


def test_squeeze_orders_channels_as_stated() -> None:
    x = torch.arange(16.0).reshape(1, 2, 2, 4)
    z = Squeeze()(x)[0]
    assert z.shape == (1, 8, 1, 2)
    # Channel 4c + 2 dy + dx.
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5, 8, 9, 12, 13]


def test_haar_squeeze_is_orthonormal_on_asymmetric_input() -> None:
    x = torch.tensor([[1.0, 2.0], [4.0, 9.0]])[None, None]
    z = HaarSqueeze()(x)[0]
    assert z[0, :, 0, 0].tolist() == [8.0, -3.0, -5.0, 2.0]
    image = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(HaarSqueeze()(image)[0].square().sum(), image.square().sum())


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match="even"):
        Squeeze()(torch.rand(1, 1, 3, 4))
    with pytest.raises(ConfigError, match="multiples of 4") as error:
        check_divisible((1, 7, 7), 4, "a flow of 2 levels")
    assert "4 x 4 and 8 x 8" in str(error.value)
    with pytest.raises(ShapeError, match="not a permutation"):
        Permutation(torch.tensor([0, 0, 1]))


def test_multi_scale_shapes_of_the_published_example() -> None:
    flow = MultiScale([Squeeze() for _ in range(4)], (3, 64, 64))
    assert flow.latent_shapes == [(6, 32, 32), (12, 16, 16), (24, 8, 8), (96, 4, 4)]


def test_base_distributions_against_torch_distributions(generator: torch.Generator) -> None:
    z = torch.randn(4, 2, 3, dtype=torch.float64)
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((1, 2))
    torch.testing.assert_close(StandardNormal().log_prob(z), standard)
    base = DiagonalNormal((2, 3)).double()
    perturb(base)
    truth = torch.distributions.Normal(base.mean, base.log_std.exp()).log_prob(z).sum((1, 2))
    torch.testing.assert_close(base.log_prob(z), truth)
    draws = base.sample((20_000, 2, 3), generator=generator, like=z)
    assert draws.dtype == torch.float64
    torch.testing.assert_close(draws.mean(0), base.mean.detach(), rtol=0, atol=0.06)
    torch.testing.assert_close(draws.std(0), base.log_std.exp().detach(), rtol=0.03, atol=0)


@pytest.mark.parametrize("base", [StandardNormal(), DiagonalNormal((2, 3))], ids=lambda base: type(base).__name__)
def test_normal_distributions_are_quadratic_potentials(base: Quadratic, generator: torch.Generator) -> None:
    """psi is -log p up to a constant, its gradient and Hessian are autograd's, and whitening is its square root."""
    assert isinstance(base, nn.Module)
    base = copy.deepcopy(base).double()
    perturb(base)
    z, v = torch.randn(2, 4, 2, 3, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    assert isinstance(base, (StandardNormal, DiagonalNormal))
    constants = base.value(z) + base.log_prob(z)
    torch.testing.assert_close(constants, constants[:1].expand(4))
    (gradient,) = torch.autograd.grad(base.value(z).sum(), z, create_graph=True)
    torch.testing.assert_close(base.grad(z), gradient)
    (product,) = torch.autograd.grad((gradient * v).sum(), z)
    torch.testing.assert_close(base.hessian_product(z, v), product)
    torch.testing.assert_close(base.grad_inverse(base.grad(z)), z)
    torch.testing.assert_close(base.unwhiten(base.whiten(z)), z)
    torch.testing.assert_close(base.value(z), 0.5 * base.whiten(z).flatten(1).square().sum(1))


def test_a_diagonal_normal_starts_at_its_variances_and_refuses_none() -> None:
    variances = torch.tensor([1 / 81, 4.0], dtype=torch.float64)
    base = DiagonalNormal((2,), variances)
    torch.testing.assert_close((2 * base.log_std).exp(), variances, rtol=1e-14, atol=0)
    for wrong in (torch.zeros(2), torch.tensor([1.0, math.nan]), torch.ones(3)):
        with pytest.raises(ConfigError, match="all above 0"):
            DiagonalNormal((2,), wrong)


@pytest.mark.parametrize("activation", ["silu", "relu", "tanh", "gelu", "elu"])
@pytest.mark.parametrize(("size", "batch"), [(1, 2), (2, 2), (2, 40), (3, 2)])
def test_a_convolutional_conditioner_is_its_convolutions(activation: Activation, size: int, batch: int) -> None:
    """On small images too, which take products, and without a gradient, where activations overwrite."""
    network = perturb(ConvConditioner(2, 4, 5, condition=3, activation=activation).double())
    assert isinstance(network, ConvConditioner)
    assert network.from_condition is not None
    x = torch.randn(batch, 2, size, size, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(batch, 3, size, size, dtype=torch.float64, requires_grad=True)
    act = ACTIVATIONS[activation]
    plain = network.last(act(network.middle(act(network.first(x) + network.from_condition(condition)))))
    torch.testing.assert_close(network(x, condition), plain)
    wanted = [x, condition, *network.parameters()]
    found, truth = (torch.autograd.grad(y.square().sum(), wanted) for y in (network(x, condition), plain))
    torch.testing.assert_close(found, truth)
    before = x.detach().clone()
    with torch.no_grad():
        torch.testing.assert_close(network(x, condition), plain)
    assert torch.equal(x, before)


def test_a_bounded_log_scale_is_the_hyperbolic_tangent() -> None:
    raw = torch.tensor([-50.0, -2.0, -1e-3, 0.0, 0.7, 50.0], dtype=torch.float64)
    for given in (raw[:, None], raw.view(1, 1, 2, 3)):
        torch.testing.assert_close(bounded(given, 1.5), 1.5 * given.tanh(), rtol=0, atol=1e-15)
    assert bounded(torch.zeros(1, 1, 1, 1), 1.5).item() == 0


def test_fourier_embedding_is_sines_and_cosines() -> None:
    t = torch.tensor([0.0, 1.5, -10.0])
    embedding = FourierEmbedding(8, lowest=0.1, highest=1.0)
    embedded = embedding(t)
    assert embedded.shape == (3, 8)
    # Geometric: the second of four frequencies is a third of the way up in logarithms.
    assert embedded[1, 1].item() == pytest.approx(math.sin(2 * math.pi * 10 ** (-2 / 3) * 1.5), abs=1e-5)
    assert embedding.state_dict() == {}
    assert embedding.double()(t.double()).dtype == torch.float64
    with pytest.raises(ConfigError, match="even number"):
        FourierEmbedding(7)
    assert embedded[1, 0].item() == pytest.approx(math.sin(2 * math.pi * 0.1 * 1.5), abs=1e-6)
    assert embedded[1, 7].item() == pytest.approx(math.cos(2 * math.pi * 1.5), abs=1e-5)
    torch.testing.assert_close(embedded.square().sum(1), torch.full((3,), 4.0))


def test_residual_blocks_start_as_the_identity_and_read_their_context() -> None:
    block = ResidualBlock(6, context=2)
    h, context = torch.randn(3, 6), torch.randn(3, 2)
    assert torch.equal(block(h, context), h)
    perturb(block)
    assert not torch.equal(block(h, context), block(h, context + 1))
    inner = block.first(silu(h)) + block.from_context(context)
    torch.testing.assert_close(block(h, context), h + block.second(silu(inner)))
    dropping = perturb(ResidualBlock(6, dropout=0.5))
    assert not torch.equal(dropping(h), dropping(h))
    dropping.eval()
    assert torch.equal(dropping(h), dropping(h))


def test_a_network_imports_no_flow() -> None:
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.startswith("scorefold_toolkit")]:
            del sys.modules[name]
        assert import_module("scorefold_toolkit.nn").Conditioner is not Conditioner, "it is imported anew"
        own = {name.rpartition(".")[2] for name in sys.modules if name.startswith("scorefold_toolkit.nn.")}
    assert own == {"networks"}


def test_every_name_of_the_package_loads_its_module() -> None:
    package = sys.modules["scorefold_toolkit.nn"]
    assert sorted(package._PLACES) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert all(getattr(package, name).__name__ == f"scorefold_toolkit.nn.{name}" for name in package._NAMES)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_numbers_of_conditions_are_scaled_and_classes_and_images_are_not() -> None:
    spec = {"class": TensorSpec((), classes=3), "image": TensorSpec((1, 2, 2)), "numbers": TensorSpec((2,))}
    scale = ConditionScale(spec)
    given = {
        "class": torch.tensor([0, 2, 1]),
        "image": 9 + torch.randn(3, 1, 2, 2),
        "numbers": torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]]),
    }
    before = scale(given)
    assert isinstance(before, dict)
    assert before["numbers"].equal(given["numbers"]), "nothing is scaled before it is prepared"
    scale.prepare(given)
    found = scale(given)
    assert isinstance(found, dict)
    assert found["class"].equal(given["class"])
    assert found["image"].equal(given["image"])
    torch.testing.assert_close(found["numbers"], torch.tensor([[-(1.5**0.5), 0.0], [0.0, 0.0], [1.5**0.5, 0.0]]))
    with pytest.raises(ShapeError, match="the condition has class"):
        scale({"class": given["class"]})
    assert not ConditionScale(None).places
    assert ConditionScale(None)(None) is None


def test_positive_numbers_of_many_magnitudes_are_shown_by_their_logarithms() -> None:
    """Lognormal numbers are; normal and exponential ones, numbers with a 0 and rare ones are not."""
    seed = torch.Generator().manual_seed(0)
    normal = torch.randn(5000, 2, generator=seed)
    spread = normal.exp()
    given = torch.stack(
        [
            spread[:, 0].pow(2),
            1e3 * spread[:, 1],
            20 + normal[:, 0],
            torch.rand(5000, generator=seed).log().neg(),
            spread[:, 0].where(torch.arange(5000) > 0, 0.0),
            1 + (torch.arange(5000) < 20).float(),
            torch.ones(5000),
        ],
        1,
    )
    scale = ConditionScale(TensorSpec((7,)))
    scale.prepare(given)
    expected = given.double()
    expected[:, :2] = expected[:, :2].log()
    std, mean = torch.std_mean(expected, 0, correction=0)
    z = ((expected - mean) / std.where(std > 0, 1.0)).float()
    torch.testing.assert_close(scale(given), z, rtol=1e-4, atol=1e-4)
    low = given[:1].clone()
    low[0, 0] = given[:, 0].min() / 2
    assert scale(low)[0, 0] == scale(given)[:, 0].min(), "below the least of the training points"
    low[0, 0] = -1.0
    assert scale(low)[0, 0] == scale(given)[:, 0].min()
    again = ConditionScale(TensorSpec((7,)))
    again.load_state_dict({name: value for name, value in scale.state_dict().items() if name[:5] != "least"})
    old = (given - again.get_buffer("mean_0")) / again.get_buffer("std_0")
    torch.testing.assert_close(again(given), old)


def test_conditions_outside_the_range_of_training_are_warned_of() -> None:
    spec = {"class": TensorSpec((), classes=3), "rare": TensorSpec(()), "numbers": TensorSpec((2,))}
    scale = ConditionScale(spec)
    model = nn.Sequential(nn.Identity(), scale)
    given = {
        "class": torch.zeros(100).long(),
        "rare": (torch.arange(100) == 7).float(),
        "numbers": torch.stack([torch.linspace(0, 10, 100), torch.full((100,), 5.0)], 1),
    }
    assert far_conditions(model, given) == "", "nothing is known before"
    scale.prepare(given)
    assert far_conditions(model, given) == "", "no training condition is outside, however rare"
    cases = ((4, 0, 10.99, 0), (4, 0, 11.01, 1), (4, 0, -1.01, 1), (1, 0, 19.9, 0), (1, 0, 20.1, 1), (1, 0, -10.1, 1))
    for count, place, value, said in (*cases, (1, 1, 5.0, 0), (1, 1, 5.1, 1)):
        asked = {name: part[:4].clone() for name, part in given.items()}
        asked["numbers"][:count, place] = value
        found = far_conditions(model, asked)
        lie = "lies" if count == 1 else "lie"
        assert found.startswith(f"{count} of 4 conditions {lie} outside the range") == bool(said)
        assert bool(found) == bool(said)
    assert far_conditions(model, {name: part[:0] for name, part in given.items()}) == ""
    assert far_conditions(nn.Identity(), given) == far_conditions(model, None) == ""
    old = {name: value for name, value in scale.state_dict().items() if name[:3] in ("mea", "std")}
    again = ConditionScale(spec)
    again.load_state_dict(old)  # saved before ranges were kept
    assert not again.outside({name: part + 99 * (name != "class") for name, part in given.items()}).any()
    again.load_state_dict({name: value for name, value in scale.state_dict().items() if name[:6] != "points"})
    assert not again.outside({name: part + 99 * (name != "class") for name, part in given.items()}).any()
    again.load_state_dict(scale.state_dict())
    assert again.outside({name: part + 99 * (name != "class") for name, part in given.items()}).all()


@pytest.mark.parametrize("kind", ["normal", "exponential"])
@pytest.mark.parametrize("n", [30, 200])
def test_fair_conditions_of_few_training_points_are_inside(kind: str, n: int) -> None:
    """A fair number exceeds n others with a chance of 1 / (n + 1), often by more than a tenth of their range."""
    seed = torch.Generator().manual_seed(0)
    strict = warned = 0
    for _ in range(40):
        given = torch.randn(n + 200, 10, generator=seed)
        if kind == "exponential":
            given = torch.rand(given.shape, generator=seed).log().neg()
        known = ConditionRange(TensorSpec((10,)))
        known.prepare(given[:n])
        asked = given[n:]
        low, high = known.low_0, known.high_0
        strict += bool(((asked < low - 0.1 * (high - low)) | (asked > high + 0.1 * (high - low))).any())
        warned += bool(known.outside(asked).any())
        if n > 30:
            asked[7] = 50.0
            assert known.outside(asked).nonzero().tolist() == [[7]]
            assert known.outside(asked[7:8]).all()
    assert strict > 8
    assert warned <= 1


def test_conditions_of_true_and_false_have_a_range() -> None:
    for shape in ((3,), (1, 2, 2)):
        known = ConditionRange(TensorSpec(shape))
        given = torch.rand(100, *shape, generator=torch.Generator().manual_seed(0)) > 0.5
        known.prepare(given)
        assert not known.outside(given).any()
        assert known.outside(255 * given[given.flatten(1).any(1)].float()).all()


def test_fair_images_and_sparse_vectors_are_inside_the_range_of_training() -> None:
    """Sparse points, such as pixels of digits, have numbers that are 0 in all training points and not in others."""
    seed = torch.Generator().manual_seed(0)
    points = torch.rand(2000, 1, 8, 8, generator=seed) * (torch.rand(2000, 1, 8, 8, generator=seed) < 0.002)
    for shape in ((1, 8, 8), (64,)):
        given = points.reshape(-1, *shape)
        scale = ConditionRange(TensorSpec(shape))
        scale.prepare(given[:1000])
        assert not scale.outside(given[1000:]).any()
        assert scale.outside(255 * given[1000:]).equal(given[1000:].flatten(1).amax(1) > 1.2 / 255)
    few = ConditionRange(TensorSpec((2,)))
    few.prepare(torch.tensor([[1.0, 1e3], [1.0, 1e3], [2.0, 2e3], [2.0, 2e3]]).repeat(50, 1))
    assert few.outside(torch.tensor([[3.1, 1.5e3]])).all(), "numbers have units of their own"
