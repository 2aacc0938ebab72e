"""Checks of networks (``scorefold.interfaces.Network``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_testing.answers import ROWS, built_network
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_close,
    require_shape,
    stir,
)

NOISE_LEVELS = (-9.0, -1.0, 8.0)


def _built(subject: Subject, *, time: bool = True, condition: ConditionSpec | None = None) -> tuple[Any, Tensor, Any]:
    """A network of the first shape that the builder serves, its input (3, *in) and its out shape."""
    try:
        into, out, network = built_network(subject.build(), subject.seed, time=time, condition=condition)
    except ConfigError as error:
        if condition is None:
            raise
        raise NotApplicableError(f"it serves no such condition: {error.message}") from error
    require(isinstance(network, nn.Module), f"build gives a {type(network).__name__}", "an nn.Module")
    network = network.to(torch.float64)
    stir(network, subject.generator("stir"))
    return network.eval(), subject.normal(ROWS, *into), out


def _times() -> Tensor:
    return torch.tensor(NOISE_LEVELS, dtype=torch.float64)


@check("network-shapes", "network", level="contract")
def network_shapes(subject: Subject) -> str:
    """forward gives (B, *out), finite, for B = 3 and 1, with a time and without."""
    for time in (True, False):
        network, x, out = _built(subject, time=time)
        for rows in (ROWS, 1):
            t = (_times()[:rows],) if time else ()
            answer = network(x[:rows], *t)
            require_shape(f"the answer to {rows} rows", answer, (rows, *out))
            count = int((~answer.isfinite()).sum())
            require(count == 0, f"{count} numbers of the answer are not finite", "0")
    return f"{tuple(x.shape[1:])} to {out}"


@check("network-uses-time", "network", level="contract")
def network_uses_time(subject: Subject) -> str:
    """Built with a time, its answer depends on it."""
    network, x, _ = _built(subject)
    with torch.no_grad():
        change = float((network(x, _times()) - network(x, _times().flip(0)))[0].abs().max())
    levels = f"{NOISE_LEVELS[0]} and {NOISE_LEVELS[-1]}"
    require(change > 0, f"its answers at noise levels {levels} differ by {change:.2g}", "more than 0")
    return f"answers change by {change:.2g}"


@check("network-uses-condition", "network", level="contract")
def network_uses_condition(subject: Subject) -> str:
    """Built for classes or for numbers as a condition, its answer depends on them."""
    texts = []
    cases = {
        "classes": (TensorSpec((), classes=ROWS), torch.arange(ROWS)),
        "numbers": (TensorSpec((5,)), subject.normal(ROWS, 5, purpose="condition")),
    }
    for name, (spec, condition) in cases.items():
        try:
            network, x, _ = _built(subject, condition=spec)
        except NotApplicableError:
            continue
        with torch.no_grad():
            change = float((network(x, _times(), condition) - network(x, _times(), condition.flip(0)))[0].abs().max())
        require(change > 0, f"its answers to two conditions ({name}) differ by {change:.2g}", "more than 0")
        texts.append(f"{name} change answers by {change:.2g}")
    if not texts:
        raise NotApplicableError("it serves neither classes nor numbers as a condition")
    return "; ".join(texts)


@check("network-rows-independent", "network", level="numerics")
def network_rows(subject: Subject) -> str:
    """The answer to a row does not depend on what else is in the batch, in evaluation mode."""
    network, x, _ = _built(subject)
    t = _times()
    with torch.no_grad():
        alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(ROWS)])
        return require_close("row by row", network(x, t), alone, 1e-9)


@check("network-learns", "network", level="numerics", gradients=True)
def network_learns(subject: Subject) -> str:
    """Every parameter gets a finite gradient."""
    network, x, _ = _built(subject)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    require(bool(parameters), f"it has {len(parameters)} parameters to train", "one or more")
    network(x, _times()).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    none = [name for name, gradient in gradients.items() if gradient is None]
    require(not none, f"parameters without a gradient: {', '.join(none)}", "none")
    wild = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    require(not wild, f"parameters whose gradient is not finite: {', '.join(wild)}", "none")
    return f"{len(gradients)} parameters"


CHECKS: tuple[Check, ...] = (network_shapes, network_uses_time, network_uses_condition, network_rows, network_learns)
