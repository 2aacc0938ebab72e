"""Inverses of gradients by Newton's method, with derivatives by the implicit function theorem.

A Newton step from the solution doubles the orders of derivative that are right, as it doubles digits: after the two
that are taken with gradients, first and second derivatives are exact, those of a Jacobian-vector product among them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError
from scorefold_toolkit.numerics import jacobian
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
