"""The regular map: polynomials in tanh of neighbours, volume by its normalisations alone, and its checkerboards."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.config import RegularMapConfig
from scorefold_pullback.maps.regular import Parity, ParityConvolution, Rotation
from scorefold_testing.contract import stir
from scorefold_toolkit.nn import ActNorm, Bijection


def moved(layer: Bijection) -> Bijection:
    layer = layer.double()
    stir(layer, torch.Generator().manual_seed(0))
    return layer


def draws(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("features", range(2, 8))
def test_a_parity_layer_is_its_formula(features: int, parity: int) -> None:
    layer = moved(Parity(features, 3, parity))
    assert isinstance(layer, Parity)
    x = draws(4, features)
    coefficients = layer.polynomials.coefficients.detach()
    expected = x.clone()
    for i in range(parity, features, 2):
        for j in (i - 1, i + 1):
            if 0 <= j < features:
                source = (j - (1 - parity)) // 2
                expected[:, i] += sum(coefficients[k, source] * x[:, j].tanh() ** k for k in range(4))
    torch.testing.assert_close(layer(x)[0].detach(), expected, rtol=1e-12, atol=1e-12)
    assert bool((layer(x)[0] != x)[:, parity::2].all())


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 3, 5)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_parity_convolution_moves_one_colour_by_the_other(
    shape: tuple[int, int, int], kernel: int, parity: int
) -> None:
    torch.manual_seed(0)
    layer = moved(ParityConvolution(shape, RegularMapConfig(channels=3, kernel=kernel), parity))
    x = draws(1, *shape)
    colour = (torch.arange(shape[1])[:, None] + torch.arange(shape[2])) % 2
    mine = (colour == parity).expand(shape).flatten()
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v)[0], x).reshape(mine.numel(), -1)
    change = jacobian - torch.eye(mine.numel(), dtype=x.dtype)
    assert bool((change[~mine] == 0).all())
    assert bool((change[:, mine] == 0).all())
    assert bool((change[mine] != 0).any(1).all())


def test_a_kernel_reaches_every_pixel_of_the_other_colour_within_it() -> None:
    layer = ParityConvolution((1, 3, 3), RegularMapConfig(channels=2), 0)
    assert layer.odd_offsets.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_masks_go_where_the_map_goes_and_are_no_part_of_its_state() -> None:
    """Masks that are no buffers stay behind when a model changes its device."""
    layer = ParityConvolution((1, 3, 3), RegularMapConfig(channels=2), 0).double()
    buffers = dict(layer.named_buffers())
    assert set(buffers) == {"odd_offsets", "moved"}
    assert all(buffer.dtype == torch.float64 for buffer in buffers.values())
    assert not set(buffers) & set(layer.state_dict())


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 4, 4)])
def test_volume_changes_by_the_normalisations_alone(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    phi = build_map(RegularMapConfig(channels=4), shape).double()
    x = 4 * draws(100, *shape) + 1
    phi.initialise(x)
    phi = moved(phi)
    pixels = shape[1] * shape[2] if len(shape) == 3 else 1
    expected = sum(layer.log_scale.sum() for layer in phi.modules() if isinstance(layer, ActNorm)) * pixels
    log_det = phi(x)[1]
    assert log_det.shape == ()
    torch.testing.assert_close(log_det, expected, rtol=1e-12, atol=1e-12)
    assert abs(float(log_det.detach())) > 0.1


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (3, 4, 4)])
def test_it_starts_as_the_identity(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = draws(8, *shape)
    z, log_det = build_map(RegularMapConfig(channels=4), shape).double()(x)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-12)
    assert float(log_det.detach()) == 0


@pytest.mark.parametrize("reflections", [1, 2, 20])
def test_rotations_keep_lengths_in_either_precision(reflections: int) -> None:
    torch.manual_seed(0)
    turn = Rotation(20, reflections)
    stir(turn, torch.Generator().manual_seed(0))
    for dtype, within in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        q = turn.to(dtype).matrix().detach()
        assert (q @ q.T - torch.eye(20, dtype=dtype)).abs().max() < within
        assert float(torch.linalg.det(q)) == pytest.approx(1, abs=within)
    assert (q - torch.eye(20, dtype=q.dtype)).abs().max() > 0.01


@pytest.mark.parametrize("shape", [(4,), (1, 4, 4), (2, 4, 4)])
def test_after_one_step_every_part_learns(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    phi = build_map(RegularMapConfig(channels=4, blocks=2), shape).double()
    for _ in range(2):
        phi(draws(20, *shape))[0].pow(4).sum().backward()
        with torch.no_grad():
            for parameter in phi.parameters():
                assert parameter.grad is not None
                parameter -= 1e-3 * parameter.grad.sign()
    assert all(bool((p.grad != 0).any()) for p in phi.parameters() if p.grad is not None)


def test_blocks_alternate_their_parity_and_take_the_reflections_asked_for() -> None:
    phi = build_map(RegularMapConfig(blocks=4, reflections=2), (6,))
    layers = list(phi.modules())
    assert [layer.parity for layer in layers if isinstance(layer, Parity)] == [1, 0, 1, 0]
    assert [tuple(layer.vectors.shape) for layer in layers if isinstance(layer, Rotation)] == [(6, 2)] * 4


def test_a_block_moves_the_pixels_of_both_colours() -> None:
    phi = build_map(RegularMapConfig(channels=4, blocks=1), (1, 4, 4))
    first, second = (layer.moved for layer in phi.modules() if isinstance(layer, ParityConvolution))
    torch.testing.assert_close(first + second, torch.ones(4, 4))


def test_slopes_are_bounded_however_far_a_point_is() -> None:
    phi = moved(build_map(RegularMapConfig(), (4,)))
    far = 1e6 * draws(4, 4)
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda row: phi(row[None])[0][0]))(far)
    scale = torch.linalg.svdvals(jacobian)
    assert float(scale.min().detach()) > 0.3
    assert float(scale.max().detach()) < 3


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("kernel", 4, "kernel is 4; expected an odd number"), ("order", 0, "greater than"), ("reflections", 0, "greater")],
)
def test_wrong_settings_are_refused_in_words(field: str, value: int, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RegularMapConfig.model_validate({field: value})


@pytest.mark.parametrize("parity", [0, 1])
def test_a_parity_layer_is_undone(parity: int) -> None:
    layer, x = moved(Parity(5, 3, parity)), draws(4, 5)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0].detach(), x, rtol=0, atol=1e-12)
