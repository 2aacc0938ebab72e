"""Potentials psi beside a flow's base: quadratic with any A, separable, and any convex function.

grad psi o phi is the map that Euclidean space is pulled back through (Diepeveen, Batzolis et al. 2025).

Inverses of gradients by Newton's method, with derivatives by the implicit function theorem.

A Newton step from the solution doubles the orders of derivative that are exact, as it doubles digits. Two steps are
taken with gradients. Then first and second derivatives are exact, also the derivatives of a Jacobian-vector product.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_pullback.config import CoshConfig, LogCoshConfig, LogSumExpConfig, QuadraticConfig
from scorefold_pullback.flows.linear import covariance_of
from scorefold_toolkit.nn import Quadratic
from scorefold_toolkit.numerics import jacobian, pullback
from scorefold_toolkit.potential import Potential

ITERATIONS = 100
HALVINGS = 60
POLISH = 2


def tolerance(y: Tensor) -> float:
    """Tolerance of grad psi to y, relative to 1 + |y|, before the last steps: 1,000 roundings."""
    return 1000 * torch.finfo(y.dtype).eps


def invert_slope(slope: Callable[[Tensor], Tensor], curvature: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """The z with slope(z) = y, each entry by itself, for an odd slope that is concave on z > 0.

    From y / curvature(0), which is on the near side of the solution, Newton's steps come to it without passing it.
    Raises ``DataError`` where they don't within 100 steps.
    """
    target = y.detach()
    with torch.no_grad():
        z = target / curvature(torch.zeros_like(target))
        for _ in range(ITERATIONS):
            error = slope(z) - target
            if _within(error, target):
                break
            z = z - error / curvature(z)
        else:
            raise _not_found(error)
    for _ in range(POLISH):
        z = z - (slope(z) - y) / curvature(z)
    return z


def invert_gradient(psi: Potential, y: Tensor) -> Tensor:
    """The z with grad psi(z) = y, (B, *E), by damped Newton steps on psi(z) - <z, y>.

    Raises ``DataError`` where the gradient does not come near y within 100 steps (y is out of its range), and
    ``ConfigError`` where the Hessian is not positive definite.
    """
    target = y.detach()
    with torch.no_grad():
        z = torch.zeros_like(target)
        for _ in range(ITERATIONS):
            error = psi.grad(z) - target
            if _within(error, target):
                break
            z = _damped(psi, z, target, error)
        else:
            raise _not_found(error)
    for _ in range(POLISH):
        z = z - _solve(psi, z, psi.grad(z) - y)
    return z


def _damped(psi: Potential, z: Tensor, y: Tensor, error: Tensor) -> Tensor:
    """A Newton step, each row halved until psi(z) - <z, y> falls as a fraction of the step promises (Armijo)."""

    def objective(at: Tensor) -> Tensor:
        return psi.value(at) - (at * y).flatten(1).sum(1)

    step = _solve(psi, z, error)
    now, promised = objective(z), (step * error).flatten(1).sum(1)
    rounding = 10 * torch.finfo(z.dtype).eps * (1 + now.abs())
    length = torch.ones_like(now)
    for _ in range(HALVINGS):
        moved = z - length.reshape(-1, *[1] * (z.dim() - 1)) * step
        enough = objective(moved) <= now - 1e-4 * length * promised + rounding
        if bool(enough.all()):
            return moved
        length = torch.where(enough, length, length / 2)
    raise _not_found(error)


def _solve(psi: Potential, z: Tensor, w: Tensor) -> Tensor:
    """Hess psi(z)^-1 w."""
    hessian = jacobian(psi.grad, z, mode="reverse")
    factor, failed = torch.linalg.cholesky_ex((hessian + hessian.mT) / 2)
    if bool(failed.any()):
        raise ConfigError(
            f"psi, a {type(psi).__name__}, is not strongly convex: its Hessian is not positive definite at "
            f"{int((failed > 0).sum())} of {len(z)} points",
            hint="add a multiple of |z|^2",
        )
    solved: Tensor = torch.cholesky_solve(w.flatten(1)[..., None], factor)
    return solved.reshape(w.shape)


def _within(error: Tensor, y: Tensor) -> bool:
    return bool((error.abs() <= tolerance(y) * (1 + y.abs().flatten(1).amax(1, keepdim=True).reshape(_rows(y)))).all())


def _rows(y: Tensor) -> tuple[int, ...]:
    return (len(y), *[1] * (y.dim() - 1))


def _not_found(error: Tensor) -> DataError:
    return DataError(
        f"no point was found where psi has this gradient: after {ITERATIONS} Newton steps it is off by up to "
        f"{float(error.abs().max()):.3g}",
        hint="the gradient of a strongly convex psi takes every value: is psi curved everywhere, and y finite?",
    )


def convex_conjugate(psi: Potential, y: Tensor) -> Tensor:
    """psi*(y) = sup_z <z, y> - psi(z), the Fenchel conjugate at y (B, *E): (B,)."""
    z = psi.grad_inverse(y)
    return (z * y).flatten(1).sum(1) - psi.value(z)


class QuadraticPotential(Quadratic, nn.Module):
    """psi(z) = (z - m)^T A^-1 (z - m) / 2, A = L L^T by Cholesky. grad psi*(y) = A y + m.

    Raises ``ConfigError`` for an A that is not symmetric or not positive definite.

    >>> from scorefold_registry import Host
    >>> psi = Host.discover().create("potential:quadratic", {"covariance": [[4.0]]})
    >>> psi.value(torch.tensor([[2.0]])), psi.grad(torch.tensor([[2.0]]))
    (tensor([0.5000]), tensor([[0.5000]]))
    """

    factor: Tensor
    location: Tensor

    def __init__(self, config: QuadraticConfig, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if config.covariance is None:
            covariance = torch.tensor(config.variances, dtype=torch.float64).diag()
        else:
            covariance = covariance_of(config.covariance, "psi")
        factor = torch.linalg.cholesky(covariance)
        self.event_shape = (len(factor),)
        location = torch.tensor(config.location or (0.0,) * len(factor), dtype=torch.float64)
        self.register_buffer("factor", factor)
        self.register_buffer("location", location)
        self.to(dtype or torch.get_default_dtype())

    def whiten(self, z: Tensor) -> Tensor:
        return _lower_solve(self.factor, self._checked(z) - self.location)

    def unwhiten(self, w: Tensor) -> Tensor:
        return self._checked(w) @ self.factor.mT + self.location

    def grad(self, x: Tensor) -> Tensor:
        return self.hessian_product(x, self._checked(x) - self.location)

    def grad_inverse(self, y: Tensor) -> Tensor:
        return self._checked(y) @ self.factor @ self.factor.mT + self.location

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        half = _lower_solve(self.factor, self._checked(v))
        product: Tensor = torch.linalg.solve_triangular(self.factor.mT, half.mT, upper=True).mT
        return product

    def _checked(self, z: Tensor) -> Tensor:
        if tuple(z.shape[1:]) != self.event_shape:
            raise ShapeError(f"psi was given a tensor of shape {tuple(z.shape)}; expected (B, {len(self.factor)})")
        return z


def _lower_solve(factor: Tensor, x: Tensor) -> Tensor:
    """L^-1 x for rows x (B, D)."""
    solved: Tensor = torch.linalg.solve_triangular(factor, x.mT, upper=False).mT
    return solved


class Cosh(Potential):
    """psi(z) = sum_i cosh z_i, with grad psi* = asinh: 1-strongly convex, and not quadratic.

    >>> from scorefold_registry import Host
    >>> psi = Host.discover().create("potential:cosh")
    >>> psi.grad_inverse(psi.grad(torch.tensor([[1.5]])))
    tensor([[1.5000]])
    """

    def __init__(self, config: CoshConfig) -> None:
        self.event_shape = config.event_shape

    def value(self, x: Tensor) -> Tensor:
        return x.flatten(1).cosh().sum(1)

    def grad(self, x: Tensor) -> Tensor:
        return x.sinh()

    def grad_inverse(self, y: Tensor) -> Tensor:
        return y.asinh()

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return x.cosh() * v


class LogCosh(Potential):
    """psi(z) = sum_i c z_i^2 / 2 + w log cosh z_i: curvature c + w at the origin, c far from it.

    Its gradient c z + w tanh z has no inverse in elementary functions; each coordinate's is found by Newton's method to
    rounding.

    >>> from scorefold_registry import Host
    >>> psi = Host.discover().create("potential:log-cosh", {"weight": 2.0})
    >>> psi.grad_inverse(psi.grad(torch.tensor([[1.5]])))
    tensor([[1.5000]])
    """

    def __init__(self, config: LogCoshConfig) -> None:
        self.event_shape = config.event_shape
        self.curvature, self.weight = config.curvature, config.weight

    def value(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        log_cosh = torch.logaddexp(flat, -flat) - math.log(2)
        return (0.5 * self.curvature * flat.square() + self.weight * log_cosh).sum(1)

    def grad(self, x: Tensor) -> Tensor:
        return self.curvature * x + self.weight * x.tanh()

    def grad_inverse(self, y: Tensor) -> Tensor:
        return invert_slope(self.grad, self._curvature, y)

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return self._curvature(x) * v

    def _curvature(self, x: Tensor) -> Tensor:
        return self.curvature + self.weight * (1 - x.tanh().square())


class ConvexPotential(Potential, nn.Module):
    """Any smooth and strongly convex psi, of which a subclass knows the value alone.

    The gradient and the Hessian are autograd's, and the gradient is inverted by Newton's method with the D x D Hessian,
    so for up to some hundred coordinates. Must: ``value``.
    """

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """psi(x), (B,), by operations that have forward and backward derivatives."""

    def grad(self, x: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda z: self.value(z).sum())(x)
        return gradient

    def grad_inverse(self, y: Tensor) -> Tensor:
        """The x whose gradient is y, (B, *E). Raises as ``newton.invert_gradient`` does."""
        return invert_gradient(self, y)

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        # The Hessian is symmetric, so that one reverse pass through the gradient will do.
        return pullback(self.grad, x, v)[1]


class LogSumExp(ConvexPotential):
    """psi(z) = c |z|^2 / 2 + log sum_k exp(w_k . z): a smooth maximum of linear functions, inverted by Newton.

    >>> from scorefold_registry import Host
    >>> psi = Host.discover().create("potential:log-sum-exp", {"directions": [[1.0], [-1.0]], "curvature": 0.5})
    >>> psi.grad(torch.zeros(1, 1)).abs().round(decimals=3), psi.grad_inverse(psi.grad(torch.tensor([[1.5]])))
    (tensor([[0.]]), tensor([[1.5000]]))
    """

    directions: Tensor

    def __init__(self, config: LogSumExpConfig, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        directions = torch.tensor(config.directions, dtype=torch.float64)
        self.event_shape = (directions.shape[1],)
        self.curvature = config.curvature
        self.register_buffer("directions", directions.to(dtype or torch.get_default_dtype()))

    def value(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(
                f"psi was given a tensor of shape {tuple(x.shape)}; expected (B, {self.directions.shape[1]})"
            )
        return 0.5 * self.curvature * x.square().sum(1) + torch.logsumexp(x @ self.directions.mT, dim=1)
