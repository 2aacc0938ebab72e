"""The density p ~ exp(-psi(phi(x))) that a flow and a potential stand for."""

from __future__ import annotations

from torch import Tensor

from scorefold.interfaces import Flow
from scorefold_toolkit.numerics import pullback
from scorefold_toolkit.potential import Potential


def energy(flow: Flow, psi: Potential, x: Tensor) -> Tensor:
    """psi(phi(x)), (B,): -log p up to a constant."""
    return psi.value(flow(x)[0])


def score(flow: Flow, psi: Potential, x: Tensor) -> Tensor:
    """-J^T grad psi(phi(x)), (B, *E): the gradient of log p.

    It is the gradient of the flow's own log-density where |det J| is constant.
    """
    slope = psi.grad(flow(x)[0])
    return -pullback(lambda y: flow(y)[0], x, slope)[1]
