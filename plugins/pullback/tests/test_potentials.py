"""Gradients, their inverses and conjugates; Newton's method where there is no closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import jvp

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_pullback.config import CoshConfig, LogCoshConfig, LogSumExpConfig, QuadraticConfig
from scorefold_pullback.flows.mixture import SharedMixture
from scorefold_pullback.potentials import (
    ConvexPotential,
    Cosh,
    LogCosh,
    LogSumExp,
    QuadraticPotential,
    convex_conjugate,
)
from scorefold_toolkit.nn import DiagonalNormal
from scorefold_toolkit.potential import Potential

COVARIANCE = ((2.0, 0.5, 0.0), (0.5, 1.0, 0.2), (0.0, 0.2, 0.7))
POTENTIALS: dict[str, Callable[[], Potential]] = {
    "quadratic": lambda: QuadraticPotential(
        QuadraticConfig(covariance=COVARIANCE, location=(1.0, 0.0, -1.0)), dtype=torch.float64
    ),
    "diagonal": lambda: QuadraticPotential(QuadraticConfig(variances=(0.01, 1.0, 4.0)), dtype=torch.float64),
    "cosh": lambda: Cosh(CoshConfig()),
    "log-cosh": lambda: LogCosh(LogCoshConfig(curvature=0.01, weight=30.0)),
    "log-sum-exp": lambda: LogSumExp(
        LogSumExpConfig(directions=((1.0, 0.0, 5.0), (-1.0, 2.0, 0.0)), curvature=0.1), dtype=torch.float64
    ),
    "normal": lambda: moved(DiagonalNormal((3,), torch.tensor([0.2, 1.0, 4.0], dtype=torch.float64))),
    "mixture": lambda: SharedMixture.fixed(
        (3,), *(torch.tensor(given, dtype=torch.float64) for given in ([[1, 0, 0], [0, -2, 3]], [1, 3], [0.2, 1, 4]))
    ),
}
close = torch.testing.assert_close


def moved(distribution: DiagonalNormal) -> DiagonalNormal:
    """The distribution with another mean, not to be trained."""
    distribution.requires_grad_(False).mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    return distribution


class Quartic(ConvexPotential):
    """psi = |z|^2 / 2 + sum z^4 / 4, whose gradient z + z^3 has the inverse of Cardano."""

    def value(self, x: Tensor) -> Tensor:
        return (0.5 * x.square() + 0.25 * x**4).flatten(1).sum(1)


@pytest.fixture(params=POTENTIALS)
def psi(request: pytest.FixtureRequest) -> Potential:
    return POTENTIALS[request.param]()


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
def test_the_gradient_is_inverted_near_and_far(psi: Potential, generator: torch.Generator, size: float) -> None:
    y = size * torch.randn(7, 3, generator=generator, dtype=torch.float64)
    close(psi.grad(psi.grad_inverse(y)), y, rtol=1e-11, atol=1e-11)


def test_derivatives_of_the_inverse(psi: Potential, generator: torch.Generator) -> None:
    """Its derivative is the inverse Hessian, in both modes; the second derivative agrees with difference quotients."""
    x, v = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    y = psi.grad(x)
    along = jvp(psi.grad_inverse, (y,), (v,))[1]
    close(psi.hessian_product(x, along), v)
    at = y.detach().requires_grad_()
    assert torch.autograd.gradcheck(psi.grad_inverse, at)
    assert torch.autograd.gradcheck(lambda given: jvp(psi.grad_inverse, (given,), (v,))[1], at)


def test_fenchel(psi: Potential, generator: torch.Generator) -> None:
    """psi(z) + psi*(y) >= <z, y>, with equality where y is the gradient, and grad psi* = (grad psi)^-1."""
    z, y = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    assert bool((psi.value(z) + convex_conjugate(psi, y) >= (z * y).sum(1) - 1e-12).all())
    close(psi.value(z) + convex_conjugate(psi, psi.grad(z)), (z * psi.grad(z)).sum(1))
    y.requires_grad_()
    (slope,) = torch.autograd.grad(convex_conjugate(psi, y).sum(), y)
    close(slope, psi.grad_inverse(y))


def test_a_log_cosh_is_0_at_the_origin() -> None:
    psi = LogCosh(LogCoshConfig(curvature=0.5, weight=3.0))
    expected = torch.tensor([0.0, 1.0 + 3.0 * torch.tensor(2.0).double().cosh().log()], dtype=torch.float64)
    close(psi.value(torch.tensor([[0.0], [2.0]], dtype=torch.float64)), expected)


def test_any_convex_function_by_its_value_alone(generator: torch.Generator) -> None:
    psi = Quartic()
    y = 10 * torch.randn(6, 2, 2, generator=generator, dtype=torch.float64)
    u = (y.abs() / 2 + (y.square() / 4 + 1 / 27).sqrt()).pow(1 / 3)
    z = psi.grad_inverse(y)
    close(z, y.sign() * (u - 1 / (3 * u)), rtol=1e-12, atol=1e-12)
    close(z + z**3, y, rtol=1e-13, atol=1e-13)
    single = psi.grad_inverse(y.float())
    assert single.dtype == torch.float32
    close(single.double(), z, rtol=1e-6, atol=1e-6)


def test_steps_are_damped_where_newton_alone_would_swing() -> None:
    """Steep at 5 alone: from 0 a whole Newton step goes to 56, the next one to -100, and so on for ever."""

    class Bend(ConvexPotential):
        def value(self, x: Tensor) -> Tensor:
            return ((1 + (x - 5).square()).sqrt() + x.square() / 200).sum(1)

    y = torch.tensor([[0.0], [0.5], [-1.0], [3.0]], dtype=torch.float64)
    psi = Bend()
    close(psi.grad(psi.grad_inverse(y)), y, rtol=1e-12, atol=1e-12)


def test_gradients_reach_the_parameters_of_psi() -> None:
    psi = POTENTIALS["log-sum-exp"]()
    assert isinstance(psi, LogSumExp)
    directions = psi.directions.clone().requires_grad_()

    def inverse(given: Tensor) -> Tensor:
        psi.directions = given
        return psi.grad_inverse(torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64))

    assert torch.autograd.gradcheck(inverse, directions)


def test_what_is_not_convex_or_out_of_range_is_refused() -> None:
    class Saddle(ConvexPotential):
        def value(self, x: Tensor) -> Tensor:
            return (x[:, 0].square() - x[:, 1].square()) / 2

    class Flat(ConvexPotential):
        def value(self, x: Tensor) -> Tensor:
            return (1 + x.square()).sqrt().sum(1)

    y = torch.tensor([[2.0, 0.5]], dtype=torch.float64)
    with pytest.raises(ConfigError, match="Saddle, is not strongly convex"):
        Saddle().grad_inverse(y)
    with pytest.raises((ConfigError, DataError)):
        Flat().grad_inverse(y)
    with pytest.raises(DataError, match="no point was found where psi has this gradient"):
        LogCosh(LogCoshConfig()).grad_inverse(torch.tensor([[float("nan")]], dtype=torch.float64))


@pytest.mark.parametrize(
    "covariance", [((1.0, 1.0), (1.0, 1.0)), ((1.0, 2.0), (2.0, 1.0)), ((1.0, 0.0), (0.5, 1.0)), ((0.0,),)]
)
def test_a_singular_psi_is_refused(covariance: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ConfigError, match="singular, indefinite or not symmetric"):
        QuadraticPotential(QuadraticConfig(covariance=covariance))


def test_configs_that_name_no_psi() -> None:
    for wrong in ({}, {"variances": [1.0], "covariance": [[1.0]]}, {"variances": [0.0]}, {"covariance": [[1.0, 2.0]]}):
        with pytest.raises(ValueError):
            QuadraticConfig.model_validate(wrong)
    with pytest.raises(ValueError, match="location has 1 numbers; expected 2"):
        QuadraticConfig(variances=(1.0, 1.0), location=(0.0,))
    with pytest.raises(ValueError, match="expected equal ones"):
        LogSumExpConfig(directions=((1.0,), (1.0, 2.0)))
    with pytest.raises(ShapeError, match=r"expected \(B, 3\)"):
        POTENTIALS["quadratic"]().grad(torch.zeros(1, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"expected \(B, 3\)"):
        POTENTIALS["log-sum-exp"]().value(torch.zeros(1, 2, dtype=torch.float64))
