"""Derivatives, spectra and intervals against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from scorefold.diffusion.divergence import divergence
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.random import draw_normal, draw_signs, draw_uniform
from scorefold_toolkit.data.splits import dimensions_by_units
from scorefold_toolkit.numerics import (
    AGGREGATES,
    bootstrap_interval,
    gram_spectrum,
    jacobian,
    pullback,
    pushforward,
    symmetric_function,
    symmetric_sqrt,
)


def _field(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.sin(x.flatten(1) @ matrix.T).reshape(x.shape)


@pytest.fixture
def matrix() -> Tensor:
    return torch.randn(6, 6, dtype=torch.float64)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 2, 3, dtype=torch.float64)


def _true_jacobian(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.cos(x.flatten(1) @ matrix.T)[:, :, None] * matrix


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_pushforward_pullback_and_jacobian(matrix: Tensor, x: Tensor, mode: Literal["forward", "reverse"]) -> None:
    truth = _true_jacobian(matrix, x)
    v = torch.randn(1, 2, 3, dtype=torch.float64)
    value, tangent = pushforward(lambda p: _field(matrix, p), x, v, mode=mode)
    torch.testing.assert_close(value, _field(matrix, x))
    torch.testing.assert_close(tangent.flatten(1), truth @ v.flatten())
    value, cotangent = pullback(lambda p: _field(matrix, p), x, v)
    torch.testing.assert_close(value, _field(matrix, x))
    torch.testing.assert_close(cotangent.flatten(1), v.flatten() @ truth)
    for chunk in (None, 2):
        torch.testing.assert_close(jacobian(lambda p: _field(matrix, p), x, chunk=chunk, mode=mode), truth)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_tangents_of_a_map_to_other_shapes_can_be_differentiated(mode: Literal["forward", "reverse"]) -> None:
    x, v = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)

    def cubes(p: Tensor) -> Tensor:
        return torch.stack([p[:, 0] ** 3, p[:, 1] ** 3, p.prod(1)], dim=1)

    tangent = pushforward(cubes, x, v, mode=mode)[1]
    truth = torch.stack([3 * x[:, 0] ** 2 * v[:, 0], 3 * x[:, 1] ** 2 * v[:, 1], (x.flip(1) * v).sum(1)], dim=1)
    torch.testing.assert_close(tangent, truth)
    (slope,) = torch.autograd.grad(tangent[:, 0].sum(), x)
    torch.testing.assert_close(slope[:, 0], (6 * x * v)[:, 0])
    assert jacobian(cubes, x, mode=mode).shape == (3, 3, 2)
    assert jacobian(cubes, x[:0], mode=mode).shape == (0, 3, 2)
    assert pushforward(cubes, x[:0], v[:0], mode=mode)[1].shape == (0, 3)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_tangents_are_the_same_wherever_they_are_taken(
    matrix: Tensor, x: Tensor, mode: Literal["forward", "reverse"]
) -> None:
    """With gradients, without them, in inference mode and inside transforms."""
    v = torch.randn_like(x)
    truth = (_true_jacobian(matrix, x) @ v.flatten(1)[..., None]).reshape(x.shape)

    def tangent(at: Tensor, along: Tensor = v) -> Tensor:
        return pushforward(lambda p: _field(matrix, p), at, along, mode=mode)[1]

    with torch.no_grad():
        torch.testing.assert_close(tangent(x), truth)
        assert not tangent(x.clone().requires_grad_()).requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(tangent(x), truth)
    assert not tangent(x).requires_grad  # nothing that was given asks for gradients
    asking = x.clone().requires_grad_()
    torch.testing.assert_close(tangent(asking), truth)
    (slope,) = torch.autograd.grad(tangent(asking).sum(), asking)
    torch.testing.assert_close(torch.func.grad(lambda at: tangent(at).sum())(x), slope)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(lambda w: tangent(x, w))(torch.stack([v, 2 * v]))[1], 2 * truth)
        torch.testing.assert_close(torch.func.jvp(lambda w: tangent(x, w), (v,), (v,))[1], truth)
    weight = matrix.clone().requires_grad_()
    with_weight = pushforward(lambda p: _field(weight, p), asking, v, mode=mode)[1]
    assert float(torch.autograd.grad(with_weight.sum(), weight)[0].abs().sum()) > 0


@pytest.mark.parametrize("asks", [False, True])
def test_tangents_of_maps_that_forget_their_input(x: Tensor, asks: bool) -> None:
    x, v = x.requires_grad_(asks), torch.ones_like(x)
    constants = (torch.ones_like(x), torch.ones_like(x, requires_grad=True))
    with torch.set_grad_enabled(asks):
        for constant in constants:
            assert not bool(pushforward(lambda p, c=constant: c * 2, x, v, mode="reverse")[1].any())  # type: ignore[misc]
        assert torch.equal(pushforward(lambda p: p, x, v, mode="reverse")[1], v)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_exact_divergence_and_its_gradient(matrix: Tensor, x: Tensor, mode: str, chunk: int | None) -> None:
    x = x.requires_grad_()
    value, trace = divergence(lambda p: _field(matrix, p), x, mode=mode, chunk=chunk)  # type: ignore[arg-type]
    torch.testing.assert_close(value, _field(matrix, x))
    truth = _true_jacobian(matrix, x).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, truth)
    (gradient,) = torch.autograd.grad(trace.sum(), x)
    (expected,) = torch.autograd.grad(truth.sum(), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_hutchinson_has_the_mean_and_the_variance_it_states(mode: str, generator: torch.Generator) -> None:
    matrix = torch.randn(4, 4, dtype=torch.float64)
    x = torch.zeros(20_000, 4, dtype=torch.float64)
    with torch.no_grad():
        _, trace = divergence(
            lambda p: p @ matrix.T,
            x,
            trace="hutchinson",
            generator=generator,
            mode=mode,  # type: ignore[arg-type]
        )
    assert not trace.requires_grad
    symmetric = (matrix + matrix.T) / 2
    variance = 2 * (symmetric.square().sum() - symmetric.diagonal().square().sum())
    assert abs(trace.mean() - matrix.trace()) < 5 * (variance / len(x)).sqrt()
    assert trace.var() == pytest.approx(float(variance), rel=0.05)


def test_hutchinson_with_given_noise_is_deterministic(matrix: Tensor, x: Tensor) -> None:
    noise = torch.ones(2, *x.shape, dtype=torch.float64)
    _, trace = divergence(lambda p: _field(matrix, p), x, trace="hutchinson", noise=noise)
    torch.testing.assert_close(trace, _true_jacobian(matrix, x).sum((1, 2)))


@pytest.mark.parametrize("draw", [draw_normal, draw_uniform, draw_signs])
def test_draws_follow_the_generator_in_value_and_the_tensor_in_kind(
    draw: Callable[..., Tensor], generator: torch.Generator
) -> None:
    like = torch.empty((), dtype=torch.float64)
    before = torch.get_rng_state()
    one = draw((40_000,), generator=generator, like=like)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.dtype == torch.float64
    assert torch.equal(one, draw((40_000,), generator=generator.manual_seed(generator.initial_seed()), like=like))
    # A generator of the CPU serves a tensor elsewhere.
    assert draw((2, 3), generator=generator, like=like.to("meta")).device.type == "meta"
    mean, std = {draw_normal: (0.0, 1.0), draw_uniform: (0.5, 12**-0.5), draw_signs: (0.0, 1.0)}[draw]
    assert float(one.mean()) == pytest.approx(mean, abs=5 * std / 200)
    assert float(one.std()) == pytest.approx(std, rel=0.02)
    if draw is draw_signs:
        assert one.unique().tolist() == [-1, 1]
    if draw is draw_uniform:
        assert 0 <= float(one.min()) < float(one.max()) < 1


def test_divergence_of_an_empty_batch(matrix: Tensor, x: Tensor) -> None:
    assert divergence(lambda p: _field(matrix, p), x[:0])[1].shape == (0,)


def test_derivatives_name_what_does_not_fit(matrix: Tensor, x: Tensor) -> None:
    with pytest.raises(ShapeError, match="v has shape"):
        pushforward(lambda p: p, x, x[:2])
    with pytest.raises(ShapeError, match="no divergence"):
        divergence(lambda p: p.flatten(1), x)
    with pytest.raises(ConfigError):
        divergence(lambda p: p, x, trace="guess")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        divergence(lambda p: p, x, trace="hutchinson", probes=0)


@pytest.mark.parametrize("shape", [(40, 6), (3, 40, 6), (4, 6), (2, 3, 6), (6, 6)])
def test_gram_spectrum_agrees_with_singular_values(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(*shape, dtype=torch.float64)
    values = gram_spectrum(matrix)
    assert values.shape == (*shape[:-2], shape[-1])
    truth = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(values[..., : truth.shape[-1]], truth, rtol=1e-10, atol=1e-10)
    assert float(values[..., truth.shape[-1] :].abs().sum()) == 0


def test_gram_spectrum_keeps_what_float32_would_lose() -> None:
    # Singular values over four decades: a float32 Gram matrix would drown the last one.
    q1, _ = torch.linalg.qr(torch.randn(50, 5, dtype=torch.float64))
    q2, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    truth = torch.logspace(0, -4, 5, dtype=torch.float64)
    values = gram_spectrum(((q1 * truth) @ q2).float())
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), truth, rtol=1e-3, atol=0)
    with pytest.raises(ShapeError):
        gram_spectrum(torch.rand(5))


def test_functions_of_symmetric_matrices() -> None:
    a = torch.randn(2, 5, 5, dtype=torch.float64)
    spd = a @ a.mT
    root = symmetric_sqrt(spd)
    torch.testing.assert_close(root @ root, spd)
    torch.testing.assert_close(symmetric_function(spd, torch.exp), torch.linalg.matrix_exp(spd), rtol=1e-9, atol=1e-9)
    singular = torch.ones(3, 3, dtype=torch.float64)
    torch.testing.assert_close(symmetric_sqrt(singular), singular / math.sqrt(3))
    with pytest.raises(ShapeError):
        symmetric_sqrt(torch.rand(2, 3))


def test_bootstrap_interval_covers_like_the_normal_theory(generator: torch.Generator) -> None:
    values = torch.randn(400, generator=generator, dtype=torch.float64)
    low, high = bootstrap_interval(values, level=0.9, generator=generator, resamples=4000)
    half = 1.645 * float(values.std()) / math.sqrt(400)
    assert low == pytest.approx(float(values.mean()) - half, abs=0.1 * half)
    assert high == pytest.approx(float(values.mean()) + half, abs=0.1 * half)


def test_bootstrap_is_reproducible_and_takes_any_statistic() -> None:
    values = torch.tensor([1.0, 2.0, 2.0, 2.0, 9.0])

    def draw() -> tuple[float, float]:
        generator = torch.Generator().manual_seed(3)
        return bootstrap_interval(values, lambda v: v.median(-1).values, 0.8, generator)

    assert draw() == draw() == (2.0, 2.0)
    assert bootstrap_interval(torch.tensor([4.0])) == (4.0, 4.0)


def test_bootstrap_names_bad_input() -> None:
    with pytest.raises(DataError):
        bootstrap_interval(torch.empty(0))
    with pytest.raises(DataError, match="1 of 2 values"):
        bootstrap_interval(torch.tensor([1.0, math.nan]))
    with pytest.raises(ConfigError):
        bootstrap_interval(torch.ones(3), level=95)
    with pytest.raises(ConfigError):
        bootstrap_interval(torch.ones(3), resamples=0)


def test_aggregates_reduce_the_last_dimension_and_the_mode_rounds() -> None:
    values = torch.tensor([[1.25, 0.75, 2.0, 8.0], [3.0, 3.0, 3.0, 3.0]])
    expected = {"mean": [3, 3], "median": [1.625, 3], "mode": [1, 3], "max": [8, 3]}
    assert {name: reduce(values).tolist() for name, reduce in AGGREGATES.items()} == expected


def test_tensors_made_in_inference_mode_have_derivatives(matrix: Tensor, x: Tensor) -> None:
    """However they are given: by place or by name."""
    expected = divergence(lambda p: _field(matrix, p), x, trace="hutchinson", noise=torch.ones_like(x)[None])
    with torch.inference_mode():
        made, noise = x.clone(), torch.ones_like(x)[None]
        found = divergence(lambda p: _field(matrix, p), made, trace="hutchinson", noise=noise)
        torch.testing.assert_close(jacobian(lambda p: _field(matrix, p), x=made), _true_jacobian(matrix, x))
    torch.testing.assert_close(found[-1], expected[-1])


def test_dimensions_by_units_are_read_from_the_first_thousand_points() -> None:
    """A square of which one side is a millionth; what comes after a thousand points is neither line nor square."""
    x = torch.rand(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 1e-6])
    found = dimensions_by_units(x)
    assert found is not None
    assert [round(value) for value in found] == [1, 2]
    assert dimensions_by_units(torch.cat([x, 1e-3 * x.flip(1)])) == found
