"""Rational-quadratic splines: closed forms, monotony, tails, float32."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefold_toolkit.nn import rational_quadratic_spline, spline_parameters
from scorefold_toolkit.nn.coupling import MIN_BIN, MIN_SLOPE

BOUND = 3.0


def _raw(bins: int, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(*shape, spline_parameters(bins), dtype=dtype)


def _slow_spline(x: float, raw: Tensor, bound: float) -> float:
    """The paper's equations 4 to 7 for one number, knot by knot."""
    bins = (len(raw) + 1) // 3
    widths = 2 * bound * (MIN_BIN / bins + (1 - MIN_BIN) * raw[:bins].softmax(0))
    heights = 2 * bound * (MIN_BIN / bins + (1 - MIN_BIN) * raw[bins : 2 * bins].softmax(0))
    offset = math.log(math.expm1(1 - MIN_SLOPE))
    inner = [MIN_SLOPE + math.log1p(math.exp(float(r) + offset)) for r in raw[2 * bins :]]
    slopes = [1.0, *inner, 1.0]
    left, bottom = -bound, -bound
    for k in range(bins):
        width, height = float(widths[k]), float(heights[k])
        if x <= left + width or k == bins - 1:
            s, t = height / width, (x - left) / width
            numerator = height * (s * t * t + slopes[k] * t * (1 - t))
            return bottom + numerator / (s + (slopes[k] + slopes[k + 1] - 2 * s) * t * (1 - t))
        left, bottom = left + width, bottom + height
    raise AssertionError


@pytest.mark.parametrize("bins", [2, 5, 16])
def test_against_the_formula_number_by_number(bins: int) -> None:
    raw = _raw(bins, 40)
    x = torch.linspace(-BOUND, BOUND, 40, dtype=torch.float64)
    value, _ = rational_quadratic_spline(x, raw, bound=BOUND)
    truth = [_slow_spline(float(a), r, BOUND) for a, r in zip(x, raw, strict=True)]
    assert value.tolist() == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_layouts_agree(dim: int) -> None:
    raw, x = _raw(4, 3, 5), 4 * torch.randn(3, 5, dtype=torch.float64)
    for inverse in (False, True):
        value, slope = rational_quadratic_spline(x, raw, bound=BOUND, inverse=inverse)
        moved = raw.movedim(-1, dim).contiguous()
        other, other_slope = rational_quadratic_spline(x, moved, bound=BOUND, dim=dim, inverse=inverse)
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(slope, other_slope, rtol=1e-9, atol=1e-9)


def test_derivative_inverse_and_monotony() -> None:
    raw = _raw(8, 1, scale=2.0).expand(4001, -1)
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64).requires_grad_()
    value, log_slope = rational_quadratic_spline(x, raw, bound=BOUND)
    assert bool((value.diff() > 0).all())
    (gradient,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(log_slope.exp(), gradient, rtol=1e-10, atol=1e-12)
    back, log_slope_back = rational_quadratic_spline(value, raw, bound=BOUND, inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_slope_back, -log_slope, rtol=0, atol=1e-9)


def test_tails_are_the_identity_and_join_with_slope_one() -> None:
    raw = _raw(6, 6, scale=3.0)
    x = torch.tensor([-1e6, -10.0, -BOUND, BOUND, 5.0, 1e6], dtype=torch.float64)
    for inverse in (False, True):
        value, log_slope = rational_quadratic_spline(x, raw, bound=BOUND, inverse=inverse)
        torch.testing.assert_close(value, x, rtol=1e-13, atol=1e-12)
        torch.testing.assert_close(log_slope, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-8)


def test_parameters_get_no_gradient_from_the_tails() -> None:
    raw = _raw(4, 2).requires_grad_()
    value, log_slope = rational_quadratic_spline(torch.tensor([9.0, -9.0]).double(), raw, bound=BOUND)
    (value.sum() + log_slope.sum()).backward()
    assert raw.grad is not None
    assert float(raw.grad.abs().max()) < 1e-9


def test_zeros_are_the_identity() -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    value, log_slope = rational_quadratic_spline(x, torch.zeros(101, 23, dtype=torch.float64), bound=BOUND)
    torch.testing.assert_close(value, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("scale", "worst"), [(1.0, 1e-3), (5.0, 1e-2)])
def test_float32_is_finite_close_to_float64_and_invertible(scale: float, worst: float) -> None:
    raw, x = _raw(8, 5000, scale=scale), 2 * torch.randn(5000, dtype=torch.float64)
    value, log_slope = rational_quadratic_spline(x, raw, bound=BOUND)
    raw32 = raw.float().requires_grad_()
    value32, log_slope32 = rational_quadratic_spline(x.float(), raw32, bound=BOUND)
    # Where the spline is steep (slopes reach hundreds) an input's rounding is magnified as much.
    assert bool(((value32 - value).abs() < 3e-6 * (1 + log_slope.exp())).all())
    off = (log_slope32 - log_slope).detach().abs()
    # The largest of 5000 errors is another's on every machine (2e-4 at scale 1), the median is not.
    assert float(off.max()) < worst
    assert float(off.median()) < 1e-5
    (value32.sum() + log_slope32.sum()).backward()
    assert raw32.grad is not None
    assert bool(raw32.grad.isfinite().all())
    assert bool(log_slope32.isfinite().all())
    back, _ = rational_quadratic_spline(value32.detach(), raw.float(), bound=BOUND, inverse=True)
    error = (back - x.float()).abs()
    assert float(error.max()) < worst
    assert float(error.median()) < 1e-5


def test_second_derivatives_by_gradcheck() -> None:
    raw = (0.5 * _raw(4, 3)).requires_grad_()
    x = torch.tensor([-2.2, 0.3, 1.9], dtype=torch.float64, requires_grad=True)
    for inverse in (False, True):
        assert torch.autograd.gradgradcheck(
            lambda a, r, inverse=inverse: rational_quadratic_spline(a, r, bound=BOUND, inverse=inverse), (x, raw)
        )
